//! The runtime.
pub mod status;
