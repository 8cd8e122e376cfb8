//! WHEP and WebSocket against the real server, and what the reference server gets wrong.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::kit::clip::LiveClip;
use crate::kit::server::{KitServer, wait_for};
use crate::kit::udp_viewer::UdpViewer;
use crate::kit::websocket::KitSocket;
use crate::{playing, plays, wait_live};

fn join_by_websocket(socket: &mut KitSocket) -> UdpViewer {
    let mut viewer = UdpViewer::new();
    let offer = socket.next_of("getOffer");
    let answer = viewer.player.answer(&offer);
    socket.send("answer", &answer);
    viewer
}

#[test]
fn websocket_viewer_plays() {
    let (server, _clip, _viewer) = playing(2, "ws");
    let mut socket = KitSocket::connect(server.addresses.http, "ws", "a", "Ann");
    let mut viewer = join_by_websocket(&mut socket);
    plays(&mut viewer, "picture and sound by WebSocket");
    assert_eq!(socket.next_of("isPublishing"), "true");
}

#[test]
fn candidates_arrive_and_are_init_json() {
    let (server, _clip, _viewer) = playing(1, "cand");
    let mut socket = KitSocket::connect(server.addresses.http, "cand", "a", "Ann");
    let candidate = socket.next_of("getCandidate");
    let candidate: serde_json::Value = serde_json::from_str(&candidate).unwrap();
    assert!(
        candidate["candidate"]
            .as_str()
            .unwrap()
            .contains("127.0.0.1"),
        "{candidate}"
    );
}

#[test]
fn publishing_is_told_at_every_change() {
    let server = KitServer::start(2, &[]);
    let mut socket = KitSocket::connect(server.addresses.http, "changes", "a", "Ann");
    assert_eq!(socket.next_of("isPublishing"), "false");
    let clip = LiveClip::publish(server.addresses.rtmp, "changes");
    assert_eq!(socket.next_of("isPublishing"), "true");
    drop(clip);
    assert_eq!(socket.next_of("isPublishing"), "false");
}

#[test]
fn chat_reaches_everyone_of_the_room_and_nobody_else() {
    let server = KitServer::start(1, &[]);
    let mut ann = KitSocket::connect(server.addresses.http, "talk", "a", "Ann");
    let mut bob = KitSocket::connect(server.addresses.http, "talk", "b", "Bob");
    let mut eve = KitSocket::connect(server.addresses.http, "elsewhere", "e", "Eve");
    // The offer says that one has joined.
    for socket in [&mut ann, &mut bob, &mut eve] {
        socket.next_of("getOffer");
    }
    ann.send("chat", "hello");
    for socket in [&mut ann, &mut bob] {
        let message = loop {
            let (kind, _, whole) = socket.next();
            if kind == "getChat" {
                break whole;
            }
        };
        assert_eq!(message["data"], "hello");
        assert_eq!(message["fromClientID"], "Ann");
        assert!(message["timestamp"].as_str().unwrap().ends_with('Z'));
    }
    assert!(eve.is_silent_of("getChat", Duration::from_millis(300)));
}

#[test]
fn repeated_client_id_takes_over_nobody() {
    let (server, _clip, _viewer) = playing(1, "same");
    let mut first = KitSocket::connect(server.addresses.http, "same", "me", "One");
    let mut first_viewer = join_by_websocket(&mut first);
    plays(&mut first_viewer, "the first viewer");
    let mut second = KitSocket::connect(server.addresses.http, "same", "me", "Two");
    let mut second_viewer = join_by_websocket(&mut second);
    plays(&mut second_viewer, "the second viewer of the same name");
    plays(&mut first_viewer, "the first viewer still");
    assert!(!first_viewer.player.closed);
}

#[test]
fn nonsense_is_an_error_message_and_the_session_goes_on() {
    let (server, _clip, _viewer) = playing(1, "odd");
    let mut socket = KitSocket::connect(server.addresses.http, "odd", "a", "Ann");
    let offer = socket.next_of("getOffer");
    for text in [
        "not json",
        "{}",
        r#"{"type":"nonsense","data":""}"#,
        r#"{"type":"answer","data":"v=0 this is no SDP"}"#,
        r#"{"type":"candidate","data":"candidate:nonsense"}"#,
    ] {
        socket.send_text(text);
        let complaint = socket.next_of("error");
        assert!(!complaint.is_empty(), "no word about {text}");
    }
    let mut viewer = UdpViewer::new();
    let answer = viewer.player.answer(&offer);
    socket.send("answer", &answer);
    plays(&mut viewer, "a viewer that first spoke nonsense");
    socket.send("answer", &answer);
    assert!(
        !socket.next_of("error").is_empty(),
        "a second answer is an error"
    );
}

