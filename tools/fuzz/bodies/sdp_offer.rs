//! A viewer's SDP, as an offer and as an answer to ours: whatever it says, there is no panic, no
//! answer of another shape than the offer's, and the session made of it lives.
use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rtmpeer::ids::{CoreId, IdSource, ViewerId};
use rtmpeer::media::time::Timebase;
use rtmpeer::webrtc::batch::SendBatch;
use rtmpeer::webrtc::{Certificate, Viewer, ViewerFactory, ViewerOutput};

const HIGH: Option<[u8; 3]> = Some([0x64, 0x00, 0x1f]);

thread_local! {
    static FACTORY: RefCell<ViewerFactory> = RefCell::new(factory());
}

fn factory() -> ViewerFactory {
    let timebase = Timebase::new(Instant::now(), Duration::from_secs(1_700_000_000));
    let certificate = Certificate::generate().expect("a certificate");
    ViewerFactory::new(CoreId(0), certificate, timebase, IdSource::seeded(1)).expect("a factory")
}

/// One input.
pub fn fuzz(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let now = Instant::now();
    let local = [SocketAddr::from(([192, 0, 2, 1], 8_189))];
    FACTORY.with_borrow_mut(|factory| {
        if let Ok((viewer, answer)) = factory.answer(ViewerId(1), text, &local, HIGH, now) {
            check_answer(text, &answer, &viewer);
            drain(viewer, now);
        }
        let (mut viewer, offer) = factory
            .offer(ViewerId(2), &local, HIGH, now)
            .expect("an offer depends on nobody");
        assert_eq!(sections(&offer).len(), 2);
        if viewer.accept_answer(text, now).is_ok() {
            drain(viewer, now);
        }
        let _ = factory
            .offer(ViewerId(3), &local, None, now)
            .map(|(mut viewer, _)| {
                text.lines().take(100).for_each(|line| {
                    let _ = viewer.add_candidate(line, now);
                });
            });
    });
}

fn sections(sdp: &str) -> Vec<&str> {
    sdp.lines().filter(|line| line.starts_with("m=")).collect()
}

fn check_answer(offer: &str, answer: &str, viewer: &Viewer) {
    let (asked, answered) = (sections(offer), sections(answer));
    assert_eq!(asked.len(), answered.len(), "an m-line for each");
    for (ask, reply) in asked.iter().zip(&answered) {
        let media = |line: &str| line.split(' ').next().map(str::to_owned);
        assert_eq!(media(ask), media(reply), "the same media in the same place");
    }
    let carried = answered
        .iter()
        .filter(|line| line.split(' ').nth(1) != Some("0"));
    assert!(
        (1..=2).contains(&carried.count()),
        "at least one track, at most two"
    );
    let ufrag = format!("a=ice-ufrag:{}", viewer.ufrag());
    assert!(answer.lines().any(|line| line == ufrag));
    assert!(
        answer
            .lines()
            .any(|line| line == "a=setup:passive" || line == "a=setup:active")
    );
    assert!(
        !answer
            .lines()
            .any(|line| line == "a=sendrecv" || line == "a=recvonly")
    );
}

fn drain(mut viewer: Viewer, now: Instant) {
    let mut batch = SendBatch::default();
    for seconds in [0, 1, 9, 11] {
        let now = now + Duration::from_secs(seconds);
        viewer.handle_timeout(now);
        while let ViewerOutput::Event(_) = viewer.poll_output(now, &mut batch) {}
    }
    assert!(batch.is_empty(), "nothing is sent before a check came");
    viewer.close(now, &mut batch);
}
