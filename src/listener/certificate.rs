//! Who a client certificate names, and when certificates and revocation lists run out.

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _,
    revocation_list::CertificateRevocationList,
};

use crate::identity::{CallerId, IdentityError};

/// The one SPIFFE ID of a certificate that the handshake has verified (X509-SVID §2:
/// exactly one URI), or else its one DNS name. The common name is never looked at.
pub(super) fn caller(leaf: &CertificateDer<'_>) -> Result<CallerId, IdentityError> {
    let certificate = read(leaf).ok_or(IdentityError::Unreadable)?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| IdentityError::Unreadable)?
        .map(|extension| extension.value.general_names.as_slice())
        .unwrap_or_default();

    let (mut uris, mut dns_names) = (Vec::new(), Vec::new());
    for name in names {
        match name {
            GeneralName::URI(uri) => uris.push(*uri),
            GeneralName::DNSName(name) => dns_names.push(*name),
            _ => {}
        }
    }
    match (uris.as_slice(), dns_names.as_slice()) {
        // Beside a SPIFFE ID there may be DNS names; they do not count.
        ([uri], _) => CallerId::from_spiffe(uri),
        ([], [name]) => CallerId::from_dns(name),
        ([], []) => Err(IdentityError::Nameless),
        _ => Err(IdentityError::Ambiguous),
    }
}

/// The last second in which a certificate is good, in Unix time.
pub(super) fn not_after(certificate: &CertificateDer<'_>) -> Option<i64> {
    Some(read(certificate)?.validity().not_after.timestamp())
}

/// Whose certificate this is, as its subject says.
pub(super) fn subject(certificate: &CertificateDer<'_>) -> Option<String> {
    Some(read(certificate)?.subject().to_string())
}

/// Whether a revocation list is of whomever this certificate is of.
pub(super) fn has_issued(
    certificate: &CertificateDer<'_>,
    list: &CertificateRevocationListDer<'_>,
) -> bool {
    let issuer = CertificateRevocationList::from_der(list);
    match (read(certificate), issuer) {
        (Some(certificate), Ok((_, list))) => {
            certificate.subject().as_raw() == list.issuer().as_raw()
        }
        _ => false,
    }
}

/// The last second in which a revocation list is good, in Unix time.
pub(super) fn next_update(list: &CertificateRevocationListDer<'_>) -> Option<i64> {
    let (_, list) = CertificateRevocationList::from_der(list).ok()?;
    Some(list.next_update()?.timestamp())
}

fn read<'a>(certificate: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    let (rest, certificate) = X509Certificate::from_der(certificate).ok()?;
    rest.is_empty().then_some(certificate)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

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
        assert_eq!(caller(&trailing.into()), Err(IdentityError::Unreadable));
    }
}
