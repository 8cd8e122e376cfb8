//! Datagrams and descriptions that are not what they seem.

use str0m::ice::{StunMessage, TransId};

use super::*;
use crate::messages::ViewerEnd;

#[test]
fn stranger_gets_nothing_and_changes_nothing() {
    let mut world = World::answering();
    let stranger = SocketAddr::from(([203, 0, 113, 66], 1_234));
    // A record that looks like a ClientHello, a report and a picture.
    let mut hello = vec![0x16, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0];
    hello.resize(200, 0);
    for first in 0..=255_u8 {
        let mut datagram = hello.clone();
        datagram[0] = first;
        let now = world.now;
        assert!(!world.viewer.verify_stun(stranger, server(), &datagram, now));
        world
            .viewer
            .handle_datagram(stranger, server(), &datagram, now);
    }
    world.settle();
    world = world.connected();
    world.play(30);
    assert!(world.sent.iter().all(|(to, _)| *to != stranger));
    world.assert_all_arrived();
}

#[test]
fn client_hello_from_another_address_is_not_answered() {
    let mut world = World::answering();
    world.divert = Some(SocketAddr::from(([203, 0, 113, 66], 1_234)));
    world.run(Duration::from_secs(3));
    assert!(world.viewer.stats().datagrams_ignored > 0);
    assert!(!world.viewer.ready());
    // Checks are answered with 64 bytes and less than 100; a flight of DTLS is larger.
    let most = world.sent.iter().map(|(_, bytes)| *bytes).max();
    assert!(most < Some(100), "{most:?}");
    world.divert = None;
    // The player repeats its flight after 1, 2 and 4 s, give or take a random part.
    world.run(Duration::from_secs(6));
    assert!(world.viewer.ready());
}

/// A binding request as the player would send it, sealed with `password`.
fn binding_request(username: &str, password: &str) -> Vec<u8> {
    let hmac = str0m_aws_lc_rs::default_provider().sha1_hmac_provider;
    let sha1 = |key: &[u8], parts: &[&[u8]]| hmac.sha1_hmac(key, parts);
    let request = StunMessage::binding_request(username, TransId::new(), true, 1, 100, true);
    let mut datagram = vec![0; 400];
    let sealed = request.to_bytes(Some(password.as_bytes()), &mut datagram, sha1);
    datagram.truncate(sealed.unwrap());
    datagram
}

#[test]
fn forged_binding_requests_are_not_taken() {
    let now = start();
    let mut player = KitViewer::new(player_address(), now);
    let offer = player.offer();
    let mut factory = factory(1, now);
    let (mut viewer, answer) = factory
        .answer(ViewerId(1), &offer, &[server()], HIGH, now)
        .unwrap();
    let value = |sdp: &str, name: &str| {
        let line = sdp.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().to_owned()
    };
    let (ours, theirs) = (
        value(&answer, "a=ice-ufrag:"),
        value(&offer, "a=ice-ufrag:"),
    );
    let password = value(&answer, "a=ice-pwd:");
    let username = format!("{ours}:{theirs}");
    let genuine = binding_request(&username, &password);
    let mut forged = vec![
        binding_request(&username, "another password, as long as ours"),
        binding_request(&format!("{ours}:another"), &password),
        binding_request(&format!("another:{theirs}"), &password),
    ];
    forged.extend((0..genuine.len()).map(|length| genuine[..length].to_vec()));
    // The header's length, type and cookie, and everything that integrity covers. The last 8
    // bytes are the fingerprint, which proves nothing.
    forged.extend((0..genuine.len() - 8).map(|place| {
        let mut datagram = genuine.clone();
        datagram[place] ^= 1;
        datagram
    }));
    let mut batch = SendBatch::default();
    for datagram in &forged {
        assert!(!viewer.verify_stun(player_address(), server(), datagram, now));
        viewer.handle_datagram(player_address(), server(), datagram, now);
        while let ViewerOutput::Event(_) = viewer.poll_output(now, &mut batch) {}
    }
    assert!(
        batch.is_empty(),
        "nothing goes out before the address is proved"
    );
    assert!(viewer.verify_stun(player_address(), server(), &genuine, now));
    viewer.handle_datagram(player_address(), server(), &genuine, now);
    while let ViewerOutput::Event(_) = viewer.poll_output(now, &mut batch) {}
    let (train, bytes) = batch.trains().next().unwrap();
    assert_eq!(train.to, player_address());
    assert!(bytes.len() <= genuine.len(), "no amplification");
}

#[test]
fn wrong_fingerprint_gets_no_media() {
    let now = start();
    let mut player = KitViewer::new(player_address(), now);
    let offer = player.offer();
    let at = offer.find("a=fingerprint:sha-256 ").unwrap() + "a=fingerprint:sha-256 ".len();
    let digit = if &offer[at..=at] == "A" { "B" } else { "A" };
    let line_end = at + offer[at..].find('\r').unwrap();
    let old = &offer[at..line_end];
    let forged = offer.replace(old, &format!("{digit}{}", &old[1..]));
    assert_ne!(offer, forged);
    let mut factory = factory(1, now);
    let (viewer, answer) = factory
        .answer(ViewerId(1), &forged, &[server()], HIGH, now)
        .unwrap();
    player.accept(&answer);
    let mut world = World::of(viewer, player, now);
    world.run(Duration::from_secs(2));
    assert!(!world.viewer.ready());
    assert_eq!(world.events, [ViewerEvent::Ended(ViewerEnd::Failed)]);
    world.play(5);
    assert_eq!(world.player.media_datagrams, 0);
}
