//! Tests of the configuration: defaults, every key, and a table of refusals.

use super::*;

fn from_file(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Some((Path::new("t.toml"), text)), std::iter::empty())
}

fn from_env(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let env = variables.iter().map(|(n, v)| ((*n).into(), (*v).into()));
    Config::parse(None, env)
}

#[test]
fn nothing_configured_gives_the_documented_defaults() {
    let config = from_env(&[]).unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(config.rtmp.listen, "0.0.0.0:1935".parse().unwrap());
    assert!(!config.rtmp.notices);
    assert_eq!(config.http.listen, "0.0.0.0:8889".parse().unwrap());
    assert_eq!(config.webrtc.listen, "0.0.0.0:8189".parse().unwrap());
    assert_eq!(config.metrics.listen, "127.0.0.1:9998".parse().unwrap());
    assert_eq!(config.cores, Cores::Auto);
    assert_eq!(config.whep.when_offline, WhenOffline::Wait);
    assert_eq!(config.audio.bitrate, 128_000);
    assert_eq!(config.log.level, LevelFilter::Info);
    assert_eq!(config.webhook.url, None);
}

#[test]
fn a_file_sets_every_key() {
    let config = from_file(
        r#"
cores = [2, 0]
[rtmp]
listen = "127.0.0.1:0"
notices = true
[http]
listen = "[::1]:80"
allowed_origins = ["https://Example.org", "http://a:81", "*"]
[webrtc]
listen = "10.0.0.1:1"
public_ips = ["203.0.113.7", "2001:db8::1"]
ice_servers = ["stun:stun.example.org:3478"]
[metrics]
listen = "127.0.0.1:7"
[whep]
when_offline = "reject"
[webhook]
url = "http://127.0.0.1:9/x?token=1"
[audio]
bitrate = 16_000
[transcode]
workers = 64
[video]
transcode = "always"
ffmpeg = "/opt/ffmpeg"
encoder = "h264_nvenc"
preset = "veryfast"
bitrate_max = 3_000_000
height_max = 720
frame_rate_max = 30
keyframe_interval = 4
max_transcodes = 0
[log]
level = "trace"
"#,
    )
    .unwrap();
    assert_eq!(config.cores, Cores::Cpus(vec![2, 0]));
    assert_eq!(config.rtmp.listen, "127.0.0.1:0".parse().unwrap());
    assert!(config.rtmp.notices);
    assert_eq!(config.http.listen, "[::1]:80".parse().unwrap());
    assert_eq!(
        config.http.allowed_origins,
        ["https://example.org", "http://a:81", "*"]
    );
    assert_eq!(config.webrtc.public_ips.len(), 2);
    assert_eq!(config.webrtc.ice_servers, ["stun:stun.example.org:3478"]);
    assert_eq!(config.metrics.listen.port(), 7);
    assert_eq!(config.whep.when_offline, WhenOffline::Reject);
    assert!(config.webhook.url.is_some());
    assert_eq!(config.audio.bitrate, 16_000);
    let video = Video {
        transcode: VideoTranscode::Always,
        ffmpeg: "/opt/ffmpeg".into(),
        encoder: VideoEncoder::Nvenc,
        preset: "veryfast",
        bitrate_max: 3_000_000,
        height_max: 720,
        frame_rate_max: 30,
        keyframe_interval: Duration::from_secs(4),
        max_transcodes: Some(0),
    };
    assert_eq!(config.video, video);
    assert_eq!(config.transcode.workers, 64);
    assert_eq!(config.log.level, LevelFilter::Trace);
}

#[test]
fn variables_set_every_key_and_outrank_the_file() {
    let env = [
        ("RTMPEER_CORES", "2"),
        ("RTMPEER_RTMP__LISTEN", "127.0.0.1:0"),
        ("RTMPEER_HTTP__LISTEN", "\"127.0.0.1:0\""),
        ("RTMPEER_HTTP__ALLOWED_ORIGINS", "http://a,http://b"),
        ("RTMPEER_WEBRTC__PUBLIC_IPS", "[\"203.0.113.7\"]"),
        ("RTMPEER_WEBRTC__ICE_SERVERS", ""),
        ("RTMPEER_WHEP__WHEN_OFFLINE", "reject"),
        ("RTMPEER_WEBHOOK__URL", ""),
        ("RTMPEER_AUDIO__BITRATE", " 96000 "),
        ("RTMPEER_LOG__LEVEL", "warn"),
        ("OTHER_THING", "1"),
    ];
    let env = env.iter().map(|(n, v)| ((*n).into(), (*v).into()));
    let file =
        "[rtmp]\nlisten = \"1.1.1.1:1\"\n[audio]\nbitrate = 20000\n[webhook]\nurl = \"http://x\"";
    let config = Config::parse(Some((Path::new("t.toml"), file)), env).unwrap();
    assert_eq!(config.cores, Cores::Count(2));
    assert_eq!(config.rtmp.listen, "127.0.0.1:0".parse().unwrap());
    assert_eq!(config.http.listen, "127.0.0.1:0".parse().unwrap());
    assert_eq!(config.http.allowed_origins, ["http://a", "http://b"]);
    assert_eq!(config.webrtc.public_ips.len(), 1);
    assert!(config.webrtc.ice_servers.is_empty());
    assert_eq!(config.whep.when_offline, WhenOffline::Reject);
    assert_eq!(config.webhook.url, None);
    assert_eq!(config.audio.bitrate, 96_000);
    assert_eq!(config.log.level, LevelFilter::Warn);
}

