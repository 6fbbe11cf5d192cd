//! A proxy with callers of its own.

use rcgen::SanType;
use token_broker::cli::dev::Signed;

use crate::{
    proxy::Proxy,
    site::{Answer, EXT_AUTHZ, GATEWAY, HOST, Site, send},
    trial::{CART, STRANGER, http_client},
};

/// A client of the gateway, with this certificate.
fn client(site: &Site, signed: &Signed) -> reqwest::Client {
    let identity = [&*signed.certificate, signed.key.expose()].concat();
    let identity = reqwest::Identity::from_pem(identity.as_bytes()).unwrap();
    let authority = site.trial.authority.certificate().as_bytes();
    let authority = reqwest::Certificate::from_pem(authority).unwrap();
    http_client()
        .identity(identity)
        .tls_certs_only([authority])
        .build()
        .unwrap()
}

async fn get(site: &Site, gateway: &Proxy, names: Vec<SanType>) -> Answer {
    let signed = site.trial.authority.client_with(names).unwrap();
    let url = format!("https://localhost:{}/orders", gateway.address.port());
    let answer = send(&client(site, &signed), &url, &["Bearer forged"]).await;
    answer.unwrap_or_else(|error| panic!("{error:?}\n{}", gateway.log()))
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Envoy: tests/envoy/run"]
async fn a_gateway_speaks_for_its_callers_if_it_is_trusted() {
    let site = Site::new().await;
    let token = Answer::passed(site.bearer("d0").await);
    let with_callers = [("#| ", "")];
    let gateway = site
        .changed_proxy(EXT_AUTHZ, GATEWAY, "d0", &with_callers)
        .await;
    assert_eq!(get(&site, &gateway, vec![uri(CART)]).await, token);
    let by_dns = vec![dns("cart.corp.example")];
    assert_eq!(get(&site, &gateway, by_dns).await, token);
    let both = vec![dns(HOST), uri(CART)];
    assert_eq!(get(&site, &gateway, both).await, token);
    for (names, status, reason) in [
        (vec![uri(STRANGER)], 403, "NOT_GRANTED"),
        (vec![dns("*.corp.example")], 401, "CALLER_UNIDENTIFIED"),
        (vec![], 401, "CALLER_UNIDENTIFIED"),
    ] {
        let answer = get(&site, &gateway, names).await;
        assert_eq!(
            (answer.status, answer.reason.as_deref()),
            (status, Some(reason))
        );
    }

    // The same proxy with a name that is not listed counts for itself.
    let sidecar = site
        .changed_proxy(EXT_AUTHZ, STRANGER, "d0", &with_callers)
        .await;
    let answer = get(&site, &sidecar, vec![uri(CART)]).await;
    assert_eq!(answer.reason.as_deref(), Some("NOT_GRANTED"));
}
