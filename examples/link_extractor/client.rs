//! As much of an HTTP client as the example needs. Take the one that you know: any future will do.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// Posts a body; gives the status and the body of the answer.
pub async fn post(server: SocketAddr, path: &str, body: &str) -> Result<(u16, String)> {
    let stream = TcpStream::connect(server).await?;
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: {server}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    );
    let mut left = request.as_bytes();
    while !left.is_empty() {
        stream.writable().await?;
        match stream.try_write(left) {
            Ok(written) => left = &left[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    let mut answer = Vec::new();
    loop {
        stream.readable().await?;
        match stream.try_read_buf(&mut answer) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    parse(&String::from_utf8_lossy(&answer)).ok_or_else(|| Error::new(ErrorKind::InvalidData, "no HTTP answer"))
}

/// The answers of the shipped service say how long they are.
fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}
