//! The slow service, for tests: `POST /extract` answers with a text's links, after 200 to 1,200 ms. One request in forty it
//! refuses, and says when to come again. `GET /stats` tells how many requests there were, and how many at a time.

use serde_json::{Value, json};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use warp::Filter;
use warp::http::Response;
use watersmeet::error::{Error, Kind, Result};

const SHORTEST_MS: u64 = 200;
const LONGEST_MS: u64 = 1_200;
const REFUSES_ONE_IN: u64 = 40;

/// What the service has seen.
#[derive(Clone, Default)]
pub struct Stats(Arc<[AtomicU64; 4]>);

impl Stats {
    /// Requests, refused ones, those under way, and the most there were at a time.
    pub fn values(&self) -> [u64; 4] {
        [0, 1, 2, 3].map(|i: usize| self.0[i].load(Ordering::Relaxed))
    }

    pub fn json(&self) -> Value {
        let [requests, refused, now, most] = self.values();
        json!({ "requests": requests, "refused": refused, "under_way": now, "most_at_a_time": most })
    }
}

/// Starts it on this address, until the process ends.
pub fn start(address: &str) -> Result<(SocketAddr, Stats)> {
    let failed = |error: std::io::Error| Error::new(Kind::Internal, "the test service cannot start").source(error);
    let listener = std::net::TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let (address, stats) = (listener.local_addr().map_err(failed)?, Stats::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let routes = routes(stats.clone());
    std::thread::spawn(move || {
        runtime.block_on(async {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => warp::serve(routes).incoming(listener).run().await,
                Err(error) => eprintln!("the test service ended: {error}"),
            }
        });
    });
    Ok((address, stats))
}

fn routes(stats: Stats) -> impl Filter<Extract = impl warp::Reply, Error = warp::Rejection> + Clone {
    let told = stats.clone();
    let random = RandomState::new();
    let extract = warp::path!("extract").and(warp::post()).and(warp::body::bytes()).then(
        move |body: warp::hyper::body::Bytes| {
            let (stats, random) = (stats.clone(), random.clone());
            async move {
                let [requests, refused, now, most] = &*stats.0;
                let number = requests.fetch_add(1, Ordering::Relaxed);
                most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                let ms = SHORTEST_MS + random.hash_one(number) % (LONGEST_MS - SHORTEST_MS + 1);
                tokio::time::sleep(Duration::from_millis(ms)).await;
                now.fetch_sub(1, Ordering::Relaxed);
                if number % REFUSES_ONE_IN == REFUSES_ONE_IN - 1 {
                    refused.fetch_add(1, Ordering::Relaxed);
                    let not_now = Response::builder().status(503).header("retry-after", "1");
                    return not_now.body(String::from("not now\n")).expect("the headers are constants");
                }
                let links: Vec<Value> = links(&String::from_utf8_lossy(&body)).collect();
                Response::new(json!({ "links": links, "ms": ms }).to_string())
            }
        },
    );
    let stats = warp::path!("stats").and(warp::get()).map(move || format!("{}\n", told.json()));
    extract.or(stats)
}

/// The links of a text.
fn links(text: &str) -> impl Iterator<Item = Value> + '_ {
    let words = text.split(|c: char| c.is_whitespace() || matches!(c, '<' | '>' | '"' | '(' | ')'));
    words.filter_map(|word| {
        let url = word.trim_end_matches(['.', ',', ';', '!', '?']);
        let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
        let host = rest.split(['/', '?', '#']).next().filter(|host| !host.is_empty())?;
        Some(json!({ "url": url, "host": host }))
    })
}
