//! What a browser sends back: a receiver report about every second, and for lost packets a NACK
//! (RFC 3550 §6.4.2, RFC 4585 §6.2.1). Inspected viewers also open what they get.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rtmpeer::webrtc::rtcp::{ReportBlock, RtcpItem, parse, write_nack, write_receiver_report};
use rtmpeer::webrtc::srtp::{OpenedRtp, SrtcpReceiver, SrtpKeys, SrtpReceiver, SrtpSender};

use crate::Failure;
use crate::seen::Header;

/// Between two reports; spread by viewer, so that a crowd's do not come at once.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Between two requests for the same packet.
const ASK_AGAIN: Duration = Duration::from_millis(60);
/// Requests for one packet.
const ASKS_MAX: u8 = 5;
/// Missing packets remembered; more is no loss but a cut.
const MISSING_MAX: usize = 512;

/// Sources that an answer or offer names.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sources {
    pub(crate) video: Option<u32>,
    pub(crate) rtx: Option<u32>,
    pub(crate) audio: Option<u32>,
}

impl Sources {
    /// Reads them from the server's SDP (RFC 5576 §4).
    pub(crate) fn read(sdp: &str) -> Self {
        let mut sources = Self::default();
        let mut video = false;
        for line in sdp.lines() {
            if let Some(media) = line.strip_prefix("m=") {
                video = media.starts_with("video");
            } else if let Some(group) = line.strip_prefix("a=ssrc-group:FID ") {
                let second = group.split(' ').nth(1);
                sources.rtx = second.and_then(|ssrc| ssrc.trim().parse().ok());
            } else if let Some(source) = line.strip_prefix("a=ssrc:") {
                let ssrc = source.split(' ').next().and_then(|ssrc| ssrc.parse().ok());
                let place = if video {
                    &mut sources.video
                } else {
                    &mut sources.audio
                };
                *place = place.or(ssrc);
            }
        }
        sources
    }
}

/// One viewer's side of RTCP.
pub(crate) struct Feedback {
    sources: Sources,
    own: u32,
    sender: SrtpSender,
    opened: Option<Opened>,
    next_report: Instant,
    missing: BTreeMap<u16, (Instant, u8)>,
    highest: u32,
    packets: u32,
    first: Option<u32>,
    expected_before: u32,
    packets_before: u32,
    last_report: Option<(u32, Instant)>,
    scratch: Vec<u8>,
    /// Packets asked for.
    pub(crate) asked: u64,
    /// Reports sent.
    pub(crate) reports: u64,
}

/// What an inspected viewer opens.
struct Opened {
    media: SrtpReceiver,
    reports: SrtcpReceiver,
}

impl Feedback {
    /// Of viewer number `index`.
    pub(crate) fn new(
        keys: &SrtpKeys,
        sources: Sources,
        inspected: bool,
        index: usize,
        now: Instant,
    ) -> Result<Self, Failure> {
        let opened = if inspected {
            Some(Opened {
                media: SrtpReceiver::new_client(keys).map_err(|_why| "no SRTP receiver")?,
                reports: SrtcpReceiver::new_client(keys).map_err(|_why| "no SRTCP receiver")?,
            })
        } else {
            None
        };
        let index = u32::try_from(index).unwrap_or(0);
        Ok(Self {
            sources,
            own: index.wrapping_add(1),
            sender: SrtpSender::new_client(keys).map_err(|_why| "no SRTP sender")?,
            opened,
            next_report: now + REPORT_INTERVAL.mul_f64(f64::from(index % 97) / 97.0),
            missing: BTreeMap::new(),
            highest: 0,
            packets: 0,
            first: None,
            expected_before: 0,
            packets_before: 0,
            last_report: None,
            scratch: Vec::new(),
            asked: 0,
            reports: 0,
        })
    }

    /// Opens a packet of media; gives where its payload begins in the answer. `None`: it is not
    /// opened here, or not authentic.
    pub(crate) fn open(&mut self, datagram: &[u8]) -> Option<(OpenedRtp, &[u8])> {
        let opened = self.opened.as_mut()?;
        let head = opened.media.open_rtp(datagram, &mut self.scratch).ok()?;
        Some((head, &self.scratch))
    }

