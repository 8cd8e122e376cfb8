//! One viewer's peer connection: str0m's SDP, ICE-lite and DTLS, and our own media.
//!
//! RFC 8445 §2.5 (ICE-lite), RFC 7675 (consent), RFC 5764 §5.1.2 (which datagram is what), RFC
//! 3550 §6 (RTCP), RFC 4585 (feedback).
//!
//! A pure state machine. After each call of `handle_…`, `accept_answer` or `add_candidate`, call
//! [`Viewer::poll_output`] until it says when to come again. str0m never sends or reads media:
//! whatever it writes that looks like RTP or RTCP is dropped and counted, because a second sender
//! under the same keys would give them away.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use str0m::change::SdpAnswer;
use str0m::ice::StunMessage;
use str0m::net::{Protocol, Receive, Transmit};
use str0m::{Event, Input, Output, Rtc};
use str0m_proto::crypto::Sha1HmacProvider;

use super::batch::SendBatch;
use super::codecs;
use super::dtls::{KeyReceiver, TappedKeys};
use super::factory::{Tracks, ViewerError};
use super::media::Media;
use super::output::{Sent, ViewerEvent, ViewerOutput, ViewerStats, push_event};
use super::parts::{Begin, Offered, Parts};
use super::paths::Paths;
use super::sdp::{self, SdpRole};
use super::srtp::{SrtcpReceiver, SrtpSender};
use crate::ids::{Secret, ViewerId};
use crate::limits::{
    CANDIDATE_BYTES_MAX, CONNECT_DEADLINE, CONSENT_LOST_AFTER, CONSENT_SILENT_AFTER,
    SDP_CANDIDATES_MAX,
};
use crate::media::frame::{FrameSet, TrackKind};
use crate::messages::ViewerEnd;

/// How long an ended session says to wait: its owner drops it long before.
const NEVER: Duration = Duration::from_secs(24 * 3_600);
/// Datagrams that str0m may write in one poll: a DTLS flight has fewer than 10.
const OUTPUTS_PER_POLL_MAX: usize = 256;

enum Phase {
    /// Our offer has no answer yet.
    Offered(Box<Offered>),
    /// ICE and DTLS are under way.
    Connecting { deadline: Instant },
    /// Media may flow.
    Connected,
    /// Nothing was heard for a while.
    Silent,
    /// It is over.
    Ended,
}

/// One viewer.
pub struct Viewer {
    viewer: ViewerId,
    /// Boxed: 10 KB between what each frame touches.
    rtc: Box<Rtc>,
    phase: Phase,
    keys: KeyReceiver,
    hmac: &'static dyn Sha1HmacProvider,
    ufrag: String,
    password: Secret,
    remote_ufrag: Option<String>,
    /// Local addresses that were advertised.
    local: Vec<SocketAddr>,
    /// Candidates the viewer sent.
    candidates: usize,
    paths: Paths,
    media: Media,
    events: VecDeque<ViewerEvent>,
    next_str0m: Instant,
    datagrams_ignored: u64,
    media_suppressed: u64,
}

impl fmt::Debug for Viewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Viewer({})", self.viewer)
    }
}

impl Viewer {
    pub(super) fn new(parts: Parts, begin: Begin, now: Instant) -> Self {
        let Parts {
            viewer,
            rtc,
            keys,
            ufrag,
            password,
            candidates: local,
            cname,
            timebase,
            jitter,
            tracks,
        } = parts;
        let (phase, remote_ufrag, candidates) = match begin {
            Begin::Negotiated {
                remote_ufrag,
                candidates,
                deadline,
            } => (
                Phase::Connecting { deadline },
                Some(remote_ufrag),
                candidates,
            ),
            Begin::Offered(offered) => (Phase::Offered(offered), None, 0),
        };
        Self {
            viewer,
            rtc: Box::new(rtc),
            phase,
            keys,
            hmac: str0m_aws_lc_rs::default_provider().sha1_hmac_provider,
            ufrag,
            password,
            remote_ufrag,
            local,
            candidates,
            paths: Paths::new(now),
            media: Media::new(tracks, cname, timebase, jitter, now),
            events: VecDeque::new(),
            next_str0m: now,
            datagrams_ignored: 0,
            media_suppressed: 0,
        }
    }

