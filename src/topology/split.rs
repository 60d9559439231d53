use super::*;
pub struct SubTopology {
    pub id: usize,
    pub nodes: Vec<NodeId>,
    pub source_topics: Vec<TopicName>,
    pub stores: Vec<String>,
}
pub fn sub_topologies(_: &Topology) -> Result<Vec<SubTopology>> {
    todo!()
}
