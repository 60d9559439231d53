//! Where the stores of tasks are opened and closed: beside the stream thread, whose other tasks do not wait for a disk.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

/// Something to open or to close.
type Job = Box<dyn FnOnce() + Send>;

/// Where the jobs of a client's stream threads are done.
#[derive(Clone, Default)]
pub(crate) enum Place {
    /// On a thread beside each stream thread.
    #[default]
    Beside,
    /// On the stream thread, each in the first turn for which this says so: for tests and simulations.
    Turns(Arc<dyn Fn() -> bool + Send + Sync>),
}

/// Does the jobs of one stream thread, in their order: what it closes is closed before it opens it again.
pub(super) enum Keeper {
    /// The thread begins with the first job.
    Beside {
        number: usize,
        thread: Option<(Sender<Job>, JoinHandle<()>)>,
    },
    Turns {
        jobs: VecDeque<Job>,
        now: Arc<dyn Fn() -> bool + Send + Sync>,
    },
}

impl Keeper {
    /// That of the stream thread `number`.
    pub(super) fn new(place: &Place, number: usize) -> Self {
        match place {
            Place::Beside => Keeper::Beside { number, thread: None },
            Place::Turns(now) => Keeper::Turns { jobs: VecDeque::new(), now: now.clone() },
        }
    }

    pub(super) fn run(&mut self, job: impl FnOnce() + Send + 'static) {
        match self {
            Keeper::Beside { number, thread } => {
                let (jobs, _) = thread.get_or_insert_with(|| start(*number));
                // It ends only when the sender is gone, or by a panic; what was to be opened is then missed.
                let _ = jobs.send(Box::new(job));
            }
            Keeper::Turns { jobs, .. } => jobs.push_back(Box::new(job)),
        }
    }

    /// A turn of the stream thread.
    pub(super) fn turn(&mut self) {
        if let Keeper::Turns { jobs, now } = self {
            while !jobs.is_empty() && now() {
                if let Some(job) = jobs.pop_front() {
                    job();
                }
            }
        }
    }

    /// Waits until all of it is done.
    pub(super) fn finish(&mut self) {
        match self {
            Keeper::Beside { thread, .. } => {
                if let Some((jobs, thread)) = thread.take() {
                    drop(jobs);
                    // A panic there has been told by the panic's own message.
                    let _ = thread.join();
                }
            }
            Keeper::Turns { jobs, .. } => jobs.drain(..).for_each(|job| job()),
        }
    }
}

impl Drop for Keeper {
    /// A stream thread has not ended while stores of its tasks are open. Those of a simulation go with their process.
    fn drop(&mut self) {
        if let Keeper::Beside { .. } = self {
            self.finish();
        }
    }
}

fn start(number: usize) -> (Sender<Job>, JoinHandle<()>) {
    let (sender, jobs) = channel::<Job>();
    let run = move || jobs.iter().for_each(|job| job());
    let thread = std::thread::Builder::new().name(format!("stores-{number}")).spawn(run);
    (sender, thread.expect("the system has no thread left for watersmeet"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn run_three(keeper: &mut Keeper) -> Arc<Mutex<Vec<i32>>> {
        let done = Arc::new(Mutex::new(Vec::new()));
        for i in 1..=3 {
            let done = done.clone();
            keeper.run(move || done.lock().expect("no panic").push(i));
        }
        done
    }

    #[test]
    fn jobs_are_done_in_their_order_and_before_the_stream_thread_has_ended() {
        let mut keeper = Keeper::new(&Place::Beside, 1);
        let done = run_three(&mut keeper);
        drop(keeper);
        assert_eq!(*done.lock().expect("no panic"), [1, 2, 3]);
    }

    #[test]
    fn in_turns_a_job_is_done_when_it_may_be_and_one_of_a_process_that_is_killed_never() {
        let may = Arc::new(AtomicBool::new(false));
        let asked = may.clone();
        let place = Place::Turns(Arc::new(move || asked.swap(false, Ordering::Relaxed)));
        let mut keeper = Keeper::new(&place, 1);
        let done = run_three(&mut keeper);
        keeper.turn();
        assert!(done.lock().expect("no panic").is_empty());
        may.store(true, Ordering::Relaxed);
        keeper.turn();
        assert_eq!(*done.lock().expect("no panic"), [1]);
        drop(keeper);
        assert_eq!(*done.lock().expect("no panic"), [1]);
    }
}
