//! Calls an API with a token of the broker: `cargo run --example rust -- DESTINATION URL`

use std::{error::Error, sync::Arc};

use token_broker::{
    api::v1::ReportOutcome,
    client::{BearerToken, Settings, Tokens},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // One provider of cryptography for the whole process.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let arguments: Vec<_> = std::env::args().collect();
    let [_, destination, url] = &arguments[..] else {
        return Err("give a destination and a URL".into());
    };
    // Both are made once and kept.
    let tokens = Tokens::start(Settings::from_environment()?, destination);
    let http = reqwest::Client::new();

    let token = tokens.token().await?;
    let mut response = call(&http, url, &token).await?;
    if response.status() == reqwest::StatusCode::UNAUTHORIZED
        && let Some(successor) = successor(&tokens, &token.id).await
    {
        response = call(&http, url, &successor).await?;
    }
    let response = response.error_for_status()?;
    println!("{} {}", response.status().as_u16(), response.text().await?);
    Ok(())
}

/// None also without the broker: then the API's own answer has to do.
async fn successor(tokens: &Tokens, rejected: &str) -> Option<Arc<BearerToken>> {
    let outcome = tokens.report_rejected(rejected).await.ok()?;
    if outcome == ReportOutcome::IgnoredRate {
        return None;
    }
    tokens.successor(rejected).await.ok()
}

async fn call(
    http: &reqwest::Client,
    url: &str,
    token: &BearerToken,
) -> reqwest::Result<reqwest::Response> {
    let authorization = token.authorization();
    http.get(url)
        .header("authorization", authorization.expose())
        .send()
        .await
}