#[test]
fn cores_variable_takes_a_list_of_cpus_with_commas() {
    let cores = |text| from_env(&[("RTMPEER_CORES", text)]).map(|config| config.cores);
    assert_eq!(cores("0,3"), Ok(Cores::Cpus(vec![0, 3])));
    assert_eq!(cores("[1]"), Ok(Cores::Cpus(vec![1])));
    assert_eq!(cores("auto"), Ok(Cores::Auto));
}

#[test]
fn log_variable_is_short_for_the_level_and_yields_to_it() {
    let level = |vars: &[_]| from_env(vars).unwrap().log.level;
    assert_eq!(level(&[("RTMPEER_LOG", "debug")]), LevelFilter::Debug);
    let both = [("RTMPEER_LOG", "debug"), ("RTMPEER_LOG__LEVEL", "error")];
    assert_eq!(level(&both), LevelFilter::Error);
}

#[test]
fn variables_of_a_kubernetes_service_named_rtmpeer_are_not_keys() {
    let env = [
        ("RTMPEER_SERVICE_HOST", "10.0.0.1"),
        ("RTMPEER_SERVICE_PORT_HTTP", "1"),
        ("RTMPEER_PORT", "tcp://10.0.0.1:1935"),
        ("RTMPEER_PORT_1935_TCP_ADDR", "10.0.0.1"),
        ("RTMPEER_CONFIG", ""),
    ];
    assert_eq!(from_env(&env), Ok(Config::default()));
}

#[test]
fn a_named_file_that_is_missing_is_an_error_and_its_variable_is_read() {
    let path = Path::new("/nonexistent/rtmpeer.toml");
    let by_argument = Config::load(Some(path), std::iter::empty()).unwrap_err();
    let env = [("RTMPEER_CONFIG".to_owned(), path.display().to_string())];
    let by_variable = Config::load(None, env.into_iter()).unwrap_err();
    assert_eq!(by_argument, by_variable);
    assert!(
        by_argument
            .to_string()
            .contains("/nonexistent/rtmpeer.toml")
    );
}

#[test]
fn the_webhook_url_is_not_shown() {
    let config = from_file("[webhook]\nurl = \"https://x/SECRET\"").unwrap();
    assert!(!format!("{config:?}").contains("SECRET"));
    let error = from_file("[webhook]\nurl = \"ftp://x/SECRET\"").unwrap_err();
    assert!(!error.to_string().contains("SECRET"));
}

