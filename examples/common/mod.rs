//! What the examples' programs share: where they run, how they answer HTTP, and how a record that was written is called in URLs.
#![allow(dead_code, unused_imports)] // each example uses its part

mod answers;
mod place;
mod row_id;

pub use answers::*;
pub use place::{Place, run};
pub use row_id::RowId;
