//! The broker in memory keeps the port's promises: what consumers, producers and admins of `broker.rs` may rely on.

use std::sync::Arc;
use std::time::Duration;
use watersmeet::broker::*;
use watersmeet::clock::ManualClock;
use watersmeet::error::Kind;
use watersmeet::record::Headers;
use watersmeet::testing::{Fault, MemoryBroker, Request};

/// A consumer with what came out of its last polls.
struct Reader {
    consumer: Box<dyn Consumer>,
    events: Vec<Event>,
}

impl Reader {
    fn member(broker: &MemoryBroker, process: &str, topics: &[&str]) -> Self {
        let mut consumer =
            broker.client("app", process).consumer(Role::Main { thread: 1 }, Isolation::AsConfigured).unwrap();
        consumer.subscribe(&topics.iter().map(|t| Arc::from(*t)).collect::<Vec<_>>()).unwrap();
        Self { consumer, events: Vec::new() }
    }

    fn of(broker: &MemoryBroker, partitions: &[(TopicPartition, Option<i64>)]) -> Self {
        let mut consumer =
            broker.client("app", "p").consumer(Role::Restore { thread: 1 }, Isolation::AsConfigured).unwrap();
        consumer.assign(partitions).unwrap();
        Self { consumer, events: Vec::new() }
    }

    /// One poll: the values that came, as `topic-partition@offset=value`.
    fn poll_max(&mut self, max: usize) -> Vec<String> {
        let mut batch = Batch::default();
        self.consumer.poll(Duration::ZERO, max, &mut batch, &mut self.events).unwrap();
        let text = |r: &BatchRecord| {
            let value = r.value.clone().map(|v| &batch.bytes[v.start as usize..v.end as usize]);
            let value = value.map_or("null".into(), String::from_utf8_lossy);
            format!("{}@{}={value}", batch.sources[r.source as usize], r.offset)
        };
        batch.records.iter().map(text).collect()
    }

    fn poll(&mut self) -> Vec<String> {
        self.poll_max(1_000)
    }

    /// The events since the last call, shortened.
    fn events(&mut self) -> Vec<String> {
        let list = |list: &[TopicPartition]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let text = |event: Event| match event {
            Event::Assigned(l) => format!("assigned {}", list(&l)),
            Event::Revoking(l) => format!("revoking {}", list(&l)),
            Event::Lost(l) => format!("lost {}", list(&l)),
            Event::End { partition, offset } => format!("end {partition} {offset}"),
            Event::OffsetOutOfRange(tp) => format!("out of range {tp}"),
            Event::Trouble(_) => "trouble".into(),
            Event::TroubleOver => "trouble over".into(),
            Event::MissingTopic(topic) => format!("missing {topic}"),
        };
        self.events.drain(..).map(text).collect()
    }
}

