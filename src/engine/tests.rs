//! What the engine's tests begin with, and whose fault it is when no session comes about.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks for one kind of output among all"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Certificate, Engine, EngineConfig, EngineOutput};
use crate::ids::{CoreId, IdSource, RoomId, RoomName, ViewerId};
use crate::media::time::Timebase;
use crate::messages::{ControlMsg, CoreMsg, SdpFault, ViewerBegin};
use crate::webrtc::demux::ufrag_for;

/// The first of two cores, and the instant at which its timeline begins.
pub(super) fn engine() -> (Engine, Instant) {
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    let now = Instant::now();
    (engine_of(CoreId(0), now), now)
}

/// One of two cores.
pub(super) fn engine_of(core: CoreId, now: Instant) -> Engine {
    let engine = Engine::new(EngineConfig {
        core,
        cores: 2,
        timebase: Timebase::new(now, Duration::from_secs(1_700_000_000)),
        certificate: Certificate::generate().unwrap(),
        ids: IdSource::seeded(1),
        counters: Arc::default(),
    });
    engine.unwrap()
}

/// A viewer that joins a room and is sent an offer.
pub(super) fn joins(viewer: u64, room: RoomId) -> CoreMsg {
    let candidates = vec!["192.0.2.1:8189".parse().unwrap()];
    joins_so(viewer, room, ViewerBegin::SendOffer, candidates)
}

fn joins_so(viewer: u64, room: RoomId, begin: ViewerBegin, candidates: Vec<SocketAddr>) -> CoreMsg {
    CoreMsg::AddViewer {
        viewer: ViewerId(viewer),
        room,
        name: RoomName::parse("room").unwrap(),
        begin,
        candidates,
        profile_level_id: None,
    }
}

/// What became of a viewer that joins so.
fn join(begin: ViewerBegin, candidates: Vec<SocketAddr>) -> Result<String, SdpFault> {
    let (mut engine, now) = engine();
    engine.handle_message(joins_so(1, RoomId(1), begin, candidates), now);
    loop {
        match engine.poll_output(now) {
            EngineOutput::Control(ControlMsg::ViewerSdp { sdp, .. }) => return sdp,
            EngineOutput::Timeout(_) => panic!("nothing was said"),
            _ => {}
        }
    }
}

/// A STUN binding request with a ufrag of a core's, of a viewer that does not exist.
fn check(core: CoreId) -> Vec<u8> {
    let ufrag = ufrag_for(core, &mut IdSource::seeded(9));
    let name = format!("{ufrag}:peer");
    let mut message = vec![0, 1, 0, 44, 0x21, 0x12, 0xa4, 0x42];
    message.extend([7; 12]);
    message.extend([0, 6, 0, 16]);
    message.extend(name.as_bytes());
    message.extend([0, 8, 0, 20]);
    message.extend([0; 20]);
    message
}

/// What an engine has for the other core.
fn passed_on(engine: &mut Engine, now: Instant) -> Vec<CoreMsg> {
    let mut messages = Vec::new();
    loop {
        match engine.poll_output(now) {
            EngineOutput::Core { message, .. } => messages.push(message),
            EngineOutput::Timeout(_) => return messages,
            _ => {}
        }
    }
}

#[test]
fn a_stranger_s_datagram_is_passed_on_once() {
    let (mut first, now) = engine();
    let mut second = engine_of(CoreId(1), now);
    let stranger = SocketAddr::from(([198, 51, 100, 7], 40_000));
    let to = SocketAddr::from(([192, 0, 2, 1], 8_189));
    // Each takes the address for one of the other's.
    first.handle_datagram(stranger, to, &check(CoreId(1)), now);
    second.handle_datagram(stranger, to, &check(CoreId(0)), now);
    assert_eq!(passed_on(&mut first, now).len(), 1);
    assert_eq!(passed_on(&mut second, now).len(), 1);
    first.handle_datagram(stranger, to, &[22; 13], now);
    let message = passed_on(&mut first, now).pop().unwrap();
    let dropped = second.counters.datagrams_dropped_unknown.get();
    second.handle_message(message, now);
    let back = passed_on(&mut second, now);
    assert!(back.is_empty(), "{back:?}");
    assert_eq!(second.counters.datagrams_dropped_unknown.get(), dropped + 1);
}

#[test]
fn a_session_without_an_address_is_the_server_s_fault_and_an_offer_of_nonsense_is_not() {
    let address = vec!["192.0.2.1:8189".parse().unwrap()];
    assert!(join(ViewerBegin::SendOffer, address.clone()).is_ok());
    let without = join(ViewerBegin::SendOffer, Vec::new());
    assert!(matches!(without, Err(SdpFault::Setup(_))), "{without:?}");
    let nonsense = join(ViewerBegin::Offer("v=1".into()), address);
    assert!(matches!(nonsense, Err(SdpFault::Viewer(_))), "{nonsense:?}");
}
