//! Chat: a line of one is for everyone in the room. Whoever can open the page may send it, and each
//! line is sent as often as there are viewers, so how much may be said is limited: of each, so that
//! one cannot silence the rest, and of the room, so that many cannot flood it.

use std::time::Instant;

use super::Control;
use crate::ids::{RoomId, ViewerId};
use crate::limits::{
    CHAT_BYTES_BURST, CHAT_BYTES_PER_SECOND, CHAT_LINES_BURST, CHAT_LINES_PER_SECOND,
    CHAT_SENDER_LINES_BURST, CHAT_SENDER_LINES_PER_SECOND,
};
use crate::signalling::{Allowance, ServerMessage, SharedMessage};
use crate::webhook::timestamp::rfc3339;

/// How much may still be said in a room.
#[derive(Debug)]
pub(super) struct RoomChat {
    lines: Allowance,
    bytes: Allowance,
}

/// How much one viewer may still say.
#[derive(Debug)]
pub(super) struct Chatter {
    lines: Allowance,
    /// It was told that a line was left out, and none has passed since.
    told: bool,
}

impl Default for RoomChat {
    fn default() -> Self {
        Self {
            lines: Allowance::new(CHAT_LINES_BURST, CHAT_LINES_PER_SECOND),
            bytes: Allowance::new(CHAT_BYTES_BURST, CHAT_BYTES_PER_SECOND),
        }
    }
}

impl RoomChat {
    /// Takes a line of so many bytes if it may be said at `now`.
    fn take(&mut self, bytes: usize, now: Instant) -> bool {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        // Of both or of neither.
        self.lines.has(1, now) && self.bytes.take(bytes, now) && self.lines.take(1, now)
    }
}

impl Default for Chatter {
    fn default() -> Self {
        Self {
            lines: Allowance::new(CHAT_SENDER_LINES_BURST, CHAT_SENDER_LINES_PER_SECOND),
            told: false,
        }
    }
}

impl Control {
    /// Says a line to everyone in the viewer's room, itself included. What is too much is left out,
    /// and the viewer is told so once, until a line of it passes again.
    pub(super) fn chat(&mut self, id: ViewerId, text: String, now: Instant) {
        let Some((conn, client_name)) = self.socket(id).map(|s| (s.conn, s.name.clone())) else {
            return;
        };
        let Some(room) = self.directory.viewer(id).map(|viewer| viewer.room) else {
            return;
        };
        let timestamp_rfc3339 = rfc3339(self.timebase.wall(now));
        let message = SharedMessage::new(ServerMessage::GetChat {
            text,
            client_name,
            timestamp_rfc3339,
        });
        match self.may_chat(id, room, message.json_len(), now) {
            Ok(()) => self.broadcast(room, &message),
            Err(why) => {
                let told = self.socket(id).is_some_and(|socket| socket.chatter.told);
                if !told {
                    self.change_socket(id, |socket| socket.chatter.told = true);
                    self.complain(conn, why.into());
                }
            }
        }
    }

    /// Whether a viewer may say a line of so many bytes; if so, it is counted as said.
    fn may_chat(
        &mut self,
        id: ViewerId,
        room: RoomId,
        bytes: usize,
        now: Instant,
    ) -> Result<(), &'static str> {
        let has = |allowance: &Allowance| allowance.has(1, now);
        if !self.socket(id).is_some_and(|s| has(&s.chatter.lines)) {
            return Err("chat: too many lines from here; what you said now was not sent");
        }
        let room = self.directory.room_mut(room);
        if !room.is_some_and(|room| room.chat.take(bytes, now)) {
            return Err("chat: too much is said in this room; what you said now was not sent");
        }
        self.change_socket(id, |socket| {
            socket.chatter.lines.take(1, now);
            socket.chatter.told = false;
        });
        Ok(())
    }
}
