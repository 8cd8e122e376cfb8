//! HTTP vectors: what a strict server must take, refuse, and never run.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::limits::{HTTP_BODY_BYTES_MAX, HTTP_HEAD_BYTES_MAX, HTTP_TARGET_BYTES_MAX};

#[expect(
    clippy::disallowed_methods,
    reason = "a test's clock begins with one reading and is then moved by hand"
)]
fn start() -> Instant {
    Instant::now()
}

/// What one connection did, as a shell and a control see it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    requests: Vec<HttpRequest>,
    sent: Vec<u8>,
    closed: bool,
    upgraded: Option<Bytes>,
}

impl Seen {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.sent).into_owned()
    }

    fn statuses(&self) -> Vec<u16> {
        let text = self.text();
        let codes = text.split("HTTP/1.1 ").skip(1);
        codes.map(|rest| rest[..3].parse().unwrap()).collect()
    }
}

/// Pulls everything, answering each request.
fn drain(session: &mut HttpSession, seen: &mut Seen, now: Instant) -> Option<Instant> {
    loop {
        match session.poll_output(now) {
            HttpOutput::Transmit(bytes) => seen.sent.extend_from_slice(&bytes),
            HttpOutput::Request(request) => {
                let response = match &request.upgrade {
                    Some(upgrade) => crate::signalling::accept_response(upgrade),
                    None => HttpResponse::new(200).body("ok"),
                };
                seen.requests.push(request);
                session.respond(response, now);
            }
            HttpOutput::Upgraded { leftover } => {
                seen.upgraded = Some(leftover);
                return None;
            }
            HttpOutput::Close => {
                seen.closed = true;
                return None;
            }
            HttpOutput::Timeout(deadline) => return Some(deadline),
        }
    }
}

fn run_in(parts: &[&[u8]]) -> Seen {
    let now = start();
    let mut session = HttpSession::new(now);
    let mut seen = Seen::default();
    for part in parts {
        session.handle_input(part, now);
        drain(&mut session, &mut seen, now);
    }
    seen
}

fn run(input: impl AsRef<[u8]>) -> Seen {
    run_in(&[input.as_ref()])
}

const CLEAN: &str = "GET /clean HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn request_has_its_parts_and_the_connection_stays() {
    let seen = run(
        "POST /cam%7E1/whep?token=a%20b&x=1+2&y HTTP/1.1\r\nHost: example.com:8889\r\n\
         content-type: application/sdp; charset=utf-8\r\nIf-Match: \"a\"\r\nIf-Match: \"b\"\r\n\
         Authorization: Bearer s3cret\r\nOrigin: http://example.com:8889\r\n\
         If-None-Match: W/\"z\"\r\nContent-Length: 5\r\nX-Unknown: é\r\n\r\nv=0\r\n"
            .as_bytes(),
    );
    let [request] = seen.requests.as_slice() else {
        panic!("{seen:?}");
    };
    assert_eq!(request.method, Method::Post);
    assert_eq!(request.path, "/cam~1/whep");
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(
        request.query,
        [pair("token", "a b"), pair("x", "1 2"), pair("y", "")]
    );
    assert_eq!(request.media_type(), "application/sdp");
    assert_eq!(request.if_match.as_deref(), Some("\"a\", \"b\""));
    assert_eq!(request.if_none_match.as_deref(), Some("W/\"z\""));
    assert_eq!(request.origin.as_deref(), Some("http://example.com:8889"));
    assert_eq!(request.host.as_deref(), Some("example.com:8889"));
    assert_eq!(
        request.authorization.as_ref().map(|secret| secret.expose()),
        Some("Bearer s3cret")
    );
    assert_eq!(&request.body[..], b"v=0\r\n");
    assert!(!seen.closed);
    assert_eq!(
        seen.text(),
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    );
    assert!(!format!("{request:?}").contains("s3cret"));
}

#[test]
fn pipelined_requests_are_answered_in_order_one_at_a_time() {
    let now = start();
    let mut session = HttpSession::new(now);
    session.handle_input(
        b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
        now,
    );
    let HttpOutput::Request(first) = session.poll_output(now) else {
        panic!("no request");
    };
    assert_eq!(first.path, "/1");
    assert!(matches!(session.poll_output(now), HttpOutput::Timeout(_)));
    session.respond(HttpResponse::new(204), now);
    assert!(matches!(session.poll_output(now), HttpOutput::Transmit(_)));
    let HttpOutput::Request(second) = session.poll_output(now) else {
        panic!("no request");
    };
    assert_eq!(second.path, "/2");
}

