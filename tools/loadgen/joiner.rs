//! Joins at a steady rate: by WHEP an offer each, posted over HTTP; by WebSocket an answer each
//! to the server's offer.

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use rtmpeer::runtime::now;
use rtmpeer::webrtc::Certificate;
use rtmpeer::webrtc::dtls::{KeyReceiver, TappedCrypto};
use tungstenite::{Message, WebSocket};

use crate::feedback::Sources;
use crate::frames::whole_f64;
use crate::kit_viewer::KitViewer;
use crate::options::{Options, Signalling};
use crate::publishers::room_name;
use crate::viewers::{Newcomer, Viewers};
use crate::{Failure, http, pause};

/// Joins a second that one thread makes; more take more threads.
const JOINS_PER_THREAD: f64 = 25.0;
const THREADS_MAX: f64 = 64.0;
const CREATED: u16 = 201;

/// Viewers that join one after the other.
pub(crate) struct Wave {
    first: usize,
    count: usize,
    rate: f64,
    /// Those of a storm, whose own work is done before it begins.
    prepared: Receiver<Prepared>,
}

/// A player with its offer made.
struct Prepared {
    player: KitViewer,
    socket: UdpSocket,
    keys: KeyReceiver,
    offer: String,
}

impl Wave {
    /// The viewers who watch.
    pub(crate) fn watching(options: &Options) -> Self {
        Self {
            first: 0,
            count: options.viewers,
            rate: options.join_rate,
            prepared: crossbeam_channel::never(),
        }
    }

    /// Those who join while the others watch.
    pub(crate) fn storm(options: &Options) -> Result<Self, Failure> {
        let crypto = crypto()?;
        let (to_wave, prepared) = bounded(options.storm.max(1));
        if options.signalling == Signalling::Whep {
            for _ in 0..options.storm {
                to_wave.send(prepare(&crypto)?)?;
            }
        }
        Ok(Self {
            first: options.viewers,
            count: options.storm,
            rate: options.storm_rate,
            prepared,
        })
    }

    /// When the last is to have been offered, after the first.
    pub(crate) fn time(&self) -> Duration {
        Duration::from_secs_f64(whole_f64(self.count) / self.rate)
    }
}

/// Joins all viewers of a wave; gives how many the server took.
pub(crate) fn join_all(
    options: &Options,
    server: SocketAddr,
    viewers: &Viewers,
    wave: &Wave,
) -> Result<usize, Failure> {
    let threads = thread_count(wave.rate).min(wave.count);
    let next = AtomicUsize::new(0);
    let began = now();
    let worker = || -> Result<usize, String> {
        let mut joined = 0;
        let mut failure = None;
        let crypto = crypto().map_err(|why| why.to_string())?;
        loop {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            if turn >= wave.count {
                break;
            }
            let due = Duration::from_secs_f64(whole_f64(turn) / wave.rate);
            pause((began + due).saturating_duration_since(now()));
            let prepared = wave.prepared.try_recv().ok();
            let index = wave.first + turn;
            let joined_now = match options.signalling {
                Signalling::Whep => whep(options, server, index, &crypto, prepared),
                Signalling::Ws => web_socket(options, server, index, &crypto),
            };
            match joined_now.and_then(|newcomer| viewers.add(newcomer)) {
                Ok(()) => joined += 1,
                Err(why) => failure = Some(why.to_string()),
            }
        }
        match failure {
            Some(why) if joined == 0 => Err(why),
            Some(_) | None => Ok(joined),
        }
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        running
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect()
    });
    let mut joined = 0;
    let mut failure = None;
    for result in results {
        match result.map_err(|_panic| "a joining thread died")? {
            Ok(count) => joined += count,
            Err(why) => failure = Some(why),
        }
    }
    match failure {
        Some(why) if joined == 0 => Err(format!("no viewer could join: {why}").into()),
        Some(_) | None => Ok(joined),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 1 and the most threads"
)]
fn thread_count(join_rate: f64) -> usize {
    (join_rate / JOINS_PER_THREAD)
        .ceil()
        .clamp(1.0, THREADS_MAX) as usize
}

