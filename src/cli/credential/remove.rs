//! `credential remove`: forgets a credential.

use std::io::{self, Write as _};

use clap::Args;

use super::{
    CommandError,
    site::{SiteArgs, name},
    users::users_of,
};
use crate::credential::CredentialRef;

/// The arguments of `credential remove`.
#[derive(Debug, Args)]
pub(super) struct RemoveArgs {
    /// The name of the credential
    name: String,
    /// Remove it even though the configuration refers to it
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    site: SiteArgs,
}

pub(super) fn run(args: &RemoveArgs) -> Result<(), CommandError> {
    let name = name(&args.name)?;
    let outline = args.site.outline()?;
    let store = args.site.store(&outline)?;
    let reference = CredentialRef::Sealed(name.to_owned());
    store.read()?.find(name)?;
    let users: Vec<_> = users_of(&outline, &reference)
        .map(|user| user.to_string())
        .collect();
    if !users.is_empty() && !args.force {
        return Err(CommandError::InUse(format!(
            "{reference} is used by {}: a broker would refuse the configuration; --force removes it all the same",
            users.join(", ")
        )));
    }
    let removed = store.change(|contents| contents.remove(name))?;
    let mut out = io::stdout();
    for secret in removed.iter() {
        let client_id = secret.credential.client_id();
        let generation = secret.generation;
        writeln!(
            out,
            "removed generation {generation} of {name:?}, of the client {client_id:?}"
        )?;
    }
    Ok(())
}
