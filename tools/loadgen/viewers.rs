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
use rtmpeer::webrtc::dtls::KeyReceiver;
use socket2::{SockFilter, SockRef};
use std::os::fd::AsRawFd;

use crate::feedback::{Feedback, Sources};
use crate::frames::stamp_of;
use crate::joiner::OpenSignalling;
use crate::kit_viewer::KitViewer;
use crate::netem::{Relay, Travelling, Way};
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
/// How often the sockets are looked at. Nothing wakes the thread between: on loopback a wake is the
/// sender's work (an interrupt to another CPU, dear in a virtual machine), and a viewer behind a network
/// costs the server none. When a datagram came is the kernel's time stamp.
const LOOK_EVERY: Duration = Duration::from_micros(500);
/// Bytes before the payload as a UDP socket's filter sees a datagram.
const UDP_HEADER_BYTES: u32 = 8;

/// A viewer whose offer was answered.
pub(crate) struct Newcomer {
    pub(crate) room: usize,
    pub(crate) storm: bool,
    pub(crate) inspected: bool,
    pub(crate) player: KitViewer,
    pub(crate) socket: UdpSocket,
    pub(crate) keys: KeyReceiver,
    pub(crate) signalling: Option<OpenSignalling>,
    pub(crate) sources: Sources,
    pub(crate) posted: Instant,
    pub(crate) answered: Instant,
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
    thread: JoinHandle<(Vec<ViewerSeen>, u64)>,
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
            relay: options.netem.map(Relay::new),
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

    /// Ends all sessions; gives what was seen, in the order of joining, and the datagrams that the
    /// relay lost.
    pub(crate) fn stop(self) -> Result<(Vec<ViewerSeen>, u64), Failure> {
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
    index: usize,
    sources: Sources,
    keys: KeyReceiver,
    feedback: Option<Feedback>,
    signalling: Option<OpenSignalling>,
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
    relay: Option<Relay>,
    buffer: Vec<u8>,
}

impl Crowd {
    fn run(mut self) -> (Vec<ViewerSeen>, u64) {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            std::thread::park_timeout(self.timeout());
            // Interrupted or not, the next round looks again.
            let _ = self.poll.poll(&mut events, Some(Duration::ZERO));
            let mut readable = std::mem::take(&mut self.readable);
            for event in &events {
                if event.token() != WAKE {
                    readable.push(event.token().0);
                } else if !self.take_commands() {
                    let lost = self.relay.map_or(0, |relay| relay.lost);
                    let seen = self.viewers.into_iter().map(Light::into_seen);
                    return (seen.collect(), lost);
                }
            }
            for index in readable {
                self.receive(index);
            }
            self.deliver();
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
        let relayed = self.relay.as_ref().and_then(Relay::next);
        let relayed = relayed.map(|at| at.saturating_duration_since(now()));
        let next = first.into_iter().chain(relayed).min();
        next.unwrap_or(LOOK_EVERY).min(LOOK_EVERY)
    }

    /// What has come through the relay.
    fn deliver(&mut self) {
        let now = now();
        while let Some(travelling) = self.relay.as_mut().and_then(|relay| relay.pop(now)) {
            let Travelling { viewer, way, bytes } = travelling;
            let Some(light) = self.viewers.get_mut(viewer) else {
                continue;
            };
            match way {
                Way::In(from, at) => {
                    if light.take(from, &bytes, at) {
                        self.settle(viewer);
                    }
                }
                Way::Out(to) => {
                    // What cannot be sent is lost, as on any network.
                    let _ = light.socket.send_to(&bytes, to);
                }
            }
        }
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
                        light.poll(&mut None);
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
            storm,
            inspected,
            player,
            socket,
            keys,
            signalling,
            sources,
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
            storm,
            inspected,
            posted,
            answered,
            asked: 0,
            reports: 0,
            connected: None,
            first_packet: None,
            closed: false,
            present_at_roll_call: false,
            server: None,
            video: TrackSeen::default(),
            audio: TrackSeen::default(),
        };
        self.viewers.push(Light {
            player,
            socket,
            stamped,
            index,
            sources,
            keys,
            feedback: None,
            signalling,
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
            light.receive_stamped(&mut self.buffer, &mut self.relay)
        } else {
            light.receive_plain(&mut self.buffer, &mut self.relay)
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
                light.answer_pings();
                self.settle(index);
            }
        }
    }

