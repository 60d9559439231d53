//! stub
use crate::operators::cx::Counts;
use crate::runtime::StreamsStatus;
use std::sync::Arc;
pub struct Metrics;
impl Metrics {
    pub fn new(_: &str) -> Arc<Self> {
        todo!()
    }
    pub fn thread(&self, _: usize) -> ThreadMetrics {
        todo!()
    }
    pub fn text(&self, _: &StreamsStatus) -> String {
        todo!()
    }
}
pub struct ThreadMetrics;
impl ThreadMetrics {
    pub fn turn(&self, _: &TurnFigures) {}
    pub fn lag(&self, _: &str, _: i32, _: i64) {}
    pub fn partition_gone(&self, _: &str, _: i32) {}
}
#[derive(Default)]
pub struct TurnFigures {
    pub consumed: u64,
    pub consumed_bytes: u64,
    pub poll_nanos: u64,
    pub process_nanos: u64,
    pub commit_nanos: Option<u64>,
    pub restored: u64,
    pub counts: Counts,
}
