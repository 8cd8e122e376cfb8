//! The world's publishers and viewers: what reaches them, what they send, what they got.

use std::net::SocketAddr;
use std::time::Duration;

use rtmpeer::ids::{ConnId, PublisherId};
use rtmpeer::signalling::{ClientMessage, HttpResponse, ServerMessage};

use super::chance::Chance;
use super::publisher::{Fate, SimPublisher};
use super::viewer::{SimViewer, Stage};
use super::watch::Scene;
use super::world::{
    ControlInput, CoreInput, Due, PublisherInput, SERVER, ViewerInput, WALL_ORIGIN, World,
};

/// A player asks for a keyframe at most this often.
const PLI_INTERVAL: Duration = Duration::from_millis(300);

impl World {
    pub(super) fn publisher_of(&self, id: PublisherId) -> Option<usize> {
        let has_id = |known: &SimPublisher| known.id.map(|(_, id)| id) == Some(id);
        self.publishers.iter().rposition(has_id)
    }

    pub(super) fn deliver_to_publisher(&mut self, index: usize, input: PublisherInput) {
        let publisher = &mut self.publishers[index];
        match input {
            PublisherInput::Connected => {
                publisher.connected = true;
                if let (Some(bytes), Some((core, _))) = (publisher.garbage.take(), publisher.id) {
                    let input = CoreInput::Tcp {
                        publisher: index,
                        bytes,
                        completes: None,
                    };
                    self.post(self.now, Due::Core(core.index(), input));
                }
            }
            PublisherInput::Bytes(bytes) => {
                if publisher.fate == Fate::Alive {
                    publisher.rtmp.handle_input(&bytes);
                }
            }
            PublisherInput::Closed => publisher.fate = Fate::Gone,
        }
    }

    pub(super) fn turn_publisher(&mut self, index: usize) {
        let segments = self.publishers[index].step(self.now);
        let Some((core, _)) = self.publishers[index].id else {
            return;
        };
        for segment in segments {
            let (bytes, completes) = (segment.bytes, segment.completes);
            let input = CoreInput::Tcp {
                publisher: index,
                bytes,
                completes,
            };
            self.post(segment.at, Due::Core(core.index(), input));
        }
    }

    /// Which core's socket receives what comes from an address, as `SO_REUSEPORT` chooses.
    pub(super) fn core_of(&self, from: SocketAddr) -> usize {
        let ip = match from.ip() {
            std::net::IpAddr::V4(ip) => u64::from(u32::from(ip)),
            std::net::IpAddr::V6(_) => 0,
        };
        Chance::of(&[ip, from.port().into()]).below(self.cores.len())
    }

    pub(super) fn deliver_to_viewer(&mut self, index: usize, input: ViewerInput) {
        let now = self.now;
        let viewer = &mut self.viewers[index];
        if matches!(viewer.stage, Stage::Silent | Stage::Gone) {
            return;
        }
        match input {
            ViewerInput::Datagram(datagram) => viewer.kit.handle(SERVER, &datagram, now),
            ViewerInput::Response(response) => self.take_response(index, &response),
            ViewerInput::WebSocket(message) => self.take_message(index, message),
            ViewerInput::Closed => {
                let is_well = viewer.stage == Stage::Playing && viewer.quality.loss == 0;
                assert!(
                    !is_well,
                    "the server closed the WebSocket of viewer {index}"
                );
                viewer.stage = Stage::Gone;
            }
        }
        // Drained after every input, as str0m demands.
        self.viewers[index].next = now;
        if self.viewers[index].is_awake() {
            self.turn_viewer(index);
        }
    }

    fn take_response(&mut self, index: usize, response: &HttpResponse) {
        let viewer = &mut self.viewers[index];
        if viewer.stage != Stage::Asking {
            return;
        }
        assert_eq!(response.status, 201, "{:?}", response.body);
        viewer.session = response.field("Location").map(str::to_owned);
        viewer
            .kit
            .accept(std::str::from_utf8(&response.body).unwrap());
        viewer.stage = Stage::Playing;
    }

