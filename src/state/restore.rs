use crate::broker::*;
use crate::state::*;
pub struct RestorePartition {
    pub store: StoreId,
    pub partition: TopicPartition,
    pub start: i64,
    pub end: i64,
}
pub struct Progress {
    pub store: StoreId,
    pub restored: i64,
    pub total: i64,
    pub rate: f64,
    pub eta_s: Option<f64>,
}
pub struct Restore;
impl Restore {
    pub fn new(_: Vec<RestorePartition>, _: u64) -> Self {
        todo!()
    }
    pub fn reads(&self, _: &TopicPartition) -> bool {
        todo!()
    }
    pub fn apply(&mut self, _: &mut dyn TaskState, _: &TopicPartition, _: &RawRecord) -> Result {
        todo!()
    }
    pub fn is_done(&self) -> bool {
        todo!()
    }
    pub fn reached_end(&mut self, _: &TopicPartition, _: i64) {
        todo!()
    }
    pub fn progress(&self, _: u64) -> Vec<Progress> {
        todo!()
    }
    pub fn start_over(&mut self, _: &mut dyn TaskState, _: &TopicPartition, _: i64) -> Result {
        todo!()
    }
    pub fn finish(self, _: &mut dyn TaskState) -> Result<Vec<TopicPartition>> {
        todo!()
    }
}
