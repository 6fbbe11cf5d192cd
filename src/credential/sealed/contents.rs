//! The credentials of a store, and the rules by which they change.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;

use super::SealedProblem;
use crate::{
    credential::{Credential, CredentialRef, CredentialSet, Proof},
    secret::Secret,
};

/// How many names a message lists.
const MAX_LISTED: usize = 5;

/// Everything that a store holds.
#[derive(Debug, Default)]
pub struct Contents {
    pub(super) credentials: BTreeMap<String, Stored>,
    /// The last generations of credentials that were removed: a name that comes back goes on
    /// from there, so that no record of it can be taken for one of another secret.
    pub(super) removed: BTreeMap<String, u64>,
    /// The public keys of those who can open the store.
    pub(super) readers: BTreeSet<String>,
}

/// One credential: its secret, and during a rotation the next one.
#[derive(Debug)]
pub struct Stored {
    /// What mints, or what goes on minting if the next one is rejected.
    pub current: StoredSecret,
    /// What is to replace it.
    pub next: Option<StoredSecret>,
    /// The last generation that was given away.
    pub(super) last_generation: u64,
}

/// A secret or a private key with its client id, as it was stored.
#[derive(Debug)]
pub struct StoredSecret {
    /// What mints.
    pub credential: Arc<Credential>,
    /// Which of the secrets that this credential had in the course of time.
    pub generation: u64,
    /// When it was stored.
    pub stored_at: Timestamp,
}

/// Why a change is against the rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is a credential of that name.
    #[error(
        "{0:?} is stored already: replace its secret with `token-broker credential rotate {0}`, or remove it first"
    )]
    Stored(String),
    /// There is none.
    #[error("the store {0}")]
    Absent(SealedProblem),
    /// There is a next secret already.
    #[error(
        "a rotation of {0:?} is under way: end it with `token-broker credential rotate {0} --finish`, or give it up with `token-broker credential rotate {0} --abort`"
    )]
    UnderWay(String),
    /// There is no next secret.
    #[error(
        "no rotation of {0:?} is under way: begin one with `token-broker credential rotate {0}`"
    )]
    NotUnderWay(String),
    /// The secret is no other one.
    #[error("this is the current secret of {0:?} already: give the new one")]
    Same(String),
    /// It is not what was verified any more.
    #[error("{0:?} was changed by somebody else meanwhile: try again")]
    Changed(String),
}

