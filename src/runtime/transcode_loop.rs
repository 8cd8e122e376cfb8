//! A transcode worker's thread: takes work from its inbox, gives packets back to the cores.

use std::sync::Arc;

use super::core_loop::CoreMail;
use super::mailbox::{Mailbox, Postbox};
use crate::ids::CoreId;
use crate::messages::{TranscodeMsg, TranscodeReply};
use crate::metrics::TranscodeCounters;
use crate::transcode::{AudioSettings, Transcoder};

/// One worker.
#[derive(Debug)]
pub struct TranscodeLoop {
    inbox: Mailbox<TranscodeMsg>,
    cores: Vec<Postbox<CoreMail>>,
    settings: AudioSettings,
    counters: Arc<TranscodeCounters>,
}

impl TranscodeLoop {
    /// A worker that takes from `inbox` and answers to `cores`.
    #[must_use]
    pub fn new(
        inbox: Mailbox<TranscodeMsg>,
        cores: Vec<Postbox<CoreMail>>,
        settings: AudioSettings,
        counters: Arc<TranscodeCounters>,
    ) -> Self {
        Self {
            inbox,
            cores,
            settings,
            counters,
        }
    }

    /// Works until every core has dropped its side of the inbox.
    pub fn run(self) {
        let mut transcoder = Transcoder::new(self.settings);
        while let Some(message) = self.inbox.wait() {
            transcoder.handle(message, &mut |core: CoreId, reply: TranscodeReply| {
                let Some(postbox) = self.cores.get(core.index()) else {
                    return;
                };
                self.counters.packets.inc();
                if postbox.post(CoreMail::Transcoded(reply)).is_err() {
                    self.counters.reply_drops.inc();
                }
            });
            self.counters.units.inc();
        }
    }
}
