//! What the operator chose: TOML (toml.io 1.0) and `RTMPEER_…` environment variables become one
//! valid [`Config`], or an error of one line that names the key and says what to do.
//!
//! A variable outranks the file. `RTMPEER_SECTION__KEY` sets `section.key`, `RTMPEER_CORES` the
//! top-level `cores`; its text is read as a TOML value where it is one, else as a string, and a
//! list may be written with commas. `RTMPEER_LOG` is short for `RTMPEER_LOG__LEVEL`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::LevelFilter;

mod file;
mod read;
mod video;

use file::{first_file, read_file};
pub use read::text_variables;
use read::{Item, Place};
pub use video::{
    VIDEO_BITRATE_MAX, VIDEO_BITRATE_MIN, VIDEO_FRAME_RATE_MAX, VIDEO_HEIGHT_MAX, VIDEO_HEIGHT_MIN,
    VIDEO_KEYFRAME_INTERVAL_MAX, VIDEO_PRESETS, VIDEO_TRANSCODES_MAX, Video, VideoEncoder,
    VideoTranscode,
};

/// Where a configuration file is looked for when none is named, in this order.
pub const DEFAULT_PATHS: [&str; 2] = ["rtmpeer.toml", "/etc/rtmpeer/rtmpeer.toml"];

/// Most cores the server runs on: the core's number is part of every ICE ufrag.
pub const CORES_MAX: u16 = 256;
/// Highest CPU number that a list of CPUs may name (Linux's `CONFIG_NR_CPUS` at its largest).
pub const CPU_NUMBER_MAX: usize = 8_191;
/// Most transcode workers; each is a thread.
pub const TRANSCODE_WORKERS_MAX: u16 = 64;
/// Lowest Opus bitrate, in bit/s: below it stereo is unpleasant.
pub const AUDIO_BITRATE_MIN: u32 = 16_000;
/// Highest Opus bitrate, in bit/s (RFC 6716 §2.1.1).
pub const AUDIO_BITRATE_MAX: u32 = 510_000;
/// Most entries of a list in the configuration.
pub const LIST_ENTRIES_MAX: usize = 64;

/// Everything that can be configured, valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The file it was read from, if any.
    pub source: Option<PathBuf>,
    /// `cores`: how many loops, and where they run.
    pub cores: Cores,
    /// `rtmp.…`: where publishers connect.
    pub rtmp: Rtmp,
    /// `rtmps.…`: where publishers connect with TLS.
    pub rtmps: Rtmps,
    /// `tls.…`: the certificate.
    pub tls: Tls,
    /// `http.…`: page, WHEP, WebSocket and JSON.
    pub http: Http,
    /// `webrtc.…`: the media of viewers.
    pub webrtc: WebRtc,
    /// `metrics.…`: the Prometheus page.
    pub metrics: Metrics,
    /// `whep.…`: WHEP's choices.
    pub whep: Whep,
    /// `webhook.…`: who is told of events.
    pub webhook: Webhook,
    /// `audio.…`: the sound that viewers get.
    pub audio: Audio,
    /// `transcode.…`: its workers.
    pub transcode: Transcode,
    /// `video.…`: what happens with video that browsers cannot play.
    pub video: Video,
    /// `log.…`: what is logged.
    pub log: Log,
}

/// How many cores' loops the server runs, and on which CPUs. Only CPUs of the process's own
/// affinity mask are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cores {
    /// One on each CPU the process may use.
    Auto,
    /// This many, 1 to [`CORES_MAX`].
    Count(u16),
    /// One on each of these CPUs, named once each.
    Cpus(Vec<usize>),
}

/// Section `rtmp`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rtmp {
    /// `rtmp.listen`, TCP. Port 0 takes any free one.
    pub listen: SocketAddr,
    /// `rtmp.notices`: whether encoders are told by `onStatus` what they should change.
    pub notices: bool,
}

