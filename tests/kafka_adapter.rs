//! The adapter to librdkafka, against its mock cluster, and against a real Kafka where `WATERSMEET_KAFKA` names one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use watersmeet::broker::{
    Batch, BatchRecord, Broker, Committed, Consumer, Event, Isolation, NewTopic, Outgoing, Producer, Role,
    TopicPartition,
};
use watersmeet::config::Config;
use watersmeet::error::Kind;
use watersmeet::kafka::KafkaBroker;
use watersmeet::kafka::mock::MockCluster;
use watersmeet::record::Headers;

const LIMIT: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(50);

/// A cluster of either kind.
#[derive(Clone)]
enum Cluster {
    Mock(MockCluster),
    Real(String),
}

impl Cluster {
    /// The mock cluster, and the real one where there is one.
    fn all() -> Vec<Cluster> {
        let mut all = vec![Cluster::Mock(MockCluster::start(1).unwrap())];
        all.extend(Cluster::real());
        all
    }

    fn real() -> Option<Cluster> {
        let real = std::env::var("WATERSMEET_KAFKA").ok().filter(|address| !address.is_empty()).map(Cluster::Real);
        if real.is_none() {
            eprintln!("WATERSMEET_KAFKA is not set: no real Kafka to test against");
        }
        real
    }

    fn config(&self, app: &str) -> Config {
        let mut config = Config::new(app);
        if let Cluster::Real(address) = self {
            config.bootstrap_servers = address.clone();
        }
        config
    }

    fn connect(&self, config: &Config, identity: Option<&str>) -> Arc<dyn Broker> {
        match self {
            Cluster::Mock(mock) => mock.broker(config, identity).unwrap(),
            Cluster::Real(_) => Arc::new(KafkaBroker::connect(config, identity).unwrap()),
        }
    }

    fn broker(&self, app: &str) -> Arc<dyn Broker> {
        self.connect(&self.config(app), Some(&format!("{app}-instance")))
    }

    /// A topic of a name that no other test and no earlier run has.
    fn topic(&self, name: &str, partitions: i32) -> Arc<str> {
        let name = unique(name);
        let new = NewTopic { name: name.clone(), partitions, replication: -1, config: Vec::new() };
        self.broker("admin").admin().unwrap().create_topics(&[new]).unwrap();
        name.into()
    }
}

fn unique(name: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    format!("{name}-{}-{}", std::process::id(), now.as_nanos())
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
    }
}

/// A consumer with what it got so far.
struct Reader {
    consumer: Box<dyn Consumer>,
    batch: Batch,
    events: Vec<Event>,
}

impl Reader {
    fn new(consumer: Box<dyn Consumer>) -> Self {
        Self { consumer, batch: Batch::default(), events: Vec::new() }
    }

    /// Reads one whole topic from the beginning, without a group.
    fn of(broker: &Arc<dyn Broker>, topic: &Arc<str>, partitions: i32) -> Self {
        let mut reader = Self::new(broker.consumer(Role::Restore { thread: 1 }, Isolation::AsConfigured).unwrap());
        let all: Vec<_> = (0..partitions).map(|p| (TopicPartition::new(topic.clone(), p), None)).collect();
        reader.consumer.assign(&all).unwrap();
        reader
    }

    fn subscribed(broker: &Arc<dyn Broker>, topics: &[Arc<str>]) -> Self {
        let mut reader = Self::new(broker.consumer(Role::Main { thread: 1 }, Isolation::AsConfigured).unwrap());
        reader.consumer.subscribe(topics).unwrap();
        reader
    }

    fn poll(&mut self) {
        self.consumer.poll(STEP, 1000, &mut self.batch, &mut self.events).unwrap();
    }

