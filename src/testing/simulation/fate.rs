//! Who meets which fault, and when: decided by the seed at every request and every write, and written down.

use super::rng::Rng;
use super::world;
use crate::clock::{Clock, ManualClock};
use crate::error::{Error, Kind, Result};
use crate::state::simulated::WriteGate;
use crate::testing::faults::{Fault, Gate, Request};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How often what goes wrong, in ten thousand requests. Each run draws its own, and leaves some out: what is rare among many
/// faults is frequent where it is the only one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Odds {
    /// The process is killed before the request leaves it.
    pub(super) crash_before: u32,
    /// The broker does what was asked; the process is killed before it learns of it.
    pub(super) crash_after: u32,
    /// The request is lost.
    pub(super) request_lost: u32,
    /// The answer is lost.
    pub(super) answer_lost: u32,
    /// The request takes its time.
    pub(super) delay: u32,
    /// Others run while the request is on its way.
    pub(super) others: u32,
    /// A write finds the disk full.
    pub(super) disk_full: u32,
}

impl Odds {
    fn draw(rng: &mut Rng) -> Self {
        let mut odds = |of: &[u32]| if rng.chance(4_000) { 0 } else { rng.pick(of) };
        Self {
            crash_before: odds(&[5, 20, 60]),
            crash_after: odds(&[5, 20, 60]),
            request_lost: odds(&[20, 100, 400]),
            answer_lost: odds(&[20, 100, 400]),
            delay: odds(&[100, 500]),
            others: odds(&[100, 500, 1_500]),
            disk_full: odds(&[0, 100, 300]),
        }
    }
}

/// What one process meets.
#[derive(Debug)]
struct Process {
    runs: bool,
    /// False while nothing of it reaches the broker.
    linked: bool,
    /// No room is left, until it is started again.
    disk_full: bool,
    threads: usize,
}

/// The seed's decisions, and the record of them. Clones are handles to one.
#[derive(Clone)]
pub(super) struct Fate(Arc<Mutex<Inner>>);

struct Inner {
    rng: Rng,
    odds: Odds,
    /// Faults happen.
    on: bool,
    /// Records are lost on their way: whoever gave a task up with records under way writes them behind its successor's.
    late_writes: bool,
    clock: ManualClock,
    processes: BTreeMap<String, Process>,
    /// The coordinator moves: what concerns the group is refused.
    moving: bool,
    step: u64,
    faults: u64,
    trace: Vec<String>,
    /// Also the requests are written down.
    detailed: bool,
    digest: u64,
}

impl Fate {
    pub(super) fn new(seed: u64, clock: ManualClock, detailed: bool) -> Self {
        let mut rng = Rng::new(seed);
        let odds = Odds::draw(&mut rng);
        let (processes, trace) = Default::default();
        let (on, late_writes, moving, step, faults) = (false, true, false, 0, 0);
        let inner =
            Inner { rng, odds, on, late_writes, clock, processes, moving, step, faults, trace, detailed, digest: seed };
        Self(Arc::new(Mutex::new(inner)))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The seed's next decision.
    pub(super) fn draw<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        draw(&mut self.lock().rng)
    }

    /// Writes down what happens.
    pub(super) fn note(&self, what: impl FnOnce() -> String) {
        self.lock().note(what);
    }

    pub(super) fn switch(&self, on: bool) {
        let mut inner = self.lock();
        inner.on = on;
        if !on {
            inner.moving = false;
            for process in inner.processes.values_mut() {
                (process.linked, process.disk_full) = (true, false);
            }
        }
    }

    pub(super) fn forbid_late_writes(&self) {
        self.lock().late_writes = false;
    }

    pub(super) fn next_step(&self) {
        self.lock().step += 1;
    }

    pub(super) fn begin(&self, process: &str, threads: usize) {
        let state = Process { runs: true, linked: true, disk_full: false, threads };
        self.lock().processes.insert(process.into(), state);
    }

    pub(super) fn end(&self, process: &str) {
        if let Some(process) = self.lock().processes.get_mut(process) {
            process.runs = false;
        }
    }

    pub(super) fn is_running(&self, process: &str) -> bool {
        self.lock().processes.get(process).is_some_and(|process| process.runs)
    }

    /// Whether this process has met a full disk since it began.
    pub(super) fn disk_was_full(&self, process: &str) -> bool {
        self.lock().processes.get(process).is_some_and(|process| process.disk_full)
    }

    pub(super) fn link(&self, process: &str, linked: bool) {
        if let Some(process) = self.lock().processes.get_mut(process) {
            process.linked = linked;
        }
    }

    /// How many threads it was started with.
    pub(super) fn threads(&self, process: &str) -> usize {
        self.lock().processes.get(process).map_or(0, |process| process.threads)
    }

    pub(super) fn is_linked(&self, process: &str) -> bool {
        self.lock().processes.get(process).is_some_and(|process| process.linked)
    }

    pub(super) fn move_coordinator(&self, moving: bool) {
        self.lock().moving = moving;
    }

