//! A core's UDP socket: one port shared by all cores (SO_REUSEPORT), receive and send in batches.
//!
//! Received by quinn-udp, which also asks the kernel for segmentation offload (GSO); sent by
//! [`super::udp_send`], in trains where the kernel can.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::AsFd;

use mio::net::UdpSocket as MioUdpSocket;
use mio::{Interest, Registry, Token};
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};

use super::udp_send::{MessageBatch, Sent};
use crate::engine::{SendBatch, Train};

/// Kernel send buffer asked for, in bytes: one keyframe to a thousand viewers.
const SEND_BUFFER_BYTES: usize = 8 * 1_024 * 1_024;
/// Kernel receive buffer asked for, in bytes: viewers send little, but may all join at once.
const RECEIVE_BUFFER_BYTES: usize = 4 * 1_024 * 1_024;
/// Bytes of one receive slot: a GRO train is at most 64 KiB.
const RECEIVE_SLOT_BYTES: usize = 64 * 1_024;
/// Receive calls in one turn, so that a flood starves nobody.
const RECEIVE_CALLS_PER_TURN: usize = 16;

/// Trains in a row that are refused before none is tried for a while: one viewer's way, a tunnel say,
/// may take none, and the others' do.
const REFUSALS_MAX: u32 = 16;
/// Trains that leave datagram by datagram after so many refusals, until one is tried again.
const UNTRIED_TRAINS: u32 = 4_096;

/// How far a batch has been sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SendPlace {
    /// Trains that are done with, sent or failed.
    pub train: usize,
    /// Datagrams of the next one that were sent.
    pub datagram: usize,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SendOutcome {
    /// How far it was sent. If not to its end, the kernel's buffer is full: go on there once the
    /// socket is writable.
    pub place: SendPlace,
    /// Datagrams the kernel took.
    pub sent: u64,
    /// Datagrams dropped because the kernel would not send them (an unreachable address).
    pub failed: u64,
}

/// A core's socket.
#[derive(Debug)]
pub struct UdpSocket {
    socket: MioUdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    buffer: Vec<u8>,
    messages: MessageBatch,
    /// Trains that were refused since one was taken.
    refusals: u32,
    /// Trains to send datagram by datagram before one is tried again.
    untried: u32,
    /// Whether it was said that trains are refused.
    refusals_told: bool,
}

/// Binds `count` sockets to one address and port, for one core each. With port 0 the first is
/// given a free port and the others share it.
///
/// # Errors
/// What the kernel says.
pub fn bind_udp_group(address: SocketAddr, count: usize) -> io::Result<Vec<UdpSocket>> {
    let mut sockets: Vec<UdpSocket> = Vec::with_capacity(count);
    for _ in 0..count {
        let address = sockets.first().map_or(address, |first| first.local);
        sockets.push(UdpSocket::bind(address)?);
    }
    Ok(sockets)
}

