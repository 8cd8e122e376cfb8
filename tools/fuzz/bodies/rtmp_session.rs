//! A whole RTMP session: no input panics it, it closes once, its memory and its outputs stay
//! bounded.
//!
//! Byte 0 chooses the size of the reads, byte 1 what happens to a publish request, byte 2 how much
//! time passes per read; the rest is what a publisher says after the handshake.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use rtmpeer::limits::{RTMP_OUTPUTS_MAX, RTMP_PARTIAL_BYTES_MAX};
use rtmpeer::rtmp::{Rejection, RtmpConfig, RtmpEvent, RtmpOutput, RtmpSession};

struct Run {
    session: RtmpSession,
    now: Instant,
    answer: u8,
    closed: usize,
}

impl Run {
    fn drain(&mut self) {
        let mut requested = false;
        let mut outputs = 0;
        loop {
            match self.session.poll_output(self.now) {
                RtmpOutput::Transmit(bytes) => assert!(!bytes.is_empty()),
                RtmpOutput::Event(RtmpEvent::PublishRequested { .. }) => requested = true,
                RtmpOutput::Event(_) => {}
                RtmpOutput::Close(_) => self.closed += 1,
                RtmpOutput::Timeout(deadline) => {
                    if deadline <= self.now {
                        self.session.handle_timeout(self.now);
                    } else {
                        break;
                    }
                }
            }
            outputs += 1;
            assert!(outputs <= RTMP_OUTPUTS_MAX + 64);
        }
        assert!(self.closed <= 1);
        assert!(self.session.buffered_bytes() <= RTMP_PARTIAL_BYTES_MAX);
        if requested {
            match self.answer % 8 {
                0 => self.session.reject_publish(Rejection::Busy, self.now),
                1 => self.session.close(self.now),
                2 => {}
                _ => self.session.accept_publish(self.now),
            }
            self.drain();
        }
    }
}

/// One input.
pub fn fuzz(data: &[u8]) {
    let [size, answer, pace, bytes @ ..] = data else {
        return;
    };
    let now = Instant::now();
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let mut run = Run {
        session: RtmpSession::new(peer, RtmpConfig::default(), now),
        now,
        answer: *answer,
        closed: 0,
    };
    let mut handshake = vec![3];
    handshake.resize(1 + 2 * 1_536, 0);
    run.session.handle_input(&handshake, run.now);
    run.drain();
    let size = 1 + usize::from(*size) * 16;
    for part in bytes.chunks(size) {
        run.now += Duration::from_millis(u64::from(*pace));
        run.session.handle_input(part, run.now);
        run.drain();
    }
    run.session.handle_eof(false, run.now);
    run.drain();
    assert_eq!(run.closed, 1);
}
