//! Which packets of each source were received already (RFC 3711 §3.3.1, §3.3.2).

use super::{SRTP_INDEX_MAX, SrtpError};

/// Packets a replay window looks back; RFC 3711 §3.3.2 wants 64 at least.
const REPLAY_WINDOW_PACKETS: u64 = 128;
/// Sources followed of one peer: a browser has one or two for each of its tracks.
pub const SOURCES_MAX: usize = 16;

/// The index that `sequence` most likely has (RFC 3711 §3.3.1): the nearest to the highest one
/// received. `None` if that would be before the first.
pub(super) fn estimate_index(highest: Option<u64>, sequence: u16) -> Option<u64> {
    const HALF: u64 = 0x8000;
    const ROUND: u64 = 0x1_0000;
    let sequence = u64::from(sequence);
    let Some(highest) = highest else {
        return Some(sequence);
    };
    let same_round = (highest & !0xffff) | sequence;
    let index = if same_round.saturating_add(HALF) < highest {
        same_round.checked_add(ROUND)?
    } else if same_round > highest.saturating_add(HALF) {
        same_round.checked_sub(ROUND)?
    } else {
        same_round
    };
    (index <= SRTP_INDEX_MAX).then_some(index)
}

/// Which indices of one source were received (RFC 3711 §3.3.2).
#[derive(Debug, Clone, Copy, Default)]
struct ReplayWindow {
    /// One more than the highest index received; 0 before the first.
    next: u64,
    /// Bit n: the index n below the highest was received.
    seen: u128,
}

impl ReplayWindow {
    fn highest(&self) -> Option<u64> {
        self.next.checked_sub(1)
    }

    fn is_new(&self, index: u64) -> bool {
        let Some(age) = self
            .highest()
            .and_then(|highest| highest.checked_sub(index))
        else {
            return true;
        };
        age < REPLAY_WINDOW_PACKETS && (self.seen >> age) & 1 == 0
    }

    fn accept(&mut self, index: u64) {
        let ahead = index.saturating_add(1).saturating_sub(self.next);
        if ahead > 0 {
            let kept = u32::try_from(ahead)
                .ok()
                .and_then(|shift| self.seen.checked_shl(shift));
            self.seen = kept.unwrap_or(0) | 1;
            self.next = index.saturating_add(1);
        } else if let Some(age) = self
            .highest()
            .and_then(|highest| highest.checked_sub(index))
        {
            let bit = u32::try_from(age)
                .ok()
                .and_then(|age| 1_u128.checked_shl(age));
            self.seen |= bit.unwrap_or(0);
        }
    }
}

/// The window of each source of a peer, in the order they were first heard of. A source is only
/// remembered once a packet of it was authentic, and never forgotten: its packets could be
/// replayed then.
#[derive(Debug, Default)]
pub(super) struct Sources(Vec<(u32, ReplayWindow)>);

impl Sources {
    /// Whether the packet may be looked at.
    pub(super) fn check(&self, ssrc: u32, index: u64) -> Result<(), SrtpError> {
        match self.find(ssrc) {
            Some(window) if window.is_new(index) => Ok(()),
            Some(_) => Err(SrtpError::Replayed),
            None if self.0.len() < SOURCES_MAX => Ok(()),
            None => Err(SrtpError::TooManySources),
        }
    }

    /// Remembers a packet that [`Sources::check`] let through and that was authentic.
    pub(super) fn accept(&mut self, ssrc: u32, index: u64) {
        match self.0.iter_mut().find(|(known, _)| *known == ssrc) {
            Some((_, window)) => window.accept(index),
            None => {
                let mut window = ReplayWindow::default();
                window.accept(index);
                self.0.push((ssrc, window));
            }
        }
    }

    /// The highest index received of `ssrc`.
    pub(super) fn highest(&self, ssrc: u32) -> Option<u64> {
        self.find(ssrc).and_then(ReplayWindow::highest)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn find(&self, ssrc: u32) -> Option<&ReplayWindow> {
        let found = self.0.iter().find(|(known, _)| *known == ssrc);
        found.map(|(_, window)| window)
    }
}
