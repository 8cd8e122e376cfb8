//! A client of the WebSocket signalling, blocking.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tungstenite::{Message, WebSocket};

use super::server::PATIENCE;
use super::tls::{KitStream, KitTls};

/// A connected client.
pub struct KitSocket {
    socket: WebSocket<KitStream>,
}

impl KitSocket {
    /// Connects as `client` of a room.
    pub fn connect(server: SocketAddr, room: &str, client: &str, name: &str) -> Self {
        let query = format!("roomID={room}&clientID={client}&clientName={name}");
        Self::begin(KitStream::connect(server, None), server, &query)
    }

    /// The same with TLS.
    pub fn connect_tls(
        server: SocketAddr,
        tls: &KitTls,
        room: &str,
        client: &str,
        name: &str,
    ) -> Self {
        let query = format!("roomID={room}&clientID={client}&clientName={name}");
        Self::begin(KitStream::connect(server, Some(tls)), server, &query)
    }

    fn begin(stream: KitStream, server: SocketAddr, query: &str) -> Self {
        let url = format!("ws://{server}/v1/ws?{query}");
        let (socket, response) = tungstenite::client(url, stream).unwrap();
        assert_eq!(response.status().as_u16(), 101);
        Self { socket }
    }

    /// The next message, as its type, its data, and the whole.
    pub fn next(&mut self) -> (String, String, Value) {
        loop {
            match self.socket.read().unwrap() {
                Message::Text(text) => {
                    let value: Value = serde_json::from_str(&text).unwrap();
                    let field = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
                    return (field("type"), field("data"), value.clone());
                }
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    /// The data of the next message of a type; others are skipped.
    pub fn next_of(&mut self, kind: &str) -> String {
        loop {
            let (found, data, _) = self.next();
            if found == kind {
                return data;
            }
        }
    }

    /// Sends a message of a type with its data.
    pub fn send(&mut self, kind: &str, data: &str) {
        self.send_text(&serde_json::json!({ "type": kind, "data": data }).to_string());
    }

    /// Sends any text.
    pub fn send_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).unwrap();
    }

    /// Whether nothing of a type comes within `time`.
    pub fn is_silent_of(&mut self, kind: &str, time: Duration) -> bool {
        self.socket
            .get_ref()
            .tcp()
            .set_read_timeout(Some(time))
            .unwrap();
        let silent = loop {
            match self.socket.read() {
                Ok(Message::Text(text)) if text.contains(&format!("\"type\":\"{kind}\"")) => {
                    break false;
                }
                Ok(_) => {}
                Err(_) => break true,
            }
        };
        self.socket
            .get_ref()
            .tcp()
            .set_read_timeout(Some(PATIENCE))
            .unwrap();
        silent
    }
}
