//! What a stand-in answers.

use std::io;

use tokio::{io::AsyncWriteExt, net::TcpStream};

/// One HTTP answer, after which the connection is closed.
pub(super) struct Response {
    status: u16,
    headers: Vec<String>,
    body: String,
}

impl Response {
    /// Status 200 with a body.
    pub(super) fn body(body: String) -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            body,
        }
    }

    /// A status with a body that says nothing.
    pub(super) fn error(status: u16) -> Self {
        Self::with_status(status, format!(r#"{{"message":"status {status}"}}"#))
    }

    /// A status with a body.
    pub(super) fn with_status(status: u16, body: String) -> Self {
        Self {
            status,
            ..Self::body(body)
        }
    }

    /// Adds a header, if it has a value.
    pub(super) fn with_header(mut self, name: &str, value: Option<String>) -> Self {
        self.headers
            .extend(value.map(|value| format!("{name}: {value}\r\n")));
        self
    }

    /// Sends the whole answer.
    pub(super) async fn send(self, stream: &mut TcpStream) -> io::Result<()> {
        stream.write_all(self.head().as_bytes()).await?;
        stream.write_all(self.body.as_bytes()).await?;
        stream.shutdown().await
    }

    /// Promises the whole answer and sends half of its body.
    pub(super) async fn send_half(self, stream: &mut TcpStream) -> io::Result<()> {
        let (half, _) = self.body.as_bytes().split_at(self.body.len() / 2);
        stream.write_all(self.head().as_bytes()).await?;
        stream.write_all(half).await?;
        stream.shutdown().await
    }

    fn head(&self) -> String {
        let Self {
            status,
            headers,
            body,
        } = self;
        let (headers, length) = (headers.concat(), body.len());
        format!(
            "HTTP/1.1 {status} \r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
             Cache-Control: no-store\r\n{headers}Connection: close\r\n\r\n"
        )
    }
}
