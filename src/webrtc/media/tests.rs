//! What a viewer's feedback comes to; its player is made up.

use std::net::SocketAddr;
use std::sync::Arc;

use super::*;
use crate::ids::{Epoch, IdSource};
use crate::media::frame::{FrameSetHead, Rendition};
use crate::webrtc::codecs::VideoFormat;
use crate::webrtc::srtp::{SrtpKeys, SrtpProfile};
use crate::webrtc::track::Sources;

const PACKETS: usize = 30;

struct Rig {
    media: Media,
    player: SrtpSender,
    ssrc: u32,
    first_sequence: u16,
    frames: Vec<Arc<FrameSet>>,
    batch: SendBatch,
    now: Instant,
}

fn target() -> Target {
    (SocketAddr::from(([192, 0, 2, 9], 9)), None)
}

impl Rig {
    /// A viewer that was sent ten pictures.
    fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let now = Instant::now();
        let profile = SrtpProfile::AeadAes256Gcm;
        let keys = SrtpKeys::from_dtls(profile, &vec![7; profile.keying_material_bytes()]);
        let keys = keys.unwrap();
        let sources = Sources::new(&mut IdSource::seeded(4));
        let format = VideoFormat {
            payload_type: 102,
            rtx_payload_type: Some(103),
            playout_delay_id: None,
        };
        let tracks = Tracks::new(Some(format), None, &sources).unwrap();
        let timebase = Timebase::new(now, Duration::from_secs(1_700_000_000));
        let mut media = Media::new(tracks, "name".into(), timebase, 1, now);
        media.set_keys(
            SrtpSender::new(&keys).unwrap(),
            SrtcpReceiver::new(&keys).unwrap(),
        );
        let mut rig = Self {
            media,
            player: SrtpSender::new_client(&keys).unwrap(),
            ssrc: sources.ssrc(TrackKind::Video),
            first_sequence: 0,
            frames: Vec::new(),
            batch: SendBatch::default(),
            now,
        };
        for number in 0..10 {
            rig.picture(number);
        }
        rig
    }

    fn picture(&mut self, number: u64) {
        let head = FrameSetHead {
            track: TrackKind::Video,
            rendition: Rendition::Source,
            safe: true,
            epoch: Epoch(0),
            number,
            first_sequence: number * PACKETS as u64,
            key: number.is_multiple_of(10),
            disposable: false,
            pts: MediaTime::from_millis(33 * i64::try_from(number).unwrap()),
            received: self.now,
        };
        let ends = (1..=PACKETS).map(|end| u32::try_from(end * 1_000).unwrap());
        let frame = FrameSet::new(head, vec![5; PACKETS * 1_000], ends.collect()).unwrap();
        let frame = Arc::new(frame);
        self.now += Duration::from_millis(33);
        let sent = self
            .media
            .send(&frame, false, self.now, target(), &mut self.batch);
        assert_eq!(sent, Sent::Done);
        if number == 0 {
            let (_, train) = self.batch.trains().next().unwrap();
            self.first_sequence = u16::from_be_bytes([train[2], train[3]]);
        }
        self.frames.push(frame);
        self.batch.clear();
    }

    /// Asks for packets again; how many of them were looked up, and how many were sent.
    fn ask(&mut self, packets: std::ops::Range<u16>) -> (usize, usize) {
        let numbers: Vec<u16> = packets
            .map(|packet| self.first_sequence.wrapping_add(packet))
            .collect();
        let (mut plain, mut sealed) = (Vec::new(), Vec::new());
        rtcp::write_nack(&mut plain, 1, self.ssrc, &numbers);
        self.player.seal_rtcp(&plain, &mut sealed).unwrap();
        let mut events = VecDeque::new();
        assert!(self.media.handle_rtcp(&sealed, self.now, &mut events));
        let looked_up = events.len();
        for event in events {
            let ViewerEvent::Resend { sequence, .. } = event else {
                panic!("{event:?}");
            };
            let find = |frame: &&Arc<FrameSet>| frame.packet_index(sequence).is_some();
            let frame = self.frames.iter().find(find).unwrap();
            let packet = frame.packet_index(sequence).unwrap();
            self.media
                .resend(frame, packet, self.now, target(), &mut self.batch);
        }
        let sent = self.batch.datagrams();
        self.batch.clear();
        (looked_up, sent)
    }

    /// Asks for a keyframe; whether that was handed on.
    fn ask_keyframe(&mut self) -> bool {
        let (mut plain, mut sealed) = (Vec::new(), Vec::new());
        rtcp::write_pli(&mut plain, 1, self.ssrc);
        self.player.seal_rtcp(&plain, &mut sealed).unwrap();
        let mut events = VecDeque::new();
        assert!(self.media.handle_rtcp(&sealed, self.now, &mut events));
        events.contains(&ViewerEvent::KeyframeWanted)
    }

    /// Sends the pictures so far again, as fast as they may leave; `during` comes with each train.
    fn burst(&mut self, mut during: impl FnMut(&mut Self)) {
        let frames = self.frames.clone();
        let (first, newest) = (frames.first().unwrap(), frames.last().unwrap());
        self.media.begin_burst(first, newest);
        for frame in &frames {
            while let Sent::Paced(at) =
                self.media
                    .send(frame, false, self.now, target(), &mut self.batch)
            {
                self.now = at;
                self.batch.clear();
                during(self);
            }
        }
        self.batch.clear();
    }

    /// Asks for a keyframe every 100 ms for so long; when that was handed on, in milliseconds.
    fn ask_keyframes(&mut self, seconds: u64) -> Vec<u64> {
        let mut answered = Vec::new();
        for at in (0..seconds * 1_000).step_by(100) {
            if self.ask_keyframe() {
                answered.push(at);
            }
            self.now += Duration::from_millis(100);
        }
        answered
    }
}

