//! `Reload`.

use tonic::Code;
use tonic_types::StatusExt as _;

use crate::{
    desk::Desk,
    trial::{STRANGER, ask, client_id, reason},
};

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_is_told_one_line_each() {
    let desk = Desk::with(2).await;
    let ops = desk.ops().await;
    assert_eq!(ops.reload().await.unwrap(), Vec::<String>::new());

    // All of it before the next look at the files.
    let server = desk.site.authority.server([127, 0, 0, 1].into()).unwrap();
    let config = desk.text("broker.toml");
    let [public, rest] = [
        &config[..config.find("[[destination]]\nid = \"d0\"").unwrap()],
        &config[config.find("[[destination]]\nid = \"d1\"").unwrap()..],
    ];
    let config = format!("{public}{rest}")
        .replace(
            "client_ca = \"ca.pem\"",
            "client_ca = \"ca.pem\"\nmax_calls = 9000\ndrain_timeout = \"5s\"",
        )
        .replace(
            "\"spiffe://corp.example/ns/shop/sa/*\", \"cart.corp.example\"",
            "\"spiffe://corp.example/ns/shop/sa/*\", \"search.corp.example\"",
        )
        .replace("name = \"occtoo\"", "name = \"occtoo\"\ntimeout = \"3s\"")
        .replace(
            "listen = \"127.0.0.1:0\"\n[credentials]",
            "listen = \"[::1]:0\"\n[credentials]",
        )
        .replace("state_file = \"state.json\"", "state_file = \"other.json\"")
        .replace("ns/ops/**", "ns/ops/sa/*");
    let new = format!(
        "[[destination]]\nid = \"new\"\nunprotected = true\n[[destination.grant]]\ncallers = [\"{STRANGER}\"]\n[cache]\nrunway_warning = \"5m\"\n[shared_cache]\nserver = \"127.0.0.1:1\"\nsealing_keys = [\"shared.key\"]\n"
    );
    // 32 bytes.
    desk.write("shared.key", &format!("{}A=", "AB".repeat(21)));
    desk.site
        .upstream
        .register("d1", &client_id("d1"), "renewed");
    desk.write("credentials/d1/client_secret", "renewed");
    desk.write("server.pem", &server.certificate);
    desk.write("server.key", server.key.expose());
    desk.write("broker.toml", &format!("{config}\n{new}"));
    let told = ops.reload().await.unwrap();
    let expected = [
        "[server] cert has changed",
        "[server] key has changed",
        "[server] limits have changed",
        "[http] has changed: it waits for the next start",
        "[admin] state_file has changed: it waits for the next start",
        "[admin] allow has changed",
        "[cache] has changed",
        "[shared_cache] has changed",
        "upstream \"occtoo\" has changed",
        "destination \"new\" is new",
        "destination \"d0\" is gone",
        "destination \"d1\": the grant of \"shop\" to \"search.corp.example\" is new",
        "destination \"d1\": the grant of \"shop\" to \"cart.corp.example\" is gone",
        "destination \"d1\": the credential of \"shop\" has changed",
    ];
    assert_eq!(told, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_of_grants_is_a_change_of_its_own() {
    let desk = crate::list::two().await;
    let ops = desk.ops().await;
    let (cart, all) = (
        "\"spiffe://corp.example/ns/shop/sa/cart\"",
        "\"spiffe://corp.example/ns/shop/**\"",
    );
    desk.reconfigure(&format!("{cart}, {all}"), &format!("{all}, {cart}"));
    assert_eq!(
        ops.reload().await.unwrap(),
        ["destination \"two\": the order of its grants has changed"]
    );
    // What is before others goes, and their order stays.
    desk.reconfigure(&format!("{all}, {cart}"), cart);
    assert_eq!(
        ops.reload().await.unwrap(),
        [
            "destination \"two\": the grant of \"shop\" to \"spiffe://corp.example/ns/shop/**\" is gone"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mistake_is_told_and_nothing_changes() {
    let desk = Desk::with(1).await;
    let ops = desk.ops().await;
    let config = desk.text("broker.toml");
    let wrong = config
        .replace("id = \"d0\"", "id = \"d 0\"")
        .replace("unprotected = true", "unprotected = 1");
    desk.write("broker.toml", &wrong);
    let status = ops.reload().await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::FailedPrecondition, "RELOAD_REFUSED")
    );
    let failure = status.get_error_details().precondition_failure().cloned();
    let violations: Vec<_> = failure
        .unwrap()
        .violations
        .into_iter()
        .map(|violation| {
            let (_, place) = violation.subject.rsplit_once("broker.toml:").unwrap();
            assert!(place.split(':').all(|number| number.parse::<u32>().is_ok()));
            (violation.r#type, violation.description)
        })
        .collect();
    let mistake = |text: &str| ("MISTAKE".to_owned(), text.to_owned());
    assert_eq!(
        violations,
        [
            mistake(
                "the destination has no application: write [[destination.application]] with name and credential, or unprotected = true"
            ),
            mistake("\"unprotected\" must be true or false, not an integer"),
            mistake("\"id\" must be 1 to 128 characters of A-Z a-z 0-9 . _ -"),
        ]
    );
    ask(&mut desk.cart().await, "d0").await.unwrap();

    // What is wrong beside the configuration has no place in it.
    desk.write("broker.toml", &config);
    let other = desk.site.authority.server([127, 0, 0, 1].into()).unwrap();
    desk.write("server.key", other.key.expose());
    let status = ops.reload().await.unwrap_err();
    let failure = status.get_error_details().precondition_failure().cloned();
    let violation = &failure.unwrap().violations[0];
    assert_eq!(violation.subject, "");
    assert!(violation.description.contains("is not the private key"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_mistakes_fit_into_one_answer() {
    let desk = Desk::with(1).await;
    let ops = desk.ops().await;
    let wrong = "[[destination]]\nid = \"a b\"\nunprotected = true\n".repeat(1000);
    desk.write(
        "broker.toml",
        &format!("{}\n{wrong}", desk.text("broker.toml")),
    );
    let status = ops.reload().await.unwrap_err();
    assert_eq!(reason(&status), "RELOAD_REFUSED");
    let failure = status.get_error_details().precondition_failure().cloned();
    let violations = failure.unwrap().violations;
    let last = &violations.last().unwrap().description;
    let more = 1000 - (violations.len() - 1);
    assert!(last.starts_with(&format!("{more} more: ")), "{last}");
    assert!(violations.len() > 20);
}
