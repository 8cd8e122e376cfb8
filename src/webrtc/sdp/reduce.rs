//! What str0m is given of a viewer's SDP: the lines that it needs for what we send, in few words.
//!
//! Its parser tries every kind of attribute on every line, which made an offer of Chrome's 149
//! lines more than half of the cost of a join; of those, about 30 matter. The answer stays legal:
//! sections, mids and payload types are the viewer's own, only fewer of its payload types are
//! taken (RFC 3264 §6.1).

use std::fmt::Write as _;

use super::{Parts, Section, is_candidate, is_direction, is_sha256, numbered, value_of};
use crate::media::frame::TrackKind;
use crate::webrtc::codecs::Profile;

/// Feedback that we act on (RFC 4585 §4.2, RFC 5104 §7.1).
const FEEDBACK: [&str; 3] = ["nack", "nack pli", "ccm fir"];
const PLAYOUT_DELAY_URI: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";
/// The session's name as RFC 8866 §5.3 has it for those without one, and no end.
const NO_NAME_NO_END: [&str; 2] = ["s=-", "t=0 0"];
/// Attributes of an answer's section that str0m has a use for, beside those with a payload type.
const OF_USE: [&str; 6] = [
    "a=mid:",
    "a=ice-ufrag:",
    "a=ice-pwd:",
    "a=setup:",
    "a=rtcp-mux",
    "a=rid:",
];

/// The payload types that a track is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Formats {
    pub(super) media: u32,
    /// Of retransmissions.
    pub(super) rtx: Option<u32>,
}

impl Formats {
    fn has(self, payload_type: u32) -> bool {
        self.media == payload_type || self.rtx == Some(payload_type)
    }
}

/// Opus, by the first payload type that is it.
pub(super) fn opus(section: &Section<'_>) -> Option<Formats> {
    let media = of_codec(section, "opus/48000/2").next()?;
    Some(Formats { media, rtx: None })
}

/// H.264 in fragments (packetization-mode 1), of the profile that comes first in `preference`.
pub(super) fn h264(section: &Section<'_>, preference: &[Profile]) -> Option<(Formats, Profile)> {
    let rank = |profile: &Profile| preference.iter().position(|wanted| wanted == profile);
    let known = of_codec(section, "h264/90000").filter_map(|media| {
        let (profile, fragments) = h264_parameters(parameters(section, media));
        let rank = profile.as_ref().and_then(rank)?;
        fragments.then_some((rank, media, profile?))
    });
    let (_, media, profile) = known.min_by_key(|(rank, _, _)| *rank)?;
    let repairs = |rtx: &u32| {
        let apt = parameter(parameters(section, *rtx), "apt");
        apt.and_then(|apt| apt.parse().ok()) == Some(media)
    };
    let rtx = of_codec(section, "rtx/90000").find(repairs);
    Some((Formats { media, rtx }, profile))
}

/// Payload types of the `m=` line that stand for a codec, in the viewer's order.
fn of_codec<'a>(section: &'a Section<'_>, name: &'a str) -> impl Iterator<Item = u32> + 'a {
    let formats = section.head.formats.split(' ').skip(1);
    let types = formats.filter_map(|format| format.parse().ok());
    types.filter(move |wanted| {
        let mut codecs = section.codecs.iter();
        codecs.any(|(pt, codec)| pt == wanted && codec.eq_ignore_ascii_case(name))
    })
}

fn parameters<'a>(section: &Section<'a>, payload_type: u32) -> &'a str {
    let mut lines = section.parameters.iter();
    let found = lines.find(|(pt, _)| *pt == payload_type);
    found.map_or("", |(_, parameters)| parameters)
}

fn parameter<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    parameters.split(';').find_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Profile, and whether pictures may be sent in fragments (RFC 6184 §8.1).
fn h264_parameters(parameters: &str) -> (Option<Profile>, bool) {
    let fragments = parameter(parameters, "packetization-mode") == Some("1");
    let profile = match parameter(parameters, "profile-level-id") {
        Some(hex) => u32::from_str_radix(hex, 16)
            .ok()
            .and_then(Profile::from_profile_level_id),
        // What the RFC takes for said then.
        None => Some(Profile::Baseline),
    };
    (profile, fragments)
}

/// Credentials, fingerprint and DTLS role: the same for all sections, which share one transport.
#[derive(Debug)]
pub(super) struct Transport<'a> {
    pub(super) ufrag: &'a str,
    password: &'a str,
    fingerprint: &'a str,
    setup: Option<&'a str>,
}

impl<'a> Transport<'a> {
    /// Reads it: a section's own words stand before the session's (RFC 8839 §5.4, RFC 8122 §5).
    /// `None`: no ufrag, password or fingerprint.
    pub(super) fn read(parts: &Parts<'a>) -> Option<Self> {
        let carried = parts.sections.iter().filter(|s| s.head.track.is_some());
        let carried = carried.map(|section| &section.lines);
        let others = parts.sections.iter().filter(|s| s.head.track.is_none());
        let others = others.map(|section| &section.lines);
        let mut places = carried.chain(std::iter::once(&parts.session)).chain(others);
        let find = |prefix: &str| places.clone().find_map(|lines| value_of(lines, prefix));
        let filled = |value: &&str| !value.is_empty();
        let ufrag = find("a=ice-ufrag:").filter(filled)?;
        let password = find("a=ice-pwd:")?;
        let setup = find("a=setup:");
        let fingerprint = places.find_map(|lines| lines.iter().find(|line| is_sha256(line)))?;
        Some(Self {
            ufrag,
            password,
            fingerprint,
            setup,
        })
    }

