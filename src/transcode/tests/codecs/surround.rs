//! Every channel of surround sound, by a tone of its own.

use super::*;

/// Each channel of an AAC stream as ffmpeg 5.1 writes it, by what ffmpeg calls it: its tone, and its
/// gain at the left and at the right, by ITU-R BS.775.
type EachChannel = &'static [(&'static str, f64, [f64; 2])];

const HALF_POWER: f64 = std::f64::consts::FRAC_1_SQRT_2;
/// The first four of every layout here.
const FRONT: [(&str, f64, [f64; 2]); 4] = [
    ("FL", 400.0, [1.0, 0.0]),
    ("FR", 550.0, [0.0, 1.0]),
    ("FC", 700.0, [HALF_POWER, HALF_POWER]),
    ("LFE", 50.0, [0.0, 0.0]),
];
/// `channelConfiguration` 7.
const EACH_7_1: EachChannel = &[
    FRONT[0],
    FRONT[1],
    FRONT[2],
    FRONT[3],
    ("BL", 850.0, [HALF_POWER, 0.0]),
    ("BR", 1_000.0, [0.0, HALF_POWER]),
    ("SL", 1_150.0, [HALF_POWER, 0.0]),
    ("SR", 1_300.0, [0.0, HALF_POWER]),
];
/// A program config element: two elements in front, one beside (the LFE), two behind.
const EACH_7_1_WIDE: EachChannel = &[
    FRONT[0],
    FRONT[1],
    FRONT[2],
    FRONT[3],
    ("BL", 850.0, [HALF_POWER, 0.0]),
    ("BR", 1_000.0, [0.0, HALF_POWER]),
    ("FLC", 1_150.0, [HALF_POWER, 0.0]),
    ("FRC", 1_300.0, [0.0, HALF_POWER]),
];
/// A program config element: two elements in front, one beside (the LFE), one behind.
const EACH_5_1_SIDE: EachChannel = &[
    FRONT[0],
    FRONT[1],
    FRONT[2],
    FRONT[3],
    ("SL", 850.0, [HALF_POWER, 0.0]),
    ("SR", 1_000.0, [0.0, HALF_POWER]),
];

#[test]
fn each_channel_of_surround_aac_comes_out_on_its_side_at_its_level() {
    let samples = [
        ("7.1", sample!("each-7.1.flv"), EACH_7_1),
        ("7.1(wide)", sample!("each-7.1-wide.flv"), EACH_7_1_WIDE),
        ("5.1(side)", sample!("each-5.1-side.flv"), EACH_5_1_SIDE),
    ];
    let samples = samples.map(|(name, file, channels)| (name, Sample::flv(file), channels));
    let [(_, plain, _), (_, wide, _), (_, side, _)] = &samples;
    for (sample, config) in [
        (plain, [0x11, 0xb8]),
        (wide, [0x11, 0x80]),
        (side, [0x11, 0x80]),
    ] {
        let AudioConfig::Aac(found) = &sample.config else {
            panic!("{:?}", sample.config);
        };
        assert!(found.starts_with(&config), "{found:02x?}");
    }
    // What newer encoders write for the same: `channelConfiguration` 12.
    let newer = Sample {
        config: aac(&[0x11, 0xe0]),
        packets: plain.packets.clone(),
    };
    let newer = ("7.1, newer", newer, EACH_7_1);
    for (name, sample, channels) in samples.into_iter().chain([newer]) {
        let (rate, pcm) = sample.decode();
        let peak = pcm.iter().fold(0_f32, |peak, it| peak.max(it.abs()));
        assert!((0.2..1.0).contains(&peak), "{name}: {peak}");
        let span = |second: f64| (second * f64::from(rate)) as usize * 2;
        let hertz: Vec<f64> = channels.iter().map(|(_, hertz, _)| *hertz).collect();
        for side in 0..2 {
            let heard = pcm[span(0.1) + side..span(0.26)].iter().step_by(2);
            let heard: Vec<f32> = heard.copied().collect();
            let (levels, _) = measure(&heard, rate, &hertz);
            for ((channel, _, gains), level) in channels.iter().zip(levels) {
                let wanted = 20.0 * gains[side].log10();
                let is_right = match gains[side] > 0.0 {
                    true => (level - wanted).abs() < 0.1,
                    false => level < -60.0,
                };
                assert!(
                    is_right,
                    "{name}, {channel} at side {side}: {level} dB instead of {wanted}"
                );
            }
        }
    }
}
