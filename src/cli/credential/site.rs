//! The configuration and the store that a command works on.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;

use super::{CommandError, discreet};
use crate::{
    config::{Outline, SealedPlace},
    credential::sealed::{Keys, Store, is_name},
};

/// Where the configuration is, and the key.
#[derive(Debug, Args)]
pub(super) struct SiteArgs {
    /// The configuration file, which says where credentials are kept and who uses them
    #[arg(
        long,
        value_name = "FILE",
        env = "TOKEN_BROKER_CONFIG",
        hide_env_values = true
    )]
    config: Option<PathBuf>,
    /// The age identity file, where it is another one than the configuration names
    #[arg(
        long,
        value_name = "FILE",
        env = "TOKEN_BROKER_IDENTITY",
        hide_env_values = true
    )]
    identity: Option<PathBuf>,
}

impl SiteArgs {
    /// What the configuration says of credentials.
    pub(super) fn outline(&self) -> Result<Outline, CommandError> {
        Ok(Outline::load(self.config()?)?)
    }

    fn config(&self) -> Result<&Path, CommandError> {
        let missing = "the configuration is not known: give --config (or TOKEN_BROKER_CONFIG)";
        let config = self.config.as_deref();
        config.ok_or_else(|| CommandError::Usage(missing.to_owned()))
    }

    /// Where the store and the key are, or are to be.
    pub(super) fn place(&self, outline: &Outline) -> Result<SealedPlace, CommandError> {
        let sealed = outline.places.sealed.as_ref();
        let Some(place) = sealed else {
            return Err(CommandError::NoStore(self.config()?.to_owned()));
        };
        let identity = self.identity.as_ref().unwrap_or(&place.identity);
        Ok(SealedPlace {
            store: place.store.clone(),
            identity: identity.clone(),
        })
    }

    /// The store, which is not read yet.
    pub(super) fn store(&self, outline: &Outline) -> Result<Store, CommandError> {
        let place = self.place(outline)?;
        let keys = Keys::read(&place.identity)?;
        let configured = outline.places.sealed.as_ref();
        let is_own =
            configured.is_some_and(|configured| is_same(&configured.identity, &place.identity));
        Ok(Store::new(place.store, keys, !is_own))
    }
}

/// The name of a credential, if it is one.
pub(super) fn name(text: &str) -> Result<&str, CommandError> {
    if is_name(text) {
        return Ok(text);
    }
    let wrong = "the name of a credential has 1 to 128 characters of A-Z a-z 0-9 . _ -";
    Err(CommandError::Usage(format!(
        "{wrong}\n{}",
        discreet::ADVICE
    )))
}

fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| fs::canonicalize(path).ok();
    one == other || (real(one).is_some() && real(one) == real(other))
}