impl Contents {
    /// All credentials, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Stored)> {
        let credentials = self.credentials.iter();
        credentials.map(|(name, stored)| (name.as_str(), stored))
    }

    /// The credential of that name.
    ///
    /// # Errors
    /// [`SealedProblem::Absent`], with some of the names that are there.
    pub fn find(&self, name: &str) -> Result<&Stored, SealedProblem> {
        self.credentials.get(name).ok_or_else(|| self.absent(name))
    }

    /// Stores a credential that is not there yet.
    ///
    /// # Errors
    /// [`Refusal::Stored`].
    pub fn set(&mut self, name: &str, new: &Credential, now: Timestamp) -> Result<u64, Refusal> {
        if self.credentials.contains_key(name) {
            return Err(Refusal::Stored(name.to_owned()));
        }
        let generation = self
            .removed
            .remove(name)
            .unwrap_or_default()
            .saturating_add(1);
        let stored = Stored {
            current: StoredSecret::new(name, new, generation, now),
            next: None,
            last_generation: generation,
        };
        self.credentials.insert(name.to_owned(), stored);
        Ok(generation)
    }

    /// Whether a rotation to this secret can begin.
    ///
    /// # Errors
    /// [`Refusal`], if the credential is not there, is being rotated, or has this secret.
    pub fn check_rotation(&self, name: &str, new: &Credential) -> Result<(), Refusal> {
        let stored = self.find(name).map_err(Refusal::Absent)?;
        if stored.next.is_some() {
            return Err(Refusal::UnderWay(name.to_owned()));
        }
        if is_same(&stored.current.credential.proof, &new.proof) {
            return Err(Refusal::Same(name.to_owned()));
        }
        Ok(())
    }

    /// Stores the next secret of a credential.
    ///
    /// # Errors
    /// [`Refusal`], as [`Contents::check_rotation`] has it.
    pub fn rotate(&mut self, name: &str, new: &Credential, now: Timestamp) -> Result<u64, Refusal> {
        self.check_rotation(name, new)?;
        let stored = self.stored(name)?;
        stored.last_generation = stored.last_generation.saturating_add(1);
        let generation = stored.last_generation;
        stored.next = Some(StoredSecret::new(name, new, generation, now));
        Ok(generation)
    }

    /// Makes the next secret the current one and forgets the old, if it is still the one of
    /// this generation.
    ///
    /// # Errors
    /// [`Refusal`], if there is no next secret, or another one.
    pub fn finish(&mut self, name: &str, generation: u64) -> Result<(), Refusal> {
        let stored = self.stored(name)?;
        let Some(next) = stored.next.take() else {
            return Err(Refusal::NotUnderWay(name.to_owned()));
        };
        if next.generation != generation {
            return Err(Refusal::Changed(name.to_owned()));
        }
        stored.current = next;
        Ok(())
    }

    /// Drops the next secret, and says which it was.
    ///
    /// # Errors
    /// [`Refusal`], if there is none.
    pub fn abort(&mut self, name: &str) -> Result<StoredSecret, Refusal> {
        let stored = self.stored(name)?;
        let next = stored.next.take();
        next.ok_or_else(|| Refusal::NotUnderWay(name.to_owned()))
    }

    /// Forgets a credential, and says what it was.
    ///
    /// # Errors
    /// [`Refusal::Absent`].
    pub fn remove(&mut self, name: &str) -> Result<Stored, Refusal> {
        let Some(stored) = self.credentials.remove(name) else {
            return Err(Refusal::Absent(self.absent(name)));
        };
        self.removed.insert(name.to_owned(), stored.last_generation);
        Ok(stored)
    }

    fn stored(&mut self, name: &str) -> Result<&mut Stored, Refusal> {
        if !self.credentials.contains_key(name) {
            return Err(Refusal::Absent(self.absent(name)));
        }
        let stored = self.credentials.get_mut(name);
        stored.ok_or_else(|| Refusal::Changed(name.to_owned()))
    }

    fn absent(&self, name: &str) -> SealedProblem {
        let names = self.credentials.keys();
        let mut held: Vec<_> = names.take(MAX_LISTED).map(|n| format!("{n:?}")).collect();
        if self.credentials.len() > MAX_LISTED {
            held.push(format!("and {} more", self.credentials.len() - MAX_LISTED));
        }
        SealedProblem::Absent {
            name: name.to_owned(),
            held: match held.as_slice() {
                [] => "it is empty".to_owned(),
                held => format!("it holds {}", held.join(", ")),
            },
        }
    }
}

impl Stored {
    /// What mints with it.
    pub fn set(&self) -> CredentialSet {
        CredentialSet {
            current: Arc::clone(&self.current.credential),
            next: self.next.as_ref().map(|next| Arc::clone(&next.credential)),
        }
    }

    /// Both secrets, the current one first.
    pub fn iter(&self) -> impl Iterator<Item = &StoredSecret> {
        [&self.current].into_iter().chain(&self.next)
    }
}

impl StoredSecret {
    fn new(name: &str, new: &Credential, generation: u64, now: Timestamp) -> Self {
        let (client_id, proof) = (new.client_id().to_string(), copy(&new.proof));
        Self::of(name, client_id, proof, generation, now)
    }

    pub(super) fn of(
        name: &str,
        client_id: String,
        proof: Proof,
        generation: u64,
        stored_at: Timestamp,
    ) -> Self {
        let reference = CredentialRef::Sealed(name.to_owned());
        let credential = Credential::numbered(&reference, client_id, proof, generation);
        Self {
            credential: Arc::new(credential),
            generation,
            stored_at,
        }
    }
}

/// A copy on purpose: the one that was verified is named otherwise than the one that is kept.
fn copy(proof: &Proof) -> Proof {
    let copy = |secret: &Secret| Secret::new(secret.expose().to_owned());
    match proof {
        Proof::ClientSecret(secret) => Proof::ClientSecret(copy(secret)),
        Proof::PrivateKey { pem, key_id } => Proof::PrivateKey {
            pem: copy(pem),
            key_id: key_id.clone(),
        },
    }
}

