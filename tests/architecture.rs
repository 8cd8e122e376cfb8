//! The house's rules as tests: who may import whom, one home per crate, purpose lines, lengths.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop where it stands"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Longest source file, tests apart, in lines.
const FILE_LINES_MAX: usize = 600;

/// Which modules of this crate each module may import.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("ids", &[]),
    ("limits", &[]),
    ("media", &["ids", "limits"]),
    ("config", &["ids", "limits"]),
    ("metrics", &["ids"]),
    ("messages", &["ids", "media"]),
    ("rtmp", &["ids", "limits", "media"]),
    ("transcode", &["ids", "limits", "media", "messages"]),
    ("ingest", &["ids", "limits", "media"]),
    ("room", &["ids", "limits", "media"]),
    ("webrtc", &["ids", "limits", "media", "messages"]),
    ("signalling", &["ids", "limits"]),
    ("web", &[]),
    ("webhook", &["ids", "limits"]),
    (
        "engine",
        &[
            "ids", "limits", "media", "messages", "metrics", "rtmp", "ingest", "room", "webrtc",
        ],
    ),
    (
        "control",
        &[
            "ids",
            "limits",
            "config",
            "media",
            "messages",
            "metrics",
            "signalling",
            "web",
            "webhook",
        ],
    ),
    (
        "runtime",
        &[
            "ids",
            "limits",
            "config",
            "media",
            "messages",
            "metrics",
            "engine",
            "transcode",
            "control",
            "signalling",
            "webhook",
        ],
    ),
    ("logging", &["config"]),
    (
        "server",
        &[
            "ids",
            "limits",
            "config",
            "messages",
            "metrics",
            "engine",
            "transcode",
            "control",
            "runtime",
            "webhook",
            "webrtc",
        ],
    ),
    ("main", &["config", "logging", "runtime", "server"]),
];

/// The one home of each third-party crate; those not named here may be used anywhere.
const HOMES: &[(&str, &[&str])] = &[
    ("rml_rtmp", &["rtmp"]),
    ("rml_amf0", &["rtmp"]),
    ("fdk_aac_sys", &["transcode"]),
    ("opus", &["transcode"]),
    ("rubato", &["transcode"]),
    ("symphonia", &["transcode"]),
    ("h264_reader", &["media"]),
    ("str0m", &["webrtc"]),
    ("str0m_proto", &["webrtc"]),
    ("str0m_aws_lc_rs", &["webrtc"]),
    ("dimpl", &["webrtc"]),
    ("aws_lc_rs", &["webrtc", "web"]),
    ("ring", &["webrtc"]),
    ("tungstenite", &["signalling"]),
    ("httparse", &["signalling"]),
    ("serde", &["signalling"]),
    ("serde_json", &["signalling", "control", "webhook"]),
    ("toml", &["config"]),
    ("clap", &["main"]),
    ("simplelog", &["logging"]),
    ("mio", &["runtime", "server"]),
    ("crossbeam_channel", &["runtime", "webrtc"]),
    ("ureq", &["runtime"]),
    ("rustls", &["server", "runtime"]),
    ("rcgen", &["runtime"]),
    ("quinn_udp", &["runtime"]),
    ("socket2", &["runtime"]),
    ("core_affinity", &["runtime"]),
    ("if_addrs", &["runtime"]),
    ("sd_notify", &["runtime"]),
    ("signal_hook", &["runtime"]),
    ("signal_hook_mio", &["runtime"]),
    ("httpdate", &["runtime"]),
    ("libc", &["runtime"]),
    ("rustix", &["runtime"]),
    ("getrandom", &["ids"]),
];

/// Third-party crates that have no home: vocabulary of every module, or there for a feature only.
const EVERYWHERE: &[&str] = &["bytes", "log", "tracing"];

