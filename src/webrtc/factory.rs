//! Makes viewers of SDP: an offer answered, or an offer of ours.
//!
//! RFC 8829 (offer and answer), RFC 9725 (WHEP's kin: one answer, no renegotiation), RFC 8445
//! §2.5 (ICE-lite).

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use str0m::change::SdpOffer;
use str0m::config::DtlsVersion;
use str0m::format::CodecConfig;
use str0m::media::{Direction, MediaKind, Mid};
use str0m::{Candidate, IceCreds, Rtc, RtcConfig};

use super::codecs::{self, AudioFormat, Profile, VideoFormat};
use super::demux;
use super::dtls::{Certificate, KeyReceiver, TappedCrypto};
use super::parts::{Begin, Offered, Parts};
use super::sdp::{self, RemoteSdp, SdpRole, TrackLines};
use super::track::{Sources, Track};
use super::viewer::Viewer;
use crate::ids::{CoreId, IdSource, Secret, ViewerId};
use crate::limits::{ANSWER_DEADLINE, CONNECT_DEADLINE, LOCAL_CANDIDATES_MAX};
use crate::media::frame::TrackKind;
use crate::media::time::Timebase;

/// Characters of an ICE password: 192 random bits (RFC 8445 §5.3 wants 128).
const ICE_PASSWORD_CHARS: usize = 32;
/// Characters of a canonical name: 96 random bits (RFC 7022 §4.2).
const CNAME_CHARS: usize = 16;
/// The media stream of both tracks: a player plays one stream in step.
const STREAM: &str = "rtmpeer";
const VIDEO_TRACK: &str = "video";
const AUDIO_TRACK: &str = "audio";
/// str0m's own reports never leave, so it need not wake up for them.
const STR0M_REPORT_INTERVAL: Duration = Duration::from_secs(24 * 3_600);

/// Why a viewer's message could not be used. The text is for the viewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ViewerError {
    /// The viewer's fault: its SDP is larger than any browser's.
    SdpTooLarge(&'static str),
    /// The viewer's fault: its SDP is malformed, or lacks what a session needs.
    Sdp(String),
    /// The viewer's fault: it can receive neither of our codecs.
    NoCodec,
    /// The viewer's fault: an answer came that nobody waits for.
    AnswerUnexpected,
    /// The viewer's fault: this is no ICE candidate.
    Candidate,
    /// The viewer's fault: too many ICE candidates.
    CandidatesTooMany,
    /// The environment's or our fault: a session could not be made.
    Setup(&'static str),
}

impl fmt::Display for ViewerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SdpTooLarge(what) => write!(f, "the SDP is too large: {what}"),
            Self::Sdp(what) => write!(f, "the SDP cannot be used: {what}"),
            Self::NoCodec => f.write_str(
                "the SDP has no media that can be sent: offer to receive (recvonly) H.264 video \
                 with packetization-mode=1, or Opus audio",
            ),
            Self::AnswerUnexpected => f.write_str("an answer came, but no offer waits for one"),
            Self::Candidate => f.write_str("this is no ICE candidate line"),
            Self::CandidatesTooMany => f.write_str("more than 50 ICE candidates"),
            Self::Setup(what) => write!(f, "the server could not make a session: {what}"),
        }
    }
}

impl std::error::Error for ViewerError {}

/// Longest text of str0m's that is handed on, in characters.
const STR0M_TEXT_CHARS_MAX: usize = 200;

impl ViewerError {
    /// What str0m says of an SDP, without the addresses of memory that its parser names.
    pub(super) fn from_str0m(why: &dyn fmt::Display) -> Self {
        let text = why.to_string();
        let lines = text.lines().filter(|line| !line.contains("PointerOffset"));
        let text = lines.collect::<Vec<_>>().join("; ");
        let legal = text.chars().filter(|character| !character.is_control());
        Self::Sdp(legal.take(STR0M_TEXT_CHARS_MAX).collect())
    }
}

/// Makes the viewers of one core.
#[derive(Debug)]
pub struct ViewerFactory {
    core: CoreId,
    certificate: Certificate,
    crypto: TappedCrypto,
    timebase: Timebase,
    ids: IdSource,
}

/// What every session begins as.
struct Session {
    rtc: Rtc,
    keys: KeyReceiver,
    ufrag: String,
    password: Secret,
    candidates: Vec<SocketAddr>,
    sources: Sources,
    cname: String,
}

