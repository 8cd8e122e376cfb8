//! Chat: an ordinary line reaches everyone, and a flood costs little and closes nobody's socket.

use std::collections::BTreeMap;

use super::*;
use crate::limits::{
    CHAT_BYTES_BURST, CHAT_BYTES_PER_SECOND, CHAT_CHARACTERS_MAX, CHAT_SENDER_LINES_BURST,
    WEBSOCKET_OUTPUT_BYTES_MAX,
};

fn chat(text: &str) -> ClientMessage {
    ClientMessage::Chat(text.into())
}

/// The largest line there is.
fn long_line() -> String {
    "\u{1f600}".repeat(CHAT_CHARACTERS_MAX)
}

/// Bytes of JSON for each connection, and how many lines of chat are among them.
fn bytes_and_lines(outputs: &[ControlOutput]) -> BTreeMap<ConnId, (usize, usize)> {
    let mut sums = BTreeMap::<ConnId, (usize, usize)>::new();
    for output in outputs {
        if let ControlOutput::WebSocket { conn, message } = output {
            let sum = sums.entry(*conn).or_default();
            sum.0 += message.json_len();
            sum.1 += usize::from(matches!(message.message(), ServerMessage::GetChat { .. }));
        }
    }
    sums
}

#[test]
fn a_flood_of_chat_stays_within_the_room_s_allowance_and_nobody_s_socket_overflows() {
    let mut rig = Rig::new(2);
    let crowd: Vec<Joined> = (0..300)
        .map(|n| rig.socket("cam", &n.to_string()))
        .collect();
    // One turn of the loop: eight senders say as much as their connections let through at once.
    for sender in &crowd[..8] {
        for _ in 0..8 {
            let (conn, message) = (sender.conn, chat(&long_line()));
            rig.control.handle_websocket(conn, message, rig.now);
        }
    }
    let outputs = rig.outputs();
    let sums = bytes_and_lines(&outputs);
    let most = sums.values().map(|(bytes, _)| *bytes).max().unwrap();
    assert!(
        most < WEBSOCKET_OUTPUT_BYTES_MAX / 2,
        "{most} bytes for one"
    );
    let lines: BTreeSet<usize> = crowd.iter().map(|joined| sums[&joined.conn].1).collect();
    assert_eq!(lines.len(), 1, "who is in the room sees the same lines");
    assert!(*lines.first().unwrap() > 0, "no line came through");
    for joined in &crowd {
        assert_eq!(close_code_of(&outputs, joined.conn), None);
    }
}

#[test]
fn a_flood_for_long_comes_to_the_allowed_rate_and_leaves_room_for_others() {
    let mut rig = Rig::new(1);
    let crowd: Vec<Joined> = (0..10).map(|n| rig.socket("cam", &n.to_string())).collect();
    let (listener, mut total, mut heard) = (crowd[9], 0, 0);
    for _ in 0..60 {
        rig.now += Duration::from_secs(1);
        for sender in &crowd[..8] {
            let outputs = rig.say(*sender, chat(&long_line()));
            total += bytes_and_lines(&outputs)
                .get(&listener.conn)
                .map_or(0, |(bytes, _)| *bytes);
        }
        let outputs = rig.say(crowd[8], chat("hello"));
        heard += said(&outputs, listener.conn).len();
    }
    let allowed = CHAT_BYTES_BURST + 60 * CHAT_BYTES_PER_SECOND;
    assert!(total <= allowed as usize, "{total} bytes");
    assert!(heard >= 50, "of 60 words of another {heard} were heard");
}

#[test]
fn one_who_says_too_much_is_told_once_and_heard_again_later() {
    let mut rig = Rig::new(1);
    let (ann, bob) = (rig.socket("cam", "ann"), rig.socket("cam", "bob"));
    let (mut heard, mut complaints) = (0, 0);
    for _ in 0..40 {
        let outputs = rig.say(ann, chat("me!"));
        heard += said(&outputs, bob.conn).len();
        complaints += usize::from(complaint(&outputs, ann.conn).is_some());
    }
    assert_eq!((heard, complaints), (CHAT_SENDER_LINES_BURST as usize, 1));
    let outputs = rig.say(bob, chat("enough"));
    assert_eq!(said(&outputs, ann.conn).len(), 1, "others may speak");
    rig.now += Duration::from_secs(1);
    let outputs = rig.say(ann, chat("sorry"));
    assert_eq!(said(&outputs, bob.conn).len(), 1);
    let outputs = rig.say(ann, chat("but"));
    assert!(
        complaint(&outputs, ann.conn).is_some(),
        "it is told once more"
    );
}
