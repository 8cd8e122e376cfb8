//! RTMPS, HTTPS and WSS against the real server, and those who mistake the port.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use rtmpeer::runtime::now;

use crate::kit::clip::LiveClip;
use crate::kit::publisher::{Progress, TcpPublisher};
use crate::kit::server::{KitServer, wait_for};
use crate::kit::tls::{KitStream, KitTls};
use crate::kit::udp_viewer::UdpViewer;
use crate::kit::websocket::KitSocket;
use crate::program::{Program, command};
use crate::{play_for, plays, wait_live};

/// A server with a certificate, a live room published by RTMPS, and a player that joined by HTTPS.
fn playing_by_tls(room: &str) -> (KitServer, LiveClip, UdpViewer) {
    let server = KitServer::start_tls(2, KitTls::new());
    let clip = LiveClip::publish_tls(rtmps(&server), server.tls(), room);
    wait_live(&server, room, true);
    let mut viewer = UdpViewer::new();
    viewer.join_by_whep(&server, room);
    plays(&mut viewer, "first pictures and sounds");
    (server, clip, viewer)
}

fn rtmps(server: &KitServer) -> SocketAddr {
    server.addresses.rtmps.unwrap()
}

/// Whether the server closes a connection within some seconds, whatever it says before.
fn is_closed_within(stream: &mut TcpStream, seconds: u64) -> bool {
    let until = now() + Duration::from_secs(seconds);
    stream
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    while now() < until {
        match stream.read(&mut [0; 4_096]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return true,
        }
    }
    false
}

/// The first bytes that a client says.
fn client_hello(tls: &KitTls) -> Vec<u8> {
    let mut hello = Vec::new();
    tls.session().write_tls(&mut hello).unwrap();
    hello
}

#[test]
fn stream_by_rtmps_plays_by_whep_over_https() {
    let (server, _clip, mut viewer) = playing_by_tls("secure");
    let other = UdpViewer::new().join_by_whep(&server, "secure");
    let session = other.header("location").unwrap().to_owned();
    assert!(session.starts_with('/'), "{session} is not of any scheme");
    assert_eq!(server.http("DELETE", &session, &[], "").status, 200);
    plays(&mut viewer, "the first viewer, still");
    assert!(server.stop(), "a thread died");
}

#[test]
fn websocket_viewer_plays_over_wss() {
    let (server, _clip, _viewer) = playing_by_tls("wss");
    let mut socket = KitSocket::connect_tls(server.addresses.http, server.tls(), "wss", "a", "Ann");
    let mut viewer = UdpViewer::new();
    let offer = socket.next_of("getOffer");
    let answer = viewer.player.answer(&offer);
    socket.send("answer", &answer);
    plays(&mut viewer, "picture and sound by WSS");
}

#[test]
fn both_versions_of_tls_are_spoken() {
    let server = KitServer::start_tls(1, KitTls::new());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let tls = server.tls().speaking(version);
        assert!(tls.is_shown_by(server.addresses.http), "{version:?}");
        let publisher = TcpPublisher::publish_tls(rtmps(&server), &tls, "live", "versions");
        assert_eq!(*publisher.rtmp.progress(), Progress::Publishing);
        drop(publisher);
        wait_live(&server, "versions", false);
    }
}

#[test]
fn large_answers_and_many_requests_come_whole() {
    let server = KitServer::start_tls(1, KitTls::new());
    let mut stream = KitStream::connect(server.addresses.http, Some(server.tls()));
    let request = "GET /assets/player.js HTTP/1.1\r\nHost: localhost\r\n\r\n";
    // Without waiting for answers, then the end.
    stream.write_all(request.repeat(5).as_bytes()).unwrap();
    let last = request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    stream.write_all(last.as_bytes()).unwrap();
    let mut answers = String::new();
    // An end without close_notify would be an error.
    stream.read_to_string(&mut answers).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 6);
    assert!(answers.len() > 6 * 10_000, "{} bytes", answers.len());
}

#[test]
fn hello_in_single_bytes_is_understood() {
    let server = KitServer::start_tls(1, KitTls::new());
    for port in [rtmps(&server), server.addresses.http] {
        let mut stream = TcpStream::connect(port).unwrap();
        stream.set_nodelay(true).unwrap();
        for byte in client_hello(server.tls()) {
            stream.write_all(&[byte]).unwrap();
        }
        let mut answer = [0; 6];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!((answer[0], answer[5]), (0x16, 0x02), "no ServerHello");
    }
}

#[test]
fn plain_http_to_the_https_port_is_told_what_to_do() {
    let server = KitServer::start_tls(1, KitTls::new());
    let ports = [
        (server.addresses.http, "https://"),
        (rtmps(&server), "rtmps://"),
    ];
    for (port, scheme) in ports {
        let reply = crate::kit::server::http(port, "GET", "/", &[], "");
        assert_eq!(reply.status, 400);
        assert!(reply.body.contains(scheme), "{}", reply.body);
    }
}

#[test]
fn mistaken_ports_are_closed_at_once() {
    let server = KitServer::start_tls(1, KitTls::new());
    let hello = client_hello(server.tls());
    let rtmp: &[u8] = &[3; 1_537];
    for (port, bytes) in [
        (rtmps(&server), rtmp),
        (server.addresses.http, b"\x00"),
        (server.addresses.rtmp, &hello[..]),
        (server.addresses.metrics, &hello[..]),
    ] {
        let mut stream = TcpStream::connect(port).unwrap();
        stream.write_all(bytes).unwrap();
        assert!(is_closed_within(&mut stream, 2), "{port}");
    }
}

