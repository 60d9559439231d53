//! All instances of one run, and who is turned next.

use super::fate::Fate;
use super::instance::{Instance, Turned};
use super::{Input, Plan};
use crate::broker::Outgoing;
use crate::clock::ManualClock;
use crate::testing::MemoryBroker;
use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

thread_local! {
    /// The world whose turn it is on this OS thread: requests pass a gate that must be `Send`, and the world is not.
    static WORLD: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
}

/// Those who may run while a request of `process` is on its way do so. Called from within a turn.
pub(super) fn let_others_run(process: &str) {
    let world = WORLD.with(|world| world.borrow().clone());
    if let Some(world) = world {
        world.interlude(process);
    }
}

/// How deep turns may be in one another.
const DEPTH_MAX: usize = 2;
/// How many rounds without a fault must be enough to come to rest.
const ROUNDS_MAX: usize = 2_000;
/// How many rounds without anything to do show that there is nothing.
const QUIET_ROUNDS: usize = 4;

/// One run: the broker, the instances, the clock.
pub(super) struct World {
    plan: Rc<Plan>,
    pub(super) fate: Fate,
    pub(super) broker: MemoryBroker,
    clock: ManualClock,
    pub(super) instances: Vec<RefCell<Instance>>,
    threads_max: usize,
    /// Processes go on that the group has given up.
    pub(super) zombies: bool,
    /// The records of the input that have not been written yet.
    next_input: Cell<usize>,
    depth: Cell<usize>,
    wrong: RefCell<Option<String>>,
}

impl World {
    pub(super) fn new(plan: Rc<Plan>, fate: Fate, clock: ManualClock, root: &Path) -> Self {
        let broker = MemoryBroker::gated(Arc::new(clock.clone()), Some(Arc::new(fate.clone())));
        for (topic, partitions) in &plan.topics {
            broker.create_topic(topic, *partitions);
        }
        let count = fate.draw(|rng| rng.between(1, plan.instances_max));
        let threads_max = fate.draw(|rng| rng.between(1, plan.threads_max));
        let zombies = fate.draw(|rng| rng.chance(5_000));
        if !zombies && !plan.config.is_exactly_once() {
            fate.forbid_late_writes();
        }
        let instances = (0..count).map(|number| RefCell::new(Instance::new(number, root, &fate))).collect();
        let (next_input, depth, wrong) = Default::default();
        Self { plan, fate, broker, clock, instances, threads_max, zombies, next_input, depth, wrong }
    }

    /// Runs with faults, then without, until everything has been processed.
    ///
    /// # Errors
    /// What no run may come to.
    pub(super) fn run(self: &Rc<Self>, faults: bool) -> Result<(), String> {
        let before = WORLD.with(|world| world.replace(Some(self.clone())));
        let result = self.run_inside(faults);
        WORLD.with(|world| world.replace(before));
        result
    }

    fn run_inside(&self, faults: bool) -> Result<(), String> {
        if faults {
            self.fate.switch(true);
            let steps = self.fate.draw(|rng| rng.between(50, 400));
            for _ in 0..steps {
                self.fate.next_step();
                self.something_happens();
                self.turn_one();
                if let Some(wrong) = self.wrong.take() {
                    return Err(wrong);
                }
            }
        }
        self.fate.switch(false);
        self.fate.note(|| "no more faults".into());
        self.settle()
    }

    /// One of the things that happen between turns; mostly nothing.
    fn something_happens(&self) {
        if self.fate.draw(|rng| rng.chance(2_500)) {
            let count = self.fate.draw(|rng| rng.between(1, 12));
            self.write_input(count);
        }
        self.clock.advance_ms(self.fate.draw(|rng| rng.pick(&[0, 1, 5, 20, 60])));
        if !self.fate.draw(|rng| rng.chance(800)) {
            return;
        }
        let chosen = self.fate.draw(|rng| rng.below(self.instances.len()));
        let what = self.fate.draw(|rng| rng.below(10));
        let may_wait = self.zombies || self.nobody_waits();
        let Ok(mut instance) = self.instances[chosen].try_borrow_mut() else { return };
        let name = instance.name.clone();
        match what {
            0 if instance.running.is_some() => {
                self.fate.note(|| format!("{name}: killed"));
                self.bury(&mut instance);
            }
            1 if instance.running.is_some() => {
                if let Some(running) = &mut instance.running {
                    self.fate.note(|| format!("{name}: told to close"));
                    running.closing = true;
                    running.app.shared.stop();
                }
            }
            2 | 3 if instance.running.is_some() => {
                instance.frozen = !instance.frozen;
                let frozen = instance.frozen;
                self.fate.note(|| format!("{name}: {}", if frozen { "frozen" } else { "goes on" }));
                let silent = frozen || !self.fate.is_linked(&name);
                self.silence(&name, instance.count(), silent);
            }
            4 | 5 if instance.running.is_some() => {
                let linked = !self.fate.is_linked(&name);
                self.fate.note(|| format!("{name}: {}", if linked { "linked again" } else { "cut off" }));
                self.fate.link(&name, linked);
                let silent = instance.frozen || !linked;
                self.silence(&name, instance.count(), silent);
            }
            6 => {
                let moving = self.fate.draw(|rng| rng.chance(5_000));
                self.fate.note(|| format!("the coordinator {}", if moving { "moves" } else { "is there" }));
                self.fate.move_coordinator(moving);
            }
            7 if may_wait => {
                self.fate.note(|| "a minute passes".into());
                self.clock.advance_ms(60_000);
            }
            8 if self.zombies => {
                let threads = self.fate.draw(|rng| rng.between(1, self.threads_max));
                self.fate.note(|| format!("{name}-{threads}: removed from the group by the broker"));
                self.broker.remove_member(&self.plan.config.application_id, &format!("{name}-{threads}"));
            }
            9 if instance.running.is_none() && instance.known => {
                self.fate.note(|| format!("{name}: a database is corrupt"));
                instance.disk.corrupt(|count| self.fate.draw(|rng| rng.below(count)));
            }
            _ => {}
        }
    }

