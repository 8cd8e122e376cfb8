//! Where log lines go and how they read: `2026-11-22T19:00:00.123Z INFO control: message` on
//! standard error, with colours on a terminal, or with systemd's `<N>` priorities and without
//! the time when the journal reads it (sd-daemon(3), systemd.exec(5) `$JOURNAL_STREAM`).
//!
//! One record is one line: control characters in it are escaped. Other crates' records are shown
//! from `warn` up, and at most ten a second: hostile datagrams make str0m warn.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write, stderr};

use log::{Level, LevelFilter, Log, Metadata, Record, SetLoggerError};
use simplelog::{CombinedLogger, Config, ConfigBuilder, SharedLogger, WriteLogger};

/// Lines of other crates shown in one second; the rest is counted.
const FOREIGN_LINES_PER_SECOND: u32 = 10;
/// Our own records' targets begin so; what follows `::` is shown.
const OUR_CRATE: &str = "rtmpeer";
/// Longest line, in bytes: pipes write lines up to 4 KiB whole (POSIX `PIPE_BUF` on Linux).
const LINE_BYTES_MAX: usize = 4_000;
/// Bytes of `2026-11-22T19:00:00`: the part of a timestamp that is the same for one second.
const SECOND_BYTES: usize = 19;
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
    CombinedLogger::init(vec![
        Box::new(LineLogger::new(level, style, Whose::Ours)),
        Box::new(LineLogger::new(level, style, Whose::Foreign)),
    ])
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Colours,
    Journal,
}

/// Whose records a logger takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Ours,
    Foreign,
}

/// Lays out records; simplelog adds the time and serializes the writers.
struct LineLogger {
    level: LevelFilter,
    style: Style,
    whose: Whose,
    timed: Box<WriteLogger<LineWriter>>,
}

impl LineLogger {
    fn new(level: LevelFilter, style: Style, whose: Whose) -> Self {
        let level = match whose {
            Whose::Ours => level,
            Whose::Foreign => level.min(LevelFilter::Warn),
        };
        // Only the time is simplelog's; the rest of the line is made here.
        let config = ConfigBuilder::new()
            .set_time_level(LevelFilter::Error)
            .set_time_format_rfc3339()
            .set_max_level(LevelFilter::Off)
            .set_thread_level(LevelFilter::Off)
            .set_target_level(LevelFilter::Off)
            .set_location_level(LevelFilter::Off)
            .build();
        let writer = LineWriter {
            line: Vec::new(),
            style,
            limit: (whose == Whose::Foreign).then(ForeignLimit::default),
        };
        Self {
            level,
            style,
            whose,
            timed: WriteLogger::new(level, config, writer),
        }
    }
}

impl Log for LineLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let is_ours = is_ours(metadata.target());
        metadata.level() <= self.level && is_ours == (self.whose == Whose::Ours)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let target = short_target(record.target());
        let text = record.args().to_string();
        let line = layout(self.style, record.level(), target, &text);
        let laid_out = format_args!("{line}");
        let mut builder = Record::builder();
        self.timed
            .log(&builder.level(record.level()).args(laid_out).build());
    }

    fn flush(&self) {}
}

