//! `credential init`: a key and an empty store.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use clap::Args;
use jiff::Timestamp;

use super::{CommandError, site::SiteArgs};
use crate::credential::sealed::{ChangeError, Keys};

/// The arguments of `credential init`.
#[derive(Debug, Args)]
pub(super) struct InitArgs {
    #[command(flatten)]
    site: SiteArgs,
}

pub(super) fn run(args: &InitArgs) -> Result<(), CommandError> {
    let outline = args.site.outline()?;
    let place = args.site.place(&outline)?;
    if fs::symlink_metadata(&place.store).is_ok() {
        return Err(CommandError::Unchanged(ChangeError::Exists(place.store)));
    }
    let mut out = io::stdout();
    let identity = place.identity.display();
    // One that is there is somebody's key, or was left by an earlier try.
    let is_new = fs::symlink_metadata(&place.identity).is_err();
    if is_new {
        let key = Keys::draw(Timestamp::now());
        write_new(&place.identity, key.file.expose()).map_err(|source| CommandError::Key {
            path: place.identity.clone(),
            source,
        })?;
    }
    let store = args.site.store(&outline)?;
    store.create()?;
    let made = if is_new { "made" } else { "kept" };
    writeln!(out, "{made} the key {identity}, whose public half is")?;
    for public in store.keys().public() {
        writeln!(out, "  {public}")?;
    }
    writeln!(out, "made the empty store {}", place.store.display())?;
    Ok(())
}

/// Writes a file that nobody else may read, and that must not be there yet.
fn write_new(path: &Path, content: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let written = file
        .write_all(content.as_bytes())
        .and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a key opens nothing, and would be taken for one.
        let _ = fs::remove_file(path);
    }
    written
}