/// Text of a file, where the fault is, and what the error must name.
const BAD_FILES: [(&str, usize, &str); 55] = [
    ("[video]\ntranscode = \"yes\"", 2, "video.transcode"),
    ("[video]\nffmpeg = \"\"", 2, "video.ffmpeg"),
    ("[video]\nffmpeg = \"bin/ffmpeg\"", 2, "video.ffmpeg"),
    ("[video]\nencoder = \"x264\"", 2, "video.encoder"),
    ("[video]\npreset = \"placebo\"", 2, "video.preset"),
    ("[video]\nbitrate_max = 100", 2, "video.bitrate_max"),
    ("[video]\nheight_max = 10", 2, "video.height_max"),
    ("[video]\nframe_rate_max = 0", 2, "video.frame_rate_max"),
    (
        "[video]\nkeyframe_interval = 11",
        2,
        "video.keyframe_interval",
    ),
    ("[rtmp]\nlissten = \"0.0.0.0:1\"", 2, "rtmp.lissten"),
    ("[rtmp]\nlisten = \"1935\"", 2, "rtmp.listen"),
    ("[rtmp]\nlisten = \":1935\"", 2, "rtmp.listen"),
    ("[rtmp]\nlisten = \"localhost:1935\"", 2, "rtmp.listen"),
    ("[rtmp]\nlisten = \"0.0.0.0:70000\"", 2, "rtmp.listen"),
    ("[rtmp]\nlisten = \"::1:1935\"", 2, "rtmp.listen"),
    ("[rtmp]\nlisten = 1935", 2, "rtmp.listen"),
    ("[rtmp]\nlisten = true", 2, "rtmp.listen"),
    ("[rtmp]\nlisten = [\"0.0.0.0:1\"]", 2, "rtmp.listen"),
    ("[rtmp]\nlisten = \"\"", 2, "rtmp.listen"),
    ("[rtmp.listen]\naddress = \"x\"", 1, "rtmp.listen"),
    ("rtmp = 1", 1, "rtmp"),
    ("[rtmpx]\nlisten = \"0.0.0.0:1\"", 2, "rtmpx.listen"),
    ("[rtmpx]", 1, "rtmpx"),
    ("[[rtmp]]\nlisten = \"0.0.0.0:1\"", 1, "rtmp"),
    ("\n\ncore = 2", 3, "core"),
    ("cores = 0", 1, "cores"),
    ("cores = -1", 1, "cores"),
    ("cores = 257", 1, "cores"),
    ("cores = 1.5", 1, "cores"),
    ("cores = \"all\"", 1, "cores"),
    ("cores = []", 1, "cores"),
    ("cores = [0, 0]", 1, "cores"),
    ("cores = [\"0\"]", 1, "cores"),
    ("cores = [9000]", 1, "cores"),
    ("cores = 99999999999999999999", 1, "cores"),
    (
        "[http]\nallowed_origins = [\"example.org\"]",
        2,
        "http.allowed_origins",
    ),
    (
        "[http]\nallowed_origins = [\"https://a/b\"]",
        2,
        "http.allowed_origins",
    ),
    ("[http]\nallowed_origins = [1]", 2, "http.allowed_origins"),
    ("[http]\nallowed_origins = 7", 2, "http.allowed_origins"),
    ("[http]\n\nlisten = \"0.0.0.0:1935\"", 3, "http.listen"),
    (
        "[metrics]\nlisten = \"127.0.0.1:8889\"",
        2,
        "metrics.listen",
    ),
    (
        "[webrtc]\npublic_ips = [\"0.0.0.0\"]",
        2,
        "webrtc.public_ips",
    ),
    (
        "[webrtc]\npublic_ips = [\"a.example\"]",
        2,
        "webrtc.public_ips",
    ),
    (
        "[webrtc]\npublic_ips = [\"2001:db8::1\"]",
        2,
        "webrtc.public_ips",
    ),
    (
        "[webrtc]\nice_servers = [\"http://x\"]",
        2,
        "webrtc.ice_servers",
    ),
    (
        "[webrtc]\nice_servers = [\"stun:a>;b\"]",
        2,
        "webrtc.ice_servers",
    ),
    ("[whep]\nwhen_offline = \"no\"", 2, "whep.when_offline"),
    ("[webhook]\nurl = \"example.org\"", 2, "webhook.url"),
    ("[webhook]\nurl = \"http:///x\"", 2, "webhook.url"),
    ("[audio]\nbitrate = 15999", 2, "audio.bitrate"),
    ("[audio]\nbitrate = 510001", 2, "audio.bitrate"),
    ("[audio]\nbitrate = \"128k\"", 2, "audio.bitrate"),
    ("[transcode]\nworkers = 0", 2, "transcode.workers"),
    ("[log]\nlevel = \"loud\\n\\u001b[2J\"", 2, "log.level"),
    ("[log]\nlevel = \"info\"\nlevel = \"warn\"", 3, "level"),
];

#[test]
fn bad_files_are_refused_in_one_line_that_names_line_and_key() {
    for (text, line, key) in BAD_FILES {
        let error = from_file(text).expect_err(text).to_string();
        let place = format!("t.toml line {line}: ");
        assert!(error.starts_with(&place), "{text:?} gave {error}");
        assert!(error.contains(key), "{text:?} gave {error}");
        assert!(!error.contains(char::is_control), "{text:?} gave {error:?}");
        assert!(error.len() < 400, "{text:?} gave {error}");
    }
}

#[test]
fn turn_servers_are_refused_with_the_reason() {
    for url in [
        "turn:turn.example.org",
        "turns:turn.example.org:443?transport=tcp",
    ] {
        let text = format!("[webrtc]\nice_servers = [\"{url}\"]");
        let error = from_file(&text).expect_err(url).to_string();
        let place = "t.toml line 2: webrtc.ice_servers";
        assert!(error.starts_with(place), "{error}");
        assert!(error.contains("TURN is not supported"), "{error}");
        assert!(error.len() < 400, "{error}");
    }
}

