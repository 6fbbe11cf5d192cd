//! An API that rejects the first token it sees, and takes every other.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// It answers until the process of the tests ends.
pub(crate) struct Api {
    pub(crate) url: String,
    presented: Arc<Mutex<Vec<String>>>,
}

impl Api {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/products", listener.local_addr().unwrap());
        let presented = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&presented);
        thread::spawn(move || {
            for stream in listener.incoming() {
                // Some clients open a connection before they have anything to say.
                let seen = Arc::clone(&seen);
                thread::spawn(move || answer(&stream.unwrap(), &seen));
            }
        });
        Self { url, presented }
    }

    /// The `Authorization` headers of all requests.
    pub(crate) fn presented(&self) -> Vec<String> {
        self.presented.lock().unwrap().clone()
    }
}

/// Answers one request, and closes the connection.
fn answer(mut stream: &TcpStream, presented: &Mutex<Vec<String>>) {
    let mut token = None;
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { return };
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("authorization")
        {
            token = Some(value.to_owned());
        }
    }
    let Some(token) = token else { return };
    let (status, body) = {
        let mut presented = presented.lock().unwrap();
        presented.push(token);
        if presented.first() == presented.last() {
            ("401 Unauthorized", "expired")
        } else {
            ("200 OK", "three products")
        }
    };
    let length = body.len();
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
}
