//! Garbage on every port, while a control viewer loses nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use rtmpeer::ids::IdSource;

use crate::kit::publisher::{Progress, TcpPublisher};
use crate::{playing, plays};

/// Connections with garbage, per port.
const CONNECTIONS: usize = 60;

fn garbage(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    IdSource::seeded(seed).fill(&mut bytes);
    bytes
}

fn pour(port: SocketAddr, head: &[u8], seed: u64) {
    let Ok(mut stream) = TcpStream::connect(port) else {
        return;
    };
    stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    // The server may close at any byte.
    let _ = stream.write_all(head);
    let _ = stream.write_all(&garbage(seed, 4_096));
    let _ = stream.read(&mut [0; 4_096]);
}

#[test]
fn hostile_bytes_on_every_port_kill_nothing() {
    let (server, _clip, mut viewer) = playing(2, "control");
    let before = viewer.counts().0;
    let addresses = server.addresses;
    let flood = std::thread::spawn(move || {
        let ports = [addresses.rtmp, addresses.http, addresses.metrics];
        let heads: [&[u8]; 6] = [
            b"",
            b"\x03",
            b"\x06",
            b"GET / HTTP/1.1\r\n",
            b"\x16\x03\x01\x02\x00\x01",
            b"SSH-2.0-x\r\n",
        ];
        for turn in 0..CONNECTIONS {
            for port in ports {
                pour(port, heads[turn % heads.len()], turn as u64);
            }
        }
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for turn in 0_u64..5_000 {
            let mut datagram = garbage(turn, usize::try_from(turn % 1_400).unwrap());
            if let Some(first) = datagram.first_mut() {
                // STUN, DTLS and RTP by turns.
                *first = [0, 22, 128, 200][usize::try_from(turn % 4).unwrap()];
            }
            socket.send_to(&datagram, addresses.webrtc).unwrap();
        }
    });
    while !flood.is_finished() {
        viewer.step();
    }
    flood.join().unwrap();
    plays(&mut viewer, "the control viewer after the flood");
    assert!(viewer.counts().0 > before);
    assert!(
        viewer
            .player
            .pictures()
            .skip(1)
            .all(|picture| picture.contiguous)
    );
    let metrics = crate::kit::server::http(addresses.metrics, "GET", "/metrics", &[], "");
    let panics: Vec<_> = metrics
        .body
        .lines()
        .filter(|line| line.starts_with("rtmpeer_panics"))
        .collect();
    assert!(panics.iter().all(|line| line.ends_with(" 0")), "{panics:?}");
    assert!(server.stop(), "a thread died");
}

/// A thousand, or what this process's limit of descriptors leaves: both ends are in it.
fn slow_connections() -> u32 {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3)?.parse::<u32>().ok());
    let descriptors = soft.unwrap_or(1_024);
    (descriptors / 2).saturating_sub(300).clamp(100, 1_000)
}

#[test]
fn slow_handshakes_keep_no_publisher_out_and_are_closed() {
    let server = crate::kit::server::KitServer::start(2, &[]);
    let rtmp = server.addresses.rtmp;
    // From 125 addresses of the loopback net, each with the first byte of a handshake.
    let slow: Vec<TcpStream> = (0..slow_connections())
        .map(|index| {
            let address = [127, 0, 1, u8::try_from(index % 125).unwrap() + 1];
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
            let socket = socket.unwrap();
            socket.bind(&SocketAddr::from((address, 0)).into()).unwrap();
            socket.connect(&rtmp.into()).unwrap();
            let mut stream: TcpStream = socket.into();
            stream.write_all(&[3]).unwrap();
            stream
        })
        .collect();
    // One of several, so that what else this machine does counts for less.
    let soonest = (0..5).map(|number| {
        let began = rtmpeer::runtime::now();
        let publisher = TcpPublisher::publish(rtmp, "live", &format!("soon-{number}"));
        assert_eq!(*publisher.rtmp.progress(), Progress::Publishing);
        rtmpeer::runtime::now() - began
    });
    let soonest = soonest.min().unwrap();
    assert!(soonest < Duration::from_millis(200), "{soonest:?}");
    let _clip = crate::kit::clip::LiveClip::publish(rtmp, "meanwhile");
    let deadline = rtmpeer::runtime::now() + Duration::from_secs(12);
    for mut stream in slow {
        stream
            .set_read_timeout(Some(Duration::from_secs(12)))
            .unwrap();
        let end = stream.read(&mut [0; 4_096]);
        assert!(!matches!(&end, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock));
        assert!(
            rtmpeer::runtime::now() < deadline,
            "not all were closed in time"
        );
    }
    crate::wait_live(&server, "meanwhile", true);
}

#[test]
fn silent_publishers_are_closed() {
    let server = crate::kit::server::KitServer::start(1, &[]);
    let mut stream = TcpStream::connect(server.addresses.rtmp).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(8)))
        .unwrap();
    assert_eq!(
        stream.read(&mut [0; 16]).unwrap(),
        0,
        "not closed within 8 s"
    );
}