fn tp(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

fn committed(offset: i64) -> Committed {
    Committed { offset, metadata: format!("m{offset}") }
}

fn broker(topics: &[(&str, i32)]) -> (MemoryBroker, ManualClock) {
    let clock = ManualClock::at(1_000);
    let broker = MemoryBroker::with_clock(Arc::new(clock.clone()));
    for (topic, partitions) in topics {
        broker.create_topic(topic, *partitions);
    }
    (broker, clock)
}

fn put(broker: &MemoryBroker, topic: &str, partition: i32, value: &str) {
    let (topic, headers) = (&topic.into(), &Headers::default());
    let (partition, value) = (Some(partition), Some(value.as_bytes()));
    broker.append(Outgoing { topic, partition, key: None, value, timestamp_ms: Some(5), headers }).unwrap();
}

fn send(producer: &mut dyn Producer, topic: &str, key: Option<&str>, value: &str) {
    let (topic, headers) = (&topic.into(), &Headers::default());
    let (key, value) = (key.map(str::as_bytes), Some(value.as_bytes()));
    producer.send(Outgoing { topic, partition: None, key, value, timestamp_ms: None, headers }).unwrap();
}

#[test]
fn records_come_once_in_order_with_an_end_each_time_that_it_is_reached() {
    let (broker, _) = broker(&[("t", 1)]);
    put(&broker, "t", 0, "a");
    let mut reader = Reader::of(&broker, &[(tp("t", 0), None)]);
    assert_eq!(reader.poll(), ["t-0@0=a"]);
    assert_eq!(reader.events(), ["end t-0 1"]);
    assert!(reader.poll().is_empty() && reader.events().is_empty());
    put(&broker, "t", 0, "b");
    assert_eq!(reader.consumer.cached_end_offset(&tp("t", 0)), Some(1), "as of the last fetch");
    assert_eq!(reader.poll(), ["t-0@1=b"]);
    assert_eq!(reader.events(), ["end t-0 2"]);
    assert_eq!(reader.consumer.cached_end_offset(&tp("t", 0)), Some(2));
}

#[test]
fn offsets_without_records_are_passed_over_and_counted_in_the_end() {
    let (broker, _) = broker(&[("t", 1)]);
    put(&broker, "t", 0, "a");
    broker.skip_offsets("t", 0, 1);
    let mut reader = Reader::of(&broker, &[(tp("t", 0), Some(0))]);
    assert_eq!(reader.poll(), ["t-0@0=a"]);
    assert_eq!(reader.events(), ["end t-0 2"]);
    put(&broker, "t", 0, "b");
    assert_eq!(reader.poll(), ["t-0@2=b"]);
}

#[test]
fn a_poll_brings_no_more_than_asked_for_in_the_order_of_writing() {
    let (broker, _) = broker(&[("t", 2)]);
    for i in 0..3 {
        put(&broker, "t", 0, &format!("x{i}"));
        put(&broker, "t", 1, &format!("y{i}"));
    }
    let mut reader = Reader::of(&broker, &[(tp("t", 0), None), (tp("t", 1), None)]);
    assert_eq!(reader.poll_max(3), ["t-0@0=x0", "t-1@0=y0", "t-0@1=x1"]);
    assert!(reader.events().is_empty(), "neither end has been reached");
    assert_eq!(reader.poll_max(4), ["t-1@1=y1", "t-0@2=x2", "t-1@2=y2"]);
    assert_eq!(reader.events(), ["end t-0 3", "end t-1 3"]);
}

#[test]
fn paused_partitions_are_held_and_lose_nothing() {
    let (broker, _) = broker(&[("t", 2)]);
    let mut reader = Reader::of(&broker, &[(tp("t", 0), None), (tp("t", 1), None)]);
    reader.consumer.pause(&[tp("t", 0)]).unwrap();
    put(&broker, "t", 0, "held");
    put(&broker, "t", 1, "free");
    assert_eq!(reader.poll(), ["t-1@0=free"]);
    reader.consumer.resume(&[tp("t", 0)]).unwrap();
    assert_eq!(reader.poll(), ["t-0@0=held"]);
}

#[test]
fn an_offset_outside_of_the_log_is_told_once_and_can_be_set_anew() {
    let (broker, _) = broker(&[("t", 1)]);
    for value in ["a", "b", "c"] {
        put(&broker, "t", 0, value);
    }
    broker.delete_records("t", 0, 2);
    for wrong in [1, 4] {
        let mut reader = Reader::of(&broker, &[(tp("t", 0), Some(wrong))]);
        assert!(reader.poll().is_empty() && reader.poll().is_empty());
        assert_eq!(reader.events(), ["out of range t-0"]);
        let bounds = reader.consumer.offset_bounds(&[tp("t", 0)]).unwrap();
        assert_eq!(bounds[0], 2..3);
        reader.consumer.assign(&[(tp("t", 0), Some(bounds[0].start))]).unwrap();
        assert_eq!(reader.poll(), ["t-0@2=c"]);
    }
}

#[test]
fn a_member_gets_partitions_and_gives_half_of_them_to_a_second_one() {
    let (broker, _) = broker(&[("a", 2), ("b", 2)]);
    let mut one = Reader::member(&broker, "one", &["a", "b"]);
    one.poll();
    assert_eq!(one.events(), ["assigned a-0 a-1 b-0 b-1"]);
    put(&broker, "a", 1, "x");
    assert!(one.poll().is_empty(), "nothing is fetched before assign");
    one.consumer.assign(&["a", "b"].map(|t| [(tp(t, 0), None), (tp(t, 1), None)]).concat()).unwrap();
    assert_eq!(one.poll(), ["a-1@0=x"]);
    one.events();

    let mut two = Reader::member(&broker, "two", &["a", "b"]);
    two.poll();
    one.poll();
    assert_eq!(one.events(), ["revoking a-1 b-1"]);
    two.poll();
    assert!(two.events().is_empty(), "they are one's until it gives them back");
    one.consumer.commit(&[(tp("a", 1), committed(1))]).unwrap();
    one.consumer.unassign(&[tp("a", 1), tp("b", 1)]).unwrap();
    two.poll();
    assert_eq!(two.events(), ["assigned a-1 b-1"]);
    assert_eq!(two.consumer.committed(&[tp("a", 1), tp("b", 1)]).unwrap(), [Some(committed(1)), None]);
    assert_eq!(broker.members("app")["one-1"], [tp("a", 0), tp("b", 0)]);
    put(&broker, "a", 0, "y");
    assert_eq!(one.poll(), ["a-0@0=y"], "what it kept goes on");
}

#[test]
fn a_removed_member_cannot_commit_learns_of_it_and_joins_again() {
    let (broker, _) = broker(&[("a", 1)]);
    let mut one = Reader::member(&broker, "one", &["a"]);
    one.poll();
    one.events();
    broker.remove_member("app", "one-1");
    assert_eq!(one.consumer.commit(&[(tp("a", 0), committed(1))]).unwrap_err().kind(), Kind::Migrated);
    assert!(broker.committed("app").is_empty());
    one.poll();
    assert_eq!(one.events(), ["lost a-0"]);
    one.poll();
    assert!(one.events().is_empty(), "what was lost has to be let go first");
    one.consumer.unassign(&[tp("a", 0)]).unwrap();
    one.poll();
    assert_eq!(one.events(), ["assigned a-0"]);
}

#[test]
fn a_killed_process_gets_its_partitions_back_at_once_and_others_get_them_after_its_session() {
    let (broker, clock) = broker(&[("a", 1)]);
    let mut one = Reader::member(&broker, "one", &["a"]);
    one.poll();
    drop(one);
    let mut other = Reader::member(&broker, "other", &["a"]);
    clock.advance_ms(44_999);
    other.poll();
    assert_eq!(other.events(), ["assigned "]);
    let mut one = Reader::member(&broker, "one", &["a"]);
    one.poll();
    assert_eq!(one.events(), ["assigned a-0"]);
    drop(one);
    clock.advance_ms(45_000);
    other.poll();
    assert_eq!(other.events(), ["assigned a-0"]);
}

#[test]
fn a_process_that_comes_back_replaces_itself() {
    let (broker, _) = broker(&[("a", 1)]);
    let mut old = Reader::member(&broker, "one", &["a"]);
    old.poll();
    let mut new = Reader::member(&broker, "one", &["a"]);
    new.poll();
    assert_eq!(new.events(), ["assigned a-0"]);
    let error = old.consumer.commit(&[(tp("a", 0), committed(9))]).unwrap_err();
    assert_eq!(error.kind(), Kind::BrokerFatal, "two processes run under one name: {error}");
    drop(old);
    new.consumer.commit(&[(tp("a", 0), committed(1))]).unwrap();
    assert_eq!(broker.committed("app")[&tp("a", 0)], committed(1));
}

#[test]
fn a_missing_topic_is_told_once_and_its_partitions_come_when_it_is_there() {
    let (broker, _) = broker(&[]);
    let mut one = Reader::member(&broker, "one", &["a"]);
    one.poll();
    one.poll();
    assert_eq!(one.events(), ["missing a", "assigned "]);
    broker.create_topic("a", 1);
    one.poll();
    assert_eq!(one.events(), ["assigned a-0"]);
}

#[test]
fn keys_go_where_javas_producer_puts_them_and_null_keys_go_round() {
    let (broker, _) = broker(&[("t", 12)]);
    let mut producer = broker.client("app", "p").producer(1, None).unwrap();
    for key in ["abc", "abcd", "21", "", "가"] {
        send(&mut *producer, "t", Some(key), "v");
    }
    for _ in 0..3 {
        send(&mut *producer, "t", None, "v");
    }
    producer.flush(Duration::ZERO).unwrap();
    let partitions: Vec<_> = broker.records("t").iter().map(|r| r.partition).collect();
    assert_eq!(partitions, [3, 8, 0, 9, 3, 0, 1, 2]);
    assert_eq!(broker.records("t")[0].timestamp_ms, 1_000, "the broker's clock where the record has no time");
}

#[test]
fn what_was_not_flushed_is_lost_with_the_producer() {
    let (broker, _) = broker(&[("t", 1)]);
    let mut producer = broker.client("app", "p").producer(1, None).unwrap();
    send(&mut *producer, "t", None, "sent");
    producer.serve();
    send(&mut *producer, "t", None, "lost");
    assert_eq!(producer.acknowledged(), 1);
    drop(producer);
    assert_eq!(broker.records("t").len(), 1);
}

#[test]
fn records_that_are_at_fault_come_back_and_the_others_go_on() {
    let (broker, _) = broker(&[("t", 1)]);
    broker.configure_topic("t", "max.message.bytes", "200");
    let mut producer = broker.client("app", "p").producer(1, None).unwrap();
    send(&mut *producer, "t", Some("k"), &"x".repeat(200));
    send(&mut *producer, "no-such-topic", Some("k"), "v");
    send(&mut *producer, "t", Some("k"), "fits");
    producer.flush(Duration::ZERO).unwrap();
    let kinds: Vec<_> = producer.refused().iter().map(|r| (r.topic.to_string(), r.error.kind())).collect();
    assert_eq!(kinds, [("t".into(), Kind::Record), ("no-such-topic".into(), Kind::BrokerFatal)]);
    assert!(producer.refused().is_empty(), "each comes back once");
    assert_eq!(broker.records("t").len(), 1);
}

#[test]
fn an_unreachable_broker_is_trouble_for_polls_and_an_error_for_requests_and_loses_nothing() {
    let (broker, _) = broker(&[("t", 1)]);
    let mut reader = Reader::member(&broker, "one", &["t"]);
    reader.poll();
    reader.consumer.assign(&[(tp("t", 0), None)]).unwrap();
    reader.poll();
    reader.events();
    let mut producer = broker.client("app", "p").producer(1, None).unwrap();
    broker.set_unreachable(true);
    send(&mut *producer, "t", None, "waits");
    assert_eq!(producer.flush(Duration::ZERO).unwrap_err().kind(), Kind::Broker);
    for error in [
        reader.consumer.commit(&[(tp("t", 0), committed(0))]).unwrap_err(),
        reader.consumer.offset_bounds(&[tp("t", 0)]).unwrap_err(),
        reader.consumer.committed(&[tp("t", 0)]).unwrap_err(),
        broker.client("app", "p").admin().unwrap().topics(&["t".into()]).unwrap_err(),
    ] {
        assert_eq!(error.kind(), Kind::Broker, "{error}");
    }
    reader.poll();
    reader.poll();
    assert_eq!(reader.events(), ["trouble"], "told once");
    broker.set_unreachable(false);
    producer.serve();
    assert_eq!(reader.poll(), ["t-0@0=waits"]);
    assert_eq!(reader.events(), ["end t-0 1", "trouble over"]);
}

#[test]
fn a_lost_answer_of_a_commit_or_a_record_leaves_its_effect_exactly_once() {
    let (broker, _) = broker(&[("t", 1)]);
    let mut member = Reader::member(&broker, "one", &["t"]);
    member.poll();
    broker.fail_next(Request::Commit, Fault::AnswerLost);
    assert_eq!(member.consumer.commit(&[(tp("t", 0), committed(7))]).unwrap_err().kind(), Kind::Broker);
    assert_eq!(broker.committed("app")[&tp("t", 0)], committed(7));

    let mut producer = broker.client("app", "p").producer(1, None).unwrap();
    broker.fail_next(Request::Produce, Fault::AnswerLost);
    send(&mut *producer, "t", None, "once");
    assert_eq!(producer.flush(Duration::ZERO).unwrap_err().kind(), Kind::Broker);
    producer.flush(Duration::ZERO).unwrap();
    assert_eq!((broker.records("t").len(), producer.acknowledged()), (1, 1));
}

#[test]
fn a_refused_request_changes_nothing_and_the_next_one_succeeds() {
    let (broker, _) = broker(&[("t", 1)]);
    let mut admin = broker.client("app", "p").admin().unwrap();
    let topic = NewTopic { name: "new".into(), partitions: 2, replication: -1, config: vec![] };
    broker.fail_next(Request::CreateTopics, Fault::Refused(Kind::BrokerFatal));
    assert_eq!(admin.create_topics(std::slice::from_ref(&topic)).unwrap_err().kind(), Kind::BrokerFatal);
    assert_eq!(admin.topics(&["new".into()]).unwrap(), [None]);
    admin.create_topics(std::slice::from_ref(&topic)).unwrap();
    admin.create_topics(&[topic]).unwrap();
    assert_eq!(admin.topics(&["new".into(), "x".into()]).unwrap(), [Some(TopicInfo { partitions: 2 }), None]);
}

#[test]
fn a_poll_that_waits_is_woken_by_a_record() {
    let broker = MemoryBroker::new();
    broker.create_topic("t", 1);
    let handle = broker.clone();
    let (ready, go) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut reader = Reader::of(&handle, &[(tp("t", 0), None)]);
        reader.poll();
        reader.events();
        ready.send(()).unwrap();
        let mut batch = Batch::default();
        while batch.records.is_empty() {
            reader.consumer.poll(Duration::from_secs(60), 10, &mut batch, &mut reader.events).unwrap();
        }
        batch.records.len()
    });
    go.recv().unwrap();
    put(&broker, "t", 0, "x");
    assert_eq!(reader.join().unwrap(), 1);
}

