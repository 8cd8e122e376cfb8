//! Gaps, overlaps, jitter and drift: sound is heard at its time.

use super::*;

#[test]
fn gap_becomes_silence_of_its_length() {
    for rate in [44_100, 48_000, 22_050] {
        let mut stream = Stream::tone(rate, 2, 4.0);
        let lost = stream.lose(1.5..2.25);
        let (packets, stats) = stream.transcode_and_count();
        assert_contiguous(&packets);
        assert_eq!((stats.gaps, stats.jumps), (1, 0));
        // What was heard last is faded out over 5 ms of it.
        assert!(apart(stats.silence, seconds(lost.end - lost.start)) < 6_500);
        let heard = Heard::of(&packets);
        let silence = heard.silence();
        // A restarted AAC decoder fades in over its first frame.
        let frame = 1_024.0 / f64::from(rate);
        assert!(
            (silence.start - lost.start).abs() < 0.006,
            "{rate} Hz: {silence:?} instead of {lost:?}"
        );
        assert!(
            silence.end > lost.end - 0.002 && silence.end < lost.end + frame,
            "{rate} Hz: {silence:?} instead of {lost:?}"
        );
    }
}

#[test]
fn sound_after_a_gap_is_heard_at_its_time() {
    for rate in [44_100, 48_000] {
        let aac = Aac::encode(&clicks(rate, 2, 5.0, &[1.0, 4.0]), rate, 2);
        let clicks = [aac.time_of(1.0), aac.time_of(4.0)];
        let mut stream = Stream::from_aac(aac);
        stream.lose(1.5..1.6);
        stream.lose(2.0..3.5);
        let heard = Heard::of(&stream.transcode());
        heard.assert_clicks(&clicks, 2_500, &format!("{rate} Hz"));
    }
}

#[test]
fn edges_of_silence_do_not_click() {
    for rate in [44_100, 48_000] {
        let mut stream = Stream::tone(rate, 2, 4.0);
        stream.lose(1.5..2.0);
        let heard = Heard::of(&stream.transcode());
        let bend = largest_bend(heard.side(0, 0.5..3.5));
        let natural = AMPLITUDE * (TAU * TONE_HZ / 48_000.0).powi(2);
        assert!(
            bend < 2.5 * natural,
            "{rate} Hz: {bend} instead of {natural}"
        );
    }
}

#[test]
fn edges_of_an_overlap_do_not_click() {
    for rate in [44_100, 48_000] {
        let mut stream = Stream::tone(rate, 2, 4.0);
        // Not a whole number of the tone's periods.
        stream.shift_after(2.0, MediaTime::from_micros(-300_250));
        let (packets, stats) = stream.transcode_and_count();
        assert_eq!(stats.overlaps, 1);
        let bend = largest_bend(Heard::of(&packets).side(0, 0.5..3.2));
        let natural = AMPLITUDE * (TAU * TONE_HZ / 48_000.0).powi(2);
        assert!(
            bend < 2.5 * natural,
            "{rate} Hz: {bend} instead of {natural}"
        );
    }
}

#[test]
fn sound_before_a_gap_is_not_heard_after_it() {
    let mut pcm = tone(48_000, 2, 2.0);
    pcm.resize(4 * 48_000 * 2, 0);
    let mut stream = Stream::from_aac(Aac::encode(&pcm, 48_000, 2));
    stream.lose(1.5..2.5);
    let heard = Heard::of(&stream.transcode());
    let peak = |span| {
        let samples = heard.side(0, span).iter();
        samples.fold(0f32, |peak, sample| peak.max(sample.abs()))
    };
    assert!(peak(1.0..1.4) > 0.09);
    assert!(peak(1.7..3.5) < 0.001, "{}", peak(1.7..3.5));
}

#[test]
fn long_gap_begins_a_new_timeline() {
    let mut stream = Stream::tone(48_000, 2, 6.0);
    stream.lose(1.0..4.0);
    let after = stream.first_after(3.9);
    let (packets, stats) = stream.transcode_and_count();
    assert_eq!((stats.gaps, stats.jumps), (0, 1));
    let jumps: Vec<_> = packets
        .windows(2)
        .filter(|pair| apart(pair[1].pts, pair[0].pts) != 20_000)
        .collect();
    assert_eq!(jumps.len(), 1);
    let distance = after.minus(jumps[0][1].pts).as_micros();
    // The encoder's 312 samples; the decoder has no delay.
    assert!((6_000..7_000).contains(&distance), "{distance} µs");
}