impl UdpSocket {
    fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::DGRAM,
            Some(Protocol::UDP),
        )?;
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(true)?;
        // The kernel caps these at net.core.{w,r}mem_max; less is slower, not wrong.
        let _ = socket.set_send_buffer_size(SEND_BUFFER_BYTES);
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
        socket.bind(&address.into())?;
        let socket: std::net::UdpSocket = socket.into();
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let local = socket.local_addr()?;
        let slots = BATCH_SIZE.max(1);
        Ok(Self {
            socket: MioUdpSocket::from_std(socket),
            state,
            local,
            buffer: vec![0; slots * RECEIVE_SLOT_BYTES],
            messages: MessageBatch::new(),
            refusals: 0,
            untried: 0,
            refusals_told: false,
        })
    }

    /// The address it is bound to.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// Bytes the kernel really gave for receiving.
    #[must_use]
    pub fn receive_buffer_bytes(&self) -> usize {
        self.state
            .recv_buffer_size(UdpSockRef::from(&self.socket))
            .unwrap_or(0)
    }

    /// Segments the kernel takes in one train; 1 without GSO.
    #[must_use]
    pub fn segments_max(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// Registers it with a loop.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.socket, token, Interest::READABLE)
    }

    /// Whether the loop is to be told when the kernel takes more. Only while it is full: else
    /// every datagram that leaves would wake the poll for nothing.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn watch_writable(
        &mut self,
        registry: &Registry,
        token: Token,
        watch: bool,
    ) -> io::Result<()> {
        let interest = match watch {
            true => Interest::READABLE | Interest::WRITABLE,
            false => Interest::READABLE,
        };
        registry.reregister(&mut self.socket, token, interest)
    }

    /// Receives what is there, up to this turn's budget, and gives each datagram with its sender
    /// and the local address it was sent to. `true`: there may be more.
    pub fn receive(&mut self, mut take: impl FnMut(SocketAddr, SocketAddr, &[u8])) -> bool {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        for _ in 0..RECEIVE_CALLS_PER_TURN {
            let mut slots: Vec<IoSliceMut<'_>> = self
                .buffer
                .chunks_mut(RECEIVE_SLOT_BYTES)
                .map(IoSliceMut::new)
                .collect();
            let socket = UdpSockRef::from(&self.socket);
            let count = match self.state.recv(socket, &mut slots, &mut metas) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // An error that an earlier send left is not ours to mind; nothing is lost.
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            };
            for (meta, slot) in metas.iter().zip(&slots).take(count) {
                let ip = meta.dst_ip.unwrap_or_else(|| self.local.ip());
                let to = SocketAddr::new(ip.to_canonical(), self.local.port());
                let from = SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port());
                let stride = meta.stride.max(1);
                for datagram in slot.get(..meta.len).unwrap_or_default().chunks(stride) {
                    take(from, to, datagram);
                }
            }
        }
        true
    }

    /// Sends a batch from `place` on, as far as the kernel takes it.
    pub fn send(&mut self, batch: &SendBatch, place: SendPlace) -> SendOutcome {
        let mut outcome = SendOutcome {
            place,
            ..SendOutcome::default()
        };
        while outcome.place.train < batch.len() {
            let trains = batch.trains().skip(outcome.place.train);
            let whole = outcome.place.datagram == 0 && self.untried == 0;
            let going_on = if whole && self.segments_max() > 1 {
                self.send_trains(trains, &mut outcome)
            } else {
                self.send_singles(trains, &mut outcome)
            };
            if !going_on {
                break;
            }
        }
        outcome
    }

    /// One call with a train in each message. `false`: the kernel's buffer is full.
    fn send_trains<'a>(
        &mut self,
        trains: impl Iterator<Item = (&'a Train, &'a [u8])> + Clone,
        outcome: &mut SendOutcome,
    ) -> bool {
        let Some((first, _)) = trains.clone().next() else {
            return false;
        };
        match self
            .messages
            .send(self.socket.as_fd(), self.local.is_ipv6(), trains.clone())
        {
            Sent::Messages(count) => {
                for (train, _) in trains.take(count) {
                    outcome.place.train += 1;
                    outcome.sent += train.segments() as u64;
                    if train.segments() > 1 {
                        self.refusals = 0;
                    }
                }
                true
            }
            Sent::Full => false,
            Sent::Failed(libc::EINTR) => true,
            // The way to this viewer takes no trains (udp(7)), or no way does.
            Sent::Failed(libc::EIO | libc::EINVAL) if first.segments() > 1 => {
                self.note_refusal();
                self.send_singles(trains, outcome)
            }
            // One of its datagrams is larger than the way takes; the others need not be. That says
            // nothing of trains.
            Sent::Failed(libc::EMSGSIZE) if first.segments() > 1 => {
                self.send_singles(trains, outcome)
            }
            Sent::Failed(number) => {
                outcome.give_up(first, number);
                true
            }
        }
    }

    fn note_refusal(&mut self) {
        self.refusals = self.refusals.saturating_add(1);
        if self.refusals < REFUSALS_MAX {
            return;
        }
        self.refusals = 0;
        self.untried = UNTRIED_TRAINS;
        if !std::mem::replace(&mut self.refusals_told, true) {
            log::warn!(
                "the network device takes no trains of datagrams (UDP GSO): each is sent by itself, \
                 which costs more CPU time"
            );
        }
    }

    /// Sends the next train's datagrams one by one. `false`: the kernel's buffer is full.
    fn send_singles<'a>(
        &mut self,
        mut trains: impl Iterator<Item = (&'a Train, &'a [u8])>,
        outcome: &mut SendOutcome,
    ) -> bool {
        let Some((train, bytes)) = trains.next() else {
            return false;
        };
        let is_ipv6 = self.local.is_ipv6();
        let mut singles = bytes.chunks(train.segment_bytes.max(1));
        singles.by_ref().take(outcome.place.datagram).for_each(drop);
        while singles.len() > 0 {
            let messages = singles.clone().map(|single| (train, single));
            match self.messages.send(self.socket.as_fd(), is_ipv6, messages) {
                Sent::Messages(count) => {
                    outcome.sent += count as u64;
                    outcome.place.datagram += count;
                    singles.by_ref().take(count).for_each(drop);
                }
                Sent::Full => return false,
                Sent::Failed(libc::EINTR) => {}
                Sent::Failed(libc::EMSGSIZE) => {
                    // Larger than the way takes: the next need not be.
                    outcome.failed += 1;
                    outcome.place.datagram += 1;
                    singles.next();
                }
                Sent::Failed(number) => {
                    outcome.give_up(train, number);
                    return true;
                }
            }
        }
        self.untried = self.untried.saturating_sub(1);
        outcome.end_train();
        true
    }
}

