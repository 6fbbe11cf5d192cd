//! The commands as a script sees them.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use token_broker::upstream::standin::Behaviour;

use crate::{
    desk::{Desk, OPS},
    trial::{CART, STRANGER, ask},
};

/// The client commands of one caller.
pub(crate) struct Shell {
    endpoint: String,
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

impl Shell {
    pub(crate) fn of(desk: &Desk, caller: &str) -> Self {
        let folder = desk.site.folder.path();
        let signed = desk.site.authority.client(caller).unwrap();
        let shell = Self {
            endpoint: format!("https://{}", desk.app.address()),
            ca: folder.join("ca.pem"),
            cert: folder.join("client.pem"),
            key: folder.join("client.key"),
        };
        fs::write(&shell.cert, &signed.certificate).unwrap();
        fs::write(&shell.key, signed.key.expose()).unwrap();
        shell
    }

    /// Goes there instead.
    pub(crate) fn through(self, address: SocketAddr) -> Self {
        let endpoint = format!("https://{address}");
        Self { endpoint, ..self }
    }

    pub(crate) fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_token-broker"));
        command.args(words.split(' '));
        self.connect(&mut command);
        command
    }

    /// Tells a program how to connect.
    pub(crate) fn connect(&self, command: &mut Command) {
        command
            .env("TOKEN_BROKER_ENDPOINT", &self.endpoint)
            .env("TOKEN_BROKER_CA", &self.ca)
            .env("TOKEN_BROKER_CERT", &self.cert)
            .env("TOKEN_BROKER_KEY", &self.key);
    }

    /// The exit code and both outputs.
    async fn run(&self, words: &str) -> (Option<i32>, String, String) {
        let mut command = self.command(words);
        let output = tokio::task::spawn_blocking(move || command.output()).await;
        let Output {
            status,
            stdout,
            stderr,
        } = output.unwrap().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code(), text(stdout), text(stderr))
    }
}