#[test]
fn overlap_is_left_out() {
    let rate = 48_000;
    let aac = Aac::encode(&clicks(rate, 2, 5.0, &[1.0, 4.0]), rate, 2);
    let (first, second) = (aac.time_of(1.0), aac.time_of(4.0));
    let mut stream = Stream::from_aac(aac);
    let back = MediaTime::from_millis(500);
    stream.shift_after(2.0, MediaTime::ZERO.minus(back));
    let (packets, stats) = stream.transcode_and_count();
    assert_contiguous(&packets);
    assert_eq!((stats.overlaps, stats.gaps, stats.jumps), (1, 0, 0));
    Heard::of(&packets).assert_clicks(&[first, second.minus(back)], 2_500, "overlap");
}

#[test]
fn long_overlap_begins_a_new_timeline() {
    let mut stream = Stream::tone(48_000, 2, 4.0);
    stream.shift_after(2.0, MediaTime::from_millis(-1_500));
    let (_, stats) = stream.transcode_and_count();
    assert_eq!((stats.overlaps, stats.gaps, stats.jumps), (0, 0, 1));
}

#[test]
fn jitter_within_bounds_touches_nothing() {
    let mut stream = Stream::tone(48_000, 2, 10.0);
    for (index, (pts, _)) in stream.units.iter_mut().enumerate() {
        let jitter = i64::try_from(index * 7_919 % 41).unwrap() - 20;
        *pts = pts.plus(MediaTime::from_millis(jitter));
    }
    let (packets, stats) = stream.transcode_and_count();
    assert_contiguous(&packets);
    assert_eq!((stats.gaps, stats.overlaps, stats.jumps), (0, 0, 0));
}

#[test]
fn hostile_timestamps_make_no_endless_silence() {
    let stream = Stream::tone(48_000, 2, 1.0);
    let mut transcoder = stream.transcoder();
    let mut packets = 0_u64;
    for (index, (_, unit)) in stream.units.iter().cycle().take(500).enumerate() {
        let pts = MediaTime::from_millis(i64::try_from(index).unwrap() * 1_900);
        transcoder.push(unit, pts, &mut |_| packets += 1);
    }
    assert!(packets < 500 * 4 + 100, "{packets} packets of 500 units");
}

#[test]
fn fast_publisher_at_44_100_hz_never_drifts_away() {
    assert_drift_settles(44_100, 200.0);
}

#[test]
fn slow_publisher_at_48_000_hz_never_drifts_away() {
    assert_drift_settles(48_000, -200.0);
}

/// Ten minutes of a publisher whose timestamps run off its samples.
fn assert_drift_settles(rate: u32, ppm: f64) {
    let stream = Stream::tone(rate, 1, 2.0);
    let frame = 1_024.0 / f64::from(rate) * (1.0 + ppm / 1_000_000.0);
    let count = (600.0 / frame) as usize;
    // The codec's quality does not matter here, its time does.
    let mut transcoder = stream.transcoder_with(AudioSettings {
        complexity: 0,
        ..AudioSettings::default()
    });
    let (mut skews, mut last) = (Vec::new(), MediaTime::ZERO);
    for index in 0..count {
        let unit = &stream.units[index % stream.units.len()].1;
        let millis = (index as f64 * frame * 1_000.0).round() as i64;
        let pts = SECOND.plus(MediaTime::from_millis(millis));
        transcoder.push(unit, pts, &mut |packet| last = packet.pts);
        // By the packets, not by the transcoder's own opinion.
        skews.push(pts.minus(last).as_micros());
    }
    let stats = transcoder.stats();
    assert_eq!((stats.gaps, stats.overlaps, stats.jumps), (0, 0, 0));
    let average = |part: &[i64]| part.iter().sum::<i64>() / i64::try_from(part.len()).unwrap();
    let start = average(&skews[..100]);
    let minutes = skews.chunks_exact(skews.len() / 10).map(average);
    let settled: Vec<_> = minutes.skip(2).map(|skew| skew - start).collect();
    assert!(
        settled.iter().all(|skew| skew.abs() < 9_000),
        "{rate} Hz: {settled:?} us"
    );
    let spread = settled.iter().max().unwrap() - settled.iter().min().unwrap();
    assert!(spread < 1_000, "{rate} Hz: not constant, {settled:?} us");
}