impl SendOutcome {
    fn end_train(&mut self) {
        self.place.train += 1;
        self.place.datagram = 0;
    }

    fn give_up(&mut self, train: &Train, number: i32) {
        let error = io::Error::from_raw_os_error(number);
        log::trace!("datagrams dropped: {error} to={}", train.to);
        let left = train.segments().saturating_sub(self.place.datagram);
        self.failed += left as u64;
        self.end_train();
    }
}

#[cfg(test)]
mod tests {
    use super::super::udp_send::{narrow, refuse_trains};
    use super::*;
    use std::time::Duration;

    fn loopback() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[test]
    fn cores_share_one_port() {
        let group = bind_udp_group(loopback(), 2).unwrap();
        assert_eq!(group[0].local_address(), group[1].local_address());
    }

    #[test]
    fn a_batch_arrives_as_the_datagrams_it_was_made_of() {
        let mut sender = bind_udp_group(loopback(), 1).unwrap().remove(0);
        let receiver = std::net::UdpSocket::bind(loopback()).unwrap();
        receiver
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let to = receiver.local_addr().unwrap();
        let mut batch = SendBatch::default();
        for (fill, length) in [(1, 100), (2, 100), (3, 100), (4, 40), (5, 900)] {
            batch
                .push::<()>(to, None, |bytes| {
                    bytes.extend(std::iter::repeat_n(fill, length));
                    Ok(())
                })
                .unwrap();
        }
        assert_eq!(sender.send(&batch, SendPlace::default()).sent, 5);
        let mut buffer = [0; 2_000];
        for (fill, length) in [(1, 100), (2, 100), (3, 100), (4, 40), (5, 900)] {
            let count = receiver.recv(&mut buffer).unwrap();
            assert_eq!((buffer[0], count), (fill, length));
        }
    }

    #[test]
    fn a_batch_goes_on_where_it_was_left() {
        let mut sender = bind_udp_group(loopback(), 1).unwrap().remove(0);
        let receiver = std::net::UdpSocket::bind(loopback()).unwrap();
        receiver
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let to = receiver.local_addr().unwrap();
        let mut batch = SendBatch::default();
        for fill in 1..=3_u8 {
            // Rising sizes: each begins a train.
            let length = usize::from(fill) * 100;
            batch
                .push::<()>(to, None, |bytes| {
                    bytes.extend(std::iter::repeat_n(fill, length));
                    Ok(())
                })
                .unwrap();
        }
        let second = SendPlace {
            train: 1,
            datagram: 0,
        };
        let outcome = sender.send(&batch, second);
        assert_eq!((outcome.place.train, outcome.sent), (3, 2));
        let mut buffer = [0; 2_000];
        receiver.recv(&mut buffer).unwrap();
        assert_eq!(buffer[0], 2, "the first was sent already");
    }

    #[test]
    fn a_socket_of_both_families_reaches_ipv4_from_the_address_it_is_told() {
        let any = SocketAddr::from(([0_u16; 8], 0));
        let mut sender = bind_udp_group(any, 1).unwrap().remove(0);
        let receiver = std::net::UdpSocket::bind(loopback()).unwrap();
        receiver
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let to = receiver.local_addr().unwrap();
        let from = std::net::IpAddr::from([127, 0, 0, 9]);
        assert_eq!(
            sender
                .send(&three(to, Some(from)), SendPlace::default())
                .sent,
            3
        );
        let mut buffer = [0; 2_000];
        for _ in 0..3 {
            let (count, sender) = receiver.recv_from(&mut buffer).unwrap();
            assert_eq!((count, sender.ip()), (100, from));
        }
    }

