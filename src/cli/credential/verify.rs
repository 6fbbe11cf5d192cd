//! `credential verify`: mints a token with each secret, and says what came of it.

use std::{
    collections::BTreeSet,
    io::{self, Write as _},
    sync::Arc,
};

use clap::Args;
use serde_json::{Value, json};

use super::{
    CommandError,
    discreet::ADVICE,
    site::{SiteArgs, name},
    users::{target, users},
    verdict::Verdict,
};
use crate::{
    cli::output::Output,
    config::Outline,
    credential::{
        Credential, CredentialRef, CredentialSet, CredentialStore, Environment, Mounted,
        sealed::Sealed,
    },
};

/// The arguments of `credential verify`.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// The name of a sealed credential, or a reference such as `file:shop`; all sealed ones if
    /// it is left out
    name: Option<String>,
    /// Mint at this destination, and not at the first one that uses the credential
    #[arg(long, value_name = "ID or NAME")]
    destination: Option<String>,
    /// What to print: a line for each secret, or JSON
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    site: SiteArgs,
}

/// What is said of one secret, or of a credential without one.
struct Line {
    text: String,
    json: Value,
    is_good: bool,
}

pub(super) async fn run(args: VerifyArgs) -> Result<(), CommandError> {
    let outline = args.site.outline()?;
    let mut lines = Vec::new();
    match &args.name {
        Some(name) => {
            let reference = reference(name)?;
            let credentials = args.load(&outline, &reference)?;
            let chosen = args.destination.as_deref();
            let Some(said) = verify(&outline, &reference, &credentials, chosen).await? else {
                return Err(CommandError::Unverifiable(format!(
                    "no destination uses {reference}, so nobody can be asked: name one with --destination"
                )));
            };
            lines.extend(said);
        }
        None => lines.extend(args.all(&outline).await?),
    }
    let mut out = io::stdout().lock();
    match args.output {
        Output::Text => lines
            .iter()
            .try_for_each(|line| writeln!(out, "{}", line.text))?,
        Output::Json => {
            let verdicts: Vec<_> = lines.iter().map(|line| &line.json).collect();
            writeln!(out, "{}", json!({ "verdicts": verdicts }))?;
        }
    }
    if lines.iter().all(|line| line.is_good) {
        Ok(())
    } else {
        Err(CommandError::Unverified)
    }
}

impl VerifyArgs {
    fn load(
        &self,
        outline: &Outline,
        reference: &CredentialRef,
    ) -> Result<CredentialSet, CommandError> {
        Ok(match reference {
            CredentialRef::Sealed(name) => {
                let contents = self.site.store(outline)?.read()?;
                contents.find(name)?.set()
            }
            CredentialRef::File(name) => {
                let directory = outline.places.directory.clone();
                let directory = directory.ok_or_else(|| {
                    CommandError::Unverifiable(
                        "there is no folder of credentials: write directory = \"...\" in [credentials]".to_owned(),
                    )
                })?;
                Mounted::new(directory)
                    .load(name)
                    .map_err(CommandError::Source)?
            }
            CredentialRef::Environment(name) => Environment::of_process()
                .load(name)
                .map_err(CommandError::Source)?,
        })
    }

    /// Everything that is stored, and everything that ought to be.
    async fn all(&self, outline: &Outline) -> Result<Vec<Line>, CommandError> {
        let store = self.site.store(outline)?;
        let contents = store.read()?;
        let sealed = Sealed::open(&store)?;
        let mut names: BTreeSet<_> = contents.iter().map(|(name, _)| name).collect();
        names.extend(
            users(outline).filter_map(|user| match &user.application.credential {
                CredentialRef::Sealed(name) => Some(name.as_str()),
                _ => None,
            }),
        );
        let chosen = self.destination.as_deref();
        let mut lines = Vec::new();
        for name in names {
            let reference = CredentialRef::Sealed(name.to_owned());
            let said = match sealed.load(name) {
                Ok(credentials) => verify(outline, &reference, &credentials, chosen).await?,
                Err(_) => Some(vec![Line::without(&reference, "is not stored", false)]),
            };
            // What nobody uses can do no harm.
            let unused = || vec![Line::without(&reference, "is used by nobody", true)];
            lines.extend(said.unwrap_or_else(unused));
        }
        Ok(lines)
    }
}

/// A verdict on each secret of a credential; `None` if there is nobody to ask.
async fn verify(
    outline: &Outline,
    reference: &CredentialRef,
    credentials: &CredentialSet,
    chosen: Option<&str>,
) -> Result<Option<Vec<Line>>, CommandError> {
    let Some(target) = target(outline, reference, chosen)? else {
        return Ok(None);
    };
    let mut lines = Vec::new();
    for (which, credential) in ["current", "next"].into_iter().zip(credentials.iter()) {
        let verdict = Verdict::of(target, credential).await;
        lines.push(Line::of(which, credential, &verdict));
    }
    Ok(Some(lines))
}

/// A reference, or the name of a sealed credential.
fn reference(text: &str) -> Result<CredentialRef, CommandError> {
    if text.contains(':') {
        let parsed = CredentialRef::parse(text);
        return parsed
            .map_err(|error| CommandError::Usage(format!("the reference {error}\n{ADVICE}")));
    }
    Ok(CredentialRef::Sealed(name(text)?.to_owned()))
}

impl Line {
    fn of(which: &str, credential: &Arc<Credential>, verdict: &Verdict<'_>) -> Self {
        let name = &credential.name;
        let mut json = verdict.json();
        json["credential"] = (*name.credential).into();
        json["secret"] = which.into();
        json["client_id"] = (*name.client_id).into();
        Self {
            text: format!("{} {which}: {verdict}", name.credential),
            json,
            is_good: verdict.is_good(),
        }
    }

    fn without(reference: &CredentialRef, what: &str, is_good: bool) -> Self {
        Self {
            text: format!("{reference} {what}"),
            json: json!({ "credential": reference.to_string(), "ok": null, "error": what }),
            is_good,
        }
    }
}
