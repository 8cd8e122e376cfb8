//! The real server on loopback: real sockets, in-process publishers and players.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may stop where they stand"
)]

#[path = "../kit/mod.rs"]
mod kit;

mod habits;
mod hostile;
mod media;
mod metrics;
mod program;
mod signalling;
mod tls;
mod webhooks;

use std::time::Duration;

use kit::clip::LiveClip;
use kit::server::{KitServer, PATIENCE, wait_for};
use kit::udp_viewer::UdpViewer;

/// Waits until the list of rooms says that a room is live, or not.
fn wait_live(server: &KitServer, room: &str, live: bool) {
    wait_for(&format!("room {room} live={live}"), || {
        let rooms = server.http("GET", "/v1/rooms", &[], "").body;
        let listed =
            rooms.contains(&format!("\"room\":\"{room}\"")) && rooms.contains("\"live\":true");
        (listed == live).then_some(())
    });
}

/// A server, a live room and a player that sees and hears it.
fn playing(cores: u16, room: &str) -> (KitServer, LiveClip, UdpViewer) {
    let server = KitServer::start(cores, &[]);
    let clip = LiveClip::publish(server.addresses.rtmp, room);
    wait_live(&server, room, true);
    let mut viewer = UdpViewer::new();
    viewer.join_by_whep(&server, room);
    plays(&mut viewer, "first pictures and sounds");
    (server, clip, viewer)
}

/// Waits until ten more pictures and sounds have come.
fn plays(viewer: &mut UdpViewer, what: &str) {
    let (pictures, sounds) = viewer.counts();
    viewer.play_until(what, PATIENCE, |player| {
        player.pictures().count() >= pictures + 10 && player.sounds().count() >= sounds + 10
    });
}

/// Plays for a while.
fn play_for(viewer: &mut UdpViewer, time: Duration) {
    let until = rtmpeer::runtime::now() + time;
    while rtmpeer::runtime::now() < until {
        viewer.step();
    }
}
