//! A publisher: RTMP client without IO, and one over TCP.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use rml_rtmp::handshake::{Handshake, HandshakeProcessResult, PeerType};
use rml_rtmp::sessions::{
    ClientSession, ClientSessionConfig, ClientSessionError, ClientSessionEvent,
    ClientSessionResult, PublishRequestType,
};
use rml_rtmp::time::RtmpTimestamp;

use super::tls::{KitStream, KitTls};

/// How far a publisher has got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Shaking hands, connecting or asking to publish.
    Asking,
    /// Accepted: media may be sent.
    Publishing,
    /// Turned away; the onStatus code or description.
    Refused(String),
}

/// An RTMP publisher as a state machine.
pub struct KitPublisher {
    handshake: Option<Handshake>,
    session: ClientSession,
    app: String,
    key: String,
    progress: Progress,
    outgoing: VecDeque<Vec<u8>>,
}

impl KitPublisher {
    /// Begins to publish `key` to application `app`.
    pub fn new(app: &str, key: &str) -> Self {
        let mut handshake = Handshake::new(PeerType::Client);
        let hello = handshake.generate_outbound_p0_and_p1().unwrap();
        let mut config = ClientSessionConfig::new();
        config.chunk_size = 4_096;
        let (session, results) = ClientSession::new(config).unwrap();
        let mut publisher = Self {
            handshake: Some(handshake),
            session,
            app: app.to_owned(),
            key: key.to_owned(),
            progress: Progress::Asking,
            outgoing: VecDeque::from([hello]),
        };
        publisher.take(results);
        publisher
    }

    /// How far it has got.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Takes bytes from the server.
    pub fn handle_input(&mut self, bytes: &[u8]) {
        let mut rest = bytes.to_vec();
        if let Some(mut handshake) = self.handshake.take() {
            match handshake.process_bytes(bytes).unwrap() {
                HandshakeProcessResult::InProgress { response_bytes } => {
                    self.outgoing.push_back(response_bytes);
                    self.handshake = Some(handshake);
                    return;
                }
                HandshakeProcessResult::Completed {
                    response_bytes,
                    remaining_bytes,
                } => {
                    self.outgoing.push_back(response_bytes);
                    let connect = self.session.request_connection(self.app.clone());
                    self.take([connect.unwrap()]);
                    rest = remaining_bytes;
                }
            }
        }
        let results = self.session.handle_input(&rest).unwrap();
        self.take(results);
    }

    /// Bytes for the server, if any.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.outgoing.pop_front()
    }

    /// Sends one FLV video tag body.
    pub fn video(&mut self, timestamp_ms: u32, body: Bytes) {
        let time = RtmpTimestamp::new(timestamp_ms);
        let sent: Result<_, ClientSessionError> =
            self.session.publish_video_data(body, time, false);
        self.take([sent.unwrap()]);
    }

    /// Sends one FLV audio tag body.
    pub fn audio(&mut self, timestamp_ms: u32, body: Bytes) {
        let time = RtmpTimestamp::new(timestamp_ms);
        let sent = self.session.publish_audio_data(body, time, false);
        self.take([sent.unwrap()]);
    }

    /// Says that the publish is over (deleteStream).
    pub fn finish(&mut self) {
        let results = self.session.stop_publishing().unwrap();
        self.take(results);
    }

    fn take(&mut self, results: impl IntoIterator<Item = ClientSessionResult>) {
        for result in results {
            match result {
                ClientSessionResult::OutboundResponse(packet) => {
                    self.outgoing.push_back(packet.bytes);
                }
                ClientSessionResult::RaisedEvent(event) => self.event(event),
                ClientSessionResult::UnhandleableMessageReceived(_) => {}
            }
        }
    }

    fn event(&mut self, event: ClientSessionEvent) {
        match event {
            ClientSessionEvent::ConnectionRequestAccepted => {
                let kind = PublishRequestType::Live;
                let publish = self.session.request_publishing(self.key.clone(), kind);
                self.take([publish.unwrap()]);
            }
            ClientSessionEvent::ConnectionRequestRejected { description } => {
                self.progress = Progress::Refused(description);
            }
            ClientSessionEvent::PublishRequestAccepted => self.progress = Progress::Publishing,
            ClientSessionEvent::UnhandleableOnStatusCode { code } => {
                self.progress = Progress::Refused(code);
            }
            _ => {}
        }
    }
}

/// A publisher over TCP, blocking.
pub struct TcpPublisher {
    /// The protocol.
    pub rtmp: KitPublisher,
    stream: KitStream,
}

impl TcpPublisher {
    /// Connects and publishes; returns once the server has accepted or refused.
    pub fn publish(server: SocketAddr, app: &str, key: &str) -> Self {
        Self::begin(KitStream::connect(server, None), app, key)
    }

    /// The same with TLS.
    pub fn publish_tls(server: SocketAddr, tls: &KitTls, app: &str, key: &str) -> Self {
        Self::begin(KitStream::connect(server, Some(tls)), app, key)
    }

    fn begin(stream: KitStream, app: &str, key: &str) -> Self {
        let mut publisher = Self {
            rtmp: KitPublisher::new(app, key),
            stream,
        };
        let mut buffer = [0; 16_384];
        publisher.flush();
        while *publisher.rtmp.progress() == Progress::Asking {
            match publisher.stream.read(&mut buffer) {
                Ok(0) | Err(_) => {
                    publisher.rtmp.progress = Progress::Refused("connection closed".into());
                }
                Ok(count) => publisher.rtmp.handle_input(&buffer[..count]),
            }
            publisher.flush();
        }
        publisher
    }

    /// Writes what the protocol wants to say. Errors are ignored: the server may have closed.
    pub fn flush(&mut self) {
        while let Some(bytes) = self.rtmp.poll_transmit() {
            let _ = self.stream.write_all(&bytes);
        }
    }

    /// Sends one FLV video tag body.
    pub fn video(&mut self, timestamp_ms: u32, body: Bytes) {
        self.rtmp.video(timestamp_ms, body);
        self.flush();
    }

    /// Sends one FLV audio tag body.
    pub fn audio(&mut self, timestamp_ms: u32, body: Bytes) {
        self.rtmp.audio(timestamp_ms, body);
        self.flush();
    }

    /// Writes any bytes.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Whether the server has closed the connection, waiting for it up to `limit`.
    pub fn closed_within(&mut self, limit: Duration) -> bool {
        self.stream.tcp().set_read_timeout(Some(limit)).unwrap();
        let mut buffer = [0; 16_384];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
            }
        }
    }
}
