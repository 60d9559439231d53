//! Real requests over a real socket.

use super::*;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;

/// A view whose status a test can change while it is served.
struct Fake(Mutex<StreamsStatus>);

impl View for Fake {
    fn status(&self) -> StreamsStatus {
        self.0.lock().unwrap().clone()
    }

    fn topology(&self) -> TopologyViews {
        TopologyViews {
            text: "Topologies:\n".into(),
            mermaid: "flowchart LR\n".into(),
            dot: "digraph {}\n".into(),
            json: r#"{"sub_topologies":[]}"#.into(),
        }
    }

    fn metrics_text(&self) -> String {
        crate::metrics::Metrics::new("shop").text(&self.status())
    }
}

struct Served {
    view: Arc<Fake>,
    server: HttpServer,
}

struct Answer {
    code: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

fn served() -> Served {
    let view = Arc::new(Fake(Mutex::new(fixture::running())));
    let server = serve("127.0.0.1:0", view.clone()).unwrap();
    Served { view, server }
}

impl Served {
    fn get(&self, path: &str) -> Answer {
        self.request("GET", path)
    }

    fn request(&self, method: &str, path: &str) -> Answer {
        let mut socket = TcpStream::connect(self.server.address()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(socket, "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let code = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { code, head: head.to_lowercase(), body: body.to_owned() }
    }

    fn codes(&self) -> [u16; 4] {
        ["/livez", "/readyz", "/startupz", "/health"].map(|path| self.get(path).code)
    }
}

#[test]
fn probes_follow_the_status() {
    use crate::status::State;
    let served = served();
    assert_eq!(served.codes(), [200, 200, 200, 200]);
    let table = [
        (State::Created, [200, 503, 200, 200]),
        (State::Rebalancing, [200, 503, 200, 200]),
        (State::PendingShutdown, [503, 503, 200, 503]),
        (State::NotRunning, [503, 503, 200, 503]),
        (State::PendingError, [503, 503, 200, 503]),
        (State::Error, [503, 503, 200, 503]),
    ];
    for (state, codes) in table {
        served.view.0.lock().unwrap().state = state;
        assert_eq!(served.codes(), codes, "{state:?}");
    }
    *served.view.0.lock().unwrap() = fixture::restoring();
    assert_eq!(served.codes(), [200, 503, 503, 200]);
    let ready = served.get("/readyz");
    assert!(ready.body.ends_with("}\n") && ready.body.matches('\n').count() == 1, "one line: {}", ready.body);
    assert!(ready.head.contains("cache-control: no-store"), "{}", ready.head);
}

#[test]
fn health_is_json_and_has_the_code_of_livez() {
    let served = served();
    assert_eq!(served.get("/health").json()["status"], "UP");
    served.view.0.lock().unwrap().threads[0].last_turn_ms = 0;
    let down = served.get("/health");
    assert_eq!((down.code, &down.json()["status"]), (503, &"DOWN".into()));
    assert!(down.head.contains("content-type: application/json"), "{}", down.head);
}

#[test]
fn the_topology_comes_in_four_formats() {
    let served = served();
    for (query, start) in [
        ("", "Topologies:"),
        ("?format=text", "Topologies:"),
        ("?format=mermaid", "flowchart"),
        ("?format=dot", "digraph"),
        ("?format=json", "{\"sub_topologies\""),
    ] {
        let answer = served.get(&format!("/topology{query}"));
        assert!(answer.code == 200 && answer.body.starts_with(start), "{query}: {}", answer.body);
    }
    let unknown = served.get("/topology?format=svg");
    assert_eq!((unknown.code, &unknown.json()["formats"][1]), (400, &"mermaid".into()));
}

#[test]
fn metrics_are_prometheus_text() {
    let answer = served().get("/metrics");
    assert_eq!(answer.code, 200);
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
    assert!(answer.body.contains("watersmeet_state{state=\"RUNNING\"} 1"), "{}", answer.body);
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let answer = served().get("/");
    assert_eq!(answer.code, 200);
    assert!(answer.head.contains("content-type: text/html"), "{}", answer.head);
    assert!(answer.body.starts_with("<!doctype html>") && answer.body.ends_with("</html>\n"));
    for foreign in ["src=", "@import", "url(h", "href=\"http", "import("] {
        assert!(!answer.body.contains(foreign), "{foreign} in the page");
    }
}

#[test]
fn what_is_not_there_is_said_with_what_is() {
    let served = served();
    let answer = served.get("/helth");
    assert_eq!((answer.code, &answer.json()["paths"][1]), (404, &"/health".into()));
    let answer = served.request("POST", "/health");
    assert_eq!(answer.code, 405);
    assert!(answer.head.contains("allow: get, head"), "{}", answer.head);
}

#[test]
fn head_is_get_without_the_body() {
    let served = served();
    for path in ["/livez", "/health", "/metrics", "/"] {
        let answer = served.request("HEAD", path);
        assert_eq!((answer.code, answer.body.as_str()), (200, ""), "{path}");
        assert!(answer.head.contains("content-length: "), "{path}: {}", answer.head);
    }
}

#[test]
fn dropping_the_server_frees_the_port_though_clients_stay_connected() {
    let served = served();
    let address = served.server.address();
    let mut socket = TcpStream::connect(address).unwrap();
    write!(socket, "GET /livez HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
    assert!(socket.read(&mut [0; 16]).unwrap() > 0);
    drop(served);
    assert!(TcpStream::connect(address).is_err());
    assert!(serve(&address.to_string(), Arc::new(Fake(Mutex::new(fixture::running())))).is_ok());
}

#[test]
fn an_address_that_cannot_be_used_is_explained() {
    let view = || Arc::new(Fake(Mutex::new(fixture::running())));
    let served = served();
    let taken = served.server.address().to_string();
    for (addr, what) in [
        (taken.as_str(), "in use by another process"),
        ("192.0.2.1:8080", "no address of this machine"),
        ("nonsense", "cannot listen on \"nonsense\""),
        ("127.0.0.1:99999", "cannot listen on"),
    ] {
        let error = serve(addr, view()).unwrap_err();
        assert_eq!((error.kind(), error.at().key.as_deref()), (Kind::Config, Some("http.listen")), "{addr}");
        assert!(error.what().contains(what) && error.to_string().contains("Next: "), "{error}");
    }
}
