//! A transcode worker's thread: takes work from its inbox, gives packets back to the cores, and
//! minds the children that decode what the worker itself does not.

use std::sync::Arc;
use std::time::Duration;

use super::audio_child::{Children, Ended};
use super::clock;
use super::core_loop::CoreMail;
use super::mailbox::{Mailbox, Postbox};
use crate::ids::CoreId;
use crate::messages::{TranscodeMsg, TranscodeReply};
use crate::metrics::TranscodeCounters;
use crate::transcode::{AudioSettings, Transcoder};

/// How often children's pipes are looked at.
const CHILDREN_EVERY: Duration = Duration::from_millis(5);

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
        let mut children = Children::default();
        let mut look_at = clock::now();
        loop {
            let message = if children.is_empty() {
                self.inbox.wait().ok_or(true)
            } else {
                self.inbox.wait_until(look_at)
            };
            match message {
                Ok(message) => {
                    transcoder.handle(message, &mut |core, reply| self.reply(core, reply));
                    self.counters.units.inc();
                }
                Err(true) => return,
                Err(false) => {}
            }
            self.act(&mut transcoder, &mut children);
            let now = clock::now();
            if !children.is_empty() && now >= look_at {
                look_at = now + CHILDREN_EVERY;
                self.serve(&mut transcoder, &mut children);
            }
        }
    }

    /// Does what the streams ask for.
    fn act(&self, transcoder: &mut Transcoder, children: &mut Children) {
        while let Some(action) = transcoder.poll_child() {
            if let Some((child, ended)) = children.act(action) {
                let missing = ended == Ended::Missing;
                transcoder.child_ended(child, missing, &mut |core, reply| self.reply(core, reply));
            }
        }
    }

    /// Takes what the children made.
    fn serve(&self, transcoder: &mut Transcoder, children: &mut Children) {
        let ended = children.serve(&mut |child, bytes| {
            transcoder.child_output(child, bytes, &mut |core, reply| self.reply(core, reply));
        });
        for child in ended {
            transcoder.child_ended(child, false, &mut |core, reply| self.reply(core, reply));
        }
    }

    fn reply(&self, core: CoreId, reply: TranscodeReply) {
        let Some(postbox) = self.cores.get(core.index()) else {
            return;
        };
        self.counters.packets.inc();
        if postbox.post(CoreMail::Transcoded(reply)).is_err() {
            self.counters.reply_drops.inc();
        }
    }
}
