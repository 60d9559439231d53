//! Chaos on a real Kafka: instances of the job are killed and stopped at random while records come, and in the end its committed
//! outputs are compared with what must be there, record by record.

use super::job;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use watersmeet::broker::{Batch, Broker, Consumer, Isolation, NewTopic, Outgoing, Role, TopicPartition};
use watersmeet::config::Config;
use watersmeet::kafka::KafkaBroker;
use watersmeet::record::Headers;

/// How long nothing may come out before the run counts as stuck: longer than a dead member's session.
const STUCK: Duration = Duration::from_secs(120);
const PARTITIONS: i32 = 6;
const KEYS: usize = 997;
/// What tells a process that it is an instance: its settings, one a line.
const INSTANCE: &str = "WATERSMEET_CHAOS_INSTANCE";

pub struct Options {
    pub bootstrap: String,
    pub seed: u64,
    pub instances: usize,
    /// How long records come.
    pub load: Duration,
    pub rate: usize,
    /// So many SIGKILLs and no other harm, also when all records are there; without it, any harm as long as records come.
    pub kills: Option<usize>,
    pub replication: i32,
    /// Restarts a broker, where there is a command for it.
    pub broker_restart: Option<String>,
}

/// What was done, and what is wrong.
pub struct Report {
    pub records: usize,
    pub kills: usize,
    pub stops: usize,
    pub broker_restarts: usize,
    pub faults: Vec<String>,
    pub done_after: Duration,
}

/// Runs an instance and never comes back, where this process is to be one.
pub fn be_instance_if_told() {
    job::be_instance_if_told(INSTANCE, |prefix, config| {
        config.num_stream_threads = 2;
        job::topology(prefix)
    });
}

struct Instance {
    settings: String,
    log: PathBuf,
    child: Option<Child>,
    /// Started again, or let go on, at this time.
    until: Option<Instant>,
}