/// A producer with a transactional id, in its first transaction.
fn transactional(broker: &MemoryBroker, id: &str) -> Box<dyn Producer> {
    let mut producer = broker.client("app", "p").producer(1, Some(id)).unwrap();
    producer.init_transactions().unwrap();
    producer.begin_transaction().unwrap();
    producer
}

/// A reader of committed records of `t-0`.
fn committed_reader(broker: &MemoryBroker) -> Reader {
    let mut consumer =
        broker.client("app", "p").consumer(Role::Restore { thread: 1 }, Isolation::ReadCommitted).unwrap();
    consumer.assign(&[(tp("t", 0), None)]).unwrap();
    Reader { consumer, events: Vec::new() }
}

#[test]
fn readers_of_committed_records_stop_before_the_first_open_transaction() {
    let (broker, _) = broker(&[("t", 1)]);
    let (mut one, mut two) = (transactional(&broker, "one"), transactional(&broker, "two"));
    let (mut reader, mut all) = (committed_reader(&broker), Reader::of(&broker, &[(tp("t", 0), None)]));
    send(&mut *one, "t", None, "a");
    one.flush(Duration::ZERO).unwrap();
    send(&mut *two, "t", None, "b");
    two.commit_transaction().unwrap();
    assert_eq!(all.poll(), ["t-0@0=a", "t-0@1=b"]);
    assert!(reader.poll().is_empty());
    assert_eq!(reader.events(), ["end t-0 0"]);
    assert_eq!(reader.consumer.offset_bounds(&[tp("t", 0)]).unwrap()[0], 0..0);
    assert_eq!(reader.consumer.log_ends(&[tp("t", 0)]).unwrap(), [3], "two records and a marker");
    assert_eq!(broker.open_transactions(), ["one"]);
    one.abort_transaction().unwrap();
    assert_eq!(reader.poll(), ["t-0@1=b"]);
    assert_eq!(reader.events(), ["end t-0 4"]);
    one.begin_transaction().unwrap();
    send(&mut *one, "t", None, "c");
    one.commit_transaction().unwrap();
    assert_eq!(reader.poll(), ["t-0@4=c"]);
    assert_eq!(broker.committed_records("t").len(), 2);
}

