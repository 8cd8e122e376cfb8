//! Joining viewers' work in portions: thousands of joins at once make no picture late.
//!
//! A flight of DTLS costs up to 0.4 ms (RFC 6347 §4.2: signatures and key exchange), a thousand
//! times a packet. So offers, and DTLS of addresses that have proved themselves, wait here until the
//! turn's media has left; then a few have their turn. Nothing else waits behind them. A core whose
//! viewers wait all the time allows a portion for each stretch of media, so that joining keeps a third
//! of an overloaded core and comes to an end.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::engine::Engine;
use crate::limits::{
    CORE_MAILBOX_MESSAGES, HANDSHAKE_DATAGRAMS_PER_TURN, HANDSHAKE_DATAGRAMS_WAITING_MAX,
    HANDSHAKE_SHARES_MAX, HANDSHAKE_TURN, JOINS_PER_TURN,
};
use crate::messages::CoreMsg;

/// A datagram: from, to, bytes.
pub(super) type Waiting = (SocketAddr, SocketAddr, Vec<u8>);

/// What waits, and what this turn may still do.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    datagrams: VecDeque<Waiting>,
    messages: VecDeque<CoreMsg>,
    /// Time of media that no portion was allowed for yet.
    owed: Duration,
    joins_left: usize,
    datagrams_left: usize,
}

impl Handshakes {
    /// A new turn has a new budget. `before` is what the media of the last one took; `is_behind` if it
    /// did not come to an end.
    pub(super) fn begin_turn(&mut self, before: Duration, is_behind: bool) {
        let owed = self.owed.saturating_add(before);
        let shares = owed.as_nanos() / HANDSHAKE_TURN.as_nanos().max(1);
        let shares = usize::try_from(shares).unwrap_or(usize::MAX);
        let (shares, left) = if is_behind {
            let nanos = owed.as_nanos() % HANDSHAKE_TURN.as_nanos().max(1);
            (
                shares,
                Duration::from_nanos(u64::try_from(nanos).unwrap_or(0)),
            )
        } else {
            (shares.saturating_add(1), Duration::ZERO)
        };
        self.owed = left;
        let shares = shares.min(HANDSHAKE_SHARES_MAX);
        self.joins_left = JOINS_PER_TURN * shares;
        self.datagrams_left = HANDSHAKE_DATAGRAMS_PER_TURN * shares;
    }

    /// Keeps a viewer's DTLS for its turn. `false`: it is something else, to be given to the engine at
    /// once. What strangers send costs nothing but a look, and does not take a viewer's place.
    pub(super) fn keeps(
        &mut self,
        engine: &Engine,
        from: SocketAddr,
        to: SocketAddr,
        datagram: &[u8],
    ) -> bool {
        engine.knows(from) && self.keep(from, to, datagram)
    }

    /// Keeps a datagram if it is one of DTLS; what is too much is lost, and sent again by the viewer
    /// (RFC 6347 §4.2.4). `false`: it is another's, to be handled at once.
    fn keep(&mut self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) -> bool {
        if !is_dtls(datagram) {
            return false;
        }
        if self.datagrams.len() < HANDSHAKE_DATAGRAMS_WAITING_MAX {
            self.datagrams.push_back((from, to, datagram.to_vec()));
        }
        true
    }

    /// Keeps a message that makes a viewer join, and one that must not overtake such a message. Any
    /// other comes back, to be handled at once.
    pub(super) fn keep_message(&mut self, message: CoreMsg) -> Option<CoreMsg> {
        let follows = match &message {
            CoreMsg::AddViewer { .. } | CoreMsg::ViewerAnswer { .. } => true,
            CoreMsg::AddCandidate { .. }
            | CoreMsg::RemoveViewer { .. }
            | CoreMsg::BindViewer { .. }
            | CoreMsg::Drain { .. } => !self.messages.is_empty(),
            CoreMsg::PublishAccepted { .. }
            | CoreMsg::PublishRejected { .. }
            | CoreMsg::ClosePublisher { .. }
            | CoreMsg::QuestionPublisher { .. }
            | CoreMsg::LinkRoom { .. }
            | CoreMsg::UnlinkRoom { .. }
            | CoreMsg::KeyframeWanted { .. }
            | CoreMsg::Datagram { .. } => false,
        };
        if follows {
            self.messages.push_back(message);
            return None;
        }
        Some(message)
    }

    /// Whether there is room for another message.
    pub(super) fn has_room(&self) -> bool {
        self.messages.len() < CORE_MAILBOX_MESSAGES
    }

    /// The next message whose turn it is.
    pub(super) fn next_message(&mut self) -> Option<CoreMsg> {
        let joins = |message: &CoreMsg| {
            matches!(
                message,
                CoreMsg::AddViewer { .. } | CoreMsg::ViewerAnswer { .. }
            )
        };
        if self.messages.front().is_some_and(joins) {
            self.joins_left = self.joins_left.checked_sub(1)?;
        }
        self.messages.pop_front()
    }

    /// The next datagram whose turn it is.
    pub(super) fn next(&mut self) -> Option<Waiting> {
        self.datagrams_left = self.datagrams_left.checked_sub(1)?;
        self.datagrams.pop_front()
    }

    /// Whether anything waits.
    pub(super) fn wait(&self) -> bool {
        !self.datagrams.is_empty() || !self.messages.is_empty()
    }
}

