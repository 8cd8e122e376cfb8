//! A life of the world that a seed decides.

use std::time::{Duration, Instant};

use super::acts::Goodbye;
use super::chance::Chance;
use super::clip::Clip;
use super::kit::publisher::Progress;
use super::network::Quality;
use super::publisher::Fate;
use super::viewer::{SimViewer, Stage, Way};
use super::watch::Tally;
use super::world::{Plan, World};

/// How long a random life lasts, before everyone goes.
pub const LIFE: Duration = Duration::from_secs(20);
/// Viewers at once.
const VIEWERS_MAX: usize = 6;

/// What came of a life.
pub struct Outcome {
    /// The trace as a number.
    pub hash: u64,
    /// How much was checked.
    pub tally: Tally,
    /// Publishes that started.
    pub publishes: u32,
    /// Turns that links, refusals and overflows took.
    pub counts: [u64; 3],
}

struct Life {
    world: World,
    chance: Chance,
    /// For each room: who publishes, and when somebody is to.
    encoders: Vec<(Option<usize>, Instant)>,
}

/// Lives the life of a seed.
pub fn live(seed: u64, print: bool) -> Outcome {
    let mut chance = Chance::of(&[seed, 5]);
    let cores = 1 + u16::try_from(chance.below(3)).unwrap();
    let media_frames = [4, 64, 4_096][chance.below(3)];
    let mut clips = vec![Clip::baseline()];
    if chance.hits(500) {
        clips.push(if chance.hits(500) {
            Clip::reordered()
        } else {
            Clip::baseline()
        });
    }
    let world = World::new(
        Plan {
            seed,
            cores,
            media_frames,
            print,
        },
        &clips,
    );
    let start = world.now;
    let mut encoder = || (None, start + chance.millis(0, 3_000));
    let encoders = clips.iter().map(|_| encoder()).collect();
    let mut life = Life {
        world,
        chance,
        encoders,
    };
    for _ in 0..life.chance.below(4) {
        life.join();
    }
    while life.world.now < start + LIFE {
        // Some lives are calm: what needs quiet to be checked is checked in them.
        let calm = if seed.is_multiple_of(4) { 4 } else { 1 };
        let pause = life.chance.millis(20, 1_200) * calm;
        life.world.run_for(pause);
        life.publish();
        life.act();
    }
    life.world.end();
    let world = &life.world;
    let sum = |count: fn(&super::world::SimCore) -> u64| world.cores.iter().map(count).sum();
    Outcome {
        hash: world.trace.hash(),
        tally: world.tally(),
        publishes: world.webhooks.started,
        counts: [
            sum(|core| core.counters.datagrams_forwarded.get()),
            sum(|core| core.counters.media_mailbox_drops.get()),
            world.control.counters().publish_busy.get(),
        ],
    }
}

impl Life {
    /// Encoders connect when it is time, and again when they were refused.
    fn publish(&mut self) {
        for room in 0..self.encoders.len() {
            let (who, when) = self.encoders[room];
            let refused = who.is_some_and(|who| {
                let publisher = &self.world.publishers[who];
                let is_refused = matches!(publisher.rtmp.progress(), Progress::Refused(_));
                is_refused || publisher.closed_by_server
            });
            if refused {
                self.encoders[room] = (None, self.world.now + Duration::from_secs(1));
            } else if who.is_none() && self.world.now >= when {
                self.encoders[room].0 = Some(self.world.publish(room));
            }
        }
    }

    fn act(&mut self) {
        match self.chance.below(22) {
            0..=4 => self.join(),
            5 | 6 => {
                let way = if self.chance.hits(500) {
                    Goodbye::Signalling
                } else {
                    Goodbye::Dtls
                };
                self.with_viewer(|world, viewer| world.leave(viewer, way));
            }
            7 => self.with_viewer(World::silence),
            8 | 9 => self.with_viewer(World::rebind),
            10 => {
                let time = self.chance.millis(50, 2_000);
                self.with_viewer(|world, viewer| world.cut_off(viewer, time));
            }
            11..=13 => {
                let reset = self.chance.hits(700);
                self.with_publisher(|world, who| world.end_publisher(who, reset));
            }
            14 => {
                let time = self.chance.millis(100, 3_000);
                let room = self.chance.below(self.encoders.len());
                if let (Some(who), _) = self.encoders[room] {
                    self.world.stall_publisher(who, time);
                }
            }
            15 if self.chance.hits(500) => self.with_publisher(World::half_open),
            15 | 16 => {
                let room = self.chance.below(self.encoders.len());
                self.world.publish(room);
            }
            17 | 18 => self.world.garbage_datagrams(),
            19 => self.world.garbage_publisher(),
            _ => {
                let core = self.chance.below(self.world.cores.len());
                let time = self.chance.millis(20, 400);
                self.world.stall_core(core, time);
            }
        }
    }

    fn join(&mut self) {
        let present = |stage| matches!(stage, Stage::Asking | Stage::Playing);
        let count = self
            .world
            .viewers
            .iter()
            .filter(|viewer| present(viewer.stage))
            .count();
        if count < VIEWERS_MAX {
            let room = self.chance.below(self.encoders.len());
            let way = if self.chance.hits(500) {
                Way::Whep
            } else {
                Way::WebSocket
            };
            let quality = match self.chance.hits(400) {
                true => Quality::GOOD,
                false => Quality::any(&mut self.chance),
            };
            self.world.join(room, way, quality);
        }
    }

    fn with_viewer(&mut self, act: impl FnOnce(&mut World, usize)) {
        let viewers = self.world.viewers.iter().enumerate();
        let plays = |viewer: &SimViewer| {
            viewer.stage == Stage::Playing && viewer.kit.connected && viewer.accepted
        };
        let playing = viewers.filter(|(_, viewer)| plays(viewer));
        let playing: Vec<usize> = playing.map(|(index, _)| index).collect();
        let chosen = self.chance.below(playing.len());
        if let Some(&viewer) = playing.get(chosen) {
            act(&mut self.world, viewer);
        }
    }

    /// Ends a room's publisher somehow; it comes back.
    fn with_publisher(&mut self, act: impl FnOnce(&mut World, usize)) {
        let room = self.chance.below(self.encoders.len());
        let back = self.world.now + self.chance.millis(100, 5_000);
        if let (Some(who), _) = self.encoders[room] {
            if self.world.publishers[who].fate == Fate::Alive {
                act(&mut self.world, who);
            }
            self.encoders[room] = (None, back);
        }
    }
}
