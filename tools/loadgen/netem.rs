//! A network worse than loopback, in this process: what a viewer sends and gets is lost, delayed
//! and jittered on its way through here. The order of a viewer's datagrams stays.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// Bytes on their way, at most: two seconds of fifty inspected viewers. More are lost.
const BYTES_MAX: usize = 64 * 1_024 * 1_024;
/// Longest delay or jitter taken.
const DELAY_MAX: Duration = Duration::from_secs(10);

/// What the user asks for: `loss=1%,delay=20ms,jitter=5ms`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Netem {
    /// Of 1.
    loss: f64,
    delay: Duration,
    /// At most so much more.
    jitter: Duration,
}

impl FromStr for Netem {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut netem = Self::default();
        for part in text.split(',') {
            let (name, value) = part
                .split_once('=')
                .ok_or("it has the form loss=1%,delay=20ms")?;
            match name.trim() {
                "loss" => {
                    let percent = number(value, "%")?;
                    if percent > 100.0 {
                        return Err("loss is at most 100%".into());
                    }
                    netem.loss = percent / 100.0;
                }
                "delay" => netem.delay = span(value)?,
                "jitter" => netem.jitter = span(value)?,
                other => return Err(format!("{other} is none of loss, delay, jitter")),
            }
        }
        Ok(netem)
    }
}

fn number(value: &str, unit: &str) -> Result<f64, String> {
    let digits = value.trim().strip_suffix(unit);
    let number: Option<f64> = digits.and_then(|digits| digits.trim().parse().ok());
    number
        .filter(|number| number.is_finite() && *number >= 0.0)
        .ok_or_else(|| format!("{value} is no number with {unit}"))
}

fn span(value: &str) -> Result<Duration, String> {
    let span = Duration::from_secs_f64((number(value, "ms")? / 1_000.0).min(1e6));
    if span > DELAY_MAX {
        return Err("delay and jitter are at most 10000ms".into());
    }
    Ok(span)
}

/// A datagram on its way.
#[derive(Debug)]
pub(crate) struct Travelling {
    pub(crate) viewer: usize,
    pub(crate) way: Way,
    pub(crate) bytes: Vec<u8>,
}

/// Which way it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// To the viewer: from whom, and when it comes (nanoseconds since 1970).
    In(SocketAddr, i64),
    /// From the viewer: to whom.
    Out(SocketAddr),
}

/// The network.
#[derive(Debug)]
pub(crate) struct Relay {
    netem: Netem,
    random: u64,
    serial: u64,
    bytes: usize,
    due: BinaryHeap<Reverse<(Instant, u64)>>,
    travelling: HashMap<u64, Travelling>,
    newest: HashMap<(usize, bool), Instant>,
    /// Datagrams lost.
    pub(crate) lost: u64,
}

impl Relay {
    pub(crate) fn new(netem: Netem) -> Self {
        Self {
            netem,
            random: 0x2545_f491_4f6c_dd1d,
            serial: 0,
            bytes: 0,
            due: BinaryHeap::new(),
            travelling: HashMap::new(),
            newest: HashMap::new(),
            lost: 0,
        }
    }

    /// Takes a datagram.
    pub(crate) fn put(&mut self, viewer: usize, way: Way, bytes: &[u8], now: Instant) {
        if self.chance() < self.netem.loss || self.bytes + bytes.len() > BYTES_MAX {
            self.lost += 1;
            return;
        }
        let wait = self.netem.delay + self.netem.jitter.mul_f64(self.chance());
        let newest = self.newest.entry((viewer, matches!(way, Way::In(..))));
        let newest = newest.or_insert(now);
        *newest = (now + wait).max(*newest);
        let way = match way {
            Way::In(from, at) => {
                let late = newest.saturating_duration_since(now).as_nanos();
                Way::In(from, at + i64::try_from(late).unwrap_or(0))
            }
            Way::Out(to) => Way::Out(to),
        };
        self.bytes += bytes.len();
        self.due.push(Reverse((*newest, self.serial)));
        let bytes = bytes.to_vec();
        self.travelling
            .insert(self.serial, Travelling { viewer, way, bytes });
        self.serial += 1;
    }

    /// When the next arrives.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((at, _))| *at)
    }

    /// The next that has arrived.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Travelling> {
        if self.next()? > now {
            return None;
        }
        let Reverse((_, serial)) = self.due.pop()?;
        let travelling = self.travelling.remove(&serial)?;
        self.bytes -= travelling.bytes.len();
        Some(travelling)
    }

    /// From 0 to below 1 (xorshift64).
    fn chance(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        f64::from(u32::try_from(self.random >> 32).unwrap_or(0)) / 4_294_967_296.0
    }
}
