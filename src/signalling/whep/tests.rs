//! T-36, T-36b, T-37, T-39: what each method on each URL gets.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

const OFFER: &str = "v=0\r\na=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n";
const FRAGMENT: &str = "a=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n\
    a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n\
    a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw\r\n\
    a=candidate:3471623853 1 udp 2122194687 198.51.100.2 61765 typ host generation 0\r\n\
    a=candidate:473322822 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active generation 0\r\n\
    a=candidate:1 1 udp 2122260223 4d3e.local 9 typ host\r\na=end-of-candidates\r\n";

fn request(method: Method) -> HttpRequest {
    HttpRequest {
        method,
        path: "/r/whep".into(),
        query: Vec::new(),
        content_type: None,
        if_match: None,
        if_none_match: None,
        origin: None,
        host: Some("a".into()),
        authorization: None,
        upgrade: None,
        body: Bytes::new(),
    }
}

fn post(content_type: &str, body: &'static str) -> HttpRequest {
    HttpRequest {
        content_type: Some(content_type.into()),
        body: Bytes::from_static(body.as_bytes()),
        ..request(Method::Post)
    }
}

fn patch_with(if_match: Option<&str>, body: &str) -> HttpRequest {
    HttpRequest {
        content_type: Some(SDP_FRAGMENT.into()),
        if_match: if_match.map(str::to_owned),
        body: Bytes::copy_from_slice(body.as_bytes()),
        ..request(Method::Patch)
    }
}

fn session() -> WhepSession {
    WhepSession::new(OFFER, "xyzzy".into())
}