/// Section `rtmps`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rtmps {
    /// `rtmps.listen`, TCP; used once there is a certificate. Port 0 takes any free one; `"off"`
    /// is none.
    pub listen: Option<SocketAddr>,
}

/// Section `tls`. Both paths or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// `tls.certificate`: a PEM file with the chain, the server's own certificate first.
    pub certificate: Option<PathBuf>,
    /// `tls.key`: a PEM file with its private key.
    pub key: Option<PathBuf>,
}

/// Section `http`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// `http.listen`, TCP. Port 0 takes any free one.
    pub listen: SocketAddr,
    /// `http.tls`: whether it speaks HTTPS and nothing else.
    pub tls: bool,
    /// `http.allowed_origins`: `scheme://host[:port]` of pages on other hosts that may open a
    /// WebSocket here; `*` for all. The server's own page always may.
    pub allowed_origins: Vec<String>,
}

/// Section `webrtc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebRtc {
    /// `webrtc.listen`, UDP, one for all cores. Port 0 takes any free one.
    pub listen: SocketAddr,
    /// `webrtc.public_ips`: addresses to advertise; empty for the interfaces' own.
    pub public_ips: Vec<IpAddr>,
    /// `webrtc.ice_servers`: `stun:` URLs that viewers are told to use.
    pub ice_servers: Vec<String>,
}

/// Section `metrics`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// `metrics.listen`, TCP. Port 0 takes any free one.
    pub listen: SocketAddr,
}

/// What a WHEP viewer of a room without a publisher gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenOffline {
    /// A session that plays when a publisher comes.
    Wait,
    /// 409 and `Retry-After`, as the WHEP draft has it.
    Reject,
}

/// Section `whep`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whep {
    /// `whep.when_offline`.
    pub when_offline: WhenOffline,
}

/// Section `webhook`.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    /// `webhook.url`, `http://` or `https://`; none for no events. May hold a secret.
    pub url: Option<String>,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.url.as_ref().map(|_| "***");
        f.debug_struct("Webhook").field("url", &url).finish()
    }
}

/// Section `audio`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audio {
    /// `audio.bitrate` of the Opus given to viewers, in bit/s, [`AUDIO_BITRATE_MIN`] to
    /// [`AUDIO_BITRATE_MAX`].
    pub bitrate: u32,
}

/// Section `transcode`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcode {
    /// `transcode.workers`, threads, 1 to [`TRANSCODE_WORKERS_MAX`].
    pub workers: u16,
}

/// Section `log`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// `log.level`.
    pub level: LevelFilter,
}

impl Default for Config {
    fn default() -> Self {
        let everywhere = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        Self {
            source: None,
            cores: Cores::Auto,
            rtmp: Rtmp {
                listen: everywhere(1935),
                notices: false,
            },
            rtmps: Rtmps {
                listen: Some(everywhere(1936)),
            },
            tls: Tls {
                certificate: None,
                key: None,
            },
            http: Http {
                listen: everywhere(8889),
                tls: false,
                allowed_origins: Vec::new(),
            },
            webrtc: WebRtc {
                listen: everywhere(8189),
                public_ips: Vec::new(),
                ice_servers: Vec::new(),
            },
            metrics: Metrics {
                listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9998)),
            },
            whep: Whep {
                when_offline: WhenOffline::Wait,
            },
            webhook: Webhook { url: None },
            audio: Audio { bitrate: 128_000 },
            transcode: Transcode { workers: 1 },
            video: Video::default(),
            log: Log {
                level: LevelFilter::Info,
            },
        }
    }
}