#[test]
fn storm_of_requests_is_neither_sent_nor_looked_up_beyond_its_budget() {
    let mut rig = Rig::new();
    assert_eq!(rig.ask(3..7), (4, 4));
    let (mut looked_up, mut sent) = (0, 0);
    for _ in 0..50 {
        let (more, again) = rig.ask(0..300);
        looked_up += more;
        sent += again;
    }
    assert!((100..150).contains(&sent), "{sent} packets sent again");
    assert!(looked_up <= 600, "{looked_up} packets looked up");
    assert_eq!(rig.media.stats().nacks, 4 + 50 * 300);
    rig.now += Duration::from_secs(1);
    let (_, sent) = rig.ask(0..300);
    assert!((10..20).contains(&sent), "{sent} after a second");
}

#[test]
fn keyframe_request_does_not_begin_the_burst_anew_that_answers_the_last() {
    let mut rig = Rig::new();
    for number in 10..200 {
        rig.picture(number);
    }
    rig.now += Duration::from_secs(1);
    assert!(rig.ask_keyframe());
    let begun = rig.now;
    let mut asked = 0;
    rig.burst(|rig| {
        assert!(!rig.ask_keyframe(), "{:?}", rig.now - begun);
        asked += 1;
    });
    assert!(asked > 100);
    assert!(rig.now - begun > Duration::from_secs(1));
    assert!(rig.ask_keyframe(), "the burst is over, and was lost");
}

#[test]
fn keyframe_request_in_the_burst_of_a_join_is_answered() {
    let mut rig = Rig::new();
    let mut answered = 0;
    rig.burst(|rig| answered += u32::from(rig.ask_keyframe()));
    assert_eq!(answered, 1);
}

#[test]
fn repeated_keyframe_requests_are_answered_less_and_less_often() {
    let mut rig = Rig::new();
    let answered = rig.ask_keyframes(20);
    assert_eq!(
        answered,
        [0, 500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500]
    );
    rig.now += Duration::from_secs(1);
    assert!(!rig.ask_keyframe(), "none came meanwhile");
    rig.picture(10);
    assert_eq!(rig.ask_keyframes(2), [0, 500, 1_500]);
    rig.now += Duration::from_secs(10);
    assert_eq!(rig.ask_keyframes(2), [0, 500, 1_500], "another loss");
}
