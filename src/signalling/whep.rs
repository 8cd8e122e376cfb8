//! WHEP: playing by one HTTP exchange (draft-ietf-wish-whep, April 2026; RFC 8840 for PATCH).
//!
//! Pure functions: from a request to what it wants, and from what happened to the answer. Every
//! answer made here may be read by any page (`Access-Control-Allow-Origin: *`): access goes by token,
//! never by cookie.

use std::time::Duration;

use super::candidate::{self, Candidate};
use super::request::{HttpRequest, Method};
use super::response::HttpResponse;
use crate::ids::{RoomName, Secret};
use crate::limits::VIEWER_CANDIDATES_MAX;

/// What a WHEP player wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WhepRequest {
    /// To play.
    Play {
        /// Its SDP offer.
        offer: String,
    },
    /// To name more of its ICE candidates; answer with [`trickled`].
    Trickle {
        /// Those of them that we can use, as lines `candidate:…`.
        candidates: Vec<String>,
        /// It has no more.
        end_of_candidates: bool,
    },
    /// To begin ICE anew; answer with [`ice_restart_unsupported`].
    IceRestart,
    /// To end its session; answer with [`left`].
    Leave,
    /// To know what this URL is; answer with [`discovered`].
    Discover(Discovery),
}

/// How a player asks what a URL is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discovery {
    /// OPTIONS: a browser's permission to go on, or a question.
    Options,
    /// HEAD on an endpoint.
    Head,
    /// GET anywhere, and HEAD on a session.
    Get,
}

/// What must be remembered of a WHEP session to read its requests.
#[derive(Debug, Clone)]
pub struct WhepSession {
    etag: String,
    ice_ufrag: Option<String>,
    ice_pwd: Option<Secret>,
    candidates: usize,
}

const SDP: &str = "application/sdp";
const SDP_FRAGMENT: &str = "application/trickle-ice-sdpfrag";
const ENDPOINT_METHODS: &str = "OPTIONS, GET, HEAD, POST";
const SESSION_METHODS: &str = "OPTIONS, GET, HEAD, PATCH, DELETE";
/// Time that a browser may remember a permission: two hours, the most that Chromium allows.
const PREFLIGHT_SECONDS: &str = "7200";

impl WhepSession {
    /// Begins with the offer that was accepted. `etag` names its ICE session, without quotes.
    #[must_use]
    pub fn new(offer: &str, etag: String) -> Self {
        let first = |name: &str| {
            let mut lines = offer.lines();
            lines.find_map(|line| line.trim_end().strip_prefix(name).map(str::to_owned))
        };
        Self {
            etag,
            ice_ufrag: first("a=ice-ufrag:"),
            ice_pwd: first("a=ice-pwd:").map(Secret::new),
            candidates: 0,
        }
    }

    /// The name of its ICE session, without quotes.
    #[must_use]
    pub fn etag(&self) -> &str {
        &self.etag
    }

    /// RFC 9110 §13.1.1, strong comparison. `"*"` in quotes is what the draft's example shows.
    fn matches(&self, if_match: &str) -> bool {
        let is_ours = |tag: &str| {
            let tag = tag.trim();
            let inner = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
            tag == "*" || inner == Some("*") || inner == Some(&self.etag)
        };
        if_match.split(',').any(is_ours)
    }

    fn restarts(&self, fragment: &Fragment) -> bool {
        let differs = |known: Option<&str>, said: &Option<String>| {
            known.is_some() && said.is_some() && known != said.as_deref()
        };
        differs(self.ice_ufrag.as_deref(), &fragment.ice_ufrag)
            || differs(self.ice_pwd.as_ref().map(Secret::expose), &fragment.ice_pwd)
    }

    /// Leaves only as many candidates as a viewer may name. Surplus is dropped silently: a player
    /// may repeat those it named before.
    fn limit(&mut self, candidates: &mut Vec<String>) {
        candidates.truncate(VIEWER_CANDIDATES_MAX.saturating_sub(self.candidates));
        self.candidates += candidates.len();
    }
}

/// Reads a request to `/ROOM/whep`.
///
/// # Errors
/// The answer to a request that is wrong.
pub fn endpoint_request(request: &HttpRequest) -> Result<WhepRequest, HttpResponse> {
    match &request.method {
        Method::Options => Ok(WhepRequest::Discover(Discovery::Options)),
        Method::Head => Ok(WhepRequest::Discover(Discovery::Head)),
        Method::Get => Ok(WhepRequest::Discover(Discovery::Get)),
        Method::Post => offer(request).map(|offer| WhepRequest::Play { offer }),
        Method::Put | Method::Patch | Method::Delete | Method::Other(_) => {
            Err(method_not_allowed(ENDPOINT_METHODS))
        }
    }
}

