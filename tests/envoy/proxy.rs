//! Envoy in a process of its own.

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// When a proxy that does not answer is given up. It waits 5 s for a secret.
const GIVE_UP: Duration = Duration::from_secs(60);

/// A running proxy. Dropped, it is killed.
pub(crate) struct Proxy {
    child: Child,
    pub(crate) address: SocketAddr,
    folder: TempDir,
}

impl Proxy {
    /// Starts Envoy with a configuration in which each text on the left stands, and is
    /// replaced with the one on the right; and with the files that are named by it.
    pub(crate) async fn start(
        configuration: &str,
        changes: &[(&str, &str)],
        files: &[(&str, &str)],
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = free_address();
        let port = format!("port_value: {}", address.port());
        let tls = folder.path().display().to_string();
        let mut text = configuration.to_owned();
        for (from, to) in changes.iter().copied().chain([
            ("port_value: 15001", port.as_str()),
            ("/etc/envoy/tls", &tls),
        ]) {
            assert!(text.contains(from), "{from} is not in the configuration");
            text = text.replace(from, to);
        }
        for (name, content) in files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        let file = folder.path().join("envoy.yaml");
        fs::write(&file, text).unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new(program())
            .arg("--config-path")
            .arg(file)
            .args(["--log-level", "warning", "--concurrency", "1"])
            // Several of them run at once.
            .arg("--disable-hot-restart")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("Envoy starts; tests/envoy/run installs it");
        let mut proxy = Self {
            child,
            address,
            folder,
        };
        proxy.answers().await;
        proxy
    }

    /// Waits until it takes connections.
    async fn answers(&mut self) {
        let begun = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "Envoy ended: {ended:?}\n{}", self.log());
            assert!(begun.elapsed() < GIVE_UP, "no answer\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What it said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> PathBuf {
    let program =
        env::var_os("ENVOY").expect("the variable ENVOY names Envoy: see tests/envoy/run");
    program.into()
}

fn free_address() -> SocketAddr {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    free.local_addr().unwrap()
}
