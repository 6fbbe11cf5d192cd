//! What a stand-in is asked.

use std::io;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::{io::AsyncReadExt, net::TcpStream};
use url::form_urlencoded;

use crate::secret::Secret;

/// The longest head and the longest body that are read, in bytes.
const MAX_PART: usize = 64 * 1024;

/// One HTTP request, read to its end.
pub(super) struct Request {
    method: String,
    path: String,
    authorization: Option<String>,
    body: Vec<u8>,
}

/// One token request.
pub(super) struct Question {
    /// Whose answer is expected.
    pub shape: Shape,
    /// What is asked for; only Occtoo names it in every request.
    pub destination: Option<String>,
    /// Who asks.
    pub client_id: String,
    /// How it is proved.
    pub proof: Presented,
}

/// The protocol that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Occtoo,
    OcctooIngest,
    OAuth2,
}

/// What a client shows.
pub(super) enum Presented {
    Secret(Secret),
    Assertion(Secret),
}

impl Request {
    /// Reads one request; `None` when there is none, or none that can be understood.
    pub(super) async fn read(stream: &mut TcpStream) -> io::Result<Option<Self>> {
        let mut received = Vec::with_capacity(1024);
        let head_end = loop {
            if let Some(at) = received.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            if received.len() > MAX_PART || stream.read_buf(&mut received).await? == 0 {
                return Ok(None);
            }
        };
        let mut body = received.split_off(head_end + 4);
        let Some((mut request, length)) = std::str::from_utf8(&received).ok().and_then(head) else {
            return Ok(None);
        };
        if length > MAX_PART {
            return Ok(None);
        }
        // The body must be read to its end: closing over unread bytes resets the connection.
        while body.len() < length {
            if stream.read_buf(&mut body).await? == 0 {
                return Ok(None);
            }
        }
        request.body = body;
        Ok(Some(request))
    }
}

impl Question {
    /// Understands a request, or says with which HTTP status it is to be refused.
    pub(super) fn parse(request: &Request) -> Result<Self, u16> {
        let path: Vec<_> = request.path.split('/').skip(1).collect();
        let read = match path.as_slice() {
            ["destinations", destination, "token"] => Self::occtoo(request, destination),
            ["dataProviders", "tokens"] => Self::occtoo_ingest(request),
            ["oauth2", "token"] => Self::oauth2(request),
            _ => return Err(404),
        };
        if request.method != "POST" {
            return Err(405);
        }
        read.ok_or(400)
    }

    fn occtoo(request: &Request, destination: &str) -> Option<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Body {
            client_id: String,
            client_secret: String,
        }
        let body: Body = json(request)?;
        Some(Self {
            shape: Shape::Occtoo,
            destination: Some(destination.to_owned()),
            client_id: body.client_id,
            proof: Presented::Secret(Secret::new(body.client_secret)),
        })
    }

    fn occtoo_ingest(request: &Request) -> Option<Self> {
        #[derive(Deserialize)]
        struct Body {
            id: String,
            secret: String,
        }
        let body: Body = json(request)?;
        Some(Self {
            shape: Shape::OcctooIngest,
            destination: None,
            client_id: body.id,
            proof: Presented::Secret(Secret::new(body.secret)),
        })
    }

    fn oauth2(request: &Request) -> Option<Self> {
        let field = |name: &str| {
            form_urlencoded::parse(&request.body)
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.into_owned())
        };
        if field("grant_type")? != "client_credentials" {
            return None;
        }
        let (client_id, proof) = if let Some(authorization) = &request.authorization {
            let (client_id, secret) = basic(authorization)?;
            (client_id, Presented::Secret(secret))
        } else if let Some(assertion) = field("client_assertion") {
            let assertion = Presented::Assertion(Secret::new(assertion));
            (field("client_id")?, assertion)
        } else {
            let secret = Secret::new(field("client_secret")?);
            (field("client_id")?, Presented::Secret(secret))
        };
        Some(Self {
            shape: Shape::OAuth2,
            destination: field("audience"),
            client_id,
            proof,
        })
    }
}

/// The request without its body, and how long that is.
fn head(text: &str) -> Option<(Request, usize)> {
    let mut lines = text.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let header = |name: &str| {
        lines
            .clone()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    };
    let request = Request {
        method: method.to_owned(),
        path: target.split('?').next()?.to_owned(),
        authorization: header("authorization").map(str::to_owned),
        body: Vec::new(),
    };
    let length = header("content-length").map_or(Some(0), |text| text.parse().ok())?;
    Some((request, length))
}

fn json<T: DeserializeOwned>(request: &Request) -> Option<T> {
    serde_json::from_slice(&request.body).ok()
}

/// RFC 6749 §2.3.1: form-encoded id and secret, joined by a colon, in base64.
fn basic(authorization: &str) -> Option<(String, Secret)> {
    let encoded = authorization.strip_prefix("Basic ")?;
    let pair = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (client_id, secret) = pair.split_once(':')?;
    Some((form_decode(client_id), Secret::new(form_decode(secret))))
}

/// Decodes one text. The separators of forms stand for themselves, for the sake of
/// clients that forget to encode.
fn form_decode(text: &str) -> String {
    let value = text.replace('=', "%3D").replace('&', "%26");
    form_urlencoded::parse(value.as_bytes())
        .map(|(name, _)| name.into_owned())
        .collect()
}
