//! HTTP/1.1 heads and bodies, routes and WHEP requests: whatever a peer sends, however it is
//! split, the same requests come out, and after a refusal none.
use std::time::Instant;

use rtmpeer::signalling::{HttpOutput, HttpRequest, HttpResponse, HttpSession, WhepSession};
use rtmpeer::signalling::{accept_response, origin_allowed, route, whep};

/// One input.
pub fn fuzz(data: &[u8]) {
    let now = Instant::now();
    let whole = run(&[data], now);
    let bytes: Vec<&[u8]> = data.chunks(1).collect();
    let split = run(&bytes, now);
    assert_eq!(whole.0, split.0, "other requests when split");
    assert_eq!(whole.1, split.1, "another end when split");
}

/// What a connection that is answered at once gave, and how it ended.
fn run(parts: &[&[u8]], now: Instant) -> (Vec<HttpRequest>, &'static str) {
    let mut session = HttpSession::new(now);
    let mut requests = Vec::new();
    let mut end = "open";
    // After the last part the peer ends its side: what is whole is answered, and no more comes.
    for part in parts.iter().map(Some).chain([None]) {
        match part {
            Some(part) => session.handle_input(part, now),
            None => session.handle_end(now),
        }
        loop {
            match session.poll_output(now) {
                HttpOutput::Transmit(_) => {}
                HttpOutput::Request(request) => {
                    assert_eq!(end, "open", "a request after the end");
                    let response = use_request(&request);
                    requests.push(request);
                    session.respond(response, now);
                }
                HttpOutput::Upgraded { .. } => end = "upgraded",
                HttpOutput::Close => end = "closed",
                HttpOutput::Timeout(_) => break,
            }
        }
    }
    assert_ne!(end, "open", "nothing ended a connection whose peer is done");
    (requests, end)
}

fn use_request(request: &HttpRequest) -> HttpResponse {
    assert!(request.path == "*" || request.path.starts_with('/'));
    assert!(!request.path.split('/').any(|segment| segment == ".."));
    let _ = route(request);
    let _ = origin_allowed(request.origin.as_deref(), request.host.as_deref(), &[]);
    let _ = whep::endpoint_request(request);
    let offer = String::from_utf8_lossy(&request.body);
    let mut session = WhepSession::new(&offer, "e".to_owned());
    let _ = whep::session_request(request, Some(&mut session));
    match &request.upgrade {
        Some(upgrade) => accept_response(upgrade),
        None => HttpResponse::new(204),
    }
}
