//! The status page: what an operator sees at three in the morning.
//!
//! It is whole without its script, which only fetches it again every two seconds and puts
//! in what has changed.

mod document;
mod query;
mod rank;
mod row;
mod scale;
mod snapshot;
mod span;
mod timeline;
mod words;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use axum::{
    Router,
    extract::{Request, State},
    http::{
        HeaderMap, HeaderName, StatusCode, Uri,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY,
            X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
        },
        uri::Authority,
    },
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::get,
};

use self::{query::Query, snapshot::Snapshot};
use super::{Door, Readiness};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// What a browser is told: nothing but what comes from here is loaded or run, nobody frames
/// the page, and nothing of it is kept.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
         img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (CACHE_CONTROL, "no-store"),
];

/// The page, for a port at this address.
pub(super) fn router(address: SocketAddr, door: Door) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/status.css", get(|| async { asset("text/css", STYLE) }))
        .route(
            "/status.js",
            get(|| async { asset("text/javascript", SCRIPT) }),
        )
        .with_state(door)
        .layer(middleware::from_fn(move |request, next| {
            guarded(address, request, next)
        }))
}

async fn page(State(door): State<Door>, uri: Uri) -> Response {
    let query = Query::parse(uri.query().unwrap_or_default());
    // A thousand destinations take milliseconds, which no caller is to wait for.
    let shown = door.clone();
    let draw = move || document::document(&snapshot(&shown), &query).into_string();
    match door.aside.run(draw).await {
        Ok(drawn) => Html(drawn).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn snapshot(door: &Door) -> Snapshot {
    let readiness = Readiness::of(&door.broker, &door.stopping);
    let expiries = door.terms.borrow().tls.expiries().to_vec();
    Snapshot::take(&door.operator, readiness, expiries)
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    let kind = format!("{kind}; charset=utf-8");
    ([(CONTENT_TYPE, kind)], text).into_response()
}

/// Lets in who asked for this page, and tells the browser what it may do with the answer.
async fn guarded(address: SocketAddr, request: Request, next: Next) -> Response {
    let answer = match refused(address, request.uri(), request.headers()) {
        None => next.run(request).await,
        Some(refusal) => refusal.into_response(),
    };
    (HEADERS, answer).into_response()
}

/// Why this request is not answered, if it is not.
fn refused(address: SocketAddr, uri: &Uri, headers: &HeaderMap) -> Option<(StatusCode, String)> {
    if address.ip().to_canonical().is_loopback() && !names_loopback(uri, headers) {
        let sentence = format!(
            "this page listens on loopback, and is shown only under a name of loopback: open http://{address}/\n"
        );
        return Some((StatusCode::MISDIRECTED_REQUEST, sentence));
    }
    comes_from_elsewhere(headers).then(|| {
        let sentence = "this page is not for pages of other sites: open its address yourself\n";
        (StatusCode::FORBIDDEN, sentence.to_owned())
    })
}

/// Whether a page of somebody else has a browser ask (W3C, "Fetch Metadata Request Headers").
/// It could not read the answer, and yet have the broker work as often as it likes. Who follows
/// a link there comes all the same.
fn comes_from_elsewhere(headers: &HeaderMap) -> bool {
    let says = |name, value| headers.get(name).is_some_and(|said| said == value);
    let follows_a_link = says("sec-fetch-mode", "navigate") && says("sec-fetch-dest", "document");
    says("sec-fetch-site", "cross-site") && !follows_a_link
}

/// Whether a request was meant for loopback. A page of somebody else, whose name resolves to
/// 127.0.0.1 when it is asked for again (DNS rebinding), has another host in its address bar.
fn names_loopback(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let host = host.to_str().ok().and_then(|host| host.parse().ok());
    host.as_ref().is_some_and(is_loopback) && uri.authority().is_none_or(is_loopback)
}

fn is_loopback(authority: &Authority) -> bool {
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = address.parse::<std::net::IpAddr>() {
        return address.to_canonical().is_loopback();
    }
    // RFC 6761 §6.3: these names are loopback, whatever a resolver says.
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}
