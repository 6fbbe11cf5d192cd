//! A token endpoint that notes which trace each request belongs to.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{Router, extract::State, http::HeaderMap, routing::post};
use tokio::net::TcpListener;

use crate::trial::Site;

/// What each request said: `traceparent` and `tracestate`.
type Said = Arc<Mutex<Vec<(Option<String>, Option<String>)>>>;

/// A running token endpoint.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    said: Said,
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let said = Said::default();
        let router = Router::new()
            .route("/destinations/{id}/token", post(mint))
            .with_state(Arc::clone(&said));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, said }
    }

    /// Has a broker that is yet to be started ask here.
    pub(crate) fn mint_for(&self, site: &Site) {
        let here = format!("http://{}", self.address);
        site.configure(|config| config.replace(&site.upstream.base_url(), &here));
    }

    /// What each request said so far.
    pub(crate) fn said(&self) -> Vec<(Option<String>, Option<String>)> {
        self.said.lock().unwrap().clone()
    }
}

async fn mint(State(said): State<Said>, headers: HeaderMap) -> &'static str {
    let text = |name: &str| Some(headers.get(name)?.to_str().unwrap().to_owned());
    let context = (text("traceparent"), text("tracestate"));
    said.lock().unwrap().push(context);
    r#"{"accessToken":"canary-token","expiresIn":3600}"#
}
