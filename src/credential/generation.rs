//! Names the state of a credential without telling anything of it.

use std::{hash::BuildHasher, hash::RandomState, sync::LazyLock};

use super::Proof;
use crate::destination::Generation;

/// Drawn once for the process, so that equal credentials have equal generations while
/// nobody outside can find a secret by trying guesses against one.
static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

pub(super) fn of(client_id: &str, proof: &Proof) -> Generation {
    // Texts are hashed with an end mark, so parts cannot run into each other.
    Generation(match proof {
        Proof::ClientSecret(secret) => KEYS.hash_one((0_u8, client_id, secret.expose())),
        Proof::PrivateKey { pem, key_id } => KEYS.hash_one((1_u8, client_id, pem.expose(), key_id)),
    })
}

pub(super) fn of_both(current: Generation, next: Generation) -> Generation {
    Generation(KEYS.hash_one((2_u8, current, next)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        credential::{Credential, CredentialRef},
        secret::Secret,
    };
    use std::collections::HashSet;

    fn reference() -> CredentialRef {
        CredentialRef::File("app".to_owned())
    }

    fn secret(client_id: &str, secret: &str) -> Credential {
        let proof = Proof::ClientSecret(Secret::new(secret.to_owned()));
        Credential::new(&reference(), client_id.to_owned(), proof)
    }

    fn key(client_id: &str, pem: &str, key_id: Option<&str>) -> Credential {
        let pem = Secret::new(pem.to_owned());
        let key_id = key_id.map(str::to_owned);
        let proof = Proof::PrivateKey { pem, key_id };
        Credential::new(&reference(), client_id.to_owned(), proof)
    }

    #[test]
    fn generation_changes_with_every_part_and_with_nothing_else() {
        let all = [
            secret("id", "secret"),
            secret("id", "secret2"),
            secret("ids", "ecret"),
            secret("secret", "id"),
            key("id", "secret", None),
            key("id", "secret", Some("")),
            key("id", "secret", Some("1")),
            key("id", "secret1", None),
            key("ids", "ecret", None),
        ];
        let distinct: HashSet<_> = all.iter().map(|credential| credential.generation).collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(secret("id", "secret").generation, all[0].generation);
        assert_eq!(key("id", "secret", Some("1")).generation, all[6].generation);
    }

    #[test]
    fn generation_cannot_be_computed_without_the_keys_of_the_process() {
        let generation = secret("id", "secret").generation;
        for _ in 0..100 {
            let guess = RandomState::new().hash_one((0_u8, "id", "secret"));
            assert_ne!(generation, Generation(guess));
        }
    }

    #[test]
    fn debug_shows_nothing_of_the_proof() {
        for credential in [secret("id", "canary"), key("id", "canary", Some("canary"))] {
            assert!(!format!("{credential:#?}").contains("canary"));
        }
    }
}