#[test]
fn offsets_count_when_their_transaction_is_committed() {
    let (broker, _) = broker(&[("t", 1)]);
    let mut member = Reader::member(&broker, "p", &["t"]);
    member.poll();
    let group = member.consumer.group_metadata().unwrap();
    let mut producer = transactional(&broker, "id");
    producer.send_offsets(&[(tp("t", 0), committed(5))], &*group).unwrap();
    assert_eq!(member.consumer.committed(&[tp("t", 0)]).unwrap(), [None], "readers of all do not wait");
    let mut strict = committed_reader(&broker);
    assert_eq!(strict.consumer.committed(&[tp("t", 0)]).unwrap_err().kind(), Kind::Broker, "it is not known yet");
    producer.send_offsets(&[(tp("t", 0), committed(6))], &*group).unwrap();
    producer.commit_transaction().unwrap();
    assert_eq!(strict.consumer.committed(&[tp("t", 0)]).unwrap(), [Some(committed(6))]);
    producer.begin_transaction().unwrap();
    producer.send_offsets(&[(tp("t", 0), committed(7))], &*group).unwrap();
    producer.abort_transaction().unwrap();
    assert_eq!(strict.consumer.committed(&[tp("t", 0)]).unwrap(), [Some(committed(6))]);
    broker.remove_member("app", "p-1");
    producer.begin_transaction().unwrap();
    let refused = producer.send_offsets(&[(tp("t", 0), committed(8))], &*group).unwrap_err();
    assert_eq!(refused.kind(), Kind::Aborted, "no longer a member");
    assert_eq!(producer.commit_transaction().unwrap_err().kind(), Kind::Aborted);
    producer.abort_transaction().unwrap();
}