#[test]
fn text_that_is_not_toml_is_refused_with_its_line() {
    for (text, line) in [("a = ", 1), ("\n[rtmp", 2), ("a = 1\n= 2", 2), ("x", 1)] {
        let error = from_file(text).expect_err(text).to_string();
        let place = format!("t.toml line {line}: not TOML: ");
        assert!(error.starts_with(&place), "{text:?} gave {error}");
        assert!(!error.contains('\n'), "{text:?} gave {error}");
    }
}

#[test]
fn bad_variables_are_refused_by_their_name() {
    for (name, value) in [
        ("RTMPEER_RTMP__LISTEN", "1935"),
        ("RTMPEER_RTMP__LISTENN", "0.0.0.0:1"),
        ("RTMPEER_RTMP_LISTEN", "0.0.0.0:1"),
        ("RTMPEER_CORES", "many"),
        ("RTMPEER_CORES", ""),
        ("RTMPEER_LOG", "loud"),
        ("RTMPEER_AUDIO__BITRATE", "1"),
        ("RTMPEER_AUDIO__BITRATE", "128000\nx = 1"),
        ("RTMPEER_WEBRTC__PUBLIC_IPS", "[1.2.3.4]"),
        ("RTMPEER_", "x"),
        ("RTMPEER_HTTP__LISTEN", "0.0.0.0:1935"),
    ] {
        let error = from_env(&[(name, value)]).expect_err(name).to_string();
        assert!(
            error.starts_with(&format!("{name}: ")),
            "{name} gave {error}"
        );
        assert!(!error.contains(char::is_control), "{name} gave {error:?}");
    }
}

#[test]
fn the_readme_lists_every_key() {
    let readme = include_str!("../../README.md");
    for (key, _) in KEYS {
        assert!(readme.contains(&format!("`{key}`")), "{key} is missing");
    }
}

#[test]
fn port_zero_may_be_used_for_all() {
    let env = [
        ("RTMPEER_RTMP__LISTEN", "127.0.0.1:0"),
        ("RTMPEER_HTTP__LISTEN", "127.0.0.1:0"),
        ("RTMPEER_METRICS__LISTEN", "127.0.0.1:0"),
        ("RTMPEER_WEBRTC__LISTEN", "127.0.0.1:0"),
    ];
    assert!(from_env(&env).is_ok());
}

#[test]
fn tls_keys_are_read_from_file_and_variables() {
    let config = from_file(
        "[tls]\ncertificate = \"/c.pem\"\nkey = \"/k.pem\"\n[http]\ntls = true\n\
         [rtmps]\nlisten = \"127.0.0.1:443\"",
    )
    .unwrap();
    assert_eq!(config.tls.certificate, Some("/c.pem".into()));
    assert_eq!(config.tls.key, Some("/k.pem".into()));
    assert!(config.http.tls);
    assert_eq!(config.rtmps.listen, Some("127.0.0.1:443".parse().unwrap()));
    let config = from_env(&[
        ("RTMPEER_TLS__CERTIFICATE", "/c.pem"),
        ("RTMPEER_TLS__KEY", "/k.pem"),
        ("RTMPEER_HTTP__TLS", "true"),
        ("RTMPEER_RTMPS__LISTEN", "off"),
    ])
    .unwrap();
    assert!(config.http.tls);
    assert_eq!(config.rtmps.listen, None);
}

#[test]
fn tls_without_a_whole_certificate_is_refused_with_advice() {
    for (variables, key) in [
        (&[("RTMPEER_TLS__CERTIFICATE", "/c")][..], "tls.certificate"),
        (&[("RTMPEER_TLS__KEY", "/k")], "tls.key"),
        (&[("RTMPEER_HTTP__TLS", "true")], "http.tls"),
        (&[("RTMPEER_RTMPS__LISTEN", "0.0.0.0:443")], "rtmps.listen"),
    ] {
        let text = from_env(variables).unwrap_err().to_string();
        assert!(
            text.contains(key) && text.contains("rtmpeer cert"),
            "{text}"
        );
    }
    assert!(from_env(&[("RTMPEER_RTMPS__LISTEN", "off")]).is_ok());
    let text = from_env(&[("RTMPEER_HTTP__TLS", "yes")]).unwrap_err();
    assert!(text.to_string().contains("true or false"), "{text}");
    let taken = [
        ("RTMPEER_TLS__CERTIFICATE", "/c"),
        ("RTMPEER_TLS__KEY", "/k"),
        ("RTMPEER_RTMPS__LISTEN", "0.0.0.0:1935"),
    ];
    let text = from_env(&taken).unwrap_err().to_string();
    assert!(text.contains("rtmps.listen"), "{text}");
}
