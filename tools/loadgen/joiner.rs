//! Joins at a steady rate: an offer each, posted over HTTP as WHEP has it.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rtmpeer::runtime::now;

use crate::kit_viewer::KitViewer;
use crate::options::Options;
use crate::publishers::room_name;
use crate::viewers::{Newcomer, PayloadTypes, Viewers};
use crate::{Failure, http, pause};

/// Joins a second that one thread posts; more take more threads.
const JOINS_PER_THREAD: f64 = 50.0;
const THREADS_MAX: f64 = 32.0;
const CREATED: u16 = 201;

/// Joins all viewers; gives how many the server took.
pub(crate) fn join_all(
    options: &Options,
    server: SocketAddr,
    viewers: &Viewers,
) -> Result<usize, Failure> {
    let threads = thread_count(options.join_rate);
    let next = AtomicUsize::new(0);
    let began = now();
    let worker = || -> Result<usize, String> {
        let mut joined = 0;
        let mut failure = None;
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= options.viewers {
                break;
            }
            let due = Duration::from_secs_f64(crate::frames::whole_f64(index) / options.join_rate);
            pause((began + due).saturating_duration_since(now()));
            match join(options, server, index).and_then(|newcomer| viewers.add(newcomer)) {
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

fn join(options: &Options, server: SocketAddr, index: usize) -> Result<Newcomer, Failure> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_nonblocking(true)?;
    let mut player = KitViewer::new(socket.local_addr()?, now());
    let offer = player.offer();
    let room = options.room(index);
    let posted = now();
    let path = format!("/{}/whep", room_name(room));
    let (status, answer) = http::request(server, "POST", &path, &offer)?;
    let answered = now();
    if status != CREATED {
        return Err(format!("{status} {answer}").into());
    }
    player.accept(&answer);
    Ok(Newcomer {
        room,
        inspected: options.inspects(index),
        player,
        socket,
        payload_types: PayloadTypes::read(&answer),
        posted,
        answered,
    })
}