impl Config {
    /// Reads the file at `path`; without one that of `RTMPEER_CONFIG`; without that the first of
    /// [`DEFAULT_PATHS`] that exists; without any, the defaults. Then applies the variables of
    /// `env`.
    ///
    /// # Errors
    /// When the file that is named or found cannot be read, is not TOML, or a key or value is wrong.
    pub fn load(
        path: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let env = read::our_variables(env);
        let named = path.map(Path::to_path_buf).or_else(|| {
            let variable = env.get(read::CONFIG_VARIABLE)?;
            (!variable.is_empty()).then(|| PathBuf::from(variable))
        });
        let file = match named {
            Some(path) => Some((read_file(&path)?, path)),
            None => first_file(&DEFAULT_PATHS)?,
        };
        let file = file.as_ref().map(|(text, path)| (path.as_path(), &**text));
        Self::build(file, &read::variables_to_set(&env))
    }

    /// As [`Config::load`], from text that was read already: the pure part.
    ///
    /// # Errors
    /// When the text is not TOML, or a key or value is wrong.
    pub fn parse(
        file: Option<(&Path, &str)>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        Self::build(file, &read::variables_to_set(&read::our_variables(env)))
    }

    fn build(
        file: Option<(&Path, &str)>,
        variables: &[(String, String)],
    ) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        let mut places = read::Places::new();
        if let Some((path, text)) = file {
            config.source = Some(path.to_path_buf());
            for item in read::file_items(path, text)? {
                config.set(&item)?;
                places.insert(item.key.clone(), item.place);
            }
        }
        for (name, text) in variables {
            let item = read::variable_item(name, text)?;
            config.set(&item)?;
            places.insert(item.key.clone(), item.place);
        }
        config.check(&places)?;
        Ok(config)
    }

    fn set(&mut self, item: &Item<'_>) -> Result<(), ConfigError> {
        let Some((_, set)) = KEYS.iter().find(|(key, _)| *key == item.key) else {
            return Err(ConfigError::UnknownKey {
                place: item.place.to_string(),
                key: read::quoted(&item.key),
                advice: unknown_key_advice(&item.key),
            });
        };
        set(self, item).map_err(|problem| ConfigError::BadValue {
            place: item.place.to_string(),
            key: item.key.clone(),
            problem,
        })
    }

    /// What no value shows alone.
    fn check(&self, places: &read::Places) -> Result<(), ConfigError> {
        let bad = |key: &str, problem: String| ConfigError::BadValue {
            place: places.get(key).map_or("defaults".into(), Place::to_string),
            key: key.into(),
            problem,
        };
        self.check_tls(places, &bad)?;
        let mut tcp = vec![
            ("rtmp.listen", self.rtmp.listen),
            ("http.listen", self.http.listen),
            ("metrics.listen", self.metrics.listen),
        ];
        let rtmps = self.rtmps.listen.filter(|_| self.tls.certificate.is_some());
        tcp.extend(rtmps.map(|address| ("rtmps.listen", address)));
        for (at, (key, address)) in tcp.iter().enumerate() {
            for (other, taken) in tcp.iter().take(at) {
                if collide(*address, *taken) {
                    // Blame the one that the operator wrote.
                    let (key, other) = match places.contains_key(*key) {
                        true => (key, other),
                        false => (other, key),
                    };
                    let port = address.port();
                    return Err(bad(
                        key,
                        format!("port {port} is also that of {other}; choose another"),
                    ));
                }
            }
        }
        let ips = &self.webrtc.public_ips;
        if self.webrtc.listen.is_ipv4() && !ips.is_empty() && ips.iter().all(IpAddr::is_ipv6) {
            return Err(bad(
                "webrtc.public_ips",
                "all are IPv6 but webrtc.listen is IPv4; add an IPv4 address, or listen on \
                 \"[::]:8189\""
                    .into(),
            ));
        }
        Ok(())
    }
}