#[test]
fn modules_import_only_what_they_may() {
    let allowed: BTreeMap<_, _> = MAY_IMPORT.iter().copied().collect();
    let mut wrong = Vec::new();
    for file in sources() {
        let module = module_of(&file);
        let Some(may) = allowed.get(module.as_str()) else {
            if module != "lib" {
                wrong.push(format!(
                    "{}: module {module} is not in the table",
                    file.display()
                ));
            }
            continue;
        };
        for (number, line) in code_lines(&file) {
            for root in ["crate::", "rtmpeer::"] {
                for imported in names_after(&line, root) {
                    let known = allowed.contains_key(imported.as_str());
                    if known && imported != module && !may.contains(&imported.as_str()) {
                        let place = format!("{}:{number}", file.display());
                        wrong.push(format!("{place}: {module} may not import {imported}"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_third_party_crate_has_one_home() {
    let mut wrong = Vec::new();
    for file in sources() {
        let module = module_of(&file);
        for (number, line) in code_lines(&file) {
            for (name, homes) in HOMES {
                let used = names_before(&line, name)
                    || [";", " as "].iter().any(|after| {
                        let import = format!("use {name}{after}");
                        line.trim_start()
                            .trim_start_matches("pub ")
                            .starts_with(&import)
                    });
                if used && !homes.contains(&module.as_str()) {
                    wrong.push(format!("{}:{number}: {name} in {module}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_dependency_has_a_home_or_is_everybody_s() {
    let manifest = include_str!("../Cargo.toml");
    let names: BTreeSet<String> = manifest
        .lines()
        .skip_while(|line| *line != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name.replace('-', "_"))
        .collect();
    assert!(names.len() > 20, "the dependencies were not found");
    let known: BTreeSet<String> = HOMES
        .iter()
        .map(|(name, _)| *name)
        .chain(EVERYWHERE.iter().copied())
        .map(str::to_owned)
        .collect();
    assert_eq!(names, known, "Cargo.toml left, the tables of homes right");
}

#[test]
fn every_file_says_what_it_is_for() {
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap();
        assert!(
            text.starts_with("//! "),
            "{} has no purpose line",
            file.display()
        );
    }
}

#[test]
fn no_file_is_too_long() {
    for file in sources() {
        let lines = code_lines(&file).len();
        assert!(
            lines <= FILE_LINES_MAX,
            "{} has {lines} lines",
            file.display()
        );
    }
}

#[test]
fn every_counter_is_counted_somewhere() {
    let counters = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/metrics/counters.rs");
    let fields: Vec<String> = code_lines(&counters)
        .into_iter()
        .filter_map(|(_, line)| {
            let (field, metric) = line.trim().split_once(": ")?;
            let is_table = metric.ends_with("\",") && metric.starts_with(char::is_uppercase);
            is_table.then(|| field.to_owned())
        })
        .collect();
    assert!(fields.len() > 50, "the table of counters was not found");
    let code: String = sources()
        .iter()
        .filter(|file| module_of(file) != "metrics")
        .flat_map(|file| code_lines(file))
        .map(|(_, line)| line.trim().to_owned())
        .collect();
    let steps = ["inc", "dec", "add", "add_len", "set", "set_len"];
    // Where two threads have a counter of one name, each counts its own.
    let owners = |field: &String| fields.iter().filter(|other| *other == field).count();
    let places = |field: &String| {
        let count = |text: String| code.matches(&text).count();
        let stepped = steps.map(|step| count(format!(".{field}.{step}(")));
        // Chosen in a `match`, and counted behind it.
        stepped.iter().sum::<usize>() + count(format!("counters.{field},"))
    };
    let is_counted = |field: &String| places(field) >= owners(field);
    let forgotten: Vec<&String> = fields.iter().filter(|field| !is_counted(field)).collect();
    assert!(forgotten.is_empty(), "nobody counts {forgotten:?}");
}

#[test]
fn only_the_clock_reads_the_clock() {
    for file in sources() {
        if file.ends_with("runtime/clock.rs") {
            continue;
        }
        for (number, line) in code_lines(&file) {
            let reads = line.contains("Instant::now()") || line.contains("SystemTime::now()");
            assert!(!reads, "{}:{number} reads a clock", file.display());
        }
    }
}

/// Rust files of `src`, in a stable order; files of tests only are left out.
fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    collect(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut files,
    );
    files.sort();
    assert!(files.len() > 20, "the sources were not found");
    files
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "tests" {
                collect(&path, files);
            }
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            files.push(path);
        }
    }
}

fn module_of(file: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let first = file
        .strip_prefix(root)
        .unwrap()
        .components()
        .next()
        .unwrap();
    first
        .as_os_str()
        .to_string_lossy()
        .trim_end_matches(".rs")
        .to_owned()
}

/// Lines before the tests, numbered from 1, comments blanked.
fn code_lines(file: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(file).unwrap();
    let before_tests = &text[..tests_begin(&text)];
    let blank = |line: &str| {
        if line.trim_start().starts_with("//") {
            String::new()
        } else {
            line.to_owned()
        }
    };
    before_tests
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, blank(line)))
        .collect()
}

/// Where the module of tests at a file's foot begins, or the end of the text.
fn tests_begin(text: &str) -> usize {
    let marks = text.match_indices("\n#[cfg(test)]\n");
    marks
        .filter(|(at, mark)| {
            // Attributes may stand between the mark and its module.
            let module = text[at + mark.len()..].find("mod ");
            let line = module.and_then(|from| text[at + mark.len() + from..].lines().next());
            line.is_some_and(|line| line.ends_with('{'))
        })
        .map(|(at, _)| at)
        .next()
        .unwrap_or(text.len())
}

/// The identifiers that follow each `root` in a line.
fn names_after(line: &str, root: &str) -> Vec<String> {
    let identifier = |rest: &str| {
        rest.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect::<String>()
    };
    line.match_indices(root)
        .map(|(at, _)| identifier(&line[at + root.len()..]))
        .collect()
}

/// Whether a line uses a crate by its path, as in `name::thing`.
fn names_before(line: &str, name: &str) -> bool {
    let path = format!("{name}::");
    line.match_indices(&path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '.')
    })
}
