//! Whatever happens to a command that writes, the store is whole, and holds what it held
//! before or what it holds after.

use std::{
    fs,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    broker::PROGRAM,
    store::{Ended, pipe, setup, start},
    trial::Site,
};

/// How many commands are killed.
const KILLS: usize = 200;

fn files(site: &Site) -> Vec<String> {
    let names = fs::read_dir(site.folder.path()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_killed_leaves_the_old_store_or_the_new_one() {
    let site = Site::new(setup()).await;
    // A few kilobytes, so that writing takes a moment.
    for n in 0..40 {
        site.put(&format!("filler{n}"), "client", &"canary".repeat(20));
    }
    let before = files(&site);
    let set = |name: &str| site.command(&format!("set {name} --client-id id --no-verify"));
    let began = Instant::now();
    for n in 0..3 {
        Ended::of(pipe(&mut set(&format!("first{n}")), "secret")).done();
    }
    // Half as long again as it takes, so that some come to their end.
    let longest = began.elapsed() / 2;
    let mut stored = site.stored();
    let mut survived = 0;
    for n in 0..KILLS {
        let name = format!("n{n}");
        let mut child = start(&mut set(&name), "secret");
        drop(child.stdin.take());
        sleep(longest.mul_f64(rand::random()));
        child.kill().unwrap();
        child.wait().unwrap();
        let now = site.stored();
        let mut with_new = stored.clone();
        with_new.push((name, 1, None));
        with_new.sort();
        assert!(now == stored || now == with_new, "after {n} kills: {now:?}");
        survived += usize::from(now == with_new);
        stored = now;
    }
    println!("of {KILLS} killed commands {survived} had stored their credential");
    Ended::of(pipe(&mut set("last"), "secret")).done();
    assert_eq!(site.stored().len(), stored.len() + 1);
    assert_eq!(files(&site), before, "nothing is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_leaves_the_old_store() {
    let site = Site::new(setup()).await;
    for n in 0..20 {
        site.put(&format!("filler{n}"), "client", "secret");
    }
    let before = fs::read(site.store_file()).unwrap();
    let names = files(&site);
    assert!(before.len() > 2 * 1024);
    for kilobytes in [0, 1, 2] {
        let line = format!("trap '' XFSZ; ulimit -f {kilobytes}; exec \"$0\" \"$@\"");
        let mut shell = Command::new("bash");
        shell
            .args(["-c", &line, PROGRAM, "credential", "set", "new"])
            .args(["--client-id", "id", "--no-verify"])
            .env("TOKEN_BROKER_CONFIG", site.config());
        let refused = Ended::of(pipe(&mut shell, "secret")).failed();
        let expected = format!(
            "error: {} cannot be written, and is as it was before: File too large",
            site.store_file().display()
        );
        assert!(refused.starts_with(&expected), "{refused}");
        assert_eq!(refused.lines().count(), 1);
        assert!(fs::read(site.store_file()).unwrap() == before);
        assert_eq!(files(&site), names);
    }
    site.run("set new --client-id id --no-verify", "secret")
        .done();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_write_at_once_nobody_loses_anything() {
    const WRITERS: usize = 8;
    let site = Site::new(setup()).await;
    let writers: Vec<_> = (0..WRITERS)
        .map(|n| {
            let words = format!("set w{n} --client-id id --no-verify");
            let mut child = start(&mut site.command(&words), "secret");
            drop(child.stdin.take());
            child
        })
        .collect();
    let mut refused = 0;
    for (n, writer) in writers.into_iter().enumerate() {
        let ended = Ended::of(writer.wait_with_output().unwrap());
        let is_there = site
            .stored()
            .iter()
            .any(|(name, ..)| *name == format!("w{n}"));
        assert_eq!(ended.code == Some(0), is_there, "{ended:?}");
        if !is_there {
            refused += 1;
            assert!(ended.err.contains("is being written by another process"));
        }
    }
    // d0 was there before.
    assert_eq!(site.stored().len(), 1 + WRITERS - refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_waits_in_vain_says_so() {
    let site = Site::new(setup()).await;
    let folder = fs::File::open(site.folder.path()).unwrap();
    folder.lock().unwrap();
    let asked = Instant::now();
    let refused = site
        .run("set new --client-id id --no-verify", "secret")
        .failed();
    assert!(
        refused.contains("is being written by another process: try again"),
        "{refused}"
    );
    assert!(asked.elapsed() > Duration::from_secs(5), "it waited");
    assert_eq!(site.stored().len(), 1);
}
