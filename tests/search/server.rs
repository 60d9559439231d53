//! A real OpenSearch of a test's own, which it may kill. Where there can be none, the test says so and passes.

use crate::on_kafka::waiting;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long anything is waited for before that is a failure.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until there is an answer.
pub fn until<T>(what: &str, answer: impl FnMut() -> Option<T>) -> T {
    waiting::until(PATIENCE, Duration::from_millis(10), what, answer)
}

/// A node in a directory of its own.
pub struct Server {
    directory: PathBuf,
    pub url: String,
}

impl Server {
    pub fn start() -> Option<Self> {
        let name = format!("watersmeet-opensearch-test-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        match dev("start", &directory) {
            Ok(url) => Some(Self { directory, url }),
            Err(why) => {
                eprintln!("no OpenSearch to test against: {why}");
                None
            }
        }
    }

    /// As `kill -9`.
    pub fn kill(&self) {
        let pid = std::fs::read_to_string(self.directory.join("pid")).expect("the node's pid");
        let killed = Command::new("kill").args(["-9", pid.trim()]).status().expect("kill runs");
        assert!(killed.success(), "the node runs");
        until("the node is gone", || TcpStream::connect(self.address()).err());
    }

    /// Starts it again, with its data, at its address.
    pub fn start_again(&self) {
        assert_eq!(dev("start", &self.directory).expect("OpenSearch starts again"), self.url);
    }

    fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// An answer's body.
    pub fn request(&self, method: &str, path: &str, body: &str) -> serde_json::Value {
        request(self.address(), method, path, body).expect("the node answers")
    }

    /// Every document of an index: id, version, content.
    pub fn documents(&self, index: &str) -> Vec<(String, i64, serde_json::Value)> {
        self.request("POST", &format!("/{index}/_refresh"), "");
        let query = r#"{"size":10000,"version":true,"query":{"match_all":{}}}"#;
        let mut page = self.request("POST", &format!("/{index}/_search?scroll=1m"), query);
        let mut found = Vec::new();
        loop {
            let hits = page["hits"]["hits"].as_array().expect("hits").clone();
            if hits.is_empty() {
                return found;
            }
            found.extend(hits.into_iter().map(|hit| {
                let id = hit["_id"].as_str().expect("an id").to_owned();
                (id, hit["_version"].as_i64().expect("a version"), hit["_source"].clone())
            }));
            let next = serde_json::json!({ "scroll": "1m", "scroll_id": page["_scroll_id"] });
            page = self.request("POST", "/_search/scroll", &next.to_string());
        }
    }
}

/// An answer's body.
pub fn request(address: &str, method: &str, path: &str, body: &str) -> std::io::Result<serde_json::Value> {
    let mut stream = TcpStream::connect(address)?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok(serde_json::from_str(body)?)
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(why) = dev("stop", &self.directory) {
            eprintln!("OpenSearch did not stop: {why}");
        }
    }
}

/// `./dev opensearch`: the address of a start, or what went wrong.
fn dev(verb: &str, directory: &Path) -> Result<String, String> {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("dev"));
    command.args(["opensearch", verb, "--dir"]).arg(directory);
    // It starts faster with the first compiler alone.
    if std::env::var_os("WATERSMEET_DOCUMENTS").is_none() {
        command.env("WATERSMEET_OPENSEARCH_JAVA_OPTS", "-Xms512m -Xmx512m -XX:TieredStopAtLevel=1");
    }
    if verb == "stop" {
        command.arg("--wipe");
    }
    let done = command.output().map_err(|e| e.to_string())?;
    if !done.status.success() {
        return Err(String::from_utf8_lossy(&done.stderr).into_owned());
    }
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    Ok(text.trim().strip_prefix("url=").unwrap_or_default().to_owned())
}