impl SharedLogger for LineLogger {
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

/// Collects what simplelog writes in pieces, and writes whole lines.
#[derive(Debug)]
struct LineWriter {
    line: Vec<u8>,
    style: Style,
    limit: Option<ForeignLimit>,
}

impl Write for LineWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        if self.line.ends_with(b"\n") {
            let mut lines = Vec::new();
            self.take_line(&mut lines);
            // Nobody can be told that the log cannot be written.
            let _ = stderr().lock().write_all(&lines);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LineWriter {
    /// Moves the line to `lines` unless there were too many, after how many those were.
    fn take_line(&mut self, lines: &mut Vec<u8>) {
        let line = std::mem::take(&mut self.line);
        let space = line.iter().position(|&byte| byte == b' ');
        let (time, rest) = line.split_at(space.map_or(0, |at| at.saturating_add(1)));
        let time = match self.style {
            Style::Plain | Style::Colours => to_millis(time),
            Style::Journal => Vec::new(),
        };
        if let Some(limit) = &mut self.limit {
            let Some(suppressed) = limit.admit(line.get(..SECOND_BYTES).unwrap_or_default()) else {
                return;
            };
            if suppressed > 0 {
                let text = format!("{suppressed} lines of libraries were not shown");
                let told = layout(self.style, Level::Warn, "logging", &text);
                lines.extend_from_slice(&time);
                lines.extend_from_slice(told.as_bytes());
                lines.push(b'\n');
            }
        }
        lines.extend_from_slice(&time);
        lines.extend_from_slice(rest);
    }
}

/// simplelog's RFC 3339 time, whose fraction has 0 to 9 digits, with 3 digits and a space.
fn to_millis(time: &[u8]) -> Vec<u8> {
    let (second, fraction) = time.split_at_checked(SECOND_BYTES).unwrap_or((time, &[]));
    let digits = fraction.iter().filter(|byte| byte.is_ascii_digit());
    let mut text = second.to_vec();
    text.push(b'.');
    text.extend(digits.chain(b"000").take(3));
    text.extend_from_slice(b"Z ");
    text
}

/// Counts lines of other crates by the second.
#[derive(Debug, Default)]
struct ForeignLimit {
    second: Vec<u8>,
    shown: u32,
    suppressed: u64,
}

impl ForeignLimit {
    /// Whether a line may be shown in this second; if so, how many were not since the last.
    fn admit(&mut self, second: &[u8]) -> Option<u64> {
        if self.second != second {
            self.second = second.to_vec();
            self.shown = 0;
        }
        if self.shown >= FOREIGN_LINES_PER_SECOND {
            self.suppressed = self.suppressed.saturating_add(1);
            return None;
        }
        self.shown = self.shown.saturating_add(1);
        Some(std::mem::take(&mut self.suppressed))
    }
}

fn is_ours(target: &str) -> bool {
    let rest = target.strip_prefix(OUR_CRATE);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn short_target(target: &str) -> &str {
    let rest = target.strip_prefix(OUR_CRATE).unwrap_or(target);
    rest.strip_prefix("::").unwrap_or(target)
}

/// A line without its time and its end.
fn layout(style: Style, level: Level, target: &str, text: &str) -> String {
    let mut line = match style {
        Style::Plain => format!("{level} {target}: "),
        Style::Colours => format!("\x1b[{}m{level}\x1b[0m {target}: ", colour(level)),
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

    /// What one record becomes, in a logger whose writer is asked instead of standard error.
    fn shown(style: Style, whose: Whose, lines: &[&str]) -> String {
        let mut writer = LineWriter {
            line: Vec::new(),
            style,
            limit: (whose == Whose::Foreign).then(ForeignLimit::default),
        };
        let mut shown = Vec::new();
        for line in lines {
            writer.line = format!("{line}\n").into_bytes();
            writer.take_line(&mut shown);
        }
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn a_line_reads_as_documented_in_each_style() {
        let text = "listening addr=0.0.0.0:1935";
        let made = |style| {
            let laid_out = layout(style, Level::Info, "rtmp", text);
            shown(
                style,
                Whose::Ours,
                &[&format!("2026-11-22T19:00:00.123Z {laid_out}")],
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
        assert!(made(Style::Colours).contains("Z \x1b[32mINFO\x1b[0m rtmp: "));
    }

    #[test]
    fn simplelog_puts_one_timestamp_first_and_nothing_else() {
        #[derive(Clone)]
        struct Capture(std::sync::mpsc::SyncSender<Vec<u8>>);
        impl Write for Capture {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.send(bytes.to_vec()).unwrap();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (sender, receiver) = std::sync::mpsc::sync_channel(64);
        let logger = LineLogger::new(LevelFilter::Info, Style::Plain, Whose::Ours);
        let config = logger.timed.config().unwrap().clone();
        let capture = WriteLogger::new(LevelFilter::Info, config, Capture(sender));
        let mut builder = Record::builder();
        let record = builder
            .level(Level::Info)
            .args(format_args!("INFO x: y"))
            .build();
        capture.log(&record);
        drop(capture);
        let line: Vec<u8> = receiver.iter().flatten().collect();
        let line = String::from_utf8(line).unwrap();
        let (time, rest) = line.split_once(' ').unwrap();
        assert_eq!(rest, "INFO x: y\n");
        assert!(time.ends_with('Z') && &time[10..11] == "T", "{time}");
    }

    #[test]
    fn a_time_is_shown_in_milliseconds_whatever_its_digits() {
        for (long, short) in [
            ("2026-11-22T19:00:00Z ", "2026-11-22T19:00:00.000Z "),
            ("2026-11-22T19:00:00.1Z ", "2026-11-22T19:00:00.100Z "),
            (
                "2026-11-22T19:00:00.123456789Z ",
                "2026-11-22T19:00:00.123Z ",
            ),
        ] {
            assert_eq!(to_millis(long.as_bytes()), short.as_bytes());
        }
    }

    #[test]
    fn a_record_cannot_make_a_second_line_nor_steer_a_terminal() {
        let text = "a\r\n2026 ERROR fake: b\u{1b}[2J";
        let line = layout(Style::Plain, Level::Warn, "x", text);
        assert!(!line.contains(char::is_control), "{line:?}");
        let long = layout(Style::Plain, Level::Warn, "x", &"é".repeat(10_000));
        assert!(long.len() < LINE_BYTES_MAX + 8);
    }

    #[test]
    fn libraries_are_shown_from_warn_up_and_ours_as_configured() {
        let shown = |configured, level, target| {
            let metadata = Metadata::builder().level(level).target(target).build();
            [Whose::Ours, Whose::Foreign]
                .map(|whose| LineLogger::new(configured, Style::Plain, whose).enabled(&metadata))
        };
        let (ours, foreign, none) = ([true, false], [false, true], [false, false]);
        let trace = LevelFilter::Trace;
        assert_eq!(shown(trace, Level::Trace, "rtmpeer::control"), ours);
        assert_eq!(
            shown(LevelFilter::Info, Level::Debug, "rtmpeer::control"),
            none
        );
        assert_eq!(shown(trace, Level::Info, "str0m::ice"), none);
        assert_eq!(shown(LevelFilter::Info, Level::Warn, "str0m::ice"), foreign);
        assert_eq!(shown(LevelFilter::Error, Level::Warn, "str0m::ice"), none);
        assert_eq!(shown(trace, Level::Info, "rtmpeers::x"), none);
    }

    #[test]
    fn targets_lose_the_crate_s_name() {
        assert_eq!(short_target("rtmpeer::control::join"), "control::join");
        assert_eq!(short_target("rtmpeer"), "rtmpeer");
        assert_eq!(short_target("str0m::ice"), "str0m::ice");
    }

    #[test]
    fn a_flood_of_library_lines_is_cut_and_its_size_told() {
        let (first, second) = ("2026-11-22T19:00:00.123Z a", "2026-11-22T19:00:01.000Z b");
        let mut lines = vec![first; 1_000];
        lines.push(second);
        let text = shown(Style::Plain, Whose::Foreign, &lines);
        assert_eq!(text.lines().count(), 12);
        let told = "2026-11-22T19:00:01.000Z WARN logging: 990 lines of libraries were not shown";
        assert_eq!(text.lines().nth(10), Some(told));
        assert_eq!(
            shown(Style::Plain, Whose::Ours, &lines).lines().count(),
            1_001
        );
    }

    #[test]
    fn another_stream_than_stderr_is_not_the_journal() {
        assert!(!names_stderr("0:0"));
        assert!(!names_stderr("nonsense"));
    }
}
