//! `map_async`: what becomes of results and failures, how many calls are made at a time and in which order, and which offsets
//! are committed meanwhile.

use crate::waiting::{PATIENCE, wait_until};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use watersmeet::broker::TopicPartition;
use watersmeet::clock::SystemClock;
use watersmeet::config::Policy;
use watersmeet::prelude::*;
use watersmeet::testing::{MemoryBroker, TopologyTestDriver};

fn topology(build: impl FnOnce(KStream<String, i64>) -> KStream<String, i64>) -> Topology {
    let builder = StreamsBuilder::new();
    build(builder.stream("in", Consumed::<String, i64>::default())).to("out", Produced::default());
    builder.build().expect("builds")
}

fn quick() -> Retry {
    Retry { pause: Duration::from_millis(1), ..Retry::times(2) }
}

#[test]
fn results_keep_what_their_record_had() {
    let topology = topology(|stream| {
        stream.map_async(AsyncOptions::default(), |call| async move {
            assert_eq!((call.id().as_deref(), call.attempt), (Some("in-0-0"), 1));
            Ok(call.value + 1)
        })
    });
    let driver = TopologyTestDriver::new(topology, Config::new("test")).unwrap();
    let input = driver.create_input_topic("in", Produced::<String, i64>::default());
    let mut record = Record::new("a".to_string(), 1, 77);
    record.headers.add("trace", Some(b"t1"));
    input.pipe_record(record.clone()).unwrap();
    let output = driver.create_output_topic("out", Consumed::<String, i64>::default());
    assert_eq!(output.read_record().unwrap(), Some(Record { value: 2, ..record }));
}

#[test]
fn what_fails_in_the_end_meets_the_policy_and_the_others_go_on() {
    let topology = topology(|stream| {
        stream.map_async(AsyncOptions::default().retry(quick()), |call| async move {
            match call.value {
                1 => Err(CallError::permanent("no such page")),
                2 => panic!("two is too much"),
                3 if call.attempt < 3 => Err("busy".into()),
                4 => Err(std::io::Error::other("always busy").into()),
                n => Ok(n * 10),
            }
        })
    });
    let mut config = Config::new("test");
    config.errors.processing = Policy::DeadLetter;
    config.errors.dead_letter_topic = Some("dead".into());
    let driver = TopologyTestDriver::new(topology, config).unwrap();
    let input = driver.create_input_topic("in", Produced::<String, i64>::default());
    for n in 1..=5 {
        input.pipe("k", n).unwrap();
    }
    let output = driver.create_output_topic("out", Consumed::<String, i64>::default());
    assert_eq!(output.read_to_vec().unwrap(), [("k".into(), 30), ("k".into(), 50)]);
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    let dead = driver.broker().records("dead");
    let told: Vec<(i64, String)> = dead
        .iter()
        .map(|r| {
            let value = i64::from_be_bytes(r.value.clone().unwrap().try_into().unwrap());
            (value, text(r.headers.last("__streams.errors.message")))
        })
        .collect();
    let expected = [(1, "no such page"), (2, "two is too much"), (4, "always busy (3 attempts)")];
    assert_eq!(told.len(), expected.len(), "{told:?}");
    for ((value, message), (n, what)) in told.iter().zip(expected) {
        assert!(*value == n && message.contains(what), "{value}: {message}");
    }
    assert_eq!(text(dead[2].headers.last("__streams.errors.offset")), "3");
}

#[test]
fn where_the_policy_is_to_fail_the_client_ends_and_the_record_comes_again() {
    let failing = |fails: bool| {
        topology(move |stream| {
            stream.map_async(AsyncOptions::default().retry(Retry::never()), move |call| async move {
                if fails { Err(CallError::permanent("no")) } else { Ok(call.value) }
            })
        })
    };
    let driver = TopologyTestDriver::new(failing(true), Config::new("test")).unwrap();
    let input = driver.create_input_topic("in", Produced::<String, i64>::default());
    let error = input.pipe("k", 1).unwrap_err();
    assert!(error.to_string().contains("Processing failed: no"), "{error}");
    let options = watersmeet::testing::DriverOptions { broker: Some(driver.broker()), ..Default::default() };
    drop((driver, input));
    let driver = TopologyTestDriver::with(failing(false), Config::new("test"), options).unwrap();
    let output = driver.create_output_topic("out", Consumed::<String, i64>::default());
    assert_eq!(output.read_to_vec().unwrap(), [("k".into(), 1)]);
}

/// What a client's calls do, and what was seen of them.
#[derive(Default)]
struct Seen {
    now: AtomicUsize,
    most: AtomicUsize,
    /// In the order in which calls began.
    began: Mutex<Vec<(String, i64)>>,
    /// Calls for this value hang while it is set.
    hangs: AtomicBool,
}