    /// Takes note of a packet of video, and of those before it that did not come.
    pub(crate) fn note(&mut self, header: Header, missing: &[u16], now: Instant) {
        self.packets = self.packets.wrapping_add(1);
        let sequence = u32::from(header.sequence());
        let cycle = self.highest & 0xffff_0000;
        let wrapped = self.first.is_some() && (self.highest & 0xffff) > sequence + 0x8000;
        let extended = cycle + sequence + if wrapped { 0x1_0000 } else { 0 };
        self.highest = self.highest.max(extended);
        self.first.get_or_insert(extended);
        for sequence in missing {
            if self.missing.len() < MISSING_MAX {
                self.missing.insert(*sequence, (now, 0));
            }
        }
    }

    /// A packet that was missing came.
    pub(crate) fn found(&mut self, sequence: u16) {
        self.missing.remove(&sequence);
    }

    /// Takes a control packet: the sender's reports are answered.
    pub(crate) fn handle_control(&mut self, datagram: &[u8], now: Instant) {
        let Some(opened) = &mut self.opened else {
            return;
        };
        let mut packet = Vec::new();
        if opened.reports.open(datagram, &mut packet).is_err() {
            return;
        }
        for item in parse(&packet) {
            if let Ok(RtcpItem::SenderReport(report)) = item
                && Some(report.ssrc) == self.sources.video
            {
                self.last_report = Some((report.ntp.middle(), now));
            }
        }
    }

    /// When it has something to say next.
    pub(crate) fn next(&self) -> Instant {
        let asks = self.missing.values().map(|(at, _)| *at).min();
        asks.map_or(self.next_report, |at| at.min(self.next_report))
    }

    /// What it has to say now, sealed.
    pub(crate) fn poll(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let mut sealed = Vec::new();
        let Some(video) = self.sources.video else {
            self.next_report = now + REPORT_INTERVAL;
            return sealed;
        };
        let mut asked = Vec::new();
        for (sequence, (at, asks)) in &mut self.missing {
            if *at <= now {
                *at = now + ASK_AGAIN;
                *asks += 1;
                asked.push(*sequence);
            }
        }
        self.missing.retain(|_, (_, asks)| *asks < ASKS_MAX);
        let mut packet = Vec::new();
        if !asked.is_empty() {
            self.asked += asked.len() as u64;
            write_nack(&mut packet, self.own, video, &asked);
            self.seal(&packet, &mut sealed);
        }
        if self.next_report <= now {
            self.next_report = now + REPORT_INTERVAL;
            self.reports += 1;
            packet.clear();
            let block = self.block(video, now);
            write_receiver_report(&mut packet, self.own, &[block]);
            self.seal(&packet, &mut sealed);
        }
        sealed
    }

    fn block(&mut self, ssrc: u32, now: Instant) -> ReportBlock {
        let expected = self.first.map_or(0, |first| self.highest - first + 1);
        let since = expected.wrapping_sub(self.expected_before);
        let got = self.packets.wrapping_sub(self.packets_before);
        let lost = since.saturating_sub(got);
        (self.expected_before, self.packets_before) = (expected, self.packets);
        let (lsr, dlsr) = match self.last_report {
            Some((lsr, at)) => {
                let waited = now.saturating_duration_since(at).as_millis();
                (
                    lsr,
                    u32::try_from(waited * 65_536 / 1_000).unwrap_or(u32::MAX),
                )
            }
            None => (0, 0),
        };
        ReportBlock {
            ssrc,
            fraction_lost: u8::try_from(lost * 256 / since.max(1)).unwrap_or(u8::MAX),
            lost: i32::try_from(expected.saturating_sub(self.packets)).unwrap_or(0),
            highest_seq: self.highest,
            jitter: 0,
            lsr,
            dlsr,
        }
    }

    fn seal(&mut self, packet: &[u8], sealed: &mut Vec<Vec<u8>>) {
        let mut out = Vec::new();
        if self.sender.seal_rtcp(packet, &mut out).is_ok() {
            sealed.push(out);
        }
    }
}
