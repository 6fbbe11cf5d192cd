//! Sentences for what the network and the TLS library report.

use std::{error::Error, io};

use rustls::CertificateError;

/// The sentence for whatever kept a connection from being made.
pub(super) fn explain(error: &(dyn Error + 'static)) -> String {
    for cause in causes(error) {
        if let Some(tls) = tls_error(cause) {
            return explain_tls(tls);
        }
        let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        if kind == Some(io::ErrorKind::ConnectionRefused) {
            return "nothing listens there; is the broker running?".to_owned();
        }
    }
    innermost(error).to_string()
}

/// The sentence for whatever broke a connection that was made. In TLS 1.3 a server
/// judges the client's certificate only then.
pub(super) fn explain_break(error: &(dyn Error + 'static)) -> String {
    // The HTTP/2 library keeps only the text of what broke its connection.
    let text = innermost(error).to_string();
    if let Some(alert) = text.trim().strip_prefix("received fatal alert: ") {
        return format!("the broker did not accept the client certificate ({alert})");
    }
    format!(
        "the connection broke off ({}); a broker that does not accept the client certificate may do that",
        text.trim()
    )
}

fn explain_tls(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(
            // The signature is bad when another authority of the same name issued it.
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => "the broker's certificate was not issued by the given CA".to_owned(),
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "the broker's certificate is for another host than the endpoint's".to_owned(),
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "the broker's certificate has expired".to_owned(),
        rustls::Error::AlertReceived(alert) => {
            format!("the broker did not accept the client certificate ({alert:?})")
        }
        rustls::Error::NoApplicationProtocol => "what listens there speaks no gRPC".to_owned(),
        other => format!("TLS failed: {other}"),
    }
}

fn tls_error<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    // An `io::Error` hides what it wraps from `source`.
    let inside = cause
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref);
    cause
        .downcast_ref()
        .or_else(|| inside.and_then(|inside| inside.downcast_ref()))
}

pub(super) fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

pub(super) fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    causes(error).last().unwrap_or(error)
}
