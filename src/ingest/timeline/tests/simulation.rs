//! Simulated publishes: encoders whose clock drifts, networks that stall, files sent at full
//! speed. What is looked at is how long before (or after) its arrival a message is placed.

use super::*;

/// A publish of 30 frames/s and AAC of 44.1 kHz, timestamps rounded to milliseconds as RTMP does.
struct Publish {
    timeline: Timeline,
    timebase: Timebase,
    start: Instant,
    frames: u64,
    units: u64,
    random: u64,
}

/// A message of it.
#[derive(Debug, Clone, Copy)]
struct Message {
    track: TrackKind,
    /// Its exact time by the encoder's clock, in microseconds.
    micros: u64,
}

impl Message {
    fn timestamp(&self) -> u32 {
        u32::try_from(self.micros / 1_000).unwrap()
    }
}

impl Publish {
    fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let start = Instant::now();
        let timebase = Timebase::new(start, Duration::ZERO);
        Self {
            timeline: Timeline::new(timebase),
            timebase,
            start,
            frames: 0,
            units: 0,
            random: 1,
        }
    }

    /// The next message in the order of time.
    fn next(&mut self) -> Message {
        let video = self.frames * 1_000_000 / 30;
        let audio = self.units * 1_024 * 1_000_000 / 44_100;
        if video <= audio {
            self.frames += 1;
            let (track, micros) = (Video, video);
            return Message { track, micros };
        }
        self.units += 1;
        let (track, micros) = (Audio, audio);
        Message { track, micros }
    }

    fn jitter_micros(&mut self, max: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % max
    }

    fn map(&mut self, message: Message, timestamp: u32, at_micros: u64) -> Mapped {
        let now = self.start + Duration::from_micros(at_micros);
        self.timeline.map(message.track, timestamp, now)
    }

    /// How long before its place a message came, in milliseconds.
    fn lead_ms(&self, mapped: Mapped, at_micros: u64) -> i64 {
        let now = self.start + Duration::from_micros(at_micros);
        let lead = mapped.dts.minus(self.timebase.media_time(now));
        lead.as_micros().div_euclid(1_000)
    }
}

const HOUR_MICROS: u64 = 3_600_000_000;

/// Six hours of an encoder whose clock is fast by `ppm`: greatest lead, greatest delay after the
/// first ten minutes, in ms; and the greatest distance of the two tracks, in µs.
fn drift(ppm: i64) -> (i64, i64, i64) {
    let mut publish = Publish::new();
    let (mut ahead, mut behind, mut apart) = (i64::MIN, i64::MAX, 0);
    let mut last = 0;
    let mut placed = [None::<(i64, MediaTime)>; 2];
    loop {
        let message = publish.next();
        if message.micros > 6 * HOUR_MICROS {
            return (ahead, behind, apart);
        }
        let micros = i64::try_from(message.micros).unwrap();
        let sent = u64::try_from(micros - micros * ppm / 1_000_000).unwrap();
        let at = last.max(sent + publish.jitter_micros(40_000));
        last = at;
        let mapped = publish.map(message, message.timestamp(), at);
        assert!(!mapped.jumped && !mapped.late);
        let index = usize::from(message.track == Audio);
        let moved = mapped.dts.as_micros() - micros;
        if let Some((before, dts)) = placed[index] {
            let step = (moved - before).abs();
            assert!(
                step <= 1_100,
                "a step of {step} µs at {sent} is seen or heard"
            );
            assert!(mapped.dts >= dts);
        }
        placed[index] = Some((moved, mapped.dts));
        if let [Some((video, _)), Some((audio, _))] = placed {
            apart = apart.max((video - audio).abs());
        }
        if message.micros > HOUR_MICROS / 6 {
            let lead = publish.lead_ms(mapped, at);
            ahead = ahead.max(lead);
            behind = behind.min(lead);
        }
    }
}

#[test]
fn six_hours_of_a_drifting_clock_grow_neither_delay_nor_skew() {
    for ppm in [200, -200] {
        let (ahead, behind, apart) = drift(ppm);
        assert!(ahead <= 25, "{ppm} ppm: {ahead} ms ahead");
        // 40 ms of it is the network's jitter.
        assert!(behind >= -65, "{ppm} ppm: {behind} ms behind");
        assert!(apart <= 1_100, "{ppm} ppm: tracks {apart} µs apart");
    }
}

#[test]
fn a_steady_clock_is_left_alone() {
    let mut publish = Publish::new();
    loop {
        let message = publish.next();
        if message.micros > HOUR_MICROS {
            break;
        }
        let mapped = publish.map(message, message.timestamp(), message.micros);
        assert_eq!(mapped.dts.as_millis(), i64::from(message.timestamp()));
    }
}