    /// The ICE user name fragment that we gave the viewer: its STUN says it.
    #[must_use]
    pub fn ufrag(&self) -> &str {
        &self.ufrag
    }

    /// Whether the viewer gets a track.
    #[must_use]
    pub fn plays(&self, track: TrackKind) -> bool {
        self.media.plays(track)
    }

    /// Takes the viewer's answer to our offer.
    ///
    /// # Errors
    /// What is wrong with it. After [`ViewerError::AnswerUnexpected`] and after errors of the
    /// text itself the session is as before; after others it can only be dropped.
    pub fn accept_answer(&mut self, sdp: &str, now: Instant) -> Result<(), ViewerError> {
        if !matches!(self.phase, Phase::Offered(_)) {
            return Err(ViewerError::AnswerUnexpected);
        }
        let remote = sdp::read_remote(sdp, SdpRole::Answer)?;
        let answer = SdpAnswer::from_sdp_string(&remote.text)
            .map_err(|why| ViewerError::from_str0m(&why))?;
        let connecting = Phase::Connecting {
            deadline: now + CONNECT_DEADLINE,
        };
        let Phase::Offered(offered) = std::mem::replace(&mut self.phase, connecting) else {
            return Err(ViewerError::AnswerUnexpected);
        };
        let Offered {
            pending,
            mids: [video, audio],
            sources,
            deadline: _,
        } = *offered;
        self.rtc
            .sdp_api()
            .accept_answer(pending, answer)
            .map_err(|why| ViewerError::from_str0m(&why))?;
        let video = codecs::video_format(&self.rtc, video);
        let audio = codecs::audio_format(&self.rtc, audio);
        self.media.set_tracks(Tracks::new(video, audio, &sources)?);
        self.remote_ufrag = Some(remote.ufrag);
        self.candidates = self.candidates.saturating_add(remote.candidates);
        Ok(())
    }

    /// Takes an ICE candidate of the viewer's, with or without `a=`. As an ICE-lite peer we
    /// never send to it: it is only checked and counted. An empty line says there are no more.
    ///
    /// # Errors
    /// [`ViewerError::Candidate`] or [`ViewerError::CandidatesTooMany`]; the session goes on.
    pub fn add_candidate(&mut self, line: &str, _now: Instant) -> Result<(), ViewerError> {
        let line = line.trim();
        let line = line.strip_prefix("a=").unwrap_or(line);
        if line.is_empty() || line == "end-of-candidates" {
            return Ok(());
        }
        if line.len() > CANDIDATE_BYTES_MAX || !line.starts_with("candidate:") {
            return Err(ViewerError::Candidate);
        }
        if self.candidates >= SDP_CANDIDATES_MAX {
            return Err(ViewerError::CandidatesTooMany);
        }
        self.candidates = self.candidates.saturating_add(1);
        Ok(())
    }

    /// Whether a STUN datagram from a new address proves to be this viewer's, and the viewer has
    /// not had too many addresses. Changes nothing: hand it to [`Viewer::handle_datagram`] next.
    pub fn verify_stun(
        &mut self,
        from: SocketAddr,
        _to: SocketAddr,
        datagram: &[u8],
        now: Instant,
    ) -> bool {
        self.authentic(datagram).is_some() && self.paths.admits(from, now)
    }