    /// Polls until an event of this kind comes, and takes it.
    fn event<T>(&mut self, what: &str, pick: impl Fn(&Event) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(i) = self.events.iter().position(|e| pick(e).is_some()) {
                return pick(&self.events.remove(i)).unwrap();
            }
            assert!(start.elapsed() < LIMIT, "no {what}, but {:?}", self.events);
            self.poll();
        }
    }

    fn assigned(&mut self) -> Vec<TopicPartition> {
        let mut list =
            self.event("assignment", |e| if let Event::Assigned(list) = e { Some(list.clone()) } else { None });
        list.sort();
        list
    }

    /// Joins, and starts every partition at its committed offset.
    fn join(&mut self) -> Vec<TopicPartition> {
        let list = self.assigned();
        let committed = self.consumer.committed(&list).unwrap();
        let at: Vec<_> = list.iter().cloned().zip(committed.iter().map(|c| c.as_ref().map(|c| c.offset))).collect();
        self.consumer.assign(&at).unwrap();
        list
    }

    fn records(&mut self, count: usize) -> &[BatchRecord] {
        let start = Instant::now();
        while self.batch.records.len() < count {
            assert!(start.elapsed() < LIMIT, "{} of {count} records; {:?}", self.batch.records.len(), self.events);
            self.poll();
        }
        &self.batch.records
    }

    fn value(&self, i: usize) -> Option<&[u8]> {
        self.batch.records[i].value.as_ref().map(|r| &self.batch.bytes[r.start as usize..r.end as usize])
    }

    fn key(&self, i: usize) -> Option<&[u8]> {
        self.batch.records[i].key.as_ref().map(|r| &self.batch.bytes[r.start as usize..r.end as usize])
    }
}

