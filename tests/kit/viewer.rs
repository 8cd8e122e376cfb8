//! A player in this process: a stock str0m client that takes our media apart and keeps it.
//!
//! No socket and no clock: datagrams and `now` go in, datagrams come out of [`KitViewer::poll`].
//! Everything is negotiated, decrypted and put together by str0m, not by the code under test.
//!
//! ```text
//! let mut player = KitViewer::new(address, now);
//! let offer = player.offer();           // POST it; or: let answer = player.answer(&offer);
//! player.accept(&answer);
//! loop {
//!     let next = player.poll(|to, datagram| socket.send_to(datagram, to));
//!     // at `next` at the latest: player.handle_timeout(now)
//!     // for a datagram: player.handle(from, &datagram, now)
//! }
//! player.frames                         // what arrived
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::media::{Direction, KeyframeRequestKind, MediaKind, MediaTime, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{Extension, ExtensionMap};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};
use str0m_proto::crypto::CryptoProvider;

/// Packets kept to wait for a retransmission: a join's burst brings hundreds in one round trip.
const REORDERING_PACKETS: usize = 1_000;

/// One frame as the player got it.
#[derive(Debug, Clone)]
pub struct KitFrame {
    /// Picture or sound.
    pub kind: MediaKind,
    /// Its timestamp, unwrapped: ticks of 90,000 or 48,000 a second.
    pub ticks: u64,
    /// The picture in Annex B form, or the Opus packet.
    pub data: Vec<u8>,
    /// When its last packet arrived.
    pub received: Instant,
    /// Whether nothing is missing between it and the frame before.
    pub contiguous: bool,
    /// Playout delay of its last packet, least and most, if it said one.
    pub playout_delay: Option<(Duration, Duration)>,
}

/// One sender report as the player got it.
#[derive(Debug, Clone, Copy)]
pub struct KitReport {
    /// Of picture or of sound.
    pub kind: MediaKind,
    /// RTP clock, unwrapped near the newest frame's.
    pub rtp: MediaTime,
    /// Wall clock, since 1970.
    pub wall: Duration,
    /// When it arrived.
    pub received: Instant,
}

/// What a player asks for.
#[derive(Debug, Clone, Copy)]
pub struct KitWishes {
    /// Ask for a picture.
    pub video: bool,
    /// Ask for sound.
    pub audio: bool,
    /// Know the playout delay extension.
    pub playout_delay: bool,
}

impl Default for KitWishes {
    fn default() -> Self {
        Self {
            video: true,
            audio: true,
            playout_delay: true,
        }
    }
}

/// A player.
pub struct KitViewer {
    rtc: Rtc,
    /// Where the network sees it, and where it believes itself to be.
    address: SocketAddr,
    believed: SocketAddr,
    wishes: KitWishes,
    pending: Option<SdpPendingOffer>,
    kinds: Vec<(Mid, MediaKind)>,
    now: Instant,
    /// Every frame, in the order the player put them out.
    pub frames: Vec<KitFrame>,
    /// Every sender report.
    pub reports: Vec<KitReport>,
    /// Whether ICE and DTLS came up.
    pub connected: bool,
    /// Whether the server said goodbye (DTLS close_notify), or the session failed.
    pub closed: bool,
    /// Datagrams received that were SRTP or SRTCP.
    pub media_datagrams: usize,
}

impl KitViewer {
    /// A player at `address` that wants picture and sound.
    pub fn new(address: SocketAddr, now: Instant) -> Self {
        Self::with(address, KitWishes::default(), now)
    }

    /// A player with wishes of its own.
    pub fn with(address: SocketAddr, wishes: KitWishes, now: Instant) -> Self {
        Self::build(address, wishes, RtcConfig::new(), now)
    }

    /// A player with cryptography that is not str0m's default.
    pub fn with_crypto(address: SocketAddr, crypto: Arc<CryptoProvider>, now: Instant) -> Self {
        let config = RtcConfig::new().set_crypto_provider(crypto);
        Self::build(address, KitWishes::default(), config, now)
    }

