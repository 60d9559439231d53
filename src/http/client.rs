//! Asks another instance: one request, one answer, and no waiting without end.

use crate::error::{Error, Kind, Result};
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

const CONNECT_MAX: Duration = Duration::from_secs(1);
/// More than any answer of `/stores` has.
const BYTES_MAX: u64 = 64 << 20;

/// Asks another instance of the application: the code and the body that the one at `server` (`host:port`) has for `path`,
/// which may have a query. Waits on this thread, at most `timeout` for each part of the answer.
///
/// # Errors
/// [`Kind::Unavailable`]: it cannot be reached, or gives no answer.
pub fn get(server: &str, path: &str, timeout: Duration) -> Result<(u16, String)> {
    let failed = |doing: &str, error: std::io::Error| {
        Error::new(Kind::Unavailable, format!("the instance at {server}, which should have this, {doing}"))
            .source(error)
            .hint("ask again in a moment; if it stays so, check application.server there")
    };
    let unreachable = |error| failed("cannot be reached", error);
    let address = server.to_socket_addrs().map_err(unreachable)?.next();
    let address = address.ok_or_else(|| unreachable(std::io::ErrorKind::NotFound.into()))?;
    let mut socket = TcpStream::connect_timeout(&address, CONNECT_MAX).map_err(unreachable)?;
    let silent = |error| failed("gives no answer", error);
    socket.set_read_timeout(Some(timeout)).and_then(|()| socket.set_write_timeout(Some(timeout))).map_err(silent)?;
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\naccept: application/json\r\n\r\n");
    socket.write_all(request.as_bytes()).map_err(silent)?;
    let mut bytes = Vec::new();
    socket.take(BYTES_MAX).read_to_end(&mut bytes).map_err(silent)?;
    parse(&bytes).ok_or_else(|| failed("answers something else", std::io::ErrorKind::InvalidData.into()))
}

fn parse(bytes: &[u8]) -> Option<(u16, String)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let (head, body) = (std::str::from_utf8(&bytes[..end]).ok()?.to_ascii_lowercase(), &bytes[end + 4..]);
    let code = head.split(' ').nth(1)?.parse().ok()?;
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
    let body = if header("transfer-encoding").is_some_and(|encoding| encoding.contains("chunked")) {
        chunks(body)?
    } else {
        let length = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(body.len());
        body.get(..length)?.to_vec()
    };
    Some((code, String::from_utf8(body).ok()?))
}

fn chunks(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..end]).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(end + 2..end + 2 + size)?);
        rest = rest.get(end + 4 + size..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_whole_or_not_at_all() {
        let text = |bytes: &[u8]| parse(bytes);
        assert_eq!(text(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"), Some((200, "{}".into())));
        assert_eq!(text(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}"), None, "cut off");
        let chunked = b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\n";
        assert_eq!(text(chunked), Some((503, "abcd".into())));
        assert_eq!(text(b"SSH-2.0-something\r\n"), None);
    }

    #[test]
    fn an_instance_that_is_not_there_may_be_there_later() {
        let error = get("127.0.0.1:1", "/stores", CONNECT_MAX).expect_err("nobody listens");
        assert!(error.is_retriable() && error.to_string().contains("127.0.0.1:1"), "{error}");
    }
}