/// Reads a request to `/ROOM/whep/SESSION`; `session` is `None` if there is no such session.
///
/// # Errors
/// The answer to a request that is wrong, or to nobody.
pub fn session_request(
    request: &HttpRequest,
    session: Option<&mut WhepSession>,
) -> Result<WhepRequest, HttpResponse> {
    match &request.method {
        Method::Options => return Ok(WhepRequest::Discover(Discovery::Options)),
        Method::Post | Method::Put | Method::Other(_) => {
            return Err(method_not_allowed(SESSION_METHODS));
        }
        Method::Get | Method::Head | Method::Patch | Method::Delete => {}
    }
    let Some(session) = session else {
        return Err(not_found());
    };
    match &request.method {
        Method::Patch => patch(request, session),
        Method::Delete => Ok(WhepRequest::Leave),
        Method::Get
        | Method::Head
        | Method::Options
        | Method::Post
        | Method::Put
        | Method::Other(_) => Ok(WhepRequest::Discover(Discovery::Get)),
    }
}

fn offer(request: &HttpRequest) -> Result<String, HttpResponse> {
    if request.media_type() != SDP {
        let text = "send the offer with Content-Type: application/sdp";
        return Err(error(415, text).header("Accept-Post", SDP));
    }
    let Ok(text) = std::str::from_utf8(&request.body) else {
        return Err(bad_offer("the offer is not text"));
    };
    if !text.starts_with("v=0") || text.contains('\0') {
        return Err(bad_offer("the offer is not SDP: it must begin with v=0"));
    }
    Ok(text.to_owned())
}

fn patch(request: &HttpRequest, session: &mut WhepSession) -> Result<WhepRequest, HttpResponse> {
    if request.media_type() != SDP_FRAGMENT {
        let text = "send candidates with Content-Type: application/trickle-ice-sdpfrag";
        return Err(error(415, text).header("Accept-Patch", SDP_FRAGMENT));
    }
    let Some(if_match) = &request.if_match else {
        return Err(error(428, "send the session's ETag in If-Match"));
    };
    if !session.matches(if_match) {
        return Err(error(412, "If-Match is not the ETag of this session"));
    }
    let text = std::str::from_utf8(&request.body).ok();
    let Some(fragment) = text.and_then(Fragment::parse) else {
        return Err(error(400, "the body is no SDP fragment (RFC 8840 §9)"));
    };
    if session.restarts(&fragment) {
        return Ok(WhepRequest::IceRestart);
    }
    let mut candidates = fragment.candidates;
    session.limit(&mut candidates);
    Ok(WhepRequest::Trickle {
        candidates,
        end_of_candidates: fragment.end_of_candidates,
    })
}

/// The part of an SDP fragment that concerns ICE (RFC 8840 §9).
#[derive(Debug, Default, PartialEq, Eq)]
struct Fragment {
    candidates: Vec<String>,
    ice_ufrag: Option<String>,
    ice_pwd: Option<String>,
    end_of_candidates: bool,
}

impl Fragment {
    /// Returns `None` if a line is no SDP line, a candidate is none, there are too many, or there
    /// is nothing.
    fn parse(text: &str) -> Option<Self> {
        let mut fragment = Self::default();
        let mut named = 0_usize;
        let mut lines = 0_usize;
        for line in text.lines().filter(|line| !line.is_empty()) {
            lines += 1;
            let (kind, value) = line.split_once('=')?;
            let is_sdp = kind.len() == 1 && kind.bytes().all(|byte| byte.is_ascii_lowercase());
            if !is_sdp || value.chars().any(char::is_control) {
                return None;
            }
            if kind != "a" {
                continue;
            }
            match value.split_once(':').unwrap_or((value, "")) {
                ("candidate", _) => {
                    named += 1;
                    fragment.add(value)?;
                }
                ("ice-ufrag", ufrag) => fragment.ice_ufrag = Some(ufrag.into()),
                ("ice-pwd", pwd) => fragment.ice_pwd = Some(pwd.into()),
                ("end-of-candidates", "") => fragment.end_of_candidates = true,
                _ => {}
            }
        }
        (lines > 0 && named <= VIEWER_CANDIDATES_MAX).then_some(fragment)
    }