const HANGS: i64 = 3;

fn calls(seen: &Arc<Seen>, options: AsyncOptions) -> Topology {
    let seen = seen.clone();
    topology(move |stream| {
        stream.map_async(options, move |call| {
            let seen = seen.clone();
            async move {
                seen.most.fetch_max(seen.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                seen.began.lock().unwrap().push((call.key.clone(), call.value));
                // Later records tend to be quicker.
                tokio::time::sleep(Duration::from_millis(1 + (call.value * 7 % 13) as u64)).await;
                while call.value == HANGS && seen.hangs.load(Ordering::SeqCst) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                seen.now.fetch_sub(1, Ordering::SeqCst);
                Ok(call.value)
            }
        })
    })
}

fn config(dir: &Path) -> Config {
    let (commit_interval, poll) = (Duration::from_millis(5), Duration::from_millis(5));
    Config { state_dir: dir.to_path_buf(), commit_interval, poll, ..Config::new("app") }
}

fn broker(records: i64) -> MemoryBroker {
    let broker = MemoryBroker::new();
    broker.create_topic("in", 1);
    broker.create_topic("out", 1);
    for n in 0..records {
        let value = n.to_be_bytes();
        broker.produce("in", format!("k{}", n % 5).as_bytes(), value.as_slice(), n).unwrap();
    }
    broker
}

fn start(broker: &MemoryBroker, topology: Topology, config: Config) -> Streams {
    Streams::start_on(topology, config, broker.client("app", "p"), SystemClock::shared()).expect("starts")
}

/// Committed results, in their order.
fn results(broker: &MemoryBroker) -> Vec<(String, i64)> {
    let records = broker.committed_records("out").into_iter();
    let number = |value: Option<Vec<u8>>| i64::from_be_bytes(value.unwrap().try_into().unwrap());
    records.map(|r| (String::from_utf8(r.key.unwrap()).unwrap(), number(r.value))).collect()
}

fn committed(broker: &MemoryBroker) -> i64 {
    broker.committed("app").get(&TopicPartition::new("in", 0)).map_or(0, |committed| committed.offset)
}

fn by_key(pairs: &[(String, i64)]) -> BTreeMap<&str, Vec<i64>> {
    let mut by_key: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    pairs.iter().for_each(|(key, n)| by_key.entry(key).or_default().push(*n));
    by_key
}

fn is_sorted_by_key(pairs: &[(String, i64)]) -> bool {
    by_key(pairs).values().all(|values| values.is_sorted())
}

#[test]
fn calls_run_side_by_side_up_to_the_limit_in_the_order_that_is_asked_for() {
    for (order, exactly_once) in
        [CallOrder::None, CallOrder::Key, CallOrder::All].into_iter().flat_map(|o| [(o, false), (o, true)])
    {
        let (broker, seen, dir) = (broker(200), Arc::new(Seen::default()), tempfile::tempdir().unwrap());
        let config = if exactly_once { config(dir.path()).exactly_once() } else { config(dir.path()) };
        let config = Config { commit_interval: Duration::from_millis(5), ..config };
        let options = AsyncOptions::new(20).held_max(30).order(order);
        let streams = start(&broker, calls(&seen, options), config);
        wait_until("all is done", || results(&broker).len() >= 200);
        wait_until("all is committed", || committed(&broker) >= 200);
        let (results, began) = (results(&broker), seen.began.lock().unwrap().clone());
        assert_eq!(results.len(), 200, "{order:?}");
        let most = seen.most.load(Ordering::SeqCst);
        match order {
            CallOrder::None => assert!((10..=20).contains(&most), "{most}"),
            // There are five keys.
            CallOrder::Key => {
                assert!((2..=5).contains(&most), "{most}");
                assert!(is_sorted_by_key(&results) && is_sorted_by_key(&began));
            }
            CallOrder::All => assert!((10..=20).contains(&most), "{most}"),
        }
        if order == CallOrder::All || exactly_once {
            assert!(results.iter().map(|(_, n)| *n).eq(0..200), "{order:?}");
        }
        assert!(streams.close(PATIENCE));
    }
}

#[test]
fn the_first_record_that_is_not_done_is_what_is_committed_and_the_task_stops_when_it_has_no_room() {
    let (broker, seen, dir) = (broker(100), Arc::new(Seen::default()), tempfile::tempdir().unwrap());
    seen.hangs.store(true, Ordering::SeqCst);
    let options = AsyncOptions::new(8).held_max(10).order(CallOrder::None);
    let streams = start(&broker, calls(&seen, options), config(dir.path()));
    wait_until("the others are done", || results(&broker).len() == 99);
    wait_until("what came before is committed", || committed(&broker) == HANGS);
    let told = |name: &str| {
        let text = streams.metrics().text(&streams.status());
        text.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned))
    };
    wait_until("the call is shown", || told("watersmeet_calls_in_flight{").is_some_and(|line| line.ends_with(" 1")));
    seen.hangs.store(false, Ordering::SeqCst);
    wait_until("all is committed", || committed(&broker) == 100);
    assert_eq!(results(&broker).last().map(|(_, n)| *n), Some(HANGS));
    let calls = || told("watersmeet_call_seconds_count{").and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    wait_until("all calls are counted", || calls() == Some(100));
}

