//! The JSON vocabulary of the WebSocket: one object a message, `type` and `data`, both text.
//!
//! The words are those of the Go server that existing clients were written for; `error` is ours.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tungstenite::Utf8Bytes;

use super::candidate::{self, Candidate};
use crate::ids::RoomName;
use crate::limits::CHAT_CHARACTERS_MAX;

/// What a viewer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientMessage {
    /// Its SDP answer to our offer.
    Answer(String),
    /// One ICE candidate that we can use: a line `candidate:…` (RFC 8839 §5.1).
    Candidate(String),
    /// A line of chat, for everyone in the room.
    Chat(String),
}

/// What we say to a viewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerMessage {
    /// Our SDP offer, to be answered.
    GetOffer {
        /// The SDP.
        sdp: String,
    },
    /// One of our ICE candidates.
    GetCandidate {
        /// The candidate line.
        candidate: String,
        /// `mid` of its m-section.
        sdp_mid: Option<String>,
        /// Position of its m-section, from 0.
        sdp_m_line_index: Option<u16>,
    },
    /// Whether somebody publishes to the room: at join and at each change.
    IsPublishing {
        /// Whether somebody does.
        live: bool,
        /// The room.
        room: RoomName,
    },
    /// A line of chat.
    GetChat {
        /// The line.
        text: String,
        /// Who said it, as they call themselves.
        client_name: String,
        /// When, in RFC 3339.
        timestamp_rfc3339: String,
    },
    /// Something the viewer said could not be used.
    Error {
        /// What is wrong and what to do.
        text: String,
    },
}

/// A message for one or for many: its JSON text is made once, and all copies share it.
#[derive(Debug, Clone)]
pub struct SharedMessage {
    message: Arc<ServerMessage>,
    json: Utf8Bytes,
}

#[derive(Deserialize)]
struct ClientJson {
    r#type: String,
    #[serde(default)]
    data: Value,
}

/// RTCIceCandidateInit (W3C WebRTC §4.8.1.1), as far as we need it.
#[derive(Deserialize, Serialize)]
struct CandidateJson {
    candidate: String,
    #[serde(rename = "sdpMid", default)]
    sdp_mid: Option<String>,
    #[serde(rename = "sdpMLineIndex", default)]
    sdp_m_line_index: Option<u16>,
}

#[derive(Serialize)]
struct ServerJson<'a> {
    r#type: &'static str,
    data: &'a str,
    #[serde(rename = "fromClientID", skip_serializing_if = "Option::is_none")]
    from_client_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<&'a str>,
}

impl ClientMessage {
    /// Reads one message. `None` is a legal message that asks nothing of us: the end of
    /// candidates, or a candidate of a kind we do not use.
    ///
    /// # Errors
    /// What is wrong with the message (the viewer's fault) and what to do, for
    /// [`ServerMessage::Error`].
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        let message: ClientJson = serde_json::from_str(text).map_err(|error| {
            format!("not understood: send {{\"type\":\"…\",\"data\":\"…\"}} ({error})")
        })?;
        match message.r#type.as_str() {
            "answer" => answer(message.data).map(Some),
            "candidate" => candidate_of(message.data),
            "chat" => chat(message.data).map(Some),
            _ => Err("type must be \"answer\", \"candidate\" or \"chat\"".into()),
        }
    }
}

fn answer(data: Value) -> Result<ClientMessage, String> {
    match data {
        Value::String(sdp) if sdp.starts_with("v=0") && !sdp.contains('\0') => {
            Ok(ClientMessage::Answer(sdp))
        }
        Value::String(_)
        | Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::Array(_)
        | Value::Object(_) => Err("answer: data must be the SDP text, beginning with v=0".into()),
    }
}

fn candidate_of(data: Value) -> Result<Option<ClientMessage>, String> {
    let wrong = "candidate: data must be a line \"candidate:…\" or the JSON text of one";
    let line = match data {
        // What `JSON.stringify(null)` gives at the end of gathering.
        Value::Null => return Ok(None),
        Value::String(text) if text.trim() == "null" => return Ok(None),
        Value::String(text) if text.trim_start().starts_with('{') => {
            let init: CandidateJson =
                serde_json::from_str(&text).map_err(|error| format!("{wrong} ({error})"))?;
            init.candidate
        }
        Value::String(line) => line,
        object @ Value::Object(_) => {
            let init: CandidateJson =
                serde_json::from_value(object).map_err(|error| format!("{wrong} ({error})"))?;
            init.candidate
        }
        Value::Bool(_) | Value::Number(_) | Value::Array(_) => return Err(wrong.into()),
    };
    if line.trim().is_empty() {
        return Ok(None);
    }
    match candidate::parse(&line) {
        Candidate::Usable(line) => Ok(Some(ClientMessage::Candidate(line))),
        Candidate::Unsupported => Ok(None),
        Candidate::Malformed => Err(wrong.into()),
    }
}

