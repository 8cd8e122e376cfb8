//! Where log lines go and how they read: `2026-11-22T19:00:00.123Z INFO control: message` on
//! standard error, with colours on a terminal, or with systemd's `<N>` priorities and without
//! the time when the journal reads it (sd-daemon(3), systemd.exec(5) `$JOURNAL_STREAM`).
//!
//! One record is one line: control characters in it are escaped. Other crates' records are shown
//! from `warn` up, and at most [`FOREIGN_LINES_PER_SECOND`]: hostile datagrams make str0m warn.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _, stderr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use log::{Level, LevelFilter, Log, Metadata, Record, SetLoggerError};
use simplelog::{CombinedLogger, Config, SharedLogger};

use crate::webhook::timestamp::rfc3339;

/// Lines of other crates shown in one second; the rest is counted.
const FOREIGN_LINES_PER_SECOND: u64 = 10;
/// Our own records' targets begin so; what follows `::` is shown.
const OUR_CRATE: &str = "rtmpeer";
/// Longest line, in bytes: pipes write lines up to 4 KiB whole (POSIX `PIPE_BUF` on Linux).
const LINE_BYTES_MAX: usize = 4_000;

/// Makes every record from now on go to standard error, up to `level`.
///
/// # Errors
/// When a logger is set already.
pub fn init(level: LevelFilter) -> Result<(), SetLoggerError> {
    let style = if is_journal() {
        Style::Journal
    } else if stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        Style::Colours
    } else {
        Style::Plain
    };
    CombinedLogger::init(vec![Box::new(StderrLogger {
        level,
        style,
        foreign: ForeignLimit::default(),
    })])
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Colours,
    Journal,
}

#[derive(Debug)]
struct StderrLogger {
    level: LevelFilter,
    style: Style,
    foreign: ForeignLimit,
}

impl Log for StderrLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_shown(self.level, metadata.level(), metadata.target())
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let wall = wall_clock();
        if !is_ours(record.target()) {
            let Some(suppressed) = self.foreign.admit(wall.as_secs()) else {
                return;
            };
            if suppressed > 0 {
                let text = format!("{suppressed} lines of libraries were not shown");
                self.write(&line(self.style, wall, Level::Warn, "logging", &text));
            }
        }
        let target = short_target(record.target());
        let text = record.args().to_string();
        self.write(&line(self.style, wall, record.level(), target, &text));
    }

    fn flush(&self) {}
}

impl StderrLogger {
    #[expect(
        clippy::unused_self,
        reason = "the one place that writes, for every style"
    )]
    fn write(&self, line: &str) {
        // Nobody can be told that the log cannot be written.
        let _ = stderr().lock().write_all(line.as_bytes());
    }
}

impl SharedLogger for StderrLogger {
    fn level(&self) -> LevelFilter {
        self.level
    }

    fn config(&self) -> Option<&Config> {
        None
    }

    fn as_log(self: Box<Self>) -> Box<dyn Log> {
        self
    }
}

/// Counts lines of other crates by the second. Threads may race for it: the limit is rough.
#[derive(Debug, Default)]
struct ForeignLimit {
    second: AtomicU64,
    shown: AtomicU64,
    suppressed: AtomicU64,
}

impl ForeignLimit {
    /// Whether a line may be shown in this second; if so, how many were not since the last.
    fn admit(&self, second: u64) -> Option<u64> {
        if self.second.swap(second, Ordering::Relaxed) != second {
            self.shown.store(0, Ordering::Relaxed);
        }
        if self.shown.fetch_add(1, Ordering::Relaxed) >= FOREIGN_LINES_PER_SECOND {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.suppressed.swap(0, Ordering::Relaxed))
    }
}

