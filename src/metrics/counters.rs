//! The counters themselves: one set per thread, written by that thread only, read by the one
//! that makes the page. Relaxed atomics: a figure may be a moment old, never torn.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::names::{self, Metric};

/// A number with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `count`. Not a read-modify-write: there is one writer.
    pub fn add(&self, count: u64) {
        let sum = self.get().wrapping_add(count);
        self.0.store(sum, Ordering::Relaxed);
    }

    /// Adds a length or count.
    pub fn add_len(&self, count: usize) {
        self.add(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// Takes one off a gauge.
    pub fn dec(&self) {
        self.set(self.get().saturating_sub(1));
    }

    /// Sets a gauge.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Sets a gauge to a length or count.
    pub fn set_len(&self, value: usize) {
        self.set(u64::try_from(value).unwrap_or(u64::MAX));
    }

    /// The number now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of a [`Histogram`]'s buckets, with the text of their `le` label in seconds.
pub const BUCKETS: [(Duration, &str); 10] = [
    (Duration::from_micros(500), "0.0005"),
    (Duration::from_millis(1), "0.001"),
    (Duration::from_millis(2), "0.002"),
    (Duration::from_millis(5), "0.005"),
    (Duration::from_millis(10), "0.01"),
    (Duration::from_millis(20), "0.02"),
    (Duration::from_millis(50), "0.05"),
    (Duration::from_millis(100), "0.1"),
    (Duration::from_millis(200), "0.2"),
    (Duration::from_millis(500), "0.5"),
];

/// Durations counted by size, with one writer.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; BUCKETS.len()],
    longer: Counter,
    sum_micros: Counter,
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let fits = BUCKETS.iter().position(|(bound, _)| duration <= *bound);
        let bucket = fits.and_then(|index| self.buckets.get(index));
        bucket.unwrap_or(&self.longer).inc();
        self.sum_micros
            .add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    /// Cumulative counts, one per bucket of [`BUCKETS`]; the total; the sum in microseconds.
    #[must_use]
    pub fn read(&self) -> ([u64; BUCKETS.len()], u64, u64) {
        let mut total = 0_u64;
        let mut counts = [0; BUCKETS.len()];
        for (count, bucket) in counts.iter_mut().zip(&self.buckets) {
            total = total.wrapping_add(bucket.get());
            *count = total;
        }
        let total = total.wrapping_add(self.longer.get());
        (counts, total, self.sum_micros.get())
    }
}

/// One sample as the page shows it.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// Its metric.
    pub metric: Metric,
    /// Its own labels, `name="value"` with commas, or nothing.
    pub labels: &'static str,
    /// Its value.
    pub value: SampleValue<'a>,
}

/// The value of a [`Sample`].
#[derive(Debug, Clone, Copy)]
pub enum SampleValue<'a> {
    /// A counter or a gauge.
    Number(u64),
    /// A histogram.
    Histogram(&'a Histogram),
}

/// Makes a struct of counters from one table: field, metric, labels.
macro_rules! counters {
    (
        $(#[$doc:meta])* $name:ident {
            $($field:ident: $metric:ident $labels:literal,)*
        }
        $(histogram $histogram:ident: $histogram_metric:ident;)?
    ) => {
        $(#[$doc])*
        // Its own cache lines: no other thread's counter shares them (two lines at a time are
        // fetched on x86-64).
        #[repr(align(128))]
        #[derive(Debug, Default)]
        pub struct $name {
            $(
                #[doc = concat!("`", stringify!($metric), "` {", $labels, "}.")]
                pub $field: Counter,
            )*
            $(
                #[doc = concat!("`", stringify!($histogram_metric), "`.")]
                pub $histogram: Histogram,
            )?
        }

        impl $name {
            /// Every sample, in the order of the fields.
            #[must_use]
            pub fn samples(&self) -> Vec<Sample<'_>> {
                vec![
                    $(Sample {
                        metric: names::$metric,
                        labels: $labels,
                        value: SampleValue::Number(self.$field.get()),
                    },)*
                    $(Sample {
                        metric: names::$histogram_metric,
                        labels: "",
                        value: SampleValue::Histogram(&self.$histogram),
                    },)?
                ]
            }
        }
    };
}

