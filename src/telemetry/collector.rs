//! Who gets the spans: a collector that speaks OTLP over gRPC.

use std::{sync::Arc, time::Duration};

use http::{Uri, uri::PathAndQuery};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Error};

/// The longest wait for a connection, the TLS handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A collector, and how much it is to get.
#[derive(Clone, Debug, PartialEq)]
pub struct Collector {
    endpoint: Uri,
    /// Certificate authorities in PEM, which replace those that browsers trust.
    ca_pem: Option<Arc<[u8]>>,
    /// Which part of the traces that begin here is recorded, from 0 to 1.
    ratio: f64,
}

/// Why a text is no URL of a collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCollector {
    /// It is not http or https, or has no host or no port.
    #[error("the collector is not a URL of http or https with a host and a port")]
    NotUrl,
    /// It has a user or a password.
    #[error("the collector has a user or a password")]
    UserInfo,
    /// It has a path or a query, for which OTLP over gRPC has no use.
    #[error("the collector has more than a scheme, a host and a port")]
    MoreThanHost,
}

impl Collector {
    /// A collector at this URL, which gets everything.
    ///
    /// # Errors
    /// [`InvalidCollector`] for all but a scheme, a host and a port.
    pub fn parse(url: &str) -> Result<Self, InvalidCollector> {
        if url.contains('@') {
            return Err(InvalidCollector::UserInfo);
        }
        let endpoint: Uri = url.parse().map_err(|_| InvalidCollector::NotUrl)?;
        let is_known = matches!(endpoint.scheme_str(), Some("http" | "https"));
        let has_host = endpoint.host().is_some_and(|host| !host.is_empty());
        let has_port = endpoint.port_u16().is_some_and(|port| port != 0);
        if !(is_known && has_host && has_port) {
            return Err(InvalidCollector::NotUrl);
        }
        let more = endpoint.path_and_query().map(PathAndQuery::as_str);
        if url.contains('#') || !matches!(more, None | Some("/")) {
            return Err(InvalidCollector::MoreThanHost);
        }
        Ok(Self {
            endpoint,
            ca_pem: None,
            ratio: 1.0,
        })
    }

    /// Believes certificates of these authorities in PEM, and no others.
    #[must_use]
    pub fn trusting(self, ca_pem: Vec<u8>) -> Self {
        Self {
            ca_pem: Some(ca_pem.into()),
            ..self
        }
    }

    /// Gets this part of the traces that begin here.
    #[must_use]
    pub fn getting(self, ratio: f64) -> Self {
        Self { ratio, ..self }
    }

    /// Whether it is spoken to without TLS.
    pub fn is_plain(&self) -> bool {
        self.endpoint.scheme_str() == Some("http")
    }

    /// Which part of the traces that begin here it gets.
    pub(super) fn ratio(&self) -> f64 {
        self.ratio
    }

    /// A client that connects when it has something to say, and again when that was lost. To
    /// be called where tasks can run.
    pub(super) fn client(&self) -> Result<TraceServiceClient<Channel>, Error> {
        let mut endpoint = Endpoint::from(self.endpoint.clone()).connect_timeout(CONNECT_TIMEOUT);
        if !self.is_plain() {
            let tls = ClientTlsConfig::new().timeout(CONNECT_TIMEOUT);
            let tls = match &self.ca_pem {
                Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
                None => tls.trust_anchors(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            };
            endpoint = endpoint.tls_config(tls)?;
        }
        Ok(TraceServiceClient::new(endpoint.connect_lazy()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_a_scheme_a_host_and_a_port() {
        for (url, plain) in [
            ("http://collector:4317", true),
            ("http://127.0.0.1:4317/", true),
            ("http://[::1]:4317", true),
            ("https://otlp.example:443", false),
        ] {
            assert_eq!(Collector::parse(url).unwrap().is_plain(), plain, "{url}");
        }
        for (url, error) in [
            ("", InvalidCollector::NotUrl),
            ("collector:4317", InvalidCollector::NotUrl),
            ("http://collector", InvalidCollector::NotUrl),
            ("http://collector:0", InvalidCollector::NotUrl),
            ("http://:4317", InvalidCollector::NotUrl),
            ("grpc://collector:4317", InvalidCollector::NotUrl),
            ("http://a:b@collector:4317", InvalidCollector::UserInfo),
            (
                "http://collector:4317/v1/traces",
                InvalidCollector::MoreThanHost,
            ),
            ("http://collector:4317?x=1", InvalidCollector::MoreThanHost),
            ("http://collector:4317#x", InvalidCollector::MoreThanHost),
        ] {
            assert_eq!(Collector::parse(url), Err(error), "{url}");
        }
    }
}
