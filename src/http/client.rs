//! Asks another instance: one request, one answer, and no waiting without end.

use crate::error::{Error, Kind, Result};
use std::sync::LazyLock;
use std::time::Duration;
use ureq::Agent;

const CONNECT_MAX: Duration = Duration::from_secs(1);
/// More than any answer of `/stores` has.
const BYTES_MAX: u64 = 64 << 20;

/// Instances answer themselves: no proxy, no redirects. A connection is not kept, as the one at its other end may be gone by
/// the next question, and a first question should not fail for that.
static AGENT: LazyLock<Agent> = LazyLock::new(|| {
    let config = Agent::config_builder().proxy(None).max_redirects(0).max_idle_connections(0);
    config.http_status_as_error(false).timeout_connect(Some(CONNECT_MAX)).build().into()
});

/// Asks another instance of the application: the code and the body that the one at `server` (`host:port`) has for `path`,
/// which may have a query. Waits on this thread, at most `timeout` for the whole answer.
///
/// # Errors
/// [`Kind::Unavailable`]: it cannot be reached, or gives no answer.
pub fn get(server: &str, path: &str, timeout: Duration) -> Result<(u16, String)> {
    let request = AGENT.get(format!("http://{server}{path}")).header("accept", "application/json");
    let answer = request.config().timeout_global(Some(timeout)).build().call().and_then(|mut answer| {
        let code = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(BYTES_MAX).read_to_string()?;
        Ok((code, body))
    });
    answer.map_err(|error| {
        Error::new(Kind::Unavailable, format!("the instance at {server}, which should have this, gives no answer"))
            .source(error)
            .hint("ask again in a moment; if it stays so, check application.server there")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// What is read of an answer with these bytes.
    fn asked(answer: &'static str) -> Result<(u16, String)> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = listener.local_addr().expect("bound").to_string();
        let instance = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("asked");
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                socket.read_exact(&mut byte).expect("a request");
                request.push(byte[0]);
            }
            socket.write_all(answer.as_bytes()).expect("it waits for the answer");
            String::from_utf8(request).expect("a head is text")
        });
        let read = get(&server, "/stores/a/b%20c?key=text", Duration::from_secs(10));
        let request = instance.join().expect("it answers");
        assert!(request.starts_with("GET /stores/a/b%20c?key=text HTTP/1.1\r\n"), "{request}");
        read
    }

    #[test]
    fn answers_are_read_whole_or_not_at_all() {
        assert_eq!(asked("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").expect("whole"), (200, "{}".into()));
        let cut = asked("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}").expect_err("cut off");
        assert!(cut.is_retriable(), "{cut}");
        let chunked = "HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\n";
        assert_eq!(asked(chunked).expect("whole"), (503, "abcd".into()));
        asked("SSH-2.0-something\r\n\r\n").expect_err("no HTTP");
    }

    #[test]
    fn an_instance_that_is_not_there_may_be_there_later() {
        let error = get("127.0.0.1:1", "/stores", CONNECT_MAX).expect_err("nobody listens");
        assert!(error.is_retriable() && error.to_string().contains("127.0.0.1:1"), "{error}");
    }
}