#[test]
fn results_wait_in_their_order_and_no_more_are_taken_than_there_is_room_for() {
    let (broker, seen, dir) = (broker(100), Arc::new(Seen::default()), tempfile::tempdir().unwrap());
    seen.hangs.store(true, Ordering::SeqCst);
    let options = AsyncOptions::new(8).held_max(10).order(CallOrder::All);
    let streams = start(&broker, calls(&seen, options), config(dir.path()));
    wait_until("there is no room", || seen.began.lock().unwrap().len() == 3 + 10);
    let told = || streams.metrics().text(&streams.status());
    let shown =
        |name: &str, n: u32| told().lines().any(|line| line.starts_with(name) && line.ends_with(&format!(" {n}")));
    wait_until("one call is shown, and nine results that wait", || {
        shown("watersmeet_calls_in_flight{", 1) && shown("watersmeet_calls_waiting{", 9)
    });
    wait_until("what came before is committed", || committed(&broker) == HANGS);
    assert_eq!(results(&broker).len(), 3);
    // A client that closes does not wait for ever, and the record comes again.
    let began = Instant::now();
    assert!(streams.close(PATIENCE));
    assert!(began.elapsed() < Duration::from_secs(10));
    drop(streams);
    assert_eq!(committed(&broker), HANGS);
    seen.hangs.store(false, Ordering::SeqCst);
    let _again = start(&broker, calls(&seen, AsyncOptions::new(8).order(CallOrder::All)), config(dir.path()));
    wait_until("all is committed", || committed(&broker) == 100);
    assert!(results(&broker).iter().map(|(_, n)| *n).eq(0..100));
}