fn chat(data: Value) -> Result<ClientMessage, String> {
    let Value::String(text) = data else {
        return Err("chat: data must be text".into());
    };
    // Line breaks and tabs are text; other control characters could steer a terminal.
    let printable = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
    let text: String = text.chars().filter(printable).collect();
    if text.trim().is_empty() {
        return Err("chat: the text is empty".into());
    }
    if text.chars().count() > CHAT_CHARACTERS_MAX {
        return Err(format!(
            "chat: send at most {CHAT_CHARACTERS_MAX} characters"
        ));
    }
    Ok(ClientMessage::Chat(text))
}

impl ServerMessage {
    /// The message as JSON text.
    #[must_use]
    pub fn to_json(&self) -> String {
        const SERVER: Option<&str> = Some("server");
        let live = |live: &bool| if *live { "true" } else { "false" };
        match self {
            Self::GetOffer { sdp } => write("getOffer", sdp, SERVER, None),
            Self::GetCandidate {
                candidate,
                sdp_mid,
                sdp_m_line_index,
            } => {
                let init = CandidateJson {
                    candidate: candidate.clone(),
                    sdp_mid: sdp_mid.clone(),
                    sdp_m_line_index: *sdp_m_line_index,
                };
                let data = serde_json::to_string(&init).unwrap_or_default();
                write("getCandidate", &data, SERVER, None)
            }
            Self::IsPublishing { live: is, room } => {
                write("isPublishing", live(is), Some(room.as_str()), None)
            }
            Self::GetChat {
                text,
                client_name,
                timestamp_rfc3339,
            } => write("getChat", text, Some(client_name), Some(timestamp_rfc3339)),
            Self::Error { text } => write("error", text, None, None),
        }
    }
}

impl SharedMessage {
    /// Makes the text.
    #[must_use]
    pub fn new(message: ServerMessage) -> Self {
        let json = message.to_json().into();
        let message = Arc::new(message);
        Self { message, json }
    }

    /// What is said.
    #[must_use]
    pub fn message(&self) -> &ServerMessage {
        &self.message
    }

    /// The JSON text's length, in bytes.
    #[must_use]
    pub fn json_len(&self) -> usize {
        self.json.len()
    }

    /// The JSON text: no copy of it.
    pub(super) fn text(&self) -> Utf8Bytes {
        self.json.clone()
    }
}

