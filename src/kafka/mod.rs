use crate::broker::*;
use crate::config::Config;
use crate::error::Result;
pub struct KafkaBroker;
impl KafkaBroker {
    pub fn connect(_: &Config, _: Option<&str>) -> Result<Self> {
        todo!()
    }
}
impl Broker for KafkaBroker {
    fn consumer(&self, _: Role) -> Result<Box<dyn Consumer>> {
        todo!()
    }
    fn producer(&self, _: usize) -> Result<Box<dyn Producer>> {
        todo!()
    }
    fn admin(&self) -> Result<Box<dyn Admin>> {
        todo!()
    }
}
