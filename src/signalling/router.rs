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
        Some(room) if !room.contains('/') => room,
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
