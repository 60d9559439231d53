//! Where a program runs: on which Kafka, at which address, with which settings.
//!
//! Without `--config` everything runs on a Kafka inside the process, in a folder that is removed at the end.

use clap::Parser;
use std::convert::Infallible;
use std::io::IsTerminal;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use warp::Filter;
use watersmeet::broker::{Broker, NewTopic};
use watersmeet::clock::SystemClock;
use watersmeet::config::{Guarantee, Settings};
use watersmeet::error::Kind;
use watersmeet::kafka::KafkaBroker;
use watersmeet::kafka::mock::MockCluster;
use watersmeet::prelude::*;
use watersmeet::streams::{Ended, State};

#[derive(Parser)]
pub struct Options {
    /// A configuration file; it names the Kafka. Without one everything runs on a Kafka inside this process.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Sets a key over the file and the environment, such as streams.bootstrap.servers=localhost:9092. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

/// Where the program runs: on which Kafka, at which address, with which settings.
pub struct Place {
    pub config: Config,
    pub listener: TcpListener,
    cluster: Option<MockCluster>,
    /// Removed at the end.
    folder: Option<PathBuf>,
}

impl Place {
    /// As the command line says. `id` is the application's id on the embedded Kafka.
    pub fn new(id: &str, listen: &str) -> Result<Self> {
        tracing_subscriber::fmt()
            .with_env_filter(
                tracing_subscriber::EnvFilter::try_from_env("WATERSMEET_LOG")
                    .unwrap_or_else(|_| "warn,warp=off".into()),
            )
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr)
            .init();
        let options = Options::parse();
        let mut settings = Settings::default();
        if let Some(file) = &options.config {
            settings = Settings::load(file)?;
        }
        options.overrides.iter().try_for_each(|assignment| settings.add_override(assignment))?;
        let listen = settings.http_listen().unwrap_or(listen).to_owned();
        let (mut config, cluster, folder) = match options.config {
            Some(_) => (settings.config()?, None, None),
            None => {
                let folder = std::env::temp_dir().join(format!("watersmeet-{id}-{}", std::process::id()));
                let config =
                    Config { state_dir: folder.clone(), commit_interval: Duration::from_millis(50), ..Config::new(id) };
                (config, Some(MockCluster::start(1)?), Some(folder))
            }
        };
        // A record that comes is seen soon, and so is what a punctuation has to do.
        config.poll = config.poll.min(Duration::from_millis(20));
        let cannot =
            |error: std::io::Error| Error::new(Kind::Config, format!("cannot listen on {listen}")).source(error);
        let listener = TcpListener::bind(&listen).map_err(cannot)?;
        listener.set_nonblocking(true).map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?.to_string();
        config.application_server.get_or_insert(address);
        Ok(Self { config, listener, cluster, folder })
    }

    /// Where the program serves HTTP, and other instances find it.
    pub fn address(&self) -> &str {
        self.config.application_server.as_deref().unwrap_or_default()
    }

    /// Whether Kafka is inside this process.
    pub fn is_embedded(&self) -> bool {
        self.cluster.is_some()
    }

    /// The settings with exactly-once, but on the embedded Kafka, which does not isolate transactions.
    pub fn exactly_once(&self) -> Config {
        let mut config = self.config.clone();
        if !self.is_embedded() {
            config.guarantee = Guarantee::ExactlyOnceV2;
        }
        config
    }

    /// A topic of the program's: named after its application.id.
    pub fn topic(&self, name: &str) -> String {
        format!("{}-{name}", self.config.application_id)
    }

    /// Creates topics; those that exist stay as they are.
    pub fn create_topics(&self, names: &[&String], partitions: i32) -> Result {
        let new = |name: &&String| NewTopic { name: (*name).clone(), partitions, replication: -1, config: Vec::new() };
        let topics: Vec<NewTopic> = names.iter().map(new).collect();
        let names: Vec<String> = names.iter().map(|name| (*name).clone()).collect();
        let mut admin = self.broker(&self.config)?.admin()?;
        loop {
            match admin.create_topics(&topics).and_then(|()| admin.topics(&names)) {
                Ok(found) if found.iter().all(Option::is_some) => return Ok(()),
                // Not every broker knows of them at once.
                Ok(_) => std::thread::park_timeout(Duration::from_millis(20)),
                Err(error) if error.is_retriable() => eprintln!("waiting for Kafka: {error}"),
                Err(error) => return Err(error),
            }
        }
    }

    /// What makes the clients of an application with these settings.
    pub fn broker(&self, config: &Config) -> Result<Arc<dyn Broker>> {
        Ok(match &self.cluster {
            Some(cluster) => cluster.broker(config, None)?,
            None => Arc::new(KafkaBroker::connect(config, None)?),
        })
    }

    pub fn start(&self, topology: Topology, config: Config) -> Result<Streams> {
        match &self.cluster {
            Some(_) => {
                let broker = self.broker(&config)?;
                Streams::start_on(topology, config, broker, SystemClock::shared())
            }
            None => Streams::start(topology, config),
        }
    }

    /// Serves `routes` on a thread of its own, until the process ends, and does `beside` there.
    pub fn serve<F>(&self, routes: F, beside: impl Future<Output = ()> + Send + 'static) -> Result
    where
        F: Filter<Error = Infallible> + Clone + Send + Sync + 'static,
        F::Extract: warp::Reply,
    {
        let failed = |error: std::io::Error| Error::new(Kind::Internal, "the HTTP server cannot start").source(error);
        let listener = self.listener.try_clone().map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::spawn(beside);
                match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => warp::serve(routes).incoming(listener).run().await,
                    Err(error) => eprintln!("the HTTP server ended: {error}"),
                }
            });
        });
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            // What is left behind in the system's temporary folder does no harm.
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// Runs until SIGTERM or SIGINT, or until one of the clients ends by itself; gives the exit code.
pub fn run(clients: &[Arc<Streams>]) -> Result<i32> {
    let Some((main, beside)) = clients.split_last() else { return Ok(0) };
    for streams in beside {
        let streams = streams.clone();
        std::thread::spawn(move || {
            if streams.wait_for(&[State::Error], Duration::from_secs(u32::MAX.into())) {
                eprintln!("{}", streams.status().reason);
                std::process::exit(1);
            }
        });
    }
    let ended = main.run_until_signal()?;
    if let Ended::Failed(reason) | Ended::DoesNotFit(reason) = &ended {
        eprintln!("{reason}");
    }
    Ok(ended.exit_code())
}