#[test]
fn broken_tls_is_closed_at_once_and_disturbs_nobody() {
    let (server, _clip, mut viewer) = playing_by_tls("broken");
    let hello = client_hello(server.tls());
    for port in [rtmps(&server), server.addresses.http] {
        let mut changed = hello.clone();
        changed[5] ^= 0xff;
        let mut long = vec![0x16, 3, 1, 0xff, 0xff];
        long.resize(70_000, 0);
        for bytes in [&changed[..], b"\x16\x03\x01\x00\x04zz\x00\x00", &long] {
            let mut stream = TcpStream::connect(port).unwrap();
            // It may be closed before all is written.
            let _ = stream.write_all(bytes);
            assert!(is_closed_within(&mut stream, 2), "{port}");
        }
        // Gone in the middle of the handshake.
        let mut stream = TcpStream::connect(port).unwrap();
        stream.write_all(&hello[..hello.len() / 2]).unwrap();
    }
    plays(&mut viewer, "the viewer");
}

#[test]
fn records_without_data_do_not_keep_a_connection_busy() {
    let server = KitServer::start_tls(1, KitTls::new());
    let tls = server.tls().speaking(&rustls::version::TLS13);
    for port in [rtmps(&server), server.addresses.http] {
        let mut stream = TcpStream::connect(port).unwrap();
        let mut session = tls.session();
        while session.is_handshaking() {
            session.complete_io(&mut stream).unwrap();
        }
        // New keys again and again: legal, and of no use.
        let mut sent = 0;
        while sent < 1_000_000
            && session.refresh_traffic_keys().is_ok()
            && let Ok(count) = session.write_tls(&mut stream)
        {
            sent += count;
        }
        assert!(
            is_closed_within(&mut stream, 2),
            "{port} after {sent} bytes"
        );
    }
}

#[test]
fn slow_handshakes_are_closed_in_time() {
    let server = KitServer::start_tls(1, KitTls::new());
    let hello = client_hello(server.tls());
    let ports = [rtmps(&server), server.addresses.http];
    let slow: Vec<_> = ports
        .iter()
        .flat_map(|port| [(port, &hello[..0]), (port, &hello[..7]), (port, &hello[..])])
        .map(|(port, bytes)| {
            let mut stream = TcpStream::connect(port).unwrap();
            stream.write_all(bytes).unwrap();
            (port, bytes.len(), stream)
        })
        .collect();
    let began = now();
    for (port, sent, mut stream) in slow {
        let closed = is_closed_within(&mut stream, 7);
        assert!(closed, "{port} after {sent} bytes of hello");
    }
    assert!(
        now() - began < Duration::from_secs(7),
        "one after the other"
    );
}

#[test]
fn renewed_certificate_is_shown_and_nobody_is_disturbed() {
    let (server, _clip, mut viewer) = playing_by_tls("renewed");
    let old = server.tls().clone();
    let mut socket = KitSocket::connect_tls(server.addresses.http, &old, "renewed", "a", "Ann");
    // What is no certificate changes nothing.
    let certificate = old.folder.join("cert.pem");
    std::fs::write(&certificate, "broken").unwrap();
    play_for(&mut viewer, Duration::from_secs(8));
    assert!(
        old.is_shown_by(server.addresses.http),
        "the old one is gone"
    );
    let new = old.renew();
    for port in [server.addresses.http, rtmps(&server)] {
        wait_for("the new certificate", || {
            new.is_shown_by(port).then_some(())
        });
        assert!(!old.is_shown_by(port), "the old one is still shown");
    }
    plays(&mut viewer, "the viewer");
    assert!(
        viewer
            .player
            .pictures()
            .skip(1)
            .all(|picture| picture.contiguous)
    );
    socket.send("chat", "still here");
    assert_eq!(socket.next_of("getChat"), "still here");
}

#[test]
fn hangup_reads_the_certificate_anew_at_once() {
    let old = KitTls::new();
    let mut command = command();
    command.envs(old.settings()).stdout(Stdio::piped());
    let mut program = Program(command.spawn().unwrap());
    let mut banner = String::new();
    let mut output = program.0.stdout.take().unwrap();
    let http: SocketAddr = loop {
        let mut buffer = [0; 4_096];
        let count = output.read(&mut buffer).unwrap();
        assert!(count > 0, "it ended: {banner}");
        banner.push_str(&String::from_utf8_lossy(&buffer[..count]));
        if let Some((_, rest)) = banner.split_once("https://")
            && let Some((address, _)) = rest.split_once("/ROOM\n")
        {
            break address.parse().unwrap();
        }
    };
    assert!(banner.contains("rtmps://127.0.0.1:"), "{banner}");
    assert!(old.is_shown_by(http));
    let new = old.renew();
    let began = now();
    program.signal(rustix::process::Signal::HUP);
    wait_for("the new certificate", || {
        new.is_shown_by(http).then_some(())
    });
    let took = now() - began;
    assert!(took < Duration::from_secs(2), "only after {took:?}");
}