/// RFC 7983 §7: DTLS begins with 20 to 63.
fn is_dtls(datagram: &[u8]) -> bool {
    matches!(datagram, [20..=63, ..])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::{Certificate, EngineConfig};
    use crate::ids::{CoreId, IdSource, RoomId, ViewerId};
    use crate::media::time::Timebase;

    fn address() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 9))
    }

    fn answer(viewer: u64) -> CoreMsg {
        CoreMsg::ViewerAnswer {
            viewer: ViewerId(viewer),
            sdp: String::new(),
        }
    }

    fn candidate(viewer: u64) -> CoreMsg {
        CoreMsg::AddCandidate {
            viewer: ViewerId(viewer),
            candidate: String::new(),
        }
    }

    #[test]
    fn a_turn_handles_a_few_datagrams_of_dtls_in_their_order() {
        let mut handshakes = Handshakes::default();
        let count = u8::try_from(HANDSHAKE_DATAGRAMS_PER_TURN + 2).unwrap();
        for number in 0..count {
            assert!(handshakes.keep(address(), address(), &[22, number]));
        }
        let mut order = Vec::new();
        for left in [2, 0] {
            handshakes.begin_turn(Duration::ZERO, false);
            while let Some((_, _, datagram)) = handshakes.next() {
                order.push(datagram[1]);
            }
            assert_eq!(handshakes.datagrams.len(), left);
        }
        assert_eq!(order, (0..count).collect::<Vec<_>>());
        assert!(!handshakes.wait());
    }

    #[test]
    fn strangers_take_no_place_in_the_queue() {
        let now = crate::runtime::now();
        let mut engine = Engine::new(EngineConfig {
            core: CoreId(0),
            cores: 1,
            timebase: Timebase::new(now, Duration::from_secs(1_700_000_000)),
            certificate: Certificate::generate().unwrap(),
            ids: IdSource::seeded(1),
            counters: Arc::default(),
        })
        .unwrap();
        let mut handshakes = Handshakes::default();
        for port in 1..1_000 {
            let from = SocketAddr::from(([192, 0, 2, 1], port));
            if !handshakes.keeps(&engine, from, address(), &[22; 100]) {
                engine.handle_datagram(from, address(), &[22; 100], now);
            }
        }
        assert!(!handshakes.wait());
    }

    #[test]
    fn stun_and_media_do_not_wait() {
        let mut handshakes = Handshakes::default();
        for first in [0, 3, 19, 64, 128, 191, 255] {
            assert!(!handshakes.keep(address(), address(), &[first, 0]));
        }
        assert!(!handshakes.keep(address(), address(), &[]));
    }

    #[test]
    fn memory_of_a_flood_is_bounded() {
        let mut handshakes = Handshakes::default();
        for _ in 0..2 * HANDSHAKE_DATAGRAMS_WAITING_MAX {
            assert!(handshakes.keep(address(), address(), &[22]));
        }
        assert_eq!(handshakes.datagrams.len(), HANDSHAKE_DATAGRAMS_WAITING_MAX);
        for viewer in 0..CORE_MAILBOX_MESSAGES as u64 {
            assert!(handshakes.has_room());
            handshakes.keep_message(answer(viewer));
        }
        assert!(!handshakes.has_room());
    }

    #[test]
    fn long_turns_do_not_starve_those_who_join() {
        let mut handshakes = Handshakes::default();
        handshakes.begin_turn(HANDSHAKE_TURN * 3, false);
        assert_eq!(handshakes.joins_left, 4 * JOINS_PER_TURN);
        assert_eq!(handshakes.datagrams_left, 4 * HANDSHAKE_DATAGRAMS_PER_TURN);
        handshakes.begin_turn(Duration::MAX, false);
        assert_eq!(handshakes.joins_left, HANDSHAKE_SHARES_MAX * JOINS_PER_TURN);
    }

    #[test]
    fn turns_without_an_end_allow_joins_in_proportion_to_their_media() {
        let mut handshakes = Handshakes::default();
        let mut joins = 0;
        for _ in 0..16 {
            handshakes.begin_turn(HANDSHAKE_TURN / 2, true);
            joins += handshakes.joins_left;
        }
        assert_eq!(joins, 8 * JOINS_PER_TURN);
    }

    #[test]
    fn joins_of_a_turn_are_few_and_hold_up_nothing_but_what_must_follow_them() {
        let mut handshakes = Handshakes::default();
        let early = handshakes.keep_message(candidate(0));
        assert!(matches!(early, Some(CoreMsg::AddCandidate { .. })));
        for viewer in 0..=JOINS_PER_TURN as u64 {
            assert!(handshakes.keep_message(answer(viewer)).is_none());
            assert!(handshakes.keep_message(candidate(viewer)).is_none());
        }
        let wanted = CoreMsg::KeyframeWanted { room: RoomId(1) };
        assert!(handshakes.keep_message(wanted).is_some());
        let mut order = Vec::new();
        for taken in [2 * JOINS_PER_TURN, 2] {
            handshakes.begin_turn(Duration::ZERO, false);
            let messages: Vec<CoreMsg> = std::iter::from_fn(|| handshakes.next_message()).collect();
            assert_eq!(messages.len(), taken);
            order.extend(messages);
        }
        for (place, message) in order.iter().enumerate() {
            let (CoreMsg::ViewerAnswer { viewer, .. } | CoreMsg::AddCandidate { viewer, .. }) =
                message
            else {
                panic!("{message:?}");
            };
            assert_eq!(viewer.0, place as u64 / 2);
            let joins = matches!(message, CoreMsg::ViewerAnswer { .. });
            assert_eq!(joins, place % 2 == 0);
        }
        assert!(!handshakes.wait());
    }
}
