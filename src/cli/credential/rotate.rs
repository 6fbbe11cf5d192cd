//! `credential rotate`: replaces a secret in two steps, without a call that fails.

use std::{
    io::{self, Write as _},
    sync::Arc,
};

use clap::Args;
use jiff::Timestamp;

use super::{
    CommandError,
    set::ProofArgs,
    site::{SiteArgs, name},
    source::SourceArgs,
};
use crate::{
    config::Outline,
    credential::sealed::{Refusal, Store},
};

/// The arguments of `credential rotate`.
#[derive(Debug, Args)]
pub(super) struct RotateArgs {
    /// The name of the credential
    name: String,
    /// The client id that goes with the new secret, if it is another one
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// Make the next secret the current one, and forget the old
    #[arg(
        long,
        conflicts_with_all = ["abort", "client_id", "private_key_file", "secret_file", "key_id"]
    )]
    finish: bool,
    /// Drop the next secret, and go on with the current one
    #[arg(
        long,
        conflicts_with_all = [
            "client_id", "private_key_file", "secret_file", "key_id", "destination", "no_verify"
        ]
    )]
    abort: bool,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    proof: ProofArgs,
    #[command(flatten)]
    site: SiteArgs,
}

pub(super) async fn run(args: RotateArgs) -> Result<(), CommandError> {
    let outline = args.site.outline()?;
    let store = args.site.store(&outline)?;
    if args.abort {
        return abort(name(&args.name)?, &store);
    }
    if args.finish {
        return finish(name(&args.name)?, &outline, &store, &args.proof).await;
    }
    begin(args, &outline, &store).await
}

async fn begin(args: RotateArgs, outline: &Outline, store: &Store) -> Result<(), CommandError> {
    let name = name(&args.name)?;
    let contents = store.read()?;
    let stored = contents.find(name)?;
    // Before anybody types a secret in vain.
    if stored.next.is_some() {
        return Err(Refusal::UnderWay(name.to_owned()).into());
    }
    args.proof.check(outline, name)?;
    let current = stored.current.credential.client_id();
    let client_id = args.client_id.unwrap_or_else(|| current.to_string());
    let credential = Arc::new(args.source.read(name, client_id)?);
    contents.check_rotation(name, &credential)?;
    args.proof.verify(outline, name, &credential).await?;
    let now = Timestamp::now();
    let generation = store.change(|contents| contents.rotate(name, &credential, now))?;
    writeln!(
        io::stdout(),
        "stored generation {generation} of {name:?} as the next one: brokers try it first; end the rotation with `token-broker credential rotate {name} --finish`"
    )?;
    Ok(())
}

async fn finish(
    name: &str,
    outline: &Outline,
    store: &Store,
    proof: &ProofArgs,
) -> Result<(), CommandError> {
    let contents = store.read()?;
    let Some(next) = &contents.find(name)?.next else {
        return Err(Refusal::NotUnderWay(name.to_owned()).into());
    };
    proof.check(outline, name)?;
    proof.verify(outline, name, &next.credential).await?;
    let generation = next.generation;
    store.change(|contents| contents.finish(name, generation))?;
    writeln!(
        io::stdout(),
        "generation {generation} of {name:?} is the current one, and the old one is forgotten"
    )?;
    Ok(())
}

fn abort(name: &str, store: &Store) -> Result<(), CommandError> {
    let dropped = store.change(|contents| contents.abort(name))?;
    writeln!(
        io::stdout(),
        "dropped generation {} of {name:?}",
        dropped.generation
    )?;
    Ok(())
}