    fn add(&mut self, line: &str) -> Option<()> {
        match candidate::parse(line) {
            Candidate::Usable(line) if self.candidates.len() < VIEWER_CANDIDATES_MAX => {
                self.candidates.push(line);
            }
            Candidate::Usable(_) | Candidate::Malformed => return None,
            Candidate::Unsupported => {}
        }
        Some(())
    }
}

/// 201: the session exists. `etag` without quotes; `ice_servers` as URLs (`stun:…`).
#[must_use]
pub fn accepted(
    room: &RoomName,
    session_id: &str,
    etag: &str,
    answer_sdp: &str,
    ice_servers: &[String],
) -> HttpResponse {
    let mut response = with_cors(HttpResponse::new(201))
        .header("Content-Type", SDP)
        .header("Location", format!("/{room}/whep/{session_id}"))
        .header("ETag", format!("\"{etag}\""))
        .header("Accept-Patch", SDP_FRAGMENT)
        .header("Cache-Control", "no-store");
    for server in ice_servers {
        response = response.header("Link", format!("<{server}>; rel=\"ice-server\""));
    }
    response.body(answer_sdp.as_bytes().to_vec())
}

/// The answer to [`WhepRequest::Discover`].
#[must_use]
pub fn discovered(discovery: Discovery) -> HttpResponse {
    match discovery {
        Discovery::Options => with_cors(HttpResponse::new(200))
            .header("Accept-Post", SDP)
            .header("Accept-Patch", SDP_FRAGMENT)
            .header(
                "Access-Control-Allow-Methods",
                "OPTIONS, GET, HEAD, POST, PATCH, DELETE",
            )
            .header(
                "Access-Control-Allow-Headers",
                "Authorization, Content-Type, If-Match",
            )
            .header("Access-Control-Max-Age", PREFLIGHT_SECONDS),
        Discovery::Head => with_cors(HttpResponse::new(200))
            .header("Content-Type", SDP)
            .header("Accept-Post", SDP),
        Discovery::Get => with_cors(HttpResponse::new(204)).header("Accept-Post", SDP),
    }
}

/// 204: candidates taken. Without ETag: the ICE session is the same.
#[must_use]
pub fn trickled() -> HttpResponse {
    with_cors(HttpResponse::new(204))
}

/// 200: the session is over.
#[must_use]
pub fn left() -> HttpResponse {
    with_cors(HttpResponse::new(200))
}

/// 409: nobody publishes to the room now; the player should ask again after that time.
#[must_use]
pub fn not_live(retry_after: Duration) -> HttpResponse {
    let text = "nobody publishes to this room now; try again later";
    with_retry_after(error(409, text), retry_after)
}

/// 400: the offer cannot be used. Never 406, which would carry an offer of ours.
#[must_use]
pub fn bad_offer(text: &str) -> HttpResponse {
    error(400, text)
}

/// 503: the server is full or stopping.
#[must_use]
pub fn unavailable(retry_after: Duration) -> HttpResponse {
    let text = "the server takes no more viewers now; try again later";
    with_retry_after(error(503, text), retry_after)
}

/// 429: this address asks too often.
#[must_use]
pub fn too_often(retry_after: Duration) -> HttpResponse {
    let text = "too many requests from this address; try again later";
    with_retry_after(error(429, text), retry_after)
}

/// 404: no such room or session.
#[must_use]
pub fn not_found() -> HttpResponse {
    error(404, "there is no such session or room")
}

/// 422: we trickle only; the session goes on as it is.
#[must_use]
pub fn ice_restart_unsupported() -> HttpResponse {
    error(422, "no ICE restart: end the session and begin a new one")
}

/// 405, naming the methods that would do.
#[must_use]
pub fn method_not_allowed(allow: &str) -> HttpResponse {
    with_cors(HttpResponse::method_not_allowed(allow))
}

/// Any other error of a WHEP URL.
#[must_use]
pub fn error(status: u16, text: &str) -> HttpResponse {
    with_cors(HttpResponse::error(status, text))
}

fn with_cors(response: HttpResponse) -> HttpResponse {
    response.header("Access-Control-Allow-Origin", "*").header(
        "Access-Control-Expose-Headers",
        "Location, ETag, Link, Accept-Post, Accept-Patch, Retry-After",
    )
}

/// Whole seconds, at least one: 0 would have players ask without a pause.
fn with_retry_after(response: HttpResponse, retry_after: Duration) -> HttpResponse {
    let seconds = retry_after.as_millis().div_ceil(1_000).max(1);
    response.header("Retry-After", seconds.to_string())
}

#[cfg(test)]
mod tests;