counters! {
    /// What one core counts.
    CoreCounters {
        viewers: VIEWERS "",
        viewers_connected: VIEWERS_CONNECTED "",
        viewers_without_video: VIEWERS_WITHOUT_VIDEO "",
        publishers: PUBLISHERS "",
        rooms: ROOMS "",
        rtmp_connections: RTMP_CONNECTIONS "",
        rtmp_accepted: RTMP_ACCEPTED "",
        rtmp_bytes: RTMP_BYTES "",
        rtmp_errors: RTMP_ERRORS "",
        video_frames: FRAMES "kind=\"video\"",
        audio_frames: FRAMES "kind=\"audio\"",
        video_frames_refused: FRAMES_REFUSED "kind=\"video\"",
        audio_frames_refused: FRAMES_REFUSED "kind=\"audio\"",
        transcode_drops: TRANSCODE_DROPS "",
        video_transcode_drops: VIDEO_DROPS "",
        rtp_packets: RTP_PACKETS "",
        rtp_bytes: RTP_BYTES "",
        resends: RESENDS "",
        resend_misses: RESEND_MISSES "",
        nacks: NACKS "",
        plis: PLIS "",
        media_suppressed: MEDIA_SUPPRESSED "",
        frames_skipped: FRAMES_SKIPPED "",
        datagrams_in: DATAGRAMS_IN "",
        datagrams_forwarded: DATAGRAMS_FORWARDED "",
        datagrams_dropped_malformed: DATAGRAMS_DROPPED "reason=\"malformed\"",
        datagrams_dropped_unknown: DATAGRAMS_DROPPED "reason=\"unknown\"",
        datagrams_dropped_limit: DATAGRAMS_DROPPED "reason=\"limit\"",
        datagrams_dropped_mailbox: DATAGRAMS_DROPPED "reason=\"mailbox\"",
        send_errors: SEND_ERRORS "",
        send_blocked: SEND_BLOCKED "",
        media_mailbox_drops: MEDIA_MAILBOX_DROPS "",
        mailbox_drops: MAILBOX_DROPS "",
        turns: TURNS "",
        turns_too_long: TURNS_TOO_LONG "",
        panics: PANICS "",
    }
    histogram latency: LATENCY;
}

counters! {
    /// What one transcode worker counts.
    TranscodeCounters {
        streams: TRANSCODE_STREAMS "",
        units: TRANSCODE_UNITS "",
        packets: TRANSCODE_PACKETS "",
        concealed: TRANSCODE_CONCEALED "",
        reply_drops: TRANSCODE_REPLY_DROPS "",
        panics: PANICS "",
    }
}

counters! {
    /// What the video transcoder's thread counts.
    VideoCounters {
        streams: VIDEO_TRANSCODES "",
        children: VIDEO_CHILDREN "",
        restarts: VIDEO_RESTARTS "",
        failures: VIDEO_FAILURES "",
        frames_in: VIDEO_FRAMES_IN "",
        frames_out: VIDEO_FRAMES_OUT "",
        dropped: VIDEO_DROPPED "",
        reply_drops: VIDEO_REPLY_DROPS "",
    }
}

