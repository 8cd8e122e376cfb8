//! Names of the metrics, with their kind and help text. Prefix `rtmpeer_`, base units, the unit
//! last, `_total` on what only rises (Prometheus naming conventions).

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises while the process runs.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts observations by size.
    Histogram,
}

impl Kind {
    /// The word on the `# TYPE` line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric; its samples differ in their labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Full name.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// What it means, one sentence without line ends or backslashes.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($constant:ident = $kind:ident $name:literal: $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: Metric = Metric {
                name: $name,
                kind: Kind::$kind,
                help: $help,
            };
        )*

        /// Every metric.
        pub const ALL: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    // -- process --
    BUILD_INFO = Gauge "rtmpeer_build_info":
        "Always 1; its label tells the version.";
    PROCESS_RESIDENT_MEMORY = Gauge "process_resident_memory_bytes":
        "Resident memory of the process.";
    PROCESS_CPU = Counter "process_cpu_seconds_total":
        "CPU time of the process, user and system.";

    TLS_CERTIFICATE_EXPIRY = Gauge "rtmpeer_tls_certificate_expiry_timestamp_seconds":
        "Unix time at which the TLS certificate in use ends; missing without one.";

    // -- a core: gauges --
    VIEWERS = Gauge "rtmpeer_viewers":
        "Viewers' sessions on a core, connected or not.";
    VIEWERS_CONNECTED = Gauge "rtmpeer_viewers_connected":
        "Viewers that media flows to.";
    VIEWERS_WITHOUT_VIDEO = Counter "rtmpeer_viewers_without_video_total":
        "Viewers whose player offered no H.264: they got sound only.";
    PUBLISHERS = Gauge "rtmpeer_publishers":
        "RTMP connections that publish.";
    ROOMS = Gauge "rtmpeer_rooms":
        "Rooms with a publisher or viewers on a core.";
    RTMP_CONNECTIONS = Gauge "rtmpeer_rtmp_connections":
        "Open RTMP connections.";

    // -- a core: in --
    RTMP_ACCEPTED = Counter "rtmpeer_rtmp_connections_total":
        "RTMP connections accepted.";
    RTMP_BYTES = Counter "rtmpeer_rtmp_received_bytes_total":
        "Bytes received from publishers.";
    RTMP_ERRORS = Counter "rtmpeer_rtmp_errors_total":
        "RTMP connections ended because of what the peer sent.";
    FRAMES = Counter "rtmpeer_frames_total":
        "Frames received from publishers, after transcoding.";
    FRAMES_REFUSED = Counter "rtmpeer_frames_refused_total":
        "Publishers' frames that could not be used.";
    TRANSCODE_DROPS = Counter "rtmpeer_transcode_dropped_units_total":
        "Audio access units not transcoded because the worker's inbox was full.";

    VIDEO_DROPS = Counter "rtmpeer_video_transcode_refused_frames_total":
        "Frames not given to the video transcoder because its mailbox was full.";

    // -- a core: out --
    RTP_PACKETS = Counter "rtmpeer_rtp_packets_total":
        "RTP packets sent to viewers, without those sent again.";
    RTP_BYTES = Counter "rtmpeer_rtp_bytes_total":
        "Payload bytes of the RTP packets sent to viewers, without those sent again.";
    RESENDS = Counter "rtmpeer_rtp_resent_packets_total":
        "RTP packets sent again on a viewer's request.";
    RESEND_MISSES = Counter "rtmpeer_rtp_resend_misses_total":
        "Packets that viewers asked for again too late.";
    NACKS = Counter "rtmpeer_nacks_total":
        "Packets that viewers asked for again (NACK).";
    PLIS = Counter "rtmpeer_plis_total":
        "PLI and FIR messages from viewers.";
    MEDIA_SUPPRESSED = Counter "rtmpeer_foreign_media_datagrams_total":
        "RTP and RTCP that the WebRTC library made beside the server's own, none of which was sent.";
    FRAMES_SKIPPED = Counter "rtmpeer_frames_skipped_total":
        "Frames that a viewer was not sent because it was too far behind.";
    LATENCY = Histogram "rtmpeer_ingest_to_send_seconds":
        "Time from a live picture's last byte received until it was sent, of the oldest in each batch.";

    // -- a core: datagrams --
    DATAGRAMS_IN = Counter "rtmpeer_datagrams_received_total":
        "UDP datagrams received.";
    DATAGRAMS_FORWARDED = Counter "rtmpeer_datagrams_forwarded_total":
        "UDP datagrams handed to the core that owns their viewer.";
    DATAGRAMS_DROPPED = Counter "rtmpeer_datagrams_dropped_total":
        "UDP datagrams dropped on arrival, by reason.";
    SEND_ERRORS = Counter "rtmpeer_send_errors_total":
        "UDP sends that failed.";
    SEND_BLOCKED = Counter "rtmpeer_send_blocked_total":
        "Trains of UDP datagrams dropped because the socket's buffer stayed full.";

    // -- a core: loop --
    MEDIA_MAILBOX_DROPS = Counter "rtmpeer_media_mailbox_drops_total":
        "Frames not passed to another core because its mailbox was full.";
    MAILBOX_DROPS = Counter "rtmpeer_mailbox_drops_total":
        "Messages lost because a mailbox was full; should stay 0.";
    TURNS = Counter "rtmpeer_turns_total":
        "Turns of a core's loop.";
    TURNS_TOO_LONG = Counter "rtmpeer_turns_too_long_total":
        "Turns of a core's loop longer than 20 ms.";
    PANICS = Counter "rtmpeer_panics_total":
        "Sessions ended by a bug; should stay 0.";

    // -- transcoding --
    TRANSCODE_STREAMS = Gauge "rtmpeer_transcode_streams":
        "Streams that a transcode worker works on.";
    TRANSCODE_UNITS = Counter "rtmpeer_transcode_units_total":
        "Audio access units taken by a transcode worker.";
    TRANSCODE_PACKETS = Counter "rtmpeer_transcode_packets_total":
        "Opus packets made.";
    TRANSCODE_CONCEALED = Counter "rtmpeer_transcode_concealed_total":
        "Audio access units replaced because they could not be decoded.";
    TRANSCODE_REPLY_DROPS = Counter "rtmpeer_transcode_reply_drops_total":
        "Opus packets lost because the core's mailbox was full.";

    // -- video transcoding --
    VIDEO_TRANSCODES = Gauge "rtmpeer_video_transcodes":
        "Streams of which the video is transcoded.";
    VIDEO_CHILDREN = Gauge "rtmpeer_video_transcoder_processes":
        "Running ffmpeg processes.";
    VIDEO_RESTARTS = Counter "rtmpeer_video_transcoder_restarts_total":
        "Transcoders restarted because they ended, hung, or wrote nonsense.";
    VIDEO_FAILURES = Counter "rtmpeer_video_transcodes_failed_total":
        "Streams of which the video could not be transcoded.";
    VIDEO_FRAMES_IN = Counter "rtmpeer_video_transcode_frames_in_total":
        "Frames given to the video transcoders.";
    VIDEO_FRAMES_OUT = Counter "rtmpeer_video_transcode_frames_out_total":
        "Frames that the video transcoders made.";
    VIDEO_DROPPED = Counter "rtmpeer_video_transcode_dropped_frames_total":
        "Frames not transcoded because the transcoder was too slow, or no keyframe came before.";
    VIDEO_REPLY_DROPS = Counter "rtmpeer_video_transcode_reply_drops_total":
        "Transcoded frames lost because the core's mailbox was full.";

    // -- control --
    HTTP_REQUESTS = Counter "rtmpeer_http_requests_total":
        "HTTP requests answered, by class of status.";
    HTTP_CONNECTIONS = Gauge "rtmpeer_http_connections":
        "Open HTTP connections, WebSockets included, those to the metrics page not.";
    HTTP_REFUSED = Counter "rtmpeer_http_connections_refused_total":
        "HTTP connections closed at once because there were too many, by reason.";
    ROOMS_LIVE = Gauge "rtmpeer_rooms_live":
        "Rooms that somebody publishes to.";
    ROOMS_KNOWN = Gauge "rtmpeer_rooms_known":
        "Rooms with a publisher or viewers, the whole server.";
    SESSIONS = Gauge "rtmpeer_viewer_sessions":
        "Viewers' sessions by signalling protocol.";
    SESSIONS_STARTED = Counter "rtmpeer_viewer_sessions_total":
        "Viewers' sessions begun, by signalling protocol.";
    SESSIONS_ENDED = Counter "rtmpeer_viewer_sessions_ended_total":
        "Viewers' sessions ended, by reason.";
    SESSIONS_REFUSED = Counter "rtmpeer_viewer_sessions_refused_total":
        "Viewers turned away, by reason.";
    PUBLISHES = Counter "rtmpeer_publishes_total":
        "Publishes accepted.";
    PUBLISHES_ENDED = Counter "rtmpeer_publishes_ended_total":
        "Publishes ended.";
    PUBLISHES_REFUSED = Counter "rtmpeer_publishes_refused_total":
        "Publishers turned away, by reason.";
    UNEXPECTED_MESSAGES = Counter "rtmpeer_unexpected_messages_total":
        "Messages from cores about publishers or viewers that control does not know.";

    // -- webhook --
    WEBHOOK_DELIVERIES = Counter "rtmpeer_webhook_deliveries_total":
        "Webhook attempts, by result.";
    WEBHOOK_DROPPED = Counter "rtmpeer_webhook_dropped_total":
        "Webhook events given up or lost.";
    WEBHOOK_OUTBOX = Gauge "rtmpeer_webhook_outbox_events":
        "Webhook events that wait to be delivered.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_follow_the_conventions() {
        let names: BTreeSet<&str> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len());
        for metric in ALL {
            let Metric { name, kind, help } = metric;
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert!(!help.contains(['\n', '\\']), "{name}");
            assert!(help.ends_with('.'), "{name}");
        }
    }
}
