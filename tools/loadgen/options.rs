//! What the user asks for.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::netem::Netem;

/// How viewers join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Signalling {
    /// WHEP: an offer by POST.
    Whep,
    /// WebSocket: the server offers.
    Ws,
}

/// Publishes and watches, and tells what the server made of it.
#[derive(Debug, Clone, Parser)]
#[command(name = "loadgen")]
pub(crate) struct Options {
    /// Viewers altogether, spread evenly over the rooms.
    #[arg(long, default_value_t = 100)]
    pub(crate) viewers: usize,
    /// Rooms, with a publisher each.
    #[arg(long, default_value_t = 1)]
    pub(crate) rooms: usize,
    /// Seconds measured.
    #[arg(long, default_value_t = 10)]
    pub(crate) seconds: u64,
    /// Seconds between the last join and the measurement.
    #[arg(long, default_value_t = 4.0)]
    pub(crate) warm_up: f64,
    /// The server's program.
    #[arg(long, default_value = "target/release/rtmpeer")]
    pub(crate) server: PathBuf,
    /// CPUs the server gets, from the first on; the rest is the load generator's.
    #[arg(long, default_value_t = 1)]
    pub(crate) cores: usize,
    /// Viewers whose every packet is looked at, spread over the order of joining. The kernel
    /// drops the media of the others at their sockets.
    #[arg(long, default_value_t = 10)]
    pub(crate) inspect: usize,
    /// Joins offered a second.
    #[arg(long, default_value_t = 100.0)]
    pub(crate) join_rate: f64,
    /// How viewers join.
    #[arg(long, value_enum, default_value_t = Signalling::Whep)]
    pub(crate) signalling: Signalling,
    /// A network worse than loopback between server and viewers, both ways, as
    /// `loss=1%,delay=20ms,jitter=5ms`. The delays shown hold its own.
    #[arg(long)]
    pub(crate) netem: Option<Netem>,
    /// Viewers more that join during the measurement, to see what that does to the others.
    #[arg(long, default_value_t = 0)]
    pub(crate) storm: usize,
    /// Joins of those offered a second.
    #[arg(long, default_value_t = 1000.0)]
    pub(crate) storm_rate: f64,
    /// They join a room in which nobody publishes: what joining itself does to the others, and not the
    /// media that the newcomers get.
    #[arg(long)]
    pub(crate) storm_elsewhere: bool,
    /// Connect the viewers before anybody publishes: what a join costs by itself.
    #[arg(long)]
    pub(crate) join_first: bool,
    /// Publish pictures only: hundreds of rooms' sound is more than a small machine transcodes.
    #[arg(long)]
    pub(crate) no_sound: bool,
    /// Write the sound's messages together with the pictures, as encoders do that interleave both behind
    /// the picture's delay (OBS), instead of each at its own time.
    #[arg(long)]
    pub(crate) interleaved: bool,
    /// The picture's rate, in bit/s.
    #[arg(long, default_value_t = 2_500_000)]
    pub(crate) bitrate: u32,
    /// Measure the running server with this process id instead of starting one.
    #[arg(long, requires_all = ["rtmp", "http"])]
    pub(crate) pid: Option<u32>,
    /// Its RTMP address.
    #[arg(long)]
    pub(crate) rtmp: Option<SocketAddr>,
    /// Its HTTP address.
    #[arg(long)]
    pub(crate) http: Option<SocketAddr>,
    /// Its metrics address.
    #[arg(long)]
    pub(crate) metrics: Option<SocketAddr>,
    /// Write the figures to this file too.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

impl Options {
    /// Whether the viewer that joins as number `index` is looked at.
    pub(crate) fn inspects(&self, index: usize) -> bool {
        let wanted = self.inspect.min(self.viewers);
        if wanted <= 1 {
            return index + 1 == self.viewers && wanted == 1;
        }
        let last = self.viewers - 1;
        (0..wanted).any(|turn| turn * last / (wanted - 1) == index)
    }

    /// The room a viewer or publisher belongs to.
    pub(crate) fn room(&self, index: usize) -> usize {
        if self.storm_elsewhere && index >= self.viewers {
            return self.rooms;
        }
        index % self.rooms.max(1)
    }
}