impl ViewerFactory {
    /// Makes the factory of a core; once, as a little memory is never given back.
    ///
    /// # Errors
    /// [`ViewerError::Setup`]: the DTLS library failed its self-tests.
    pub fn new(
        core: CoreId,
        certificate: Certificate,
        timebase: Timebase,
        ids: IdSource,
    ) -> Result<Self, ViewerError> {
        Ok(Self {
            core,
            crypto: TappedCrypto::new(&certificate)?,
            certificate,
            timebase,
            ids,
        })
    }

    /// Answers a viewer's offer. `candidates` are the local addresses to advertise;
    /// `profile_level_id` is that of the room's video, if it is known.
    ///
    /// A viewer that cannot receive one of the tracks gets the other.
    ///
    /// # Errors
    /// What is wrong with the offer, or [`ViewerError::Setup`].
    pub fn answer(
        &mut self,
        viewer: ViewerId,
        offer: &str,
        candidates: &[SocketAddr],
        profile_level_id: Option<[u8; 3]>,
        now: Instant,
    ) -> Result<(Viewer, String), ViewerError> {
        let remote = sdp::read_remote(offer, SdpRole::Offer { profile_level_id })?;
        let parsed =
            SdpOffer::from_sdp_string(&remote.text).map_err(|why| ViewerError::from_str0m(&why))?;
        let mut session = self.session(candidates, remote.profile.as_slice(), now)?;
        let answer = session
            .rtc
            .sdp_api()
            .accept_offer(parsed)
            .map_err(|why| ViewerError::from_str0m(&why))?;
        let (video, audio) = negotiated(&session.rtc, &remote);
        let tracks = Tracks::new(video, audio, &session.sources)?;
        let lines = |kind| tracks.lines(kind, &session.cname);
        let text = sdp::write_answer(&answer.to_sdp_string(), &remote.sections, lines);
        let begin = Begin::Negotiated {
            remote_ufrag: remote.ufrag,
            candidates: remote.candidates,
            deadline: now + CONNECT_DEADLINE,
        };
        Ok((self.viewer(viewer, session, tracks, begin, now), text))
    }

    /// Offers a viewer both tracks; [`Viewer::accept_answer`] goes on.
    ///
    /// # Errors
    /// [`ViewerError::Setup`].
    pub fn offer(
        &mut self,
        viewer: ViewerId,
        candidates: &[SocketAddr],
        profile_level_id: Option<[u8; 3]>,
        now: Instant,
    ) -> Result<(Viewer, String), ViewerError> {
        let profiles = Profile::preference(profile_level_id);
        let mut session = self.session(candidates, &profiles, now)?;
        let mut api = session.rtc.sdp_api();
        let stream = || Some(STREAM.to_owned());
        let mut add = |kind| api.add_media(kind, Direction::SendOnly, stream(), None, None);
        let mids = [add(MediaKind::Video), add(MediaKind::Audio)];
        let Some((offer, pending)) = api.apply() else {
            return Err(ViewerError::Setup("no offer was made"));
        };
        let sources = session.sources;
        let lines = |kind| {
            let rtx_ssrc = match kind {
                TrackKind::Video => Some(sources.video_rtx_ssrc()),
                TrackKind::Audio => None,
            };
            track_lines(kind, sources.ssrc(kind), rtx_ssrc, &session.cname)
        };
        let kinds = [TrackKind::Video, TrackKind::Audio];
        let text = sdp::write_offer(&offer.to_sdp_string(), &kinds, lines);
        let begin = Begin::Offered(Box::new(Offered {
            pending,
            mids,
            sources,
            deadline: now + ANSWER_DEADLINE,
        }));
        let tracks = Tracks {
            video: None,
            audio: None,
        };
        Ok((self.viewer(viewer, session, tracks, begin, now), text))
    }

