use crate::error::Result;
use crate::runtime::StreamsStatus;
use std::net::SocketAddr;
use std::sync::Arc;
pub trait View: Send + Sync {
    fn status(&self) -> StreamsStatus;
    fn topology(&self) -> TopologyViews;
    fn metrics_text(&self) -> String;
}
#[derive(Clone)]
pub struct TopologyViews {
    pub text: String,
    pub mermaid: String,
    pub dot: String,
    pub json: String,
}
pub struct HttpServer;
impl HttpServer {
    pub fn address(&self) -> SocketAddr {
        todo!()
    }
}
pub fn serve(_: &str, _: Arc<dyn View>) -> Result<HttpServer> {
    todo!()
}
