//! `LINKS_MEASURE=500`: writes so many texts within ten seconds, evenly, and says when the links of all are stored.

use crate::app::LINKS;
use crate::client::Found;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use watersmeet::error::Kind;
use watersmeet::prelude::*;
use watersmeet::queries::KeyValueRow;
use watersmeet::serdes::{DefaultSerde, formats};
use watersmeet::streams::State;

const POSTED_IN: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(60);

pub fn run(streams: &Streams, texts: &str, count: u32) -> Result {
    if !streams.wait_for(&[State::Running], PATIENCE) {
        return Err(Error::new(Kind::Broker, "the client does not run"));
    }
    let texts = streams.producer(texts, Produced::<String, String>::default())?;
    let round = format!("m{:x}", std::process::id());
    let (began, mut open) = (Instant::now(), BTreeSet::new());
    for n in 0..count {
        let due = began + POSTED_IN * n / count;
        while Instant::now() < due {
            std::thread::park_timeout(due - Instant::now());
        }
        let key = format!("{round}-{n}");
        drop(texts.send(&key, &format!("see https://example.org/page/{n} and https://example.com/{n}.")));
        open.insert(key);
    }
    let posted = began.elapsed();
    let mut ms = 0;
    while !open.is_empty() && began.elapsed() < PATIENCE {
        let reads = streams.store(LINKS).key_value_with(String::serde(), formats::json::<Found>());
        for row in reads?.all()? {
            let KeyValueRow { key, value: found, .. } = row?;
            if open.remove(&key) {
                ms += found.ms;
            }
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let (posted, done) = (posted.as_secs_f64(), began.elapsed().as_secs_f64());
    println!("{count} texts posted in {posted:.1} s; {} stored after {done:.1} s", count as usize - open.len());
    println!("one after the other the service would have taken {:.0} s", ms as f64 / 1e3);
    Ok(())
}