impl Config {
    /// TLS is asked for wholly, or not at all.
    fn check_tls(
        &self,
        places: &read::Places,
        bad: &impl Fn(&str, String) -> ConfigError,
    ) -> Result<(), ConfigError> {
        let missing = "make both files with \"rtmpeer cert\", or take those of your CA";
        match (&self.tls.certificate, &self.tls.key) {
            (Some(_), Some(_)) => return Ok(()),
            (Some(_), None) => {
                let problem = format!("tls.key is missing beside it; {missing}");
                return Err(bad("tls.certificate", problem));
            }
            (None, Some(_)) => {
                let problem = format!("tls.certificate is missing beside it; {missing}");
                return Err(bad("tls.key", problem));
            }
            (None, None) => {}
        }
        let needs = |key| {
            let problem = format!("needs tls.certificate and tls.key; {missing}");
            Err(bad(key, problem))
        };
        if self.http.tls {
            return needs("http.tls");
        }
        if places.contains_key("rtmps.listen") && self.rtmps.listen.is_some() {
            return needs("rtmps.listen");
        }
        Ok(())
    }
}

type Setter = fn(&mut Config, &Item<'_>) -> Result<(), String>;

/// Every key, with what reads it.
const KEYS: [(&str, Setter); 27] = [
    ("cores", |c, item| read::cores(item).map(|v| c.cores = v)),
    ("rtmp.listen", |c, item| {
        read::address(item).map(|v| c.rtmp.listen = v)
    }),
    ("rtmp.notices", |c, item| {
        read::truth(item).map(|v| c.rtmp.notices = v)
    }),
    ("rtmps.listen", |c, item| {
        read::address_or_off(item).map(|v| c.rtmps.listen = v)
    }),
    ("tls.certificate", |c, item| {
        read::path(item).map(|v| c.tls.certificate = v)
    }),
    ("tls.key", |c, item| read::path(item).map(|v| c.tls.key = v)),
    ("http.tls", |c, item| {
        read::truth(item).map(|v| c.http.tls = v)
    }),
    ("http.listen", |c, item| {
        read::address(item).map(|v| c.http.listen = v)
    }),
    ("http.allowed_origins", |c, item| {
        read::list(item, read::origin).map(|v| c.http.allowed_origins = v)
    }),
    ("webrtc.listen", |c, item| {
        read::address(item).map(|v| c.webrtc.listen = v)
    }),
    ("webrtc.public_ips", |c, item| {
        read::list(item, read::public_ip).map(|v| c.webrtc.public_ips = v)
    }),
    ("webrtc.ice_servers", |c, item| {
        read::list(item, read::ice_server).map(|v| c.webrtc.ice_servers = v)
    }),
    ("metrics.listen", |c, item| {
        read::address(item).map(|v| c.metrics.listen = v)
    }),
    ("whep.when_offline", |c, item| {
        let words = [("wait", WhenOffline::Wait), ("reject", WhenOffline::Reject)];
        read::word(item, &words).map(|v| c.whep.when_offline = v)
    }),
    ("webhook.url", |c, item| {
        read::webhook_url(item).map(|v| c.webhook.url = v)
    }),
    ("audio.bitrate", |c, item| {
        read::number(item, AUDIO_BITRATE_MIN, AUDIO_BITRATE_MAX).map(|v| c.audio.bitrate = v)
    }),
    ("transcode.workers", |c, item| {
        read::number(item, 1, TRANSCODE_WORKERS_MAX).map(|v| c.transcode.workers = v)
    }),
    ("video.transcode", |c, item| {
        let words = [
            ("auto", VideoTranscode::Auto),
            ("never", VideoTranscode::Never),
            ("always", VideoTranscode::Always),
        ];
        read::word(item, &words).map(|v| c.video.transcode = v)
    }),
    ("video.ffmpeg", |c, item| {
        read::program(item, "\"/usr/bin/ffmpeg\"").map(|v| c.video.ffmpeg = v)
    }),
    ("video.encoder", |c, item| {
        let words = [
            ("libx264", VideoEncoder::X264),
            ("h264_nvenc", VideoEncoder::Nvenc),
            ("h264_vaapi", VideoEncoder::Vaapi),
            ("h264_qsv", VideoEncoder::Qsv),
            ("h264_v4l2m2m", VideoEncoder::V4l2),
            ("libopenh264", VideoEncoder::OpenH264),
        ];
        read::word(item, &words).map(|v| c.video.encoder = v)
    }),
    ("video.preset", |c, item| {
        let words = VIDEO_PRESETS.map(|preset| (preset, preset));
        read::word(item, &words).map(|v| c.video.preset = v)
    }),
    ("video.bitrate_max", |c, item| {
        read::number(item, VIDEO_BITRATE_MIN, VIDEO_BITRATE_MAX).map(|v| c.video.bitrate_max = v)
    }),
    ("video.height_max", |c, item| {
        read::number(item, VIDEO_HEIGHT_MIN, VIDEO_HEIGHT_MAX).map(|v| c.video.height_max = v)
    }),
    ("video.frame_rate_max", |c, item| {
        read::number(item, 1, VIDEO_FRAME_RATE_MAX).map(|v| c.video.frame_rate_max = v)
    }),
    ("video.keyframe_interval", |c, item| {
        read::number(item, 1, VIDEO_KEYFRAME_INTERVAL_MAX)
            .map(|v| c.video.keyframe_interval = Duration::from_secs(v.into()))
    }),
    ("video.max_transcodes", |c, item| {
        read::number(item, 0, VIDEO_TRANSCODES_MAX).map(|v| c.video.max_transcodes = Some(v))
    }),
    ("log.level", |c, item| {
        let words = [
            ("error", LevelFilter::Error),
            ("warn", LevelFilter::Warn),
            ("info", LevelFilter::Info),
            ("debug", LevelFilter::Debug),
            ("trace", LevelFilter::Trace),
        ];
        read::word(item, &words).map(|v| c.log.level = v)
    }),
];

/// Names the keys of the same section, or, where there is no such section, all of them.
fn unknown_key_advice(key: &str) -> String {
    // What is not in a section may be the name of one.
    let section = key.split_once('.').map_or(key, |(section, _)| section);
    let known: Vec<&str> = KEYS
        .iter()
        .map(|(known, _)| *known)
        .filter(|known| known.split_once('.').is_some_and(|(own, _)| own == section))
        .collect();
    if !known.is_empty() {
        return format!("section {section} has {}", known.join(", "));
    }
    let mut sections: Vec<&str> = Vec::new();
    for (known, _) in KEYS {
        let section = known.split('.').next().unwrap_or(known);
        if !sections.contains(&section) {
            sections.push(section);
        }
    }
    format!("there are {}", sections.join(", "))
}

fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let overlap = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && overlap
}

/// Why there is no configuration: always the operator's to mend. Prints as one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigError {
    /// A file that was named, or may be there, cannot be read.
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system says.
        problem: String,
    },
    /// A file is not TOML.
    Syntax {
        /// File and line.
        place: String,
        /// What is wrong.
        problem: String,
    },
    /// There is no such key.
    UnknownKey {
        /// File and line, or the variable.
        place: String,
        /// The key as it was written, quoted.
        key: String,
        /// What there is instead.
        advice: String,
    },
    /// A key's value cannot be used.
    BadValue {
        /// File and line, or the variable.
        place: String,
        /// The key.
        key: String,
        /// What is wrong and what to do.
        problem: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, problem } => write!(
                f,
                "{}: cannot be read: {problem}; let this user read it, or name another by --config or \
                 RTMPEER_CONFIG",
                read::one_line(&path.to_string_lossy())
            ),
            Self::Syntax { place, problem } => write!(f, "{place}: not TOML: {problem}"),
            Self::UnknownKey { place, key, advice } => {
                write!(f, "{place}: unknown key {key}; {advice}")
            }
            Self::BadValue {
                place,
                key,
                problem,
            } => write!(f, "{place}: {key}: {problem}"),
        }
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests;
