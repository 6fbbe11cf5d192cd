//! An authority whose certificates and revocation lists are as wrong as a test wants them.

use std::{
    ops::Range,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::{disguise::Papers, trial::CART};

/// Seconds, in which a test is over.
pub(crate) const HOUR: i64 = 3600;

/// An authority of clients, or of other authorities.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
    /// Its own certificate and those above it, without the root's.
    chain: Vec<CertificateDer<'static>>,
}

/// What a client's certificate says.
pub(crate) struct Leaf {
    pub(crate) names: Vec<SanType>,
    pub(crate) serial: u64,
    /// In seconds from now.
    pub(crate) valid: Range<i64>,
    pub(crate) purpose: ExtendedKeyUsagePurpose,
    pub(crate) is_ca: IsCa,
}

impl Default for Leaf {
    /// Nothing is wrong with it.
    fn default() -> Self {
        Self {
            names: vec![uri(CART)],
            serial: 1,
            valid: -HOUR..HOUR,
            purpose: ExtendedKeyUsagePurpose::ClientAuth,
            is_ca: IsCa::NoCa,
        }
    }
}

impl Ca {
    pub(crate) fn root(name: &str) -> Self {
        let (params, key) = authority(name, -HOUR..HOUR);
        let certificate = params.self_signed(&key).unwrap();
        Self {
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
            chain: Vec::new(),
        }
    }

    /// An authority below this one.
    pub(crate) fn intermediate(&self, name: &str, serial: u64, valid: Range<i64>) -> Self {
        let (mut params, key) = authority(name, valid);
        params.serial_number = Some(serial.into());
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let own = std::iter::once(certificate.der().clone());
        Self {
            pem: certificate.pem(),
            chain: own.chain(self.chain.iter().cloned()).collect(),
            issuer: Issuer::new(params, key),
        }
    }

    pub(crate) fn sign(&self, leaf: Leaf) -> Papers {
        let mut params = named("client", leaf.valid);
        params.subject_alt_names = leaf.names;
        params.serial_number = Some(leaf.serial.into());
        params.is_ca = leaf.is_ca;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![leaf.purpose];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let own = std::iter::once(certificate.der().clone());
        Papers {
            chain: own.chain(self.chain.iter().cloned()).collect(),
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }

    /// A revocation list that is good for so many seconds from now, in PEM.
    pub(crate) fn crl(&self, revoked: &[u64], good_for: i64) -> String {
        let moment = |from_now| date_time_ymd(1970, 1, 1) + unix(from_now);
        CertificateRevocationListParams {
            this_update: moment(-2 * HOUR),
            next_update: moment(good_for),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked
                .iter()
                .map(|&serial| RevokedCertParams {
                    serial_number: serial.into(),
                    revocation_time: moment(-HOUR),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        }
        .signed_by(&self.issuer)
        .unwrap()
        .pem()
        .unwrap()
    }
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

pub(crate) fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

/// So many seconds from now, in Unix time.
pub(crate) fn unix(from_now: i64) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seconds = now.as_secs().checked_add_signed(from_now).unwrap();
    Duration::from_secs(seconds)
}

fn authority(name: &str, valid: Range<i64>) -> (CertificateParams, KeyPair) {
    let mut params = named(name, valid);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params, KeyPair::generate().unwrap())
}

fn named(name: &str, valid: Range<i64>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(1970, 1, 1) + unix(valid.start);
    params.not_after = date_time_ymd(1970, 1, 1) + unix(valid.end);
    params
}