    fn take_message(&mut self, index: usize, message: ServerMessage) {
        let viewer = &mut self.viewers[index];
        match message {
            ServerMessage::GetOffer { sdp } => {
                let answer = ClientMessage::Answer(viewer.kit.answer(&sdp));
                viewer.stage = Stage::Playing;
                let conn = viewer.conn;
                self.post_control(ControlInput::WebSocket {
                    conn,
                    message: answer,
                });
            }
            ServerMessage::IsPublishing { live, .. } => {
                let before = viewer.told_live.replace(live);
                assert_ne!(before, Some(live), "told twice that live={live}");
            }
            ServerMessage::Error { text } => {
                let about_stream = !self.rooms[viewer.room].clip.in_order;
                let may_fail = viewer.stage != Stage::Playing || viewer.quality.loss > 0;
                assert!(about_stream || may_fail, "viewer {index} is told: {text}");
                viewer.told.push(text);
            }
            ServerMessage::GetCandidate { .. } | ServerMessage::GetChat { .. } => {}
        }
    }

    pub(super) fn post_viewer(&mut self, conn: ConnId, input: ViewerInput) {
        if let Some(&viewer) = self.conns.get(&conn) {
            // In order, as on any connection.
            let at = self.now + Duration::from_millis(8);
            self.post(at, Due::Viewer(viewer, input));
        }
    }

    pub(super) fn turn_viewer(&mut self, index: usize) {
        let now = self.now;
        let datagrams = self.viewers[index].step(now);
        let from = self.viewers[index].kit.address();
        for (to, data) in datagrams {
            assert_eq!(to, SERVER, "a viewer sends elsewhere");
            let core = self.core_of(from);
            let viewer = &mut self.viewers[index];
            let quality = viewer.quality_now();
            for at in viewer.up.carry(&quality, now).into_iter().flatten() {
                let input = CoreInput::Datagram {
                    from,
                    data: data.clone(),
                };
                self.post(at, Due::Core(core, input));
            }
        }
        self.take_frames(index);
    }

    fn scene(&self, viewer: &SimViewer) -> Scene {
        let room = &self.rooms[viewer.room];
        let core_fault = viewer
            .id
            .map(|(_, core)| self.cores[core.index()].stalled_until);
        Scene {
            now: self.now,
            start: self.start,
            wall_origin: WALL_ORIGIN,
            clip: room.clip,
            made_anew: !room.clip.in_order || self.encoder.opened > 0,
            anchor: room.live.and_then(|live| self.publishers[live].anchor),
            live: room.live.is_some(),
            ending: room.live.is_none_or(|live| {
                let publisher = &self.publishers[live];
                publisher.fate == Fate::Gone || publisher.closed_by_server
            }),
            room_fault: core_fault
                .into_iter()
                .fold(room.fault, std::time::Instant::max),
            faithful: viewer.quality.is_faithful(),
            way: viewer.quality.delay + viewer.quality.jitter,
        }
    }

    fn take_frames(&mut self, index: usize) {
        let frames = std::mem::take(&mut self.viewers[index].kit.frames);
        let reports = std::mem::take(&mut self.viewers[index].kit.reports);
        if frames.is_empty() && reports.is_empty() {
            return;
        }
        let scene = self.scene(&self.viewers[index]);
        let viewer = &mut self.viewers[index];
        for frame in &frames {
            let first = &mut viewer.first_ticks[usize::from(frame.kind.is_audio())];
            let ticks = frame.ticks.wrapping_sub(*first.get_or_insert(frame.ticks));
            let (kind, whole) = (frame.kind, frame.contiguous);
            self.trace.note(
                self.now,
                format_args!("viewer {index} {kind:?} {ticks} {whole}"),
            );
        }
        let wants_key = viewer.watch.take(&frames, &reports, &scene);
        let is_time = viewer
            .asked_key
            .is_none_or(|last| self.now >= last + PLI_INTERVAL);
        if wants_key && is_time && viewer.is_watching() {
            viewer.asked_key = Some(self.now);
            viewer.kit.request_keyframe();
            viewer.next = self.now;
        }
    }

    /// Checks what must be so all the time.
    pub(super) fn check_alive(&mut self) {
        for index in 0..self.viewers.len() {
            if self.viewers[index].is_watching() {
                let scene = self.scene(&self.viewers[index]);
                self.viewers[index].watch.check_alive(&scene);
            }
        }
        let late = self.must_leave.iter().find(|(_, by)| **by < self.now);
        assert!(
            late.is_none(),
            "a session goes on without its viewer: {late:?}"
        );
    }
}
