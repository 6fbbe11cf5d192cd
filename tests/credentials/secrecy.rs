//! Nothing secret is shown: not by the commands, not of their process, and not when somebody
//! writes a secret where an argument belongs.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::Path,
    process::{Child, Command},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::{
    broker::PROGRAM,
    store::{Ended, setup, start},
    trial::{Site, client_secret},
};

/// A user without rights, for a test that root runs.
const NOBODY: u32 = 65_534;
const CANARY: &str = "s3cr3t-canary";

/// Runs the program with these words.
fn typed(site: &Site, words: &[String]) -> Ended {
    let mut command = Command::new(PROGRAM);
    command
        .args(words)
        .env("TOKEN_BROKER_CONFIG", site.config());
    Ended::of(command.output().unwrap())
}

/// Flags that somebody may think of.
const FLAGS: [&str; 13] = [
    "--secret",
    "--client-secret",
    "--client_secret",
    "--secret-value",
    "--password",
    "--pass",
    "--private-key",
    "--key",
    "--token",
    "--value",
    "--secretfile",
    "-s",
    "-p",
];

/// Command lines with a secret where no secret belongs; `*` stands for it.
fn indiscretions() -> Vec<String> {
    let mut lines = Vec::new();
    for command in ["set", "rotate"] {
        let plain = [
            "credential C shop *",
            "credential C shop * --client-id id",
            "credential C shop --client-id id *",
            "credential C shop --client-id id -- *",
            "credential C -- shop *",
            "credential C -s* shop",
            "credential C shop=* --client-id id",
            "credential C shop:* --client-id id",
            "credential C *+/= --client-id id",
            "credential * C shop",
            "* credential C shop",
        ];
        lines.extend(plain.map(|line| line.replace('C', command)));
        for flag in FLAGS {
            let flagged = [
                "credential C shop --client-id id F *",
                "credential C shop --client-id id F=*",
                "credential C F * shop --client-id id",
                "credential F * C shop --client-id id",
                "credential F=* C shop",
                "F * credential C shop",
                "F=* credential C shop",
            ];
            let flagged = flagged.map(|line| line.replace('C', command).replace('F', flag));
            lines.extend(flagged);
        }
    }
    for line in [
        "credential *",
        "credential init *",
        "credential init --secret *",
        "credential list *",
        "credential list --secret *",
        "credential list --output *",
        "credential verify shop *",
        "credential verify shop --secret *",
        "credential verify *+/=",
        "credential verify vault:*",
        "credential remove shop *",
        "credential remove shop --secret *",
        "credential remove *+/=",
    ] {
        lines.push(line.to_owned());
    }
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_typed_as_an_argument_is_refused_and_not_repeated() {
    let site = Site::new(setup()).await;
    let before = fs::read(site.store_file()).unwrap();
    let lines = indiscretions();
    assert_eq!(lines.len(), 217);
    for line in lines {
        let words = line.split(' ').map(|word| word.replace('*', CANARY));
        let ended = typed(&site, &words.collect::<Vec<_>>());
        assert_eq!(ended.code, Some(2), "{line}: {ended:?}");
        let said = format!("{}{}", ended.out, ended.err);
        assert!(!said.contains(CANARY), "{line}: {said}");
        for advice in [
            "Pipe it",
            "--secret-file",
            "typed",
            "history of the shell",
            "have it reset",
        ] {
            assert!(said.contains(advice), "{line}: {said}");
        }
    }
    assert_eq!(fs::read(site.store_file()).unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_command_shows_what_is_stored() {
    let site = Site::new(setup()).await;
    let mut said = Vec::new();
    let mut run = |words: &str, input: &str| {
        let ended = site.run(words, input);
        said.push(format!("{words}: {}{}", ended.out, ended.err));
    };
    let echo = format!("canary-{}", "x".repeat(40));
    site.upstream.register("d0", "second", &echo);
    run("set shop --client-id id", &echo);
    run("set shop --client-id id --no-verify", &echo);
    run("set shop --client-id id --no-verify", &echo);
    run("verify shop --destination d0", "");
    run("rotate d0 --client-id second", "canary-wrong");
    run("rotate d0 --client-id second", &echo);
    run("rotate d0", "canary-again");
    for words in [
        "list",
        "list --output json",
        "verify",
        "verify --output json",
        "rotate d0 --finish",
    ] {
        run(words, "");
    }
    run("rotate d0", &echo);
    run("rotate d0 --no-verify", "canary-next");
    run("rotate d0 --abort", "");
    run("remove d0", "");
    run("remove d0 --force", "");
    let key = fs::read_to_string(site.folder.path().join("broker.key")).unwrap();
    let key = key.lines().last().unwrap();
    assert_eq!(said.len(), 17);
    for said in said {
        for secret in ["canary", key, &client_secret("d0")] {
            assert!(!said.contains(secret), "{said}");
        }
    }
    let store = fs::read_to_string(site.store_file()).unwrap();
    assert!(!store.contains("canary") && !store.contains("client-of"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_waits_for_its_secret_shows_nothing_of_it() {
    let site = Site::new(setup()).await;
    let folder = site.folder.path();
    let program = folder.join("token-broker");
    fs::copy(PROGRAM, &program).unwrap();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "ulimit -Sc unlimited; exec \"$0\" \"$@\""])
        .arg(&program)
        .args([
            "credential",
            "set",
            "shop",
            "--client-id",
            "id",
            "--no-verify",
        ])
        .env("TOKEN_BROKER_CONFIG", site.config())
        .current_dir(folder);
    // Root may look into everything, so that only another user's process tells.
    if geteuid().is_root() {
        give_away(folder);
        shell.uid(NOBODY).gid(NOBODY);
    }
    let mut child = start(&mut shell, CANARY);
    until_it_reads(&child);
    let of = |name: &str| format!("/proc/{}/{name}", child.id());
    for (name, known) in [
        ("cmdline", "--client-id"),
        ("environ", "TOKEN_BROKER_CONFIG"),
    ] {
        match fs::read(of(name)) {
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                assert!(!text.contains(CANARY), "{name}: {text}");
                assert!(text.contains(known), "{name}: {text}");
            }
            Err(error) => assert_eq!(
                (name, error.kind()),
                ("environ", std::io::ErrorKind::PermissionDenied)
            ),
        }
    }
    let limits = fs::read_to_string(of("limits")).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let core: Vec<_> = core.unwrap().split_whitespace().skip(4).collect();
    assert_eq!(core, ["0", "0", "bytes"]);
    // The files of a process that is not dumpable belong to root (proc(5)).
    assert_eq!(fs::metadata(of("environ")).unwrap().uid(), 0);

    kill_process(Pid::from_child(&child), Signal::ABORT).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()));
    assert!(!status.core_dumped());
    assert_eq!(site.stored().len(), 1);
}

/// Waits until a command has taken what is in its pipe and waits for more of it.
fn until_it_reads(child: &Child) {
    let asked = Instant::now();
    // What it waits in is shown to root alone, so its state has to do: it sleeps, and
    // is the program already, whose memory is private.
    loop {
        let limits = fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
        let is_private = limits.lines().any(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            line.starts_with("Max core file size") && words[4..6] == ["0", "0"]
        });
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        let (_, state) = stat.rsplit_once(") ").unwrap();
        if is_private && state.starts_with('S') {
            return;
        }
        assert!(
            asked.elapsed() < Duration::from_secs(60),
            "it does not wait: {stat}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Makes a folder, and all in it, that user's.
fn give_away(path: &Path) {
    chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    if path.is_dir() {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
        for entry in fs::read_dir(path).unwrap() {
            give_away(&entry.unwrap().path());
        }
    }
}
