//! WebSocket frames and the JSON in them: whatever a viewer sends, however it is split, the same
//! messages come out and no more than the bounds is kept or sent.
use std::time::Instant;

use rtmpeer::signalling::{ClientMessage, ServerMessage, WebSocketSession, WsOutput};

/// One input.
pub fn fuzz(data: &[u8]) {
    let now = Instant::now();
    let whole = run(&[data], now);
    let bytes: Vec<&[u8]> = data.chunks(1).collect();
    let split = run(&bytes, now);
    assert_eq!(whole, split, "other messages when split");
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = ClientMessage::parse(text);
    }
}

/// What a viewer said, what was sent to it, and the close code.
fn run(parts: &[&[u8]], now: Instant) -> (Vec<ClientMessage>, Vec<u8>, Option<u16>) {
    let mut session = WebSocketSession::new(&[], now);
    let mut messages = Vec::new();
    let mut sent = Vec::new();
    let mut closed = None;
    for part in parts {
        session.handle_input(part, now);
        loop {
            match session.poll_output(now) {
                WsOutput::Transmit(bytes) => sent.extend_from_slice(&bytes),
                WsOutput::Message(message) => {
                    assert_eq!(closed, None, "a message after the end");
                    messages.push(message);
                }
                WsOutput::Invalid(text) => session.send(&ServerMessage::Error { text }, now),
                WsOutput::Close { code, .. } => closed = Some(code),
                WsOutput::Timeout(_) => break,
            }
        }
    }
    (messages, sent, closed)
}
