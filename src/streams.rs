//! The user's handle of a running topology.

pub use crate::runtime::{Ended, Listeners, RestoreListener, TaskId};
pub use crate::status::{State, StreamsStatus};

use crate::broker::Broker;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::dsl::Produced;
use crate::error::Result;
use crate::http::{HttpServer, TopologyViews, View};
use crate::kafka::KafkaBroker;
use crate::metrics::Metrics;
use crate::producer::TopicProducer;
use crate::queries::Store;
use crate::runtime::app::App;
use crate::runtime::queries::Stores;
use crate::runtime::supervisor::{self, Supervisor};
use crate::state::MemoryBudget;
use crate::state::directory::StateDirectory;
use crate::topology::Topology;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A running topology: the client. Source: `KafkaStreams`.
///
/// ```no_run
/// use watersmeet::prelude::*;
/// # let topology: Topology = unimplemented!();
/// let streams = Streams::start(topology, Config::from_file("config/search-join.toml")?)?;
/// streams.serve_http("0.0.0.0:8080")?;
/// let ended = streams.run_until_signal()?;
/// std::process::exit(ended.exit_code());
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
pub struct Streams {
    app: Arc<App>,
    supervisor: Option<Supervisor>,
    http: Mutex<Vec<HttpServer>>,
    views: TopologyViews,
}

/// How to close a client. Source: `KafkaStreams.CloseOptions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseOptions {
    /// How long it may take.
    pub timeout: Duration,
    /// Other instances get the partitions at once, rather than after the session's time, in which this one may come back.
    pub leave_group: bool,
}

impl Streams {
    /// Starts the topology on the Kafka that `config` names. Returns at once; a broker that cannot be reached yet is
    /// waited for, and shown in the status.
    ///
    /// # Errors
    /// Settings that do not fit together, and a state directory that cannot be used.
    pub fn start(topology: Topology, config: Config) -> Result<Self> {
        Self::start_with(topology, config, Listeners::default())
    }

