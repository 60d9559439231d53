//! One simulated process: a client's threads, turned by hand, and the machine that they run on.

use super::fate::{DiskGate, Fate};
use super::{Plan, Wrap};
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::operators::calls::Calls;
use crate::runtime::app::App;
use crate::runtime::keeper::Place;
use crate::runtime::thread::{StreamThread, Turn};
use crate::state::MemoryBudget;
use crate::state::simulated::SimulatedDisk;
use crate::status::State;
use crate::testing::MemoryBroker;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A process that may be started again and again on its machine.
pub(super) struct Instance {
    pub(super) name: String,
    dir: PathBuf,
    pub(super) disk: SimulatedDisk,
    /// What runs.
    pub(super) running: Option<Running>,
    /// Stopped in the middle, as by SIGSTOP.
    pub(super) frozen: bool,
    /// Whether it has ever run.
    pub(super) known: bool,
}

pub(super) struct Running {
    pub(super) app: Arc<App>,
    pub(super) threads: Vec<StreamThread>,
    /// It has been told to end.
    pub(super) closing: bool,
}

/// How a turn ended.
pub(super) enum Turned {
    Progress,
    Idle,
    /// All threads have closed in order.
    Closed,
    /// It no longer runs: it was killed by a fault.
    Killed,
    /// It has ended by an error that may be.
    Ended(String),
    /// It has ended by an error that may not be.
    Wrong(String),
}

impl Instance {
    pub(super) fn new(number: usize, root: &Path, fate: &Fate) -> Self {
        let name = char::from(b'a' + number as u8).to_string();
        let gate = DiskGate { fate: fate.clone(), process: name.clone() };
        let disk = SimulatedDisk::new(Arc::new(gate));
        Self { dir: root.join(&name), name, disk, running: None, frozen: false, known: false }
    }

    /// Starts the process, with so many stream threads.
    pub(super) fn start(
        &mut self,
        plan: &Plan,
        broker: &MemoryBroker,
        clock: Arc<dyn Clock>,
        fate: &Fate,
        threads: usize,
    ) -> Result {
        fate.begin(&self.name, threads);
        let topology = (plan.topology)()?;
        let mut config = plan.config.clone();
        config.state_dir = self.dir.clone();
        config.poll = std::time::Duration::ZERO;
        config.num_stream_threads = threads;
        self.keep_identity(&config.application_id)?;
        let directory = App::directory(&topology, &config)?;
        let client = broker.client(&config.application_id, &self.name);
        let wrap: Option<&Wrap> = plan.wrap.as_ref();
        let client = wrap.map_or(client.clone(), |wrap| wrap(client));
        let budget = MemoryBudget::simulated(&config, self.disk.clone());
        let mut app = App::new(topology, config, client, clock, directory, budget, None)?;
        app.calls = Calls::inline();
        let seed = fate.clone();
        app.keepers = Place::Turns(Arc::new(move || seed.draw(|rng| rng.chance(5_000))));
        let app = Arc::new(app);
        app.shared.transition(State::Rebalancing, "starting");
        for number in 1..=threads {
            app.shared.add_thread(number, format!("{}-{number}", self.name));
        }
        let running = (1..=threads).map(|number| StreamThread::new(number, app.clone())).collect::<Result<_>>()?;
        self.running = Some(Running { app, threads: running, closing: false });
        self.known = true;
        Ok(())
    }

    /// The identity that a process of this name has: nothing may be drawn that the seed does not decide.
    fn keep_identity(&self, application_id: &str) -> Result {
        let dir = self.dir.join(application_id);
        let id = format!("00000000-0000-4000-8000-{:0>12}", u32::from(self.name.as_bytes()[0]));
        let written = std::fs::create_dir_all(&dir).and_then(|()| {
            std::fs::write(dir.join("kafka-streams-process-metadata"), format!("{{\"processId\":\"{id}\"}}"))
        });
        written.map_err(|e| Error::new(Kind::State, format!("{} cannot be written", dir.display())).source(e))
    }

    /// How many threads it has.
    pub(super) fn count(&self) -> usize {
        self.running.as_ref().map_or(0, |running| running.threads.len())
    }

    /// How many threads can be turned.
    pub(super) fn threads(&self) -> usize {
        if self.frozen { 0 } else { self.running.as_ref().map_or(0, |running| running.threads.len()) }
    }

    /// Turns one thread.
    pub(super) fn turn(&mut self, thread: usize, fate: &Fate) -> Turned {
        let Some(running) = self.running.as_mut().filter(|running| thread < running.threads.len()) else {
            return Turned::Idle;
        };
        let stepped = catch_unwind(AssertUnwindSafe(|| running.threads[thread].step()));
        if !fate.is_running(&self.name) {
            return Turned::Killed;
        }
        match stepped {
            Ok(Ok(Turn::Progress)) => Turned::Progress,
            Ok(Ok(Turn::Idle)) => Turned::Idle,
            Ok(Ok(Turn::Stopped)) => {
                running.threads.remove(thread);
                if running.threads.is_empty() { Turned::Closed } else { Turned::Progress }
            }
            Ok(Err(error)) => {
                // A full disk ends a client; so does, while it closes, a broker that gives no answer, or a group that has
                // given it up.
                let full = error.kind() == Kind::State && fate.disk_was_full(&self.name);
                let passing =
                    running.closing && (error.is_retriable() || matches!(error.kind(), Kind::Migrated | Kind::Aborted));
                let text = error.to_string().replace(&*self.dir.to_string_lossy(), "");
                if full || passing { Turned::Ended(text) } else { Turned::Wrong(text) }
            }
            Err(panic) => Turned::Wrong(format!("panicked: {}", crate::operators::panic_text(&*panic))),
        }
    }

    /// The process is gone, with everything in its memory.
    pub(super) fn kill(&mut self, fate: &Fate) {
        fate.end(&self.name);
        self.running = None;
        self.frozen = false;
    }
}
