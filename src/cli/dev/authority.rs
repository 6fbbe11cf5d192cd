//! A throw-away certificate authority.

use std::net::IpAddr;

use jiff::{Timestamp, ToSpan as _, civil::Date, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};

use crate::secret::Secret;

/// How long the certificates are good for, in days.
const VALID_FOR: i32 = 30;

/// An authority that lives in memory and signs both sides of a trial.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

/// A certificate with its key, both in PEM.
pub struct Signed {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: Secret,
}

impl Authority {
    /// A new authority with a new key.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn new() -> Result<Self, rcgen::Error> {
        let mut params = params("token-broker dev authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            certificate,
        })
    }

    /// The authority's own certificate, in PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate for a server on this machine, good for `localhost`, the loopback
    /// addresses and one more.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn server(&self, address: IpAddr) -> Result<Signed, rcgen::Error> {
        let loopback = [
            IpAddr::from([127, 0, 0, 1]),
            IpAddr::from([0_u16, 0, 0, 0, 0, 0, 0, 1]),
        ];
        let mut names = vec![SanType::DnsName("localhost".try_into()?)];
        names.extend(loopback.map(SanType::IpAddress));
        if !address.is_unspecified() && !loopback.contains(&address) {
            names.push(SanType::IpAddress(address));
        }
        self.server_with(names)
    }

    /// A certificate for a server with these names alone.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn server_with(&self, names: Vec<SanType>) -> Result<Signed, rcgen::Error> {
        self.sign(
            "token-broker dev server",
            names,
            ExtendedKeyUsagePurpose::ServerAuth,
        )
    }

    /// A certificate for a client with this SPIFFE ID.
    ///
    /// # Errors
    /// When the id is not ASCII, or the system gives no randomness.
    pub fn client(&self, spiffe_id: &str) -> Result<Signed, rcgen::Error> {
        self.client_with(vec![SanType::URI(spiffe_id.try_into()?)])
    }

    /// A certificate for a client with these names, which may be too many or too few to
    /// tell who it is.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn client_with(&self, names: Vec<SanType>) -> Result<Signed, rcgen::Error> {
        self.sign(
            "token-broker dev client",
            names,
            ExtendedKeyUsagePurpose::ClientAuth,
        )
    }

    fn sign(
        &self,
        name: &str,
        names: Vec<SanType>,
        purpose: ExtendedKeyUsagePurpose,
    ) -> Result<Signed, rcgen::Error> {
        let mut params = params(name);
        params.subject_alt_names = names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate()?;
        Ok(Signed {
            certificate: params.signed_by(&key, &self.issuer)?.pem(),
            key: Secret::new(key.serialize_pem()),
        })
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(DnType::CommonName, name);
    params.distinguished_name = distinguished_name;
    let midnight = |date: Date| {
        let part = |number: i8| u8::try_from(number).unwrap_or(1);
        rcgen::date_time_ymd(date.year().into(), part(date.month()), part(date.day()))
    };
    // From yesterday on, so that neither time zones nor a slow clock get in the way.
    let today = TimeZone::UTC.to_datetime(Timestamp::now()).date();
    params.not_before = midnight(today.saturating_sub(1.day()));
    params.not_after = midnight(today.saturating_add(VALID_FOR.days()));
    params
}