    fn session(
        &mut self,
        candidates: &[SocketAddr],
        profiles: &[Profile],
        now: Instant,
    ) -> Result<Session, ViewerError> {
        let ufrag = demux::ufrag_for(self.core, &mut self.ids);
        let password = self.ids.ice_text(ICE_PASSWORD_CHARS);
        let credentials = IceCreds {
            ufrag: ufrag.clone(),
            pass: password.clone(),
        };
        let mut config = RtcConfig::new()
            .set_local_ice_credentials(credentials)
            .set_crypto_provider(self.crypto.provider().clone())
            .set_dtls_cert(self.certificate.to_str0m())
            .set_dtls_version(DtlsVersion::Dtls12)
            .set_ice_lite(true)
            .set_rtp_mode(true)
            .set_extension_map(codecs::extensions())
            .set_rtcp_report_interval_audio(STR0M_REPORT_INTERVAL)
            .set_rtcp_report_interval_video(STR0M_REPORT_INTERVAL);
        let codecs: &mut CodecConfig = config.codec_config();
        *codecs = codecs::codec_config(profiles);
        // A receiver that an earlier session left behind would be taken for this one's.
        while self.crypto.take_receiver().is_some() {}
        let mut rtc = config.build(now);
        let keys = self
            .crypto
            .take_receiver()
            .ok_or(ViewerError::Setup("no DTLS session was made"))?;
        let mut local = Vec::new();
        for &address in candidates.iter().take(LOCAL_CANDIDATES_MAX) {
            let Ok(candidate) = Candidate::host(address, "udp") else {
                continue;
            };
            if rtc.add_local_candidate(candidate).is_some() {
                local.push(address);
            }
        }
        if local.is_empty() {
            return Err(ViewerError::Setup("it has no address to offer"));
        }
        Ok(Session {
            rtc,
            keys,
            ufrag,
            password: Secret::new(password),
            candidates: local,
            sources: Sources::new(&mut self.ids),
            cname: self.ids.url_text(CNAME_CHARS),
        })
    }

    fn viewer(
        &mut self,
        viewer: ViewerId,
        session: Session,
        tracks: Tracks,
        begin: Begin,
        now: Instant,
    ) -> Viewer {
        let Session {
            rtc,
            keys,
            ufrag,
            password,
            candidates,
            sources: _,
            cname,
        } = session;
        Viewer::new(
            Parts {
                viewer,
                rtc,
                keys,
                ufrag,
                password,
                candidates,
                cname,
                timebase: self.timebase,
                jitter: self.ids.next_u32(),
                tracks,
            },
            begin,
            now,
        )
    }
}

/// What a section pair was negotiated to.
fn negotiated(rtc: &Rtc, remote: &RemoteSdp) -> (Option<VideoFormat>, Option<AudioFormat>) {
    let mid = |kind| {
        let mut sections = remote.sections.iter();
        let section = sections.find(|section| section.track == Some(kind))?;
        Some(Mid::from(section.mid.as_str()))
    };
    let video = mid(TrackKind::Video).and_then(|mid| codecs::video_format(rtc, mid));
    let audio = mid(TrackKind::Audio).and_then(|mid| codecs::audio_format(rtc, mid));
    (video, audio)
}

/// The tracks a viewer gets.
#[derive(Debug)]
pub(super) struct Tracks {
    pub(super) video: Option<Track>,
    pub(super) audio: Option<Track>,
}

impl Tracks {
    /// # Errors
    /// [`ViewerError::NoCodec`] if there would be none.
    pub(super) fn new(
        video: Option<VideoFormat>,
        audio: Option<AudioFormat>,
        sources: &Sources,
    ) -> Result<Self, ViewerError> {
        if video.is_none() && audio.is_none() {
            return Err(ViewerError::NoCodec);
        }
        Ok(Self {
            video: video.map(|format| Track::video(format, sources)),
            audio: audio.map(|format| Track::audio(format, sources)),
        })
    }

    fn lines<'a>(&self, kind: TrackKind, cname: &'a str) -> Option<TrackLines<'a>> {
        let track = match kind {
            TrackKind::Video => self.video.as_ref()?,
            TrackKind::Audio => self.audio.as_ref()?,
        };
        Some(track_lines(kind, track.ssrc(), track.rtx_ssrc(), cname))
    }
}

fn track_lines(kind: TrackKind, ssrc: u32, rtx_ssrc: Option<u32>, cname: &str) -> TrackLines<'_> {
    TrackLines {
        cname,
        stream: STREAM,
        track: match kind {
            TrackKind::Video => VIDEO_TRACK,
            TrackKind::Audio => AUDIO_TRACK,
        },
        ssrc,
        rtx_ssrc,
    }
}