impl Instance {
    /// `command` is this program, told to do nothing but `be_instance_if_told`.
    fn start(&mut self, command: &dyn Fn() -> Command) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log).expect("a log");
        let mut command = command();
        command.env(INSTANCE, &self.settings).env("RUST_BACKTRACE", "1").stdin(Stdio::null());
        self.child = Some(command.stdout(Stdio::null()).stderr(log).spawn().expect("starts"));
        self.until = None;
    }

    fn signal(&self, signal: &str) {
        if let Some(child) = &self.child {
            let _ = Command::new("kill").args([signal, &child.id().to_string()]).status();
        }
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// An instance that ended by itself: a stopped one that comes back may find that its place is taken.
    fn ended(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().is_ok_and(|status| status.is_some()))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A small generator: the same seed does the same harm, at about the same times.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// The committed outputs, read as they come.
struct Outputs {
    consumer: Box<dyn Consumer>,
    found: BTreeMap<String, Vec<(String, i64)>>,
    batch: Batch,
}

impl Outputs {
    fn new(broker: &dyn Broker, topics: &[String]) -> Self {
        let mut consumer = broker.consumer(Role::Restore { thread: 1 }, Isolation::ReadCommitted).expect("a consumer");
        let partitions = topics.iter().flat_map(|t| (0..PARTITIONS).map(move |p| TopicPartition::new(t.as_str(), p)));
        let starts: Vec<_> = partitions.map(|tp| (tp, Some(0))).collect();
        consumer.assign(&starts).expect("assigns");
        let found = topics.iter().map(|topic| (topic.clone(), Vec::new())).collect();
        Self { consumer, found, batch: Batch::default() }
    }

    fn read(&mut self, timeout: Duration) -> usize {
        self.batch.clear();
        if let Err(error) = self.consumer.poll(timeout, 50_000, &mut self.batch, &mut Vec::new()) {
            eprintln!("{error}");
        }
        for record in &self.batch.records {
            let part = |range: &Option<std::ops::Range<u32>>| {
                range.as_ref().map_or(&[][..], |r| &self.batch.bytes[r.start as usize..r.end as usize])
            };
            let key = String::from_utf8_lossy(part(&record.key)).into_owned();
            let topic = &*self.batch.sources[record.source as usize].topic;
            self.found.get_mut(topic).expect("an output").push((key, job::count(part(&record.value))));
        }
        self.batch.records.len()
    }

    fn fewest(&self) -> usize {
        self.found.values().map(Vec::len).min().unwrap_or(0)
    }
}

/// Does the harm, and waits until everything is out. `dir` is for state and logs.
pub fn run(options: &Options, dir: &Path, command: &dyn Fn() -> Command) -> Report {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_nanos();
    let application_id = format!("chaos-{nanos}");
    let mut config = Config::new(&application_id);
    config.bootstrap_servers = options.bootstrap.clone();
    config.producer.push(("linger.ms".into(), "20".into()));
    let broker = KafkaBroker::connect(&config, None).expect("a broker");
    let topics: Vec<String> =
        ["in", "counts", "digits"].iter().map(|name| format!("{application_id}-{name}")).collect();
    let new = |name: &String| {
        let replicas = if options.replication > 2 { vec![("min.insync.replicas".into(), "2".into())] } else { vec![] };
        NewTopic { name: name.clone(), partitions: PARTITIONS, replication: options.replication, config: replicas }
    };
    let mut admin = broker.admin().expect("an admin");
    admin.create_topics(&topics.iter().map(new).collect::<Vec<_>>()).expect("creates topics");
    let instance = |i: usize| Instance {
        settings: format!("{}\n{application_id}\n{}", options.bootstrap, dir.join(format!("state-{i}")).display()),
        log: dir.join(format!("instance-{i}.log")),
        child: None,
        until: None,
    };
    let mut instances: Vec<Instance> = (0..options.instances).map(instance).collect();
    instances.iter_mut().for_each(|instance| instance.start(command));
    let mut random = Random(options.seed);
    let mut producer = broker.producer(1, None).expect("a producer");
    let mut outputs = Outputs::new(&broker, &topics[1..]);
    let (input, headers): (Arc<str>, _) = (topics[0].as_str().into(), Headers::default());
    let mut report =
        Report { records: 0, kills: 0, stops: 0, broker_restarts: 0, faults: Vec::new(), done_after: Duration::ZERO };
    let began = Instant::now();
    let (mut harm_at, mut restart_at) = (began + Duration::from_secs(4), began + Duration::from_secs(20));
    let mut restarting: Option<Child> = None;
    let mut moved = Instant::now();
    loop {
        let now = Instant::now();
        let loading = now - began < options.load;
        let any = options.kills.is_none();
        let harming = options.kills.map_or(loading, |kills| report.kills < kills);
        let due = (options.load.min(now - began).as_secs_f64() * options.rate as f64).round() as usize;
        while report.records < due {
            let key = format!("k{}", report.records % KEYS);
            let (key, value) = (Some(key.as_bytes()), Some(&b"v"[..]));
            let record = Outgoing { topic: &input, partition: None, key, value, timestamp_ms: None, headers: &headers };
            match producer.send(record) {
                Ok(()) => report.records += 1,
                Err(_) => break,
            }
        }
        producer.serve();
        for refused in producer.refused() {
            report.faults.push(format!("the test's own record was refused: {}", refused.error));
        }
        for instance in &mut instances {
            if instance.until.is_some_and(|until| until <= now || !harming) || instance.child.is_none() && !harming {
                instance.signal("-CONT");
                instance.until = None;
                if instance.child.is_none() {
                    instance.start(command);
                }
            }
            if instance.ended() {
                instance.start(command);
            }
        }
        if harming && now >= harm_at {
            harm_at = now + Duration::from_millis(1_000 + random.below(5_000));
            let instance = &mut instances[random.below(options.instances as u64) as usize];
            if instance.until.is_none() {
                if options.kills.is_some() || random.below(3) < 2 {
                    instance.kill();
                    report.kills += 1;
                    instance.until = Some(now + Duration::from_millis(random.below(4_000)));
                } else {
                    instance.signal("-STOP");
                    report.stops += 1;
                    instance.until = Some(now + Duration::from_millis(1_000 + random.below(20_000)));
                }
            }
        }
        if let Some(restart) = options.broker_restart.as_ref().filter(|_| any && loading && now >= restart_at)
            && restarting.as_mut().is_none_or(|child| child.try_wait().is_ok_and(|status| status.is_some()))
        {
            restart_at = now + Duration::from_millis(20_000 + random.below(20_000));
            report.broker_restarts += 1;
            let command = Command::new("bash").args(["-c", restart]).stdout(Stdio::null()).spawn();
            restarting = Some(command.expect("bash"));
        }
        if outputs.read(Duration::from_millis(20)) > 0 || loading || harming {
            moved = now;
        } else if outputs.fewest() >= report.records && now - moved > Duration::from_secs(3) {
            report.done_after = moved.saturating_duration_since(began + options.load);
            break;
        } else if now - moved > STUCK {
            report.faults.push(format!("nothing comes any more; {} of {} are out", outputs.fewest(), report.records));
            break;
        }
    }
    if let Some(mut child) = restarting {
        let _ = child.wait();
    }
    for (topic, outputs) in &outputs.found {
        report.faults.extend(job::faults(outputs, report.records).into_iter().map(|fault| format!("{topic}: {fault}")));
    }
    report
}
