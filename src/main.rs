//! The rtmpeer program: arguments, configuration, logging, start, wait, exit code.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rtmpeer::config::{Config, text_variables};
use rtmpeer::runtime::{Clock, NewCertificate, interface_addresses, make_certificate, now};
use rtmpeer::server::{Addresses, Server, StartError};

/// The configuration cannot be used (sysexits.h, `EX_CONFIG`): restarting does not help.
const EXIT_CONFIG: u8 = 78;
/// The server could not start, or a part of it died.
const EXIT_FAILURE: u8 = 1;

/// Live video server: takes an RTMP publish and plays it in every browser over WebRTC, with sound.
///
/// Every configuration key can also be given by environment: RTMPEER_RTMP__LISTEN=0.0.0.0:1935
/// sets rtmp.listen, RTMPEER_CORES=2 sets cores. The README lists all keys.
#[derive(Debug, Parser)]
#[command(name = "rtmpeer", version)]
struct Arguments {
    /// Configuration file (TOML). Without it: $RTMPEER_CONFIG, ./rtmpeer.toml,
    /// /etc/rtmpeer/rtmpeer.toml, or the defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What the program does besides being a server.
#[derive(Debug, Subcommand)]
enum Command {
    /// Make a self-signed certificate for RTMPS and HTTPS.
    ///
    /// It is for localhost and for this machine's name and addresses. Browsers warn of it until you
    /// tell them to go on; encoders mostly take it.
    Cert {
        /// Folder to write cert.pem and key.pem into.
        #[arg(long, value_name = "DIR", default_value = ".")]
        out: PathBuf,
        /// Another host name or address it is for; may be repeated.
        #[arg(long = "name", value_name = "NAME")]
        names: Vec<String>,
        /// Replace the files if they are there.
        #[arg(long)]
        force: bool,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Command::Cert { out, names, force }) = arguments.command {
        return new_certificate(NewCertificate {
            folder: out,
            names,
            replace: force,
        });
    }
    let variables = text_variables(std::env::vars_os());
    let path = arguments.config.as_deref();
    let config = match variables.and_then(|it| Config::load(path, it.into_iter())) {
        Ok(config) => config,
        Err(error) => return fail(EXIT_CONFIG, &error.to_string()),
    };
    if let Err(error) = rtmpeer::logging::init(config.log.level) {
        return fail(EXIT_FAILURE, &format!("cannot log: {error}"));
    }
    let server = match Server::start(&config, true) {
        Ok(server) => server,
        Err(error @ StartError::Config { .. }) => return fail(EXIT_CONFIG, &error.to_string()),
        Err(error) => return fail(EXIT_FAILURE, &error.to_string()),
    };
    greet(&config, &server);
    if server.wait() {
        log::info!("stopped");
        return ExitCode::SUCCESS;
    }
    fail(
        EXIT_FAILURE,
        "a thread of the server died of a bug, please report the log above",
    )
}

/// Makes a certificate and says how to use it.
fn new_certificate(wanted: NewCertificate) -> ExitCode {
    let wall = Clock::start().timebase().wall(now());
    let made = match make_certificate(&wanted, wall) {
        Ok(made) => made,
        Err(error) => return fail(EXIT_FAILURE, &error.to_string()),
    };
    print(&format!(
        "certificate  {}\n\
         key          {}\n\
         for          {}\n\
         until        {}\n\
         \n\
         In rtmpeer.toml:\n\
         \n\
         [tls]\n\
         certificate = {:?}\n\
         key = {:?}\n\
         \n\
         [http]\n\
         tls = true\n\
         \n\
         RTMPS is then on port 1936 (rtmps.listen).\n",
        made.files.certificate.display(),
        made.files.key.display(),
        made.names.join(", "),
        made.until,
        made.files.certificate,
        made.files.key,
    ));
    ExitCode::SUCCESS
}

/// Writes to standard output. Nobody may be reading it, which is no reason to stop.
fn print(text: &str) {
    let mut output = std::io::stdout().lock();
    let _ = output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush());
}

#[expect(
    clippy::print_stderr,
    reason = "the last word of a program that cannot go on"
)]
fn fail(code: u8, text: &str) -> ExitCode {
    eprintln!("rtmpeer: {text}");
    ExitCode::from(code)
}

/// Says where to publish and where to watch.
fn greet(config: &Config, server: &Server) {
    let Addresses {
        rtmp,
        rtmps,
        http,
        https,
        webrtc,
        metrics,
    } = server.addresses();
    let gso = if server.segments_max() > 1 {
        "on"
    } else {
        "off"
    };
    let at = |address: SocketAddr, usual: u16| match address.port() {
        port if port == usual => host_to_show(address),
        port => format!("{}:{port}", host_to_show(address)),
    };
    let mut lines = vec![format!(
        "rtmpeer {}  {} cores, UDP {} on all of them, GSO {gso}, receive buffer {} KiB",
        env!("CARGO_PKG_VERSION"),
        server.cores(),
        webrtc.port(),
        server.receive_buffer_bytes() / 1_024,
    )];
    lines.push(match &config.source {
        Some(path) => format!("configuration  {}", path.display()),
        None => "configuration  defaults (no file; the README lists the keys)".to_owned(),
    });
    let key = "stream key: any room name";
    lines.push(format!("publish  rtmp://{}/live   {key}", at(rtmp, 1_935)));
    // Encoders take 443 for RTMPS if no port is named.
    lines.extend(rtmps.map(|rtmps| format!("         rtmps://{}/live", at(rtmps, 443))));
    let (scheme, usual) = if https { ("https", 443) } else { ("http", 80) };
    let watch = at(http, usual);
    lines.push(format!("watch    {scheme}://{watch}/ROOM"));
    lines.push(format!("WHEP     {scheme}://{watch}/ROOM/whep"));
    lines.push(format!("metrics  http://{}/metrics", at(metrics, 80)));
    if rtmp.ip().is_unspecified() {
        let note = "no stream keys are configured: whoever reaches the RTMP port may publish";
        lines.push(format!("note     {note}"));
    }
    lines.push(String::new());
    print(&lines.join("\n"));
}

/// An address that people can type: the machine's own when it listens on all.
fn host_to_show(address: SocketAddr) -> String {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        _ => interface_addresses()
            .into_iter()
            .find(IpAddr::is_ipv4)
            .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
    };
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}