fn write(
    kind: &'static str,
    data: &str,
    from_client_id: Option<&str>,
    timestamp: Option<&str>,
) -> String {
    let message = ServerJson {
        r#type: kind,
        data,
        from_client_id,
        timestamp,
    };
    // Text cannot fail to be written as JSON; the empty message would be ignored by any client.
    serde_json::to_string(&message).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINE: &str = "candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host";

    fn parse(text: &str) -> Result<Option<ClientMessage>, String> {
        ClientMessage::parse(text)
    }

    /// The strings that clients of the Go server read: not a byte may change.
    #[test]
    fn server_messages_are_exactly_these_texts() {
        let room = RoomName::parse("demo").unwrap();
        let golden = [
            (
                ServerMessage::GetOffer {
                    sdp: "v=0\r\ns=\"x\"\r\n".into(),
                },
                r#"{"type":"getOffer","data":"v=0\r\ns=\"x\"\r\n","fromClientID":"server"}"#,
            ),
            (
                ServerMessage::GetCandidate {
                    candidate: "candidate:1 1 udp 1 192.0.2.1 8189 typ host".into(),
                    sdp_mid: Some("0".into()),
                    sdp_m_line_index: Some(0),
                },
                r#"{"type":"getCandidate","data":"{\"candidate\":\"candidate:1 1 udp 1 192.0.2.1 8189 typ host\",\"sdpMid\":\"0\",\"sdpMLineIndex\":0}","fromClientID":"server"}"#,
            ),
            (
                ServerMessage::GetCandidate {
                    candidate: String::new(),
                    sdp_mid: None,
                    sdp_m_line_index: None,
                },
                r#"{"type":"getCandidate","data":"{\"candidate\":\"\",\"sdpMid\":null,\"sdpMLineIndex\":null}","fromClientID":"server"}"#,
            ),
            (
                ServerMessage::IsPublishing {
                    live: true,
                    room: room.clone(),
                },
                r#"{"type":"isPublishing","data":"true","fromClientID":"demo"}"#,
            ),
            (
                ServerMessage::IsPublishing { live: false, room },
                r#"{"type":"isPublishing","data":"false","fromClientID":"demo"}"#,
            ),
            (
                ServerMessage::GetChat {
                    text: "hi </script>\n\u{1f600}".into(),
                    client_name: "Zo\u{eb}".into(),
                    timestamp_rfc3339: "2026-11-05T12:00:00Z".into(),
                },
                "{\"type\":\"getChat\",\"data\":\"hi </script>\\n\u{1f600}\",\"fromClientID\":\"Zo\u{eb}\",\"timestamp\":\"2026-11-05T12:00:00Z\"}",
            ),
            (
                ServerMessage::Error {
                    text: "wait for the offer".into(),
                },
                r#"{"type":"error","data":"wait for the offer"}"#,
            ),
        ];
        for (message, text) in golden {
            assert_eq!(message.to_json(), text);
        }
    }

    #[test]
    fn answer_and_chat_are_read_whatever_else_stands_there() {
        assert_eq!(
            parse(r#"{"data":"v=0\r\n","type":"answer","fromClientID":"x","to":null}"#),
            Ok(Some(ClientMessage::Answer("v=0\r\n".into())))
        );
        assert_eq!(
            parse(r#"{"type":"chat","data":"a\u001b[2J\tb\u0000"}"#),
            Ok(Some(ClientMessage::Chat("a[2J\tb".into())))
        );
    }

    #[test]
    fn candidate_may_be_a_line_or_a_json_text_or_an_object() {
        let expected = Ok(Some(ClientMessage::Candidate(LINE.into())));
        let init = format!(r#"{{"candidate":"{LINE}","sdpMid":"0","sdpMLineIndex":0}}"#);
        let escaped = init.replace('"', "\\\"");
        assert_eq!(
            parse(&format!(r#"{{"type":"candidate","data":"{LINE}"}}"#)),
            expected
        );
        assert_eq!(
            parse(&format!(r#"{{"type":"candidate","data":"{escaped}"}}"#)),
            expected
        );
        assert_eq!(
            parse(&format!(r#"{{"type":"candidate","data":{init}}}"#)),
            expected
        );
    }

    #[test]
    fn end_of_candidates_and_unusable_ones_ask_nothing() {
        for data in [
            r#""""#,
            "null",
            r#""null""#,
            r#""{\"candidate\":\"\",\"sdpMid\":\"0\"}""#,
            r#""candidate:1 1 tcp 1 192.0.2.1 9 typ host tcptype active""#,
            r#""candidate:1 1 udp 1 abc.local 9 typ host""#,
        ] {
            let text = format!(r#"{{"type":"candidate","data":{data}}}"#);
            assert_eq!(parse(&text), Ok(None), "{data}");
        }
        assert_eq!(parse(r#"{"type":"candidate"}"#), Ok(None));
    }

    #[test]
    fn messages_that_are_not_understood_say_what_to_do() {
        let long = format!(r#"{{"type":"chat","data":"{}"}}"#, "x".repeat(2_001));
        let deep = format!(r#"{{"type":"chat","data":{}}}"#, "[".repeat(60_000));
        for (text, word) in [
            ("", "not understood"),
            ("hello", "not understood"),
            ("[]", "not understood"),
            ("{}", "not understood"),
            (r#"{"type":1,"data":"x"}"#, "not understood"),
            (
                r#"{"type":"answer","type":"chat","data":"v=0"}"#,
                "not understood",
            ),
            (&deep, "not understood"),
            (r#"{"type":"offer","data":"v=0"}"#, "type must be"),
            (r#"{"type":"answer"}"#, "v=0"),
            (r#"{"type":"answer","data":""}"#, "v=0"),
            (r#"{"type":"answer","data":"v=0\u0000"}"#, "v=0"),
            (r#"{"type":"answer","data":{"sdp":"v=0"}}"#, "v=0"),
            (r#"{"type":"candidate","data":7}"#, "candidate:"),
            (r#"{"type":"candidate","data":"x"}"#, "candidate:"),
            (r#"{"type":"candidate","data":"{}"}"#, "candidate:"),
            (
                r#"{"type":"candidate","data":"{\"candidate\":7}"}"#,
                "candidate:",
            ),
            (r#"{"type":"chat","data":" \n "}"#, "empty"),
            (r#"{"type":"chat","data":true}"#, "text"),
            (&long, "2000 characters"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,80}", kind in "(answer|candidate|chat)") {
            let _ = parse(&text);
            let data = serde_json::to_string(&text).unwrap();
            let _ = parse(&format!(r#"{{"type":"{kind}","data":{data}}}"#));
        }
    }
}