    /// Turns one thread of one instance, or starts one that does not run.
    fn turn_one(&self) {
        let chosen = self.fate.draw(|rng| rng.below(self.instances.len()));
        let Ok(mut instance) = self.instances[chosen].try_borrow_mut() else { return };
        if instance.running.is_none() {
            if self.fate.draw(|rng| rng.chance(2_000)) {
                self.start(&mut instance);
            }
            return;
        }
        let thread = self.fate.draw(|rng| rng.below(instance.threads()));
        self.turn(&mut instance, thread);
    }

    fn start(&self, instance: &mut Instance) {
        let threads = self.fate.draw(|rng| rng.between(1, self.threads_max));
        self.fate.note(|| format!("{}: starts with {threads} threads", instance.name));
        let clock = Arc::new(self.clock.clone());
        if let Err(error) = instance.start(&self.plan, &self.broker, clock, &self.fate, threads) {
            let killed = !self.fate.is_running(&instance.name);
            instance.kill(&self.fate);
            // Only what the disk refuses may be; a start asks the broker nothing.
            if !killed {
                self.fail(format!("{} does not start: {error}", instance.name));
            }
        }
    }

    /// Turns a thread; true where there was something to do.
    fn turn(&self, instance: &mut Instance, thread: usize) -> bool {
        if instance.threads() == 0 {
            return false;
        }
        let name = instance.name.clone();
        match instance.turn(thread, &self.fate) {
            Turned::Progress => return true,
            Turned::Idle => return false,
            Turned::Closed => {
                self.fate.note(|| format!("{name}: closed"));
                instance.kill(&self.fate);
            }
            Turned::Killed => self.bury(instance),
            Turned::Ended(error) => {
                self.fate.note(|| format!("{name}: ended: {error}"));
                instance.kill(&self.fate);
            }
            Turned::Wrong(error) => {
                self.fate.note(|| format!("{name}: ended: {error}"));
                instance.kill(&self.fate);
                self.fail(format!("{name} ended by an error that may not be: {error}"));
            }
        }
        true
    }

    /// A killed process; sometimes its machine has crashed as well.
    fn bury(&self, instance: &mut Instance) {
        instance.kill(&self.fate);
        if self.plan.torn {
            instance.disk.tear();
        } else if self.fate.draw(|rng| rng.chance(3_000)) {
            instance.disk.crash(|_, batches| self.fate.draw(|rng| rng.below(batches + 1)));
            self.fate.note(|| format!("{}: its machine has crashed: the last writes are lost", instance.name));
        }
    }

    /// Whether no process is frozen, cut off or in the middle of a turn.
    fn nobody_waits(&self) -> bool {
        self.depth.get() == 0
            && self.instances.iter().all(|instance| {
                let instance = instance.borrow();
                !instance.frozen && (instance.running.is_none() || self.fate.is_linked(&instance.name))
            })
    }

    /// The heartbeats of the running threads of a process stop, or come again. Those of killed ones are silent for good.
    fn silence(&self, process: &str, threads: usize, silent: bool) {
        if !self.zombies {
            return;
        }
        for thread in 1..=threads {
            self.broker.silence(&self.plan.config.application_id, &format!("{process}-{thread}"), silent);
        }
    }

    fn fail(&self, what: String) {
        self.wrong.borrow_mut().get_or_insert(what);
    }

    /// In the middle of a turn of `process`, others have theirs. Sometimes it takes so long that the group gives up the one
    /// that waits.
    fn interlude(&self, process: &str) {
        // It is in the middle of a turn, so nobody can ask it.
        let threads = self.fate.threads(process);
        if self.depth.get() >= DEPTH_MAX || self.instances.len() < 2 {
            return;
        }
        self.depth.set(self.depth.get() + 1);
        let long = self.zombies && self.fate.draw(|rng| rng.chance(1_500));
        let turns = if long { 40 } else { self.fate.draw(|rng| rng.between(1, 10)) };
        self.fate
            .note(|| format!("{process}: stands still in the middle of a turn{}", if long { ", long" } else { "" }));
        if long {
            self.silence(process, threads, true);
        }
        for i in 0..turns {
            if long && i == turns / 4 {
                self.clock.advance_ms(50_000);
            }
            self.turn_one();
        }
        if long && self.fate.is_linked(process) {
            self.silence(process, threads, false);
        }
        self.fate.note(|| format!("{process}: goes on"));
        self.depth.set(self.depth.get() - 1);
    }