/// Whether two proofs are one. Both are the operator's own, so how long it takes tells nothing.
fn is_same(one: &Proof, other: &Proof) -> bool {
    match (one, other) {
        (Proof::ClientSecret(one), Proof::ClientSecret(other)) => one.expose() == other.expose(),
        (
            Proof::PrivateKey { pem, key_id },
            Proof::PrivateKey {
                pem: other,
                key_id: other_id,
            },
        ) => pem.expose() == other.expose() && key_id == other_id,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn credential(client_id: &str, secret: &str) -> Credential {
        let reference = CredentialRef::Sealed("new".to_owned());
        let proof = Proof::ClientSecret(Secret::new(secret.to_owned()));
        Credential::new(&reference, client_id.to_owned(), proof)
    }

    fn names(contents: &Contents) -> Vec<(u64, Option<u64>)> {
        let stored = contents.iter().map(|(_, stored)| {
            let next = stored.next.as_ref().map(|next| next.generation);
            (stored.current.generation, next)
        });
        stored.collect()
    }

    #[test]
    fn generations_only_grow() {
        let mut contents = Contents::default();
        assert_eq!(contents.set("a", &credential("c", "1"), NOW), Ok(1));
        assert_eq!(contents.rotate("a", &credential("c", "2"), NOW), Ok(2));
        assert_eq!(contents.abort("a").unwrap().generation, 2);
        assert_eq!(contents.rotate("a", &credential("c", "2"), NOW), Ok(3));
        assert_eq!(names(&contents), [(1, Some(3))]);
        assert_eq!(contents.finish("a", 3), Ok(()));
        assert_eq!(names(&contents), [(3, None)]);
        assert_eq!(contents.rotate("a", &credential("c", "4"), NOW), Ok(4));
        assert_eq!(contents.abort("a").unwrap().generation, 4);
        assert_eq!(contents.remove("a").unwrap().current.generation, 3);
        assert_eq!(contents.set("a", &credential("c", "5"), NOW), Ok(5));
        assert_eq!(contents.set("b", &credential("c", "1"), NOW), Ok(1));
        let name = &contents.find("a").unwrap().current.credential.name;
        assert_eq!(
            (&*name.credential, name.generation.as_str()),
            ("sealed:a", "5")
        );
    }

    #[test]
    fn a_change_against_the_rules_changes_nothing() {
        let mut contents = Contents::default();
        let (one, two) = (credential("c", "1"), credential("c", "2"));
        let absent = |held: &str| {
            Refusal::Absent(SealedProblem::Absent {
                name: "a".to_owned(),
                held: held.to_owned(),
            })
        };
        let name = || "a".to_owned();
        assert_eq!(
            contents.rotate("a", &one, NOW).unwrap_err(),
            absent("it is empty")
        );
        assert_eq!(contents.remove("a").unwrap_err(), absent("it is empty"));
        contents.set("a", &one, NOW).unwrap();
        assert_eq!(contents.set("a", &two, NOW), Err(Refusal::Stored(name())));
        assert_eq!(contents.rotate("a", &one, NOW), Err(Refusal::Same(name())));
        let another = credential("another", "1");
        assert_eq!(
            contents.rotate("a", &another, NOW),
            Err(Refusal::Same(name()))
        );
        assert_eq!(contents.finish("a", 1), Err(Refusal::NotUnderWay(name())));
        assert_eq!(
            contents.abort("a").unwrap_err(),
            Refusal::NotUnderWay(name())
        );
        contents.rotate("a", &two, NOW).unwrap();
        assert_eq!(
            contents.rotate("a", &two, NOW),
            Err(Refusal::UnderWay(name()))
        );
        assert_eq!(names(&contents), [(1, Some(2))]);
    }

    #[test]
    fn what_was_verified_is_what_becomes_the_current_one() {
        let mut contents = Contents::default();
        contents.set("a", &credential("c", "1"), NOW).unwrap();
        contents.rotate("a", &credential("c", "2"), NOW).unwrap();
        let changed = Refusal::Changed("a".to_owned());
        assert_eq!(contents.finish("a", 1), Err(changed));
    }

    #[test]
    fn a_message_lists_a_few_names() {
        let mut contents = Contents::default();
        for name in ["a", "b", "c", "d", "e", "f", "g"] {
            contents.set(name, &credential("c", "1"), NOW).unwrap();
        }
        assert_eq!(
            contents.find("shop").unwrap_err().to_string(),
            r#"holds no credential "shop": it holds "a", "b", "c", "d", "e", and 2 more"#
        );
    }
}