    /// Sends what a viewer has to say, and notes when it wants to be called.
    fn settle(&mut self, index: usize) {
        let Some(light) = self.viewers.get_mut(index) else {
            return;
        };
        let next = light.poll(&mut self.relay);
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
    /// Sends what it has to say; gives when it will have more.
    fn poll(&mut self, relay: &mut Option<Relay>) -> Instant {
        let (socket, index) = (&self.socket, self.index);
        let mut send = |to: SocketAddr, datagram: &[u8]| match relay {
            Some(relay) => relay.put(index, Way::Out(to), datagram, now()),
            None => {
                // What cannot be sent is lost, as on any network.
                let _ = socket.send_to(datagram, to);
            }
        };
        let mut server = self.seen.server;
        let next = self.player.poll(|to, datagram| {
            server = Some(to);
            // str0m sees no media, so its reports would say nothing.
            if datagram.first().is_none_or(|first| first >> 6 != 2) {
                send(to, datagram);
            }
        });
        self.seen.server = server;
        let now = now();
        if self.feedback.is_none()
            && let Ok(tapped) = self.keys.try_recv()
        {
            let inspected = self.seen.inspected;
            self.feedback = Feedback::new(&tapped.keys, self.sources, inspected, index, now).ok();
        }
        let Some(feedback) = &mut self.feedback else {
            return next;
        };
        if let Some(server) = server
            && self.seen.connected.is_some()
        {
            for packet in feedback.poll(now) {
                send(server, &packet);
            }
        }
        next.min(feedback.next())
    }

    /// Reads its WebSocket, so that pings are answered.
    fn answer_pings(&mut self) {
        let Some(signalling) = &mut self.signalling else {
            return;
        };
        while signalling.read().is_ok() {}
        // What cannot be written now is written next time.
        let _ = signalling.flush();
    }

    /// Reads with time stamps. Gives whether all was read, and whether the player got anything.
    fn receive_stamped(&mut self, buffer: &mut [u8], relay: &mut Option<Relay>) -> (bool, bool) {
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
                    signalled |= self.arrive(meta.addr, datagram, at, relay);
                }
            }
        }
        (false, signalled)
    }

    fn receive_plain(&mut self, buffer: &mut [u8], relay: &mut Option<Relay>) -> (bool, bool) {
        let mut signalled = false;
        for _ in 0..READS_PER_TURN {
            let Ok((count, from)) = self.socket.recv_from(buffer) else {
                return (true, signalled);
            };
            let datagram = buffer.get(..count).unwrap_or_default();
            signalled |= self.arrive(from, datagram, 0, relay);
        }
        (false, signalled)
    }

    /// A datagram at the socket: taken, or given to the relay.
    fn arrive(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
        at: i64,
        relay: &mut Option<Relay>,
    ) -> bool {
        match relay {
            Some(relay) => {
                relay.put(self.index, Way::In(from, at), datagram, now());
                false
            }
            None => self.take(from, datagram, at),
        }
    }

    /// Takes a datagram; `true` if there may be something to say now.
    fn take(&mut self, from: SocketAddr, datagram: &[u8], at: i64) -> bool {
        let is_media = datagram.first().is_some_and(|first| first >> 6 == 2);
        if !is_media {
            self.player.handle(from, datagram, now());
            return true;
        }
        let Some(header) = Header::read(datagram) else {
            if let Some(feedback) = &mut self.feedback {
                feedback.handle_control(datagram, now());
            }
            return false;
        };
        let source = Some(header.ssrc());
        if source == self.sources.video && self.listening {
            self.note();
        }
        if !self.seen.inspected {
            return false;
        }
        if source == self.sources.video {
            return self.take_picture(header, datagram, at);
        }
        if source == self.sources.rtx {
            self.take_repeated(header, datagram, at);
        } else if source == self.sources.audio {
            self.seen.audio.take_whole(header, at);
        }
        false
    }

    fn take_picture(&mut self, header: Header, datagram: &[u8], at: i64) -> bool {
        let missing = self.seen.video.take(header, at);
        let Some(feedback) = &mut self.feedback else {
            return false;
        };
        feedback.note(header, &missing, now());
        if let Some((head, packet)) = feedback.open(datagram)
            && !self.seen.video.is_stamped(header)
            && let Some(stamp) = packet.get(head.header_bytes..).and_then(stamp_of)
        {
            self.seen.video.stamp(header, stamp);
        }
        !missing.is_empty()
    }

    /// RFC 4588 §4: the payload begins with the number of the packet that is sent again.
    fn take_repeated(&mut self, header: Header, datagram: &[u8], at: i64) {
        let Some(feedback) = &mut self.feedback else {
            return;
        };
        let Some((head, packet)) = feedback.open(datagram) else {
            return;
        };
        let Some([high, low, payload @ ..]) = packet.get(head.header_bytes..) else {
            return;
        };
        let stamp = stamp_of(payload);
        let sequence = u16::from_be_bytes([*high, *low]);
        let header = header.repeated(sequence);
        if self.seen.video.take_late(header, at) {
            feedback.found(sequence);
            if let Some(stamp) = stamp {
                self.seen.video.stamp(header, stamp);
            }
        }
    }

    fn into_seen(mut self) -> ViewerSeen {
        self.seen.video.settle();
        self.seen.audio.settle();
        if let Some(feedback) = &self.feedback {
            self.seen.asked = feedback.asked;
            self.seen.reports = feedback.reports;
        }
        self.seen
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