    /// As [`start`](Self::start), and tells these listeners.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(topology: Topology, config: Config, listeners: Listeners) -> Result<Self> {
        config.check()?;
        let config = config.within_memory()?;
        let directory = match App::directory(&topology, &config)? {
            directory if directory.keeps_identity() => directory,
            _ => StateDirectory::for_identity(&config.state_dir, &config.application_id)?,
        };
        let broker = Arc::new(KafkaBroker::connect(&config, Some(directory.process_id()))?);
        Self::start_in(topology, config, broker, SystemClock::shared(), directory, listeners)
    }

    /// Starts the topology on any broker and clock.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_on(
        topology: Topology,
        config: Config,
        broker: Arc<dyn Broker>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        Self::start_on_with(topology, config, broker, clock, Listeners::default())
    }

    /// As [`start_on`](Self::start_on), and tells these listeners.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_on_with(
        topology: Topology,
        config: Config,
        broker: Arc<dyn Broker>,
        clock: Arc<dyn Clock>,
        listeners: Listeners,
    ) -> Result<Self> {
        config.check()?;
        let config = config.within_memory()?;
        let directory = App::directory(&topology, &config)?;
        Self::start_in(topology, config, broker, clock, directory, listeners)
    }

    fn start_in(
        topology: Topology,
        config: Config,
        broker: Arc<dyn Broker>,
        clock: Arc<dyn Clock>,
        directory: StateDirectory,
        listeners: Listeners,
    ) -> Result<Self> {
        let views = TopologyViews {
            text: topology.describe(),
            mermaid: topology.mermaid(),
            dot: topology.dot(),
            json: topology.json(),
        };
        let budget = MemoryBudget::new(&config);
        let mut app = App::new(topology, config, broker, clock, directory, budget, None)?;
        app.shared.listen(listeners.state);
        app.restore_listener = listeners.restore;
        let app = Arc::new(app);
        let supervisor = Some(supervisor::start(app.clone()));
        Ok(Self { app, supervisor, http: Mutex::default(), views })
    }

    /// States, threads, tasks, lag, restore, counts: now.
    pub fn status(&self) -> StreamsStatus {
        self.app.shared.status()
    }

    /// The client's state.
    pub fn state(&self) -> State {
        self.app.shared.state()
    }

    /// Waits until the client is in one of these states; false where it is not after `timeout`.
    pub fn wait_for(&self, states: &[State], timeout: Duration) -> bool {
        self.app.shared.wait_for(states, timeout)
    }

    /// The stores, as bytes; [`store`](Self::store) reads one with its types.
    pub fn stores(&self) -> Stores {
        Stores::new(self.app.clone())
    }

    /// Reads a store; which types its keys and values have, the next call says.
    ///
    /// ```no_run
    /// # let streams: watersmeet::prelude::Streams = unimplemented!();
    /// let counts = streams.store("counts").key_value::<String, i64>()?;
    /// let of_ada = counts.get(&"Ada".into())?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn store(&self, name: &str) -> Store {
        Store::new(self.stores(), name)
    }

    /// Writes records of the application's own to a topic, which must exist: from any thread, each with an answer. All
    /// producers of one `Streams` share a client.
    ///
    /// Such a record is in no transaction of the topology's: it counts as soon as it is answered.
    ///
    /// ```no_run
    /// # use watersmeet::prelude::*;
    /// # let streams: Streams = unimplemented!();
    /// # async fn enqueue(streams: &Streams) -> Result<()> {
    /// let orders = streams.producer("orders", Produced::<String, String>::default())?;
    /// let written = orders.send(&"o1".into(), &"two chairs".into()).await?;
    /// let row = streams.store("orders").after(&written).key_value::<String, String>()?.get(&"o1".into())?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The client cannot be made; with a partitioner also where the topic cannot be looked up.
    pub fn producer<K, V>(&self, topic: &str, produced: Produced<K, V>) -> Result<TopicProducer<K, V>> {
        TopicProducer::new(&*self.app.broker, self.app.sender()?, topic, produced)
    }

    /// The client's metrics.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.app.metrics.clone()
    }

    /// Serves the probes, metrics, topology and the page on this address until the client is dropped. Returns the address,
    /// with the port that was given where `:0` was asked for.
    ///
    /// # Errors
    /// The address cannot be used.
    pub fn serve_http(&self, address: &str) -> Result<SocketAddr> {
        let view = LiveView { app: self.app.clone(), topology: self.views.clone() };
        let server = crate::http::serve(address, Arc::new(view))?;
        let address = server.address();
        self.http.lock().unwrap_or_else(PoisonError::into_inner).push(server);
        Ok(address)
    }

    /// What [`serve_http`](Self::serve_http)'s server answers to this request, for an application with an HTTP server of its
    /// own: hand it the paths that you do not serve yourself, and `application.server` can be that server's address.
    ///
    /// It waits on this thread where `path` begins with `/stores`: for a stream thread, or for another instance.
    pub fn answer_http(&self, method: &str, path: &str, query: &str) -> crate::http::Response<String> {
        let view = LiveView { app: self.app.clone(), topology: self.views.clone() };
        crate::http::answer(&view, method, path, query)
    }

    /// Stops taking records, commits, closes all tasks. True where that was done within `timeout`; otherwise threads are
    /// left behind, and what they had not committed is processed again after the next start.
    ///
    /// The group keeps the partitions for the session's time, for this instance to come back in place
    /// (`shutdown.leave.group` in the configuration gives them to others at once; without a state directory, and so without
    /// a name that is kept, it is always so). [`close_with`](Self::close_with) decides it for this once.
    pub fn close(&self, timeout: Duration) -> bool {
        self.close_with(CloseOptions { timeout, leave_group: self.app.leaves })
    }

    /// As [`close`](Self::close), and says whether the partitions go to other instances at once.
    /// Source: `KafkaStreams.close(CloseOptions)`.
    pub fn close_with(&self, options: CloseOptions) -> bool {
        supervisor::close(&self.app, options.timeout, options.leave_group)
    }

    /// Lets no records be processed, and no punctuations be called, until [`resume`](Self::resume). Polls, rebalances, restores and
    /// queries go on; what comes waits, first in the tasks' queues, then at the broker. This instance only.
    ///
    /// ```no_run
    /// use watersmeet::prelude::*;
    /// # fn migrate() {}
    /// # fn f(streams: Streams) {
    /// streams.pause();
    /// migrate();
    /// streams.resume();
    /// # }
    /// ```
    pub fn pause(&self) {
        self.app.shared.pause(true);
    }

    /// Ends [`pause`](Self::pause).
    pub fn resume(&self) {
        self.app.shared.pause(false);
    }

    /// Whether it is paused.
    #[doc(alias = "isPaused")]
    pub fn is_paused(&self) -> bool {
        self.app.shared.is_paused()
    }

    /// Removes what the application has on this disk: its stores, which are restored at the next start, and its name in the group.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # let dir = std::env::temp_dir().join(format!("watersmeet-clean-up-{}", std::process::id()));
    /// let config = Config { state_dir: dir, ..Config::new("app") };
    /// Streams::clean_up(&config)?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State): a process of the application runs there, or the folder cannot be removed.
    #[doc(alias = "cleanUp")]
    pub fn clean_up(config: &Config) -> Result {
        StateDirectory::remove(&config.state_dir, &config.application_id)
    }

    /// Starts one more stream thread, which takes its share of the partitions over. Returns its name; `None` where the client
    /// is neither RUNNING nor REBALANCING.
    #[doc(alias = "addStreamThread")]
    pub fn add_stream_thread(&self) -> Option<String> {
        self.supervisor.as_ref()?.add_thread()
    }

    /// Ends a stream thread: it commits, closes its tasks, and leaves the group, so that others take its partitions over.
    /// Returns its name; `None` where there is none left, or it has not ended within `timeout` (it will all the same).
    #[doc(alias = "removeStreamThread")]
    pub fn remove_stream_thread(&self, timeout: Duration) -> Option<String> {
        self.supervisor.as_ref()?.remove_thread(timeout)
    }

    /// Waits for SIGTERM or SIGINT, then drains within `shutdown.timeout.ms`; or for the client to end by an error.
    ///
    /// # Errors
    /// The signal handlers cannot be set.
    pub fn run_until_signal(&self) -> Result<Ended> {
        supervisor::run_until_signal(&self.app)
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        // Who has closed it in vain has waited long enough.
        let given_up = self.state() == State::PendingShutdown;
        let timeout = if given_up { Duration::ZERO } else { self.app.config.shutdown_timeout };
        if self.close(timeout)
            && let Some(supervisor) = self.supervisor.take()
        {
            supervisor.join();
        }
    }
}

/// What HTTP sees of a running client.
struct LiveView {
    app: Arc<App>,
    topology: TopologyViews,
}

impl View for LiveView {
    fn status(&self) -> StreamsStatus {
        self.app.shared.status()
    }

    fn topology(&self) -> TopologyViews {
        self.topology.clone()
    }

    fn stores(&self) -> Option<Stores> {
        Some(Stores::new(self.app.clone()))
    }

    fn metrics_text(&self) -> String {
        self.app.metrics.text(&self.app.shared.status())
    }
}
