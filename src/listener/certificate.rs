//! Who a client certificate names, and when certificates and revocation lists run out.

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::{
    asn1_rs::{Any, Class, Tag},
    certificate::X509Certificate,
    oid_registry::{OID_X509_EXT_ISSUER_DISTRIBUTION_POINT, OID_X509_EXT_SUBJECT_ALT_NAME},
    prelude::FromDer as _,
    revocation_list::CertificateRevocationList,
};

use crate::identity::{CallerId, IdentityError};

/// The one SPIFFE ID of a certificate that the handshake has verified (X509-SVID §2:
/// exactly one URI), or else its one DNS name. The common name is never looked at.
pub(super) fn caller(leaf: &CertificateDer<'_>) -> Result<CallerId, IdentityError> {
    let certificate = read(leaf).ok_or(IdentityError::Unreadable)?;
    let names = Names::of(&certificate).ok_or(IdentityError::Unreadable)?;
    match (names.uris.as_slice(), names.dns_names.as_slice()) {
        // Beside a SPIFFE ID there may be DNS names; they do not count.
        ([uri], _) => CallerId::from_spiffe(uri),
        ([], [name]) => CallerId::from_dns(name),
        ([], []) => Err(IdentityError::Nameless),
        _ => Err(IdentityError::Ambiguous),
    }
}

/// The first and the last second in which a certificate is good, in Unix time.
pub(super) fn validity(certificate: &CertificateDer<'_>) -> Option<(i64, i64)> {
    let certificate = read(certificate)?;
    let validity = certificate.validity();
    Some((
        validity.not_before.timestamp(),
        validity.not_after.timestamp(),
    ))
}

/// The last second in which a certificate is good, in Unix time.
pub(super) fn not_after(certificate: &CertificateDer<'_>) -> Option<i64> {
    validity(certificate).map(|(_, last)| last)
}

/// Whose certificate this is, as its subject says.
pub(super) fn subject(certificate: &CertificateDer<'_>) -> Option<String> {
    Some(read(certificate)?.subject().to_string())
}

/// Which certificates a revocation list is about.
pub(super) struct Scope {
    issuer: Vec<u8>,
    /// Its issuing distribution point (RFC 5280 §5.2.5), if it is not about all of them.
    part: Option<Vec<u8>>,
}

impl Scope {
    /// `None` for what is no revocation list.
    pub(super) fn of(list: &CertificateRevocationListDer<'_>) -> Option<Self> {
        let (_, list) = CertificateRevocationList::from_der(list).ok()?;
        let mut extensions = list.extensions().iter();
        let part = extensions.find(|one| one.oid == OID_X509_EXT_ISSUER_DISTRIBUTION_POINT);
        Some(Self {
            issuer: list.issuer().as_raw().to_vec(),
            part: part.map(|part| part.value.to_vec()),
        })
    }

    /// Whether the list is of whomever this certificate is of.
    pub(super) fn is_of(&self, certificate: &CertificateDer<'_>) -> bool {
        read(certificate).is_some_and(|one| one.subject().as_raw() == self.issuer)
    }

    /// Whether a certificate can be in both.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let whole = self.part.is_none() || other.part.is_none();
        self.issuer == other.issuer && (whole || self.part == other.part)
    }
}

/// The first and the last second in which a revocation list is good, in Unix time.
pub(super) fn currency(list: &CertificateRevocationListDer<'_>) -> Option<(i64, i64)> {
    let (_, list) = CertificateRevocationList::from_der(list).ok()?;
    Some((
        list.last_update().timestamp(),
        list.next_update()?.timestamp(),
    ))
}

fn read<'a>(certificate: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    let (rest, certificate) = X509Certificate::from_der(certificate).ok()?;
    rest.is_empty().then_some(certificate)
}

/// The subject alternative names that could be a caller's.
///
/// They are read here and not by the library, which skips a name that it cannot read, and
/// takes a structure for a text: a certificate could name one caller for whoever signed it
/// and another one here.
#[derive(Default)]
struct Names<'a> {
    uris: Vec<&'a str>,
    dns_names: Vec<&'a str>,
}

impl<'a> Names<'a> {
    /// `None` when anything about them is not as RFC 5280 §4.2.1.6 wants it.
    fn of(certificate: &X509Certificate<'a>) -> Option<Self> {
        let extension = certificate.get_extension_unique(&OID_X509_EXT_SUBJECT_ALT_NAME);
        let mut names = Self::default();
        if let Some(extension) = extension.ok()? {
            let (rest, sequence) = Any::from_der(extension.value).ok()?;
            sequence.header.assert_constructed().ok()?;
            (rest.is_empty() && sequence.tag() == Tag::Sequence).then_some(())?;
            let mut unread = sequence.data;
            while !unread.is_empty() {
                let (rest, name) = Any::from_der(unread).ok()?;
                names.take(&name)?;
                unread = rest;
            }
        }
        Some(names)
    }

    fn take(&mut self, name: &Any<'a>) -> Option<()> {
        let is_structure = match (name.class(), name.tag().0) {
            // Other names, X.400, directory and EDI names are structures.
            (Class::ContextSpecific, 0 | 3 | 4 | 5) => true,
            (Class::ContextSpecific, 1 | 2 | 6..=8) => false,
            _ => return None,
        };
        if name.header.is_constructed() != is_structure {
            return None;
        }
        match name.tag().0 {
            1 => drop(ia5_string(name)?),
            2 => self.dns_names.push(ia5_string(name)?),
            6 => self.uris.push(ia5_string(name)?),
            _ => {}
        }
        Some(())
    }
}