#[test]
fn whep_session_can_be_trickled_to_and_left() {
    let (server, _clip, _viewer) = playing(2, "whep");
    let mut viewer = UdpViewer::new();
    let reply = viewer.join_by_whep(&server, "whep");
    let session = reply.header("location").unwrap().to_owned();
    let etag = reply.header("etag").unwrap().to_owned();
    plays(&mut viewer, "a WHEP viewer");
    let fragment = "a=mid:0\r\na=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n";
    let sdpfrag = ("Content-Type", "application/trickle-ice-sdpfrag");
    let patched = server.http("PATCH", &session, &[sdpfrag, ("If-Match", &etag)], fragment);
    assert_eq!(patched.status, 204, "{}", patched.body);
    assert_eq!(
        server.http("PATCH", &session, &[sdpfrag], fragment).status,
        428
    );
    let stale = server.http(
        "PATCH",
        &session,
        &[sdpfrag, ("If-Match", "\"old\"")],
        fragment,
    );
    assert_eq!(stale.status, 412);
    assert_eq!(server.http("DELETE", &session, &[], "").status, 200);
    viewer.play_until("the goodbye", Duration::from_secs(10), |player| {
        player.closed
    });
    wait_for("the session to be gone", || {
        (server.http("DELETE", &session, &[], "").status == 404).then_some(())
    });
}

#[test]
fn offline_room_is_409_when_so_configured() {
    let server = KitServer::start(1, &[("RTMPEER_WHEP__WHEN_OFFLINE", "reject")]);
    let offer = UdpViewer::new().player.offer();
    let headers = [("Content-Type", "application/sdp")];
    let reply = server.http("POST", "/nobody/whep", &headers, &offer);
    assert_eq!(reply.status, 409);
    assert!(reply.header("retry-after").is_some());
}

#[test]
fn unusable_offers_are_400_with_a_reason() {
    let server = KitServer::start(1, &[]);
    let headers = [("Content-Type", "application/sdp")];
    for offer in ["", "v=0\r\n", "hello"] {
        let reply = server.http("POST", "/room/whep", &headers, offer);
        assert_eq!(reply.status, 400, "{offer:?}");
        assert!(reply.body.contains("\"error\""), "{}", reply.body);
    }
}

#[test]
fn pages_health_and_metrics_answer() {
    let (server, _clip, _viewer) = playing(1, "pages");
    assert_eq!(
        server.http("GET", "/v1/health", &[], "").body,
        r#"{"status":"ready"}"#
    );
    for path in ["/", "/pages", "/v1/rooms", "/v1/rooms/pages"] {
        assert_eq!(server.http("GET", path, &[], "").status, 200, "{path}");
    }
    assert_eq!(server.http("GET", "/v1/rooms/nobody", &[], "").status, 404);
    let metrics = crate::kit::server::http(server.addresses.metrics, "GET", "/metrics", &[], "");
    assert!(
        metrics.body.contains("rtmpeer_build_info"),
        "{}",
        metrics.body
    );
    wait_live(&server, "pages", true);
}

/// As `nc -N` and simple scripts do: all requests, the end of the stream, then reading.
#[test]
fn client_that_ends_its_side_gets_its_answers() {
    let (server, _clip, _viewer) = playing(2, "half");
    let offer = UdpViewer::new().player.offer();
    let host = server.addresses.http;
    let requests = format!(
        "GET /v1/health HTTP/1.1\r\nHost: {host}\r\n\r\n\
         POST /half/whep HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/sdp\r\n\
         Content-Length: {}\r\n\r\n{offer}",
        offer.len(),
    );
    let mut stream = TcpStream::connect(host).unwrap();
    stream.write_all(requests.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    let statuses: Vec<_> = answers
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|answer| &answer[..3])
        .collect();
    assert_eq!(statuses, ["200", "201"], "{answers}");
}
