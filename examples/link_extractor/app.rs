//! The topology: each text to the service, what it answers to the topic `links` and to the table of the same name.

use crate::client;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::Duration;
use watersmeet::prelude::*;

/// The table of what has been found in each text.
pub const LINKS: &str = "links";

/// What the service has found in a text.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Found {
    pub links: Vec<Link>,
    /// How long the service took.
    pub ms: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Link {
    pub url: String,
    pub host: String,
}

pub fn add(builder: &StreamsBuilder, texts: &str, links: &str, service: SocketAddr) {
    let options = AsyncOptions::new(64)
        .timeout(Duration::from_secs(5))
        .retry(Retry::times(5))
        .circuit_breaker(CircuitBreaker { failures_max: 20, pause: Duration::from_secs(1), fail_fast: false })
        .named("extract-links");
    let found = builder
        .stream(texts, Consumed::<String, String>::default())
        .map_async(options, move |call| async move { extract(service, &call.value).await });
    found.to(links, Produced::json());
    found.map_values(Some).to_table_with(Materialized::rocksdb(LINKS).json());
}

async fn extract(service: SocketAddr, text: &str) -> std::result::Result<Found, CallError> {
    let (status, body) = client::post(service, "/extract", text).await?;
    match status {
        200 => Ok(serde_json::from_str(&body).map_err(CallError::permanent)?),
        // The service has had enough, or is being restarted.
        429 | 500..=599 => Err(CallError::passing(format!("the service answers {status}"))),
        _ => Err(CallError::permanent(format!("the service answers {status}: {body}"))),
    }
}