    #[test]
    fn without_trains_datagrams_leave_one_by_one_and_go_on_where_they_were_left() {
        let mut sender = bind_udp_group(loopback(), 1).unwrap().remove(0);
        sender.untried = 10;
        let receiver = std::net::UdpSocket::bind(loopback()).unwrap();
        receiver
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let batch = three(receiver.local_addr().unwrap(), None);
        let outcome = sender.send(&batch, SendPlace::default());
        assert_eq!(
            (outcome.place.train, outcome.sent, outcome.failed),
            (1, 3, 0)
        );
        let mut buffer = [0; 2_000];
        for _ in 0..3 {
            assert_eq!(receiver.recv(&mut buffer).unwrap(), 100);
        }
        let second = SendPlace {
            train: 0,
            datagram: 1,
        };
        let outcome = sender.send(&batch, second);
        assert_eq!((outcome.place.train, outcome.sent), (1, 2));
        assert_eq!(sender.untried, 8);
    }

    #[test]
    fn way_that_refuses_trains_costs_the_others_nothing() {
        let mut sender = bind_udp_group(loopback(), 1).unwrap().remove(0);
        if sender.segments_max() == 1 {
            return;
        }
        let receiver = std::net::UdpSocket::bind(loopback()).unwrap();
        receiver
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let batch = three(receiver.local_addr().unwrap(), None);
        let mut buffer = [0; 2_000];
        let mut send = |sender: &mut UdpSocket, refuses: bool| {
            // The kernel refuses trains without checksums.
            refuse_trains(sender.socket.as_fd(), refuses);
            let outcome = sender.send(&batch, SendPlace::default());
            assert_eq!((outcome.sent, outcome.failed), (3, 0));
            for _ in 0..3 {
                assert_eq!(receiver.recv(&mut buffer).unwrap(), 100);
            }
        };
        for _ in 0..3 * REFUSALS_MAX {
            send(&mut sender, true);
            send(&mut sender, false);
            assert_eq!(sender.untried, 0, "trains are tried again at once");
        }
        for _ in 0..REFUSALS_MAX {
            send(&mut sender, true);
        }
        assert_eq!(sender.untried, UNTRIED_TRAINS - 1, "the device takes none");
        for _ in 0..UNTRIED_TRAINS {
            sender.send(&batch, SendPlace::default());
        }
        assert_eq!(sender.untried, 0, "until one is tried again");
    }

    #[test]
    fn an_address_that_cannot_be_reached_costs_its_own_datagrams_only() {
        let mut sender = bind_udp_group(loopback(), 1).unwrap().remove(0);
        let receiver = std::net::UdpSocket::bind(loopback()).unwrap();
        let mut batch = three(SocketAddr::from(([255, 255, 255, 255], 9)), None);
        let to = receiver.local_addr().unwrap();
        batch
            .push::<()>(to, None, |bytes| {
                bytes.push(1);
                Ok(())
            })
            .unwrap();
        let outcome = sender.send(&batch, SendPlace::default());
        assert_eq!(
            (outcome.place.train, outcome.sent, outcome.failed),
            (2, 1, 3)
        );
    }

    #[test]
    fn datagram_too_large_for_the_way_costs_no_other() {
        let loopback = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 0));
        let Ok(receiver) = std::net::UdpSocket::bind(loopback) else {
            // No IPv6 here.
            return;
        };
        receiver
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let mut sender = bind_udp_group(loopback, 1).unwrap().remove(0);
        narrow(sender.socket.as_fd(), 1_280);
        let to = receiver.local_addr().unwrap();
        let mut batch = SendBatch::default();
        for length in [1_300, 1_300, 200] {
            batch
                .push::<()>(to, None, |bytes| {
                    bytes.extend(std::iter::repeat_n(7, length));
                    Ok(())
                })
                .unwrap();
        }
        let mut buffer = [0; 2_000];
        for _ in 0..2 * REFUSALS_MAX {
            let outcome = sender.send(&batch, SendPlace::default());
            assert_eq!((outcome.sent, outcome.failed), (1, 2));
            assert_eq!(outcome.place.train, 1);
            assert_eq!(receiver.recv(&mut buffer).unwrap(), 200);
        }
    }

    fn three(to: SocketAddr, from: Option<std::net::IpAddr>) -> SendBatch {
        let mut batch = SendBatch::default();
        for _ in 0..3 {
            batch
                .push::<()>(to, from, |bytes| {
                    bytes.extend([7; 100]);
                    Ok(())
                })
                .unwrap();
        }
        batch
    }
}