/// What is sent in the given time goes out at its end, back to back.
fn stall(from: u64, until: u64, message: Message) -> u64 {
    match (from..until).contains(&message.micros) {
        true => until,
        false => message.micros,
    }
}

#[test]
fn what_a_stall_held_up_keeps_its_times_and_is_not_heard() {
    for seconds in [3, 8, 30] {
        let mut publish = Publish::new();
        let (from, until) = (20_000_000, (20 + seconds) * 1_000_000);
        let (mut late, mut heard) = (0, 0);
        while let message = publish.next()
            && message.micros < until + 60_000_000
        {
            let at = stall(from, until, message);
            let mapped = publish.map(message, message.timestamp(), at);
            let timestamp = i64::from(message.timestamp());
            assert!((mapped.dts.as_millis() - timestamp).abs() <= 1);
            let is_past = publish.lead_ms(mapped, at) < -250;
            late += u64::from(mapped.late);
            heard += u64::from(is_past && message.track == Audio && !mapped.late);
        }
        assert!(late >= seconds * 43 - 45, "only {late} units left out");
        assert!(heard <= 1, "{heard} units of the past are heard");
    }
}

#[test]
fn an_encoder_that_was_stopped_goes_on_where_the_clock_is() {
    for reordering in [false, true] {
        let mut publish = Publish::new();
        publish.timeline.set_reordering(reordering);
        let mut paused = 0;
        while let message = publish.next()
            && message.micros < 100_000_000
        {
            if message.micros >= 20_000_000 {
                paused = 7_000_000;
            }
            let at = message.micros + paused;
            let mapped = publish.map(message, message.timestamp(), at);
            let lead = publish.lead_ms(mapped, at);
            let is_seen = !(20_000_000..20_550_000).contains(&message.micros);
            assert!(!mapped.late, "left out at {at}");
            assert!(!is_seen || (-5..=25).contains(&lead), "{lead} ms at {at}");
        }
    }
}

/// Sends at full speed, but for what the timeline asks to wait. Gives the messages' moments of
/// arrival and their places, in ms.
fn send_fast(publish: &mut Publish, seconds: u64) -> Vec<(u64, i64)> {
    let mut at = 0;
    let mut sent = Vec::new();
    while let message = publish.next()
        && message.micros < seconds * 1_000_000
    {
        let mapped = publish.map(message, message.timestamp(), at);
        sent.push((at / 1_000, mapped.dts.as_millis()));
        at += 20;
        let now = publish.start + Duration::from_micros(at);
        if let Some(resume) = publish.timeline.resume_at(now) {
            at += u64::try_from(resume.duration_since(now).as_micros()).unwrap();
        }
    }
    sent
}

#[test]
fn a_file_sent_at_full_speed_is_played_in_real_time() {
    let mut publish = Publish::new();
    let sent = send_fast(&mut publish, 60);
    for &(at, placed) in &sent {
        let lead = placed - i64::try_from(at).unwrap();
        assert!((-1..=1_200).contains(&lead), "{lead} ms at {at}");
    }
    let (at, _) = *sent.last().unwrap();
    assert!((54_000..=60_000).contains(&at), "took {at} ms");
    assert!(publish.timeline.holds() > 1_000);
}

#[test]
fn a_head_start_is_left_out_and_the_stream_is_live() {
    let mut publish = Publish::new();
    let mut last = 0;
    while let message = publish.next()
        && message.micros < 20_000_000
    {
        // The relay had gathered 2.5 s before it connected.
        let at = message.micros.saturating_sub(2_500_000).max(last);
        last = at;
        let mapped = publish.map(message, message.timestamp(), at);
        let now = publish.start + Duration::from_micros(at);
        assert!(publish.timeline.resume_at(now).is_none());
        if at > 1_000_000 {
            let lead = publish.lead_ms(mapped, at);
            assert!((-5..=1_000).contains(&lead), "{lead} ms at {at}");
        }
    }
}

#[test]
fn a_leap_of_both_tracks_goes_on_in_step_and_without_a_halt() {
    let mut publish = Publish::new();
    while let message = publish.next()
        && message.micros < 20_000_000
    {
        let leap = if message.micros < 10_000_000 {
            0
        } else {
            4_000
        };
        let timestamp = message.timestamp() + leap;
        let mapped = publish.map(message, timestamp, message.micros);
        let lead = publish.lead_ms(mapped, message.micros);
        assert!((-25..=25).contains(&lead), "{lead} ms");
    }
}

