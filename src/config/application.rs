//! `[[destination.application]]`: what a destination's tokens are minted with.

use super::{credentials::Resolve, findings::Span, reader::Section, unique::Unique, values};
use crate::{
    credential::{CredentialRef, CredentialSet, Proof},
    destination::ApplicationName,
    upstream::{ClientAuthentication, Protocol},
};

/// An application that is registered for a destination.
#[derive(Clone, Debug)]
pub struct Application<C = CredentialSet> {
    /// Its name, unique within the destination.
    pub name: ApplicationName,
    /// Its credential: already read, or in an [`Outline`](super::Outline) the reference to it.
    pub credential: C,
}

/// The applications of one destination, as far as they could be read.
pub(super) struct Drafts<C>(Vec<Draft<C>>);

struct Draft<C> {
    name: Option<ApplicationName>,
    credential: Option<C>,
    credential_at: Span,
}

impl<C> Drafts<C> {
    pub(super) fn read(
        sections: Vec<Section<'_>>,
        credentials: &impl Resolve<Credential = C>,
    ) -> Self {
        let mut names = Unique::default();
        let mut drafts = Vec::new();
        for section in sections {
            let name = section.required("name", "\"shop\"", values::application_name);
            if let Some(name) = &name {
                names.take(name.as_str(), &section, "name");
            }
            let credential = section.required("credential", "\"file:shop\"", |value| {
                let reference = CredentialRef::parse(values::text(value)?);
                credentials.resolve(reference.map_err(|error| error.to_string())?)
            });
            drafts.push(Draft {
                name,
                credential: credential.flatten(),
                credential_at: section.at("credential"),
            });
            section.finish();
        }
        Self(drafts)
    }

    /// The names, or `None` when some could not be read.
    pub(super) fn names(&self) -> Option<Vec<&ApplicationName>> {
        self.0.iter().map(|draft| draft.name.as_ref()).collect()
    }

    /// Reports the credentials that prove nothing to an endpoint of this protocol.
    pub(super) fn check_proofs<R: Resolve<Credential = C>>(
        &self,
        section: &Section<'_>,
        protocol: &Protocol,
    ) {
        let authentication = match protocol {
            Protocol::OAuth2(settings) => Some(settings.client_authentication),
            Protocol::Occtoo | Protocol::OcctooIngest => None,
        };
        let wants_key = authentication == Some(ClientAuthentication::PrivateKeyJwt);
        for draft in &self.0 {
            let proofs = draft.credential.iter().flat_map(R::proofs);
            // Both are said to be wrong only once: they stand under one key.
            let wrong = proofs
                .into_iter()
                .find(|proof| matches!(proof, Proof::PrivateKey { .. }) != wants_key);
            let Some(proof) = wrong else {
                continue;
            };
            let message = match proof {
                Proof::ClientSecret(_) => {
                    "\"credential\" holds a client secret, but private_key_jwt needs a private key"
                        .to_owned()
                }
                Proof::PrivateKey { .. } => {
                    let (needs_secret, advice) = match authentication {
                        Some(authentication) => (
                            authentication.as_str(),
                            ": write client_authentication = \"private_key_jwt\"",
                        ),
                        None => (protocol.name(), ""),
                    };
                    format!(
                        "\"credential\" holds a private key, but {needs_secret} needs a client secret{advice}"
                    )
                }
            };
            section.findings().report(&draft.credential_at, message);
        }
    }

    /// The applications; those with a mistake are left out.
    pub(super) fn finish(self) -> Box<[Application<C>]> {
        let whole = self.0.into_iter().filter_map(|draft| {
            Some(Application {
                name: draft.name?,
                credential: draft.credential?,
            })
        });
        whole.collect()
    }
}
