//! Messages of several tracks, of which what is played is a small part.
//!
//! A bug was: the pictures kept for a transcoder were counted by their own bytes, and each kept its
//! whole message, up to 8 MiB.

use super::*;

const OTHERS: usize = 100_000;

/// A message of some tracks of one codec (`AvMultitrackType.ManyTracks`). `first`: how its header
/// begins.
fn many(first: [u8; 2], codec: &[u8], tracks: &[(u8, &[u8])]) -> Bytes {
    let mut message = first.to_vec();
    message.extend(codec);
    for (track, data) in tracks {
        message.push(*track);
        message.extend(&u32::try_from(data.len()).unwrap().to_be_bytes()[1..]);
        message.extend_from_slice(data);
    }
    message.into()
}

/// Whether what is kept shares the memory of its message.
fn shares(message: &Bytes, kept: &Bytes) -> bool {
    message.as_ptr_range().contains(&kept.as_ptr())
}

#[test]
fn h264_picture_does_not_keep_the_tracks_beside_it() {
    let mut rig = Rig::configured();
    let picture = &access_unit(0, &[IDR])[5..];
    let others = vec![0; OTHERS];
    for tracks in [
        [(0, picture), (1, &others[..])],
        [(1, &others[..]), (0, picture)],
    ] {
        // Coded frames without a composition time, of a keyframe.
        let message = many([0x96, 0x13], b"avc1", &tracks);
        rig.ingest.handle_video(0, message.clone(), rig.start);
        rig.drain();
        let frame = *rig.frames().last().unwrap();
        assert!(!shares(&message, &frame.data));
        assert_eq!(nal_units(frame), [IDR]);
        assert_eq!(&frame.data[frame.start..], picture);
    }
    assert_eq!(rig.frames().len(), 2);
}

#[test]
fn picture_of_another_codec_does_not_keep_the_tracks_beside_it() {
    let mut rig = Rig::new();
    // A keyframe of 320 × 180.
    let picture = [0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xb4, 0, 7];
    let message = many(
        [0x96, 0x13],
        b"vp08",
        &[(0, &picture), (1, &vec![0; OTHERS])],
    );
    rig.ingest.handle_video(0, message.clone(), rig.start);
    rig.drain();
    assert_eq!(rig.coded().len(), 1);
    assert_eq!(rig.coded()[0].data, picture[..]);
    assert!(!shares(&message, &rig.coded()[0].data));
}

#[test]
fn sound_does_not_keep_the_tracks_beside_it_and_most_of_a_message_is_not_copied() {
    let mut rig = Rig::new();
    let others = vec![0; 20_000];
    let message = many([0x95, 0x11], b"Opus", &[(0, &[0xfc, 1]), (1, &others)]);
    rig.ingest.handle_audio(0, message.clone(), rig.start);
    let large = many([0x95, 0x11], b"Opus", &[(0, &others), (1, &[0xfc, 1])]);
    rig.ingest.handle_audio(20, large.clone(), rig.start);
    rig.drain();
    let units = rig.units();
    assert_eq!(units[0].data, [0xfc, 1][..]);
    assert!(!shares(&message, &units[0].data));
    assert_eq!(units[1].data, others);
    assert!(shares(&large, &units[1].data));
}
