//! `credential list`: what is stored, and who uses it.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use clap::Args;
use serde_json::{Value, json};

use super::{
    CommandError,
    site::SiteArgs,
    users::{User, users, users_of},
};
use crate::{
    cli::output::Output,
    config::Outline,
    credential::{
        CredentialRef, Proof,
        sealed::{Contents, StoredSecret},
    },
};

/// The arguments of `credential list`.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// What to print: a line for each secret, or JSON
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    site: SiteArgs,
}

pub(super) fn run(args: &ListArgs) -> Result<(), CommandError> {
    let outline = args.site.outline()?;
    let contents = args.site.store(&outline)?.read()?;
    let mut out = io::stdout().lock();
    match args.output {
        Output::Text => write_text(&mut out, &outline, &contents)?,
        Output::Json => writeln!(out, "{}", json(&outline, &contents))?,
    }
    Ok(())
}

const HEADINGS: [&str; 7] = [
    "NAME",
    "SECRET",
    "GENERATION",
    "STORED",
    "PROOF",
    "CLIENT ID",
    "USED BY",
];

fn write_text(out: &mut impl Write, outline: &Outline, contents: &Contents) -> io::Result<()> {
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    for (name, stored) in contents.iter() {
        let users = shown(users_of(outline, &CredentialRef::Sealed(name.to_owned())));
        for (which, secret) in ["current", "next"].into_iter().zip(stored.iter()) {
            rows.push([
                name.to_owned(),
                which.to_owned(),
                secret.generation.to_string(),
                secret.stored_at.to_string(),
                proof(secret).replace('_', " "),
                secret.credential.client_id().to_string(),
                users.clone(),
            ]);
        }
    }
    for (name, users) in missing(outline, contents) {
        let users = shown(users.into_iter());
        rows.push([name, "missing", "", "", "", "", &users].map(str::to_owned));
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<_> = (0..HEADINGS.len())
        .map(|column| width(column).unwrap_or_default())
        .collect();
    for row in &rows {
        let cells = row.iter().zip(&widths);
        let cells: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

fn json(outline: &Outline, contents: &Contents) -> Value {
    let credentials = contents.iter().map(|(name, stored)| {
        let reference = CredentialRef::Sealed(name.to_owned());
        let users = users_of(outline, &reference);
        json!({
            "name": name,
            "current": secret_json(&stored.current),
            "next": stored.next.as_ref().map(secret_json),
            "used_by": users.map(user_json).collect::<Vec<_>>(),
        })
    });
    let missing = missing(outline, contents).into_iter().map(|(name, users)| {
        json!({
            "name": name,
            "used_by": users.into_iter().map(user_json).collect::<Vec<_>>(),
        })
    });
    json!({
        "credentials": credentials.collect::<Vec<_>>(),
        "missing": missing.collect::<Vec<_>>(),
    })
}

fn secret_json(secret: &StoredSecret) -> Value {
    json!({
        "client_id": **secret.credential.client_id(),
        "proof": proof(secret),
        "generation": secret.generation,
        "stored_at": secret.stored_at.to_string(),
    })
}

fn user_json(user: User<'_>) -> Value {
    json!({
        "destination": user.target.destination.id.as_str(),
        "application": user.application.name.as_str(),
    })
}

/// The names that the configuration refers to and the store lacks, each with its users.
fn missing<'a>(outline: &'a Outline, contents: &Contents) -> BTreeMap<&'a str, Vec<User<'a>>> {
    let mut missing: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for user in users(outline) {
        if let CredentialRef::Sealed(name) = &user.application.credential
            && contents.find(name).is_err()
        {
            missing.entry(name.as_str()).or_default().push(user);
        }
    }
    missing
}

fn proof(secret: &StoredSecret) -> &'static str {
    match secret.credential.proof {
        Proof::ClientSecret(_) => "client_secret",
        Proof::PrivateKey { .. } => "private_key",
    }
}

fn shown<'a>(users: impl Iterator<Item = User<'a>>) -> String {
    let users: Vec<_> = users.map(|user| user.to_string()).collect();
    if users.is_empty() {
        return "nobody".to_owned();
    }
    users.join(", ")
}
