//! Webhooks: what happened ([`WebhookEvent`]) and when to send it ([`Outbox`]). The thread that
//! speaks HTTP is `runtime`'s.

pub mod event;
pub mod outbox;
pub mod timestamp;

pub use event::{EventKind, WebhookEvent};
pub use outbox::{Due, Outbox, Outcome, Verdict};
