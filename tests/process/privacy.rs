//! What others on the machine can see of the process.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::Command,
};

use rustix::process::{Signal, geteuid};

use crate::{
    broker::{Broker, PROGRAM, machine},
    trial::{Setup, Site, ask, client_secret},
};

/// A user without rights, for a test that root runs.
const NOBODY: u32 = 65_534;

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_is_shown_to_nobody_and_dumped_nowhere() {
    let _machine = machine().await;
    let site = site().await;
    let folder = site.folder.path();
    let program = folder.join("token-broker");
    fs::copy(PROGRAM, &program).unwrap();
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -Sc unlimited; exec \"$0\" \"$@\""])
        .arg(&program)
        .current_dir(folder);
    // Root may look into everything, so that only another user's process tells.
    if geteuid().is_root() {
        give_away(folder);
        command.uid(NOBODY).gid(NOBODY);
    }
    let mut broker = Broker::run(command, &site).await;
    ask(&mut broker.client(&site).await, "d0").await.unwrap();

    let limits = broker.proc("limits").unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let core: Vec<_> = core.unwrap().split_whitespace().skip(4).collect();
    println!("core file size: {core:?}");
    assert_eq!(core, ["0", "0", "bytes"]);

    // The files of a process that is not dumpable belong to root (proc(5)).
    let owner = fs::metadata(format!("/proc/{}/environ", broker.id()))
        .unwrap()
        .uid();
    let user = broker.status("Uid");
    println!("the process belongs to user {user}, what it holds to {owner}");
    assert_ne!(user, 0, "root owns whatever it runs");
    assert_eq!(owner, 0);

    broker.signal(Signal::ABORT);
    let (status, _) = broker.ended().await;
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()));
    assert!(!status.core_dumped());
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_in_files_are_in_neither_arguments_nor_environment() {
    let _machine = machine().await;
    let site = site().await;
    let broker = Broker::start(&site).await;
    let token = ask(&mut broker.client(&site).await, "d0")
        .await
        .unwrap()
        .access_token;
    let key = fs::read_to_string(site.folder.path().join("server.key")).unwrap();
    let key = key.lines().nth(1).unwrap();
    for name in ["cmdline", "environ"] {
        match broker.proc(name) {
            Ok(text) => {
                println!("{name}: {} bytes", text.len());
                for secret in [&client_secret("d0"), &token, key] {
                    assert!(!text.contains(secret), "{name}");
                }
            }
            Err(error) => assert_eq!(
                (name, error.kind()),
                ("environ", std::io::ErrorKind::PermissionDenied)
            ),
        }
    }
}

async fn site() -> Site {
    Site::new(Setup {
        destinations: 1,
        ..Setup::default()
    })
    .await
}

/// Makes a folder, and all in it, that user's.
fn give_away(path: &std::path::Path) {
    chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    if path.is_dir() {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
        for entry in fs::read_dir(path).unwrap() {
            give_away(&entry.unwrap().path());
        }
    }
}
