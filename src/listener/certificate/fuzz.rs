//! Certificates that no authority would sign, and a second reader of their names.

use std::sync::LazyLock;

use proptest::{collection::vec, prelude::*, sample::select};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::server::ParsedCertificate;

use super::*;
use crate::{
    fuzz::Target,
    identity::fuzz::{WORDS, any_name, is_dns_name, is_spiffe_id},
};

/// The tags of general names (RFC 5280 §4.2.1.6), as they are encoded.
const DNS: u8 = 0x82;
const URI: u8 = 0x86;

/// One general name: its tag and its content.
type Name = (u8, Vec<u8>);

#[test]
fn whom_a_mutilated_certificate_names_a_second_reader_finds_too() {
    Target::new("certificate")
        .inventing(vec(any_general_name(), 0..4).prop_map(|names| certificate(&names)))
        .holds(|der| {
            let found = caller_of(der);
            let Ok(id) = &found else {
                return false;
            };
            assert_canonical(id);
            let der = CertificateDer::from(der);
            if ParsedCertificate::try_from(&der).is_err() {
                // The verifier before us is stricter about all that is no name.
                return false;
            }
            let names = names(&der).expect("a caller, but no names");
            assert_eq!(expected(&names).as_ref(), Ok(id));
            true
        });
}

/// The input is a list of names, one a line: the tag in hexadecimal digits, a blank, and
/// the content.
#[test]
fn whom_a_certificate_names_follows_from_its_names_alone() {
    let line = (select(vec!["86", "82", "81", "87", "a6", "8f"]), any_name());
    let lines = vec(line.prop_map(|(tag, name)| format!("{tag} {name}\n")), 0..4);
    Target::new("certificate-names")
        .words(&WORDS)
        .inventing(lines.prop_map(|lines| lines.concat()))
        .holds(|lines| {
            let written: Vec<Name> = lines
                .split(|byte| *byte == b'\n')
                .filter_map(|line| {
                    let (tag, content) = (line.get(..2)?, line.get(3..)?);
                    let tag = u8::from_str_radix(std::str::from_utf8(tag).ok()?, 16).ok()?;
                    Some((tag, content.to_vec()))
                })
                .collect();
            let der = certificate(&written);
            let found = caller_of(&der);
            assert_eq!(found, expected(&written));
            found.inspect(assert_canonical).is_ok()
        });
}

fn caller_of(der: &[u8]) -> Result<CallerId, IdentityError> {
    caller(&CertificateDer::from(der))
}

/// The caller of a certificate with these names, by the oracles.
fn expected(names: &[Name]) -> Result<CallerId, IdentityError> {
    let texts_of = |wanted: u8| -> Vec<Option<&str>> {
        let texts = names.iter().filter(|(tag, _)| *tag == wanted);
        texts
            .map(|(_, text)| std::str::from_utf8(text).ok())
            .collect()
    };
    let (uris, dns_names) = (texts_of(URI), texts_of(DNS));
    let readable = |(tag, content): &Name| match *tag {
        0x81 | DNS | URI => content.iter().all(|byte| *byte < 0x80),
        0x87 | 0x88 | 0xa0 | 0xa3..=0xa5 => true,
        _ => false,
    };
    if !names.iter().all(readable) {
        return Err(IdentityError::Unreadable);
    }
    match (uris.as_slice(), dns_names.as_slice()) {
        ([], []) => Err(IdentityError::Nameless),
        ([Some(uri)], _) if is_spiffe_id(uri) => Ok(CallerId::parse(uri).unwrap()),
        ([_], _) => Err(IdentityError::NotSpiffe),
        ([], [Some(name)]) if is_dns_name(name) => Ok(CallerId::parse(name).unwrap()),
        ([], [_]) => Err(IdentityError::NotDnsName),
        _ => Err(IdentityError::Ambiguous),
    }
}