fn status_of(result: Result<WhepRequest, HttpResponse>) -> u16 {
    let response = result.expect_err("the request was taken");
    assert_eq!(response.field("Access-Control-Allow-Origin"), Some("*"));
    assert!(response.body.starts_with(br#"{"status":"error","error":""#));
    response.status
}

#[test]
fn endpoint_answers_each_method() {
    let ask = |method| endpoint_request(&request(method));
    let discover = |discovery| Ok(WhepRequest::Discover(discovery));
    assert_eq!(ask(Method::Options), discover(Discovery::Options));
    assert_eq!(ask(Method::Head), discover(Discovery::Head));
    assert_eq!(ask(Method::Get), discover(Discovery::Get));
    for method in [
        Method::Put,
        Method::Patch,
        Method::Delete,
        Method::Other("TRACE".into()),
    ] {
        let response = ask(method).unwrap_err();
        assert_eq!(response.status, 405);
        assert_eq!(response.field("Allow"), Some("OPTIONS, GET, HEAD, POST"));
    }
}

#[test]
fn session_answers_each_method() {
    let ask = |method| session_request(&request(method), Some(&mut session()));
    let discover = |discovery| Ok(WhepRequest::Discover(discovery));
    assert_eq!(ask(Method::Options), discover(Discovery::Options));
    assert_eq!(ask(Method::Get), discover(Discovery::Get));
    assert_eq!(ask(Method::Head), discover(Discovery::Get));
    assert_eq!(ask(Method::Delete), Ok(WhepRequest::Leave));
    for method in [Method::Post, Method::Put, Method::Other("TRACE".into())] {
        let response = ask(method).unwrap_err();
        assert_eq!(response.status, 405);
        assert_eq!(response.field("Allow"), Some(SESSION_METHODS));
    }
}

#[test]
fn unknown_session_is_404_but_a_browsers_permission_is_given() {
    for method in [Method::Get, Method::Head, Method::Patch, Method::Delete] {
        assert_eq!(status_of(session_request(&request(method), None)), 404);
    }
    assert!(session_request(&request(Method::Options), None).is_ok());
}

#[test]
fn delete_ignores_the_entity_tag() {
    let request = HttpRequest {
        if_match: Some("\"stale\"".into()),
        ..request(Method::Delete)
    };
    let asked = session_request(&request, Some(&mut session()));
    assert_eq!(asked, Ok(WhepRequest::Leave));
}

#[test]
fn discovery_is_answered_as_the_draft_says() {
    let options = discovered(Discovery::Options);
    assert_eq!(options.status, 200);
    assert_eq!(options.field("Accept-Post"), Some("application/sdp"));
    assert_eq!(
        options.field("Access-Control-Allow-Methods"),
        Some("OPTIONS, GET, HEAD, POST, PATCH, DELETE")
    );
    assert_eq!(
        options.field("Access-Control-Allow-Headers"),
        Some("Authorization, Content-Type, If-Match")
    );
    let head = discovered(Discovery::Head);
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.field("Content-Type"), Some("application/sdp"));
    let get = discovered(Discovery::Get);
    assert_eq!((get.status, get.body.len()), (204, 0));
}

#[test]
fn offer_must_be_sdp_of_the_right_type() {
    for content_type in ["application/sdp", "Application/SDP; charset=utf-8"] {
        let offer = endpoint_request(&post(content_type, OFFER));
        assert_eq!(
            offer,
            Ok(WhepRequest::Play {
                offer: OFFER.into()
            })
        );
    }
    for content_type in ["", "text/plain", "application/json", "application/sdpx"] {
        let refused = endpoint_request(&post(content_type, OFFER)).unwrap_err();
        assert_eq!(refused.status, 415);
        assert_eq!(refused.field("Accept-Post"), Some("application/sdp"));
    }
    for body in ["", "hello", "{\"sdp\":\"v=0\"}", "v=0\0"] {
        let refused = endpoint_request(&post("application/sdp", body));
        assert_eq!(status_of(refused), 400);
    }
    let mut binary = post("application/sdp", "");
    binary.body = Bytes::from_static(b"v=0\xff");
    assert_eq!(status_of(endpoint_request(&binary)), 400);
}

#[test]
fn accepted_session_names_itself_and_its_ice_servers() {
    let room = RoomName::parse("cam~1").unwrap();
    let servers = ["stun:stun.example.com:3478".to_owned(), "stun:b".to_owned()];
    let response = accepted(&room, "abc_-", "e1", "v=0\r\n", &servers);
    assert_eq!(response.status, 201);
    assert_eq!(response.field("Content-Type"), Some("application/sdp"));
    assert_eq!(response.field("Location"), Some("/cam~1/whep/abc_-"));
    assert_eq!(response.field("ETag"), Some("\"e1\""));
    assert_eq!(
        response.field("Accept-Patch"),
        Some("application/trickle-ice-sdpfrag")
    );
    let links: Vec<&str> = response
        .headers
        .iter()
        .filter(|(name, _)| *name == "Link")
        .map(|(_, value)| value.as_str())
        .collect();
    assert_eq!(
        links,
        [
            "<stun:stun.example.com:3478>; rel=\"ice-server\"",
            "<stun:b>; rel=\"ice-server\""
        ]
    );
    let exposed = response.field("Access-Control-Expose-Headers").unwrap();
    for name in ["Location", "ETag", "Link", "Accept-Patch", "Retry-After"] {
        assert!(exposed.split(", ").any(|field| field == name), "{name}");
    }
    assert_eq!(&response.body[..], b"v=0\r\n");
}

#[test]
fn absent_stream_and_full_server_say_when_to_ask_again() {
    let gone = not_live(Duration::from_millis(1_500));
    assert_eq!((gone.status, gone.field("Retry-After")), (409, Some("2")));
    let full = unavailable(Duration::ZERO);
    assert_eq!((full.status, full.field("Retry-After")), (503, Some("1")));
    let often = too_often(Duration::from_secs(1));
    assert_eq!((often.status, often.field("Retry-After")), (429, Some("1")));
}

#[test]
fn trickle_gives_the_usable_candidates_and_drops_the_others_silently() {
    for if_match in ["\"xyzzy\"", "*", "\"*\"", "\"other\", \"xyzzy\""] {
        let asked = session_request(&patch_with(Some(if_match), FRAGMENT), Some(&mut session()));
        let Ok(WhepRequest::Trickle {
            candidates,
            end_of_candidates,
        }) = asked
        else {
            panic!("{if_match}: {asked:?}");
        };
        assert!(end_of_candidates);
        assert_eq!(candidates.len(), 2);
        assert!(candidates[0].starts_with("candidate:1387637174 1 udp"));
    }
    let answer = trickled();
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    assert_eq!(answer.field("ETag"), None);
}

#[test]
fn patch_refuses_in_order_type_then_tag_then_body() {
    let ask = |request: &HttpRequest| status_of(session_request(request, Some(&mut session())));
    let mut wrong_type = patch_with(None, "");
    wrong_type.content_type = Some("application/sdp".into());
    assert_eq!(ask(&wrong_type), 415);
    assert_eq!(ask(&patch_with(None, "nonsense")), 428);
    for stale in ["\"stale\"", "xyzzy", "W/\"xyzzy\"", "\"xyzzy", ""] {
        assert_eq!(ask(&patch_with(Some(stale), FRAGMENT)), 412, "{stale}");
    }
    for body in [
        "",
        "\r\n",
        "nonsense",
        "aa=candidate",
        "A=mid:0",
        "a=mid:0\0",
        "a=candidate:nonsense",
        "a=candidate:1 1 udp 1 192.0.2.1 70000 typ host",
    ] {
        assert_eq!(ask(&patch_with(Some("*"), body)), 400, "{body:?}");
    }
}

#[test]
fn other_ice_credentials_are_a_restart() {
    let ask = |body: &str| session_request(&patch_with(Some("*"), body), Some(&mut session()));
    let new = FRAGMENT.replace("EsAw", "ysXw");
    assert_eq!(ask(&new), Ok(WhepRequest::IceRestart));
    let new = FRAGMENT.replace("P2uYro0UCOQ4zxjKXaWCBui1", "vw5LmwG4y/e6dPP/zAP9Gp5k");
    assert_eq!(ask(&new), Ok(WhepRequest::IceRestart));
    let unnamed = "a=end-of-candidates\r\n";
    assert!(matches!(ask(unnamed), Ok(WhepRequest::Trickle { .. })));
    assert_eq!(ice_restart_unsupported().status, 422);
}

#[test]
fn candidates_are_bounded_in_a_request_and_in_a_session() {
    let line = |n: usize| format!("a=candidate:{n} 1 udp 1 192.0.2.1 {n} typ host\r\n");
    let lines = |count: usize| (1..=count).map(line).collect::<String>();
    let mut session = session();
    let mut ask =
        |count: usize| session_request(&patch_with(Some("*"), &lines(count)), Some(&mut session));
    assert_eq!(status_of(ask(51)), 400);
    let taken = |asked: Result<WhepRequest, HttpResponse>| match asked {
        Ok(WhepRequest::Trickle { candidates, .. }) => candidates.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(taken(ask(30)), 30);
    assert_eq!(taken(ask(50)), 20);
    assert_eq!(taken(ask(50)), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_fragment_is_read_without_panic_and_within_the_bound(
        lines in prop::collection::vec("(a=candidate:|a=ice-ufrag:|a=|m=|)\\PC{0,40}", 0..60),
        if_match in proptest::option::of("[\"*,a-z/ ]{0,12}"),
    ) {
        let request = patch_with(if_match.as_deref(), &lines.join("\r\n"));
        if let Ok(WhepRequest::Trickle { candidates, .. }) =
            session_request(&request, Some(&mut session()))
        {
            prop_assert!(candidates.len() <= VIEWER_CANDIDATES_MAX);
        }
    }
}
