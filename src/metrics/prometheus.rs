//! The metrics page in Prometheus' text exposition format 0.0.4
//! (prometheus.io/docs/instrumenting/exposition_formats).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use super::counters::{
    BUCKETS, ControlCounters, CoreCounters, Histogram, Sample, SampleValue, TranscodeCounters,
    VideoCounters, WebhookCounters,
};
use super::names::{self, Metric};

/// The page's `Content-Type`.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the operating system says of the process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessUsage {
    /// Resident memory, in bytes.
    pub resident_memory_bytes: u64,
    /// CPU time used so far, user and system.
    pub cpu: Duration,
}

/// What a page shows.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// The program's version.
    pub version: &'a str,
    /// What the process uses.
    pub process: ProcessUsage,
    /// When the TLS certificate ends, since the Unix epoch, if there is one.
    pub certificate_expiry: Option<Duration>,
    /// Each core's counters, by its number.
    pub cores: &'a [Arc<CoreCounters>],
    /// Each transcode worker's counters, by its number.
    pub workers: &'a [Arc<TranscodeCounters>],
    /// The video transcoder's counters.
    pub video: &'a VideoCounters,
    /// The control thread's counters.
    pub control: &'a ControlCounters,
    /// The webhook thread's counters.
    pub webhook: &'a WebhookCounters,
}

impl Page<'_> {
    /// The page's text: each metric once with help and type, in the order of their names.
    #[must_use]
    pub fn render(&self) -> String {
        let mut families = Families::default();
        let version = format!("version=\"{}\"", escape(self.version));
        families.line(names::BUILD_INFO, "", &version, "1");
        let memory = self.process.resident_memory_bytes.to_string();
        families.line(names::PROCESS_RESIDENT_MEMORY, "", "", &memory);
        let cpu = seconds(self.process.cpu);
        families.line(names::PROCESS_CPU, "", "", &cpu);
        if let Some(expiry) = self.certificate_expiry {
            let seconds = expiry.as_secs().to_string();
            families.line(names::TLS_CERTIFICATE_EXPIRY, "", "", &seconds);
        }
        for (number, core) in self.cores.iter().enumerate() {
            families.samples(&format!("core=\"{number}\""), &core.samples());
        }
        for (number, worker) in self.workers.iter().enumerate() {
            families.samples(&format!("worker=\"{number}\""), &worker.samples());
        }
        families.samples("", &self.video.samples());
        families.samples("thread=\"control\"", &self.control.samples());
        families.samples("", &self.webhook.samples());
        families.render()
    }
}