fn send(producer: &mut dyn Producer, topic: &Arc<str>, partition: Option<i32>, key: Option<&[u8]>, value: &[u8]) {
    let headers = Headers::default();
    let deadline = Instant::now() + LIMIT;
    loop {
        let record =
            Outgoing { topic, partition, key, value: Some(value), timestamp_ms: Some(1000), headers: &headers };
        match producer.send(record) {
            Ok(()) => return,
            // A full queue: what the runtime does in its next turn.
            Err(error) if error.is_retriable() && Instant::now() < deadline => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn fill(broker: &Arc<dyn Broker>, topic: &Arc<str>, partitions: i32, each: usize) {
    let mut producer = broker.producer(1, None).unwrap();
    for i in 0..each {
        for p in 0..partitions {
            send(&mut *producer, topic, Some(p), Some(b"k"), format!("{p}:{i}").as_bytes());
        }
    }
    producer.flush(LIMIT).unwrap();
    assert_eq!(producer.acknowledged(), each as u64 * partitions as u64);
}

#[test]
fn records_come_back_as_they_were_sent() {
    for cluster in Cluster::all() {
        let (broker, topic) = (cluster.broker("bytes"), cluster.topic("bytes", 1));
        let mut headers = Headers::default();
        headers.add("a", Some(b"1"));
        headers.add("a", Some(b""));
        headers.add("null", None);
        let none = Headers::default();
        let sent = [
            (Some(b"key".as_slice()), Some(b"value".as_slice()), &headers, 1_700_000_000_123),
            (None, Some(b"no key"), &none, 1),
            (Some(b""), Some(b""), &none, 2),
            (Some(b"deleted"), None, &none, 3),
        ];
        let mut producer = broker.producer(1, None).unwrap();
        for (key, value, headers, ms) in sent {
            let record = Outgoing { topic: &topic, partition: Some(0), key, value, timestamp_ms: Some(ms), headers };
            producer.send(record).unwrap();
        }
        producer.flush(LIMIT).unwrap();
        assert_eq!(producer.acknowledged(), 4);

        let mut reader = Reader::of(&broker, &topic, 1);
        reader.records(4);
        for (i, (key, value, headers, ms)) in sent.into_iter().enumerate() {
            assert_eq!((reader.key(i), reader.value(i)), (key, value));
            let record = &reader.batch.records[i];
            assert_eq!((&record.headers, record.timestamp_ms, record.offset), (headers, ms, i as i64));
        }
        assert_eq!(reader.batch.sources, [TopicPartition::new(topic.clone(), 0)]);
        let end = reader.event("end", |e| match e {
            Event::End { partition, offset } => Some((partition.clone(), *offset)),
            _ => None,
        });
        assert_eq!(end, (TopicPartition::new(topic, 0), 4));
        assert_eq!(reader.consumer.cached_end_offset(&end.0), Some(4));
        assert_eq!(reader.consumer.offset_bounds(&[end.0]).unwrap(), vec![0..4]);
    }
}

/// The table was made with Kafka's own Java producer.
#[test]
fn keys_go_to_the_partitions_that_javas_producer_chooses() {
    let table: &[(&[u8], i32)] = &[
        (b"", 9),
        (b"a", 4),
        (b"ab", 2),
        (b"abc", 3),
        (b"abcd", 8),
        (b"abcdefgh", 9),
        (b"abcdefghi", 6),
        (b"21", 0),
        (b"a-little-bit-long-string", 8),
        ("가".as_bytes(), 3),
        ("한글".as_bytes(), 1),
        (&[0; 8], 11),
        (&[0xff; 8], 5),
        (&[0x80, 0x81, 0x82], 11),
    ];
    for cluster in Cluster::all() {
        let (broker, topic) = (cluster.broker("murmur2"), cluster.topic("murmur2", 12));
        let mut producer = broker.producer(1, None).unwrap();
        for (key, _) in table {
            send(&mut *producer, &topic, None, Some(key), b"v");
        }
        send(&mut *producer, &topic, None, None, b"anywhere");
        producer.flush(LIMIT).unwrap();
        assert!(producer.refused().is_empty());
        let mut reader = Reader::of(&broker, &topic, 12);
        reader.records(table.len() + 1);
        let mut found = BTreeMap::new();
        for (i, record) in reader.batch.records.iter().enumerate() {
            let partition = reader.batch.sources[record.source as usize].partition;
            if let Some(key) = reader.key(i) {
                found.insert(key.to_vec(), partition);
            }
        }
        for (key, partition) in table {
            assert_eq!(found.get(*key), Some(partition), "key {key:?}");
        }
    }
}

#[test]
fn a_rebalance_is_a_value_and_waits_for_its_answer() {
    for cluster in Cluster::all() {
        let (app, topic) = (unique("rebalance"), cluster.topic("rebalance", 3));
        let broker = cluster.broker(&app);
        fill(&broker, &topic, 3, 10);
        let mut reader = Reader::subscribed(&broker, std::slice::from_ref(&topic));
        let list = reader.assigned();
        assert_eq!(list, (0..3).map(|p| TopicPartition::new(topic.clone(), p)).collect::<Vec<_>>());
        for _ in 0..3 {
            reader.poll();
        }
        assert!(reader.batch.records.is_empty(), "nothing is fetched before it is assigned");

        // In two steps, as an eager assignment replaces the whole: the first one's position must survive.
        reader.consumer.assign(&[(list[0].clone(), Some(4))]).unwrap();
        reader.records(6);
        reader.consumer.assign(&[(list[1].clone(), None), (list[2].clone(), Some(9))]).unwrap();
        reader.records(6 + 10 + 1);
        for _ in 0..3 {
            reader.poll();
        }
        let offsets = |p| -> Vec<i64> {
            let of = |r: &&BatchRecord| reader.batch.sources[r.source as usize].partition == p;
            reader.batch.records.iter().filter(of).map(|r| r.offset).collect()
        };
        assert_eq!(offsets(0), (4..10).collect::<Vec<_>>());
        assert_eq!(offsets(1), (0..10).collect::<Vec<_>>());
        assert_eq!(offsets(2), [9]);
        assert!(reader.consumer.group_metadata().is_some());
        reader.consumer.close(true).unwrap();
    }
}

#[test]
fn commits_come_back_with_their_metadata_to_the_next_member() {
    for cluster in Cluster::all() {
        let (app, topic) = (unique("commit"), cluster.topic("commit", 2));
        let broker = cluster.broker(&app);
        fill(&broker, &topic, 2, 10);
        let mut first = Reader::subscribed(&broker, std::slice::from_ref(&topic));
        let list = first.join();
        assert_eq!(first.consumer.committed(&list).unwrap(), [None, None]);
        first.records(20);
        let seven = Committed { offset: 7, metadata: "AgAAAY7qP0A=".into() };
        let bare = Committed { offset: 10, metadata: String::new() };
        first.consumer.commit(&[(list[0].clone(), seven.clone()), (list[1].clone(), bare.clone())]).unwrap();
        assert_eq!(first.consumer.committed(&list).unwrap(), [Some(seven), Some(bare)]);
        first.consumer.close(true).unwrap();

        let mut second = if let Cluster::Real(_) = cluster {
            let mut second = Reader::subscribed(&broker, &[topic]);
            assert_eq!(second.join(), list);
            second
        } else {
            // The mock cluster keeps a second member waiting for a minute; its offsets can be had all the same.
            let mut second = Reader::new(broker.consumer(Role::Main { thread: 1 }, Isolation::AsConfigured).unwrap());
            let at = second.consumer.committed(&list).unwrap().into_iter().map(|c| c.map(|c| c.offset));
            second.consumer.assign(&list.iter().cloned().zip(at).collect::<Vec<_>>()).unwrap();
            second
        };
        second.records(3);
        assert_eq!(second.value(0), Some(b"0:7".as_slice()));
        for _ in 0..3 {
            second.poll();
        }
        assert_eq!(second.batch.records.len(), 3);
        second.consumer.close(true).unwrap();
    }
}

#[test]
fn paused_partitions_are_silent_and_lose_nothing() {
    for cluster in Cluster::all() {
        let (broker, topic) = (cluster.broker("pause"), cluster.topic("pause", 2));
        fill(&broker, &topic, 2, 1000);
        let mut reader = Reader::of(&broker, &topic, 2);
        let held = [TopicPartition::new(topic.clone(), 0)];
        reader.consumer.poll(LIMIT, 10, &mut reader.batch, &mut reader.events).unwrap();
        reader.consumer.pause(&held).unwrap();
        let before: Vec<i64> = offsets(&reader, 0);
        until("the other partition is read", || {
            reader.poll();
            offsets(&reader, 1).len() == 1000
        });
        assert_eq!(offsets(&reader, 0), before);
        reader.consumer.resume(&held).unwrap();
        reader.records(2000);
        assert_eq!(offsets(&reader, 0), (0..1000).collect::<Vec<_>>());
        // A partition that was given back while it was paused isn't paused when it comes back.
        reader.consumer.pause(&held).unwrap();
        reader.consumer.unassign(&held).unwrap();
        reader.consumer.assign(&[(held[0].clone(), Some(998))]).unwrap();
        reader.records(2002);
    }
}

#[test]
fn a_partition_that_is_paused_at_its_end_goes_on_with_the_next_record() {
    for cluster in Cluster::all() {
        let (broker, topic) = (cluster.broker("end"), cluster.topic("end", 1));
        let held = [TopicPartition::new(topic.clone(), 0)];
        let mut reader = Reader::of(&broker, &topic, 1);
        for round in 0..3 {
            reader.event("the end", |event| {
                matches!(event, Event::End { offset, .. } if *offset == 3 * round).then_some(())
            });
            reader.consumer.pause(&held).unwrap();
            fill(&broker, &topic, 1, 3);
            reader.consumer.resume(&held).unwrap();
            reader.records(3 * (round as usize + 1));
        }
        assert_eq!(offsets(&reader, 0), (0..9).collect::<Vec<_>>());
    }
}

#[test]
fn what_is_resumed_when_everything_was_paused_is_fetched_at_once() {
    for cluster in Cluster::all() {
        let (broker, topic) = (cluster.broker("resume"), cluster.topic("resume", 1));
        fill(&broker, &topic, 1, 100);
        let held = [TopicPartition::new(topic.clone(), 0)];
        let mut reader = Reader::of(&broker, &topic, 1);
        let mut shortest = LIMIT;
        for round in 1..=3 {
            reader.consumer.poll(LIMIT, 1, &mut reader.batch, &mut reader.events).unwrap();
            reader.consumer.pause(&held).unwrap();
            // Until the thread that fetches has found nothing to fetch, and sleeps.
            let paused = Instant::now();
            until("the pause has lasted", || {
                reader.poll();
                paused.elapsed() > Duration::from_millis(300)
            });
            let resumed = Instant::now();
            reader.consumer.resume(&held).unwrap();
            let known = reader.batch.records.len();
            until(&format!("a record of round {round}"), || {
                reader.consumer.poll(Duration::from_millis(5), 1, &mut reader.batch, &mut reader.events).unwrap();
                reader.batch.records.len() > known
            });
            shortest = shortest.min(resumed.elapsed());
        }
        // It would sleep for a second. The machine may be slow, but not each time.
        assert!(shortest < Duration::from_millis(400), "{shortest:?}");
        let read = offsets(&reader, 0);
        assert_eq!(read, (0..read.len() as i64).collect::<Vec<_>>());
    }
}

fn offsets(reader: &Reader, partition: i32) -> Vec<i64> {
    let of = |r: &&BatchRecord| reader.batch.sources[r.source as usize].partition == partition;
    reader.batch.records.iter().filter(of).map(|r| r.offset).collect()
}

#[test]
fn a_record_that_is_too_large_is_refused_and_the_others_arrive() {
    for cluster in Cluster::all() {
        let topic = cluster.topic("large", 1);
        let mut config = cluster.config("large");
        config.producer.push(("message.max.bytes".into(), "5000".into()));
        let mut producer = cluster.connect(&config, None).producer(1, None).unwrap();
        send(&mut *producer, &topic, Some(0), Some(b"k"), b"small");
        send(&mut *producer, &topic, Some(0), Some(b"big"), &[7; 6000]);
        send(&mut *producer, &topic, Some(0), Some(b"k"), b"small too");
        producer.flush(LIMIT).unwrap();
        let refused = producer.refused();
        assert_eq!(refused.len(), 1);
        assert_eq!((refused[0].error.kind(), refused[0].key.as_deref()), (Kind::Record, Some(b"big".as_slice())));
        assert_eq!(refused[0].value.as_ref().map(Vec::len), Some(6000));
        assert_eq!(producer.acknowledged(), 2);
    }
}

#[test]
fn a_record_that_the_broker_refuses_comes_back_whole() {
    let Some(cluster) = Cluster::real() else { return };
    let name = unique("small");
    let broker = cluster.broker("small");
    let limit = vec![("max.message.bytes".to_owned(), "1000".to_owned())];
    broker
        .admin()
        .unwrap()
        .create_topics(&[NewTopic { name: name.clone(), partitions: 1, replication: -1, config: limit }])
        .unwrap();
    let (topic, mut producer): (Arc<str>, _) = (name.into(), broker.producer(1, None).unwrap());
    let mut headers = Headers::default();
    headers.add("h", Some(b"x"));
    let value = [7; 3000];
    let (key, value, timestamp_ms) = (Some(b"big".as_slice()), Some(value.as_slice()), Some(77));
    let record = Outgoing { topic: &topic, partition: Some(0), key, value, timestamp_ms, headers: &headers };
    producer.send(record).unwrap();
    producer.flush(LIMIT).unwrap();
    let refused = producer.refused();
    assert_eq!(refused.len(), 1);
    assert_eq!((refused[0].key.as_deref(), refused[0].value.as_deref()), (key, value));
    assert_eq!((&refused[0].headers, refused[0].timestamp_ms), (&headers, timestamp_ms));
    assert_eq!(refused[0].error.kind(), Kind::Record);
    // A failed record doesn't end the producer.
    send(&mut *producer, &topic, Some(0), None, b"small");
    producer.flush(LIMIT).unwrap();
    assert_eq!((producer.acknowledged(), producer.refused().len()), (1, 0));
}

#[test]
fn a_missing_topic_is_told_and_not_created() {
    for cluster in Cluster::all() {
        let (app, missing) = (unique("missing"), unique("not-there"));
        let broker = cluster.broker(&app);
        let mut admin = broker.admin().unwrap();
        assert_eq!(admin.topics(std::slice::from_ref(&missing)).unwrap(), [None]);
        if let Cluster::Real(_) = cluster {
            let mut reader = Reader::subscribed(&broker, &[missing.as_str().into()]);
            let told = reader.event("missing topic", |e| match e {
                Event::MissingTopic(topic) => Some(topic.clone()),
                _ => None,
            });
            assert_eq!(told, missing);
            assert_eq!(admin.topics(&[missing]).unwrap(), [None]);
            reader.consumer.close(true).unwrap();
        }
    }
}

#[test]
fn a_topic_that_has_been_created_is_known() {
    for cluster in Cluster::all() {
        let mut admin = cluster.broker("admin").admin().unwrap();
        for _ in 0..10 {
            let names: Vec<String> = (0..10).map(|_| unique("new")).collect();
            let new =
                |name: &String| NewTopic { name: name.clone(), partitions: 8, replication: -1, config: Vec::new() };
            admin.create_topics(&names.iter().map(new).collect::<Vec<_>>()).unwrap();
            let found = admin.topics(&names).unwrap();
            assert!(found.iter().all(|topic| topic.as_ref().is_some_and(|topic| topic.partitions == 8)), "{found:?}");
        }
    }
}

#[test]
fn a_topic_that_comes_after_the_subscription_is_assigned_soon() {
    let Some(cluster) = Cluster::real() else { return };
    let (there, late) = (cluster.topic("there", 1), unique("late"));
    let broker = cluster.broker(&unique("app"));
    let mut reader = Reader::subscribed(&broker, &[there.clone(), late.as_str().into()]);
    assert_eq!(reader.join().len(), 1);
    let new = NewTopic { name: late.clone(), partitions: 1, replication: -1, config: Vec::new() };
    broker.admin().unwrap().create_topics(&[new]).unwrap();
    // By itself librdkafka would look again after half a minute.
    let began = Instant::now();
    while !reader.events.iter().any(|e| matches!(e, Event::Assigned(of) if of.iter().any(|tp| *tp.topic == *late))) {
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", reader.events);
        if let Some(i) = reader.events.iter().position(|e| matches!(e, Event::Revoking(_))) {
            let Event::Revoking(partitions) = reader.events.remove(i) else { unreachable!("it was one") };
            reader.consumer.unassign(&partitions).unwrap();
        }
        reader.poll();
    }
}

#[test]
fn topics_are_created_once_with_their_settings() {
    for cluster in Cluster::all() {
        let topic = cluster.topic("create", 5);
        let mut admin = cluster.broker("create").admin().unwrap();
        assert_eq!(admin.topics(&[topic.to_string()]).unwrap()[0].as_ref().unwrap().partitions, 5);
        let again = NewTopic { name: topic.to_string(), partitions: 5, replication: -1, config: Vec::new() };
        admin.create_topics(&[again]).unwrap();
    }
    let Some(cluster) = Cluster::real() else { return };
    let wrong = vec![("cleanup.policy".to_owned(), "shred".to_owned())];
    let wrong = NewTopic { name: unique("wrong"), partitions: 1, replication: -1, config: wrong };
    let error = cluster.broker("create").admin().unwrap().create_topics(&[wrong]).unwrap_err();
    assert_eq!(error.kind(), Kind::BrokerFatal);
}

#[test]
fn an_offset_that_the_log_does_not_have_is_an_event_for_restore() {
    for cluster in Cluster::all() {
        let (broker, topic) = (cluster.broker("range"), cluster.topic("range", 1));
        fill(&broker, &topic, 1, 3);
        let mut reader = Reader::new(broker.consumer(Role::Restore { thread: 1 }, Isolation::AsConfigured).unwrap());
        let partition = TopicPartition::new(topic, 0);
        reader.consumer.assign(&[(partition.clone(), Some(100))]).unwrap();
        let told = reader.event("out of range", |e| match e {
            Event::OffsetOutOfRange(partition) => Some(partition.clone()),
            _ => None,
        });
        assert_eq!(told, partition);
    }
}

#[test]
fn brokers_that_are_gone_are_trouble_until_they_are_back() {
    let mock = MockCluster::start(1).unwrap();
    let cluster = Cluster::Mock(mock.clone());
    let (broker, topic) = (cluster.broker("down"), cluster.topic("down", 1));
    fill(&broker, &topic, 1, 5);
    let mut reader = Reader::of(&broker, &topic, 1);
    reader.records(5);
    let mut producer = broker.producer(1, None).unwrap();
    send(&mut *producer, &topic, Some(0), None, b"before");
    producer.flush(LIMIT).unwrap();
    reader.records(6);

    mock.brokers_down().unwrap();
    let kind = reader.event("trouble", |e| if let Event::Trouble(error) = e { Some(error.kind()) } else { None });
    assert_eq!(kind, Kind::Broker);
    send(&mut *producer, &topic, Some(0), None, b"during");
    assert_eq!(producer.flush(Duration::from_millis(300)).unwrap_err().kind(), Kind::Broker);

    mock.brokers_up().unwrap();
    reader.event("end of trouble", |e| matches!(e, Event::TroubleOver).then_some(()));
    producer.flush(LIMIT).unwrap();
    reader.records(7);
    assert!(producer.refused().is_empty());
}

#[test]
fn who_only_asks_hears_that_brokers_are_back_and_is_not_answered_a_thousand_times_a_second() {
    let mock = MockCluster::start(1).unwrap();
    let cluster = Cluster::Mock(mock.clone());
    let (broker, topic) = (cluster.broker("asks"), cluster.topic("asks", 1));
    fill(&broker, &topic, 1, 5);
    let mut reader = Reader::of(&broker, &topic, 1);
    reader.records(5);
    mock.brokers_down().unwrap();
    reader.event("trouble", |e| matches!(e, Event::Trouble(_)).then_some(()));

    let asked = [TopicPartition::new(topic.clone(), 0)];
    let begun = Instant::now();
    for _ in 0..3 {
        assert_eq!(reader.consumer.committed(&asked).unwrap_err().kind(), Kind::Broker);
    }
    assert!(begun.elapsed() > Duration::from_secs(1), "{:?}", begun.elapsed());
    mock.brokers_up().unwrap();
    let deadline = Instant::now() + LIMIT;
    while reader.consumer.committed(&asked).is_err() {
        assert!(Instant::now() < deadline, "the brokers are back");
    }
    reader.event("end of trouble", |e| matches!(e, Event::TroubleOver).then_some(()));
}

#[test]
fn a_full_queue_refuses_until_there_is_room() {
    for cluster in Cluster::all() {
        let topic = cluster.topic("full", 1);
        let mut config = cluster.config("full");
        config.producer.push(("queue.buffering.max.messages".into(), "100".into()));
        let broker = cluster.connect(&config, None);
        let mut producer = broker.producer(1, None).unwrap();
        for i in 0..1000 {
            send(&mut *producer, &topic, Some(0), None, format!("{i}").as_bytes());
        }
        producer.flush(LIMIT).unwrap();
        assert_eq!(producer.acknowledged(), 1000);
        let mut reader = Reader::of(&broker, &topic, 1);
        reader.records(1000);
        assert_eq!(reader.value(999), Some(b"999".as_slice()));
    }
}

/// DESIGN.md asks for it: a restart in place is instant, because the broker knows the member again.
#[test]
fn a_member_that_vanished_is_back_at_once() {
    let Some(cluster) = Cluster::real() else { return };
    for protocol_of_leaving in [false, true] {
        let (app, topic) = (unique("static"), cluster.topic("static", 3));
        let mut first = Reader::subscribed(&cluster.broker(&app), std::slice::from_ref(&topic));
        assert_eq!(first.join().len(), 3);
        if protocol_of_leaving {
            first.consumer.close(false).unwrap();
        } else {
            // As after kill -9, the old member says nothing; the new one takes its place and fences it.
        }
        let start = Instant::now();
        let mut second = Reader::subscribed(&cluster.broker(&app), &[topic]);
        assert_eq!(second.join().len(), 3);
        let took = start.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?}");
        if !protocol_of_leaving {
            until("the old one is fenced", || {
                let polled = first.consumer.poll(STEP, 10, &mut first.batch, &mut first.events);
                polled.is_err_and(|e| e.kind() == Kind::BrokerFatal)
            });
        }
        second.consumer.close(true).unwrap();
    }
}

#[test]
fn a_member_that_leaves_frees_its_partitions_for_others() {
    let Some(cluster) = Cluster::real() else { return };
    let (app, topic) = (unique("leave"), cluster.topic("leave", 2));
    let broker = |who: &str| cluster.connect(&cluster.config(&app), Some(who));
    let mut first = Reader::subscribed(&broker("one"), std::slice::from_ref(&topic));
    assert_eq!(first.join().len(), 2);
    first.consumer.close(true).unwrap();
    let start = Instant::now();
    let mut second = Reader::subscribed(&broker("two"), std::slice::from_ref(&topic));
    assert_eq!(second.join().len(), 2);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    second.consumer.close(true).unwrap();
}

/// Two members, both protocols: the first is asked for half, commits, gives it back, and goes on with the rest.
#[test]
fn two_members_share_the_partitions() {
    let Some(cluster) = Cluster::real() else { return };
    for protocol in ["classic", "consumer"] {
        let (app, topic) = (unique("share"), cluster.topic("share", 4));
        fill(&cluster.broker(&app), &topic, 4, 10);
        let mut config = cluster.config(&app);
        config.consumer.push(("group.protocol".into(), protocol.into()));
        let mut first = Reader::subscribed(&cluster.connect(&config, Some("one")), std::slice::from_ref(&topic));
        assert_eq!(first.join().len(), 4);
        first.records(40);

        let mut second = Reader::subscribed(&cluster.connect(&config, Some("two")), std::slice::from_ref(&topic));
        second.poll();
        let revoking =
            first.event("revocation", |e| if let Event::Revoking(list) = e { Some(list.clone()) } else { None });
        let ten = Committed { offset: 10, metadata: "m".into() };
        let commits: Vec<_> = revoking.iter().map(|p| (p.clone(), ten.clone())).collect();
        first.consumer.commit(&commits).unwrap();
        first.consumer.unassign(&revoking).unwrap();
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let both_have_two = |first: &mut Reader, ours: &mut Vec<TopicPartition>| {
            first.poll();
            for event in std::mem::take(&mut first.events) {
                if let Event::Assigned(list) = event {
                    let committed = first.consumer.committed(&list).unwrap();
                    let at = committed.into_iter().map(|c| c.map(|c| c.offset));
                    first.consumer.assign(&list.iter().cloned().zip(at).collect::<Vec<_>>()).unwrap();
                    ours.extend(list);
                }
            }
            ours.len() == 2
        };
        if protocol == "consumer" {
            assert_eq!(revoking.len(), 2, "the others go on without a stop");
            ours = (0..4).map(|p| TopicPartition::new(topic.clone(), p)).filter(|p| !revoking.contains(p)).collect();
        }
        until("both have two", || both_have_two(&mut first, &mut ours) & both_have_two(&mut second, &mut theirs));
        assert!(ours.iter().all(|p| !theirs.contains(p)));
        first.consumer.close(true).unwrap();
        second.consumer.close(true).unwrap();
    }
}

#[test]
fn a_consumer_closes_although_a_rebalance_was_never_answered() {
    let Some(cluster) = Cluster::real() else { return };
    let classic = |strategy: &str| vec![("partition.assignment.strategy".to_owned(), strategy.to_owned())];
    let consumer = vec![("group.protocol".to_owned(), "consumer".to_owned())];
    for settings in [classic("range"), classic("cooperative-sticky"), consumer] {
        let (app, topic) = (unique("unanswered"), cluster.topic("unanswered", 4));
        let mut config = cluster.config(&app);
        config.consumer = settings;
        let mut first = Reader::subscribed(&cluster.connect(&config, Some("one")), std::slice::from_ref(&topic));
        assert_eq!(first.join().len(), 4);
        let mut second = Reader::subscribed(&cluster.connect(&config, Some("two")), std::slice::from_ref(&topic));
        second.poll();
        let asked = |e: &Event| if let Event::Revoking(list) = e { Some(list.clone()) } else { None };
        let revoking = first.event("revocation", asked);
        assert!(!revoking.is_empty());
        let start = Instant::now();
        drop(first);
        until("the second is given something", || {
            second.poll();
            second.events.iter().any(|e| matches!(e, Event::Assigned(list) if !list.is_empty()))
                || start.elapsed() > Duration::from_secs(12)
        });
        // It has been given partitions and has not answered.
        let start = Instant::now();
        drop(second);
        assert!(start.elapsed() < Duration::from_secs(5), "{:?} with {:?}", start.elapsed(), config.consumer);
    }
}
