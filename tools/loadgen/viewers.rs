//! All viewers on one thread: str0m for ICE and DTLS, and of the media the headers only.
//!
//! A viewer that is not inspected asks the kernel to drop its media (classic BPF at the socket),
//! so that a thousand cost the machine little more than the network would. The datagrams still go
//! all the way to the socket, in single packets.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::IoSliceMut;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};
use rtmpeer::runtime::now;
use socket2::{SockFilter, SockRef};
use std::os::fd::AsRawFd;

use crate::kit_viewer::KitViewer;
use crate::options::Options;
use crate::seen::{Header, TrackSeen, ViewerSeen};
use crate::{Failure, clock};

const WAKE: Token = Token(usize::MAX);
const EVENTS: usize = 1_024;
/// Newcomers that may wait for the thread.
const INBOX: usize = 4_096;
/// One datagram, or with GRO a train of them.
const SLOT_BYTES: usize = 64 * 1_024;
/// Receive buffer of an inspected viewer, in bytes: a second of media.
const RECEIVE_BUFFER_BYTES: usize = 1_024 * 1_024;
/// Reads from one socket before the next has its turn.
const READS_PER_TURN: usize = 64;
const IDLE: Duration = Duration::from_secs(1);
/// Bytes before the payload as a UDP socket's filter sees a datagram.
const UDP_HEADER_BYTES: u32 = 8;

/// A viewer whose offer was answered.
pub(crate) struct Newcomer {
    pub(crate) room: usize,
    pub(crate) inspected: bool,
    pub(crate) player: KitViewer,
    pub(crate) socket: UdpSocket,
    pub(crate) payload_types: PayloadTypes,
    pub(crate) posted: Instant,
    pub(crate) answered: Instant,
}

/// Payload types of an answer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PayloadTypes {
    video: Option<u8>,
    audio: Option<u8>,
}

impl PayloadTypes {
    /// Reads them from the rtpmap lines (RFC 8866 §6.6).
    pub(crate) fn read(answer: &str) -> Self {
        let find = |codec: &str| {
            answer.lines().find_map(|line| {
                let (number, name) = line.strip_prefix("a=rtpmap:")?.split_once(' ')?;
                let (name, _) = name.split_once('/')?;
                name.eq_ignore_ascii_case(codec)
                    .then(|| number.parse().ok())?
            })
        };
        Self {
            video: find("H264"),
            audio: find("opus"),
        }
    }
}

enum Command {
    Add(Box<Newcomer>),
    RollCall,
    Stop,
}

#[derive(Default)]
struct Counts {
    connected: AtomicUsize,
    failed: AtomicUsize,
}

/// The viewers' thread.
pub(crate) struct Viewers {
    commands: SyncSender<Command>,
    waker: Arc<Waker>,
    counts: Arc<Counts>,
    thread: JoinHandle<Vec<ViewerSeen>>,
}

impl Viewers {
    /// Starts without any viewer.
    pub(crate) fn start(options: &Options) -> Result<Self, Failure> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let (commands, inbox) = sync_channel(INBOX);
        let counts = Arc::<Counts>::default();
        let crowd = Crowd {
            poll,
            inbox,
            counts: Arc::clone(&counts),
            viewers: Vec::with_capacity(options.viewers),
            due: BinaryHeap::new(),
            readable: Vec::new(),
            buffer: vec![0; BATCH_SIZE.max(1) * SLOT_BYTES],
        };
        let thread = std::thread::spawn(move || crowd.run());
        Ok(Self {
            commands,
            waker,
            counts,
            thread,
        })
    }

    /// Takes a viewer in.
    pub(crate) fn add(&self, newcomer: Newcomer) -> Result<(), Failure> {
        self.tell(Command::Add(Box::new(newcomer)))
    }

    /// How many have ICE and DTLS up.
    pub(crate) fn connected(&self) -> usize {
        self.counts.connected.load(Ordering::Relaxed)
    }

    /// How many ended before they were connected.
    pub(crate) fn failed(&self) -> usize {
        self.counts.failed.load(Ordering::Relaxed)
    }

    /// Asks all to note the next packet of media.
    pub(crate) fn roll_call(&self) {
        // A thread that ended is told by `stop`.
        let _ = self.tell(Command::RollCall);
    }

    /// Ends all sessions; gives what was seen, in the order of joining.
    pub(crate) fn stop(self) -> Result<Vec<ViewerSeen>, Failure> {
        self.tell(Command::Stop)?;
        Ok(self
            .thread
            .join()
            .map_err(|_panic| "the viewers' thread died")?)
    }

    fn tell(&self, command: Command) -> Result<(), Failure> {
        self.commands
            .send(command)
            .map_err(|_gone| "the viewers' thread is gone")?;
        Ok(self.waker.wake()?)
    }
}

