//! `credential set`: stores a new credential, once it has minted a token.

use std::{
    io::{self, Write as _},
    sync::Arc,
};

use clap::Args;
use jiff::Timestamp;

use super::{
    CommandError,
    site::{SiteArgs, name},
    source::SourceArgs,
    users::target,
    verdict::Verdict,
};
use crate::{
    config::Outline,
    credential::{Credential, CredentialRef, sealed::Refusal},
};

/// The arguments of `credential set`.
#[derive(Debug, Args)]
pub(super) struct SetArgs {
    /// The name under which the configuration refers to it, as sealed:NAME
    name: String,
    /// The client id that the application was given
    #[arg(long, value_name = "ID")]
    client_id: String,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    proof: ProofArgs,
    #[command(flatten)]
    site: SiteArgs,
}

/// How it is shown that a secret works.
#[derive(Debug, Args)]
pub(super) struct ProofArgs {
    /// Mint at this destination, and not at the first one that uses the credential
    #[arg(long, value_name = "ID or NAME", conflicts_with = "no_verify")]
    destination: Option<String>,
    /// Store it without minting a token first
    #[arg(long)]
    no_verify: bool,
}

pub(super) async fn run(args: SetArgs) -> Result<(), CommandError> {
    let name = name(&args.name)?;
    let outline = args.site.outline()?;
    let store = args.site.store(&outline)?;
    // Before anybody types a secret in vain.
    if store.read()?.find(name).is_ok() {
        return Err(Refusal::Stored(name.to_owned()).into());
    }
    args.proof.check(&outline, name)?;
    let credential = Arc::new(args.source.read(name, args.client_id)?);
    args.proof.verify(&outline, name, &credential).await?;
    let now = Timestamp::now();
    let generation = store.change(|contents| contents.set(name, &credential, now))?;
    let mut out = io::stdout();
    writeln!(out, "stored {name:?}, generation {generation}")?;
    Ok(())
}

impl ProofArgs {
    /// Whether there is anybody to ask.
    pub(super) fn check(&self, outline: &Outline, name: &str) -> Result<(), CommandError> {
        let reference = CredentialRef::Sealed(name.to_owned());
        let target = target(outline, &reference, self.destination.as_deref())?;
        if target.is_some() || self.no_verify {
            return Ok(());
        }
        Err(CommandError::Unverifiable(format!(
            "no destination uses {reference}, so nobody can be asked whether its secret works: name one with --destination, or store it all the same with --no-verify"
        )))
    }

    /// Mints once and shows the verdict, unless that is not wanted.
    pub(super) async fn verify(
        &self,
        outline: &Outline,
        name: &str,
        credential: &Arc<Credential>,
    ) -> Result<(), CommandError> {
        if self.no_verify {
            return Ok(());
        }
        let reference = CredentialRef::Sealed(name.to_owned());
        if let Some(target) = target(outline, &reference, self.destination.as_deref())? {
            let verdict = Verdict::of(target, credential).await.accepted()?;
            writeln!(io::stdout(), "{verdict}")?;
        }
        Ok(())
    }
}
