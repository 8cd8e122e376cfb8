//! The simulation's video transcoder: gives every picture back in the order of showing, some pictures
//! later, as if it were made anew: keyframes are where it wants them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rtmpeer::ids::{CoreId, PublisherId};
use rtmpeer::media::codec::CodedFrame;
use rtmpeer::media::frame::{ParameterSets, VideoFrame};
use rtmpeer::media::time::MediaTime;
use rtmpeer::messages::{VideoMsg, VideoReply};

/// Pictures that may be sent before one that is shown before them.
pub const REORDERED: usize = 2;
/// Pictures from one keyframe to the next, unless one is asked for.
const KEYFRAME_PICTURES: u32 = 60;
/// Bytes of the length before each NAL unit.
const LENGTH_BYTES: usize = 4;
const SLICE: u8 = 1;
const IDR: u8 = 5;
const TYPE_MASK: u8 = 0x1f;

/// All streams.
#[derive(Debug, Default)]
pub struct FakeEncoder {
    streams: BTreeMap<PublisherId, Stream>,
    /// Why it takes none, and when to try again.
    pub fails: Option<(&'static str, Duration)>,
    /// Streams that began, and keyframes that were asked for.
    pub opened: u32,
    /// See `opened`.
    pub keyframes: u32,
}

#[derive(Debug)]
struct Stream {
    core: CoreId,
    waiting: BTreeMap<MediaTime, CodedFrame>,
    past: BTreeSet<MediaTime>,
    awaits_key: bool,
    key_next: bool,
    since_key: u32,
    last: Option<MediaTime>,
}

impl FakeEncoder {
    /// How many streams it has.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Takes a message; gives what it says to which core.
    pub fn handle(&mut self, message: VideoMsg) -> Vec<(CoreId, VideoReply)> {
        match message {
            VideoMsg::Open {
                core, publisher, ..
            } => return self.open(core, publisher),
            VideoMsg::Configure { publisher, .. } => {
                if let Some(stream) = self.streams.get_mut(&publisher) {
                    stream.begin();
                }
            }
            VideoMsg::Frame {
                publisher,
                frame,
                decode_only,
            } => {
                if let Some(stream) = self.streams.get_mut(&publisher) {
                    let made = stream.frame(frame, decode_only);
                    let core = stream.core;
                    let reply = |frame| (core, VideoReply::Frame { publisher, frame });
                    return made.into_iter().map(reply).collect();
                }
            }
            VideoMsg::Keyframe { publisher } => {
                self.keyframes += 1;
                if let Some(stream) = self.streams.get_mut(&publisher) {
                    stream.key_next = true;
                }
            }
            VideoMsg::Finish { publisher } => {
                if let Some(mut stream) = self.streams.remove(&publisher) {
                    let (core, made) = (stream.core, stream.out_of_more_than(0));
                    let frame = |frame| (core, VideoReply::Frame { publisher, frame });
                    let finished = (core, VideoReply::Finished { publisher });
                    return made.into_iter().map(frame).chain([finished]).collect();
                }
            }
            VideoMsg::Close { publisher } => {
                self.streams.remove(&publisher);
            }
        }
        Vec::new()
    }

    fn open(&mut self, core: CoreId, publisher: PublisherId) -> Vec<(CoreId, VideoReply)> {
        self.opened += 1;
        if let Some((text, after)) = self.fails {
            let failed = VideoReply::Failed {
                publisher,
                text: text.to_owned(),
                retry_after: Some(after),
            };
            return vec![(core, failed)];
        }
        let stream = Stream {
            core,
            waiting: BTreeMap::new(),
            past: BTreeSet::new(),
            awaits_key: true,
            key_next: true,
            since_key: 0,
            last: None,
        };
        let before = self.streams.insert(publisher, stream);
        assert!(before.is_none(), "a stream is opened twice");
        Vec::new()
    }

    /// Every encoder dies and begins anew.
    pub fn restart(&mut self) -> Vec<(CoreId, VideoReply)> {
        let restart = |(&publisher, stream): (&PublisherId, &mut Stream)| {
            stream.begin();
            (stream.core, VideoReply::Restart { publisher })
        };
        self.streams.iter_mut().map(restart).collect()
    }
}

impl Stream {
    fn begin(&mut self) {
        self.waiting.clear();
        self.past.clear();
        (self.awaits_key, self.key_next) = (true, true);
    }

    fn frame(&mut self, frame: CodedFrame, decode_only: bool) -> Vec<VideoFrame> {
        if self.awaits_key && !frame.key {
            // Of before a restart, on its way.
            return Vec::new();
        }
        self.awaits_key = false;
        if decode_only {
            self.past.insert(frame.pts);
        }
        self.waiting.insert(frame.pts, frame);
        self.out_of_more_than(REORDERED)
    }

    /// Makes pictures until so many wait.
    fn out_of_more_than(&mut self, most: usize) -> Vec<VideoFrame> {
        let mut made = Vec::new();
        while self.waiting.len() > most {
            let (pts, frame) = self.waiting.pop_first().unwrap();
            // After a stall of its publisher a picture may be due before what was shown: as of a
            // real encoder, nothing comes of it.
            if !self.past.remove(&pts) && self.last < Some(pts) {
                made.push(self.make(&frame));
            }
        }
        made
    }

    fn make(&mut self, frame: &CodedFrame) -> VideoFrame {
        assert!(self.last < Some(frame.pts), "a picture is made again");
        self.last = Some(frame.pts);
        let key = std::mem::take(&mut self.key_next) || self.since_key >= KEYFRAME_PICTURES;
        self.since_key = if key { 0 } else { self.since_key + 1 };
        let mut data = Vec::new();
        let mut nal_units = Vec::new();
        for unit in units(&frame.data) {
            let (first, rest) = unit.split_first().unwrap();
            if [SLICE, IDR].contains(&(first & TYPE_MASK)) {
                let start = data.len();
                let kind = if key { IDR } else { SLICE };
                data.push((first & !TYPE_MASK) | kind);
                data.extend_from_slice(rest);
                nal_units.push(start..data.len());
            }
        }
        let sets = ParameterSets {
            nal_units: vec![
                vec![0x67, 0x42, 0xc0, 0x1f, 1].into(),
                vec![0x68, 0xce, 0x3c, 0x80].into(),
            ],
        };
        VideoFrame {
            pts: frame.pts,
            dts: frame.pts,
            key,
            recovery: false,
            disposable: false,
            parameter_sets: key.then(|| Arc::new(sets)),
            data: data.into(),
            start: 0,
            nal_units,
            received: frame.received,
        }
    }
}

fn units(data: &[u8]) -> VecDeque<&[u8]> {
    let (mut rest, mut units) = (data, VecDeque::new());
    while let Some((length, after)) = rest.split_first_chunk::<LENGTH_BYTES>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap();
        let (unit, after) = after.split_at(length);
        units.push_back(unit);
        rest = after;
    }
    units
}