/// One certificate and one configuration for all players of a thread.
fn crypto() -> Result<TappedCrypto, Failure> {
    Ok(TappedCrypto::new(&Certificate::generate()?)?)
}

fn player(crypto: &TappedCrypto) -> Result<(KitViewer, UdpSocket, KeyReceiver), Failure> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_nonblocking(true)?;
    let provider = Arc::clone(crypto.provider());
    let player = KitViewer::with_crypto(socket.local_addr()?, provider, now());
    let keys = crypto.take_receiver().ok_or("no DTLS session was made")?;
    Ok((player, socket, keys))
}

fn prepare(crypto: &TappedCrypto) -> Result<Prepared, Failure> {
    let (mut player, socket, keys) = player(crypto)?;
    let offer = player.offer();
    Ok(Prepared {
        player,
        socket,
        keys,
        offer,
    })
}

fn whep(
    options: &Options,
    server: SocketAddr,
    index: usize,
    crypto: &TappedCrypto,
    prepared: Option<Prepared>,
) -> Result<Newcomer, Failure> {
    let prepared = match prepared {
        Some(prepared) => prepared,
        None => prepare(crypto)?,
    };
    let Prepared {
        mut player,
        socket,
        keys,
        offer,
    } = prepared;
    let posted = now();
    let path = format!("/{}/whep", room_name(options.room(index)));
    let (status, answer) = http::request(server, index, "POST", &path, &offer)?;
    let answered = now();
    if status != CREATED {
        return Err(format!("{status} {answer}").into());
    }
    player.accept(&answer);
    let sources = Sources::read(&answer);
    let joined = (player, socket, keys);
    Ok(newcomer(options, index, joined, sources, posted, answered))
}

fn web_socket(
    options: &Options,
    server: SocketAddr,
    index: usize,
    crypto: &TappedCrypto,
) -> Result<Newcomer, Failure> {
    let (mut player, socket, keys) = player(crypto)?;
    let posted = now();
    let stream = http::connect(server, index)?;
    let room = room_name(options.room(index));
    let url = format!("ws://{server}/v1/ws?roomID={room}&clientID=load{index}&clientName=load");
    let (mut signalling, _response) = tungstenite::client(url, stream)?;
    let offer = loop {
        let Message::Text(text) = signalling.read()? else {
            continue;
        };
        let message: serde_json::Value = serde_json::from_str(&text)?;
        if message.get("type").is_some_and(|kind| kind == "getOffer") {
            let data = message.get("data").and_then(serde_json::Value::as_str);
            break data.ok_or("the offer has no text")?.to_owned();
        }
    };
    // Browsers begin DTLS where an offer leaves the choice to them (RFC 8842 §5.3); str0m does not.
    let answer = player.answer(&offer.replace("a=setup:actpass", "a=setup:passive"));
    let answer = serde_json::json!({ "type": "answer", "data": answer });
    signalling.send(Message::text(answer.to_string()))?;
    let answered = now();
    signalling.get_ref().set_nonblocking(true)?;
    let sources = Sources::read(&offer);
    let joined = (player, socket, keys);
    let mut newcomer = newcomer(options, index, joined, sources, posted, answered);
    newcomer.signalling = Some(signalling);
    Ok(newcomer)
}

/// Its WebSocket, which must answer pings.
pub(crate) type OpenSignalling = WebSocket<TcpStream>;

fn newcomer(
    options: &Options,
    index: usize,
    (player, socket, keys): (KitViewer, UdpSocket, KeyReceiver),
    sources: Sources,
    posted: Instant,
    answered: Instant,
) -> Newcomer {
    Newcomer {
        room: options.room(index),
        storm: index >= options.viewers,
        inspected: options.inspects(index),
        player,
        socket,
        keys,
        signalling: None,
        sources,
        posted,
        answered,
    }
}
