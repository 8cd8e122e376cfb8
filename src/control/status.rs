//! What is said of a room to those who look: `GET /v1/rooms` and `GET /v1/rooms/ROOM`.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::directory::{Directory, Room};
use super::publishing::advice;
use crate::ids::RoomName;
use crate::media::avc::profile_name;
use crate::media::frame::{StreamInfo, TrackInfo, TrackKind};
use crate::media::verdict::{Figures, Spread, Verdict, VerdictItem};
use crate::webhook::timestamp::rfc3339;

/// `level_idc` counts tenths of a level (14496-10 §A.3).
const LEVEL_UNITS: f64 = 10.0;

/// A room as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomStatus {
    /// Its name.
    pub room: RoomName,
    /// Whether somebody publishes to it.
    pub live: bool,
    /// Viewers that were connected: those that watch, or wait for a publisher.
    pub viewers: usize,
    /// When the publish began, since the Unix epoch.
    pub since: Option<Duration>,
    /// What is published; nothing while nobody does.
    pub info: StreamInfo,
    /// What was found and measured of it, once something was.
    pub verdict: Option<Arc<Verdict>>,
}

impl RoomStatus {
    pub(super) fn of(room: &Room, directory: &Directory) -> Self {
        let viewers = room.viewers.iter().filter_map(|id| directory.viewer(*id));
        let live = room.live.as_ref();
        Self {
            room: room.name.clone(),
            live: live.is_some(),
            viewers: viewers.filter(|viewer| viewer.connected).count(),
            since: live.map(|live| live.since_wall),
            info: live.map(|live| live.info.clone()).unwrap_or_default(),
            verdict: live.and_then(|live| live.verdict.clone()),
        }
    }

    /// As JSON, for the list of rooms.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut json = json!({
            "room": self.room.as_str(),
            "live": self.live,
            "viewers": self.viewers,
            "since": self.since.map(rfc3339),
        });
        if let Some(object) = json.as_object_mut() {
            object.extend(stream_members(&self.info, self.verdict.as_deref()));
        }
        json
    }

    /// As JSON with everything that is known, for the room alone.
    #[must_use]
    pub fn full_json(&self) -> Value {
        let mut json = self.json();
        let verdict = self.verdict.as_deref();
        if let Some(object) = json.as_object_mut() {
            object.insert("verdict".to_owned(), verdict_json(verdict, &self.info));
        }
        json
    }
}

/// What is known of a publish as JSON; null if nothing is.
pub(super) fn stream_json(info: &StreamInfo, verdict: Option<&Verdict>) -> Value {
    if verdict.is_none() && *info == StreamInfo::default() {
        return Value::Null;
    }
    let mut members = stream_members(info, verdict);
    members.insert("verdict".to_owned(), verdict_json(verdict, info));
    Value::Object(members)
}

/// What a stream is, but for the verdict on it.
fn stream_members(info: &StreamInfo, verdict: Option<&Verdict>) -> Map<String, Value> {
    let measured = verdict.and_then(|verdict| verdict.figures.frames_per_1000_s);
    let tracks = info.tracks.iter().map(|track| track_json(track, measured));
    let members = [
        ("video", json!(info.video)),
        ("audio", json!(info.audio)),
        ("width", json!(info.size.map(|(width, _)| width))),
        ("height", json!(info.size.map(|(_, height)| height))),
        ("tracks", tracks.collect()),
        ("transcode", transcode_json(info)),
        ("advice", json!(advice(info))),
    ];
    let named = |(name, value): (&str, Value)| (name.to_owned(), value);
    members.into_iter().map(named).collect()
}

/// A track as JSON. `measured`: pictures in 1,000 seconds of the one that is played.
fn track_json(track: &TrackInfo, measured: Option<u64>) -> Value {
    let is_played = track.number == 0;
    let announced = track.frames_per_1000_s.map(u64::from);
    let rate = measured.filter(|_| is_played).or(announced);
    match track.kind {
        TrackKind::Video => json!({
            "kind": "video",
            "number": track.number,
            "played": is_played,
            "codec": track.codec,
            "width": track.size.map(|(width, _)| width),
            "height": track.size.map(|(_, height)| height),
            "fps": rate.map(thousandths),
        }),
        TrackKind::Audio => json!({
            "kind": "audio",
            "number": track.number,
            "played": is_played,
            "codec": track.codec,
            "sample_rate": track.sample_rate,
            "channels": track.channels,
        }),
    }
}

/// What becomes of video that browsers cannot play, as JSON.
fn transcode_json(info: &StreamInfo) -> Value {
    json!({
        "state": info.transcoding.as_str(),
        "why": info.transcode.map(|reason| reason.to_string()),
        "problem": info.transcoding.problem(),
    })
}

/// A verdict as JSON; null if there is none. Times are in milliseconds, rates per second.
fn verdict_json(verdict: Option<&Verdict>, info: &StreamInfo) -> Value {
    let Some(verdict) = verdict else {
        return Value::Null;
    };
    json!({
        "items": verdict.items.iter().map(item_json).collect::<Vec<_>>(),
        "measured": figures_json(&verdict.figures, info),
    })
}

fn item_json(item: &VerdictItem) -> Value {
    let setting = |text: &str| match text {
        "" => Value::Null,
        text => text.into(),
    };
    json!({
        "code": item.code,
        "severity": item.severity.as_str(),
        "text": item.text,
        "setting": { "obs": setting(&item.obs), "ffmpeg": setting(&item.ffmpeg) },
    })
}

fn figures_json(figures: &Figures, info: &StreamInfo) -> Value {
    let profile_level = info.profile_level_id;
    json!({
        "profile": profile_level.map(profile_name),
        "level": profile_level.map(|[_, _, level]| f64::from(level) / LEVEL_UNITS),
        "b_frames": info.reordering,
        "transcoding": info.transcode.map(|reason| reason.to_string()),
        "fps": figures.frames_per_1000_s.map(thousandths),
        "frame_jitter_ms": figures.frame_jitter_micros.map(thousandths),
        "video_bps": figures.video_bits_per_second,
        "audio_bps": figures.audio_bits_per_second,
        "audio_rate": figures.audio_sample_rate,
        "keyframe_interval_ms": figures.keyframe_interval_ms.map(spread_json),
        "keyframe_bytes": figures.keyframe_bytes,
        "frame_bytes": figures.frame_bytes,
        "arrival_spread_ms": figures.arrival_spread_ms,
        "video_after_audio_ms": figures.video_after_audio_ms,
        "clock_slow_ppm": figures.clock_slow_ppm,
        "holds": figures.holds,
        "timestamp_jumps": figures.timestamp_jumps,
    })
}

fn spread_json(spread: Spread) -> Value {
    json!({ "min": spread.min, "mean": spread.mean, "max": spread.max })
}

/// Thousandths as the number that they are.
fn thousandths(value: u64) -> f64 {
    f64::from(u32::try_from(value).unwrap_or(u32::MAX)) / 1_000.0
}
