//! A caller's connection in HTTP/1.1, written and read byte by byte.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;

use crate::{
    disguise::Disguise,
    trial::{GIVE_UP, Trial},
};

/// One connection.
pub(crate) struct Exchange {
    stream: TlsStream<TcpStream>,
    received: Vec<u8>,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// In the order in which they came, but for the date.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(found, _)| found == name)?;
        Some(&found.1)
    }

    /// Why there is no token.
    pub(crate) fn reason(&self) -> &str {
        self.header("x-token-broker-reason").unwrap_or_default()
    }

    /// What the JSON body says at this key.
    #[allow(dead_code, reason = "only some programs of tests need it")]
    pub(crate) fn says(&self, key: &str) -> serde_json::Value {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        body[key].clone()
    }
}

impl Exchange {
    /// A connection of this caller.
    pub(crate) async fn of(trial: &Trial, caller: &str) -> Self {
        Self::with(Disguise::of(trial, caller)).await
    }

    pub(crate) async fn with(disguise: Disguise) -> Self {
        let disguise = disguise.speaking(&["http/1.1"]);
        Self {
            stream: disguise.handshake().await.unwrap(),
            received: Vec::new(),
        }
    }

    /// Sends bytes as they are.
    pub(crate) async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Sends bytes, whether the broker takes them or not.
    #[allow(dead_code, reason = "only some programs of tests need it")]
    pub(crate) async fn try_to_say(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok() && self.stream.flush().await.is_ok()
    }

    /// The next answer, or none if the broker hangs up first.
    pub(crate) async fn hear(&mut self) -> Option<Answer> {
        let head = loop {
            let end = self
                .received
                .windows(4)
                .position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                let head: Vec<_> = self.received.drain(..end + 4).collect();
                break String::from_utf8(head).unwrap();
            }
            if !self.more().await {
                assert_eq!(self.received, b"", "an answer without an end");
                return None;
            }
        };
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(": "))
            .filter(|(name, _)| *name != "date")
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let length = length.map_or(0, |(_, value)| value.parse().unwrap());
        while self.received.len() < length {
            assert!(self.more().await, "an answer that was cut short");
        }
        let body = self.received.drain(..length).collect();
        Some(Answer {
            status: status.parse().unwrap(),
            headers,
            body: String::from_utf8(body).unwrap(),
        })
    }

    /// Waits until the broker hangs up, which it must do without saying more.
    #[allow(dead_code, reason = "only some programs of tests need it")]
    pub(crate) async fn ended(&mut self) {
        assert_eq!(self.last_words().await, "");
    }

    /// What the broker says before it hangs up, as far as it arrives.
    #[allow(dead_code, reason = "only some programs of tests need it")]
    pub(crate) async fn last_words(&mut self) -> String {
        while self.more().await {}
        String::from_utf8_lossy(&self.received).into_owned()
    }

    async fn more(&mut self) -> bool {
        let read = timeout(GIVE_UP, self.stream.read_buf(&mut self.received)).await;
        read.expect("neither an answer nor an end")
            .is_ok_and(|n| n > 0)
    }

    /// Asks, and hears the answer.
    pub(crate) async fn ask(&mut self, request: &str) -> Answer {
        self.say(request).await;
        self.hear().await.expect("the broker hung up")
    }
}

/// A request for a token of this destination at the OAuth 2 door.
pub(crate) fn oauth2(destination: &str) -> String {
    post(
        "/oauth2/token",
        "content-type: application/x-www-form-urlencoded\r\n",
        &format!("grant_type=client_credentials&audience={destination}"),
    )
}

/// A request for a token of this destination at Occtoo's door.
pub(crate) fn occtoo(destination: &str) -> String {
    post(
        &format!("/destinations/{destination}/token"),
        "content-type: application/json\r\n",
        r#"{"clientId":"anybody","clientSecret":"anything"}"#,
    )
}

/// A request with these header lines and this body.
pub(crate) fn post(path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: broker.example:7443\r\n{headers}content-length: {length}\r\n\r\n{body}"
    )
}
