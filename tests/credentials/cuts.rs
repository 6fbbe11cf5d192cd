//! A store that is cut short, at every byte.

use token_broker::config::Config;

use crate::{
    counters::reloads,
    line::Line,
    steady::Steady,
    store::setup,
    trial::{CART, Trial},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_cut_at_any_byte_is_refused_and_no_call_fails() {
    let trial = Trial::start(setup()).await;
    let steady = Steady::start(Line::of(&trial, CART).await);
    steady.goes_on().await;
    let whole = trial.text("credentials.age");
    let end = "-----END AGE ENCRYPTED FILE-----\n";
    assert!(whole.ends_with(end));
    // Without the line break at its end the file is as whole as with it.
    let cuts = whole.len() - 1;
    let mut refused = 0;
    for cut in 0..cuts {
        trial.write("credentials.age", &whole[..cut]);
        assert!(Config::load(&trial.config()).is_err(), "cut at {cut}");
        trial.app.reload();
        let before = refused;
        while refused == before {
            refused = trial.counted(&reloads("refused")).await;
        }
    }
    assert_eq!(trial.counted(&reloads("ok")).await, 0);
    assert!(refused >= cuts as u64);
    trial.write("credentials.age", whole.trim_end());
    trial.app.reload();
    trial.until_counted(&reloads("ok"), 1).await;
    let calls = steady.stop().await;
    println!("{cuts} cuts, {calls} calls answered, none failed");
    assert_eq!(
        trial.upstream.calls(),
        1,
        "the set was the old one all the time"
    );
}
