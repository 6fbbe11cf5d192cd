//! Where a secret comes from: a pipe, a file or a prompt, and never an argument.

use std::{
    io::{self, IsTerminal as _, Read},
    path::{Path, PathBuf},
};

use clap::Args;
use zeroize::Zeroizing;

use super::CommandError;
use crate::{
    credential::{Credential, CredentialError, CredentialRef, Offered},
    small_file,
};

/// A file with the secret, and the id of its key.
#[derive(Debug, Args)]
pub(super) struct SourceArgs {
    /// Read a private key in PEM from this file, for `private_key_jwt`
    #[arg(long, value_name = "FILE", conflicts_with = "secret_file")]
    private_key_file: Option<PathBuf>,
    /// Read the client secret from this file
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// The `kid` that goes with the private key
    #[arg(long, value_name = "ID")]
    key_id: Option<String>,
}

/// What was read, and where.
struct Proof {
    bytes: Zeroizing<Vec<u8>>,
    place: &'static str,
    is_key: bool,
}

impl SourceArgs {
    /// Reads the credential of that name. It may wait for somebody to type.
    pub(super) fn read(self, name: &str, client_id: String) -> Result<Credential, CommandError> {
        let proof = self.proof(name)?;
        let offered = Offered {
            client_id,
            proof: proof.bytes,
            place: proof.place.to_owned(),
            is_key: proof.is_key,
            key_id: self.key_id,
        };
        let reference = CredentialRef::Sealed(name.to_owned());
        offered.assemble(reference).map_err(CommandError::Source)
    }

    fn proof(&self, name: &str) -> Result<Proof, CommandError> {
        // The paths are not shown: one of them may be the secret itself, by mistake.
        if let Some(path) = &self.private_key_file {
            return file(path, "the file that --private-key-file names", true);
        }
        if let Some(path) = &self.secret_file {
            return file(path, "the file that --secret-file names", false);
        }
        let stdin = io::stdin();
        if stdin.is_terminal() {
            let prompt = format!("Client secret of {name} (it is not shown): ");
            let typed = rpassword::prompt_password(prompt).map_err(CommandError::Prompt)?;
            return Ok(Proof {
                bytes: Zeroizing::new(typed.into_bytes()),
                place: "what was typed",
                is_key: false,
            });
        }
        pipe(stdin.lock())
    }
}

fn file(path: &Path, place: &'static str, is_key: bool) -> Result<Proof, CommandError> {
    match small_file::read(path, Offered::MAX_PROOF) {
        Ok(bytes) => Ok(Proof {
            bytes,
            place,
            is_key,
        }),
        Err(problem) => Err(CommandError::Source(CredentialError {
            place: place.to_owned(),
            problem: problem.into(),
        })),
    }
}

fn pipe(from: impl Read) -> Result<Proof, CommandError> {
    let limit = Offered::MAX_PROOF + 1;
    // Room for all of it: a vector that grows leaves copies behind.
    let room = usize::try_from(limit).unwrap_or(0) + 64;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    from.take(limit)
        .read_to_end(&mut bytes)
        .map_err(CommandError::Prompt)?;
    Ok(Proof {
        is_key: Offered::looks_like_key(&bytes),
        bytes,
        place: "standard input",
    })
}
