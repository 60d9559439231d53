//! The runtime: threads, tasks, commit. [`Streams`](crate::streams::Streams) is what a user has of it.

pub(crate) mod app;
mod application_end;
mod assignment;
mod commit;
mod drain;
mod exposed;
mod first_offsets;
mod global;
pub mod instances;
pub(crate) mod keeper;
mod left_out;
mod listeners;
mod metadata;
mod opening;
mod pace;
mod prepare;
mod purge;
pub mod queries;
mod queue;
mod ready;
mod rebalance;
mod restoring;
mod scan;
mod shared;
pub(crate) mod supervisor;
mod task;
mod task_init;
pub mod thread;
mod topics;
mod transaction;
mod verify;

pub use listeners::{Listeners, RestoreListener};
pub use supervisor::Ended;
pub use task::TaskId;
