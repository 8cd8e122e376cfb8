//! The real server on loopback, and a plain HTTP client for it.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rtmpeer::config::Config;
use rtmpeer::runtime::now;
use rtmpeer::server::{Addresses, Server};

use super::tls::{KitStream, KitTls};

/// Longest wait for anything that must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running server with free ports.
pub struct KitServer {
    server: Option<Server>,
    /// Where it is.
    pub addresses: Addresses,
    tls: Option<KitTls>,
}

impl KitServer {
    /// Starts one with `cores` loops and further settings by environment names and values.
    pub fn start(cores: u16, settings: &[(&str, &str)]) -> Self {
        let local = "127.0.0.1:0";
        let listens = ["RTMP", "HTTP", "WEBRTC", "METRICS"];
        let mut environment: Vec<(String, String)> = listens
            .iter()
            .map(|section| (format!("RTMPEER_{section}__LISTEN"), local.to_owned()))
            .collect();
        environment.push(("RTMPEER_CORES".into(), cores.to_string()));
        environment.push(("RTMPEER_CONFIG".into(), String::new()));
        environment.retain(|(name, _)| name != "RTMPEER_CONFIG");
        environment.extend(
            settings
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        let config = Config::load(None, environment.into_iter()).unwrap();
        let server = Server::start(&config, false).unwrap();
        let addresses = server.addresses();
        Self {
            server: Some(server),
            addresses,
            tls: None,
        }
    }

    /// Starts one that speaks HTTPS, and RTMPS as well.
    pub fn start_tls(cores: u16, tls: KitTls) -> Self {
        let settings = tls.settings();
        let settings: Vec<_> = settings
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let mut server = Self::start(cores, &settings);
        server.tls = Some(tls);
        server
    }

    /// The certificate it was started with.
    pub fn tls(&self) -> &KitTls {
        self.tls.as_ref().unwrap()
    }

    /// Sends one request and gives status, head and body.
    pub fn http(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let stream = KitStream::connect(self.addresses.http, self.tls.as_ref());
        http_on(stream, method, path, headers, body)
    }

    /// Stops it and says whether every thread ended well.
    pub fn stop(mut self) -> bool {
        let server = self.server.take().unwrap();
        server.stop();
        server.wait()
    }
}

impl Drop for KitServer {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
            server.wait();
        }
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Status line and header fields.
    pub head: String,
    /// Body.
    pub body: String,
}

impl Reply {
    /// Value of a header field.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Sends one HTTP request and reads the whole answer.
pub fn http(
    server: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Reply {
    http_on(
        KitStream::connect(server, None),
        method,
        path,
        headers,
        body,
    )
}

fn http_on(
    mut stream: KitStream,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Reply {
    let server = stream.tcp().peer_addr().unwrap();
    let mut request =
        format!("{method} {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split_whitespace().nth(1).unwrap().parse().unwrap();
    Reply {
        status,
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

/// Waits until `condition` gives something, asking it again and again; fails after [`PATIENCE`].
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline: Instant = now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(now() < deadline, "waited in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
