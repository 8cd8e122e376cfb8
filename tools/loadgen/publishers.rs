//! Publishers, one per room, on one thread: RTMP over TCP in real time, each write's instant kept.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rtmpeer::runtime::now;
use socket2::{Domain, Socket, Type};

use crate::frames::{
    Clip, FRAME_RATE, KEYFRAME_EVERY, KEYFRAME_INTERVAL, Sounds, frame_time_ms, stamped,
};
use crate::kit_publisher::{KitPublisher, Progress};
use crate::{Failure, clock};

const PATIENCE: Duration = Duration::from_secs(10);
const READ_BYTES: usize = 16_384;
/// Publishers that come from one loopback address; the server takes 64.
const PUBLISHERS_PER_ADDRESS: usize = 32;

/// When each frame of a room was written: nanoseconds since 1970, by the frame's number.
pub(crate) type Written = Vec<i64>;

/// Running publishers.
pub(crate) struct Publishers {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Written>, String>>,
}

/// The name of a room.
pub(crate) fn room_name(room: usize) -> String {
    format!("load{room}")
}

impl Publishers {
    /// Publishes to `rooms` rooms; all are accepted when it returns.
    pub(crate) fn start(
        server: SocketAddr,
        rooms: usize,
        clip: &Clip,
        interleaved: bool,
    ) -> Result<Self, Failure> {
        let mut list = Vec::with_capacity(rooms);
        for room in 0..rooms {
            let mut publisher = Publisher::connect(server, room)?;
            publisher.send(0, clip.video_config.clone(), Kind::Video)?;
            if !clip.sounds.is_empty() {
                publisher.send(0, clip.audio_config.clone(), Kind::Audio)?;
            }
            list.push(publisher);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let schedule = Schedule {
            stop: Arc::clone(&stop),
            pictures: clip.pictures.clone(),
            sounds: clip.sounds.clone(),
            sounds_ms: clip.sounds_ms,
            interleaved,
            began: now(),
        };
        let thread = std::thread::spawn(move || {
            schedule
                .run(list)
                .map_err(|why| format!("a publisher failed: {why}"))
        });
        Ok(Self { stop, thread })
    }

    /// Ends them; gives what was written.
    pub(crate) fn stop(self) -> Result<Vec<Written>, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        Ok(self
            .thread
            .join()
            .map_err(|_panic| "the publishers' thread died")??)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Video,
    Audio,
}

struct Publisher {
    rtmp: KitPublisher,
    stream: TcpStream,
    written: Written,
}

impl Publisher {
    fn connect(server: SocketAddr, room: usize) -> Result<Self, Failure> {
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
        if server.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) {
            // All of 127.0.0.0/8 is this machine: publishers of many addresses, as in the field.
            let host = u8::try_from(1 + room / PUBLISHERS_PER_ADDRESS).unwrap_or(u8::MAX);
            socket.bind(&SocketAddr::from(([127, 0, 0, host], 0)).into())?;
        }
        socket.connect_timeout(&server.into(), PATIENCE)?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let rtmp = KitPublisher::new("live", &room_name(room));
        let mut publisher = Self {
            rtmp,
            stream,
            written: Vec::new(),
        };
        let mut buffer = [0; READ_BYTES];
        while *publisher.rtmp.progress() == Progress::Asking {
            publisher.flush()?;
            let count = publisher.stream.read(&mut buffer)?;
            if count == 0 {
                return Err("the server closed the RTMP connection".into());
            }
            publisher
                .rtmp
                .handle_input(buffer.get(..count).unwrap_or_default());
        }
        publisher.flush()?;
        match publisher.rtmp.progress() {
            Progress::Refused(why) => Err(format!("the publish was refused: {why}").into()),
            Progress::Asking | Progress::Publishing => Ok(publisher),
        }
    }

    fn flush(&mut self) -> Result<(), Failure> {
        while let Some(bytes) = self.rtmp.poll_transmit() {
            self.stream.write_all(&bytes)?;
        }
        Ok(())
    }

    /// Sends one message.
    fn send(&mut self, at_ms: u32, body: Bytes, kind: Kind) -> Result<(), Failure> {
        match kind {
            Kind::Video => self.rtmp.video(at_ms, body),
            Kind::Audio => self.rtmp.audio(at_ms, body),
        }
        self.flush()
    }