fn said(code: i32, stdout: &str, stderr: &str) -> (Option<i32>, String, String) {
    (Some(code), stdout.to_owned(), stderr.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn list_shows_a_table_and_what_to_see_to() {
    let desk = Desk::with(3).await;
    let upstream = &desk.site.upstream;
    upstream.behave_for("d1", Some(Behaviour::status(401)));
    let mut cart = desk.cart().await;
    ask(&mut cart, "d0").await.unwrap();
    ask(&mut cart, "d1").await.unwrap_err();
    desk.ops().await.quarantine("d2", "").await.unwrap();
    let shell = Shell::of(&desk, OPS);
    let (code, stdout, stderr) = shell.run("destination list").await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let lines: Vec<_> = stdout.lines().collect();
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>(),
        "DESTINATION APPLICATION STATE EXPIRES NEXT RUNWAY USED LAST FAILURE"
            .split(' ')
            .collect::<Vec<_>>()
    );
    let words = |line: usize| lines[line].split_whitespace().collect::<Vec<_>>();
    assert_eq!(words(1)[..2], ["public", "unprotected"]);
    assert_eq!(words(2)[..4], ["name-of-d0", "shop", "fresh", "59m"]);
    assert_eq!(words(3)[..4], ["name-of-d1", "shop", "failing", "-"]);
    assert_eq!(words(3).last(), Some(&"CREDENTIAL_REJECTED"));
    assert_eq!(words(4)[..3], ["name-of-d2", "shop", "quarantined"]);
    assert_eq!(lines[5], "");
    assert_eq!(
        lines[6],
        "! name-of-d1 (shop): credential_rejected: the token endpoint rejects file:d1"
    );
    assert_eq!(
        lines[7],
        "! name-of-d1 (shop): runway_short: minting fails, and there is no token for callers"
    );
    let since = "! name-of-d2 (shop): quarantined since 20";
    assert!(lines[8].starts_with(since), "{stdout}");
    assert!(
        lines[8].ends_with(&format!(" by {OPS}: it leaks")),
        "{stdout}"
    );
    assert_eq!(lines.len(), 9);

    let (code, stdout, _) = shell.run("destination list --output json").await;
    assert_eq!(code, Some(0));
    let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(json["destinations"].as_array().unwrap().len(), 4);
    assert_eq!(json["destinations"][1]["callers"][0], CART);
    assert!(!stdout.contains("canary"), "no secret");
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_prints_a_table_for_each_change_where_there_is_no_terminal() {
    let desk = Desk::with(1).await;
    let shell = Shell::of(&desk, OPS);
    let mut child = shell
        .command("destination list --watch --output json")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || {
        let line = tokio::task::block_in_place(|| lines.next().unwrap().unwrap());
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        json["destinations"][1]["state"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(next(), "cold");
    ask(&mut desk.cart().await, "d0").await.unwrap();
    assert_eq!(next(), "fresh");
    desk.ops().await.quarantine("d0", "").await.unwrap();
    assert_eq!(next(), "quarantined");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_ends_with_0_for_granted_and_1_for_not() {
    let desk = Desk::with(1).await;
    let shell = Shell::of(&desk, OPS);
    let explain = format!("destination explain name-of-d0 --caller {CART}");
    assert_eq!(
        shell.run(&explain).await,
        said(
            0,
            "granted: grant 1 of name-of-d0: callers \"spiffe://corp.example/ns/shop/sa/*\", application \"shop\"\nthe broker mints a token and lets the caller wait for it\n",
            ""
        )
    );
    let explain = format!("destination explain d0 --caller {STRANGER}");
    assert_eq!(
        shell.run(&explain).await,
        said(
            1,
            "not granted: none of the 2 caller patterns of name-of-d0 matches\nthe broker refuses with NOT_GRANTED and does not look at the cache\n",
            ""
        )
    );
    let (code, stdout, _) = shell.run(&format!("{explain} --output json")).await;
    let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        (code, &json["granted"]),
        (Some(1), &serde_json::Value::Bool(false))
    );
    assert_eq!(
        shell
            .run(&format!("destination explain unknown --caller {CART}"))
            .await,
        said(
            1,
            "",
            "NO_SUCH_DESTINATION: no destination has this id or name: list them with `token-broker destination list`\n"
        )
    );
    assert_eq!(desk.site.upstream.calls(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_quarantine_and_release_say_what_they_did() {
    let desk = Desk::with(1).await;
    let shell = Shell::of(&desk, OPS);
    let (code, stdout, stderr) = shell.run("destination refresh d0").await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let token = ask(&mut desk.cart().await, "d0").await.unwrap().token_id;
    assert!(
        stdout.starts_with(&format!("shop: token {token}, expires 20")),
        "{stdout}"
    );
    desk.site.upstream.behave(Behaviour::status(401));
    let failed = shell.run("destination refresh d0 --application shop").await;
    assert_eq!(failed, said(1, "", "shop: CREDENTIAL_REJECTED\n"));
    let stopped = shell
        .run("destination quarantine name-of-d0 --comment leaked")
        .await;
    assert_eq!(stopped, said(0, "stopped: name-of-d0 (shop)\n", ""));
    let (code, stdout, stderr) = shell.run("destination release d0 --application shop").await;
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.starts_with("STOPPED_AS_ONE: "), "{stderr}");
    let released = shell.run("destination release d0").await;
    assert_eq!(released, said(0, "released: d0 (shop)\n", ""));
    let again = shell.run("destination release d0").await;
    assert_eq!(again, said(0, "nothing of d0 was stopped here\n", ""));
    shell
        .run("destination quarantine d0 --comment leaked")
        .await;
    // Where the draft belongs there is something that cannot be replaced.
    fs::create_dir(desk.site.folder.path().join(".state.json.new")).unwrap();
    let unwritten = shell.run("destination release d0").await;
    let warning =
        "the state file cannot be written: what it says is stopped, a restart stops again\n";
    assert_eq!(unwritten, said(0, "released: d0 (shop)\n", warning));
    let unknown = shell
        .run("destination release d0 --application depot")
        .await;
    assert_eq!((unknown.0, unknown.1.as_str()), (Some(1), ""));
    assert!(
        unknown.2.starts_with("NO_SUCH_APPLICATION: "),
        "{}",
        unknown.2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unused_grants_are_a_table_or_json() {
    let desk = Desk::with(1).await;
    let shell = Shell::of(&desk, OPS);
    let none = shell.run("grants unused").await;
    assert_eq!(none, said(0, "everything was used\n", ""));
    let (code, stdout, _) = shell.run("grants unused --for 0s").await;
    assert_eq!(code, Some(0));
    let rows: Vec<Vec<_>> = stdout
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows.len(), 5);
    assert_eq!(rows[1][..3], ["d0", "shop", "never"]);
    assert_eq!(rows[1][4], "cart.corp.example");
    assert_eq!((rows[4][0], rows[4][2]), ("never", "file:d0"));
    let (_, stdout, _) = shell.run("grants unused --for 0s --output json").await;
    let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(json["unused"][0]["kind"], "grant");
    assert_eq!(json["unused"][0]["caller_pattern"], "cart.corp.example");
    assert_eq!(json["unused"][3]["kind"], "credential");
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_prints_changes_or_every_mistake() {
    let desk = Desk::with(1).await;
    let shell = Shell::of(&desk, OPS);
    let nothing = shell.run("reload").await;
    assert_eq!(nothing, said(0, "nothing has changed\n", ""));
    let config = desk.text("broker.toml");
    desk.write("broker.toml", &format!("{config}\n[cach]\n[telemetri]\n"));
    let (code, stdout, stderr) = shell.run("reload").await;
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    let lines: Vec<_> = stderr.lines().collect();
    assert!(lines[0].starts_with("RELOAD_REFUSED: what was read has mistakes"));
    assert!(
        lines[1].ends_with(": unknown key \"cach\": write \"cache\""),
        "{stderr}"
    );
    assert!(lines[2].ends_with(": unknown key \"telemetri\": write \"telemetry\""));
    assert_eq!(lines.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_no_administrator_is_told_so_by_every_command() {
    let desk = Desk::with(1).await;
    let shell = Shell::of(&desk, CART);
    for words in [
        "destination list",
        "destination explain d0 --caller a.example",
        "destination refresh d0",
        "destination quarantine d0 --comment x",
        "destination release d0",
        "grants unused",
        "reload",
    ] {
        assert_eq!(
            shell.run(words).await,
            said(
                1,
                "",
                "NOT_ADMINISTRATOR: this caller is no administrator: the broker's operator can name it in [admin] allow\n"
            ),
            "{words}"
        );
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_token-broker"));
    command.args(["destination", "list"]).env_clear();
    assert_eq!(
        command.output().unwrap().status.code(),
        Some(2),
        "it cannot connect"
    );
}
