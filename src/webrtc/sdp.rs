//! The text of SDP before str0m reads it and after it wrote it: bounds, and the few lines that
//! str0m cannot express.
//!
//! RFC 8866 (SDP), RFC 9143 (BUNDLE), RFC 8829 §5.3 (answers), RFC 8830 (msid), RFC 8122 §5
//! (fingerprints).
//!
//! A viewer's text is first measured, then reduced to what a send-only, ICE-lite peer needs: the
//! first audio and the first video section that may receive, with one codec each. Every other
//! section is shown to str0m as a rejected one and rejected in the answer. Candidates are left
//! out: an ICE-lite peer never sends a check, it learns the viewer's addresses from the viewer's
//! own (RFC 8445 §2.5).

mod reduce;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::ViewerError;
use super::codecs::Profile;
use crate::limits::{SDP_BYTES_MAX, SDP_CANDIDATES_MAX, SDP_LINES_MAX, SDP_SECTIONS_MAX};
use crate::media::frame::TrackKind;
use reduce::{Formats, Transport};

/// Highest RTP payload type (RFC 3550 §5.1: 7 bits).
const PAYLOAD_TYPE_MAX: u32 = 127;
/// Longest `mid` we repeat, in characters: browsers write one digit, str0m cuts at 16.
const MID_CHARS_MAX: usize = 16;

/// A viewer's SDP, measured and reduced.
#[derive(Debug)]
pub(super) struct RemoteSdp {
    /// What str0m is to read.
    pub(super) text: String,
    /// The viewer's `a=ice-ufrag`.
    pub(super) ufrag: String,
    /// Its media sections, in order.
    pub(super) sections: Vec<RemoteSection>,
    /// `a=candidate` lines it held.
    pub(super) candidates: usize,
    /// The H.264 profile that an offer's video is to be announced as, if it is to be sent.
    pub(super) profile: Option<Profile>,
}

/// One `m=` section of a viewer's SDP.
#[derive(Debug, Clone)]
pub(super) struct RemoteSection {
    /// What stands between `m=` and the port: `audio`, `video`, `application`.
    pub(super) media: String,
    /// The rest of the line after the port.
    pub(super) formats: String,
    /// Its `a=mid`.
    pub(super) mid: String,
    /// Which of our tracks it shall carry, if any.
    pub(super) track: Option<TrackKind>,
}

/// What we say of a track that is sent, in the place of str0m's own lines.
#[derive(Debug, Clone)]
pub(super) struct TrackLines<'a> {
    /// Canonical name, the same for both tracks (RFC 3550 §6.5.1).
    pub(super) cname: &'a str,
    /// Media stream id, the same for both tracks, so that players keep them in step.
    pub(super) stream: &'a str,
    /// Track id.
    pub(super) track: &'a str,
    /// Source of the media.
    pub(super) ssrc: u32,
    /// Source of its retransmissions, if negotiated.
    pub(super) rtx_ssrc: Option<u32>,
}

/// Whether a text is an offer to us or the answer to our offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SdpRole {
    /// Sections that are of no use are hidden from str0m, and so are codecs.
    Offer {
        /// Of the room's video, if it is known.
        profile_level_id: Option<[u8; 3]>,
    },
    /// Sections must stay as they are: str0m compares them with our offer.
    Answer,
}

/// Measures and reduces a viewer's SDP.
///
/// # Errors
/// The viewer's fault each: a limit is exceeded, a line that must be there is missing, or payload
/// types contradict each other.
pub(super) fn read_remote(text: &str, role: SdpRole) -> Result<RemoteSdp, ViewerError> {
    let lines = measured_lines(text)?;
    let mut parts = split_sections(&lines);
    if parts.sections.is_empty() {
        return Err(ViewerError::Sdp("it has no media section (m= line)".into()));
    }
    check_fingerprints(&lines)?;
    read_payload_types(&mut parts.sections)?;
    let profile = match role {
        SdpRole::Offer { profile_level_id } => choose_tracks(&mut parts, profile_level_id)?,
        SdpRole::Answer => None,
    };
    let transport = Transport::read(&parts)
        .ok_or_else(|| ViewerError::Sdp("a=ice-ufrag or a=ice-pwd is missing".into()))?;
    let candidates = lines.iter().filter(|line| is_candidate(line)).count();
    let text = match role {
        SdpRole::Offer { .. } => reduce::offer(&parts, &transport),
        SdpRole::Answer => reduce::answer(&parts),
    };
    let ufrag = transport.ufrag.to_owned();
    Ok(RemoteSdp {
        text,
        ufrag,
        sections: parts.sections.into_iter().map(|s| s.head).collect(),
        candidates,
        profile,
    })
}