#[test]
fn timestamps_that_stand_still_are_replaced_by_the_arrival() {
    let mut publish = Publish::new();
    let mut last = None;
    while let message = publish.next()
        && message.micros < 20_000_000
    {
        let mapped = publish.map(message, 0, message.micros);
        if message.track == Video {
            assert!(Some(mapped.dts) > last);
            last = Some(mapped.dts);
        }
        if message.micros > 1_000_000 {
            let lead = publish.lead_ms(mapped, message.micros);
            assert!((-600..=50).contains(&lead), "{lead} ms");
        }
    }
}

/// A publish of 40 s whose picture leaves 350 ms after the sound of the same moment, and whose
/// `paused` track has nothing between the tenth and the 22nd second. Gives how long after the sound
/// of a moment its picture is placed, in ms, before the pause and after it.
fn paused_track(paused: TrackKind) -> [i64; 2] {
    let mut publish = Publish::new();
    let mut messages = Vec::new();
    while let message = publish.next()
        && message.micros < 40_000_000
    {
        let delay = if message.track == Video { 350_000 } else { 0 };
        let is_paused = (10_000_000..22_000_000).contains(&message.micros);
        if message.track != paused || !is_paused {
            messages.push((message.micros + delay, message));
        }
    }
    messages.sort_by_key(|(at, _)| *at);
    let mut moved = [[0; 2]; 2];
    for (at, message) in messages {
        let mapped = publish.map(message, message.timestamp(), at);
        assert!(!mapped.jumped, "a jump at {at}");
        let after = usize::from(message.micros >= 22_000_000);
        let by = mapped.dts.as_millis() - i64::from(message.timestamp());
        moved[after][usize::from(message.track == Video)] = by;
    }
    moved.map(|[audio, video]| video - audio)
}

#[test]
fn a_track_that_paused_goes_on_in_step_with_the_other() {
    assert_eq!(paused_track(Audio), [0, 0]);
    assert_eq!(paused_track(Video), [0, 0]);
}

/// A stall of the given seconds, after which the uplink carries `percent` of real time until it has
/// caught up, with reordered pictures that leave 200 ms after the sound of the same moment. Gives
/// how late the publish is placed at its end, in ms, and how much of its sound is left out.
fn slow_recovery(seconds: u64, percent: u64) -> (i64, u64) {
    let mut publish = Publish::new();
    publish.timeline.set_reordering(true);
    let mut messages = Vec::new();
    while let message = publish.next()
        && message.micros < 120_000_000
    {
        let delay = if message.track == Video { 200_000 } else { 0 };
        messages.push((message.micros + delay, message));
    }
    messages.sort_by_key(|(sent, _)| *sent);
    let from = 20_000_000;
    let (mut last, mut delay, mut late) = (0, 0, 0);
    for (sent, message) in messages {
        let carried = sent.checked_sub(from);
        let carried = carried.map(|since| from + seconds * 1_000_000 + since * 100 / percent);
        last = sent.max(carried.unwrap_or(0)).max(last) + publish.jitter_micros(10_000);
        let mapped = publish.map(message, message.timestamp(), last);
        delay = mapped.dts.as_millis() - i64::from(message.timestamp());
        late += u64::from(mapped.late);
    }
    (delay, late)
}

#[test]
fn a_stall_whose_rest_comes_slowly_is_caught_up_without_pressing() {
    for (seconds, percent) in [(4, 130), (4, 125), (8, 140), (30, 300)] {
        let (delay, late) = slow_recovery(seconds, percent);
        assert!(delay < 1_200, "{seconds} s, {percent} %: {delay} ms late");
        let left_out = if percent > 200 { 45 * 44 } else { 25 };
        assert!(late <= left_out, "{late} messages left out");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(256))]
    #[test]
    fn whatever_comes_time_rises_and_no_wait_is_long(
        messages in proptest::collection::vec(
            (proptest::bool::ANY, -12_000..12_000_i32, 0..3_000_u64),
            1..200,
        ),
    ) {
        let mut publish = Publish::new();
        let (mut timestamp, mut at) = (0_u32, 0_u64);
        let mut last = [None::<MediaTime>; 2];
        for (is_audio, step, took) in messages {
            // Most steps are those of a stream.
            timestamp = match step % 3 {
                0 => timestamp.wrapping_add_signed(step),
                _ => timestamp.wrapping_add(33),
            };
            at += took * took / 100;
            let now = publish.start + Duration::from_micros(at * 1_000);
            let track = if is_audio { Audio } else { Video };
            let mapped = publish.timeline.map(track, timestamp, now);
            let before = &mut last[usize::from(is_audio)];
            match track {
                Video => proptest::prop_assert!(*before < Some(mapped.dts)),
                Audio => proptest::prop_assert!(*before <= Some(mapped.dts)),
            }
            *before = Some(mapped.dts);
            let resume = publish.timeline.resume_at(now);
            proptest::prop_assert!(resume.is_none_or(|at| at <= now + Duration::from_secs(5)));
        }
    }
}
