//! Real servers, which end with the test.

use std::{
    fs,
    future::Future,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// What a test waits for comes within this, or never.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A server of Redis or a sentinel, killed when it is dropped.
pub(super) struct Server {
    pub(super) port: u16,
    pub(super) folder: TempDir,
    program: &'static str,
    child: Child,
}

impl Server {
    /// A server with these lines of configuration.
    pub(super) fn start(lines: &str) -> Self {
        Self::start_at(free_port(), "redis-server", lines)
    }

    pub(super) fn start_at(port: u16, program: &'static str, lines: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let own = format!(
            "dir {}\nbind 127.0.0.1\nloglevel warning\n",
            folder.path().display()
        );
        let port_line = if lines.contains("tls-port") {
            "port 0\n".to_owned()
        } else {
            format!("port {port}\n")
        };
        let memory = if program == "redis-server" {
            "save \"\"\n"
        } else {
            ""
        };
        let lines =
            format!("{own}{port_line}{memory}{lines}").replace("TLSPORT", &port.to_string());
        fs::write(folder.path().join("server.conf"), lines).unwrap();
        let child = launch(program, folder.path());
        let server = Self {
            port,
            folder,
            program,
            child,
        };
        server.wait_until_it_accepts();
        server
    }

    /// Kills it, and starts it again where it was.
    pub(super) fn restart(&mut self) {
        self.kill();
        self.child = launch(self.program, self.folder.path());
        self.wait_until_it_accepts();
    }

    pub(super) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends it a signal, such as `STOP`.
    pub(super) fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .arg(format!("-{signal}"))
            .arg(self.child.id().to_string())
            .status();
        assert!(sent.unwrap().success());
    }

    /// What `redis-cli` prints.
    pub(super) fn cli(&self, arguments: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["-p", &self.port.to_string()])
            .args(arguments)
            .output()
            .expect("redis-cli is installed");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn wait_until_it_accepts(&self) {
        let deadline = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "no server on {}", self.port);
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until a condition holds.
pub(super) async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(super) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn launch(program: &str, folder: &Path) -> Child {
    Command::new(program)
        .arg(folder.join("server.conf"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis is installed")
}