/// Checks the size of a text and returns its lines without their ends.
fn measured_lines(text: &str) -> Result<Vec<&str>, ViewerError> {
    if text.len() > SDP_BYTES_MAX {
        return Err(ViewerError::SdpTooLarge("more than 64 KiB"));
    }
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.is_empty())
        .take(SDP_LINES_MAX.saturating_add(1))
        .collect();
    if lines.len() > SDP_LINES_MAX {
        return Err(ViewerError::SdpTooLarge("more than 1,024 lines"));
    }
    if lines.first() != Some(&"v=0") {
        return Err(ViewerError::Sdp("it does not begin with v=0".into()));
    }
    if has_control(text) {
        return Err(ViewerError::Sdp("it holds a control character".into()));
    }
    if lines.iter().filter(|line| line.starts_with("m=")).count() > SDP_SECTIONS_MAX {
        return Err(ViewerError::SdpTooLarge("more than 32 media sections"));
    }
    if lines.iter().filter(|line| is_candidate(line)).count() > SDP_CANDIDATES_MAX {
        return Err(ViewerError::SdpTooLarge("more than 50 candidates"));
    }
    Ok(lines)
}

/// Whether there is a control character other than tabs and line ends.
fn has_control(text: &str) -> bool {
    let mut bytes = text.bytes();
    let legal = |byte: u8| (0x20..0x7f).contains(&byte) || matches!(byte, b'\t' | b'\n' | b'\r');
    if bytes.all(legal) {
        // A line end is CR LF or LF.
        let mut after_cr = text.split('\r').skip(1);
        return after_cr.any(|after| !after.starts_with('\n'));
    }
    let control = |character: char| character.is_control() && character != '\t';
    text.lines().any(|line| line.contains(control))
}

fn is_candidate(line: &str) -> bool {
    line.starts_with("a=candidate:")
}

/// A text in parts, borrowed.
struct Parts<'a> {
    session: Vec<&'a str>,
    sections: Vec<Section<'a>>,
}

struct Section<'a> {
    head: RemoteSection,
    rejected: bool,
    first_line: &'a str,
    lines: Vec<&'a str>,
    /// `rtpmap`: payload type and codec.
    codecs: Vec<(u32, &'a str)>,
    /// `fmtp`: payload type and parameters.
    parameters: Vec<(u32, &'a str)>,
    /// Payload types of the track that it shall carry.
    formats: Option<Formats>,
}

fn split_sections<'a>(lines: &[&'a str]) -> Parts<'a> {
    let mut parts = Parts {
        session: Vec::new(),
        sections: Vec::new(),
    };
    for &line in lines {
        if let Some(media) = line.strip_prefix("m=") {
            parts.sections.push(section_head(line, media));
            continue;
        }
        match parts.sections.last_mut() {
            Some(section) => section.lines.push(line),
            None => parts.session.push(line),
        }
    }
    for section in &mut parts.sections {
        let mid = value_of(&section.lines, "a=mid:").unwrap_or_default();
        section.head.mid = mid.to_owned();
    }
    parts
}

fn section_head<'a>(first_line: &'a str, value: &str) -> Section<'a> {
    let mut words = value.splitn(3, ' ');
    let media = words.next().unwrap_or_default().to_owned();
    let port = words.next().unwrap_or_default();
    let formats = words.next().unwrap_or_default().to_owned();
    Section {
        head: RemoteSection {
            media,
            formats,
            mid: String::new(),
            track: None,
        },
        rejected: port == "0",
        first_line,
        lines: Vec::new(),
        codecs: Vec::new(),
        parameters: Vec::new(),
        formats: None,
    }
}

fn value_of<'a>(lines: &[&'a str], prefix: &str) -> Option<&'a str> {
    lines
        .iter()
        .find_map(|line| line.strip_prefix(prefix))
        .map(str::trim)
}

/// A fingerprint of SHA-256 must be there: others are unsupported, or too weak to rest on
/// (RFC 8122 §5 for SHA-1).
fn check_fingerprints(lines: &[&str]) -> Result<(), ViewerError> {
    if lines.iter().any(|line| is_sha256(line)) {
        return Ok(());
    }
    Err(ViewerError::Sdp(
        "a=fingerprint with sha-256 is missing".into(),
    ))
}

fn is_sha256(line: &str) -> bool {
    line.strip_prefix("a=fingerprint:")
        .and_then(|value| value.split_once(' '))
        .is_some_and(|(hash, digest)| {
            hash.eq_ignore_ascii_case("sha-256") && !digest.trim().is_empty()
        })
}

