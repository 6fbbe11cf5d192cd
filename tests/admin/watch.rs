//! `destination list --watch`, as a program reads it and as a terminal shows it.

use std::{
    io::{BufRead as _, BufReader, Read, Write as _},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
};

use rustix::process::{Pid, Signal, kill_process};
use token_broker::upstream::standin::Behaviour;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    task::block_in_place,
};

use crate::{
    commands::Shell,
    desk::{Desk, OPS},
    trial::{CART, GIVE_UP, ask},
};

/// What a program prints, line by line.
struct Lines(mpsc::Receiver<String>);

impl Lines {
    fn of(from: impl Read + Send + 'static) -> Self {
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    break;
                }
            }
        });
        Self(told)
    }

    /// Waits for a line with this text.
    fn until(&self, text: &str) -> String {
        block_in_place(|| {
            loop {
                let line = self.0.recv_timeout(GIVE_UP);
                let line = line.unwrap_or_else(|_| panic!("never: {text}"));
                if line.contains(text) {
                    return line;
                }
            }
        })
    }
}

fn ended(child: &mut Child) -> Option<i32> {
    block_in_place(|| child.wait()).unwrap().code()
}

/// A broker that is started again where it was.
async fn settled(destinations: usize) -> Desk {
    let desk = Desk::with(destinations).await;
    let address = desk.app.address();
    desk.reconfigure(
        "listen = \"127.0.0.1:0\"\ncert",
        &format!("listen = \"{address}\"\ncert"),
    );
    desk
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_outlives_a_restart_says_so_and_ends_with_0() {
    let desk = settled(1).await;
    let shell = Shell::of(&desk, OPS);
    let mut child = shell
        .command("destination list --watch=100ms --output json --timeout 1s")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lists = Lines::of(child.stdout.take().unwrap());
    let events = Lines::of(child.stderr.take().unwrap());
    lists.until("\"state\":\"cold\"");
    ask(&mut desk.cart().await, "d0").await.unwrap();
    let fresh = lists.until("\"state\":\"fresh\"");
    let fresh: serde_json::Value = serde_json::from_str(&fresh).unwrap();
    let first = &fresh["destinations"][1];
    for moment in ["requested_at", "served_until", "expires_at"] {
        assert!(first[moment].is_string(), "{moment}: {first}");
    }
    assert_eq!(first["failures_in_a_row"], 0);

    let Desk { app, site } = desk;
    app.stop().await;
    events.until("\"reason\":\"UNAVAILABLE\"");
    let app = token_broker::app::App::start(&site.config()).await.unwrap();
    let desk = Desk { app, site };
    events.until("\"reason\":\"STARTED\"");
    // It has forgotten its tokens, which is news.
    lists.until("\"state\":\"cold\"");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(ended(&mut child), Some(0));
    drop(desk);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_waits_for_a_broker_and_ends_where_waiting_cannot_help() {
    let desk = settled(1).await;
    let shell = Shell::of(&desk, CART);
    let refused = block_in_place(|| shell.command("destination list --watch").output()).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.starts_with("NOT_ADMINISTRATOR: "), "{said}");
    for words in ["--watch=1", "--watch=10ms", "--watch 1s"] {
        let command = format!("destination list {words}");
        let wrong = block_in_place(|| shell.command(&command).output()).unwrap();
        assert_eq!(wrong.status.code(), Some(2), "{words}");
    }
    let shell = Shell::of(&desk, OPS);
    let Desk { app, site } = desk;
    app.stop().await;
    let mut child = shell
        .command("destination list --watch=100ms")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let events = Lines::of(child.stderr.take().unwrap());
    let lines = Lines::of(child.stdout.take().unwrap());
    events.until("UNAVAILABLE: ");
    let app = token_broker::app::App::start(&site.config()).await.unwrap();
    lines.until("DESTINATION");
    events.until("ANSWERS: the broker answers again");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(ended(&mut child), Some(0));
    app.stop().await;
}

/// A way to the broker on which each look of a watch is seen to go by.
struct Passage {
    address: SocketAddr,
    asked: mpsc::Receiver<()>,
}

impl Passage {
    /// Both ways it lets through whatever comes.
    async fn to(broker: SocketAddr) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (tell, asked) = mpsc::channel();
        tokio::spawn(async move {
            let (watch, _) = socket.accept().await.unwrap();
            let broker = TcpStream::connect(broker).await.unwrap();
            let (mut asking, mut told) = watch.into_split();
            let (mut answering, mut on) = broker.into_split();
            tokio::spawn(async move { copy(&mut answering, &mut told).await });
            let mut bytes = [0; 16 * 1024];
            while let Ok(length @ 1..) = asking.read(&mut bytes).await {
                on.write_all(&bytes[..length]).await.unwrap();
                if tell.send(()).is_err() {
                    break;
                }
            }
        });
        Self { address, asked }
    }

    /// Waits until it has been asked so often.
    fn seen(&self, often: usize) {
        block_in_place(|| {
            for _ in 0..often {
                self.asked.recv_timeout(GIVE_UP).unwrap();
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_printed_once_while_nothing_changes() {
    let desk = Desk::with(1).await;
    ask(&mut desk.cart().await, "d0").await.unwrap();
    let passage = Passage::to(desk.app.address()).await;
    let shell = Shell::of(&desk, OPS).through(passage.address);
    let mut child = shell
        .command("destination list --watch=100ms --output json")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lists = Lines::of(child.stdout.take().unwrap());
    lists.until("\"state\":\"fresh\"");
    // A look takes some four pieces: the question, and what HTTP/2 has to say beside it.
    passage.seen(40);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(ended(&mut child), Some(0));
    let more: Vec<_> = block_in_place(|| lists.0.iter().collect());
    assert!(more.is_empty(), "{} more: {more:?}", more.len());
}

/// What a terminal is sent, so far.
struct Terminal {
    sent: mpsc::Receiver<Vec<u8>>,
    text: String,
}

impl Terminal {
    fn of(mut from: impl Read + Send + 'static) -> Self {
        let (tell, sent) = mpsc::channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = from.read(&mut bytes) {
                if tell.send(bytes[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        let text = String::new();
        Self { sent, text }
    }

    /// Waits until this was sent, after what was waited for before.
    fn until(&mut self, text: &str) {
        block_in_place(|| {
            loop {
                if let Some(at) = self.text.find(text) {
                    self.text.drain(..at + text.len());
                    return;
                }
                let Ok(more) = self.sent.recv_timeout(GIVE_UP) else {
                    panic!("never: {text:?}, but {:?}", self.text);
                };
                self.text.push_str(&String::from_utf8_lossy(&more));
            }
        });
    }
}

/// `script` of util-linux gives a program a terminal.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_redrawn_and_given_back() {
    let desk = Desk::with(6).await;
    let shell = Shell::of(&desk, OPS);
    // A small one: 50 columns and 8 rows.
    let typed = format!(
        "trap : INT; stty cols 50 rows 8; {} destination list --watch=100ms; echo ended with $?",
        env!("CARGO_BIN_EXE_token-broker")
    );
    let mut command = Command::new("script");
    command.args(["-qec", &typed, "/dev/null"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    shell.connect(&mut command);
    let mut child = command.spawn().unwrap();
    let mut keyboard = child.stdin.take().unwrap();
    let mut terminal = Terminal::of(child.stdout.take().unwrap());
    // The other screen, without a cursor and without wrapping; from its first corner on.
    terminal.until("\u{1b}[?1049h\u{1b}[?25l\u{1b}[?7l");
    terminal.until("\u{1b}[H");
    terminal.until("6 cold, 1 unprotected");
    terminal.until("name-of-d0");
    terminal.until("more lines");
    desk.site
        .upstream
        .behave_for("d5", Some(Behaviour::status(401)));
    ask(&mut desk.cart().await, "d5").await.unwrap_err();
    // The last of the file is the first to be seen.
    terminal.until("1 failing, 5 cold");
    terminal.until("DESTINATION");
    terminal.until("name-of-d5");
    terminal.until("\u{1b}[J");
    terminal.until("\u{1b}[H");
    let frame = {
        terminal.until("\u{1b}[H");
        let text = terminal.text.clone();
        text.split("\u{1b}[J").next().unwrap().to_owned()
    };
    assert!(frame.lines().count() <= 8, "{frame}");
    let widths = frame.replace("\u{1b}[K", "");
    assert!(
        widths.lines().all(|line| line.chars().count() <= 50),
        "{widths}"
    );
    // Ctrl-C.
    keyboard.write_all(b"\x03").unwrap();
    terminal.until("\u{1b}[?7h\u{1b}[?25h\u{1b}[?1049l");
    terminal.until("ended with 0");
    drop(keyboard);
    assert_eq!(ended(&mut child), Some(0));
}