    /// Takes a datagram from an address that belongs to this viewer.
    pub fn handle_datagram(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        datagram: &[u8],
        now: Instant,
    ) {
        // RFC 5764 §5.1.2, and RFC 5761 §4 for what of it is RTCP.
        let used = match datagram {
            [0..=3, ..] => self.handle_stun(from, to, datagram, now),
            [20..=63, ..] => self.paths.knows(from) && self.feed(from, to, datagram, now),
            [128..=191, 192..=223, ..] => self.handle_rtcp(from, datagram, now),
            _ => false,
        };
        if !used {
            self.datagrams_ignored = self.datagrams_ignored.saturating_add(1);
        }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.is_ended() {
            return;
        }
        if now >= self.next_str0m
            && let Err(why) = self.rtc.handle_input(Input::Timeout(now))
        {
            self.fail(&why);
        }
        let silent_for = self
            .paths
            .heard()
            .map(|heard| now.saturating_duration_since(heard));
        match &self.phase {
            Phase::Offered(offered) if now >= offered.deadline => {
                self.end(ViewerEnd::ConnectTimeout);
            }
            Phase::Connecting { deadline } if now >= *deadline => {
                self.end(ViewerEnd::ConnectTimeout);
            }
            Phase::Connected if silent_for >= Some(CONSENT_SILENT_AFTER) => {
                self.phase = Phase::Silent;
                self.push(ViewerEvent::Silent);
            }
            Phase::Silent if silent_for >= Some(CONSENT_LOST_AFTER) => {
                self.end(ViewerEnd::Consent);
            }
            Phase::Offered(_)
            | Phase::Connecting { .. }
            | Phase::Connected
            | Phase::Silent
            | Phase::Ended => {}
        }
    }

    /// Writes what is to be sent into `batch`, and returns what happened or when to come again.
    pub fn poll_output(&mut self, now: Instant, batch: &mut SendBatch) -> ViewerOutput {
        // str0m is asked when nothing waits any more: not for each of a NACK's hundred packets.
        if self.events.is_empty() {
            if !self.is_ended() {
                self.poll_str0m(batch);
            }
            self.connect_if_ready();
        }
        if let Some(event) = self.events.pop_front() {
            return ViewerOutput::Event(event);
        }
        if self.events.capacity() > 0 {
            // A NACK's worth of memory is not kept by every viewer.
            self.events = VecDeque::new();
        }
        if let (Phase::Connected, Some(target)) = (&self.phase, self.paths.target()) {
            self.media.poll_reports(now, target, batch);
        }
        ViewerOutput::Timeout(self.next_timeout(now))
    }

    /// Whether frames may be sent.
    #[must_use]
    pub fn ready(&self) -> bool {
        matches!(self.phase, Phase::Connected)
    }

    /// Whether it is sent a room's memory, and not yet at the live edge.
    #[must_use]
    pub fn catches_up(&self) -> bool {
        self.media.catches_up()
    }

    /// Tells that the frames up to `newest` are from the room's memory, and follow faster than
    /// they were made. The first frame after this call should be a keyframe.
    pub fn begin_burst(&mut self, first: &FrameSet, newest: &FrameSet) {
        self.media.begin_burst(first, newest);
    }

    /// Sends a frame, or what the pace allows of it. A frame that was sent in part goes on where
    /// it stopped; another frame in its place begins at once. If `sound_follows`, sound is the next that
    /// this viewer is sent: a picture then leaves room for it in its train of datagrams.
    pub fn send(
        &mut self,
        frame: &FrameSet,
        sound_follows: bool,
        now: Instant,
        batch: &mut SendBatch,
    ) -> Sent {
        let (Phase::Connected, Some(target)) = (&self.phase, self.paths.target()) else {
            return Sent::Done;
        };
        self.media.send(frame, sound_follows, now, target, batch)
    }

    /// Asks for what sending needs to be brought into the cache, where it is not part of this object.
    pub fn prefetch(&self) {
        self.paths.prefetch();
        self.media.prefetch_keys();
    }