/// Reads the payload types, and refuses those that str0m takes for granted cannot be: out of
/// range, given two meanings, or retransmitting in a circle.
fn read_payload_types(sections: &mut [Section<'_>]) -> Result<(), ViewerError> {
    let contradiction = |pt: u32| ViewerError::Sdp(format!("payload type {pt} has two meanings"));
    let mut meanings: BTreeMap<u32, &str> = BTreeMap::new();
    let mut repairs = BTreeMap::new();
    for section in sections {
        for line in &section.lines {
            if let Some((pt, codec)) = numbered(line, "a=rtpmap:")? {
                let codec = codec.trim();
                let twice = section.codecs.iter().any(|(known, _)| *known == pt);
                let known = meanings.entry(pt).or_insert(codec);
                if twice || !known.eq_ignore_ascii_case(codec) {
                    return Err(contradiction(pt));
                }
                section.codecs.push((pt, codec));
            } else if let Some((pt, parameters)) = numbered(line, "a=fmtp:")? {
                section.parameters.push((pt, parameters));
                let Some(apt) = parameters.trim().strip_prefix("apt=") else {
                    continue;
                };
                let apt = apt.split(';').next().unwrap_or_default().trim();
                let apt = payload_type(apt)?;
                if apt == pt || *repairs.entry(pt).or_insert(apt) != apt {
                    return Err(contradiction(pt));
                }
            }
        }
    }
    let circle = repairs.values().find(|apt| repairs.contains_key(*apt));
    let mut repaired: Vec<u32> = repairs.values().copied().collect();
    repaired.sort_unstable();
    let shared = repaired
        .iter()
        .zip(repaired.iter().skip(1))
        .find(|(a, b)| a == b)
        .map(|(a, _)| a);
    match circle.or(shared) {
        Some(&pt) => Err(contradiction(pt)),
        None => Ok(()),
    }
}

fn numbered<'a>(line: &'a str, prefix: &str) -> Result<Option<(u32, &'a str)>, ViewerError> {
    let Some(value) = line.strip_prefix(prefix) else {
        return Ok(None);
    };
    let (number, rest) = value.split_once(' ').unwrap_or((value, ""));
    Ok(Some((payload_type(number)?, rest)))
}

fn payload_type(text: &str) -> Result<u32, ViewerError> {
    text.parse()
        .ok()
        .filter(|&pt| pt <= PAYLOAD_TYPE_MAX)
        .ok_or_else(|| ViewerError::Sdp("a payload type is not a number from 0 to 127".into()))
}

/// Gives each of our tracks the first section that may carry it, and the codec; gives the
/// profile of the video's.
fn choose_tracks(
    parts: &mut Parts<'_>,
    profile_level_id: Option<[u8; 3]>,
) -> Result<Option<Profile>, ViewerError> {
    let preference = Profile::preference(profile_level_id);
    let session_receives = receives(&parts.session).unwrap_or(true);
    let bundle = bundle_mids(&parts.session);
    let (mut audio, mut video) = (false, None);
    for section in &mut parts.sections {
        let bundled = bundle.contains(&section.head.mid.as_str());
        let usable = (bundled || !section.rejected)
            && receives(&section.lines).unwrap_or(session_receives)
            && legal_mid(&section.head.mid);
        let (track, formats) = match section.head.media.as_str() {
            "audio" if usable && !audio => (TrackKind::Audio, reduce::opus(section)),
            "video" if usable && video.is_none() => {
                let chosen = reduce::h264(section, &preference);
                video = chosen.map(|(_, profile)| profile);
                (TrackKind::Video, chosen.map(|(formats, _)| formats))
            }
            _ => continue,
        };
        section.formats = formats;
        section.head.track = formats.map(|_| track);
        audio |= section.head.track == Some(TrackKind::Audio);
    }
    if !audio && video.is_none() {
        return Err(ViewerError::NoCodec);
    }
    let chosen = parts.sections.iter().filter(|s| s.head.track.is_some());
    if chosen.clone().count() > 1
        && !chosen
            .into_iter()
            .all(|s| bundle.contains(&s.head.mid.as_str()))
    {
        return Err(ViewerError::Sdp(
            "its media are not in one BUNDLE group".into(),
        ));
    }
    Ok(video)
}

fn legal_mid(mid: &str) -> bool {
    (1..=MID_CHARS_MAX).contains(&mid.len()) && mid.bytes().all(|byte| byte.is_ascii_graphic())
}

fn bundle_mids<'a>(session: &[&'a str]) -> Vec<&'a str> {
    value_of(session, "a=group:BUNDLE ")
        .map(|mids| mids.split(' ').filter(|mid| !mid.is_empty()).collect())
        .unwrap_or_default()
}

/// Whether the direction among `lines` lets its writer receive; `None` if there is none.
fn receives(lines: &[&str]) -> Option<bool> {
    lines.iter().find_map(|line| match *line {
        "a=recvonly" | "a=sendrecv" => Some(true),
        "a=sendonly" | "a=inactive" => Some(false),
        _ => None,
    })
}

fn is_direction(line: &str) -> bool {
    receives(&[line]).is_some()
}