    fn write_input(&self, count: usize) {
        let first = self.next_input.get();
        let last = first.saturating_add(count).min(self.plan.input.len());
        self.next_input.set(last);
        for Input { topic, partition, key, value, timestamp_ms } in &self.plan.input[first..last] {
            let (key, value, timestamp_ms) = (key.as_deref(), value.as_deref(), Some(*timestamp_ms));
            let headers = &Default::default();
            let record = Outgoing { topic, partition: *partition, key, value, timestamp_ms, headers };
            if let Err(error) = self.broker.append(record) {
                self.fail(format!("the input cannot be written: {error}"));
            }
        }
    }

    /// Everything that was cut off or frozen goes on, at least one instance runs, and all of the input is processed.
    fn settle(&self) -> Result<(), String> {
        self.write_input(usize::MAX);
        for instance in &self.instances {
            let instance = &mut *instance.borrow_mut();
            instance.frozen = false;
            self.silence(&instance.name, instance.count(), false);
        }
        let keep = self.fate.draw(|rng| rng.below(self.instances.len()));
        let mut quiet = 0;
        for _ in 0..ROUNDS_MAX {
            let mut busy = false;
            self.fate.next_step();
            for (i, instance) in self.instances.iter().enumerate() {
                let instance = &mut *instance.borrow_mut();
                if instance.running.is_none() && (i == keep || self.fate.draw(|rng| rng.chance(100))) {
                    self.start(instance);
                    busy = true;
                }
                for thread in (0..instance.threads()).rev() {
                    busy |= self.turn(instance, thread);
                }
            }
            if let Some(wrong) = self.wrong.take() {
                return Err(wrong);
            }
            self.clock.advance_ms(if busy { 20 } else { 500 });
            quiet = if !busy && self.is_processed() { quiet + 1 } else { 0 };
            if quiet >= QUIET_ROUNDS {
                return Ok(());
            }
        }
        Err(self.stuck())
    }

    /// Whether every record of every source topic has been processed and committed, and what killed processes left open has
    /// been aborted.
    fn is_processed(&self) -> bool {
        self.waiting().is_empty() && self.broker.open_transactions().is_empty()
    }

    /// The source partitions with records behind the committed offset.
    fn waiting(&self) -> Vec<String> {
        let known = |instance: &RefCell<Instance>| instance.borrow().running.as_ref()?.app.topics.known();
        let Some(topics) = self.instances.iter().find_map(known) else { return vec!["no instance runs".into()] };
        let committed = self.broker.committed(&self.plan.config.application_id);
        let mut waiting = Vec::new();
        for (topic, partitions) in self.broker.topics() {
            for partition in 0..if topics.counts.contains_key(topic.as_str()) { partitions } else { 0 } {
                let tp = crate::broker::TopicPartition::new(topic.as_str(), partition);
                let position = committed.get(&tp).map_or(0, |committed| committed.offset);
                let behind = self.broker.records_from(&tp, position);
                if behind > 0 {
                    waiting.push(format!("{tp}: {behind} records from {position} on"));
                }
            }
        }
        waiting
    }

    fn stuck(&self) -> String {
        let mut text = format!("not everything is processed {ROUNDS_MAX} rounds after the last fault.");
        for waiting in self.waiting() {
            text.push_str(&format!("\n  {waiting}"));
        }
        for instance in &self.instances {
            let instance = instance.borrow();
            if let Some(running) = &instance.running {
                let status = running.app.shared.status();
                text.push_str(&format!("\n  {}: {:?}, {}", instance.name, status.state, status.reason));
                for task in status.threads.iter().flat_map(|thread| &thread.tasks) {
                    text.push_str(&format!("\n    task {}: {:?} {}", task.id, task.state, task.waiting_for));
                }
            }
        }
        for (member, partitions) in self.broker.members(&self.plan.config.application_id) {
            let list: Vec<String> = partitions.iter().map(ToString::to_string).collect();
            text.push_str(&format!("\n  member {member}: {}", list.join(", ")));
        }
        text
    }

    /// Closes all instances in order.
    pub(super) fn close(&self) -> Result<(), String> {
        for instance in &self.instances {
            let instance = &mut *instance.borrow_mut();
            if let Some(running) = &mut instance.running {
                running.closing = true;
                running.app.shared.stop();
            }
            for _ in 0..2 {
                for thread in (0..instance.threads()).rev() {
                    self.turn(instance, thread);
                }
            }
            if instance.running.is_some() {
                return Err(format!("{} does not close", instance.name));
            }
        }
        self.wrong.take().map_or(Ok(()), Err)
    }
}
