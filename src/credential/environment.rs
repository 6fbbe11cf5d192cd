//! Credentials in environment variables.

use std::{env, ffi::OsString, fmt};

use zeroize::Zeroizing;

use super::{
    CredentialError, CredentialRef, CredentialSet, CredentialStore, Problem,
    parts::{Part, Parts},
    reference::is_variable_prefix,
};

/// The variables `NAME_CLIENT_ID` and `NAME_CLIENT_SECRET`, or `NAME_CLIENT_ID`,
/// `NAME_PRIVATE_KEY` and optionally `NAME_KEY_ID`.
pub struct Environment {
    variable: Box<Lookup>,
}

type Lookup = dyn Fn(&str) -> Option<OsString> + Send + Sync;

impl Environment {
    /// The environment of this process.
    pub fn of_process() -> Self {
        Self::new(|name| env::var_os(name))
    }

    /// An environment in which `variable` answers with the value of the variable of a name.
    pub fn new(variable: impl Fn(&str) -> Option<OsString> + Send + Sync + 'static) -> Self {
        Self {
            variable: Box::new(variable),
        }
    }

    fn part(&self, name: &str) -> Option<Part> {
        let value = (self.variable)(name)?;
        Some(Part {
            place: place(name).into(),
            bytes: Zeroizing::new(value.into_encoded_bytes()),
        })
    }
}

impl CredentialStore for Environment {
    fn load(&self, name: &str) -> Result<CredentialSet, CredentialError> {
        if !is_variable_prefix(name) {
            return Err(missing("NAME_CLIENT_ID", Problem::Name));
        }
        let client_id = format!("{name}_CLIENT_ID");
        let client_secret = format!("{name}_CLIENT_SECRET");
        Parts {
            client_id: self
                .part(&client_id)
                .ok_or_else(|| missing(&client_id, Problem::Missing("set it to the client id")))?,
            client_secret: self.part(&client_secret),
            private_key: self.part(&format!("{name}_PRIVATE_KEY")),
            key_id: self.part(&format!("{name}_KEY_ID")),
            reference: CredentialRef::Environment(name.to_owned()),
            no_proof: missing(
                &client_secret,
                Problem::Missing("set it to the client secret, or _PRIVATE_KEY to a private key"),
            ),
        }
        .assemble()
        .map(CredentialSet::of)
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment")
    }
}

fn missing(variable: &str, problem: Problem) -> CredentialError {
    CredentialError {
        place: place(variable),
        problem,
    }
}

fn place(variable: &str) -> String {
    format!("the variable {variable}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::Proof;

    fn environment(variables: &'static [(&str, &str)]) -> Environment {
        Environment::new(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.into())
        })
    }

    #[test]
    fn a_credential_is_read_from_variables_of_its_name() {
        let environment = environment(&[
            ("SHOP_CLIENT_ID", "id"),
            ("SHOP_CLIENT_SECRET", "secret"),
            ("KEYED_CLIENT_ID", "id"),
            (
                "KEYED_PRIVATE_KEY",
                "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----",
            ),
            ("KEYED_KEY_ID", "k"),
            ("BARE_CLIENT_ID", "id"),
        ]);
        let shop = environment.load("SHOP").unwrap().current;
        assert_eq!(&**shop.client_id(), "id");
        assert!(matches!(&shop.proof, Proof::ClientSecret(secret) if secret.expose() == "secret"));
        let keyed = environment.load("KEYED").unwrap().current;
        assert!(matches!(&keyed.proof, Proof::PrivateKey { key_id: Some(id), .. } if id == "k"));
        for (name, expected) in [
            (
                "NONE",
                "the variable NONE_CLIENT_ID is missing: set it to the client id",
            ),
            (
                "BARE",
                "the variable BARE_CLIENT_SECRET is missing: set it to the client secret, or _PRIVATE_KEY to a private key",
            ),
            (
                "shop",
                "the variable NAME_CLIENT_ID is no name of a credential",
            ),
            ("", "the variable NAME_CLIENT_ID is no name of a credential"),
        ] {
            assert_eq!(environment.load(name).unwrap_err().to_string(), expected);
        }
    }
}
