//! Every audio codec: files as ffmpeg writes them, and what can go wrong with each.

use super::*;

const FLAC_STREAM_INFO: [u8; 34] = {
    let mut info = [0; 34];
    info[0] = 4;
    info[2] = 4;
    info[10] = 0x0a;
    info[11] = 0xc4;
    info[12] = 0x42;
    info[13] = 0xf0;
    info
};

impl Rig {
    pub(super) fn audio_configs(&self) -> Vec<&AudioConfig> {
        let mut configs = Vec::new();
        for output in &self.outputs {
            if let IngestOutput::AudioConfig(config) = output {
                configs.push(config);
            }
        }
        configs
    }
}

#[test]
fn every_audio_codec_of_ffmpeg_is_given_on_with_its_configuration() {
    let pcm = AudioConfig::Pcm {
        rate: 11_025,
        channels: 1,
        bits: 16,
    };
    for (rig, config, name) in [
        (sample!("ac3"), AudioConfig::Ac3, "AC-3 48 kHz 5.1"),
        (sample!("eac3"), AudioConfig::Eac3, "E-AC-3 48 kHz mono"),
        (sample!("mp3"), AudioConfig::Mp3, "MP3 44.1 kHz mono"),
        (sample!("pcm"), pcm, "PCM 11.025 kHz mono"),
        (
            sample!("alaw"),
            AudioConfig::ALaw { channels: 1 },
            "G.711 A-law 8 kHz mono",
        ),
        (
            sample!("mulaw"),
            AudioConfig::MuLaw { channels: 1 },
            "G.711 \u{b5}-law 8 kHz mono",
        ),
        (
            sample!("nellymoser"),
            AudioConfig::Nellymoser { rate: 16_000 },
            "Nellymoser 16 kHz mono",
        ),
    ] {
        assert_eq!(rig.audio_configs(), [&config]);
        check_audio(&rig, name);
    }
    let opus = sample!("opus");
    check_audio(&opus, "Opus 48 kHz stereo");
    let [AudioConfig::Opus(Some(header))] = opus.audio_configs()[..] else {
        panic!("{:?}", opus.audio_configs());
    };
    assert!(header.starts_with(b"OpusHead"));
    let flac = sample!("flac");
    check_audio(&flac, "FLAC 48 kHz mono");
    let [AudioConfig::Flac(header)] = flac.audio_configs()[..] else {
        panic!("{:?}", flac.audio_configs());
    };
    assert_eq!(header[..8], *b"fLaC\x80\0\0\x22");
}

fn check_audio(rig: &Rig, name: &str) {
    assert_eq!(rig.ingest.info().audio.as_deref(), Some(name));
    assert!(rig.units().len() >= 8, "{name}");
    let stats = rig.ingest.stats();
    // FLAC's encoder ends with an empty packet and the final stream info.
    let empty = stats.dropped(DropReason::Empty);
    assert_eq!(stats.dropped_total(), empty, "{name}");
    assert!(empty <= u64::from(name.starts_with("FLAC")));
    assert!(rig.warnings().is_empty(), "{name}");
    let place = |wanted: fn(&IngestOutput) -> bool| rig.outputs.iter().position(wanted);
    let config_at = place(|it| matches!(it, IngestOutput::AudioConfig(_)));
    assert!(config_at < place(|it| matches!(it, IngestOutput::Audio(_))));
}

#[test]
fn audio_that_changes_is_announced_again() {
    let mut rig = Rig::new();
    rig.audio(0, AAC_CONFIG);
    rig.audio(0, AAC_UNIT);
    rig.audio(21, &[0xaf, 0, 0x12, 0x08]);
    rig.audio(21, AAC_UNIT);
    assert_eq!(rig.audio_configs().len(), 2);
    let name = |rig: &Rig| rig.ingest.info().audio.clone().unwrap();
    assert_eq!(name(&rig), "AAC-LC 44.1 kHz mono");
    rig.audio(40, &[0x2f, 0xff, 0xfb, 0x94, 0x00]);
    rig.audio(64, &[0x2f, 0xff, 0xfb, 0x94, 0x00]);
    assert_eq!(rig.audio_configs().len(), 3);
    assert_eq!(name(&rig), "MP3 48 kHz stereo");
    rig.audio(88, &[0x2f, 0xff, 0xfb, 0x30, 0xc4]);
    assert_eq!(rig.audio_configs().len(), 3, "each frame says it itself");
    assert_eq!(name(&rig), "MP3 44.1 kHz mono");
    rig.audio(100, AAC_UNIT);
    assert_eq!(rig.dropped(DropReason::ConfigMissing), 1);
    rig.audio(120, &[0x7e, 0xd5]);
    rig.audio(140, &[0x7f, 0xd5]);
    let [.., mono, stereo] = rig.audio_configs()[..] else {
        panic!("{:?}", rig.audio_configs());
    };
    assert_eq!(mono, &AudioConfig::ALaw { channels: 1 });
    assert_eq!(stereo, &AudioConfig::ALaw { channels: 2 });
}

#[test]
fn audio_headers_may_be_late_bare_or_bad() {
    let mut rig = Rig::new();
    rig.audio(0, b"\x91fLaC\xff\xf8");
    assert_eq!(rig.warnings(), [IngestWarning::AudioConfigMissing]);
    rig.audio(0, b"\x90fLaC\x01");
    assert_eq!(rig.dropped(DropReason::BadConfig), 1);
    rig.audio(20, &[&b"\x90fLaC"[..], &FLAC_STREAM_INFO].concat());
    rig.audio(20, b"\x91fLaC\xff\xf8");
    assert_eq!(rig.units().len(), 1);
    let name = |rig: &Rig| rig.ingest.info().audio.clone().unwrap();
    assert_eq!(name(&rig), "FLAC 44.1 kHz stereo");
    rig.audio(40, b"\x91Opus\x7c");
    assert_eq!(rig.audio_configs()[1], &AudioConfig::Opus(None));
    assert_eq!(name(&rig), "Opus 48 kHz stereo");
    rig.audio(60, b"\x90Opus");
    rig.audio(60, b"\x91Opus\x7c");
    assert_eq!(rig.audio_configs().len(), 2, "an empty header says nothing");
    assert_eq!(rig.units().len(), 3);
}
