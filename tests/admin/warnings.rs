//! Warnings, before callers notice.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, date_time_ymd};
use token_broker::{api::admin::v1::Warning, upstream::standin::Behaviour};

use crate::{
    desk::{ADMIN, Desk, until},
    trial::{Setup, ask},
};

fn codes(warnings: &[Warning]) -> Vec<&str> {
    let codes = warnings.iter().map(|warning| {
        assert!(warning.since.is_some() && !warning.message.is_empty());
        warning.code.as_str()
    });
    codes.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_credential_is_warned_of_until_it_works() {
    let desk = Desk::with(1).await;
    let (ops, mut cart) = (desk.ops().await, desk.cart().await);
    ask(&mut cart, "d0").await.unwrap();
    until("the runway is shown", async || {
        let runways = desk.metrics("token_broker_runway_seconds{").await;
        let [runway] = runways.as_slice() else {
            return false;
        };
        let series = r#"token_broker_runway_seconds{destination="d0",application="shop"} "#;
        let seconds: u64 = runway.strip_prefix(series).unwrap().parse().unwrap();
        assert!((3480..=3540).contains(&seconds), "{seconds}");
        true
    })
    .await;
    assert!(desk.metrics("token_broker_warnings{").await.is_empty());

    desk.site.upstream.behave(Behaviour::status(401));
    ops.refresh("d0", "").await.unwrap();
    let warned = ops.destination("d0").await.warnings;
    assert_eq!(
        codes(&warned),
        ["credential_rejected"],
        "there is a token still"
    );
    assert_eq!(warned[0].message, "the token endpoint rejects file:d0");
    let series = "token_broker_warnings{destination=\"d0\",application=\"shop\",warning=\"credential_rejected\"} 1";
    assert_eq!(desk.metrics("token_broker_warnings{").await, [series]);
    // It goes on, and is the same warning.
    ops.refresh("d0", "").await.unwrap();
    assert_eq!(ops.destination("d0").await.warnings, warned);

    desk.site.upstream.behave(Behaviour::default());
    ops.refresh("d0", "").await.unwrap();
    assert!(ops.destination("d0").await.warnings.is_empty());
    assert!(desk.metrics("token_broker_warnings{").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_runway_is_warned_of_without_anybody_looking() {
    let setup = Setup {
        destinations: 1,
        ..Setup::default()
    };
    // Of a life of 16 s a quarter counts: callers notice up to 4 s after the warning.
    let desk = Desk::start(setup, ADMIN, "[cache]\nexpiry_margin = \"1s\"").await;
    let life = std::time::Duration::from_secs(16);
    desk.site.upstream.behave(Behaviour::lifetime(life));
    let mut cart = desk.cart().await;
    ask(&mut cart, "d0").await.unwrap();
    desk.site.upstream.behave(Behaviour::status(503));
    let series =
        "token_broker_warnings{destination=\"d0\",application=\"shop\",warning=\"runway_short\"} 1";
    desk.until_metrics("token_broker_warnings{", &[series])
        .await;
    // A token is at hand still: callers have not noticed.
    ask(&mut cart, "d0").await.unwrap();
    let ops = desk.ops().await;
    let warned = ops.destination("d0").await.warnings;
    assert_eq!(codes(&warned), ["runway_short"]);
    desk.site.upstream.behave(Behaviour::default());
    desk.until_metrics("token_broker_warnings{", &[]).await;
    assert!(ops.destination("d0").await.warnings.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_runway_is_short_where_that_is_turned_off() {
    let setup = Setup {
        destinations: 1,
        ..Setup::default()
    };
    let desk = Desk::start(setup, ADMIN, "[cache]\nrunway_warning = \"0s\"").await;
    desk.site.upstream.behave(Behaviour::status(503));
    ask(&mut desk.cart().await, "d0").await.unwrap_err();
    assert!(desk.ops().await.destination("d0").await.warnings.is_empty());
    desk.reconfigure("runway_warning = \"0s\"", "runway_warning = \"1s\"");
    let ops = desk.ops().await;
    ops.reload().await.unwrap();
    let warned = ops.destination("d0").await.warnings;
    assert_eq!(codes(&warned), ["runway_short"]);
    assert_eq!(
        warned[0].message,
        "minting fails, and there is no token for callers"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_ends_soon_is_a_warning_of_the_whole() {
    let desk = Desk::with(1).await;
    let ops = desk.ops().await;
    assert!(ops.list().await.warnings.is_empty());
    let authority = desk.text("ca.pem");
    desk.write("ca.pem", &format!("{authority}{}", ending_soon()));
    until("it is warned of", async || {
        !ops.list().await.warnings.is_empty()
    })
    .await;
    let warned = ops.list().await.warnings;
    assert_eq!(codes(&warned), ["client_ca_expires"]);
    let message = &warned[0].message;
    assert!(
        message.starts_with("an authority of clients runs out at 20"),
        "{message}"
    );
    assert!(message.ends_with("/ca.pem"), "{message}");
    let series =
        "token_broker_warnings{destination=\"\",application=\"\",warning=\"client_ca_expires\"} 1";
    assert_eq!(desk.metrics("token_broker_warnings{").await, [series]);
    assert!(ops.destination("d0").await.warnings.is_empty());
    desk.write("ca.pem", &authority);
    until("it is over", async || ops.list().await.warnings.is_empty()).await;
}

/// An authority that is long past its end, so that no clock makes a difference.
fn ending_soon() -> String {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "an old authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2021, 1, 1);
    let key = KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().pem()
}
