//! Core to core: what a message costs, and how long it takes to arrive.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "criterion's macros; a bench may stop"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use mio::{Events, Poll, Token};
use rtmpeer::runtime::{DOORBELL, Doorbell, mailbox, now};

/// Put and take on one thread: the queue alone.
fn same_thread(criterion: &mut Criterion) {
    let (postbox, mailbox) = mailbox(1_024, None);
    criterion.bench_function("mailbox/put_take", |bencher| {
        bencher.iter(|| {
            postbox.put(black_box(7_u64)).unwrap();
            mailbox.take()
        });
    });
}

/// A message there and back between two poll loops, each asleep until it is woken.
fn round_trip(criterion: &mut Criterion) {
    let (there, there_poll) = waking_box();
    let (back, back_poll) = waking_box();
    let (there_postbox, there_mailbox, there_bell) = there;
    let (back_postbox, back_mailbox, back_bell) = back;
    let echo = std::thread::spawn(move || {
        let mut poll = there_poll;
        let mut events = Events::with_capacity(8);
        loop {
            poll.poll(&mut events, None).unwrap();
            there_bell.silence();
            while let Some(message) = there_mailbox.take() {
                back_postbox.post(message).unwrap();
                if message == u64::MAX {
                    return;
                }
            }
        }
    });
    let mut poll = back_poll;
    let mut events = Events::with_capacity(8);
    criterion.bench_function("mailbox/wake_round_trip", |bencher| {
        bencher.iter_custom(|rounds| {
            let began: Instant = now();
            for round in 0..rounds {
                there_postbox.post(round).unwrap();
                loop {
                    poll.poll(&mut events, Some(Duration::from_secs(5)))
                        .unwrap();
                    back_bell.silence();
                    if back_mailbox.take().is_some() {
                        break;
                    }
                }
            }
            now() - began
        });
    });
    there_postbox.post(u64::MAX).unwrap();
    echo.join().unwrap();
}

type WakingBox = (
    rtmpeer::runtime::Postbox<u64>,
    rtmpeer::runtime::Mailbox<u64>,
    Doorbell,
);

fn waking_box() -> (WakingBox, Poll) {
    let poll = Poll::new().unwrap();
    let token: Token = DOORBELL;
    let bell = Doorbell::new(poll.registry(), token).unwrap();
    let (postbox, mailbox) = mailbox(1_024, Some(bell.clone()));
    ((postbox, mailbox, bell), poll)
}

criterion_group!(benches, same_thread, round_trip);
criterion_main!(benches);
