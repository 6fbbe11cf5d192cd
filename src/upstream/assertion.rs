//! The signed assertions of `private_key_jwt` (RFC 7523).

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use serde::Serialize;
use zeroize::Zeroizing;

use super::{FetchError, SetupError};
use crate::credential::{Credential, Proof};

/// The `client_assertion_type` parameter (RFC 7523 §2.2).
pub(super) const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How long an assertion is valid: time for one request, and a clock that is a little off.
const LIFETIME: Duration = Duration::from_secs(60);

/// `AlgorithmIdentifier` of an EC key on P-256, in DER (RFC 5480 §2.1.1).
const P256: [u8; 21] = [
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
    0xce, 0x3d, 0x03, 0x01, 0x07,
];

/// Signs assertions with the private key of one application.
pub(super) struct AssertionSigner {
    client_id: Arc<str>,
    algorithm: Algorithm,
    key_id: Option<String>,
    key: EncodingKey,
}

impl AssertionSigner {
    /// Reads the private key, whose kind decides the algorithm: ES256, `EdDSA` or RS256.
    pub(super) fn new(credential: &Credential) -> Result<Self, SetupError> {
        let Proof::PrivateKey { pem, key_id } = &credential.proof else {
            return Err(SetupError::PrivateKeyNeeded);
        };
        let (algorithm, key) = signing_key(pem.expose()).ok_or(SetupError::UnusableKey)?;
        Ok(Self {
            client_id: Arc::clone(credential.client_id()),
            algorithm,
            key_id: key_id.clone(),
            key,
        })
    }

    /// Signs an assertion (RFC 7523 §3) for a token endpoint.
    pub(super) fn sign(
        &self,
        audience: &str,
        now: SystemTime,
    ) -> Result<Zeroizing<String>, FetchError> {
        let mut header = Header::new(self.algorithm);
        header.kid.clone_from(&self.key_id);
        let claims = Claims::new(&self.client_id, audience, now);
        jsonwebtoken::encode(&header, &claims, &self.key)
            .map(Zeroizing::new)
            // The key has signed before, so this is a fault of ours and not of the credentials.
            .map_err(|_| FetchError::Panicked)
    }
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    jti: String,
    iat: u64,
    exp: u64,
}

impl<'a> Claims<'a> {
    fn new(client_id: &'a str, audience: &'a str, now: SystemTime) -> Self {
        let iat = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        Self {
            iss: client_id,
            sub: client_id,
            aud: audience,
            // Fresh each time: endpoints refuse an assertion that they have seen.
            jti: format!("{:032x}", rand::random::<u128>()),
            iat,
            exp: iat + LIFETIME.as_secs(),
        }
    }
}

/// The key and the one algorithm that can sign with it.
fn signing_key(pem: &str) -> Option<(Algorithm, EncodingKey)> {
    let candidates = match PrivateKeyDer::from_pem_slice(pem.as_bytes()).ok()? {
        PrivateKeyDer::Pkcs8(der) => {
            let der = der.secret_pkcs8_der();
            let mut keys = vec![
                (Algorithm::ES256, EncodingKey::from_ec_der(der)),
                (Algorithm::EdDSA, EncodingKey::from_ed_der(der)),
            ];
            let rsa = EncodingKey::from_rsa_pem(pem.as_bytes());
            keys.extend(rsa.map(|key| (Algorithm::RS256, key)));
            keys
        }
        PrivateKeyDer::Sec1(der) => {
            let der = pkcs8(der.secret_sec1_der());
            vec![(Algorithm::ES256, EncodingKey::from_ec_der(&der))]
        }
        PrivateKeyDer::Pkcs1(der) => {
            let key = EncodingKey::from_rsa_der(der.secret_pkcs1_der());
            vec![(Algorithm::RS256, key)]
        }
        _ => return None,
    };
    // A signature now proves the key: a wrong curve or a short modulus shows only here.
    candidates.into_iter().find(|(algorithm, key)| {
        let claims = Claims::new("", "", SystemTime::UNIX_EPOCH);
        jsonwebtoken::encode(&Header::new(*algorithm), &claims, key).is_ok()
    })
}

/// Wraps a SEC1 key on P-256 (RFC 5915) as PKCS#8 (RFC 5208), the one form that the
/// signer reads.
fn pkcs8(sec1: &[u8]) -> Zeroizing<Vec<u8>> {
    const VERSION: [u8; 3] = [0x02, 0x01, 0x00];
    let key = tlv(0x04, &[sec1]);
    tlv(0x30, &[&VERSION, &P256, &key])
}

