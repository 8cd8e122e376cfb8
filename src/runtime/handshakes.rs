//! Joining viewers' work in portions: thousands of joins at once make no picture late.
//!
//! A flight of DTLS costs up to 0.4 ms (RFC 6347 §4.2: signatures and key exchange), a thousand
//! times a packet. So DTLS waits here until the turn's media has left, and then a few datagrams
//! have their turn; offers are taken from the mailbox a few a turn. A turn that was long because
//! of its media allows more, so that joining keeps a third of an overloaded core and comes to an end.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::core_loop::CoreMail;
use crate::limits::{
    HANDSHAKE_DATAGRAMS_PER_TURN, HANDSHAKE_DATAGRAMS_WAITING_MAX, HANDSHAKE_SHARES_MAX,
    HANDSHAKE_TURN, JOINS_PER_TURN,
};
use crate::messages::CoreMsg;

/// A datagram: from, to, bytes.
pub(super) type Waiting = (SocketAddr, SocketAddr, Vec<u8>);

/// DTLS that waits, and what this turn may still do.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    waiting: VecDeque<Waiting>,
    joins_left: usize,
    datagrams_left: usize,
}

impl Handshakes {
    /// A new turn has a new budget; `before` is what the last one took up to its handshakes.
    pub(super) fn begin_turn(&mut self, before: Duration) {
        let shares = before.as_nanos() / HANDSHAKE_TURN.as_nanos().max(1);
        let shares = usize::try_from(shares).unwrap_or(usize::MAX);
        let shares = shares.saturating_add(1).min(HANDSHAKE_SHARES_MAX);
        self.joins_left = JOINS_PER_TURN * shares;
        self.datagrams_left = HANDSHAKE_DATAGRAMS_PER_TURN * shares;
    }

    /// Whether mail may still be taken in this turn.
    pub(super) fn takes_mail(&self) -> bool {
        self.joins_left > 0 && self.datagrams_left > 0
    }

    /// Counts what a message will cost.
    pub(super) fn count(&mut self, mail: &CoreMail) {
        match mail {
            CoreMail::Message(CoreMsg::AddViewer { .. } | CoreMsg::ViewerAnswer { .. }) => {
                self.joins_left = self.joins_left.saturating_sub(1);
            }
            CoreMail::Message(CoreMsg::Datagram { data, .. }) if is_dtls(data) => {
                self.datagrams_left = self.datagrams_left.saturating_sub(1);
            }
            CoreMail::Message(_)
            | CoreMail::Accepted { .. }
            | CoreMail::Transcoded(_)
            | CoreMail::VideoTranscoded(_)
            | CoreMail::Stop => {}
        }
    }

    /// Keeps a datagram if it is one of DTLS; what is too much is lost, and sent again by the
    /// viewer (RFC 6347 §4.2.4). `false`: it is another's, to be handled at once.
    pub(super) fn keep(&mut self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) -> bool {
        if !is_dtls(datagram) {
            return false;
        }
        if self.waiting.len() < HANDSHAKE_DATAGRAMS_WAITING_MAX {
            self.waiting.push_back((from, to, datagram.to_vec()));
        }
        true
    }

    /// The next datagram whose turn it is.
    pub(super) fn next(&mut self) -> Option<Waiting> {
        self.datagrams_left = self.datagrams_left.checked_sub(1)?;
        self.waiting.pop_front()
    }

    /// Whether datagrams wait.
    pub(super) fn wait(&self) -> bool {
        !self.waiting.is_empty()
    }
}

/// RFC 7983 §7: DTLS begins with 20 to 63.
fn is_dtls(datagram: &[u8]) -> bool {
    matches!(datagram, [20..=63, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 9))
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
            handshakes.begin_turn(Duration::ZERO);
            while let Some((_, _, datagram)) = handshakes.next() {
                order.push(datagram[1]);
            }
            assert_eq!(handshakes.waiting.len(), left);
        }
        assert_eq!(order, (0..count).collect::<Vec<_>>());
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
        assert_eq!(handshakes.waiting.len(), HANDSHAKE_DATAGRAMS_WAITING_MAX);
    }

    #[test]
    fn long_turns_do_not_starve_those_who_join() {
        let mut handshakes = Handshakes::default();
        handshakes.begin_turn(HANDSHAKE_TURN * 3);
        assert_eq!(handshakes.joins_left, 4 * JOINS_PER_TURN);
        assert_eq!(handshakes.datagrams_left, 4 * HANDSHAKE_DATAGRAMS_PER_TURN);
        handshakes.begin_turn(Duration::MAX);
        assert_eq!(handshakes.joins_left, HANDSHAKE_SHARES_MAX * JOINS_PER_TURN);
    }

    #[test]
    fn joins_end_the_mail_of_a_turn() {
        let mut handshakes = Handshakes::default();
        handshakes.begin_turn(Duration::ZERO);
        let join = CoreMail::Message(CoreMsg::ViewerAnswer {
            viewer: crate::ids::ViewerId(1),
            sdp: String::new(),
        });
        for _ in 0..JOINS_PER_TURN {
            assert!(handshakes.takes_mail());
            handshakes.count(&CoreMail::Stop);
            handshakes.count(&join);
        }
        assert!(!handshakes.takes_mail());
    }
}
