//! A peer with a valid certificate that writes HTTP/2 frames as it likes.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf, split},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use crate::disguise::Disguise;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types (RFC 9113 §6).
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

/// Flags (RFC 9113 §6.2).
pub(crate) const END_HEADERS: u8 = 0x4;
pub(crate) const END_STREAM: u8 = 0x1;

/// A connection whose handshake and first SETTINGS are done.
pub(crate) struct Attacker {
    reader: ReadHalf<TlsStream<TcpStream>>,
    writer: WriteHalf<TlsStream<TcpStream>>,
}

/// How the broker took leave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Parting {
    /// The error code of its GOAWAY, and why, if that came through.
    pub(crate) goaway: Option<(u32, String)>,
    /// The answers to pings before that.
    pub(crate) pongs: usize,
}

impl Disguise {
    pub(crate) async fn connect(&self) -> std::io::Result<Attacker> {
        let (reader, writer) = split(self.handshake().await?);
        let mut attacker = Attacker { reader, writer };
        let hello = [PREFACE, &frame(SETTINGS, 0, 0, b"")].concat();
        attacker.writer.write_all(&hello).await?;
        attacker.writer.flush().await?;
        Ok(attacker)
    }
}

impl Attacker {
    /// Writes for as long as the broker takes it, and stays until the broker hangs up.
    pub(crate) async fn attack(self, bytes: impl IntoIterator<Item = Vec<u8>>) -> Parting {
        let Self {
            mut reader,
            mut writer,
        } = self;
        let mut received = Vec::new();
        let write = async {
            for bytes in bytes {
                if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
                    break;
                }
            }
        };
        // A peer that closes with bytes unread resets the connection: both ways are an end.
        let read = async { while reader.read_buf(&mut received).await.is_ok_and(|n| n > 0) {} };
        tokio::join!(write, read);
        Parting::read(&received)
    }
}

impl Parting {
    fn read(mut received: &[u8]) -> Self {
        let mut parting = Self {
            goaway: None,
            pongs: 0,
        };
        while let Some((head, rest)) = received.split_first_chunk::<9>() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let Some((payload, rest)) = rest.split_at_checked(length) else {
                break;
            };
            match (head[3], payload) {
                (PING, _) => parting.pongs += 1,
                (GOAWAY, [_, _, _, _, code @ ..]) => {
                    let (code, why) = code.split_first_chunk().unwrap();
                    let why = String::from_utf8_lossy(why).into_owned();
                    parting.goaway = Some((u32::from_be_bytes(*code), why));
                }
                _ => {}
            }
            received = rest;
        }
        parting
    }
}

/// The bytes of a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The header block of a `GetToken` call (RFC 7541: indexed fields, and literals that
/// leave no trace in the table).
pub(crate) fn call() -> Vec<u8> {
    const METHOD_POST: u8 = 0x83;
    const SCHEME_HTTPS: u8 = 0x87;
    let literal = |name: &[u8], value: &str| {
        let length = u8::try_from(value.len()).unwrap();
        [name, &[length], value.as_bytes()].concat()
    };
    [
        vec![METHOD_POST, SCHEME_HTTPS],
        literal(&[0x04], "/tokenbroker.v1.TokenBroker/GetToken"),
        literal(&[0x0f, 0x10], "application/grpc"),
        literal(b"\x00\x02te", "trailers"),
    ]
    .concat()
}