#[test]
fn where_a_store_has_seen_the_record_the_commit_waits_for_its_call() {
    for exactly_once in [false, true] {
        let (broker, seen, dir) = (broker(50), Arc::new(Seen::default()), tempfile::tempdir().unwrap());
        seen.hangs.store(true, Ordering::SeqCst);
        let counted = || {
            let builder = StreamsBuilder::new();
            let stream = builder.stream("in", Consumed::<String, i64>::default());
            let counts = stream.group_by_key(Grouped::default()).count(Materialized::rocksdb("n").without_cache());
            let (seen, options) = (seen.clone(), AsyncOptions::new(4).patience(Duration::from_millis(50)));
            let looked_up = counts.to_stream().map_async(options, move |call| {
                let seen = seen.clone();
                async move {
                    while call.key == "k1" && seen.hangs.load(Ordering::SeqCst) {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    Ok(call.value)
                }
            });
            looked_up.to("out", Produced::default());
            builder.build().expect("builds")
        };
        let config = if exactly_once { config(dir.path()).exactly_once() } else { config(dir.path()) };
        let config = Config { commit_interval: Duration::from_millis(5), ..config };
        let streams = start(&broker, counted(), config.clone());
        wait_until("a call hangs", || streams.status().threads.iter().flat_map(|t| &t.tasks).any(|t| t.in_flight > 0));
        assert_eq!(committed(&broker), 0);
        // What it has counted is not committed, and so is counted again, once.
        streams.close(PATIENCE);
        drop(streams);
        assert_eq!(committed(&broker), 0);
        seen.hangs.store(false, Ordering::SeqCst);
        let streams = start(&broker, counted(), config);
        wait_until("all is committed", || committed(&broker) == 50);
        let results = results(&broker);
        let expected: Vec<i64> = (1..=10).collect();
        if exactly_once {
            assert!(by_key(&results).values().all(|counts| *counts == expected), "{results:?}");
        }
        let store = streams.store("n").key_value::<String, i64>().expect("the store");
        if exactly_once {
            assert_eq!(store.get(&"k1".into()).expect("answers"), Some(10));
        }
    }
}

#[test]
fn a_client_that_closes_waits_for_its_calls_and_none_is_made_again() {
    let (broker, dir) = (broker(20), tempfile::tempdir().unwrap());
    let (made, may_end) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let seen = (made.clone(), may_end.clone());
    let topology = topology(move |stream| {
        stream.map_async(AsyncOptions::new(20).order(CallOrder::None).patience(PATIENCE), move |call| {
            let (made, may_end) = seen.clone();
            async move {
                made.fetch_add(1, Ordering::SeqCst);
                while !may_end.load(Ordering::SeqCst) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Ok(call.value)
            }
        })
    });
    let streams = start(&broker, topology, config(dir.path()));
    wait_until("all calls are under way", || made.load(Ordering::SeqCst) == 20);
    std::thread::scope(|scope| {
        let closed = scope.spawn(|| streams.close(PATIENCE));
        wait_until("it closes", || streams.state() == watersmeet::streams::State::PendingShutdown);
        may_end.store(true, Ordering::SeqCst);
        assert!(closed.join().unwrap());
    });
    assert_eq!((made.load(Ordering::SeqCst), results(&broker).len(), committed(&broker)), (20, 20, 20));
}

/// Counts the calls that were cancelled: a future that is dropped before its end.
struct Cancelled(Arc<AtomicUsize>, bool);

impl Drop for Cancelled {
    fn drop(&mut self) {
        self.0.fetch_add(usize::from(!self.1), Ordering::SeqCst);
    }
}

#[test]
fn calls_for_partitions_that_go_to_another_instance_are_cancelled_and_made_again_there() {
    for exactly_once in [false, true] {
        let broker = MemoryBroker::new();
        broker.create_topic("in", 2);
        broker.create_topic("out", 2);
        for n in 0..20i64 {
            broker.produce("in", format!("k{n}").as_bytes(), n.to_be_bytes().as_slice(), n).unwrap();
        }
        let (hangs, cancelled) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let instance = |name: &str, dir: &Path| {
            let (hangs, cancelled) = (hangs.clone(), cancelled.clone());
            let options = AsyncOptions::new(20).order(CallOrder::None).patience(Duration::from_millis(20));
            let topology = topology(move |stream| {
                stream.map_async(options, move |call| {
                    let (hangs, cancelled) = (hangs.clone(), cancelled.clone());
                    async move {
                        let mut whole = Cancelled(cancelled, false);
                        while hangs.load(Ordering::SeqCst) {
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                        whole.1 = true;
                        Ok(call.value)
                    }
                })
            });
            let config = if exactly_once { config(dir).exactly_once() } else { config(dir) };
            Streams::start_on(topology, config, broker.client("app", name), SystemClock::shared()).expect("starts")
        };
        let in_flight = |streams: &Streams| -> usize {
            streams.status().threads.iter().flat_map(|thread| &thread.tasks).map(|task| task.in_flight).sum()
        };
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let first = instance("p1", dirs[0].path());
        wait_until("all calls are under way", || in_flight(&first) == 20);
        let second = instance("p2", dirs[1].path());
        wait_until("both have calls", || {
            let (a, b) = (in_flight(&first), in_flight(&second));
            b > 0 && a + b == 20
        });
        let moved = in_flight(&second);
        assert!(cancelled.load(Ordering::SeqCst) >= moved, "{moved} calls were made elsewhere and not cancelled");
        assert!(results(&broker).is_empty());
        hangs.store(false, Ordering::SeqCst);
        wait_until("all is done", || results(&broker).len() >= 20);
        let mut values: Vec<i64> = results(&broker).into_iter().map(|(_, n)| n).collect();
        values.sort_unstable();
        assert!(values.into_iter().eq(0..20), "nothing twice");
    }
}

#[test]
fn a_result_goes_on_as_soon_as_it_is_there() {
    let (broker, dir) = (broker(50), tempfile::tempdir().unwrap());
    // One call at a time: the next one begins when the thread has seen the result.
    let topology = topology(|stream| {
        stream.map_async(AsyncOptions::new(1).held_max(1), |call| async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(call.value)
        })
    });
    let config = Config { poll: Duration::from_secs(2), ..config(dir.path()) };
    let _streams = start(&broker, topology, config);
    // A thread that looked at the end of its polls only would need more than a minute and a half.
    wait_until("all is done", || results(&broker).len() >= 50);
}

#[test]
fn where_the_policy_is_to_go_on_a_record_whose_call_fails_is_left_out() {
    let topology = topology(|stream| {
        stream.map_async(AsyncOptions::default().retry(Retry::never()), |call| async move {
            if call.value == 2 { Err("no".into()) } else { Ok(call.value) }
        })
    });
    let mut config = Config::new("test");
    config.errors.processing = Policy::Continue;
    let driver = TopologyTestDriver::new(topology, config).unwrap();
    let input = driver.create_input_topic("in", Produced::<String, i64>::default());
    (1..=3).for_each(|n| input.pipe("k", n).unwrap());
    let output = driver.create_output_topic("out", Consumed::<String, i64>::default());
    assert_eq!(output.read_to_vec().unwrap(), [("k".into(), 1), ("k".into(), 3)]);
}