/// Reading the name again gives the same caller, also from a certificate of its own.
fn assert_canonical(id: &CallerId) {
    let text = id.as_str();
    assert_eq!(CallerId::parse(text).as_ref(), Ok(id));
    assert!(is_spiffe_id(text) != is_dns_name(text), "{text}");
    let tag = if is_spiffe_id(text) { URI } else { DNS };
    let again = certificate(&[(tag, text.into())]);
    assert_eq!(caller_of(&again).as_ref(), Ok(id));
}

/// The names of the one extension for them, read without any library.
fn names(der: &[u8]) -> Option<Vec<Name>> {
    const SUBJECT_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];
    let certificate = only(der, 0x30)?;
    // What follows the signed part is another's to judge.
    let (_, to_be_signed, _) = element(certificate)?;
    let fields = elements(to_be_signed)?;
    let extensions = &fields.iter().find(|(tag, _)| *tag == 0xa3)?.1;
    let mut found = None;
    for (_, extension) in elements(only(extensions, 0x30)?)? {
        let parts = elements(&extension)?;
        let is_names = parts.first()? == &(0x06, SUBJECT_ALTERNATIVE_NAME.to_vec());
        if is_names {
            let (0x04, content) = parts.last()? else {
                return None;
            };
            let names = elements(only(content, 0x30)?)?;
            if found.replace(names).is_some() {
                return None;
            }
        }
    }
    found
}

/// The content of the one element that a text consists of.
fn only(der: &[u8], tag: u8) -> Option<&[u8]> {
    let (found, content, rest) = element(der)?;
    (found == tag && rest.is_empty()).then_some(content)
}

fn elements(mut der: &[u8]) -> Option<Vec<Name>> {
    let mut found = Vec::new();
    while !der.is_empty() {
        let (tag, content, rest) = element(der)?;
        found.push((tag, content.to_vec()));
        der = rest;
    }
    Some(found)
}

/// Splits off one element: its tag, its content, and what follows (X.690 §8.1).
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, length], mut rest) = der.split_first_chunk::<2>()?;
    if tag & 0x1f == 0x1f {
        return None;
    }
    let mut length = usize::from(length);
    if length > 0x80 {
        let (digits, after) = rest.split_at_checked(length - 0x80)?;
        let digit = |sum: usize, digit: &u8| sum.checked_mul(256)?.checked_add(usize::from(*digit));
        length = digits.iter().try_fold(0, digit)?;
        rest = after;
    } else if length == 0x80 {
        return None;
    }
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// A certificate with exactly these names, whatever they are.
fn certificate(names: &[Name]) -> Vec<u8> {
    static KEY: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate().unwrap());
    let mut params = CertificateParams::default();
    if !names.is_empty() {
        let names: Vec<u8> = names
            .iter()
            .flat_map(|(tag, text)| der(*tag, text))
            .collect();
        let extension = CustomExtension::from_oid_content(&[2, 5, 29, 17], der(0x30, &names));
        params.custom_extensions.push(extension);
    }
    params.self_signed(&*KEY).unwrap().der().to_vec()
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    let mut element = match length {
        [0, short @ ..0x80] => vec![tag, short],
        [0, long] => vec![tag, 0x81, long],
        [high, low] => vec![tag, 0x82, high, low],
    };
    element.extend_from_slice(content);
    element
}

/// A name of any kind, which may be ill-formed.
fn any_general_name() -> impl Strategy<Value = Name> {
    let tag = select(vec![
        URI, URI, URI, DNS, DNS, 0x81, 0x87, 0x88, 0xa0, 0xa4, 0xa6, 0xa2, 0x80, 0x8f, 0x06, 0x16,
    ]);
    let content = prop_oneof![
        3 => any_name().prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..20),
        1 => any_name().prop_map(|name| [name.as_bytes(), b"\xff"].concat()),
        1 => any_name().prop_map(|name| der(URI, name.as_bytes())),
    ];
    (tag, content)
}
