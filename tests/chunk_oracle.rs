//! T-01 with an outside judge: interleaved chunks, made here, come out of our reader as they come
//! out of ffmpeg's, which is served them as an RTMP player.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test may stop where it stands"
)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use rml_rtmp::handshake::{Handshake, HandshakeProcessResult, PeerType};
use rml_rtmp::sessions::{
    ServerSession, ServerSessionConfig, ServerSessionEvent, ServerSessionResult,
};
use rtmpeer::rtmp::chunk::{Admission, ChunkReader};

const AUDIO: u8 = 8;
const VIDEO: u8 = 9;
/// The chunk size both sides begin with (Adobe RTMP 1.0 §5.4.1).
const CHUNK: usize = 128;
/// Longest wait for ffmpeg, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(20);

/// One message as it is sent.
struct Sent {
    id: u32,
    type_id: u8,
    time: u32,
    body: Vec<u8>,
}

/// One message as somebody read it: type, timestamp in milliseconds, body.
type Seen = (u8, u32, Vec<u8>);

/// A chunk's basic header (§5.3.1.1); `long`: in three bytes where two would do.
fn basic(format: u8, id: u32, long: bool) -> Vec<u8> {
    let format = format << 6;
    let [low, high, ..] = id.wrapping_sub(64).to_le_bytes();
    match id {
        2..=63 => vec![format | u8::try_from(id).unwrap()],
        64..=319 if !long => vec![format, low],
        _ => vec![format | 1, low, high],
    }
}

impl Sent {
    fn chunks(&self, long: bool) -> Vec<Vec<u8>> {
        let [_, t2, t1, t0] = self.time.to_be_bytes();
        let [_, l2, l1, l0] = u32::try_from(self.body.len()).unwrap().to_be_bytes();
        let head = [t2, t1, t0, l2, l1, l0, self.type_id, 1, 0, 0, 0];
        let chunk = |(number, part): (usize, &[u8])| {
            let format = if number == 0 { 0 } else { 3 };
            let head = if number == 0 { &head[..] } else { &[] };
            [&basic(format, self.id, long)[..], head, part].concat()
        };
        self.body.chunks(CHUNK).enumerate().map(chunk).collect()
    }
}

/// Two messages on chunk streams of their own, their chunks by turns.
fn alternate(a: &Sent, b: &Sent, long: bool) -> Vec<u8> {
    let (a, b) = (a.chunks(long), b.chunks(long));
    let longest = a.len().max(b.len());
    let turn = |turn: usize| [a.get(turn), b.get(turn)].into_iter().flatten();
    (0..longest).flat_map(turn).flatten().copied().collect()
}

/// Every pair of ids and sizes of T-01; the bytes, and how many messages are in them.
fn stream() -> (Vec<u8>, usize) {
    let (mut bytes, mut time, mut count) = (Vec::new(), 0, 0);
    for ids in [[4, 5], [5, 64], [64, 319], [319, 65_599], [65_599, 4]] {
        for (size, other) in [
            (1, 129),
            (128, 65_536),
            (129, 128),
            (65_536, 1),
            (200, 65_536),
        ] {
            for long in [false, true] {
                let message = |id, type_id, size: usize| {
                    let byte = |index: usize| u8::try_from((index + count) % 251).unwrap();
                    // No sequence header of any codec: ffmpeg hands it on as it is.
                    let body = std::iter::once(0x22).chain((1..size).map(byte)).collect();
                    Sent {
                        id,
                        type_id,
                        time,
                        body,
                    }
                };
                let a = message(ids[0], VIDEO, size);
                let b = message(ids[1], AUDIO, other);
                bytes.extend(alternate(&a, &b, long));
                time += 20;
                count += 2;
            }
        }
    }
    (bytes, count)
}

/// What our reader makes of them.
fn ours(bytes: &[u8]) -> Vec<Seen> {
    let mut reader = ChunkReader::new();
    reader.set_admission(Admission::Media);
    let (mut input, mut seen) = (bytes, Vec::new());
    while let Some(message) = reader.next_message(&mut input).unwrap() {
        seen.push((
            message.type_id,
            message.timestamp_ms,
            message.payload.to_vec(),
        ));
    }
    seen
}

