//! A transcode worker's thread: takes work from its inbox, gives packets back to the cores.

use super::mailbox::{Mailbox, Postbox};
use super::core_loop::CoreMail;
use crate::ids::CoreId;
use crate::messages::{TranscodeMsg, TranscodeReply};
use crate::transcode::{AudioSettings, Transcoder};

/// One worker.
#[derive(Debug)]
pub struct TranscodeLoop {
    inbox: Mailbox<TranscodeMsg>,
    cores: Vec<Postbox<CoreMail>>,
    settings: AudioSettings,
}

impl TranscodeLoop {
    /// A worker that takes from `inbox` and answers to `cores`.
    #[must_use]
    pub fn new(
        inbox: Mailbox<TranscodeMsg>,
        cores: Vec<Postbox<CoreMail>>,
        settings: AudioSettings,
    ) -> Self {
        Self { inbox, cores, settings }
    }

    /// Works until every core has dropped its side of the inbox.
    pub fn run(self) {
        let mut transcoder = Transcoder::new(self.settings);
        while let Some(message) = self.inbox.wait() {
            transcoder.handle(message, &mut |core: CoreId, reply: TranscodeReply| {
                let Some(postbox) = self.cores.get(core.index()) else { return };
                if postbox.post(CoreMail::Transcoded(reply)).is_err() {
                    log::debug!("a transcoded packet found its core's mailbox full core={core}");
                }
            });
        }
    }
}
