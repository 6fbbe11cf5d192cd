//! A server that says what a test wants it to say.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::super::scripts::{BEAT_STEP, BEGIN_STEP, LOOK_STEP, PAUSE_STEP, QUARANTINES_STEP};

/// How it behaves. It changes between one command and the next.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Manner {
    /// As it should, with nothing kept.
    Well,
    /// It reads, and says nothing.
    Silent,
    /// It answers only when it behaves in another way again.
    Waits,
    /// It closes whatever is opened.
    Closes,
    /// It says this instead of any answer but those that open a connection.
    Says(Vec<u8>),
    /// It says this instead of any answer at all.
    OnlySays(Vec<u8>),
}

pub(super) struct Scripted {
    pub(super) port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    manner: watch::Sender<Manner>,
    role: Mutex<&'static str>,
    accepted: AtomicUsize,
    open: AtomicUsize,
    asked: Mutex<Vec<Vec<Vec<u8>>>>,
    /// What is said to everybody who listens.
    said: tokio::sync::broadcast::Sender<Vec<u8>>,
}

impl Scripted {
    pub(super) async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            manner: watch::Sender::new(manner),
            role: Mutex::new("master"),
            accepted: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            asked: Mutex::default(),
            said: tokio::sync::broadcast::Sender::new(4096),
        });
        tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { port, shared }
    }

    pub(super) fn behave(&self, manner: Manner) {
        self.shared.manner.send_replace(manner);
    }

    pub(super) fn says_error(&self, error: &str) {
        self.behave(Manner::Says(format!("-{error}\r\n").into_bytes()));
    }

    pub(super) fn become_a(&self, role: &'static str) {
        *self.shared.role.lock().unwrap() = role;
    }

    /// How many connections it has seen.
    pub(super) fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many there are.
    pub(super) fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// The arguments of all that it answered, or was silent about.
    pub(super) fn asked(&self) -> Vec<Vec<Vec<u8>>> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// Says this on the channel.
    pub(super) fn publish(&self, channel: &str, message: &[u8]) {
        let mut push = b">3\r\n$7\r\nmessage\r\n".to_vec();
        push.extend(bulk(channel.as_bytes()));
        push.extend(bulk(message));
        self.shared.said.send(push).unwrap();
    }

    /// Says this without being asked.
    pub(super) fn say(&self, bytes: &[u8]) {
        self.shared.said.send(bytes.to_vec()).unwrap();
    }
}

pub(super) fn bulk(bytes: &[u8]) -> Vec<u8> {
    let mut bulk = format!("${}\r\n", bytes.len()).into_bytes();
    bulk.extend(bytes);
    bulk.extend(b"\r\n");
    bulk
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            shared.open.fetch_add(1, Ordering::SeqCst);
            let _ = converse(stream, &shared).await;
            shared.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

async fn converse(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut manner = shared.manner.subscribe();
    let mut said = shared.said.subscribe();
    let mut buffer = Vec::new();
    loop {
        if *manner.borrow_and_update() == Manner::Closes {
            return Ok(());
        }
        tokio::select! {
            read = stream.read_buf(&mut buffer) => {
                if read? == 0 {
                    return Ok(());
                }
            }
            Ok(push) = said.recv() => stream.write_all(&push).await?,
            Ok(()) = manner.changed() => {}
        }
        while let Some((command, length)) = parse(&buffer) {
            let manner = shared.manner.borrow().clone();
            if manner == Manner::Waits {
                break;
            }
            buffer.drain(..length);
            let role = *shared.role.lock().unwrap();
            shared.asked.lock().unwrap().push(command.clone());
            if let Some(answer) = answer(&command, &manner, role) {
                stream.write_all(&answer).await?;
            }
        }
    }
}

fn answer(command: &[Vec<u8>], manner: &Manner, role: &str) -> Option<Vec<u8>> {
    let word = String::from_utf8(command[0].to_ascii_uppercase()).unwrap();
    let opens = ["HELLO", "SUBSCRIBE", "SELECT"].contains(&word.as_str());
    match manner {
        Manner::Silent | Manner::Waits | Manner::Closes => return None,
        Manner::OnlySays(bytes) => return Some(bytes.clone()),
        Manner::Says(bytes) if !opens && !["PING", "ROLE"].contains(&word.as_str()) => {
            return Some(bytes.clone());
        }
        Manner::Says(_) | Manner::Well => {}
    }
    Some(match word.as_str() {
        "HELLO" => b"%1\r\n+server\r\n+redis\r\n".to_vec(),
        "SUBSCRIBE" => {
            let mut push = b">3\r\n$9\r\nsubscribe\r\n".to_vec();
            push.extend(bulk(&command[1]));
            push.extend(b":1\r\n");
            push
        }
        "PING" => bulk(&command[1]),
        "ROLE" => [b"*1\r\n".as_slice(), &bulk(role.as_bytes())].concat(),
        "EVALSHA" if command[1] == LOOK_STEP.hash.as_bytes() => b"*0\r\n".to_vec(),
        "EVALSHA" if command[1] == PAUSE_STEP.hash.as_bytes() => b"_\r\n".to_vec(),
        "EVALSHA"
            if [&QUARANTINES_STEP, &BEAT_STEP]
                .iter()
                .any(|step| command[1] == step.hash.as_bytes()) =>
        {
            b"*1\r\n:0\r\n".to_vec()
        }
        "EVALSHA" if command[1] == BEGIN_STEP.hash.as_bytes() => {
            b"*2\r\n$7\r\ngranted\r\n:1\r\n".to_vec()
        }
        "EVALSHA" => b":1\r\n".to_vec(),
        _ => b"+OK\r\n".to_vec(),
    })
}

/// The first whole command, and its length in bytes.
fn parse(buffer: &[u8]) -> Option<(Vec<Vec<u8>>, usize)> {
    let mut at = 0;
    let number = |at: &mut usize| -> Option<usize> {
        let end = buffer
            .get(*at..)?
            .windows(2)
            .position(|pair| pair == b"\r\n")?;
        let line = std::str::from_utf8(&buffer[*at + 1..*at + end]).unwrap();
        *at += end + 2;
        Some(line.parse().unwrap())
    };
    let count = number(&mut at)?;
    let mut command = Vec::new();
    for _ in 0..count {
        let length = number(&mut at)?;
        command.push(buffer.get(at..at + length)?.to_vec());
        at += length + 2;
    }
    (at <= buffer.len()).then_some((command, at))
}