#[test]
fn who_takes_a_transactional_id_over_aborts_what_is_open_and_fences_its_predecessor() {
    let (broker, _) = broker(&[("t", 1)]);
    let mut zombie = transactional(&broker, "id");
    send(&mut *zombie, "t", None, "lost");
    zombie.flush(Duration::ZERO).unwrap();
    let mut heir = transactional(&broker, "id");
    assert_eq!(committed_reader(&broker).poll(), [""; 0]);
    send(&mut *zombie, "t", None, "late");
    assert_eq!(zombie.flush(Duration::ZERO).unwrap_err().kind(), Kind::Migrated);
    assert_eq!(zombie.commit_transaction().unwrap_err().kind(), Kind::Migrated);
    assert_eq!(zombie.abort_transaction().unwrap_err().kind(), Kind::Migrated);
    send(&mut *heir, "t", None, "kept");
    heir.commit_transaction().unwrap();
    assert_eq!(committed_reader(&broker).poll(), ["t-0@2=kept"]);
}

#[test]
fn a_transaction_that_is_open_for_too_long_is_aborted() {
    let (broker, clock) = broker(&[("t", 1)]);
    let mut slow = transactional(&broker, "id");
    send(&mut *slow, "t", None, "late");
    slow.flush(Duration::ZERO).unwrap();
    clock.advance_ms(10_000);
    committed_reader(&broker).poll();
    assert!(broker.open_transactions().is_empty());
    assert_eq!(slow.commit_transaction().unwrap_err().kind(), Kind::Migrated);
}

