//! HTTP/1.1 by hand, so that tests can send what no client would.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// An answer as it came.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a field that comes at most once.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str());
        let first = values.next();
        assert!(values.next().is_none(), "{name} comes twice");
        first
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).expect("a head in ASCII");
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let fields = lines.map(|line| {
            let (name, value) = line.split_once(':').expect("a field");
            (name.to_ascii_lowercase(), value.trim().to_owned())
        });
        Some(Self { status, fields: fields.collect(), body: bytes[end + 4..].to_vec() })
    }
}

/// Sends `bytes` and reads until the server closes. `None` if it does not listen, or closes without an answer.
pub fn exchange(address: &str, bytes: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_mins(1))).expect("a timeout");
    // The server may have seen enough, and closed, before all is sent.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    // After a reset, what came before it counts.
    let _ = stream.read_to_end(&mut answer);
    Answer::parse(&answer)
}

/// One request on a connection of its own. Each of `fields` is a line without its end.
pub fn request(address: &str, method: &str, target: &str, fields: &[&str], body: &[u8]) -> Answer {
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let fields: String = fields.iter().flat_map(|field| [field, "\r\n"]).collect();
    let head = format!("{method} {target} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{fields}{length}\r\n");
    let answer = exchange(address, &[head.as_bytes(), body].concat());
    answer.unwrap_or_else(|| panic!("{method} {target} has no answer"))
}

/// `GET` without further fields.
pub fn get(address: &str, target: &str) -> Answer {
    request(address, "GET", target, &[], &[])
}
