//! Pages, files and JSON.

use std::sync::Arc;

use super::*;
use crate::media::codec::{TranscodeReason, TranscodeState};
use crate::media::frame::{TrackInfo, TrackKind};
use crate::media::verdict::{Figures, Verdict};

fn get(rig: &mut Rig, path: &str) -> HttpResponse {
    let conn = rig.conn();
    let outputs = rig.request(conn, request(Method::Get, path));
    response(&outputs, conn).unwrap().clone()
}

fn json(response: &HttpResponse) -> serde_json::Value {
    serde_json::from_slice(&response.body).unwrap()
}

#[test]
fn health_is_ready_and_then_stopping() {
    let mut rig = Rig::new(1);
    let response = get(&mut rig, "/v1/health");
    assert_eq!(response.status, 200);
    assert_eq!(&response.body[..], br#"{"status":"ready"}"#);
    rig.control.drain(rig.now);
    rig.outputs();
    let response = get(&mut rig, "/v1/health");
    assert_eq!(response.status, 503);
    assert_eq!(&response.body[..], br#"{"status":"stopping"}"#);
}

#[test]
fn rooms_are_listed_with_what_is_known_of_them() {
    let mut rig = Rig::new(1);
    let publish = rig.publish("cam");
    rig.tell(ControlMsg::StreamChanged {
        room: publish.room,
        epoch: publish.epoch,
        info: StreamInfo {
            size: Some((1280, 720)),
            video: Some("H.264 \"High\"".into()),
            audio: Some("AAC-LC 48 kHz stereo".into()),
            ..StreamInfo::default()
        },
    });
    let watching = rig.ask("cam");
    rig.connected(watching);
    rig.ask("cam");
    rig.ask("waiting");
    let listed = json(&get(&mut rig, "/v1/rooms"));
    let rooms = listed["rooms"].as_array().unwrap();
    assert_eq!(rooms.len(), 2);
    let cam = &rooms[0];
    assert_eq!(cam["room"], "cam");
    assert_eq!(cam["live"], true);
    assert_eq!(cam["viewers"], 1);
    assert_eq!(cam["since"], "2026-11-22T19:00:00.123Z");
    assert_eq!(cam["video"], "H.264 \"High\"");
    assert_eq!(cam["audio"], "AAC-LC 48 kHz stereo");
    assert_eq!((&cam["width"], &cam["height"]), (&1280.into(), &720.into()));
    assert_eq!(cam["advice"], serde_json::json!([]));
    assert_eq!(rooms[1]["live"], false);
    assert!(rooms[1]["since"].is_null() && rooms[1]["video"].is_null());
    let mut alone = json(&get(&mut rig, "/v1/rooms/cam"));
    let verdict = alone.as_object_mut().unwrap().remove("verdict");
    assert_eq!(verdict, Some(serde_json::Value::Null));
    assert_eq!(alone, *cam);
    assert_eq!(get(&mut rig, "/v1/rooms/nobody").status, 404);
    for room in ["cam", "nobody"] {
        let asked = get(&mut rig, &format!("/v1/rooms/{room}"));
        assert_eq!(
            asked.field("Access-Control-Allow-Origin"),
            Some("*"),
            "{room}"
        );
    }
    let list = get(&mut rig, "/v1/rooms");
    assert_eq!(
        list.field("Access-Control-Allow-Origin"),
        None,
        "names are not told"
    );
    rig.end(&publish);
    assert_eq!(json(&get(&mut rig, "/v1/rooms/cam"))["live"], false);
}

/// A track that is played and one that is not, and the sound.
fn three_tracks() -> Vec<TrackInfo> {
    let video = TrackInfo {
        size: Some((1280, 720)),
        frames_per_1000_s: Some(25_000),
        ..TrackInfo::new(TrackKind::Video, 0, "H.264 High".into())
    };
    let other = TrackInfo {
        frames_per_1000_s: Some(50_000),
        ..TrackInfo::new(TrackKind::Video, 1, "H.265 Main".into())
    };
    let audio = TrackInfo {
        sample_rate: Some(48_000),
        channels: Some(6),
        ..TrackInfo::new(TrackKind::Audio, 0, "AAC-LC".into())
    };
    vec![video, other, audio]
}

#[test]
fn tracks_and_transcoding_are_told_of_each_room() {
    let mut rig = Rig::new(1);
    let publish = rig.publish("cam");
    let told = |rig: &mut Rig, transcoding, transcode| {
        rig.tell(ControlMsg::StreamChanged {
            room: publish.room,
            epoch: publish.epoch,
            info: StreamInfo {
                transcode,
                transcoding,
                tracks: three_tracks(),
                ..StreamInfo::default()
            },
        });
        json(&get(rig, "/v1/rooms"))["rooms"][0].clone()
    };
    let room = told(&mut rig, TranscodeState::Off, None);
    let off = serde_json::json!({ "state": "off", "why": null, "problem": null });
    assert_eq!(room["transcode"], off);
    let tracks = serde_json::json!([
        { "kind": "video", "number": 0, "played": true, "codec": "H.264 High",
          "width": 1280, "height": 720, "fps": 25.0 },
        { "kind": "video", "number": 1, "played": false, "codec": "H.265 Main",
          "width": null, "height": null, "fps": 50.0 },
        { "kind": "audio", "number": 0, "played": true, "codec": "AAC-LC",
          "sample_rate": 48_000, "channels": 6 },
    ]);
    assert_eq!(room["tracks"], tracks);
    for (state, word) in [
        (TranscodeState::Needed, "needed"),
        (TranscodeState::Waiting, "waiting"),
        (TranscodeState::Running, "running"),
    ] {
        let room = told(&mut rig, state, Some(TranscodeReason::Reordering));
        let why = "it has B-frames";
        let expected = serde_json::json!({ "state": word, "why": why, "problem": null });
        assert_eq!(room["transcode"], expected);
    }
    let refused = TranscodeState::Refused("install ffmpeg".into());
    let room = told(&mut rig, refused, Some(TranscodeReason::Interlaced));
    assert_eq!(room["transcode"]["state"], "refused");
    assert_eq!(room["transcode"]["problem"], "install ffmpeg");

    // What was measured counts more than what is announced.
    let figures = Figures {
        frames_per_1000_s: Some(29_970),
        ..Figures::default()
    };
    rig.tell(ControlMsg::StreamJudged {
        room: publish.room,
        epoch: publish.epoch,
        verdict: Arc::new(Verdict {
            items: Vec::new(),
            figures,
        }),
    });
    let room = json(&get(&mut rig, "/v1/rooms/cam"));
    let rate = |track: usize| room["tracks"][track]["fps"].as_f64();
    assert_eq!((rate(0), rate(1)), (Some(29.97), Some(50.0)));
    rig.end(&publish);
    assert_eq!(
        json(&get(&mut rig, "/v1/rooms"))["rooms"],
        serde_json::json!([])
    );
}

#[test]
fn ports_of_publishers_are_told_with_the_list() {
    let mut rig = Rig::new(1);
    let listed = json(&get(&mut rig, "/v1/rooms"));
    assert_eq!(listed["rtmp_port"], 1_935);
    assert!(listed["rtmps_port"].is_null(), "there is no certificate");
    let mut rig = Rig::with(ControlConfig {
        rtmps_port: Some(1_936),
        ..ControlConfig::default()
    });
    assert_eq!(json(&get(&mut rig, "/v1/rooms"))["rtmps_port"], 1_936);
}

#[test]
fn the_list_of_rooms_tells_no_session_and_no_key() {
    let mut rig = Rig::new(1);
    rig.publish("cam");
    let (_, url, etag) = rig.play("cam");
    let listed = get(&mut rig, "/v1/rooms");
    let text = String::from_utf8(listed.body.to_vec()).unwrap();
    for secret in [
        url.rsplit('/').next().unwrap(),
        etag.trim_matches('"'),
        "QUERYSECRET",
    ] {
        assert!(!text.contains(secret));
    }
}

#[test]
fn pages_and_files_are_served_with_a_policy_and_an_entity_tag() {
    let mut rig = Rig::new(1);
    for (path, mime) in [
        ("/", "text/html"),
        ("/cam", "text/html"),
        ("/assets/player.js", "text/javascript"),
        ("/favicon.ico", "image/svg+xml"),
    ] {
        let response = get(&mut rig, path);
        assert_eq!(response.status, 200, "{path}");
        assert!(
            response.field("Content-Type").unwrap().starts_with(mime),
            "{path}"
        );
        assert!(response.field("Content-Security-Policy").is_some());
        assert_eq!(response.field("X-Content-Type-Options"), Some("nosniff"));
        let etag = response.field("ETag").unwrap();
        for known in [etag.to_owned(), format!("\"x\", W/{etag}"), "*".into()] {
            let conn = rig.conn();
            let again = HttpRequest {
                if_none_match: Some(known),
                ..request(Method::Get, path)
            };
            let outputs = rig.request(conn, again);
            assert_eq!(status(&outputs, conn), Some(304), "{path}");
        }
    }
    assert!(
        rig.control.rooms().is_empty(),
        "looking at a page makes no room"
    );
}

#[test]
fn what_is_not_there_is_404_and_what_cannot_be_done_405() {
    let mut rig = Rig::new(1);
    for path in ["/assets/nothing.js", "/v1/nothing", "/a/b/c/d"] {
        assert_eq!(get(&mut rig, path).status, 404, "{path}");
    }
    for path in ["/", "/cam", "/v1/health", "/v1/rooms", "/assets/player.js"] {
        let conn = rig.conn();
        let outputs = rig.request(conn, request(Method::Delete, path));
        let refused = response(&outputs, conn).unwrap();
        assert_eq!(refused.status, 405, "{path}");
        assert_eq!(refused.field("Allow"), Some("GET, HEAD"));
    }
}

#[test]
fn answers_are_counted_by_class() {
    let mut rig = Rig::new(1);
    get(&mut rig, "/");
    get(&mut rig, "/v1/nothing");
    rig.socket("cam", "ann");
    let counters = rig.control.counters();
    assert_eq!(counters.http_2xx.get(), 1);
    assert_eq!(counters.http_4xx.get(), 1);
    assert_eq!(counters.http_upgrades.get(), 1);
    assert_eq!(counters.websocket_sessions.get(), 1);
}