    /// Steps, faults, digest of every decision, and what was written down.
    pub(super) fn report(&self) -> (u64, u64, u64, Vec<String>) {
        let inner = self.lock();
        (inner.step, inner.faults, inner.digest, inner.trace.clone())
    }
}

/// What a request meets.
enum Met {
    Nothing,
    Fault(Fault),
    /// Others run first.
    Others,
}

impl Inner {
    fn note(&mut self, what: impl FnOnce() -> String) {
        let line = format!("step {:>4}, {:>7} ms: {}", self.step, self.clock.now_ms(), what());
        self.mix(line.as_bytes());
        self.trace.push(line);
    }

    /// FNV-1a: two runs with the same digest have made the same requests and met the same faults.
    fn mix(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.digest = (self.digest ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn fault(&mut self, process: &str, request: Request, what: &str) {
        self.faults += 1;
        self.note(|| format!("{process}: {what} {request:?}"));
    }

    fn meet(&mut self, process: &str, request: Request) -> Result<Met> {
        self.mix(process.as_bytes());
        self.mix(&[request as u8]);
        if self.detailed {
            self.note(|| format!("{process}: {request:?}"));
        }
        let (on, odds, moving) = (self.on, self.odds, self.moving);
        let Some(state) = self.processes.get_mut(process).filter(|process| process.runs) else {
            return Err(gone(process));
        };
        if !state.linked {
            return Ok(Met::Fault(Fault::Refused(Kind::Broker)));
        }
        if moving && request.is_for_the_coordinator() {
            return Ok(Met::Fault(Fault::Refused(Kind::Broker)));
        }
        if !on {
            return Ok(Met::Nothing);
        }
        // There are as many of these as records.
        let share = if request == Request::Produce { 4 } else { 1 };
        let roll = (self.rng.next() % 10_000) as u32 * share;
        let mut limit = 0;
        let mut is = |odds: u32| {
            limit += odds;
            roll < limit
        };
        if is(odds.crash_before) {
            state.runs = false;
            self.fault(process, request, "killed before");
            return Err(gone(process));
        }
        if is(odds.crash_after) {
            state.runs = false;
            self.fault(process, request, "killed after");
            return Ok(Met::Fault(Fault::AnswerLost));
        }
        let may_be_lost = request != Request::Produce || self.late_writes;
        if is(odds.request_lost) && may_be_lost {
            self.fault(process, request, "lost the request");
            return Ok(Met::Fault(Fault::Refused(Kind::Broker)));
        }
        if is(odds.answer_lost) && may_be_lost {
            self.fault(process, request, "lost the answer of");
            return Ok(Met::Fault(Fault::AnswerLost));
        }
        if is(odds.delay) {
            let ms = self.rng.pick(&[5, 100, 2_000]);
            self.clock.advance_ms(ms);
            self.fault(process, request, &format!("waited {ms} ms for"));
        } else if is(odds.others) {
            return Ok(Met::Others);
        }
        Ok(Met::Nothing)
    }

    fn write(&mut self, process: &str, dir: &Path) -> Result {
        let (on, odds) = (self.on, self.odds);
        let Some(state) = self.processes.get_mut(process).filter(|process| process.runs) else {
            return Err(gone(process));
        };
        if !on {
            return Ok(());
        }
        let task = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if self.rng.chance(odds.crash_before * 4) {
            state.runs = false;
            self.faults += 1;
            self.note(|| format!("{process}: killed before the state of {task} was written"));
            return Err(gone(process));
        }
        if state.disk_full || self.rng.chance(odds.disk_full) {
            state.disk_full = true;
            self.faults += 1;
            self.note(|| format!("{process}: the disk is full for the state of {task}"));
            return Err(Error::new(
                Kind::State,
                format!("cannot write to the state of {task}: No space left on device"),
            )
            .hint("the disk is full: free space, or set state.dir to a larger one"));
        }
        Ok(())
    }
}

fn gone(process: &str) -> Error {
    Error::new(Kind::Internal, format!("the process {process} was killed"))
}

impl Gate for Fate {
    fn pass(&self, process: &str, request: Request) -> Result<Option<Fault>> {
        if process.is_empty() {
            return Ok(None);
        }
        let met = self.lock().meet(process, request)?;
        match met {
            Met::Nothing => Ok(None),
            Met::Fault(fault) => Ok(Some(fault)),
            Met::Others => {
                world::let_others_run(process);
                if self.is_running(process) { Ok(None) } else { Err(gone(process)) }
            }
        }
    }

    fn runs(&self, process: &str) -> bool {
        process.is_empty() || self.is_running(process)
    }
}

/// The gate in front of one process's disk.
pub(super) struct DiskGate {
    pub(super) fate: Fate,
    pub(super) process: String,
}

impl WriteGate for DiskGate {
    fn write(&self, dir: &Path) -> Result {
        self.fate.lock().write(&self.process, dir)
    }
}
