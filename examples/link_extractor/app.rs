//! The topology: each text to the service, what it answers to the topic `links` and to the table of the same name.

use crate::client::LinkService;
use std::time::Duration;
use watersmeet::prelude::*;

/// The table of what has been found in each text.
pub const LINKS: &str = "links";

pub fn add(builder: &StreamsBuilder, texts: &str, links: &str, service: LinkService) {
    let options = AsyncOptions::new(64)
        .timeout(Duration::from_secs(5))
        .retry(Retry::times(5))
        .circuit_breaker(CircuitBreaker { failures_max: 20, pause: Duration::from_secs(1), fail_fast: false })
        .named("extract-links");
    let found = builder.stream(texts, Consumed::<String, String>::default()).map_async(options, move |call| {
        let service = service.clone();
        async move { service.extract(&call.value).await }
    });
    found.to(links, Produced::json());
    found.map_values(Some).to_table_with(Materialized::rocksdb(LINKS).json());
}
