//! The metrics page against what really happens.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::kit::publisher::TcpPublisher;
use crate::kit::server::{KitServer, PATIENCE, wait_for};
use crate::kit::tls::KitTls;
use crate::kit::udp_viewer::UdpViewer;
use crate::{playing, plays, wait_live};

/// The sum of a metric's samples over all cores and labels.
fn metric(server: &KitServer, name: &str) -> u64 {
    let page = crate::kit::server::http(server.addresses.metrics, "GET", "/metrics", &[], "");
    let sample = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let is_whole = rest.starts_with(['{', ' ']);
        let value = rest.rsplit_once(' ').filter(|_| is_whole)?.1;
        Some(value.parse::<u64>().unwrap())
    };
    let samples: Vec<u64> = page.body.lines().filter_map(sample).collect();
    assert!(!samples.is_empty(), "{name} is not there");
    samples.iter().sum()
}

fn wait_metric(server: &KitServer, name: &str, value: u64) {
    wait_for(&format!("{name} {value}"), || {
        (metric(server, name) == value).then_some(())
    });
}

#[test]
fn connections_viewers_and_errors_are_counted_as_they_come_and_go() {
    let (server, clip, mut viewer) = playing(2, "counted");
    let _idle = TcpStream::connect(server.addresses.rtmp).unwrap();
    wait_metric(&server, "rtmpeer_rtmp_connections", 2);
    wait_metric(&server, "rtmpeer_rtmp_connections_total", 2);
    wait_metric(&server, "rtmpeer_publishers", 1);
    wait_metric(&server, "rtmpeer_viewers_connected", 1);
    let mut second = UdpViewer::new();
    let reply = second.join_by_whep(&server, "counted");
    plays(&mut second, "the second viewer");
    wait_metric(&server, "rtmpeer_viewers_connected", 2);
    let session = reply.header("location").unwrap().to_owned();
    server.http("DELETE", &session, &[], "");
    wait_metric(&server, "rtmpeer_viewers_connected", 1);
    plays(&mut viewer, "the first viewer, still");

    assert_eq!(metric(&server, "rtmpeer_rtmp_errors_total"), 0);
    let mut stranger = TcpStream::connect(server.addresses.rtmp).unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    wait_metric(&server, "rtmpeer_rtmp_errors_total", 1);
    // That it closes is no error.
    drop(TcpPublisher::publish(server.addresses.rtmp, "live", "left"));
    wait_live(&server, "left", false);
    drop(clip);
    wait_metric(&server, "rtmpeer_publishers", 0);
    wait_metric(&server, "rtmpeer_rtmp_connections", 1);
    assert_eq!(metric(&server, "rtmpeer_rtmp_errors_total"), 1);
}

#[test]
fn end_of_the_certificate_is_told_if_there_is_one() {
    let name = "rtmpeer_tls_certificate_expiry_timestamp_seconds";
    let server = KitServer::start_tls(1, KitTls::new());
    let wall = std::time::UNIX_EPOCH.elapsed().unwrap();
    let left = metric(&server, name) - wall.as_secs();
    let days = left / 86_400;
    assert!((395..=397).contains(&days), "{days} days are left");
    let plain = KitServer::start(1, &[]);
    let page = crate::kit::server::http(plain.addresses.metrics, "GET", "/metrics", &[], "");
    assert!(!page.body.contains(name));
}

/// Connections that one address may have (`HTTP_CONNECTIONS_PER_ADDRESS_MAX`).
const PER_ADDRESS: usize = 1_024;

/// Lets this process have both ends of so many connections.
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(16_384, |most| most.min(16_384));
    if limit.current.is_some_and(|now| now < wanted) {
        let current = Some(wanted);
        setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
    }
}

/// What a newcomer from this address is answered; nothing if it is closed at once.
fn answer_from(http: SocketAddr, from: [u8; 4]) -> String {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&http.into()).unwrap();
    let mut stream: TcpStream = socket.into();
    let request = b"GET /v1/health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    // It may be closed already.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

/// A connection that was answered and stays.
fn resting(http: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(http).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    ask(&mut stream);
    stream
}

/// Sends one request and reads the answer.
fn ask(stream: &mut TcpStream) {
    let request = b"GET /v1/health HTTP/1.1\r\nHost: a\r\n\r\n";
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        let mut buffer = [0; 1_024];
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "it was closed without an answer");
        answer.extend_from_slice(&buffer[..count]);
    }
}

fn is_closed(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0; 64]), Ok(0))
}

#[test]
fn connection_that_has_rested_longest_makes_room_for_a_newcomer_of_its_address() {
    raise_descriptors();
    let server = KitServer::start(1, &[]);
    let http = server.addresses.http;
    let (mut first, mut second) = (resting(http), resting(http));
    ask(&mut first);
    let silent = || TcpStream::connect(http).unwrap();
    let mut crowd: Vec<TcpStream> = (2..PER_ADDRESS).map(|_| silent()).collect();
    wait_metric(&server, "rtmpeer_http_connections", PER_ADDRESS as u64);
    let mut newcomer = resting(http);
    assert!(is_closed(&mut second), "it had rested longest");
    ask(&mut first);
    ask(&mut newcomer);
    crowd.extend([silent(), silent()]);
    assert!(is_closed(&mut first) && is_closed(&mut newcomer));
    assert_eq!(metric(&server, "rtmpeer_http_connections_refused_total"), 0);
    assert_eq!(answer_from(http, [127, 0, 0, 1]), "", "nobody rests");
    wait_metric(&server, "rtmpeer_http_connections_refused_total", 1);
    drop(crowd);
}

#[test]
fn one_address_cannot_take_every_http_connection() {
    raise_descriptors();
    let server = KitServer::start(1, &[]);
    let http = server.addresses.http;
    let crowd: Vec<TcpStream> = (0..PER_ADDRESS)
        .map(|_| TcpStream::connect(http).unwrap())
        .collect();
    wait_metric(&server, "rtmpeer_http_connections", PER_ADDRESS as u64);
    let answer = answer_from(http, [127, 0, 0, 1]);
    assert_eq!(answer, "", "one too many was answered");
    assert!(answer_from(http, [127, 0, 0, 2]).starts_with("HTTP/1.1 200"));
    wait_metric(&server, "rtmpeer_http_connections_refused_total", 1);
    drop(crowd);
    wait_metric(&server, "rtmpeer_http_connections", 0);
}
