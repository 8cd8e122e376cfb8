//! What a stranger can make an RTMP session allocate, counted at the allocator: bytes that were
//! only announced cost nothing.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test may fail loudly, and any instant will do for a clock"
)]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use allocation_counter::measure;
use rtmpeer::rtmp::amf0::{Amf0Value, encode};
use rtmpeer::rtmp::{CloseReason, RtmpConfig, RtmpEvent, RtmpOutput, RtmpSession};

const KIB: u64 = 1_024;
const MIB: u64 = 1_024 * KIB;
const COMMAND: u8 = 20;
const VIDEO: u8 = 9;
const SET_CHUNK_SIZE: u8 = 1;
/// Payload of a chunk until its sender says otherwise (Adobe RTMP 1.0 §5.4.1).
const CHUNK: usize = 128;

/// A chunk's header of type 0 on a chunk stream below 64, declaring `length` (§5.3.1).
fn header(id: u8, type_id: u8, length: u32) -> Vec<u8> {
    let [_, l2, l1, l0] = length.to_be_bytes();
    let stream = u8::from(type_id != SET_CHUNK_SIZE);
    vec![id, 0, 0, 0, l2, l1, l0, type_id, stream, 0, 0, 0]
}

/// A message in chunks of `size`.
fn message(id: u8, type_id: u8, body: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = header(id, type_id, u32::try_from(body.len()).unwrap());
    for (number, part) in body.chunks(size).enumerate() {
        if number > 0 {
            bytes.push(0xc0 | id);
        }
        bytes.extend(part);
    }
    bytes
}

fn chunk_size(size: u32) -> Vec<u8> {
    message(2, SET_CHUNK_SIZE, &size.to_be_bytes(), CHUNK)
}

fn text(text: &str) -> Amf0Value {
    Amf0Value::String(text.to_owned())
}

fn command(name: &str, rest: &[Amf0Value]) -> Vec<u8> {
    let values = [&[text(name), Amf0Value::Number(1.0)], rest].concat();
    message(3, COMMAND, &encode(&values), CHUNK)
}

/// Takes what the session says: whether a publish was asked for, and why it closed if it did.
fn drain(session: &mut RtmpSession) -> (bool, Option<CloseReason>) {
    let (mut asked, mut closed) = (false, None);
    loop {
        match session.poll_output(Instant::now()) {
            RtmpOutput::Transmit(_) => {}
            RtmpOutput::Event(RtmpEvent::PublishRequested { .. }) => asked = true,
            RtmpOutput::Event(_) => {}
            RtmpOutput::Close(reason) => closed = Some(reason),
            RtmpOutput::Timeout(_) => return (asked, closed),
        }
    }
}

/// A session after its handshake.
fn shaken() -> RtmpSession {
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let mut session = RtmpSession::new(peer, RtmpConfig::default(), Instant::now());
    let mut hello = vec![3, 0, 0, 0, 0, 0, 0, 0, 0];
    hello.resize(1 + 2 * 1_536, 0x55);
    session.handle_input(&hello, Instant::now());
    assert_eq!(drain(&mut session), (false, None));
    session
}

/// A session whose publish was accepted.
fn publishing() -> RtmpSession {
    let mut session = shaken();
    let object = Amf0Value::Object(vec![("app".into(), text("live"))]);
    let bytes = [
        command("connect", &[object]),
        command("createStream", &[Amf0Value::Null]),
        command("publish", &[Amf0Value::Null, text("room"), text("live")]),
    ];
    session.handle_input(&bytes.concat(), Instant::now());
    assert_eq!(drain(&mut session), (true, None));
    session.accept_publish(Instant::now());
    assert_eq!(drain(&mut session), (false, None));
    session
}

/// Feeds bytes to a session. Gives what it took at most at a time beyond what it had, in bytes, and
/// whether it closed for a fault of the peer.
fn feed(session: &mut RtmpSession, bytes: &[u8]) -> (u64, bool) {
    let mut broke = false;
    let allocated = measure(|| {
        session.handle_input(bytes, Instant::now());
        let (_, closed) = drain(session);
        broke = matches!(closed, Some(CloseReason::Protocol(_)));
    });
    (allocated.bytes_max, broke)
}