/// One DER element; its content is below 64 KiB, which any key is.
fn tlv(tag: u8, content: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let length: usize = content.iter().map(|part| part.len()).sum();
    let [.., high, low] = length.to_be_bytes();
    let mut element = Zeroizing::new(Vec::with_capacity(4 + length));
    element.push(tag);
    match (high, low) {
        (0, 0..=0x7f) => element.push(low),
        (0, _) => element.extend([0x81, low]),
        _ => element.extend([0x82, high, low]),
    }
    for part in content {
        element.extend_from_slice(part);
    }
    element
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{credential::CredentialRef, secret::Secret};
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use jsonwebtoken::{DecodingKey, Validation};
    use rcgen::KeyPair;
    use serde::Deserialize;

    const ENDPOINT: &str = "https://auth.example/oauth2/token";

    #[derive(Deserialize)]
    struct Seen {
        iss: String,
        sub: String,
        jti: String,
        iat: u64,
        exp: u64,
    }

    fn signer(pem: String, key_id: Option<&str>) -> Result<AssertionSigner, SetupError> {
        AssertionSigner::new(&Credential::new(
            &CredentialRef::File("shop".to_owned()),
            "shop".to_owned(),
            Proof::PrivateKey {
                pem: Secret::new(pem),
                key_id: key_id.map(str::to_owned),
            },
        ))
    }

    fn pem(label: &str, der: &[u8]) -> String {
        let body = STANDARD.encode(der);
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    }

    fn public_key(algorithm: Algorithm, key: &KeyPair) -> DecodingKey {
        let pem = key.public_key_pem();
        match algorithm {
            Algorithm::ES256 => DecodingKey::from_ec_pem(pem.as_bytes()),
            Algorithm::EdDSA => DecodingKey::from_ed_pem(pem.as_bytes()),
            _ => DecodingKey::from_rsa_pem(pem.as_bytes()),
        }
        .unwrap()
    }

    fn check(algorithm: Algorithm, signer: &AssertionSigner, key: &KeyPair) -> Seen {
        let assertion = signer.sign(ENDPOINT, SystemTime::now()).unwrap();
        let mut validation = Validation::new(algorithm);
        validation.set_audience(&[ENDPOINT]);
        let public = public_key(algorithm, key);
        let decoded = jsonwebtoken::decode::<Seen>(&*assertion, &public, &validation).unwrap();
        assert_eq!(decoded.header.kid.as_deref(), Some("key-1"));
        decoded.claims
    }

    #[test]
    fn the_public_key_verifies_what_each_kind_of_key_signs() {
        for (algorithm, rcgen) in [
            (Algorithm::ES256, &rcgen::PKCS_ECDSA_P256_SHA256),
            (Algorithm::EdDSA, &rcgen::PKCS_ED25519),
            (Algorithm::RS256, &rcgen::PKCS_RSA_SHA256),
        ] {
            let key = KeyPair::generate_for(rcgen).unwrap();
            let signer = signer(key.serialize_pem(), Some("key-1")).unwrap();
            let (first, second) = (
                check(algorithm, &signer, &key),
                check(algorithm, &signer, &key),
            );
            assert_eq!((first.iss.as_str(), first.sub.as_str()), ("shop", "shop"));
            assert_eq!(first.exp - first.iat, 60);
            assert_ne!(first.jti, second.jti);
        }
    }

    #[test]
    fn sec1_and_pkcs1_keys_are_read_as_well() {
        let ec = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let parts = octet_string(&ec.serialize_der());
        let sec1 = signer(pem("EC PRIVATE KEY", &parts), Some("key-1")).unwrap();
        check(Algorithm::ES256, &sec1, &ec);

        let rsa = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let parts = octet_string(&rsa.serialize_der());
        let pkcs1 = signer(pem("RSA PRIVATE KEY", &parts), Some("key-1")).unwrap();
        check(Algorithm::RS256, &pkcs1, &rsa);
    }

    /// The key inside a PKCS#8 structure: its first octet string.
    fn octet_string(pkcs8: &[u8]) -> Vec<u8> {
        use x509_parser::der_parser::{ber::BerObjectContent, der::parse_der_sequence};
        let (_, sequence) = parse_der_sequence(pkcs8).unwrap();
        sequence
            .as_sequence()
            .unwrap()
            .iter()
            .find_map(|part| match &part.content {
                BerObjectContent::OctetString(bytes) => Some(bytes.to_vec()),
                _ => None,
            })
            .unwrap()
    }

    #[test]
    fn keys_that_cannot_sign_are_refused_without_a_trace_of_them() {
        let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let good = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        for unusable in [
            String::new(),
            "canary".to_owned(),
            p384.serialize_pem(),
            good.public_key_pem(),
            pem("PRIVATE KEY", b"canary"),
            pem("EC PRIVATE KEY", b"canary"),
            pem("RSA PRIVATE KEY", b"canary"),
            pem("ENCRYPTED PRIVATE KEY", &good.serialize_der()),
        ] {
            let error = signer(unusable, None).err().unwrap();
            assert_eq!(error, SetupError::UnusableKey);
            assert!(!format!("{error} {error:?}").contains("canary"));
        }
    }
}
