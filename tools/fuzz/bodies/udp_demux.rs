//! What arrives on the UDP port before and after it is known whose it is: demultiplexing, then
//! the parsers of SRTP, RTP and RTCP.
//!
//! The input is a list of datagrams: a byte for the source (its upper bit: prove the address if
//! it may be proved), two for the length, the bytes.
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rtmpeer::ids::{CoreId, ViewerId};
use rtmpeer::webrtc::demux::{DatagramKind, Demux, Route};
use rtmpeer::webrtc::rtcp::{self, ITEMS_MAX, NACK_SEQUENCES_MAX, RtcpItem};
use rtmpeer::webrtc::rtp::RtpPacket;
use rtmpeer::webrtc::srtp::{SrtcpReceiver, SrtpKeys, SrtpProfile, SrtpReceiver};

const UFRAGS: [&str; 2] = ["AABalice000", "AABbob00000"];
const DATAGRAMS_MAX: usize = 1_000;

/// One input.
pub fn fuzz(data: &[u8]) {
    let mut now = Instant::now();
    let mut demux = Demux::new(CoreId(1), 4);
    for (ufrag, viewer) in UFRAGS.into_iter().zip(0..) {
        demux.register(ufrag, ViewerId(viewer));
    }
    let mut proved = [[false; 2]; 128];
    let mut rest = data;
    for _ in 0..DATAGRAMS_MAX {
        let Some((&[source, high, low], after)) = rest.split_first_chunk::<3>() else {
            break;
        };
        let length = usize::from(u16::from_be_bytes([high, low])).min(after.len());
        let (datagram, after) = after.split_at(length);
        rest = after;
        now += Duration::from_millis(10);
        let port = u16::from(source & 0x7f);
        let from = SocketAddr::from(([127, 0, 0, 1], port));
        match demux.route(from, datagram, now) {
            Route::Viewer(ViewerId(viewer)) => {
                let viewer = usize::try_from(viewer).unwrap();
                assert!(proved[usize::from(port)][viewer], "not proved");
                read(datagram);
            }
            Route::Candidate(viewer) => {
                assert_eq!(DatagramKind::of(datagram), Some(DatagramKind::Stun));
                if source & 0x80 != 0 && demux.bind(from, viewer, now) {
                    let viewer = usize::try_from(viewer.0).unwrap();
                    proved[usize::from(port)][viewer] = true;
                }
            }
            Route::OtherCore(core) => assert!(core != CoreId(1) && core.0 < 4),
            Route::Drop(_) => {}
        }
    }
    demux.remove(ViewerId(0));
    demux.remove(ViewerId(1));
    assert!(demux.is_empty());
}

fn read(datagram: &[u8]) {
    let mut items = 0;
    for item in rtcp::parse(datagram) {
        items += 1;
        if let Ok(RtcpItem::Nack { seqs, .. }) = item {
            assert!(seqs.count() <= NACK_SEQUENCES_MAX);
        }
    }
    assert!(items <= ITEMS_MAX + 1);
    if let Some(packet) = RtpPacket::parse(datagram) {
        let _ = (packet.extension(5), packet.rtx());
    }
    let mut out = Vec::new();
    for profile in [SrtpProfile::Aes128CmSha1_80, SrtpProfile::AeadAes256Gcm] {
        let keys = SrtpKeys::from_dtls(profile, &[7; 88]).unwrap();
        let opened = SrtcpReceiver::new(&keys).unwrap().open(datagram, &mut out);
        assert!(opened.is_err() && out.is_empty());
        let opened = SrtpReceiver::new_client(&keys)
            .unwrap()
            .open_rtp(datagram, &mut out);
        assert!(opened.is_err() && out.is_empty());
    }
}