    /// Sends a packet of a frame again, if it was sent before and the viewer's budget allows.
    pub fn resend(&mut self, frame: &FrameSet, packet: usize, now: Instant, batch: &mut SendBatch) {
        if let (Phase::Connected, Some(target)) = (&self.phase, self.paths.target()) {
            self.media.resend(frame, packet, now, target, batch);
        }
    }

    /// Ends the session politely: RTCP BYE and DTLS close_notify go into `batch`.
    pub fn close(&mut self, now: Instant, batch: &mut SendBatch) {
        if self.is_ended() {
            return;
        }
        if let Some(target) = self.paths.target() {
            self.media.say_goodbye(target, batch);
        }
        if self.rtc.handle_input(Input::Timeout(now)).is_ok() && self.rtc.close().is_ok() {
            self.poll_str0m(batch);
        }
        self.phase = Phase::Ended;
        self.events.clear();
    }

    /// What is known of the connection.
    #[must_use]
    pub fn stats(&self) -> ViewerStats {
        ViewerStats {
            datagrams_ignored: self.datagrams_ignored,
            media_suppressed: self.media_suppressed,
            ..self.media.stats()
        }
    }

    fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    fn end(&mut self, reason: ViewerEnd) {
        if !self.is_ended() {
            self.phase = Phase::Ended;
            self.events.clear();
            self.push(ViewerEvent::Ended(reason));
        }
    }

    /// Ends the session because of something that should not happen.
    fn fail(&mut self, why: &dyn fmt::Display) {
        log::debug!("a viewer's session fails: {why} viewer={}", self.viewer);
        self.end(ViewerEnd::Failed);
    }

    fn push(&mut self, event: ViewerEvent) {
        push_event(&mut self.events, event);
    }

    /// A binding request with this session's credentials; whether it nominates its address.
    ///
    /// str0m checks the same, but takes any datagram from its nominated address for granted.
    fn authentic(&self, datagram: &[u8]) -> Option<bool> {
        let message = StunMessage::parse(datagram).ok()?;
        if !message.is_binding_request() {
            return None;
        }
        let (ours, theirs) = message.split_username()?;
        let known = self.remote_ufrag.as_deref();
        if ours != self.ufrag || known.is_some_and(|known| known != theirs) {
            return None;
        }
        let hmac = |key: &[u8], parts: &[&[u8]]| self.hmac.sha1_hmac(key, parts);
        let password = self.password.expose().as_bytes();
        message
            .verify(password, hmac)
            .then(|| message.use_candidate())
    }

    fn handle_stun(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        datagram: &[u8],
        now: Instant,
    ) -> bool {
        let Some(nominates) = self.authentic(datagram) else {
            return false;
        };
        if !self.paths.authenticated(from, to, nominates, now) {
            return false;
        }
        self.come_back();
        self.feed(from, to, datagram, now)
    }

    /// Takes feedback. From where media goes it is a sign of the viewer, as a check is.
    fn handle_rtcp(&mut self, from: SocketAddr, datagram: &[u8], now: Instant) -> bool {
        let used =
            self.paths.knows(from) && self.media.handle_rtcp(datagram, now, &mut self.events);
        if used && self.paths.reported(from, now) {
            self.come_back();
        }
        used
    }

    /// The viewer gave a sign of itself.
    fn come_back(&mut self) {
        if matches!(self.phase, Phase::Silent) {
            self.phase = Phase::Connected;
            self.push(ViewerEvent::Back);
        }
    }

    /// Hands a datagram to str0m. Its errors are about this datagram, which anybody may have
    /// sent with a false address: they end nothing.
    fn feed(&mut self, from: SocketAddr, to: SocketAddr, datagram: &[u8], now: Instant) -> bool {
        if self.is_ended() {
            return false;
        }
        let Some(to) = self.candidate(to) else {
            return false;
        };
        let Ok(receive) = Receive::new(Protocol::Udp, from, to, datagram) else {
            return false;
        };
        self.rtc.handle_input(Input::Receive(now, receive)).is_ok()
    }

