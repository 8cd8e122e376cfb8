//! What a URL of ours means. A pure table; methods, tokens and rooms are control's.

use super::request::HttpRequest;
use crate::ids::RoomName;
use crate::limits::VIEWER_NAME_CHARACTERS_MAX;

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/`: the list of live rooms, as a page.
    Index,
    /// `/ROOM`: the player's page.
    Page {
        /// The room.
        room: RoomName,
    },
    /// `/assets/NAME` and `/favicon.ico`: an embedded file.
    Asset {
        /// Its name, to be looked up, never opened.
        name: String,
    },
    /// `/ROOM/whep`, `/whep/ROOM`: where WHEP players ask to play.
    WhepEndpoint {
        /// The room.
        room: RoomName,
    },
    /// `/ROOM/whep/SESSION`: one WHEP player's session.
    WhepSession {
        /// The room.
        room: RoomName,
        /// The session's unguessable name.
        session: String,
    },
    /// `/v1/ws?roomID=…&clientID=…&clientName=…`.
    WebSocket {
        /// The room.
        room: RoomName,
        /// What the viewer calls itself in its own books. A label, never an identity: two
        /// viewers may say the same.
        client_id: Option<String>,
        /// The name that others see in the chat.
        client_name: Option<String>,
    },
    /// `/v1/health`.
    Health,
    /// `/v1/rooms`: the live rooms, as JSON.
    Rooms,
    /// `/v1/rooms/ROOM`: one room, as JSON.
    Room {
        /// The room.
        room: RoomName,
    },
    /// A URL of a room whose name is not legal, or missing.
    BadRoomName,
    /// Nothing of ours.
    NotFound,
}

/// Longest session name looked up, in bytes: ours have 22.
const SESSION_NAME_BYTES_MAX: usize = 64;

/// Says what a request is about.
#[must_use]
pub fn route(request: &HttpRequest) -> Route {
    let Some(path) = request.path.strip_prefix('/') else {
        return Route::NotFound;
    };
    // Some servers of this kind link to `/ROOM/`; the page is the same.
    let path = match path.strip_suffix('/') {
        Some(room) if !room.is_empty() && !room.contains('/') => room,
        Some(_) | None => path,
    };
    let segments: Vec<&str> = path.splitn(4, '/').collect();
    match segments.as_slice() {
        [""] => Route::Index,
        ["favicon.ico"] => Route::Asset {
            name: "favicon.ico".into(),
        },
        ["assets", ..] => asset(path),
        ["v1", rest @ ..] => api(rest, request),
        ["whep"] => Route::NotFound,
        ["whep", room] | [room, "whep"] => in_room(room, |room| Route::WhepEndpoint { room }),
        [room, "whep", session] => whep_session(room, session),
        [room] => in_room(room, |room| Route::Page { room }),
        _ => Route::NotFound,
    }
}

fn asset(path: &str) -> Route {
    match path.strip_prefix("assets/") {
        Some(name) if !name.is_empty() => Route::Asset { name: name.into() },
        Some(_) | None => Route::NotFound,
    }
}

fn api(segments: &[&str], request: &HttpRequest) -> Route {
    match segments {
        ["health"] => Route::Health,
        ["rooms"] => Route::Rooms,
        ["rooms", room] => in_room(room, |room| Route::Room { room }),
        ["ws"] => in_room(request.parameter("roomID").unwrap_or_default(), |room| {
            Route::WebSocket {
                room,
                client_id: request.parameter("clientID").and_then(label),
                client_name: request.parameter("clientName").and_then(label),
            }
        }),
        _ => Route::NotFound,
    }
}

fn whep_session(room: &str, session: &str) -> Route {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if session.len() > SESSION_NAME_BYTES_MAX || !session.bytes().all(legal) || session.is_empty() {
        return Route::NotFound;
    }
    in_room(room, |room| Route::WhepSession {
        room,
        session: session.into(),
    })
}

fn in_room(name: &str, then: impl FnOnce(RoomName) -> Route) -> Route {
    RoomName::parse(name).map_or(Route::BadRoomName, then)
}

/// Text that others will see: without control characters, cut to a length, `None` if nothing is
/// left.
fn label(text: &str) -> Option<String> {
    let text: String = text
        .chars()
        .filter(|c| !c.is_control())
        .take(VIEWER_NAME_CHARACTERS_MAX)
        .collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signalling::request::parse;

    fn route_of(target: &str) -> Route {
        let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        route(&parse(head.as_bytes()).unwrap().0)
    }

    fn room(name: &str) -> RoomName {
        RoomName::parse(name).unwrap()
    }

    #[test]
    fn each_url_of_ours_has_its_route() {
        let cam = || room("cam.1");
        let session = || Route::WhepSession {
            room: cam(),
            session: "abc-_9".into(),
        };
        let asset = |name: &str| Route::Asset { name: name.into() };
        for (target, expected) in [
            ("/", Route::Index),
            ("/?x=1", Route::Index),
            ("/cam.1", Route::Page { room: cam() }),
            ("/cam.1?muted=1", Route::Page { room: cam() }),
            ("/cam.1/", Route::Page { room: cam() }),
            ("/cam%2e1", Route::Page { room: cam() }),
            ("/assets/player.js", asset("player.js")),
            ("/assets/a/b.js", asset("a/b.js")),
            ("/assets/a/b/c/d.js", asset("a/b/c/d.js")),
            ("/favicon.ico", asset("favicon.ico")),
            ("/cam.1/whep", Route::WhepEndpoint { room: cam() }),
            ("/whep/cam.1", Route::WhepEndpoint { room: cam() }),
            ("/cam.1/whep/abc-_9", session()),
            ("/v1/health", Route::Health),
            ("/v1/rooms", Route::Rooms),
            ("/v1/rooms/cam.1", Route::Room { room: cam() }),
        ] {
            assert_eq!(route_of(target), expected, "{target}");
        }
    }

    #[test]
    fn names_that_are_no_room_are_said_to_be() {
        let long = format!("/{}", "a".repeat(129));
        for target in [
            "/a%20b",
            "/%3Cscript%3E",
            "/%C3%A9/whep",
            "/whep/a%22",
            "/a!/whep/abc",
            "/v1/rooms/a%20b",
            "/v1/ws",
            "/v1/ws?roomID=",
            "/v1/ws?roomID=a/b",
            &long,
        ] {
            assert_eq!(route_of(target), Route::BadRoomName, "{target}");
        }
    }

    #[test]
    fn everything_else_is_not_found() {
        let long = format!("/a/whep/{}", "x".repeat(65));
        for target in [
            "//",
            "//a",
            "/whep",
            "/v1",
            "/v1/",
            "/v1/whep",
            "/v1/rooms/a/b",
            "/v2/a",
            "/assets",
            "/assets/",
            "/a/b",
            "/a/whep/",
            "/a/whep/b/c",
            "/a/whep/b%20c",
            "/a/whep/b!",
            &long,
        ] {
            assert_eq!(route_of(target), Route::NotFound, "{target}");
        }
    }

    #[test]
    fn names_of_viewers_are_cut_and_cleaned() {
        let long = format!("/v1/ws?roomID=r&clientID={}", "x".repeat(99));
        let Route::WebSocket {
            client_id,
            client_name,
            ..
        } = route_of(&long)
        else {
            panic!("no WebSocket");
        };
        assert_eq!(client_id.map(|id| id.len()), Some(64));
        assert_eq!(client_name, None);

        let route =
            route_of("/v1/ws?clientName=+Zo%C3%AB%0d%0a%1b%5b2J%C2%85+&roomID=r&clientID=%0a");
        let expected = Route::WebSocket {
            room: room("r"),
            client_id: None,
            client_name: Some("Zo\u{eb}[2J".into()),
        };
        assert_eq!(route, expected);
    }
}
