//! The program itself: its exit codes, what it prints, and its signals.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::kit::server::{PATIENCE, http, wait_for};

/// The program on free ports of this machine; killed at the end.
pub(crate) struct Program(pub(crate) Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Program {
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }
}

/// A command of the program with nothing configured but its ports.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rtmpeer"));
    command.env_clear().env("RTMPEER_CORES", "1");
    for section in ["RTMP", "HTTP", "WEBRTC", "METRICS"] {
        command.env(format!("RTMPEER_{section}__LISTEN"), "127.0.0.1:0");
    }
    command
}

/// What a start that fails says, in one line, and its exit code.
fn failure(command: &mut Command) -> (i32, String) {
    let Output { status, stderr, .. } = command.output().unwrap();
    let text = String::from_utf8(stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    (status.code().unwrap(), text)
}

#[test]
fn wrong_configuration_ends_with_78_and_a_line_that_names_the_key() {
    for (name, value, key) in [
        ("RTMPEER_RTMP__LISTEN", "1935", "RTMPEER_RTMP__LISTEN"),
        ("RTMPEER_HTTP__COLOUR", "red", "http.colour"),
        ("RTMPEER_CORES", "[8191]", "cores"),
        ("RTMPEER_TLS__KEY", "/nowhere/key.pem", "tls.key"),
        (
            "RTMPEER_CONFIG",
            "/nowhere/rtmpeer.toml",
            "/nowhere/rtmpeer.toml",
        ),
    ] {
        let (code, text) = failure(command().env(name, value));
        assert_eq!(code, 78, "{text}");
        assert!(
            text.starts_with("rtmpeer: ") && text.contains(key),
            "{text}"
        );
    }
    let mut missing = command();
    let missing = missing.args(["--config", "/nowhere/rtmpeer.toml"]);
    assert_eq!(failure(missing).0, 78);
}

#[test]
fn variable_that_is_not_utf_8_is_named_if_it_is_ours_and_else_ignored() {
    let bytes = OsStr::from_bytes(b"\xe9");
    let ours = OsStr::from_bytes(b"RTMPEER_\xe9");
    for (name, value) in [
        (OsStr::new("RTMPEER_RTMP__LISTEN"), bytes),
        (OsStr::new("RTMPEER_CONFIG"), bytes),
        (ours, OsStr::new("1")),
    ] {
        let (code, text) = failure(command().env(name, value));
        assert_eq!(code, 78, "{text}");
        let name = name.to_string_lossy();
        assert!(text.starts_with(&format!("rtmpeer: {name}: ")), "{text}");
    }
    // So far that the next fault is found.
    let mut others = command();
    others.env("LANGUAGE", bytes).env(bytes, "x");
    others.env("RTMPEER_SERVICE_HOST", bytes);
    let (code, text) = failure(others.env("RTMPEER_CORES", "many"));
    assert!(code == 78 && text.contains("cores"), "{text}");
}

#[test]
fn port_that_is_taken_ends_with_1_and_a_line_that_says_what_to_do() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (tcp, udp) = (listener.local_addr().unwrap(), socket.local_addr().unwrap());
    for (section, taken) in [
        ("RTMP", tcp),
        ("HTTP", tcp),
        ("METRICS", tcp),
        ("WEBRTC", udp),
    ] {
        let name = format!("RTMPEER_{section}__LISTEN");
        let (code, text) = failure(command().env(name, taken.to_string()));
        assert_eq!(code, 1, "{text}");
        let key = format!("{}.listen", section.to_ascii_lowercase());
        assert!(
            text.contains(&key) && text.contains("another port"),
            "{text}"
        );
    }
    drop((listener, socket));
}

#[test]
fn help_and_version_are_told() {
    for (argument, word) in [
        ("--help", "--config"),
        ("--version", env!("CARGO_PKG_VERSION")),
    ] {
        let told = Command::new(env!("CARGO_BIN_EXE_rtmpeer"))
            .arg(argument)
            .output()
            .unwrap();
        assert!(told.status.success());
        assert!(String::from_utf8(told.stdout).unwrap().contains(word));
    }
}

/// A port that nobody has; somebody could take it before the program does.
pub(crate) fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