    /// The candidate that a local address belongs to: behind a one-to-one NAT they differ.
    fn candidate(&self, to: SocketAddr) -> Option<SocketAddr> {
        let mut local = self.local.iter().copied();
        let same = |candidate: &SocketAddr| *candidate == to;
        let kin = |candidate: &SocketAddr| candidate.is_ipv4() == to.is_ipv4();
        local
            .clone()
            .find(same)
            .or_else(|| local.clone().find(kin))
            .or_else(|| local.next())
    }

    fn poll_str0m(&mut self, batch: &mut SendBatch) {
        for _ in 0..OUTPUTS_PER_POLL_MAX {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(next)) => {
                    self.next_str0m = next;
                    break;
                }
                Ok(Output::Transmit(transmit)) => self.transmit(&transmit, batch),
                Ok(Output::Event(event)) => self.handle_event(&event),
                Err(why) => {
                    self.fail(&why);
                    break;
                }
            }
        }
    }

    fn handle_event(&mut self, event: &Event) {
        // Of the rest nothing concerns us: consent is ours to watch, and media is not str0m's.
        if matches!(event, Event::Closed) {
            self.end(ViewerEnd::Left);
        } else if matches!(event, Event::Connected) {
            // The handshake is over and the viewer's certificate is the announced one.
            match self.keys.try_recv() {
                Ok(keys) => self.take_keys(&keys),
                Err(_none) => self.fail(&"DTLS agreed on no SRTP profile that is known"),
            }
        }
    }

    fn take_keys(&mut self, tapped: &TappedKeys) {
        let TappedKeys { keys, client } = tapped;
        let sealing = if *client {
            SrtpSender::new_client(keys).and_then(|s| Ok((s, SrtcpReceiver::new_client(keys)?)))
        } else {
            SrtpSender::new(keys).and_then(|s| Ok((s, SrtcpReceiver::new(keys)?)))
        };
        match sealing {
            Ok((sender, receiver)) => self.media.set_keys(sender, receiver),
            Err(why) => self.fail(&why),
        }
    }

    fn connect_if_ready(&mut self) {
        let connecting = matches!(self.phase, Phase::Connecting { .. });
        if connecting && self.media.has_keys() && self.paths.target().is_some() {
            self.phase = Phase::Connected;
            self.push(ViewerEvent::Connected);
        }
    }

    fn transmit(&mut self, transmit: &Transmit, batch: &mut SendBatch) {
        let datagram: &[u8] = &transmit.contents;
        let to = match datagram {
            // An answer goes back to where the check came from.
            [0..=3, ..] => transmit.destination,
            [20..=63, ..] => {
                self.paths.dtls_sent(transmit.destination);
                let target = self.paths.target();
                target.map_or(transmit.destination, |(to, _)| to)
            }
            _ => {
                self.media_suppressed = self.media_suppressed.saturating_add(1);
                return;
            }
        };
        // Writing to memory cannot fail.
        let _: Result<(), std::convert::Infallible> =
            batch.push(to, self.paths.source(to), |out| {
                out.extend_from_slice(datagram);
                Ok(())
            });
    }

    fn next_timeout(&self, now: Instant) -> Instant {
        let heard = |after: Duration| self.paths.heard().map(|heard| heard + after);
        let ours = match &self.phase {
            Phase::Offered(offered) => Some(offered.deadline),
            Phase::Connecting { deadline } => Some(*deadline),
            Phase::Connected => heard(CONSENT_SILENT_AFTER)
                .into_iter()
                .chain(self.media.next_timeout())
                .min(),
            Phase::Silent => heard(CONSENT_LOST_AFTER),
            Phase::Ended => return now + NEVER,
        };
        ours.map_or(self.next_str0m, |ours| ours.min(self.next_str0m))
    }
}