counters! {
    /// What the control thread counts.
    ControlCounters {
        http_connections: HTTP_CONNECTIONS "",
        http_refused_connections: HTTP_REFUSED "reason=\"connections\"",
        http_refused_address: HTTP_REFUSED "reason=\"address\"",
        http_2xx: HTTP_REQUESTS "status=\"2xx\"",
        http_3xx: HTTP_REQUESTS "status=\"3xx\"",
        http_4xx: HTTP_REQUESTS "status=\"4xx\"",
        http_5xx: HTTP_REQUESTS "status=\"5xx\"",
        http_upgrades: HTTP_REQUESTS "status=\"1xx\"",
        rooms_live: ROOMS_LIVE "",
        rooms_known: ROOMS_KNOWN "",
        whep_sessions: SESSIONS "protocol=\"whep\"",
        websocket_sessions: SESSIONS "protocol=\"websocket\"",
        whep_started: SESSIONS_STARTED "protocol=\"whep\"",
        websocket_started: SESSIONS_STARTED "protocol=\"websocket\"",
        viewers_left: SESSIONS_ENDED "reason=\"left\"",
        viewers_connect_timeout: SESSIONS_ENDED "reason=\"connect_timeout\"",
        viewers_consent: SESSIONS_ENDED "reason=\"consent\"",
        viewers_failed: SESSIONS_ENDED "reason=\"failed\"",
        viewers_closed: SESSIONS_ENDED "reason=\"closed\"",
        refused_offline: SESSIONS_REFUSED "reason=\"offline\"",
        refused_full: SESSIONS_REFUSED "reason=\"full\"",
        refused_origin: SESSIONS_REFUSED "reason=\"origin\"",
        refused_stopping: SESSIONS_REFUSED "reason=\"stopping\"",
        refused_sdp: SESSIONS_REFUSED "reason=\"sdp\"",
        refused_setup: SESSIONS_REFUSED "reason=\"setup\"",
        refused_bug: SESSIONS_REFUSED "reason=\"bug\"",
        refused_timeout: SESSIONS_REFUSED "reason=\"timeout\"",
        publishes: PUBLISHES "",
        publishes_ended: PUBLISHES_ENDED "",
        publish_busy: PUBLISHES_REFUSED "reason=\"busy\"",
        publish_bad_name: PUBLISHES_REFUSED "reason=\"bad_name\"",
        publish_stopping: PUBLISHES_REFUSED "reason=\"stopping\"",
        publish_full: PUBLISHES_REFUSED "reason=\"full\"",
        publish_connections: PUBLISHES_REFUSED "reason=\"connections\"",
        publish_address: PUBLISHES_REFUSED "reason=\"address\"",
        unexpected_messages: UNEXPECTED_MESSAGES "",
        webhooks_lost: WEBHOOK_DROPPED "",
        mailbox_drops: MAILBOX_DROPS "",
    }
}

counters! {
    /// What the webhook thread counts.
    WebhookCounters {
        delivered: WEBHOOK_DELIVERIES "result=\"delivered\"",
        failed: WEBHOOK_DELIVERIES "result=\"failed\"",
        dropped: WEBHOOK_DROPPED "",
        outbox: WEBHOOK_OUTBOX "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_cumulative_and_counts_what_is_longer_than_all_bounds() {
        let histogram = Histogram::default();
        for micros in [1, 500, 501, 60_000, 900_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let (counts, total, sum_micros) = histogram.read();
        assert_eq!(counts, [2, 3, 3, 3, 3, 3, 3, 4, 4, 4]);
        assert_eq!(total, 5);
        assert_eq!(sum_micros, 961_002);
    }

    #[test]
    fn every_metric_that_is_not_the_process_s_has_a_counter() {
        let (core, control) = (CoreCounters::default(), ControlCounters::default());
        let (transcode, webhook) = (TranscodeCounters::default(), WebhookCounters::default());
        let video = VideoCounters::default();
        let samples = [
            video.samples(),
            core.samples(),
            control.samples(),
            transcode.samples(),
            webhook.samples(),
        ]
        .concat();
        let of_the_process = [
            names::BUILD_INFO,
            names::PROCESS_RESIDENT_MEMORY,
            names::PROCESS_CPU,
            names::TLS_CERTIFICATE_EXPIRY,
        ];
        for metric in names::ALL {
            let counted = samples.iter().any(|sample| sample.metric == *metric);
            assert_ne!(counted, of_the_process.contains(metric), "{}", metric.name);
        }
    }

    #[test]
    fn counters_of_two_threads_share_no_cache_line() {
        assert_eq!(align_of::<CoreCounters>(), 128);
    }
}
