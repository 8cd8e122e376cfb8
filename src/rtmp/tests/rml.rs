//! The session against rml_rtmp's own client, as a real peer.

use rml_rtmp::handshake::{Handshake, HandshakeProcessResult, PeerType};
use rml_rtmp::sessions::{
    ClientSession, ClientSessionConfig, ClientSessionEvent, ClientSessionResult,
    PublishRequestType, StreamMetadata,
};
use rml_rtmp::time::RtmpTimestamp;

use super::peer::Peer;
use super::{AUDIO, VIDEO, names};
use crate::rtmp::RtmpEvent;

/// Carries bytes between rml_rtmp's client and our session until both are quiet.
struct RmlClient {
    client: ClientSession,
    peer: Peer,
    events: Vec<ClientSessionEvent>,
}

impl RmlClient {
    /// After rml_rtmp's own handshake, which is the one with digests.
    fn new() -> Self {
        let mut peer = Peer::new();
        let mut handshake = Handshake::new(PeerType::Client);
        let first = handshake.generate_outbound_p0_and_p1().unwrap();
        peer.send(&first);
        let answer = std::mem::take(&mut peer.transmitted);
        let result = handshake.process_bytes(&answer).unwrap();
        let HandshakeProcessResult::Completed {
            response_bytes,
            remaining_bytes,
        } = result
        else {
            panic!("the handshake is not complete");
        };
        assert!(remaining_bytes.is_empty());
        peer.send(&response_bytes);
        let (client, results) = ClientSession::new(ClientSessionConfig::new()).unwrap();
        let mut this = Self {
            client,
            peer,
            events: Vec::new(),
        };
        this.take(results);
        this
    }

    fn take(&mut self, results: Vec<ClientSessionResult>) {
        for result in results {
            match result {
                ClientSessionResult::OutboundResponse(packet) => self.peer.send(&packet.bytes),
                ClientSessionResult::RaisedEvent(event) => self.events.push(event),
                ClientSessionResult::UnhandleableMessageReceived(_) => {}
            }
        }
        loop {
            let bytes = std::mem::take(&mut self.peer.transmitted);
            if bytes.is_empty() {
                return;
            }
            let results = self.client.handle_input(&bytes).unwrap();
            self.take(results);
        }
    }

    fn has(&self, event: &ClientSessionEvent) -> bool {
        self.events.contains(event)
    }
}

#[test]
fn rml_client_connects_publishes_sends_media_and_finishes() {
    let mut rml = RmlClient::new();
    let connect = rml.client.request_connection("live".into()).unwrap();
    rml.take(vec![connect]);
    assert!(rml.has(&ClientSessionEvent::ConnectionRequestAccepted));
    let publish = rml
        .client
        .request_publishing("room?t=1".into(), PublishRequestType::Live)
        .unwrap();
    rml.take(vec![publish]);
    assert_eq!(
        names(&rml.peer),
        ("live".into(), "room".into(), "t=1".into())
    );
    rml.peer.session.accept_publish(rml.peer.now);
    rml.peer.drain();
    rml.take(vec![]);
    assert!(rml.has(&ClientSessionEvent::PublishRequestAccepted));

    let mut metadata = StreamMetadata::new();
    metadata.video_width = Some(640);
    metadata.encoder = Some("rml".into());
    let result = rml.client.publish_metadata(&metadata).unwrap();
    rml.take(vec![result]);
    let mut expected = Vec::new();
    for index in 0..100_u32 {
        let time = 16_777_000 + index * 40;
        let length = usize::try_from(index).unwrap() * 97 + 1;
        let payload = bytes::Bytes::from(vec![u8::try_from(index).unwrap(); length]);
        let stamp = RtmpTimestamp::new(time);
        let video = rml
            .client
            .publish_video_data(payload.clone(), stamp, false)
            .unwrap();
        let audio = rml
            .client
            .publish_audio_data(payload.slice(..1), stamp, true)
            .unwrap();
        rml.take(vec![video, audio]);
        expected.push((VIDEO, time, payload.clone()));
        expected.push((AUDIO, time, payload.slice(..1)));
    }
    let (mut media, mut sizes) = (Vec::new(), Vec::new());
    for event in &rml.peer.events {
        match event.clone() {
            RtmpEvent::Video {
                timestamp_ms,
                payload,
            } => media.push((VIDEO, timestamp_ms, payload)),
            RtmpEvent::Audio {
                timestamp_ms,
                payload,
            } => media.push((AUDIO, timestamp_ms, payload)),
            RtmpEvent::Metadata(metadata) => sizes.push(metadata.width),
            RtmpEvent::PublishRequested { .. } | RtmpEvent::PublishFinished => {}
        }
    }
    assert!(media == expected, "media differs");
    assert_eq!(sizes, [Some(640.0)]);

    let results = rml.client.stop_publishing().unwrap();
    rml.take(results);
    let last = rml.peer.events.last();
    assert!(matches!(last, Some(RtmpEvent::PublishFinished)));
    assert_eq!(rml.peer.close_reason(), None);
}

#[test]
fn rml_client_pings_and_is_answered() {
    let mut rml = RmlClient::new();
    let connect = rml.client.request_connection("live".into()).unwrap();
    rml.take(vec![connect]);
    let (packet, timestamp) = rml.client.send_ping_request().unwrap();
    rml.take(vec![ClientSessionResult::OutboundResponse(packet)]);
    assert!(rml.has(&ClientSessionEvent::PingResponseReceived { timestamp }));
}