/// Lets a player in until it plays; then nothing more is written for it.
fn let_play(stream: &mut TcpStream) {
    let mut handshake = Some(Handshake::new(PeerType::Server));
    let (mut session, results) = ServerSession::new(ServerSessionConfig::new()).unwrap();
    // What the session says before the handshake is done goes out after it.
    let mut waiting: Vec<ServerSessionResult> = results;
    let mut buffer = [0; 16_384];
    loop {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "the player went away");
        let mut input = buffer[..count].to_vec();
        if let Some(mut shaking) = handshake.take() {
            match shaking.process_bytes(&input).unwrap() {
                HandshakeProcessResult::InProgress { response_bytes } => {
                    stream.write_all(&response_bytes).unwrap();
                    handshake = Some(shaking);
                    continue;
                }
                HandshakeProcessResult::Completed {
                    response_bytes,
                    remaining_bytes,
                } => {
                    stream.write_all(&response_bytes).unwrap();
                    input = remaining_bytes;
                }
            }
        }
        waiting.extend(session.handle_input(&input).unwrap());
        if answer(&mut session, stream, std::mem::take(&mut waiting)) {
            return;
        }
    }
}

/// Writes what the session says and grants what is asked; whether a play was.
fn answer(
    session: &mut ServerSession,
    stream: &mut TcpStream,
    results: Vec<ServerSessionResult>,
) -> bool {
    let mut plays = false;
    for result in results {
        match result {
            ServerSessionResult::OutboundResponse(packet) => {
                stream.write_all(&packet.bytes).unwrap();
            }
            ServerSessionResult::RaisedEvent(ServerSessionEvent::ConnectionRequested {
                request_id,
                ..
            }) => {
                let results = session.accept_request(request_id).unwrap();
                answer(session, stream, results);
            }
            ServerSessionResult::RaisedEvent(ServerSessionEvent::PlayStreamRequested {
                request_id,
                ..
            }) => {
                let results = session.accept_request(request_id).unwrap();
                answer(session, stream, results);
                plays = true;
            }
            _ => {}
        }
    }
    plays
}

/// What ffmpeg makes of them: the FLV that its RTMP reader hands to whoever asked for the URL.
fn theirs(bytes: &[u8]) -> Vec<Seen> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtmp://{}/app/play", listener.local_addr().unwrap());
    let arguments = ["-v", "error", "-f", "data", "-i", &url, "-map", "0"];
    let output = ["-c", "copy", "-f", "data", "pipe:1"];
    let child = Command::new("ffmpeg")
        .args(arguments)
        .args(output)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("ffmpeg is needed");
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let_play(&mut stream);
    let reset = [2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0, 128];
    stream.write_all(&reset).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let flv = child.wait_with_output().unwrap().stdout;
    tags(&flv)
}

/// Audio and video tags of an FLV byte stream (FLV 10.1, annex E.3 and E.4).
fn tags(flv: &[u8]) -> Vec<Seen> {
    assert_eq!(flv.get(..3), Some(&b"FLV"[..]), "{} bytes", flv.len());
    let (mut rest, mut seen) = (&flv[13..], Vec::new());
    while let [type_id, l2, l1, l0, t2, t1, t0, t3, _, _, _, after @ ..] = rest {
        let length = u32::from_be_bytes([0, *l2, *l1, *l0]) as usize;
        let (body, after) = after.split_at(length);
        if [AUDIO, VIDEO].contains(type_id) {
            let time = u32::from_be_bytes([*t3, *t2, *t1, *t0]);
            seen.push((*type_id, time, body.to_vec()));
        }
        rest = &after[4..];
    }
    seen
}

#[test]
fn interleaved_messages_are_read_as_ffmpeg_reads_them() {
    let (bytes, count) = stream();
    let ours = ours(&bytes);
    assert_eq!(ours.len(), count);
    let theirs = theirs(&bytes);
    assert_eq!(theirs.len(), count);
    for (number, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        assert!(ours == theirs, "message {number} of {count} differs");
    }
}
