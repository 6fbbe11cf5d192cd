//! What the broker does with the file that outlives it.

use std::fs;

use token_broker::{
    app::{self, App},
    config::Config,
};

use crate::{
    desk::{ADMIN, Desk},
    trial::{Setup, Site, ask},
};

/// The files of a broker that was not started yet.
async fn site() -> Site {
    let site = Site::new(Setup {
        destinations: 1,
        ..Setup::default()
    })
    .await;
    let config = fs::read_to_string(site.config()).unwrap();
    fs::write(site.config(), format!("{config}\n[admin]\n{ADMIN}\n")).unwrap();
    site
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_or_foreign_file_keeps_the_broker_from_starting_and_is_left_alone() {
    let site = site().await;
    let path = site.folder.path().join("state.json");
    for content in ["", "{", "[server]", r#"{"format":"other","version":1}"#] {
        fs::write(&path, content).unwrap();
        let error = App::start(&site.config()).await.err().unwrap().to_string();
        let expected = format!("the state file {}: it holds no state", path.display());
        assert!(error.starts_with(&expected), "{error}");
        let config = Config::load(&site.config()).unwrap();
        let checked = app::check(&config).unwrap_err().to_string();
        assert_eq!(checked, error, "a check finds it as well");
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
    fs::remove_file(&path).unwrap();
    let app = App::start(&site.config()).await.unwrap();
    assert!(path.exists(), "it is written at the start");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_written_keeps_the_broker_from_starting() {
    let site = site().await;
    // Where the draft belongs there is something that cannot be replaced.
    fs::create_dir(site.folder.path().join(".state.json.new")).unwrap();
    let error = App::start(&site.config()).await.err().unwrap().to_string();
    assert!(
        error.contains("state.json: it cannot be written"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantine_is_written_before_it_is_answered() {
    let desk = Desk::with(1).await;
    ask(&mut desk.cart().await, "d0").await.unwrap();
    assert!(!desk.text("state.json").contains("it leaks"));
    desk.ops().await.quarantine("d0", "").await.unwrap();
    let written = desk.text("state.json");
    assert!(written.contains("it leaks"));
    assert!(written.contains("\"last_used\": 1"), "{written}");
    // When it cannot be written, it is in force all the same.
    desk.ops().await.release("d0", "").await.unwrap();
    let obstacle = desk.site.folder.path().join(".state.json.new");
    fs::create_dir(&obstacle).unwrap();
    let stopped = desk.ops().await.quarantine("d0", "").await.unwrap();
    assert!(!stopped.kept);
    ask(&mut desk.cart().await, "d0").await.unwrap_err();
    // So is a release, which says that a restart does not know of it.
    fs::remove_dir(&obstacle).unwrap();
    let stopped = desk.ops().await.quarantine("d0", "").await.unwrap();
    assert!(stopped.kept);
    fs::create_dir(&obstacle).unwrap();
    let released = desk.ops().await.release("d0", "").await.unwrap();
    assert!(!released.kept);
    ask(&mut desk.cart().await, "d0").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_file_is_no_part_of_what_is_watched() {
    let desk = Desk::with(1).await;
    let ops = desk.ops().await;
    ops.quarantine("d0", "").await.unwrap();
    ops.release("d0", "").await.unwrap();
    // Four looks at the files later nothing has been read again.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(desk.metrics("token_broker_reloads_total").await.is_empty());
}