    /// Sends a picture with the clock in it; gives that clock.
    fn send_stamped(&mut self, at_ms: u32, picture: &Bytes) -> Result<i64, Failure> {
        let at = clock::wall_nanos();
        self.send(at_ms, stamped(picture, at), Kind::Video)?;
        Ok(at)
    }

    /// Reads the acknowledgements, which say nothing of interest.
    fn drain(&mut self) -> Result<(), Failure> {
        self.stream.set_nonblocking(true)?;
        let mut buffer = [0; READ_BYTES];
        let read = self.stream.read(&mut buffer);
        self.stream.set_nonblocking(false)?;
        match read {
            Ok(0) => Err("the server closed the RTMP connection".into()),
            Ok(_) => Ok(()),
            Err(why) if why.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(why) => Err(why.into()),
        }
    }
}

struct Schedule {
    stop: Arc<AtomicBool>,
    pictures: Vec<Bytes>,
    sounds: Sounds,
    sounds_ms: u32,
    /// Whether sound is written when the next picture is.
    interleaved: bool,
    began: Instant,
}

impl Schedule {
    fn run(self, mut list: Vec<Publisher>) -> Result<Vec<Written>, Failure> {
        let rooms = u32::try_from(list.len()).unwrap_or(1).max(1);
        // The rooms' frames are spread over the keyframe interval, as independent encoders' are: else all
        // of their keyframes would come in one frame's time.
        let shift = KEYFRAME_INTERVAL / rooms;
        let due = |room: usize, at_ms: u64| {
            let room = u32::try_from(room).unwrap_or(0);
            self.began + shift * room + Duration::from_millis(at_ms)
        };
        let mut queue = BinaryHeap::new();
        for room in 0..list.len() {
            queue.push(Reverse((due(room, 0), room, Kind::Video, 0_usize)));
            if !self.sounds.is_empty() {
                queue.push(Reverse((due(room, 0), room, Kind::Audio, 0_usize)));
            }
        }
        while let Some(Reverse((at, room, kind, number))) = queue.pop() {
            if !self.wait(at) {
                break;
            }
            let Some(publisher) = list.get_mut(room) else {
                continue;
            };
            let next_ms = match kind {
                Kind::Video => {
                    let at_ms = millis(frame_time_ms(number));
                    let picture = self.pictures.get(number % self.pictures.len());
                    let picture = picture.ok_or("the clip has no pictures")?;
                    let written = publisher.send_stamped(at_ms, picture)?;
                    publisher.written.push(written);
                    if number % KEYFRAME_EVERY == 0 {
                        publisher.drain()?;
                    }
                    frame_time_ms(number + 1)
                }
                Kind::Audio => {
                    let (at_ms, unit) = self.sound(number).ok_or("the clip has no sound")?;
                    publisher.send(millis(at_ms), unit.clone(), kind)?;
                    let next_ms = self.sound(number + 1).map_or(0, |(at, _)| at);
                    match self.interleaved {
                        true => picture_from(next_ms),
                        false => next_ms,
                    }
                }
            };
            queue.push(Reverse((due(room, next_ms), room, kind, number + 1)));
        }
        Ok(list
            .into_iter()
            .map(|publisher| publisher.written)
            .collect())
    }

    fn sound(&self, number: usize) -> Option<(u64, &Bytes)> {
        let round = number.checked_div(self.sounds.len())? as u64;
        let (at_ms, unit) = self.sounds.get(number % self.sounds.len())?;
        Some((round * u64::from(self.sounds_ms) + u64::from(*at_ms), unit))
    }

    /// Waits until a moment. `false`: stop.
    fn wait(&self, until: Instant) -> bool {
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return false;
            }
            let left = until.saturating_duration_since(now());
            if left.is_zero() {
                return true;
            }
            std::thread::park_timeout(left);
        }
    }
}

/// When the first picture from a moment on is written, both in milliseconds since the first.
fn picture_from(at_ms: u64) -> u64 {
    let number = (at_ms * FRAME_RATE).div_ceil(1_000);
    frame_time_ms(usize::try_from(number).unwrap_or(usize::MAX))
}

fn millis(time: u64) -> u32 {
    u32::try_from(time).unwrap_or(u32::MAX)
}
