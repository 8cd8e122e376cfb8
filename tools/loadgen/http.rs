//! The little HTTP that is needed: one request, one answer.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::Failure;

const PATIENCE: Duration = Duration::from_secs(20);

/// Clients that come from one loopback address: the server takes 1,024 that are not connected yet.
const CLIENTS_PER_ADDRESS: usize = 500;

/// Connects as client number `index`. All of 127.0.0.0/8 is this machine, so a crowd has many
/// addresses, as in the field.
pub(crate) fn connect(server: SocketAddr, index: usize) -> Result<TcpStream, Failure> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
    if server.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) {
        let host = u8::try_from(1 + index / CLIENTS_PER_ADDRESS).unwrap_or(u8::MAX);
        socket.bind(&SocketAddr::from(([127, 0, 0, host], 0)).into())?;
    }
    socket.connect_timeout(&server.into(), PATIENCE)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends a request as client number `index`; gives the status code and the body.
pub(crate) fn request(
    server: SocketAddr,
    index: usize,
    method: &str,
    path: &str,
    body: &str,
) -> Result<(u16, String), Failure> {
    let mut stream = connect(server, index)?;
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
    let Ok((200, page)) = request(server, 0, "GET", "/metrics", "") else {
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