#[test]
fn program_whose_output_goes_nowhere_serves_and_stops_cleanly_by_either_signal() {
    for signal in [Signal::TERM, Signal::INT] {
        let address = free_port();
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut command = command();
        command
            .env("RTMPEER_HTTP__LISTEN", address.to_string())
            .stdout(full);
        let mut program = Program(command.stderr(Stdio::null()).spawn().unwrap());
        wait_for("the program", || {
            assert_eq!(program.0.try_wait().unwrap(), None, "it ended");
            TcpStream::connect(address).ok()
        });
        let health = http(address, "GET", "/v1/health", &[], "");
        assert_eq!(health.body, r#"{"status":"ready"}"#);
        program.signal(signal);
        let ended = wait_for("its end", || program.0.try_wait().unwrap());
        assert_eq!(ended.code(), Some(0));
    }
}

#[test]
fn service_manager_is_told_of_start_life_and_stop() {
    let folder = std::env::temp_dir().join(format!("rtmpeer-{}-notify", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("socket");
    let _ = std::fs::remove_file(&path);
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut program = command();
    // A sign of life three times in what WatchdogSec= says.
    program
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "900000");
    let mut program = Program(program.stdout(Stdio::null()).spawn().unwrap());
    let hear = || {
        let mut buffer = [0; 256];
        let count = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    };
    assert_eq!(hear().trim(), "READY=1");
    for _ in 0..3 {
        assert_eq!(hear().trim(), "WATCHDOG=1");
    }
    program.signal(Signal::TERM);
    while hear().trim() != "STOPPING=1" {}
    let ended = wait_for("its end", || program.0.try_wait().unwrap());
    assert_eq!(ended.code(), Some(0));
}

#[test]
fn refused_origin_is_on_the_log_once_with_what_to_set() {
    let mut command = command();
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut program = Program(command.spawn().unwrap());
    let address = watch_address(&mut program.0);
    for _ in 0..3 {
        let answer = ask(
            address,
            "GET /v1/ws?roomID=cam HTTP/1.1\r\nHost: 127.0.0.1:8889\r\n\
             Origin: https://live.example\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        );
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    }
    program.signal(Signal::TERM);
    let mut log = String::new();
    let mut errors = program.0.stderr.take().unwrap();
    errors.read_to_string(&mut log).unwrap();
    let told: Vec<&str> = log.lines().filter(|l| l.contains("refused")).collect();
    assert_eq!(told.len(), 1, "{log}");
    for word in [
        "https://live.example",
        "127.0.0.1:8889",
        "http.allowed_origins",
        "proxy_set_header Host",
    ] {
        assert!(told[0].contains(word), "{word} is missing: {log}");
    }
}

/// Where the program says that one can watch.
fn watch_address(program: &mut Child) -> SocketAddr {
    let told = first_lines(program.stdout.as_mut().unwrap());
    let (_, rest) = told.split_once("watch    http://").unwrap();
    rest.split_once('/').unwrap().0.parse().unwrap()
}

fn first_lines(output: &mut impl Read) -> String {
    let mut told = String::new();
    while !told.contains("/metrics\n") {
        let mut buffer = [0; 4_096];
        let count = output.read(&mut buffer).unwrap();
        assert!(count > 0, "it ended: {told}");
        told.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    told
}

/// Sends a request and reads the answer up to the end of the connection.
fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn first_lines_say_where_to_publish_and_where_to_watch() {
    let mut program = Program(command().stdout(Stdio::piped()).spawn().unwrap());
    let mut output = program.0.stdout.take().unwrap();
    let told = first_lines(&mut output);
    for line in [
        "publish  rtmp://127.0.0.1:",
        "watch    http://127.0.0.1:",
        "WHEP     http://127.0.0.1:",
    ] {
        assert!(told.contains(line), "{line} is missing: {told}");
    }
    assert!(
        !told.contains("rtmps://"),
        "there is no certificate: {told}"
    );
    // Whoever reads them may go.
    drop(output);
    let (_, rest) = told.split_once("watch    http://").unwrap();
    let address: SocketAddr = rest.split_once('/').unwrap().0.parse().unwrap();
    let answer = ask(address, "GET /v1/health HTTP/1.0\r\n\r\n");
    assert!(answer.contains("ready"), "{answer}");
}

/// The program, begun by a shell that sets limits first.
fn limited(limits: &str) -> Command {
    let program = command();
    let mut shell = Command::new("/bin/sh");
    let script = format!("{limits} && exec \"$0\"");
    shell.args(["-c", &script]).arg(program.get_program());
    let variables = program.get_envs();
    let variables = variables.filter_map(|(name, value)| Some((name, value?)));
    shell.env_clear().envs(variables);
    shell
}

/// Reads until the last of the first lines: it serves.
fn wait_for_greeting(program: &mut Program) {
    first_lines(&mut program.0.stdout.take().unwrap());
}

#[test]
fn limit_of_open_files_is_raised_and_one_that_stays_too_low_is_warned_of() {
    for (limits, soft_above, is_warned_of) in [
        ("ulimit -S -n 256 && ulimit -H -n 9000", 8_999, false),
        ("ulimit -S -n 256 && ulimit -H -n 400", 399, true),
    ] {
        let mut command = limited(limits);
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut program = Program(command.spawn().unwrap());
        wait_for_greeting(&mut program);
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", program.0.id())).unwrap();
        let line = limits
            .lines()
            .find(|line| line.starts_with("Max open files"));
        let soft = line.unwrap().split_whitespace().nth(3).unwrap();
        assert!(soft.parse::<u64>().unwrap() > soft_above, "{limits}");
        program.signal(Signal::TERM);
        let mut log = String::new();
        let mut errors = program.0.stderr.take().unwrap();
        errors.read_to_string(&mut log).unwrap();
        assert_eq!(log.contains("LimitNOFILE"), is_warned_of, "{log}");
    }
}

#[test]
fn default_file_that_cannot_be_read_is_not_passed_over() {
    let folder = std::env::temp_dir().join(format!("rtmpeer-{}-loop", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("rtmpeer.toml");
    let _ = std::fs::remove_file(&file);
    // Not even root can open it.
    std::os::unix::fs::symlink(&file, &file).unwrap();
    // What is found wrong next, if it is.
    let mut command = command();
    let command = command.env("RTMPEER_CORES", "many").current_dir(&folder);
    let (code, text) = failure(command);
    assert_eq!(code, 78, "{text}");
    assert!(
        text.contains("rtmpeer.toml: cannot be read") && text.contains("--config"),
        "{text}"
    );
    std::fs::remove_dir_all(&folder).unwrap();
}