fn ia5_string<'a>(name: &Any<'a>) -> Option<&'a str> {
    let text = std::str::from_utf8(name.data).ok()?;
    text.is_ascii().then_some(text)
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use rcgen::{
        CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
        CrlIssuingDistributionPoint, CustomExtension, DnType, IsCa, Issuer, KeyIdMethod, KeyPair,
        KeyUsagePurpose, SanType, date_time_ymd,
    };

    use super::*;

    fn certificate(names: &[SanType]) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.to_vec();
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    fn dns(text: &str) -> SanType {
        SanType::DnsName(text.try_into().unwrap())
    }

    /// A revocation list of this issuer, about all of its certificates or this part of them.
    fn list(issuer: &str, part: Option<&str>) -> CertificateRevocationListDer<'static> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, issuer.to_owned());
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::CrlSign];
        let issuer = Issuer::new(params, KeyPair::generate().unwrap());
        let part = part.map(|part| CrlIssuingDistributionPoint {
            distribution_point: CrlDistributionPoint {
                uris: vec![format!("http://crl.example/{part}")],
            },
            scope: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2027, 1, 1),
            crl_number: 1.into(),
            issuing_distribution_point: part,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&issuer).unwrap().into()
    }

    #[test]
    fn lists_overlap_where_one_certificate_can_be_in_both() {
        for (one, other, overlap) in [
            (("a", None), ("a", None), true),
            (("a", None), ("a", Some("1")), true),
            (("a", Some("1")), ("a", Some("1")), true),
            (("a", Some("1")), ("a", Some("2")), false),
            (("a", None), ("b", None), false),
            (("a", Some("1")), ("b", Some("1")), false),
        ] {
            let scope = |(issuer, part)| Scope::of(&list(issuer, part)).unwrap();
            assert_eq!(
                scope(one).overlaps(&scope(other)),
                overlap,
                "{one:?} {other:?}"
            );
            assert_eq!(
                scope(other).overlaps(&scope(one)),
                overlap,
                "{other:?} {one:?}"
            );
        }
        let rubbish = CertificateRevocationListDer::from(b"rubbish".to_vec());
        assert!(Scope::of(&rubbish).is_none());
    }

    #[test]
    fn a_certificate_names_exactly_one_caller_or_none() {
        use IdentityError::{Ambiguous, Nameless, NotDnsName, NotSpiffe};
        let spiffe = "spiffe://corp.example/ns/shop/sa/cart";
        let ip = SanType::IpAddress([127, 0, 0, 1].into());
        for (names, expected) in [
            (vec![uri(spiffe)], Ok(spiffe)),
            (vec![uri(spiffe), dns("cart.corp.example")], Ok(spiffe)),
            (vec![dns("cart.corp.example")], Ok("cart.corp.example")),
            (
                vec![dns("cart.corp.example"), ip.clone()],
                Ok("cart.corp.example"),
            ),
            (vec![], Err(Nameless)),
            (vec![ip], Err(Nameless)),
            (
                vec![uri(spiffe), uri("spiffe://corp.example/other")],
                Err(Ambiguous),
            ),
            (
                vec![uri(spiffe), uri("https://corp.example")],
                Err(Ambiguous),
            ),
            (vec![dns("a.example"), dns("b.example")], Err(Ambiguous)),
            (vec![uri("https://corp.example/cart")], Err(NotSpiffe)),
            (
                vec![uri("https://corp.example/cart"), dns("cart.corp.example")],
                Err(NotSpiffe),
            ),
            (vec![uri("spiffe://CORP.example/cart")], Err(NotSpiffe)),
            (vec![uri("spiffe://corp.example/a/../b")], Err(NotSpiffe)),
            (vec![dns("Cart.corp.example")], Err(NotDnsName)),
            (vec![dns("*.corp.example")], Err(NotDnsName)),
        ] {
            let found = caller(&certificate(&names));
            assert_eq!(
                found.as_ref().map(CallerId::as_str),
                expected.as_ref().copied(),
                "{names:?}"
            );
        }
    }

    #[test]
    fn what_is_no_certificate_names_nobody() {
        for bytes in [&b""[..], b"garbage", &[0x30, 0x82, 0xff, 0xff]] {
            assert_eq!(caller(&bytes.into()), Err(IdentityError::Unreadable));
        }
        let mut trailing = certificate(&[dns("a.example")]).to_vec();
        trailing.push(0);
        assert_eq!(
            caller(&trailing.into()).err(),
            Some(IdentityError::Unreadable)
        );
    }

    #[test]
    fn a_name_that_cannot_be_read_is_not_passed_over() {
        for (tag, content) in [
            (0x86, b"spiffe://td/\xff".as_slice()), // no text
            (0x82, "caf\u{e9}.example".as_bytes()), // no ASCII
            (0xa6, b"spiffe://td/a"),               // a structure
            (0x84, b"directory"),                   // no structure
            (0x89, b"unknown"),
            (0x06, b"\x2a"),
            (0x9f, b"\x1f"),
        ] {
            let mut names = vec![0x82, 1, b'a', tag, u8::try_from(content.len()).unwrap()];
            names.extend_from_slice(content);
            let mut extension = vec![0x30, u8::try_from(names.len()).unwrap()];
            extension.append(&mut names);
            let mut params = CertificateParams::default();
            params.custom_extensions = vec![CustomExtension::from_oid_content(
                &[2, 5, 29, 17],
                extension,
            )];
            let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            let found = caller(certificate.der());
            assert_eq!(found, Err(IdentityError::Unreadable), "{tag:#x}");
        }
    }
}
