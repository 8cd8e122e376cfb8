//! A transcode worker's thread: takes work from its inbox, gives packets back to the cores, and
//! minds the children that decode what the worker itself does not.

use std::sync::Arc;
use std::time::Duration;

use super::audio_child::Children;
use super::clock;
use super::core_loop::CoreMail;
use super::mailbox::{Mailbox, Postbox};
use crate::ids::CoreId;
use crate::messages::{TranscodeMsg, TranscodeReply};
use crate::metrics::TranscodeCounters;
use crate::transcode::{AudioSettings, Ended, Transcoder};

/// How often children's pipes are looked at.
const CHILDREN_EVERY: Duration = Duration::from_millis(5);

/// One worker.
#[derive(Debug)]
pub struct TranscodeLoop {
    inbox: Mailbox<TranscodeMsg>,
    cores: Vec<Postbox<CoreMail>>,
    settings: AudioSettings,
    /// The program that decodes what the worker does not.
    ffmpeg: String,
    counters: Arc<TranscodeCounters>,
}

impl TranscodeLoop {
    /// A worker that takes from `inbox` and answers to `cores`. `ffmpeg` is a name in `PATH`, or a
    /// path.
    #[must_use]
    pub fn new(
        inbox: Mailbox<TranscodeMsg>,
        cores: Vec<Postbox<CoreMail>>,
        settings: AudioSettings,
        ffmpeg: String,
        counters: Arc<TranscodeCounters>,
    ) -> Self {
        Self {
            inbox,
            cores,
            settings,
            ffmpeg,
            counters,
        }
    }

    /// Works until every core has dropped its side of the inbox.
    pub fn run(self) {
        let mut transcoder = Transcoder::new(self.settings);
        let mut children = Children::new(self.ffmpeg.clone());
        let mut look_at = clock::now();
        loop {
            let message = if children.is_empty() {
                self.inbox.wait().ok_or(true)
            } else {
                self.inbox.wait_until(look_at)
            };
            match message {
                Ok(message) => {
                    let is_unit = matches!(message, TranscodeMsg::Unit { .. });
                    self.counters.units.add(u64::from(is_unit));
                    transcoder.handle(message, &mut |core, reply| self.reply(core, reply));
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
            self.counters.streams.set_len(transcoder.streams());
            self.counters.concealed.set(transcoder.concealed());
            self.counters.panics.set(transcoder.faults());
        }
    }

    /// Does what the streams ask for.
    fn act(&self, transcoder: &mut Transcoder, children: &mut Children) {
        while let Some(action) = transcoder.poll_child() {
            if let Some((child, ended)) = children.act(action) {
                transcoder.child_ended(child, ended, &mut |core, reply| self.reply(core, reply));
            }
        }
    }

    /// Takes what the children made.
    fn serve(&self, transcoder: &mut Transcoder, children: &mut Children) {
        let ended = children.serve(&mut |child, bytes| {
            transcoder.child_output(child, bytes, &mut |core, reply| self.reply(core, reply));
        });
        for child in ended {
            transcoder.child_ended(child, Ended::Gone, &mut |core, reply| {
                self.reply(core, reply)
            });
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;

    use super::*;
    use crate::ids::PublisherId;
    use crate::media::codec::AudioConfig;
    use crate::media::flv::file::{TagKind, tags};
    use crate::media::time::MediaTime;
    use crate::runtime::mailbox::mailbox;

    /// Times that a sample of 0.8 s is played: until ffmpeg has begun, and longer.
    const ROUNDS: u32 = 8;
    const PUBLISHER: PublisherId = PublisherId(1);

    /// Plays a sample to a worker in real time. Returns for each packet when it came, against its
    /// own time, in milliseconds; and what the worker complained of.
    fn play(file: &str, config: AudioConfig, skip: usize) -> (Vec<i64>, Vec<String>) {
        let file = format!("{}/tests/data/audio/{file}", env!("CARGO_MANIFEST_DIR"));
        let file = Bytes::from(std::fs::read(file).unwrap());
        let (postbox, inbox) = mailbox(64, None);
        let (to_core, core) = mailbox(256, None);
        let settings = AudioSettings::default();
        let worker = TranscodeLoop::new(
            inbox,
            vec![to_core],
            settings,
            "ffmpeg".into(),
            Arc::default(),
        );
        let worker = std::thread::spawn(|| worker.run());
        postbox
            .post(TranscodeMsg::Open {
                core: CoreId(0),
                publisher: PUBLISHER,
                config,
            })
            .unwrap();
        let start = clock::now();
        let (mut late, mut complaints) = (Vec::new(), Vec::new());
        let mut listen = |until: Instant| {
            while let Ok(mail) = core.wait_until(until) {
                let CoreMail::Transcoded(reply) = mail else {
                    continue;
                };
                match reply {
                    TranscodeReply::Packet { pts, .. } => {
                        let now = clock::now().duration_since(start).as_millis();
                        late.push(i64::try_from(now).unwrap() - pts.as_micros() / 1_000);
                    }
                    TranscodeReply::Finished { .. } => {}
                    TranscodeReply::Unplayable { text, .. } => complaints.push(text),
                }
            }
        };
        // Packets that last to the sample's end and not beyond, again and again.
        let rounds = (0..ROUNDS).flat_map(|round| {
            let whole = tags(file.clone()).unwrap().filter(move |tag| {
                let audio = tag.kind == TagKind::Audio && tag.payload.len() > skip;
                audio && tag.timestamp_ms < 768
            });
            whole.map(move |tag| (round * 768 + tag.timestamp_ms, tag))
        });
        for (millis, tag) in rounds {
            listen(start + Duration::from_millis(u64::from(millis)));
            let unit = TranscodeMsg::Unit {
                publisher: PUBLISHER,
                pts: MediaTime::from_millis(i64::from(millis)),
                data: tag.payload.slice(skip..),
                received: clock::now(),
            };
            postbox.post(unit).unwrap();
        }
        listen(clock::now() + Duration::from_millis(300));
        drop(postbox);
        worker.join().unwrap();
        (late, complaints)
    }

    #[test]
    #[ignore = "needs ffmpeg"]
    fn ffmpeg_decodes_what_the_worker_does_not() {
        for (file, config, skip) in [
            ("ac3.flv", AudioConfig::Ac3, 5),
            ("ac3-5.1.flv", AudioConfig::Ac3, 5),
            ("eac3.flv", AudioConfig::Eac3, 5),
            ("speex.flv", AudioConfig::Speex, 1),
            (
                "nellymoser.flv",
                AudioConfig::Nellymoser { rate: 22_050 },
                1,
            ),
        ] {
            let (late, complaints) = play(file, config, skip);
            let mut settled = late[late.len() / 2..].to_vec();
            settled.sort_unstable();
            let (median, worst) = (settled[settled.len() / 2], settled[settled.len() - 1]);
            println!(
                "{file}: {} packets, the first late by {} ms, then {median}, at most {worst}",
                late.len(),
                late[0]
            );
            assert!(complaints.is_empty(), "{complaints:?}");
            assert!(late.len() >= 270, "{file}: {} packets", late.len());
        }
    }
}