fn is_ours(target: &str) -> bool {
    let rest = target.strip_prefix(OUR_CRATE);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn is_shown(configured: LevelFilter, level: Level, target: &str) -> bool {
    let most = if is_ours(target) {
        configured
    } else {
        configured.min(LevelFilter::Warn)
    };
    level <= most
}

fn short_target(target: &str) -> &str {
    let rest = target.strip_prefix(OUR_CRATE).unwrap_or(target);
    rest.strip_prefix("::").unwrap_or(target)
}

/// One line with its end.
fn line(style: Style, wall: Duration, level: Level, target: &str, text: &str) -> String {
    let mut line = match style {
        Style::Plain => format!("{} {level} {target}: ", rfc3339(wall)),
        Style::Colours => {
            let colour = colour(level);
            format!("{} \x1b[{colour}m{level}\x1b[0m {target}: ", rfc3339(wall))
        }
        Style::Journal => format!("<{}>{target}: ", priority(level)),
    };
    for c in text.chars() {
        if line.len() >= LINE_BYTES_MAX {
            line.push('…');
            break;
        }
        if c.is_control() {
            // Writing to a `String` cannot fail.
            let _ = write!(line, "{}", c.escape_default());
        } else {
            line.push(c);
        }
    }
    line.push('\n');
    line
}

/// syslog(3)'s priorities.
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// ECMA-48 §8.3.117: red, yellow, green, blue, grey.
fn colour(level: Level) -> u8 {
    match level {
        Level::Error => 31,
        Level::Warn => 33,
        Level::Info => 32,
        Level::Debug => 34,
        Level::Trace => 90,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a log line tells when it was written, which no caller passes along"
)]
fn wall_clock() -> Duration {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_epoch.unwrap_or_default()
}

/// Whether standard error is the journal's stream, as `$JOURNAL_STREAM` (`device:inode`) says: a
/// child whose output goes elsewhere inherits the variable.
fn is_journal() -> bool {
    std::env::var("JOURNAL_STREAM").is_ok_and(|stream| names_stderr(&stream))
}

#[cfg(unix)]
fn names_stderr(stream: &str) -> bool {
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;
    let Ok(file) = stderr().as_fd().try_clone_to_owned() else {
        return false;
    };
    let metadata = std::fs::File::from(file).metadata();
    metadata.is_ok_and(|metadata| format!("{}:{}", metadata.dev(), metadata.ino()) == stream)
}

#[cfg(not(unix))]
fn names_stderr(_stream: &str) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: Duration = Duration::from_millis(1_795_374_000_123);

    #[test]
    fn a_line_reads_as_documented_in_each_style() {
        let made = |style| {
            line(
                style,
                WALL,
                Level::Info,
                "rtmp",
                "listening addr=0.0.0.0:1935",
            )
        };
        assert_eq!(
            made(Style::Plain),
            "2026-11-22T19:00:00.123Z INFO rtmp: listening addr=0.0.0.0:1935\n"
        );
        assert_eq!(
            made(Style::Journal),
            "<6>rtmp: listening addr=0.0.0.0:1935\n"
        );
        assert!(made(Style::Colours).contains("\x1b[32mINFO\x1b[0m rtmp: "));
    }

    #[test]
    fn a_record_cannot_make_a_second_line_nor_steer_a_terminal() {
        let text = "a\r\n2026 ERROR fake: b\u{1b}[2J";
        let line = line(Style::Plain, WALL, Level::Warn, "x", text);
        assert_eq!(line.matches('\n').count(), 1);
        assert!(!line.contains('\r') && !line.contains('\u{1b}'));
        let long = super::line(Style::Plain, WALL, Level::Warn, "x", &"é".repeat(10_000));
        assert!(long.len() < LINE_BYTES_MAX + 8);
    }

    #[test]
    fn libraries_are_shown_from_warn_up_and_ours_as_configured() {
        let shown = |configured, level, target| is_shown(configured, level, target);
        assert!(shown(LevelFilter::Trace, Level::Trace, "rtmpeer::control"));
        assert!(!shown(LevelFilter::Info, Level::Debug, "rtmpeer::control"));
        assert!(!shown(LevelFilter::Trace, Level::Info, "str0m::ice"));
        assert!(shown(LevelFilter::Info, Level::Warn, "str0m::ice"));
        assert!(!shown(LevelFilter::Error, Level::Warn, "str0m::ice"));
        assert!(!shown(LevelFilter::Trace, Level::Info, "rtmpeers::x"));
    }

    #[test]
    fn targets_lose_the_crate_s_name() {
        assert_eq!(short_target("rtmpeer::control::join"), "control::join");
        assert_eq!(short_target("rtmpeer"), "rtmpeer");
        assert_eq!(short_target("str0m::ice"), "str0m::ice");
    }

    #[test]
    fn a_flood_of_library_lines_is_cut_and_its_size_told() {
        let limit = ForeignLimit::default();
        let shown = (0..1_000).filter(|_| limit.admit(7).is_some()).count();
        assert_eq!(shown, 10);
        assert_eq!(limit.admit(8), Some(990));
        assert_eq!(limit.admit(8), Some(0));
    }

    #[test]
    fn another_stream_than_stderr_is_not_the_journal() {
        assert!(!names_stderr("0:0"));
        assert!(!names_stderr("nonsense"));
    }
}
