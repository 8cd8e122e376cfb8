//! What HTTP requests get: pages and files, health, the list of rooms; WHEP and WebSocket are
//! `joining`'s.

use std::time::Instant;

use serde_json::{Value, json};

use super::{Control, Ends, RoomStatus};
use crate::ids::{ConnId, RoomName};
use crate::signalling::{HttpRequest, HttpResponse, Method, Route, route};
use crate::web;

/// What pages and JSON take.
const READ_METHODS: &str = "GET, HEAD";

impl Control {
    /// Takes an HTTP request; it is answered by [`Respond`] or [`Upgrade`], at once or after its
    /// viewer's core has made the SDP.
    ///
    /// [`Respond`]: super::ControlOutput::Respond
    /// [`Upgrade`]: super::ControlOutput::Upgrade
    pub fn handle_request(&mut self, conn: ConnId, ends: Ends, request: HttpRequest, now: Instant) {
        // A connection asks one thing at a time: whatever it waited for is given up.
        if let Some(viewer) = self.directory.viewer_of_conn(conn) {
            self.remove_viewer(viewer);
        }
        match route(&request) {
            Route::WhepEndpoint { room } => {
                self.whep_endpoint(conn, ends, &room, &request, now);
            }
            Route::WhepSession { room, session } => {
                self.whep_session(conn, &room, &session, &request);
            }
            Route::WebSocket {
                room,
                client_id,
                client_name,
            } => {
                let name = client_name.or(client_id);
                self.join_by_websocket(conn, ends, &room, name, &request, now);
            }
            Route::Index => self.page(conn, &request, Some(web::index())),
            Route::Page { room: _ } => self.page(conn, &request, Some(web::page())),
            Route::Asset { name } => {
                // Browsers ask for the icon by this name, whatever the page says.
                let name = match name.as_str() {
                    "favicon.ico" => "icon.svg",
                    name => name,
                };
                self.page(conn, &request, web::asset(name));
            }
            Route::Health => {
                let (status, word) = match self.is_serving() {
                    true => (200, "ready"),
                    false => (503, "stopping"),
                };
                self.json(conn, &request, status, &json!({ "status": word }));
            }
            Route::Rooms => {
                let rooms: Vec<Value> = self.rooms().iter().map(RoomStatus::json).collect();
                let body = json!({
                    "rooms": rooms,
                    "rtmp_port": self.config.rtmp_port,
                    "rtmps_port": self.config.rtmps_port,
                });
                self.json(conn, &request, 200, &body);
            }
            Route::Room { room } => self.room(conn, &request, &room),
            Route::BadRoomName => {
                let text = "a room's name is 1 to 128 of the characters A-Z a-z 0-9 . _ ~ -";
                self.respond(conn, HttpResponse::error(400, text));
            }
            Route::NotFound => {
                self.respond(conn, HttpResponse::error(404, "there is nothing here"));
            }
        }
        self.settle();
    }

    fn room(&mut self, conn: ConnId, request: &HttpRequest, name: &RoomName) {
        let Some(room) = self.directory.room_named(name) else {
            let text = "nobody publishes to this room or waits in it";
            let response = HttpResponse::error(404, text);
            self.respond(conn, response.header("Access-Control-Allow-Origin", "*"));
            return;
        };
        let status = RoomStatus::of(room, &self.directory).full_json();
        let response = json_response(request, 200, &status);
        // Whoever knows the name may ask, as he may watch: a player on another site does.
        self.respond(conn, response.header("Access-Control-Allow-Origin", "*"));
    }

    fn json(&mut self, conn: ConnId, request: &HttpRequest, status: u16, body: &Value) {
        self.respond(conn, json_response(request, status, body));
    }

    fn page(&mut self, conn: ConnId, request: &HttpRequest, asset: Option<web::Asset>) {
        let response = match asset {
            None => HttpResponse::error(404, "there is no such file"),
            Some(_) if !reads(request) => HttpResponse::method_not_allowed(READ_METHODS),
            Some(asset) => asset_response(request, &asset),
        };
        self.respond(conn, response);
    }
}

fn json_response(request: &HttpRequest, status: u16, body: &Value) -> HttpResponse {
    match reads(request) {
        true => HttpResponse::json(status, body.to_string()),
        false => HttpResponse::method_not_allowed(READ_METHODS),
    }
}

fn reads(request: &HttpRequest) -> bool {
    match request.method {
        Method::Get | Method::Head => true,
        Method::Post
        | Method::Put
        | Method::Patch
        | Method::Delete
        | Method::Options
        | Method::Other(_) => false,
    }
}

fn asset_response(request: &HttpRequest, asset: &web::Asset) -> HttpResponse {
    // Weak comparison (RFC 9110 §13.1.2): a proxy that compresses makes our tag weak.
    let is_known = |tag: &str| {
        let tag = tag.trim();
        tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == asset.etag
    };
    let unchanged = request.if_none_match.as_deref();
    let unchanged = unchanged.is_some_and(|tags| tags.split(',').any(is_known));
    let response = HttpResponse::new(if unchanged { 304 } else { 200 })
        .header("ETag", asset.etag.as_str())
        // A new version of the server shows at once; until then a look costs a 304.
        .header("Cache-Control", "no-cache")
        .header("Content-Security-Policy", web::CONTENT_SECURITY_POLICY)
        .header("X-Content-Type-Options", "nosniff")
        .header("Referrer-Policy", "same-origin");
    if unchanged {
        return response;
    }
    response
        .header("Content-Type", asset.mime)
        .body(asset.bytes)
}
