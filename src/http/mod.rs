//! Probes, metrics, the topology and the page for people, over HTTP.
//!
//! The server has a thread of its own: it answers while stream threads are busy, stuck or dead, which is when it is needed.

mod client;
#[cfg(test)]
pub(crate) mod fixture;
mod probes;
mod reply;
mod routes;
mod stores;

pub use client::get;
pub use warp::http::Response;

use crate::error::{Error, Kind, Result};
use crate::runtime::queries::Stores;
use crate::status::StreamsStatus;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;
use warp::Filter;

/// How long answers under way may take when the server is stopped.
const STOP_MAX: Duration = Duration::from_millis(500);
/// How many queries of stores are answered at once; others wait.
const QUERIES_MAX: usize = 8;

/// What is served. Its methods are called for each request, so they should be quick and must not wait for a stream thread.
pub trait View: Send + Sync {
    /// What the probes and the page tell.
    fn status(&self) -> StreamsStatus;
    /// The topology in all formats.
    fn topology(&self) -> TopologyViews;
    /// What `/metrics` prints.
    fn metrics_text(&self) -> String;
    /// What `/stores` answers from; `None`: there is nothing to be asked.
    fn stores(&self) -> Option<Stores> {
        None
    }
}

/// The topology in all formats.
#[derive(Debug, Clone, Default)]
pub struct TopologyViews {
    /// As Java's `Topology#describe` prints it.
    pub text: String,
    /// A Mermaid flowchart.
    pub mermaid: String,
    /// A Graphviz digraph.
    pub dot: String,
    /// For programs, such as the page.
    pub json: String,
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl HttpServer {
    /// Where it listens, with the real port where port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has been reported by the panic hook; dropping must not raise another.
            let _ = thread.join();
        }
    }
}

/// Serves `view` on `addr`, such as `0.0.0.0:8080`, until the server is dropped.
///
/// # Errors
/// The address cannot be used.
pub fn serve(addr: &str, view: Arc<dyn View>) -> Result<HttpServer> {
    let listener = TcpListener::bind(addr).map_err(|e| cannot_listen(addr, e))?;
    let address = listener.local_addr().map_err(|e| cannot_listen(addr, e))?;
    listener.set_nonblocking(true).map_err(|e| cannot_listen(addr, e))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(QUERIES_MAX)
        .build()
        .map_err(|e| cannot_listen(addr, e))?;
    let (stop, stopped) = watch::channel(false);
    let thread = std::thread::Builder::new()
        .name("http".into())
        .spawn(move || {
            if let Err(error) = runtime.block_on(run(listener, view, stopped)) {
                tracing::error!("the HTTP server ended: {error}");
            }
            // A query that waits for another instance is not waited for.
            runtime.shutdown_background();
        })
        .map_err(|e| cannot_listen(addr, e))?;
    tracing::info!("serving http://{address}/");
    Ok(HttpServer { address, stop, thread: Some(thread) })
}

/// What the server answers to a request, for an application that has an HTTP server of its own. It may wait for a stream thread
/// or for another instance, where the path begins with `/stores`.
pub fn answer(view: &dyn View, method: &str, path: &str, query: &str) -> Response<String> {
    let method = warp::http::Method::from_bytes(method.as_bytes()).unwrap_or_default();
    routes::answer(view, &method, path, query)
}

async fn run(listener: TcpListener, view: Arc<dyn View>, mut stopped: watch::Receiver<bool>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    let filter = warp::method().and(warp::path::full()).and(query).then(
        move |method: warp::http::Method, path: warp::path::FullPath, query: String| {
            let view = view.clone();
            async move {
                if !path.as_str().starts_with("/stores") {
                    return routes::answer(&*view, &method, path.as_str(), &query);
                }
                // It may wait for a stream thread, or for another instance; the probes do not wait for it.
                let answer = move || routes::answer(&*view, &method, path.as_str(), &query);
                tokio::task::spawn_blocking(answer).await.unwrap_or_else(|_| routes::panicked())
            }
        },
    );
    let mut stop = stopped.clone();
    let stop = async move {
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let server = tokio::spawn(warp::serve(filter).incoming(listener).graceful(stop).run());
    // An error means that the sender has gone, which is a stop as well.
    let _ = stopped.wait_for(|stop| *stop).await;
    let _ = tokio::time::timeout(STOP_MAX, server).await;
    Ok(())
}

fn cannot_listen(addr: &str, error: io::Error) -> Error {
    let (what, hint) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            format!("{addr} is in use by another process"),
            "stop that process, or choose another port (port 0 takes a free one)",
        ),
        io::ErrorKind::AddrNotAvailable => (
            format!("{addr} is no address of this machine"),
            "use 0.0.0.0:<port> for all of its addresses, 127.0.0.1:<port> for local use only",
        ),
        io::ErrorKind::PermissionDenied => {
            (format!("{addr} may not be used by this user"), "choose a port above 1023, or grant CAP_NET_BIND_SERVICE")
        }
        _ => (format!("cannot listen on {addr:?}: {error}"), "write it as <host>:<port>, such as 0.0.0.0:8080"),
    };
    Error::new(Kind::Config, what).key("http.listen").hint(hint).source(error)
}

#[cfg(test)]
mod tests;