struct Light {
    player: KitViewer,
    socket: UdpSocket,
    /// For inspected viewers: receives with the kernel's time stamps.
    stamped: Option<UdpSocketState>,
    payload_types: PayloadTypes,
    due: Option<Instant>,
    /// The next media packet is to be noted.
    listening: bool,
    roll_called: bool,
    seen: ViewerSeen,
}

struct Crowd {
    poll: Poll,
    inbox: Receiver<Command>,
    counts: Arc<Counts>,
    viewers: Vec<Light>,
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Sockets that may hold more than their turn's share.
    readable: Vec<usize>,
    buffer: Vec<u8>,
}

impl Crowd {
    fn run(mut self) -> Vec<ViewerSeen> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            // Interrupted or not, the next round looks again.
            let _ = self.poll.poll(&mut events, Some(self.timeout()));
            let mut readable = std::mem::take(&mut self.readable);
            for event in &events {
                if event.token() != WAKE {
                    readable.push(event.token().0);
                } else if !self.take_commands() {
                    return self.viewers.into_iter().map(|light| light.seen).collect();
                }
            }
            for index in readable {
                self.receive(index);
            }
            self.handle_timeouts();
        }
    }

    fn timeout(&self) -> Duration {
        if !self.readable.is_empty() {
            return Duration::ZERO;
        }
        let first = self
            .due
            .peek()
            .map(|Reverse((at, _))| at.saturating_duration_since(now()));
        first.unwrap_or(IDLE).min(IDLE)
    }

    /// `false`: stop.
    fn take_commands(&mut self) -> bool {
        while let Ok(command) = self.inbox.try_recv() {
            match command {
                // A socket that cannot be watched is a viewer that fails.
                Command::Add(newcomer) => {
                    if self.add(*newcomer).is_err() {
                        self.counts.failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Command::RollCall => self.viewers.iter_mut().for_each(Light::call),
                Command::Stop => {
                    for light in &mut self.viewers {
                        light.player.close();
                        light.poll();
                    }
                    return false;
                }
            }
        }
        true
    }

    fn add(&mut self, newcomer: Newcomer) -> Result<(), Failure> {
        let Newcomer {
            room,
            inspected,
            player,
            socket,
            payload_types,
            posted,
            answered,
        } = newcomer;
        let index = self.viewers.len();
        let stamped = if inspected {
            SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
            Some(UdpSocketState::new(UdpSockRef::from(&socket))?)
        } else {
            None
        };
        let mut source = SourceFd(&socket.as_raw_fd());
        self.poll
            .registry()
            .register(&mut source, Token(index), Interest::READABLE)?;
        let seen = ViewerSeen {
            room,
            inspected,
            posted,
            answered,
            connected: None,
            first_packet: None,
            closed: false,
            present_at_roll_call: false,
            video: TrackSeen::default(),
            audio: TrackSeen::default(),
        };
        self.viewers.push(Light {
            player,
            socket,
            stamped,
            payload_types,
            due: None,
            listening: true,
            roll_called: false,
            seen,
        });
        self.readable.push(index);
        self.settle(index);
        Ok(())
    }

    fn receive(&mut self, index: usize) {
        let Some(light) = self.viewers.get_mut(index) else {
            return;
        };
        let (drained, signalled) = if light.stamped.is_some() {
            light.receive_stamped(&mut self.buffer)
        } else {
            light.receive_plain(&mut self.buffer)
        };
        if !drained {
            self.readable.push(index);
        }
        if signalled {
            self.settle(index);
        }
    }

    fn handle_timeouts(&mut self) {
        let now = now();
        while let Some(Reverse((at, index))) = self.due.peek().copied() {
            if at > now {
                return;
            }
            self.due.pop();
            let Some(light) = self.viewers.get_mut(index) else {
                continue;
            };
            if light.due == Some(at) {
                light.due = None;
                light.player.handle_timeout(now);
                self.settle(index);
            }
        }
    }

    /// Sends what a viewer has to say, and notes when it wants to be called.
    fn settle(&mut self, index: usize) {
        let Some(light) = self.viewers.get_mut(index) else {
            return;
        };
        let next = light.poll();
        if light.due.is_none_or(|due| next < due) {
            light.due = Some(next);
            self.due.push(Reverse((next, index)));
        }
        if light.player.closed && !light.seen.closed {
            light.seen.closed = true;
            if light.seen.connected.is_none() {
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        if light.player.connected && light.seen.connected.is_none() {
            light.seen.connected = Some(now());
            self.counts.connected.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Light {
    fn poll(&mut self) -> Instant {
        let socket = &self.socket;
        self.player.poll(|to, datagram| {
            // What cannot be sent is lost, as on any network.
            let _ = socket.send_to(datagram, to);
        })
    }

    /// Reads with time stamps. Gives whether all was read, and whether the player got anything.
    fn receive_stamped(&mut self, buffer: &mut [u8]) -> (bool, bool) {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let mut signalled = false;
        for _ in 0..READS_PER_TURN {
            let mut slots: Vec<_> = buffer.chunks_mut(SLOT_BYTES).map(IoSliceMut::new).collect();
            let Some(state) = &self.stamped else {
                return (true, signalled);
            };
            let Ok(count) = state.recv(UdpSockRef::from(&self.socket), &mut slots, &mut metas)
            else {
                return (true, signalled);
            };
            for (meta, slot) in metas.iter().zip(&slots).take(count) {
                let at = meta
                    .timestamp
                    .and_then(|at| i64::try_from(at.as_nanos()).ok());
                let at = at.unwrap_or_else(clock::wall_nanos);
                let train = slot.get(..meta.len).unwrap_or_default();
                for datagram in train.chunks(meta.stride.max(1)) {
                    signalled |= self.take(meta.addr, datagram, at);
                }
            }
        }
        (false, signalled)
    }

    fn receive_plain(&mut self, buffer: &mut [u8]) -> (bool, bool) {
        let mut signalled = false;
        for _ in 0..READS_PER_TURN {
            let Ok((count, from)) = self.socket.recv_from(buffer) else {
                return (true, signalled);
            };
            let datagram = buffer.get(..count).unwrap_or_default();
            signalled |= self.take(from, datagram, 0);
        }
        (false, signalled)
    }

    /// Takes a datagram; `true` if it was the player's and not media.
    fn take(&mut self, from: SocketAddr, datagram: &[u8], at: i64) -> bool {
        let is_media = datagram.first().is_some_and(|first| first >> 6 == 2);
        if !is_media {
            self.player.handle(from, datagram, now());
            return true;
        }
        let Some(header) = Header::read(datagram) else {
            return false;
        };
        let is_video = Some(header.payload_type) == self.payload_types.video;
        if is_video && self.listening {
            self.note();
        }
        if !self.seen.inspected {
            return false;
        }
        if is_video {
            self.seen.video.take(header, at);
        } else if Some(header.payload_type) == self.payload_types.audio {
            self.seen.audio.take_whole(header, at);
        }
        false
    }

    /// Notes that a picture's packet came; unless inspected, no more of them are wanted.
    fn note(&mut self) {
        self.listening = false;
        self.seen.first_packet.get_or_insert_with(now);
        self.seen.present_at_roll_call |= self.roll_called;
        if !self.seen.inspected {
            // Without the filter the viewer costs more, that is all.
            let _ = SockRef::from(&self.socket).attach_filter(&drop_media());
        }
    }

    fn call(&mut self) {
        self.listening = true;
        self.roll_called = true;
        if !self.seen.inspected && self.seen.first_packet.is_some() {
            // It fails if none was attached.
            let _ = SockRef::from(&self.socket).detach_filter();
        }
    }
}

/// Drops what begins with 0x80 to 0xbf, RTP and RTCP (RFC 7983 §7), and keeps the rest.
fn drop_media() -> [SockFilter; 5] {
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    [
        SockFilter::new(LOAD_BYTE, 0, 0, UDP_HEADER_BYTES),
        SockFilter::new(JUMP_IF_AT_LEAST, 0, 2, 0x80),
        SockFilter::new(JUMP_IF_AT_LEAST, 1, 0, 0xc0),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ]
}
