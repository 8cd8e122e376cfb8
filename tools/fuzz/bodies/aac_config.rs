//! AudioSpecificConfig: any bytes give a config within bounds, or an error.
use rtmpeer::media::aac::AudioSpecificConfig;

/// One input.
pub fn fuzz(data: &[u8]) {
    run(data);
}

fn run(data: &[u8]) {
    let Ok(config) = AudioSpecificConfig::parse(data) else {
        return;
    };
    for frequency in [
        config.sampling_frequency,
        config.output_sampling_frequency(),
    ] {
        assert!((7_350..=96_000).contains(&frequency));
    }
    assert!(config.channels > 0 && config.output_channels() > 0);
    assert!([480, 512, 960, 1_024].contains(&config.samples_per_unit));
    assert!(!config.to_string().is_empty());
}
