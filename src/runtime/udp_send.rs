//! Sends a batch with `sendmmsg`: each message is a train of datagrams that the kernel cuts apart
//! (UDP generic segmentation offload, Linux `udp(7)`), with the local address it leaves from
//! (`ip(7)`, `ipv6(7)`: `IP_PKTINFO`).
//!
//! Ours, because the libraries send one train a call, and because the calls are most of what a
//! viewer costs.
#![expect(
    unsafe_code,
    reason = "no safe wrapper of sendmmsg takes control messages without allocating"
)]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};

use socket2::SockAddr;

use crate::engine::Train;

/// Messages in one call: a batch has about as many trains.
const MESSAGES_PER_CALL: usize = 64;
/// Words of one message's control data: the segment size (24 bytes), and a local address of
/// either family (40).
const CONTROL_WORDS: usize = 8;

/// What one call came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// The kernel took so many of the messages; at least one.
    Messages(usize),
    /// The socket's buffer is full.
    Full,
    /// The first message cannot be sent: the error number.
    Failed(i32),
}

/// Control data, aligned for `cmsghdr`.
type Control = [u64; CONTROL_WORDS];

/// The messages of the next call, in memory that is used again and again.
pub(super) struct MessageBatch {
    names: Vec<SockAddr>,
    controls: Vec<Control>,
    pieces: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

// SAFETY: the pointers in `pieces` and `headers` are written and used within `send` alone, and
// point to its argument and to the other vectors.
unsafe impl Send for MessageBatch {}

impl std::fmt::Debug for MessageBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MessageBatch")
    }
}

impl MessageBatch {
    pub(super) fn new() -> Self {
        Self {
            names: Vec::with_capacity(MESSAGES_PER_CALL),
            controls: Vec::with_capacity(MESSAGES_PER_CALL),
            pieces: Vec::with_capacity(MESSAGES_PER_CALL),
            headers: Vec::with_capacity(MESSAGES_PER_CALL),
        }
    }

    /// Sends messages, as many as one call takes: each a train and its bytes, in one message. A
    /// socket of IPv6 reaches IPv4 by mapped addresses.
    pub(super) fn send<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        is_ipv6: bool,
        messages: impl Iterator<Item = (&'a Train, &'a [u8])>,
    ) -> Sent {
        self.names.clear();
        self.controls.clear();
        self.pieces.clear();
        self.headers.clear();
        for (train, bytes) in messages.take(MESSAGES_PER_CALL) {
            self.add(train, bytes, is_ipv6);
        }
        // Only now, as the vectors no longer grow.
        let parts = self.names.iter().zip(&mut self.controls);
        for ((name, control), (header, piece)) in
            parts.zip(self.headers.iter_mut().zip(&mut self.pieces))
        {
            let header = &mut header.msg_hdr;
            header.msg_name = name.as_ptr().cast_mut().cast();
            header.msg_namelen = name.len();
            header.msg_iov = piece;
            header.msg_iovlen = 1;
            if header.msg_controllen > 0 {
                header.msg_control = control.as_mut_ptr().cast();
            }
        }
        let count = u32::try_from(self.headers.len()).unwrap_or(0);
        // SAFETY: every header points to a name, a piece and control data of its own, which live
        // in this object; each piece points into bytes borrowed for this call.
        let sent =
            unsafe { libc::sendmmsg(socket.as_raw_fd(), self.headers.as_mut_ptr(), count, 0) };
        match usize::try_from(sent) {
            Ok(sent) => Sent::Messages(sent),
            Err(_) => match io::Error::last_os_error().raw_os_error().unwrap_or(0) {
                libc::EAGAIN => Sent::Full,
                number => Sent::Failed(number),
            },
        }
    }

    fn add(&mut self, train: &Train, bytes: &[u8], is_ipv6: bool) {
        // SAFETY: plain data of the kernel's, for which zeroes are valid.
        let mut header: libc::mmsghdr = unsafe { zeroed() };
        let mut control = [0; CONTROL_WORDS];
        let mut writer = ControlWriter {
            control: &mut control,
            words: 0,
        };
        if bytes.len() > train.segment_bytes
            && let Ok(size) = u16::try_from(train.segment_bytes)
        {
            writer.put(libc::SOL_UDP, libc::UDP_SEGMENT, &size.to_ne_bytes());
        }
        match train.from.filter(|ip| !ip.is_unspecified()) {
            Some(IpAddr::V4(ip)) if !is_ipv6 => {
                // in_pktinfo: interface, local address, and one that only receivers get.
                let mut info = [0; 12];
                info[4..8].copy_from_slice(&ip.octets());
                writer.put(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
            }
            Some(ip) if is_ipv6 => {
                // in6_pktinfo: local address, interface.
                let mut info = [0; 20];
                info[..16].copy_from_slice(&mapped(ip).octets());
                writer.put(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
            }
            Some(_) | None => {}
        }
        header.msg_hdr.msg_controllen = writer.words.saturating_mul(size_of::<u64>()) as _;
        self.names.push(name_of(train.to, is_ipv6));
        self.controls.push(control);
        self.pieces.push(libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        });
        self.headers.push(header);
    }
}