#[test]
fn head_is_answered_with_the_length_and_no_body() {
    let seen = run("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(seen.text(), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
}

#[test]
fn http_1_0_and_connection_close_end_after_the_answer() {
    let old = run("GET / HTTP/1.0\r\n\r\n");
    assert!(old.closed);
    assert!(old.text().contains("Connection: close\r\n"));
    let keep = run("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert!(keep.closed);
    let close = run(format!(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: foo, Close\r\n\r\n{CLEAN}"
    ));
    assert!(close.closed);
    assert_eq!(close.requests.len(), 1);
}

#[test]
fn peer_that_ends_its_side_gets_its_answers_and_then_the_end() {
    let ended_after = |input: &str| {
        let now = start();
        let mut session = HttpSession::new(now);
        let mut seen = Seen::default();
        session.handle_input(input.as_bytes(), now);
        session.handle_end(now);
        drain(&mut session, &mut seen, now);
        assert!(seen.closed, "{input:?}");
        seen.statuses()
    };
    assert_eq!(ended_after(CLEAN), [200]);
    assert_eq!(ended_after(&CLEAN.repeat(3)), [200, 200, 200]);
    // A request that is not whole will never be.
    assert_eq!(ended_after(&format!("{CLEAN}GET / HT")), [200]);
    assert!(ended_after("GET / HT").is_empty());
    assert!(ended_after("").is_empty());
}

#[test]
fn hundredth_answer_closes_the_connection() {
    let seen = run(CLEAN.repeat(150));
    assert_eq!(seen.requests.len(), 100);
    assert!(seen.closed);
    assert_eq!(seen.text().matches("Connection: close").count(), 1);
}

#[test]
fn body_is_asked_for_when_the_peer_waits_to_send_it() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    let seen = run(head);
    assert_eq!(seen.text(), "HTTP/1.1 100 Continue\r\n\r\n");
    let seen = run_in(&[head.as_bytes(), b"abc"]);
    assert_eq!(seen.statuses(), [100, 200]);
    let seen = run(format!("{head}abc"));
    assert_eq!(seen.statuses(), [200]);
}

#[test]
fn absolute_url_of_our_own_host_is_the_same_as_its_path() {
    let seen = run("GET http://A:1/x?y=http://b/ HTTP/1.1\r\nHost: a:1\r\n\r\n");
    assert_eq!(seen.requests[0].path, "/x");
    assert_eq!(seen.requests[0].parameter("y"), Some("http://b/"));
    let seen = run("GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(seen.statuses(), [400]);
    let seen = run("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(seen.requests[0].path, "*");
}

/// T-50, and what else two readers could read differently. Each must get the status named, close,
/// and leave the request behind it unread.
#[expect(clippy::too_many_lines, reason = "a table, one vector a line")]
#[test]
fn smuggling_vectors_are_refused_and_nothing_after_them_runs() {
    let post =
        |fields: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}");
    let get = |fields: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let te = "Transfer-Encoding: chunked\r\n";
    let target = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    let ws = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
              Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let vectors: Vec<(u16, String)> = vec![
        (
            400,
            post(&format!("Content-Length: 5\r\n{te}"), "0\r\n\r\n"),
        ),
        (
            400,
            post(&format!("{te}Content-Length: 5\r\n"), "0\r\n\r\n"),
        ),
        (400, post(&format!("{te}{te}"), "0\r\n\r\n")),
        (400, post("Transfer-Encoding: chunked, identity\r\n", "")),
        (400, post("Transfer-Encoding: gzip, chunked\r\n", "")),
        (400, post("Transfer-Encoding: xchunked\r\n", "")),
        (400, post("Transfer-Encoding: identity\r\n", "")),
        (400, post("Transfer-Encoding:\x0bchunked\r\n", "")),
        (400, post("Transfer-Encoding:\r\n chunked\r\n", "")),
        (400, post("Transfer-Encoding : chunked\r\n", "")),
        (400, post("Transfer-Encoding: \"chunked\"\r\n", "")),
        (400, post("Transfer\u{0}-Encoding: chunked\r\n", "")),
        (411, post(te, "0\r\n\r\n")),
        (
            411,
            post(te, &format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(9_000))),
        ),
        (411, post(te, "ffffffffffffffffff\r\n")),
        (400, post("Content-Length: +5\r\n", "hello")),
        (400, post("Content-Length: -0\r\n", "")),
        (400, post("Content-Length: 5,5\r\n", "hello")),
        (
            400,
            post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
        ),
        (
            400,
            post("Content-Length: 5\r\ncontent-length: 6\r\n", "hello"),
        ),
        (400, post("Content-Length: 0x5\r\n", "hello")),
        (400, post("Content-Length: 5 5\r\n", "hello")),
        (400, post("Content-Length: 5.0\r\n", "hello")),
        (400, post("Content-Length:\r\n", "")),
        (400, post("Content-Length: 18446744073709551616\r\n", "")),
        (413, post("Content-Length: 18446744073709551615\r\n", "")),
        (413, post("Content-Length: 65537\r\n", "")),
        (400, post("Content-Length : 5\r\n", "hello")),
        (400, post("Content-Length\r\n", "")),
        (400, post("X: a\r\n b\r\n", "")),
        (400, post("X: a\r\n\tb\r\n", "")),
        (400, post(" X: a\r\n", "")),
        (400, post("X: a\nContent-Length: 5\r\n", "hello")),
        (400, post("X: a\rContent-Length: 5\r\n", "hello")),
        (400, post("X: a\r\r\n", "")),
        (400, post("X: a\u{0}b\r\n", "")),
        (400, post("X: a\u{7f}b\r\n", "")),
        (400, post(": a\r\n", "")),
        (417, post("Expect: 200-ok\r\nContent-Length: 1\r\n", "")),
        (
            400,
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".into(),
        ),
        (400, "GET / HTTP/1.1\r\n\r\n".into()),
        (400, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".into()),
        (400, "GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n".into()),
        (400, "GET / HTTP/1.1\r\nHost:\r\n\r\n".into()),
        (400, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".into()),
        (400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n".into()),
        (400, "GET / HTTP/1.1\nHost: a\n\n".into()),
        (400, "GET / HTTP/1.1\r\nHost: a\r\n\n".into()),
        (400, "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".into()),
        (400, "GET /\r\n\r\n".into()),
        (400, "GET  / HTTP/1.1\r\nHost: a\r\n\r\n".into()),
        (400, "GET / HTTP/1.1 \r\nHost: a\r\n\r\n".into()),
        (400, "GET /\tHTTP/1.1\r\nHost: a\r\n\r\n".into()),
        (400, " GET / HTTP/1.1\r\nHost: a\r\n\r\n".into()),
        (400, "G@T / HTTP/1.1\r\nHost: a\r\n\r\n".into()),
        (505, "GET / HTTP/1.2\r\nHost: a\r\n\r\n".into()),
        (505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into()),
        (400, "\x16\x03\x01\x02\x00\x01\x00\x01\u{7f}".into()),
        (400, "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n".into()),
        (400, target("*")),
        (400, target("a")),
        (400, target("/%00")),
        (400, target("/%0d%0aX")),
        (400, target("/a%2fb")),
        (400, target("/a%2Fb")),
        (400, target("/a%5cb")),
        (400, target("/a\\b")),
        (400, target("/../etc/passwd")),
        (400, target("/a/%2e%2e/b")),
        (400, target("/a/.")),
        (400, target("/%zz")),
        (400, target("/%4")),
        (400, target("/%ff")),
        (400, target("/a#b")),
        (400, target("/?a=%00")),
        (400, target(&format!("/?{}", "a=1&".repeat(33)))),
        (400, get(&format!("Content-Length: 5\r\n{ws}")) + "hello"),
        (400, post(&format!("Content-Length: 0\r\n{ws}"), "")),
        (400, get(&ws.replace("dGhlIHNhbXBsZSBub25jZQ==", "short"))),
        (426, get(&ws.replace("13", "8"))),
        (
            400,
            get(&format!(
                "{ws}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            )),
        ),
    ];
    assert!(vectors.len() >= 30);
    for (status, vector) in vectors {
        for whole in [true, false] {
            let input = format!("{vector}{CLEAN}");
            let bytes: Vec<&[u8]> = if whole {
                vec![input.as_bytes()]
            } else {
                input.as_bytes().chunks(1).collect()
            };
            let seen = run_in(&bytes);
            assert_eq!(seen.statuses(), [status], "{vector:?}");
            assert!(seen.requests.is_empty(), "{vector:?} ran {seen:?}");
            assert!(seen.closed, "{vector:?}");
            assert!(seen.text().contains("Connection: close\r\n"));
        }
    }
    assert_eq!(run(CLEAN).requests.len(), 1);
}

/// T-52.
#[test]
fn head_bombs_are_refused_at_the_limit() {
    let target = |bytes: usize| {
        let path = "a".repeat(bytes - 1);
        run(format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n"))
    };
    assert_eq!(target(HTTP_TARGET_BYTES_MAX).statuses(), [200]);
    assert_eq!(target(HTTP_TARGET_BYTES_MAX + 1).statuses(), [414]);
    assert_eq!(target(64 * 1_024).statuses(), [414]);
    let endless = run(format!("GET /{}", "a".repeat(9_000)));
    assert_eq!(endless.statuses(), [414]);

    let fields = |count: usize| {
        let fields = "X: y\r\n".repeat(count - 1);
        run(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
    };
    assert_eq!(fields(64).statuses(), [200]);
    assert_eq!(fields(65).statuses(), [431]);
    assert_eq!(fields(1_000).statuses(), [431]);

    let head = |bytes: usize| {
        let start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
        let filler = "y".repeat(bytes - start.len() - 4);
        run(format!("{start}{filler}\r\n\r\n"))
    };
    assert_eq!(head(HTTP_HEAD_BYTES_MAX).statuses(), [200]);
    assert_eq!(head(HTTP_HEAD_BYTES_MAX + 1).statuses(), [431]);
}

/// T-30: each byte is looked at once, and nothing is kept beyond the limit.
#[test]
fn endless_header_in_single_bytes_ends_at_the_limit() {
    let now = start();
    let mut session = HttpSession::new(now);
    let mut seen = Seen::default();
    session.handle_input(b"GET / HTTP/1.1\r\nX: ", now);
    let mut fed = 0;
    while !seen.closed {
        session.handle_input(b"y", now);
        drain(&mut session, &mut seen, now);
        fed += 1;
        assert!(fed <= HTTP_HEAD_BYTES_MAX);
    }
    assert_eq!(seen.statuses(), [431]);
    assert_eq!(session.input.capacity(), 0);
}

/// T-51.
#[test]
fn slow_head_and_slow_body_are_closed_after_ten_seconds() {
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n".as_slice();
    for begin in [b"P".as_slice(), head] {
        let began = start();
        let mut session = HttpSession::new(began);
        let mut seen = Seen::default();
        session.handle_input(begin, began);
        let mut now = began;
        for _ in 0..9 {
            now += Duration::from_secs(1);
            session.handle_input(b"P", now);
            session.handle_timeout(now);
            let deadline = drain(&mut session, &mut seen, now);
            assert_eq!(deadline, Some(began + HTTP_REQUEST_DEADLINE));
        }
        session.handle_timeout(began + HTTP_REQUEST_DEADLINE);
        drain(&mut session, &mut seen, now);
        assert_eq!(seen.statuses(), [408]);
        assert!(seen.closed);
    }
}

#[test]
fn first_request_has_ten_seconds_from_the_accept() {
    let began = start();
    let mut session = HttpSession::new(began);
    let mut seen = Seen::default();
    let now = began + Duration::from_secs(9);
    session.handle_input(b"G", now);
    let deadline = drain(&mut session, &mut seen, now);
    assert_eq!(deadline, Some(began + HTTP_REQUEST_DEADLINE));
}

#[test]
fn silent_connection_is_closed_without_a_word() {
    let began = start();
    let mut session = HttpSession::new(began);
    let mut seen = Seen::default();
    session.handle_timeout(began + HTTP_REQUEST_DEADLINE);
    drain(&mut session, &mut seen, began);
    assert_eq!((seen.closed, seen.sent.len()), (true, 0));

    let mut session = HttpSession::new(began);
    let mut seen = Seen::default();
    session.handle_input(CLEAN.as_bytes(), began);
    let deadline = drain(&mut session, &mut seen, began).unwrap();
    assert_eq!(deadline, began + HTTP_IDLE_MAX);
    session.handle_input(b"G", deadline - Duration::from_millis(1));
    session.handle_timeout(deadline);
    let again = drain(&mut session, &mut seen, deadline).unwrap();
    assert!(again > deadline, "a begun request has its own ten seconds");
}

#[test]
fn unanswered_request_gets_503_and_the_late_answer_is_dropped() {
    let now = start();
    let mut session = HttpSession::new(now);
    session.handle_input(CLEAN.as_bytes(), now);
    assert!(matches!(session.poll_output(now), HttpOutput::Request(_)));
    let late = now + HTTP_RESPONSE_DEADLINE;
    session.handle_timeout(late);
    session.respond(HttpResponse::new(200), late);
    let mut seen = Seen::default();
    drain(&mut session, &mut seen, late);
    assert_eq!(seen.statuses(), [503]);
    assert!(seen.closed);
}

#[test]
fn body_at_the_limit_is_taken_whole() {
    let body = "x".repeat(HTTP_BODY_BYTES_MAX);
    let seen = run(format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    assert_eq!(seen.requests[0].body.len(), HTTP_BODY_BYTES_MAX);
}

#[test]
fn peer_that_sends_on_unanswered_is_kept_within_the_bound_and_closed() {
    let now = start();
    let mut session = HttpSession::new(now);
    let mut seen = Seen::default();
    session.handle_input(CLEAN.as_bytes(), now);
    let HttpOutput::Request(_) = session.poll_output(now) else {
        panic!("no request");
    };
    assert!(!session.wants_input());
    for _ in 0..100 {
        session.handle_input(&[b'G'; 4_096], now);
    }
    assert!(session.input.len() <= HTTP_INPUT_BYTES_MAX);
    session.respond(HttpResponse::new(200), now);
    drain(&mut session, &mut seen, now);
    assert_eq!(seen.statuses(), [200]);
    assert!(seen.closed);
}

const UPGRADE: &str = "GET /v1/ws?roomID=r HTTP/1.1\r\nHost: a\r\nUpgrade: WebSocket\r\n\
    Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[test]
fn upgrade_hands_over_with_the_bytes_behind_it() {
    let seen = run(format!("{UPGRADE}frames"));
    assert_eq!(seen.upgraded.as_deref(), Some(b"frames".as_slice()));
    assert_eq!(
        seen.text(),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nConnection: Upgrade\r\n\r\n"
    );
}

#[test]
fn refused_upgrade_closes_so_that_frames_are_never_read_as_requests() {
    let now = start();
    let mut session = HttpSession::new(now);
    session.handle_input(format!("{UPGRADE}{CLEAN}").as_bytes(), now);
    assert!(matches!(session.poll_output(now), HttpOutput::Request(_)));
    session.respond(HttpResponse::error(403, "no"), now);
    let mut seen = Seen::default();
    drain(&mut session, &mut seen, now);
    assert!(seen.closed);
    assert!(seen.requests.is_empty());
}

#[test]
fn two_origins_are_no_origin_of_ours() {
    let seen = run("GET / HTTP/1.1\r\nHost: a\r\nOrigin: http://a\r\nOrigin: http://a\r\n\r\n");
    let request = &seen.requests[0];
    assert!(!crate::signalling::origin_allowed(
        request.origin.as_deref(),
        request.host.as_deref(),
        &[]
    ));
}

/// Requests and near-requests, as pieces that a generator can put together.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => Just(CLEAN.to_owned()),
        4 => "[a-z]{0,40}".prop_map(|body| format!(
            "POST /{body}?a=%41&b HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )),
        2 => Just("HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        1 => Just(UPGRADE.to_owned()),
        1 => Just("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_owned()),
        1 => Just("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab".to_owned()),
        1 => "[\\x00-\\x7f]{0,30}",
        1 => "(GET|PUT) /[a-z%./]{0,9} HTTP/1\\.[0-2]\r\n(Host: [a-z]{1,3}\r\n)?\r\n",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn same_bytes_are_the_same_requests_however_they_are_split(
        pieces in prop::collection::vec(piece(), 1..6),
        cuts in prop::collection::vec(1_usize..40, 1..200),
    ) {
        let input = pieces.concat();
        let whole = run(&input);
        let mut rest = input.as_bytes();
        let mut parts = Vec::new();
        for cut in cuts {
            let (part, after) = rest.split_at(cut.min(rest.len()));
            parts.push(part);
            rest = after;
        }
        parts.push(rest);
        let mut split = run_in(&parts);
        // After the upgrade bytes go to the WebSocket: only what came with the request is here.
        if let (Some(mine), Some(theirs)) = (&mut split.upgraded, &whole.upgraded) {
            prop_assert!(theirs.starts_with(mine));
            *mine = theirs.clone();
        }
        prop_assert_eq!(split, whole);
    }

    #[test]
    fn arbitrary_bytes_never_panic(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..8)) {
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        run_in(&parts);
    }
}