    fn write(&self, text: &mut String) {
        push(text, format_args!("a=ice-ufrag:{}", self.ufrag));
        push(text, format_args!("a=ice-pwd:{}", self.password));
        push(text, format_args!("{}", self.fingerprint));
        if let Some(setup) = self.setup {
            push(text, format_args!("a=setup:{setup}"));
        }
    }
}

/// An offer for str0m: what is not carried is shown as rejected.
pub(super) fn offer(parts: &Parts<'_>, transport: &Transport<'_>) -> String {
    let mut text = String::new();
    let begin = |line: &&&str| line.starts_with("v=") || line.starts_with("o=");
    for line in parts.session.iter().filter(begin) {
        push(&mut text, format_args!("{line}"));
    }
    for line in NO_NAME_NO_END {
        push(&mut text, format_args!("{line}"));
    }
    if parts.session.contains(&"a=ice-lite") {
        push(&mut text, format_args!("a=ice-lite"));
    }
    let carried = parts.sections.iter().filter(|s| s.head.track.is_some());
    let mids: Vec<_> = carried.map(|section| section.head.mid.as_str()).collect();
    push(&mut text, format_args!("a=group:BUNDLE {}", mids.join(" ")));
    transport.write(&mut text);
    for (index, section) in parts.sections.iter().enumerate() {
        match (section.head.track, section.formats) {
            (Some(track), Some(formats)) => offered(&mut text, section, track, formats),
            // A stand-in that str0m rejects; the answer shows the section's own words. Its mid
            // may be missing or used twice, so it gets one that no browser writes.
            (Some(_), None) | (None, Some(_) | None) => {
                push(&mut text, format_args!("m=audio 0 UDP/TLS/RTP/SAVPF 0"));
                push(&mut text, format_args!("a=mid:~{index}"));
                push(&mut text, format_args!("a=inactive"));
            }
        }
    }
    text
}

fn offered(text: &mut String, section: &Section<'_>, track: TrackKind, formats: Formats) {
    let Formats { media, rtx } = formats;
    let mut head = section.first_line.splitn(4, ' ');
    for _ in 0..3 {
        let _ = write!(text, "{} ", head.next().unwrap_or_default());
    }
    let _ = write!(text, "{media}");
    if let Some(rtx) = rtx {
        let _ = write!(text, " {rtx}");
    }
    push(text, format_args!(""));
    push(text, format_args!("a=mid:{}", section.head.mid));
    push(text, format_args!("a=recvonly"));
    for line in &section.lines {
        let kept = match keyed(line) {
            Keyed::Format(pt) => formats.has(pt),
            Keyed::Feedback(pt) => pt == media,
            Keyed::PlayoutDelay => track == TrackKind::Video,
            Keyed::Other => false,
        };
        if kept {
            push(text, format_args!("{line}"));
        }
    }
}

/// An answer for str0m, which compares it with our offer: every section, every payload type.
pub(super) fn answer(parts: &Parts<'_>) -> String {
    let mut text = String::new();
    let useless = |line: &str| {
        (line.starts_with("a=fingerprint:") && !is_sha256(line))
            || is_candidate(line)
            || line == "a=end-of-candidates"
    };
    for line in parts.session.iter().filter(|line| !useless(line)) {
        push(&mut text, format_args!("{line}"));
    }
    for section in &parts.sections {
        push(&mut text, format_args!("{}", section.first_line));
        let media = matches!(section.head.media.as_str(), "audio" | "video");
        for line in section.lines.iter().filter(|line| !useless(line)) {
            let kept = match keyed(line) {
                Keyed::Format(_) | Keyed::Feedback(_) | Keyed::PlayoutDelay => true,
                Keyed::Other => {
                    !media
                        || is_direction(line)
                        || is_sha256(line)
                        || OF_USE.iter().any(|prefix| line.starts_with(prefix))
                }
            };
            if kept {
                push(&mut text, format_args!("{line}"));
            }
        }
    }
    text
}

/// What a line of a section is about.
enum Keyed {
    /// `rtpmap` or `fmtp` of a payload type.
    Format(u32),
    /// Feedback of a kind that we act on.
    Feedback(u32),
    /// The extension that we write.
    PlayoutDelay,
    Other,
}

fn keyed(line: &str) -> Keyed {
    if let Ok(Some((pt, _))) = numbered(line, "a=rtpmap:") {
        return Keyed::Format(pt);
    }
    if let Ok(Some((pt, _))) = numbered(line, "a=fmtp:") {
        return Keyed::Format(pt);
    }
    if let Ok(Some((pt, what))) = numbered(line, "a=rtcp-fb:") {
        if FEEDBACK.contains(&what) {
            return Keyed::Feedback(pt);
        }
        return Keyed::Other;
    }
    let extension = line.strip_prefix("a=extmap:");
    let uri = extension.and_then(|value| value.split(' ').nth(1));
    if uri == Some(PLAYOUT_DELAY_URI) {
        return Keyed::PlayoutDelay;
    }
    Keyed::Other
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = write!(text, "{line}\r\n");
}