/// Samples by metric, so that those of one name stand together as the format demands.
#[derive(Default)]
struct Families(BTreeMap<&'static str, (Option<Metric>, String)>);

impl Families {
    fn samples(&mut self, labels: &str, samples: &[Sample<'_>]) {
        for sample in samples {
            let labels = join(labels, sample.labels);
            match sample.value {
                SampleValue::Number(value) => {
                    self.line(sample.metric, "", &labels, &value.to_string());
                }
                SampleValue::Histogram(histogram) => {
                    self.histogram(sample.metric, &labels, histogram);
                }
            }
        }
    }

    fn histogram(&mut self, metric: Metric, labels: &str, histogram: &Histogram) {
        let (counts, total, sum_micros) = histogram.read();
        for (count, (_, bound)) in counts.iter().zip(BUCKETS) {
            let labels = join(labels, &format!("le=\"{bound}\""));
            self.line(metric, "_bucket", &labels, &count.to_string());
        }
        let infinite = join(labels, "le=\"+Inf\"");
        self.line(metric, "_bucket", &infinite, &total.to_string());
        let sum = seconds(Duration::from_micros(sum_micros));
        self.line(metric, "_sum", labels, &sum);
        self.line(metric, "_count", labels, &total.to_string());
    }

    fn line(&mut self, metric: Metric, suffix: &str, labels: &str, value: &str) {
        let (known, text) = self.0.entry(metric.name).or_default();
        *known = Some(metric);
        let labels = match labels {
            "" => String::new(),
            labels => format!("{{{labels}}}"),
        };
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "{}{suffix}{labels} {value}", metric.name);
    }

    fn render(&self) -> String {
        let mut page = String::new();
        for (name, (metric, lines)) in &self.0 {
            let Some(Metric { kind, help, .. }) = metric else {
                continue;
            };
            let kind = kind.as_str();
            let _ = write!(page, "# HELP {name} {help}\n# TYPE {name} {kind}\n{lines}");
        }
        page
    }
}

fn join(first: &str, second: &str) -> String {
    let comma = if first.is_empty() || second.is_empty() {
        ""
    } else {
        ","
    };
    format!("{first}{comma}{second}")
}

fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn seconds(duration: Duration) -> String {
    let micros = duration.subsec_micros();
    format!("{}.{micros:06}", duration.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(certificate_expiry: Option<Duration>) -> String {
        let cores = [
            Arc::new(CoreCounters::default()),
            Arc::new(CoreCounters::default()),
        ];
        cores[0].rtp_packets.add(7);
        cores[1].rtp_packets.inc();
        cores[1].datagrams_dropped_unknown.add(3);
        cores[0].latency.observe(Duration::from_millis(3));
        let control = ControlCounters::default();
        control.publish_busy.inc();
        Page {
            version: "0.1.0",
            process: ProcessUsage {
                resident_memory_bytes: 4_096,
                cpu: Duration::from_millis(1_250),
            },
            certificate_expiry,
            cores: &cores,
            workers: &[Arc::new(TranscodeCounters::default())],
            video: &VideoCounters::default(),
            control: &control,
            webhook: &WebhookCounters::default(),
        }
        .render()
    }

    /// The parts of the page that a change of format would change.
    const GOLDEN: [&str; 7] = [
        "# HELP process_cpu_seconds_total CPU time of the process, user and system.\n\
         # TYPE process_cpu_seconds_total counter\n\
         process_cpu_seconds_total 1.250000\n\
         # HELP process_resident_memory_bytes Resident memory of the process.\n\
         # TYPE process_resident_memory_bytes gauge\n\
         process_resident_memory_bytes 4096\n\
         # HELP rtmpeer_build_info Always 1; its label tells the version.\n\
         # TYPE rtmpeer_build_info gauge\n\
         rtmpeer_build_info{version=\"0.1.0\"} 1\n",
        "# TYPE rtmpeer_rtp_packets_total counter\n\
         rtmpeer_rtp_packets_total{core=\"0\"} 7\n\
         rtmpeer_rtp_packets_total{core=\"1\"} 1\n",
        "rtmpeer_datagrams_dropped_total{core=\"1\",reason=\"unknown\"} 3\n",
        "rtmpeer_publishes_refused_total{thread=\"control\",reason=\"busy\"} 1\n",
        "rtmpeer_ingest_to_send_seconds_bucket{core=\"0\",le=\"0.002\"} 0\n\
         rtmpeer_ingest_to_send_seconds_bucket{core=\"0\",le=\"0.005\"} 1\n",
        "rtmpeer_ingest_to_send_seconds_bucket{core=\"0\",le=\"+Inf\"} 1\n\
         rtmpeer_ingest_to_send_seconds_sum{core=\"0\"} 0.003000\n\
         rtmpeer_ingest_to_send_seconds_count{core=\"0\"} 1\n",
        "# TYPE rtmpeer_tls_certificate_expiry_timestamp_seconds gauge\n\
         rtmpeer_tls_certificate_expiry_timestamp_seconds 1800000000\n",
    ];

    const EXPIRY: Duration = Duration::from_secs(1_800_000_000);

    #[test]
    fn the_page_reads_as_documented() {
        let page = page(Some(EXPIRY));
        for part in GOLDEN {
            assert!(page.contains(part), "missing:\n{part}\nin:\n{page}");
        }
    }

    #[test]
    fn without_a_certificate_there_is_no_end_of_one() {
        assert!(!page(None).contains("certificate"));
    }

    #[test]
    fn each_metric_has_one_head_and_no_sample_stands_twice() {
        let page = page(Some(EXPIRY));
        let mut heads = std::collections::BTreeSet::new();
        let mut samples = std::collections::BTreeSet::new();
        for line in page.lines() {
            match line.strip_prefix("# TYPE ") {
                Some(head) => assert!(heads.insert(head.to_owned()), "{line}"),
                None if line.starts_with('#') => {}
                None => {
                    let (name, value) = line.rsplit_once(' ').unwrap();
                    assert!(samples.insert(name.to_owned()), "{line}");
                    assert!(value.parse::<f64>().is_ok(), "{line}");
                }
            }
        }
        assert_eq!(heads.len(), names::ALL.len());
        assert!(page.ends_with('\n'));
    }
}