    fn build(address: SocketAddr, wishes: KitWishes, config: RtcConfig, now: Instant) -> Self {
        let mut extensions = ExtensionMap::standard();
        if wishes.playout_delay {
            extensions.set(12, Extension::PlayoutDelay);
        }
        let mut config = config
            .clear_codecs()
            .set_reordering_size_video(REORDERING_PACKETS)
            .set_extension_map(extensions);
        if wishes.video {
            config = config.enable_h264(true);
        }
        if wishes.audio {
            config = config.enable_opus(true, false);
        }
        let mut rtc = config.build(now);
        let candidate = Candidate::host(address, "udp").expect("a host address");
        rtc.add_local_candidate(candidate);
        Self {
            rtc,
            address,
            believed: address,
            wishes,
            pending: None,
            kinds: Vec::new(),
            now,
            frames: Vec::new(),
            reports: Vec::new(),
            connected: false,
            closed: false,
            media_datagrams: 0,
        }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Moves it, as a NAT does that binds anew: it does not notice itself.
    pub fn rebind(&mut self, address: SocketAddr) {
        self.address = address;
    }

    /// Offers to receive.
    pub fn offer(&mut self) -> String {
        let mut api = self.rtc.sdp_api();
        let wanted = [
            (self.wishes.video, MediaKind::Video),
            (self.wishes.audio, MediaKind::Audio),
        ];
        for (_, kind) in wanted.into_iter().filter(|(wanted, _)| *wanted) {
            let mid = api.add_media(kind, Direction::RecvOnly, None, None, None);
            self.kinds.push((mid, kind));
        }
        let (offer, pending) = api.apply().expect("media were added");
        self.pending = Some(pending);
        offer.to_sdp_string()
    }

    /// Takes the server's answer to [`KitViewer::offer`].
    pub fn accept(&mut self, answer: &str) {
        let answer = SdpAnswer::from_sdp_string(answer).expect("str0m reads the answer");
        let pending = self.pending.take().expect("an offer waits for it");
        let accepted = self.rtc.sdp_api().accept_answer(pending, answer);
        accepted.expect("str0m takes the answer");
    }

    /// Answers the server's offer.
    pub fn answer(&mut self, offer: &str) -> String {
        let offer = SdpOffer::from_sdp_string(offer).expect("str0m reads the offer");
        let answer = self.rtc.sdp_api().accept_offer(offer);
        answer.expect("str0m takes the offer").to_sdp_string()
    }

    /// Takes a datagram from the server.
    pub fn handle(&mut self, from: SocketAddr, datagram: &[u8], now: Instant) {
        self.now = self.now.max(now);
        if datagram.first().is_some_and(|first| first >> 6 == 2) {
            self.media_datagrams += 1;
        }
        if let Ok(receive) = Receive::new(Protocol::Udp, from, self.believed, datagram) {
            // A datagram that makes no sense is the network's business.
            let _ = self.rtc.handle_input(Input::Receive(now, receive));
        }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
        if self.rtc.handle_input(Input::Timeout(now)).is_err() {
            self.closed = true;
        }
    }

    /// Hands out what is to be sent, takes note of what arrived, and says when to come again.
    pub fn poll(&mut self, mut send: impl FnMut(SocketAddr, &[u8])) -> Instant {
        loop {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(next)) => return next,
                Ok(Output::Transmit(transmit)) => send(transmit.destination, &transmit.contents),
                Ok(Output::Event(event)) => self.note(event),
                Err(_why) => {
                    self.closed = true;
                    return self.now + Duration::from_secs(3_600);
                }
            }
        }
    }

    /// Asks for a keyframe (PLI).
    pub fn request_keyframe(&mut self) {
        let video = self.mid_of(MediaKind::Video).expect("a picture");
        let mut writer = self.rtc.writer(video).expect("media is negotiated");
        let asked = writer.request_keyframe(None, KeyframeRequestKind::Pli);
        asked.expect("PLI is negotiated");
    }

    /// Says goodbye (DTLS close_notify); poll to have it sent.
    pub fn close(&mut self) {
        // Closing twice is no matter.
        let _ = self.rtc.close();
    }

    /// The pictures that arrived.
    pub fn pictures(&self) -> impl Iterator<Item = &KitFrame> {
        let frames = self.frames.iter();
        frames.filter(|frame| frame.kind == MediaKind::Video)
    }

    /// The Opus packets that arrived.
    pub fn sounds(&self) -> impl Iterator<Item = &KitFrame> {
        let frames = self.frames.iter();
        frames.filter(|frame| frame.kind == MediaKind::Audio)
    }

    fn mid_of(&self, wanted: MediaKind) -> Option<Mid> {
        let mut kinds = self.kinds.iter();
        kinds.find(|(_, kind)| *kind == wanted).map(|(mid, _)| *mid)
    }

    fn kind_of(&self, wanted: Mid) -> MediaKind {
        let mut kinds = self.kinds.iter();
        let found = kinds.find(|(mid, _)| *mid == wanted);
        found.map_or(MediaKind::Video, |(_, kind)| *kind)
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the player keeps what tests ask for"
    )]
    fn note(&mut self, event: Event) {
        match event {
            Event::Connected => self.connected = true,
            Event::Closed => self.closed = true,
            Event::MediaAdded(added) => self.kinds.push((added.mid, added.kind)),
            Event::SenderFeedback(feedback) => {
                let kind = self.kind_of(feedback.mid);
                let wall = feedback.sender_info.ntp_time;
                let wall = wall.duration_since(SystemTime::UNIX_EPOCH);
                self.reports.push(KitReport {
                    kind,
                    rtp: feedback.sender_info.rtp_time,
                    wall: wall.unwrap_or_default(),
                    received: feedback.received_at,
                });
            }
            Event::MediaData(media) => {
                let least = media.ext_vals.play_delay_min.map(Duration::from);
                let most = media.ext_vals.play_delay_max.map(Duration::from);
                let kind = self.kind_of(media.mid);
                self.frames.push(KitFrame {
                    kind,
                    ticks: media.time.numer(),
                    data: media.data.to_vec(),
                    received: self.now,
                    contiguous: media.contiguous,
                    playout_delay: least.zip(most),
                });
            }
            _ => {}
        }
    }
}
