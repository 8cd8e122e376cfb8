//! Stopping in order.

use super::*;
use crate::limits::START_EVENT_WAIT;

fn drain(rig: &mut Rig) -> Vec<ControlOutput> {
    rig.control.drain(rig.now);
    rig.outputs()
}

fn is_drained(outputs: &[ControlOutput]) -> bool {
    outputs
        .iter()
        .any(|output| matches!(output, ControlOutput::Drained))
}

#[test]
fn every_core_is_told_once_with_a_deadline_that_leaves_time_to_end() {
    let mut rig = Rig::new(2);
    let outputs = drain(&mut rig);
    for core in [CoreId(0), CoreId(1)] {
        let told = to_core(&outputs, core);
        let [CoreMsg::Drain { deadline }] = told[..] else {
            panic!("{outputs:?}")
        };
        assert_eq!(*deadline, rig.now + DRAIN_DEADLINE - DRAIN_GRACE);
    }
    assert!(drain(&mut rig).is_empty(), "said twice");
}

#[test]
fn it_ends_when_every_core_has_ended_and_says_so_once() {
    let mut rig = Rig::new(2);
    drain(&mut rig);
    let core = CoreId(0);
    assert!(!is_drained(&rig.tell(ControlMsg::Drained { core })));
    assert!(
        !is_drained(&rig.tell(ControlMsg::Drained { core })),
        "one core twice"
    );
    let core = CoreId(1);
    assert!(is_drained(&rig.tell(ControlMsg::Drained { core })));
    assert!(rig.outputs().is_empty());
}

#[test]
fn a_core_that_says_nothing_is_not_waited_for() {
    let mut rig = Rig::new(2);
    drain(&mut rig);
    rig.tell(ControlMsg::Drained { core: CoreId(0) });
    assert!(!is_drained(&rig.wait(DRAIN_DEADLINE - DRAIN_GRACE)));
    let at = match rig.control.poll_output(rig.now) {
        ControlOutput::Timeout(at) => at,
        output => panic!("{output:?}"),
    };
    assert!(
        at < rig.now + DRAIN_GRACE,
        "the shell gives up at the deadline itself"
    );
    assert!(is_drained(&rig.wait(at - rig.now)));
}

#[test]
fn newcomers_are_refused() {
    let mut rig = Rig::new(1);
    let (core, publisher) = rig.control.place_publisher(peer()).unwrap();
    drain(&mut rig);
    assert!(rig.control.place_publisher(peer()).is_err());
    let outputs = rig.request_publish_on(core, publisher, "cam");
    assert_eq!(rejection(&outputs), Some(PublishRejection::Stopping));
    for request in [post("cam"), upgrade("cam", "ann")] {
        let conn = rig.conn();
        let outputs = rig.request(conn, request);
        let refused = response(&outputs, conn).unwrap();
        assert_eq!(refused.status, 503);
        assert!(refused.field("Retry-After").is_some());
    }
}

#[test]
fn sockets_are_closed_as_going_away_and_waiting_offers_answered() {
    let mut rig = Rig::new(1);
    let (ann, asks) = (rig.socket("cam", "ann"), rig.ask("cam"));
    let (plays, ..) = rig.play("cam");
    let outputs = drain(&mut rig);
    assert_eq!(close_code_of(&outputs, ann.conn), Some(1001));
    assert_eq!(status(&outputs, asks.conn), Some(503));
    assert!(rig.left(ann, ViewerEnd::Closed).is_empty());
    assert!(rig.left(asks, ViewerEnd::Closed).is_empty());
    assert!(rig.left(plays, ViewerEnd::Closed).is_empty());
    assert!(rig.control.rooms().is_empty());
}

#[test]
fn every_started_stream_ends_once_whether_its_core_says_so_or_not() {
    let mut rig = Rig::new(2);
    let (told, silent) = (rig.publish("told"), rig.publish("silent"));
    assert_eq!(events(&rig.wait(START_EVENT_WAIT)).len(), 2);
    drain(&mut rig);
    let outputs = rig.end(&told);
    assert_eq!(events(&outputs).len(), 1);
    for core in [told.core, silent.core] {
        let outputs = rig.tell(ControlMsg::Drained { core });
        let ended = events(&outputs);
        if core == silent.core {
            assert_eq!(ended.len(), 1);
            assert_eq!(ended[0].room, name("silent"));
            assert!(
                matches!(outputs.last(), Some(ControlOutput::Drained)),
                "{outputs:?}"
            );
        } else {
            assert!(ended.is_empty());
        }
    }
}

#[test]
fn a_core_that_drains_unasked_changes_nothing() {
    let mut rig = Rig::new(1);
    assert!(rig.tell(ControlMsg::Drained { core: CoreId(0) }).is_empty());
    rig.publish("cam");
}

#[test]
fn what_nobody_waits_for_any_longer_ends_with_its_end_event() {
    let mut rig = Rig::new(2);
    rig.publish("cam");
    let started = rig.wait(START_EVENT_WAIT);
    drain(&mut rig);
    rig.control.stop_now(rig.now);
    let outputs = rig.outputs();
    let [ended] = events(&outputs)[..] else {
        panic!("{outputs:?}")
    };
    assert_eq!(ended.kind.as_str(), "stream.ended");
    assert_eq!(ended.session, events(&started)[0].session);
    assert!(is_drained(&outputs));
    rig.control.stop_now(rig.now);
    assert!(rig.outputs().is_empty(), "said twice");
}