/// Puts our answer together from str0m's: rejects what is not carried, and says which sources
/// carry what.
pub(super) fn write_answer<'a>(
    answer: &str,
    sections: &[RemoteSection],
    tracks: impl Fn(TrackKind) -> Option<TrackLines<'a>>,
) -> String {
    let lines: Vec<&str> = answer.lines().filter(|line| !line.is_empty()).collect();
    let parts = split_sections(&lines);
    let ours = |section: &RemoteSection| section.track.and_then(&tracks);
    let carried: Vec<&str> = sections
        .iter()
        .filter(|section| ours(section).is_some())
        .map(|section| section.mid.as_str())
        .collect();
    let mut text = session_text(&parts.session, &carried);
    if carried.len() < sections.len() {
        // GStreamer's webrtcbin wants a fingerprint for each section, rejected ones too (RFC 8122 §5: the
        // session's holds for all).
        let mut lines = parts.sections.iter().flat_map(|section| &section.lines);
        if let Some(fingerprint) = lines.find(|line| line.starts_with("a=fingerprint:")) {
            push_line(&mut text, format_args!("{fingerprint}"));
        }
    }
    let mut candidates = candidate_lines(&parts);
    for (section, written) in sections.iter().zip(&parts.sections) {
        match ours(section) {
            Some(track) => push_sent(&mut text, written, &track, &candidates.split_off(0)),
            None => push_rejected(&mut text, section),
        }
    }
    text
}

/// Puts our offer together from str0m's. `kinds` are the tracks of its sections.
pub(super) fn write_offer<'a>(
    offer: &str,
    kinds: &[TrackKind],
    tracks: impl Fn(TrackKind) -> TrackLines<'a>,
) -> String {
    let lines: Vec<&str> = offer.lines().filter(|line| !line.is_empty()).collect();
    let parts = split_sections(&lines);
    let mids: Vec<&str> = parts
        .sections
        .iter()
        .map(|section| section.head.mid.as_str())
        .collect();
    let mut text = session_text(&parts.session, &mids);
    let mut candidates = candidate_lines(&parts);
    for (section, &kind) in parts.sections.iter().zip(kinds) {
        push_sent(&mut text, section, &tracks(kind), &candidates.split_off(0));
    }
    text
}

fn candidate_lines<'a>(parts: &Parts<'a>) -> Vec<&'a str> {
    let sections = parts.sections.iter();
    let lines = sections.flat_map(|section| section.lines.iter().copied());
    lines.filter(|line| is_candidate(line)).collect()
}

fn session_text(session: &[&str], mids: &[&str]) -> String {
    let mut text = String::new();
    for line in session {
        if line.starts_with("a=group:") {
            push_line(&mut text, format_args!("a=group:BUNDLE {}", mids.join(" ")));
        } else if !line.starts_with("a=msid-semantic") {
            push_line(&mut text, format_args!("{line}"));
        }
    }
    text
}

fn push_sent(
    text: &mut String,
    section: &Section<'_>,
    track: &TrackLines<'_>,
    candidates: &[&str],
) {
    let ours = |line: &str| {
        line.starts_with("a=ssrc") || line.starts_with("a=msid:") || is_direction(line)
    };
    push_line(text, format_args!("{}", section.first_line));
    for line in &section.lines {
        let ends = *line == "a=end-of-candidates";
        if !ours(line) && !is_candidate(line) && !ends {
            push_line(text, format_args!("{line}"));
        }
    }
    push_line(text, format_args!("a=sendonly"));
    let TrackLines {
        cname,
        stream,
        track,
        ssrc,
        rtx_ssrc,
    } = track;
    push_line(text, format_args!("a=msid:{stream} {track}"));
    if let Some(rtx) = rtx_ssrc {
        push_line(text, format_args!("a=ssrc-group:FID {ssrc} {rtx}"));
    }
    for source in std::iter::once(ssrc).chain(rtx_ssrc) {
        push_line(text, format_args!("a=ssrc:{source} cname:{cname}"));
        push_line(text, format_args!("a=ssrc:{source} msid:{stream} {track}"));
    }
    if candidates.is_empty() {
        return;
    }
    for candidate in candidates {
        push_line(text, format_args!("{candidate}"));
    }
    push_line(text, format_args!("a=end-of-candidates"));
}

/// A rejected section repeats media, protocol and formats with port 0 (RFC 8829 §5.3.1).
fn push_rejected(text: &mut String, section: &RemoteSection) {
    let RemoteSection {
        media,
        formats,
        mid,
        track: _,
    } = section;
    push_line(text, format_args!("m={media} 0 {formats}"));
    push_line(text, format_args!("c=IN IP4 0.0.0.0"));
    if !mid.is_empty() {
        push_line(text, format_args!("a=mid:{mid}"));
    }
    push_line(text, format_args!("a=inactive"));
}

fn push_line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = write!(text, "{line}\r\n");
}

#[cfg(test)]
mod tests;
