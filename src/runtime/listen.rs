//! The sockets that accept connections.

use std::io;
use std::net::SocketAddr;

use mio::net::TcpListener;
use socket2::{Domain, Protocol, Socket, Type};

use crate::limits::LISTEN_BACKLOG;

/// Listens on `address`. Whether `[::]` takes IPv4 as well is the system's to say
/// (`net.ipv6.bindv6only`).
///
/// # Errors
/// When the system refuses it.
pub fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // After a restart, connections of the server before may still rest in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    #[test]
    fn viewers_that_come_all_at_once_are_not_turned_away_before_they_are_accepted() {
        let listener = listen_on("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let connect = |_| TcpStream::connect_timeout(&address, Duration::from_secs(3)).ok();
        let crowd: Vec<_> = (0..500).map_while(connect).collect();
        let text = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        let allowed: usize = text.trim().parse().unwrap();
        assert!(crowd.len() >= allowed.min(500), "{} wait", crowd.len());
        // It does not wait for others.
        for _ in &crowd {
            listener.accept().unwrap();
        }
        let error = listener.accept().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn an_address_that_was_just_in_use_can_be_listened_on_again() {
        let listener = listen_on("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        // Closed by this side first: its port rests in TIME_WAIT.
        drop(listener.accept().unwrap());
        drop((client, listener));
        let listener = listen_on(address).unwrap();
        let error = listen_on(address).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(listener);
    }

    #[test]
    fn what_listens_on_all_ipv6_addresses_is_reached_by_ipv4_where_the_system_allows_it() {
        let Ok(listener) = listen_on("[::]:0".parse().unwrap()) else {
            // This machine has no IPv6.
            return;
        };
        let port = listener.local_addr().unwrap().port();
        let text = std::fs::read_to_string("/proc/sys/net/ipv6/bindv6only").unwrap();
        let reached = TcpStream::connect(("127.0.0.1", port)).is_ok();
        assert_eq!(reached, text.trim() == "0");
    }
}
