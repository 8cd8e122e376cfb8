//! How viewers come in: HTTP/1.1 ([`http`], [`request`]), what its URLs mean ([`router`]), and the
//! two ways to a peer connection, WHEP ([`whep`]) and JSON over WebSocket ([`websocket`]).
//!
//! Pure state machines: bytes and `now` in; bytes, requests and messages out. They decide nothing
//! about rooms and viewers: control does.

pub mod allowance;
pub mod candidate;
pub mod http;
pub mod messages;
pub mod request;
pub mod response;
pub mod router;
pub mod websocket;
pub mod whep;

pub use allowance::Allowance;
pub use http::{HttpOutput, HttpSession};
pub use messages::{ClientMessage, ServerMessage, SharedMessage};
pub use request::{HttpRequest, Method, WebSocketUpgrade};
pub use response::HttpResponse;
pub use router::{Route, route};
pub use websocket::{WebSocketSession, WsOutput, accept_response, origin_allowed};
pub use whep::{Discovery, WhepRequest, WhepSession};