#[test]
fn a_commit_whose_answer_is_lost_is_asked_for_again_and_counts_once() {
    let (broker, _) = broker(&[("t", 1)]);
    let mut producer = transactional(&broker, "id");
    send(&mut *producer, "t", None, "a");
    broker.fail_next(Request::EndTransaction, Fault::AnswerLost);
    assert_eq!(producer.commit_transaction().unwrap_err().kind(), Kind::Broker);
    assert_eq!(committed_reader(&broker).poll(), ["t-0@0=a"]);
    producer.commit_transaction().unwrap();
    assert_eq!(broker.end_offset("t", 0), 2, "one record, one marker");
    producer.begin_transaction().unwrap();
    send(&mut *producer, "t", None, "b");
    producer.commit_transaction().unwrap();
    assert_eq!(broker.committed_records("t").len(), 2);
}

#[test]
fn partitions_may_hear_of_a_commit_after_the_group_has() {
    let (broker, _) = broker(&[("t", 1)]);
    let mut member = Reader::member(&broker, "p", &["t"]);
    member.poll();
    let group = member.consumer.group_metadata().unwrap();
    let mut producer = transactional(&broker, "id");
    send(&mut *producer, "t", None, "a");
    producer.send_offsets(&[(tp("t", 0), committed(5))], &*group).unwrap();
    broker.hold_markers(true);
    producer.commit_transaction().unwrap();
    let mut strict = committed_reader(&broker);
    assert_eq!(strict.consumer.committed(&[tp("t", 0)]).unwrap(), [Some(committed(5))]);
    assert!(strict.poll().is_empty());
    let mut heir = broker.client("app", "p").producer(1, Some("id")).unwrap();
    assert_eq!(heir.init_transactions().unwrap_err().kind(), Kind::Broker, "tried again until the markers are there");
    broker.hold_markers(false);
    heir.init_transactions().unwrap();
    assert_eq!(strict.poll(), ["t-0@0=a"]);
}

#[test]
fn compaction_keeps_what_is_committed() {
    let (broker, _) = broker(&[("t", 1)]);
    let mut producer = transactional(&broker, "id");
    for (value, commit) in [("kept", true), ("aborted", false)] {
        send(&mut *producer, "t", Some("k"), value);
        producer.flush(Duration::ZERO).unwrap();
        match commit {
            true => producer.commit_transaction().unwrap(),
            false => producer.abort_transaction().unwrap(),
        }
        producer.begin_transaction().unwrap();
    }
    send(&mut *producer, "t", Some("k"), "open");
    producer.flush(Duration::ZERO).unwrap();
    broker.compact("t", 0, true);
    let values: Vec<_> =
        broker.records("t").into_iter().map(|r| String::from_utf8(r.value.unwrap()).unwrap()).collect();
    assert_eq!(values, ["kept", "open"]);
}
