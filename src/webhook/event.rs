//! What is told to the operator's webhook, as JSON, with the headers of Standard Webhooks
//! (standardwebhooks.com, specification 1.0).

use std::time::Duration;

use serde_json::{Map, Value};

use super::timestamp::rfc3339;
use crate::ids::{Epoch, RoomName};

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookEvent {
    /// Unguessable and unique; the same in every attempt, so that receivers can tell repeats.
    pub id: String,
    /// When it happened, since the Unix epoch.
    pub at: Duration,
    /// The room.
    pub room: RoomName,
    /// The publish: the same in its start and its end event.
    pub session: String,
    /// Number of the publish in this process.
    pub epoch: Epoch,
    /// What happened.
    pub kind: EventKind,
}

#[cfg(test)]
impl WebhookEvent {
    /// A publish's start, under this id.
    pub(crate) fn sample(id: &str) -> Self {
        Self::sample_of(id, "r")
    }

    /// The same of a room.
    pub(crate) fn sample_of(id: &str, room: &str) -> Self {
        Self {
            id: id.into(),
            at: Duration::ZERO,
            room: RoomName::parse(room).unwrap(),
            session: "s".into(),
            epoch: Epoch(1),
            kind: EventKind::StreamStarted {
                stream: Value::Null,
            },
        }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// A publisher was accepted.
    StreamStarted {
        /// What is known of the stream: its codecs, size and the verdict on its encoder. Null if
        /// nothing came soon enough.
        stream: Value,
    },
    /// Its publish ended.
    StreamEnded {
        /// Why, as a word (`PublishEnd::as_str`).
        reason: &'static str,
        /// How long it had been.
        duration: Duration,
    },
}

impl EventKind {
    /// The word in `type`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::StreamStarted { .. } => "stream.started",
            Self::StreamEnded { .. } => "stream.ended",
        }
    }
}

impl WebhookEvent {
    /// The request's body.
    #[must_use]
    pub fn json(&self) -> String {
        let mut object = Map::new();
        let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
        put("id", self.id.as_str().into());
        put("type", self.kind.as_str().into());
        put("timestamp", rfc3339(self.at).into());
        put("room", self.room.as_str().into());
        put("session", self.session.as_str().into());
        put("epoch", self.epoch.0.into());
        match &self.kind {
            EventKind::StreamStarted { stream } => {
                put("stream", stream.clone());
            }
            EventKind::StreamEnded { reason, duration } => {
                put("reason", (*reason).into());
                let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
                put("duration_ms", millis.into());
            }
        }
        Value::Object(object).to_string()
    }

    /// The request's headers, for an attempt at `wall` since the Unix epoch.
    #[must_use]
    pub fn headers(&self, wall: Duration) -> [(&'static str, String); 3] {
        [
            ("content-type", "application/json".to_owned()),
            ("webhook-id", self.id.clone()),
            ("webhook-timestamp", wall.as_secs().to_string()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventKind) -> WebhookEvent {
        WebhookEvent {
            id: "evt_AAAA".into(),
            at: Duration::from_millis(1_795_374_000_123),
            room: RoomName::parse("cam~1").unwrap(),
            session: "pub_BBBB".into(),
            epoch: Epoch(7),
            kind,
        }
    }

    /// Compared as values: the order of an object's members means nothing (RFC 8259 §4).
    fn assert_json(kind: EventKind, golden: &str) {
        let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(parse(&event(kind).json()), parse(golden));
    }

    #[test]
    fn stream_started_reads_as_documented() {
        assert_json(
            EventKind::StreamStarted {
                stream: serde_json::json!({ "video": "H.264 High" }),
            },
            r#"{"id":"evt_AAAA","type":"stream.started","timestamp":"2026-11-22T19:00:00.123Z",
                "room":"cam~1","session":"pub_BBBB","epoch":7,
                "stream":{"video":"H.264 High"}}"#,
        );
    }

    #[test]
    fn stream_ended_reads_as_documented() {
        assert_json(
            EventKind::StreamEnded {
                reason: "finished",
                duration: Duration::from_millis(1_500),
            },
            r#"{"id":"evt_AAAA","type":"stream.ended","timestamp":"2026-11-22T19:00:00.123Z",
                "room":"cam~1","session":"pub_BBBB","epoch":7,"reason":"finished",
                "duration_ms":1500}"#,
        );
    }

    #[test]
    fn the_id_stays_and_the_attempt_s_time_changes() {
        let event = event(EventKind::StreamStarted {
            stream: Value::Null,
        });
        let headers = |seconds| event.headers(Duration::from_secs(seconds));
        assert_eq!(headers(10)[1], ("webhook-id", "evt_AAAA".to_owned()));
        assert_eq!(headers(10)[2], ("webhook-timestamp", "10".to_owned()));
        assert_eq!(headers(12)[1], headers(10)[1]);
        assert_eq!(headers(12)[2].1, "12");
    }
}
