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
    /// Redirects to another host, which rejects everybody.
    pub(crate) moved: String,
    presented: Presented,
    strayed: Presented,
}

/// The `Authorization` headers of all requests; where there was none it is empty.
type Presented = Arc<Mutex<Vec<String>>>;

impl Api {
    pub(crate) fn start() -> Self {
        let strayed = Presented::default();
        let seen = Arc::clone(&strayed);
        let port = serve(move |_, token| {
            seen.lock().unwrap().push(token);
            response("401 Unauthorized", "", "who are you")
        });
        let location = format!("Location: http://localhost:{port}/products\r\n");
        let presented = Presented::default();
        let seen = Arc::clone(&presented);
        let port = serve(move |path, token| {
            if path == "/moved" {
                return response("302 Found", &location, "");
            }
            let mut seen = seen.lock().unwrap();
            seen.push(token);
            if seen.first() == seen.last() {
                response("401 Unauthorized", "", "expired")
            } else {
                response("200 OK", "", "three products")
            }
        });
        Self {
            url: format!("http://127.0.0.1:{port}/products"),
            moved: format!("http://127.0.0.1:{port}/moved"),
            presented,
            strayed,
        }
    }

    /// What was presented to the API itself.
    pub(crate) fn presented(&self) -> Vec<String> {
        self.presented.lock().unwrap().clone()
    }

    /// What was presented to the other host.
    pub(crate) fn strayed(&self) -> Vec<String> {
        self.strayed.lock().unwrap().clone()
    }
}

/// Answers one request on each connection, by its path and its token. Returns the port.
fn serve(answer: impl Fn(&str, String) -> String + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming() {
            // Some clients open a connection before they have anything to say.
            let answer = Arc::clone(&answer);
            thread::spawn(move || {
                let mut stream = stream.unwrap();
                if let Some((path, token)) = read(&stream) {
                    let _ = stream.write_all(answer(&path, token).as_bytes());
                }
            });
        }
    });
    port
}

fn read(stream: &TcpStream) -> Option<(String, String)> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next()?.ok()?;
    let path = request.split(' ').nth(1)?.to_owned();
    let mut token = String::new();
    for line in lines {
        let line = line.ok()?;
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("authorization")
        {
            value.clone_into(&mut token);
        }
    }
    Some((path, token))
}

fn response(status: &str, header: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{header}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}