/// T-03.
#[test]
fn length_change_inside_a_message_closes_and_costs_little() {
    let mut bytes = header(4, VIDEO, 200);
    bytes.extend([0; CHUNK]);
    bytes.extend(header(4, VIDEO, 50));
    let (taken, broke) = feed(&mut publishing(), &bytes);
    assert!(broke);
    assert!(taken < 64 * KIB, "{taken} bytes");
}

/// T-04.
#[test]
fn announced_length_of_200_strangers_allocates_nothing() {
    let mut sessions: Vec<_> = (0..200).map(|_| shaken()).collect();
    let mut closed = 0;
    let allocated = measure(|| {
        for (session, type_id) in sessions.iter_mut().zip([COMMAND, VIDEO].iter().cycle()) {
            let (_, broke) = feed(session, &header(4, *type_id, 0x00ff_ffff));
            closed += u32::from(broke);
            assert_eq!(session.buffered_bytes(), 0);
        }
    });
    assert_eq!(closed, 200);
    assert!(allocated.bytes_max < 2 * MIB, "{allocated:?}");
}

/// T-05: 8 MiB announced on each chunk stream there can be.
#[test]
fn chunk_streams_without_end_are_closed_at_the_65th() {
    let mut session = publishing();
    let mut most = 0;
    let opened = (4_u32..65_600).take_while(|&id| {
        let mut bytes = header(4, VIDEO, 8 << 20);
        let [low, high, ..] = (id.max(64) - 64).to_le_bytes();
        let basic = match u8::try_from(id) {
            Ok(id) if id < 64 => vec![id],
            _ => vec![1, low, high],
        };
        bytes.splice(..1, basic);
        bytes.extend([0; CHUNK]);
        let (taken, broke) = feed(&mut session, &bytes);
        most = most.max(taken);
        !broke
    });
    // Those of the control messages and of the commands are two of the 64.
    let opened = opened.count();
    assert!((62..=64).contains(&opened), "{opened}");
    let held = session.buffered_bytes() as u64;
    assert!(held + most < 17 * MIB, "{held} held, {most} taken at once");
}

/// T-06: what is allocated follows the message, whatever chunk size was announced.
#[test]
fn announced_chunk_size_allocates_nothing() {
    let body = vec![0x27; 1 << 20];
    for size in [0, 0x8000_0000] {
        let (taken, broke) = feed(&mut publishing(), &chunk_size(size));
        assert!(broke, "{size}");
        assert!(taken < 64 * KIB, "{taken} bytes for {size}");
    }
    for size in [1_u32, 134_217_728, 0x7fff_ffff] {
        let mut session = publishing();
        let (taken, broke) = feed(&mut session, &chunk_size(size));
        assert!(!broke && taken < 64 * KIB, "{taken} bytes for {size}");
        let bytes = message(4, VIDEO, &body, usize::try_from(size).unwrap());
        let (taken, broke) = feed(&mut session, &bytes);
        assert!(!broke, "{size}");
        // The buffer doubles as bytes come.
        assert!(taken <= 2 * body.len() as u64 + 64 * KIB, "{taken} bytes");
    }
}

/// T-08: counts and lengths that AMF0 only announces.
#[test]
fn announced_amf_counts_allocate_nothing() {
    let name = encode(&[text("connect"), Amf0Value::Number(1.0)]);
    let three = encode(&[Amf0Value::Null, Amf0Value::Null, Amf0Value::Null]);
    let array = [&[10, 0xff, 0xff, 0xff, 0xff][..], &three].concat();
    let key = [3, 0xff, 0xff, b'k', b'k'].to_vec();
    let string = [2, 0xff, 0xff, b's'].to_vec();
    let long_string = [12, 0xff, 0xff, 0xff, 0xff, b's'].to_vec();
    let nulls = vec![5; 60_000];
    for value in [array, key, string, long_string, nulls] {
        let bytes = message(3, COMMAND, &[&name[..], &value].concat(), CHUNK);
        let (taken, broke) = feed(&mut shaken(), &bytes);
        assert!(broke, "{:?}", value.first());
        assert!(taken < MIB, "{taken} bytes for {:?}", value.first());
    }
}
