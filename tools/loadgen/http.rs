//! The little HTTP that is needed: one request, one answer.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::Failure;

const PATIENCE: Duration = Duration::from_secs(20);

/// Sends a request; gives the status code and the body.
pub(crate) fn request(
    server: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> Result<(u16, String), Failure> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\
         Content-Type: application/sdp\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or("the HTTP answer has no end")?;
    let status = head
        .split_whitespace()
        .nth(1)
        .ok_or("the HTTP answer has no status")?;
    Ok((status.parse()?, body.to_owned()))
}

/// The server's counters by name, those of all cores added. None without a metrics page.
pub(crate) fn metrics(server: Option<SocketAddr>) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    let Some(server) = server else { return sums };
    let Ok((200, page)) = request(server, "GET", "/metrics", "") else {
        return sums;
    };
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, value)) = line.rsplit_once(' ') else {
            continue;
        };
        let Ok(value) = value.parse::<f64>() else {
            continue;
        };
        let name = name.split_once('{').map_or(name, |(name, _)| name);
        *sums.entry(name.to_owned()).or_insert(0.0) += value;
    }
    sums
}