/// Appends control messages (`cmsg(3)`), whose layout it writes as bytes.
struct ControlWriter<'a> {
    control: &'a mut Control,
    words: usize,
}

impl ControlWriter<'_> {
    /// Appends a message; one that does not fit is left out.
    fn put(&mut self, level: i32, kind: i32, data: &[u8]) {
        const HEADER_WORDS: usize = size_of::<libc::cmsghdr>() / size_of::<u64>();
        let data_words = data.len().div_ceil(size_of::<u64>());
        let Some(place) = self
            .control
            .get_mut(self.words..)
            .and_then(|rest| rest.get_mut(..HEADER_WORDS.saturating_add(data_words)))
        else {
            return;
        };
        // SAFETY: all-zero is a valid header.
        let mut header: libc::cmsghdr = unsafe { zeroed() };
        header.cmsg_len = size_of::<libc::cmsghdr>().saturating_add(data.len()) as _;
        header.cmsg_level = level;
        header.cmsg_type = kind;
        // SAFETY: `place` is as large as the header and the data, and aligned to 8 bytes.
        unsafe {
            let start = place.as_mut_ptr();
            start.cast::<libc::cmsghdr>().write(header);
            let rest = start.add(HEADER_WORDS).cast::<u8>();
            std::ptr::copy_nonoverlapping(data.as_ptr(), rest, data.len());
        }
        self.words = self.words.saturating_add(HEADER_WORDS + data_words);
    }
}

fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

/// The address as a socket of its family takes it.
fn name_of(to: SocketAddr, is_ipv6: bool) -> SockAddr {
    match to {
        SocketAddr::V4(to) if is_ipv6 => {
            SocketAddrV6::new(to.ip().to_ipv6_mapped(), to.port(), 0, 0).into()
        }
        SocketAddr::V4(_) | SocketAddr::V6(_) => to.into(),
    }
}

/// Has a socket send without checksums, or with: without them the kernel takes no trains.
#[cfg(test)]
pub(super) fn refuse_trains(socket: BorrowedFd<'_>, refuses: bool) {
    let value = i32::from(refuses);
    // SAFETY: the pointer is to an int of this function's, of the length that is told.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NO_CHECK,
            std::ptr::from_ref(&value).cast(),
            u32::try_from(size_of::<i32>()).unwrap(),
        )
    };
    assert_eq!(result, 0);
}

/// Has a socket of IPv6 send as if its ways took packets of so many bytes at most.
#[cfg(test)]
pub(super) fn narrow(socket: BorrowedFd<'_>, packet_bytes: i32) {
    // SAFETY: the pointer is to an int of this function's, of the length that is told.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU,
            std::ptr::from_ref(&packet_bytes).cast(),
            u32::try_from(size_of::<i32>()).unwrap(),
        )
    };
    assert_eq!(result, 0);
}
