//! A player on a real UDP socket: [`KitViewer`] with its IO, blocking.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rtmpeer::runtime::now;

use super::server::{KitServer, Reply};
use super::viewer::KitViewer;

/// A player that runs in the calling thread.
pub struct UdpViewer {
    /// The player.
    pub player: KitViewer,
    socket: UdpSocket,
    next: Instant,
}

impl UdpViewer {
    /// A player on a free loopback port.
    pub fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address: SocketAddr = socket.local_addr().unwrap();
        Self {
            player: KitViewer::new(address, now()),
            socket,
            next: now(),
        }
    }

    /// Joins a room by WHEP; gives the server's answer to the POST.
    pub fn join_by_whep(&mut self, server: &KitServer, room: &str) -> Reply {
        let offer = self.player.offer();
        let path = format!("/{room}/whep");
        let reply = server.http(
            "POST",
            &path,
            &[("Content-Type", "application/sdp")],
            &offer,
        );
        assert_eq!(reply.status, 201, "{}", reply.body);
        self.player.accept(&reply.body);
        reply
    }

    /// Plays for at most a few milliseconds: sends, receives, lets time pass.
    pub fn step(&mut self) {
        let socket = &self.socket;
        self.next = self.player.poll(|to, datagram| {
            // A datagram that cannot be sent is lost, as on any network.
            let _ = socket.send_to(datagram, to);
        });
        let wait = self
            .next
            .saturating_duration_since(now())
            .min(Duration::from_millis(5));
        if wait.is_zero() {
            self.player.handle_timeout(now());
            return;
        }
        self.socket.set_read_timeout(Some(wait)).unwrap();
        let mut buffer = [0; 2_048];
        match self.socket.recv_from(&mut buffer) {
            Ok((count, from)) => self.player.handle(from, &buffer[..count], now()),
            Err(_) => self.player.handle_timeout(now()),
        }
    }

    /// Plays until `done` says so; fails after `patience`.
    pub fn play_until(
        &mut self,
        what: &str,
        patience: Duration,
        mut done: impl FnMut(&KitViewer) -> bool,
    ) {
        let deadline = now() + patience;
        while !done(&self.player) {
            assert!(now() < deadline, "waited in vain for {what}");
            self.step();
        }
    }

    /// How many pictures and sounds arrived.
    pub fn counts(&self) -> (usize, usize) {
        (self.player.pictures().count(), self.player.sounds().count())
    }
}
