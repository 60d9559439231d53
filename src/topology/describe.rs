impl super::Topology {
    pub fn describe(&self) -> String {
        todo!()
    }
    pub fn mermaid(&self) -> String {
        todo!()
    }
    pub fn dot(&self) -> String {
        todo!()
    }
    pub fn json(&self) -> String {
        todo!()
    }
}
