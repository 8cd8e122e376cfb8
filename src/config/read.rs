//! How configuration is read: TOML tables and environment variables become [`Item`]s, and the
//! functions of the second half make values of them or say in words what is wrong.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::{CORES_MAX, CPU_NUMBER_MAX, ConfigError, Cores, LIST_ENTRIES_MAX};

/// The variable that names the file.
pub(super) const CONFIG_VARIABLE: &str = "RTMPEER_CONFIG";
/// Short for [`LOG_LEVEL_VARIABLE`], which outranks it.
const LOG_VARIABLE: &str = "RTMPEER_LOG";
const LOG_LEVEL_VARIABLE: &str = "RTMPEER_LOG__LEVEL";
const VARIABLE_PREFIX: &str = "RTMPEER_";
/// Longest piece of the operator's text that an error repeats, in characters.
const QUOTE_CHARS_MAX: usize = 60;

/// Where a key was set, for errors.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// In a file, with the line counted from 1.
    File(String, usize),
    /// In an environment variable.
    Variable(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(name, line) => write!(f, "{name} line {line}"),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

/// Where each key was last set.
pub(super) type Places = BTreeMap<String, Place>;

/// One key with its value and where they stand.
pub(super) struct Item<'a> {
    /// `section.key`.
    pub key: String,
    /// Its value.
    pub value: Value<'a>,
    /// Where it was set.
    pub place: Place,
}

/// A value as far as the configuration uses TOML's types.
#[derive(Clone)]
pub(super) enum Value<'a> {
    Text(std::borrow::Cow<'a, str>),
    Integer(i64),
    List(Vec<Self>),
    Truth(bool),
    /// Anything else, by its name.
    Other(&'static str),
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(&quoted(text)),
            Self::Integer(number) => number.fmt(f),
            Self::List(_) => f.write_str("a list"),
            Self::Truth(truth) => truth.fmt(f),
            Self::Other(name) => write!(f, "a {name}"),
        }
    }
}

/// The text in quotes, shortened, with control characters escaped: safe to print in one line.
pub(super) fn quoted(text: &str) -> String {
    let mut short: String = text.chars().take(QUOTE_CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

/// The text with line ends and other control characters replaced by spaces.
pub(super) fn one_line(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.trim().chars().map(plain).collect()
}

/// The variables that begin with our prefix, but for those that Kubernetes makes for a service
/// named rtmpeer (`RTMPEER_SERVICE_HOST`, `RTMPEER_PORT_1935_TCP`, …).
pub(super) fn our_variables(
    env: impl Iterator<Item = (String, String)>,
) -> BTreeMap<String, String> {
    env.filter(|(name, _)| is_ours(name)).collect()
}

fn is_ours(name: &str) -> bool {
    name.strip_prefix(VARIABLE_PREFIX).is_some_and(|rest| {
        let of_a_service = ["SERVICE_HOST", "SERVICE_PORT", "PORT"]
            .iter()
            .filter_map(|made| rest.strip_prefix(made))
            .any(|rest| rest.is_empty() || (rest.starts_with('_') && !rest.contains("__")));
        !of_a_service
    })
}

/// The variables of a process that are text. Others are left out if they are not ours.
///
/// # Errors
/// When one of ours is not UTF-8.
pub fn text_variables(
    env: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, ConfigError> {
    let mut texts = Vec::new();
    for (name, value) in env {
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => texts.push((name, value)),
            (name, _) => {
                let name = name.unwrap_or_else(|name| name.to_string_lossy().into_owned());
                if is_ours(&name) {
                    let Item { key, place, .. } = variable_item(&name, "")?;
                    return Err(ConfigError::BadValue {
                        place: place.to_string(),
                        key,
                        problem: "the variable is not UTF-8".to_owned(),
                    });
                }
            }
        }
    }
    Ok(texts)
}

/// Those of our variables that set a key, in the order in which they apply.
pub(super) fn variables_to_set(env: &BTreeMap<String, String>) -> Vec<(String, String)> {
    env.iter()
        .filter(|(name, _)| *name != CONFIG_VARIABLE)
        .filter(|(name, _)| *name != LOG_VARIABLE || !env.contains_key(LOG_LEVEL_VARIABLE))
        .map(|(name, text)| (name.clone(), text.clone()))
        .collect()
}

/// The item that a variable sets.
pub(super) fn variable_item<'a>(name: &str, text: &'a str) -> Result<Item<'a>, ConfigError> {
    let place = Place::Variable(one_line(name));
    if name == LOG_VARIABLE {
        return Ok(Item {
            key: "log.level".into(),
            value: Value::Text(text.into()),
            place,
        });
    }
    let rest = name.strip_prefix(VARIABLE_PREFIX).unwrap_or(name);
    let key = rest.to_ascii_lowercase().replace("__", ".");
    let value = variable_value(text);
    Ok(Item { key, value, place })
}

fn variable_value(text: &str) -> Value<'_> {
    let parsed = DeValue::parse(text.trim()).ok();
    match parsed.map(|value| value_of(value.get_ref())) {
        Some(Value::Integer(number)) => Value::Integer(number),
        Some(Value::List(list)) => Value::List(list),
        Some(Value::Truth(truth)) => Value::Truth(truth),
        // A date or a word is the operator's text, as is what is in quotes.
        Some(Value::Text(text)) => Value::Text(text),
        Some(Value::Other(_)) | None => Value::Text(text.trim().into()),
    }
}

/// All items of a file, in the order of their keys.
pub(super) fn file_items<'a>(path: &Path, text: &'a str) -> Result<Vec<Item<'a>>, ConfigError> {
    let file = one_line(&path.to_string_lossy());
    let line = |offset: usize| {
        let before = text.as_bytes().iter().take(offset);
        before
            .filter(|&&byte| byte == b'\n')
            .count()
            .saturating_add(1)
    };
    let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        place: match error.span() {
            Some(span) => Place::File(file.clone(), line(span.start)).to_string(),
            None => file.clone(),
        },
        problem: syntax_problem(&error, text),
    })?;
    let mut items = Vec::new();
    for (name, value) in table.get_ref() {
        let place = |offset| Place::File(file.clone(), line(offset));
        let name_text = name.get_ref();
        match value.get_ref() {
            // An empty table is a section that sets nothing, if there is such a section.
            DeValue::Table(section) if !section.is_empty() => {
                for (key, value) in section {
                    items.push(Item {
                        key: format!("{name_text}.{}", key.get_ref()),
                        value: value_of(value.get_ref()),
                        place: place(key.span().start),
                    });
                }
            }
            DeValue::Table(_) if is_section(name_text) => {}
            DeValue::Table(_)
            | DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_) => items.push(Item {
                key: name_text.to_string(),
                value: value_of(value.get_ref()),
                place: place(name.span().start),
            }),
        }
    }
    Ok(items)
}

/// What the parser says; it does not name a repeated key, and no other text of the file is
/// repeated, since it may be a secret.
fn syntax_problem(error: &toml::de::Error, text: &str) -> String {
    let problem = one_line(&error.message().replace('\n', ", "));
    let named = error.span().and_then(|span| text.get(span));
    match named {
        Some(key) if problem == "duplicate key" => format!("{problem} {}", quoted(key)),
        Some(_) | None => problem,
    }
}

fn is_section(name: &str) -> bool {
    super::KEYS
        .iter()
        .any(|(key, _)| key.split_once('.').is_some_and(|k| k.0 == name))
}

fn value_of<'a>(value: &DeValue<'a>) -> Value<'a> {
    match value {
        DeValue::String(text) => Value::Text(text.clone()),
        DeValue::Integer(number) => {
            let digits = number.as_str();
            i64::from_str_radix(digits, number.radix())
                .map_or(Value::Other("number too large"), Value::Integer)
        }
        DeValue::Array(list) => {
            Value::List(list.iter().map(|value| value_of(value.get_ref())).collect())
        }
        DeValue::Float(_) => Value::Other("number with a fraction"),
        DeValue::Boolean(truth) => Value::Truth(*truth),
        DeValue::Datetime(_) => Value::Other("date"),
        DeValue::Table(_) => Value::Other("table"),
    }
}

fn text_of<'a>(value: &'a Value<'_>, example: &str) -> Result<&'a str, String> {
    match value {
        Value::Text(text) => Ok(text.trim()),
        Value::Integer(_) | Value::List(_) | Value::Truth(_) | Value::Other(_) => {
            Err(format!("{value} is not text; write for example {example}"))
        }
    }
}

/// An address and port to listen on.
pub(super) fn address(item: &Item<'_>) -> Result<SocketAddr, String> {
    let example = "\"0.0.0.0:1935\", or \"[::]:1935\" for IPv6";
    let parsed = match &item.value {
        Value::Text(text) => text.trim().parse().ok(),
        Value::Integer(_) | Value::List(_) | Value::Truth(_) | Value::Other(_) => None,
    };
    parsed.ok_or_else(|| {
        format!(
            "{} is not an IP address with a port; write for example {example}",
            item.value
        )
    })
}

/// As [`address`]; `"off"` is none.
pub(super) fn address_or_off(item: &Item<'_>) -> Result<Option<SocketAddr>, String> {
    match &item.value {
        Value::Text(text) if text.trim() == "off" => Ok(None),
        Value::Text(_) | Value::Integer(_) | Value::List(_) | Value::Truth(_) | Value::Other(_) => {
            address(item)
                .map(Some)
                .map_err(|text| format!("{text}, or \"off\""))
        }
    }
}

/// `true` or `false`.
pub(super) fn truth(item: &Item<'_>) -> Result<bool, String> {
    match &item.value {
        Value::Truth(truth) => Ok(*truth),
        Value::Text(_) | Value::Integer(_) | Value::List(_) | Value::Other(_) => {
            Err(format!("{} will not do; write true or false", item.value))
        }
    }
}

/// The path of a file; an empty text is none.
pub(super) fn path(item: &Item<'_>) -> Result<Option<PathBuf>, String> {
    let text = text_of(&item.value, "\"/etc/rtmpeer/cert.pem\"")?;
    if text.contains('\0') {
        return Err("is no path of a file".into());
    }
    Ok((!text.is_empty()).then(|| PathBuf::from(text)))
}

/// An integer between two bounds, both included.
pub(super) fn number<T>(item: &Item<'_>, min: T, max: T) -> Result<T, String>
where
    T: TryFrom<i64> + PartialOrd + fmt::Display,
{
    let fits = match item.value {
        Value::Integer(number) => T::try_from(number).ok(),
        Value::Text(_) | Value::List(_) | Value::Truth(_) | Value::Other(_) => None,
    };
    fits.filter(|number| *number >= min && *number <= max)
        .ok_or_else(|| {
            format!(
                "{} will not do; write a whole number from {min} to {max}",
                item.value
            )
        })
}

/// One of some words.
pub(super) fn word<T: Copy>(item: &Item<'_>, words: &[(&str, T)]) -> Result<T, String> {
    let text = match &item.value {
        Value::Text(text) => text.trim(),
        Value::Integer(_) | Value::List(_) | Value::Truth(_) | Value::Other(_) => "",
    };
    let found = words.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        format!("{} will not do; write {}", item.value, known.join(" or "))
    })
}

/// A list of texts; a single text is taken as one with commas.
pub(super) fn list<T>(
    item: &Item<'_>,
    entry: fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let example = "a list of texts in brackets, such as [\"first\", \"second\"]";
    let texts: Vec<&str> = match &item.value {
        Value::Text(text) => (text.split(',').map(str::trim))
            .filter(|text| !text.is_empty())
            .collect(),
        Value::List(values) => {
            (values.iter().map(|value| text_of(value, example))).collect::<Result<_, _>>()?
        }
        Value::Integer(_) | Value::Truth(_) | Value::Other(_) => {
            return Err(format!("{} will not do; write {example}", item.value));
        }
    };
    if texts.len() > LIST_ENTRIES_MAX {
        return Err(format!(
            "has {} entries; keep at most {LIST_ENTRIES_MAX}",
            texts.len()
        ));
    }
    texts.into_iter().map(entry).collect()
}

/// An address to advertise to viewers.
pub(super) fn public_ip(text: &str) -> Result<IpAddr, String> {
    let address: Option<IpAddr> = text.parse().ok();
    address
        .filter(|ip| !ip.is_unspecified() && !ip.is_multicast())
        .ok_or_else(|| {
            format!(
                "{} is no address that viewers can reach; write an IP address such as \
                 \"203.0.113.7\" (a host name must be resolved first)",
                quoted(text)
            )
        })
}

/// An Origin (RFC 6454 §6.1), or `*`.
pub(super) fn origin(text: &str) -> Result<String, String> {
    let host = (text.strip_prefix("https://")).or_else(|| text.strip_prefix("http://"));
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte);
    let good = text == "*" || host.is_some_and(|h| !h.is_empty() && h.bytes().all(legal));
    good.then(|| text.to_ascii_lowercase()).ok_or_else(|| {
        format!(
            "{} is no origin; write \"https://HOST\" or \"https://HOST:PORT\" without a path, \
             or \"*\"",
            quoted(text)
        )
    })
}

/// A STUN server's URL (RFC 7064 §3.1). Browsers refuse a TURN server's without a user and a password.
pub(super) fn ice_server(text: &str) -> Result<String, String> {
    if ["turn:", "turns:"].iter().any(|it| text.starts_with(it)) {
        return Err(format!(
            "{} is a TURN server, and TURN is not supported yet; leave it out: viewers reach the \
             server's UDP port directly",
            quoted(text)
        ));
    }
    let schemes = ["stun:", "stuns:"];
    let rest = schemes.iter().find_map(|scheme| text.strip_prefix(scheme));
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]_?=".contains(&byte);
    let good = rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(legal));
    good.then(|| text.to_owned()).ok_or_else(|| {
        format!(
            "{} is no STUN server; write for example \"stun:stun.example.org:3478\"",
            quoted(text)
        )
    })
}

/// The webhook's URL; an empty text is none. The error does not repeat it: it may hold a secret.
pub(super) fn webhook_url(item: &Item<'_>) -> Result<Option<String>, String> {
    let example = "\"https://example.org/hook\"";
    let text = text_of(&item.value, example)?;
    if text.is_empty() {
        return Ok(None);
    }
    let rest = (text.strip_prefix("https://")).or_else(|| text.strip_prefix("http://"));
    let host = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or(""));
    let good = host.is_some_and(|host| !host.is_empty())
        && text.bytes().all(|byte| byte.is_ascii_graphic());
    good.then(|| Some(text.to_owned())).ok_or_else(|| {
        format!("the value is no http:// or https:// URL; write for example {example}")
    })
}

/// A program: a name, or an absolute path.
pub(super) fn program(item: &Item<'_>, example: &str) -> Result<String, String> {
    let text = text_of(&item.value, example)?;
    let named = !text.is_empty() && !text.contains(char::is_control);
    let good = named && (text.starts_with('/') || !text.contains('/'));
    good.then(|| text.to_owned()).ok_or_else(|| {
        format!(
            "{} is no program; write its name, or its path from the root, for example {example}",
            quoted(text)
        )
    })
}

/// `"auto"`, a number, or a list of CPUs.
pub(super) fn cores(item: &Item<'_>) -> Result<Cores, String> {
    let advice = format!(
        "write \"auto\", a number of cores from 1 to {CORES_MAX}, or a list of CPUs such as [2, 3]"
    );
    let bad = || format!("{} will not do; {advice}", item.value);
    let cpus: Vec<Option<usize>> = match &item.value {
        Value::Text(text) if text.trim() == "auto" => return Ok(Cores::Auto),
        Value::Text(text) => (text.split(','))
            .map(|cpu| cpu.trim().parse().ok())
            .collect(),
        Value::Integer(count) => {
            let count = u16::try_from(*count).ok();
            let count = count.filter(|count| (1..=CORES_MAX).contains(count));
            return count.map(Cores::Count).ok_or_else(bad);
        }
        Value::List(values) => values.iter().map(cpu_number).collect(),
        Value::Truth(_) | Value::Other(_) => return Err(bad()),
    };
    let fit = !cpus.is_empty() && cpus.len() <= usize::from(CORES_MAX);
    let cpus: Option<Vec<usize>> = cpus.into_iter().collect();
    let cpus = cpus.filter(|cpus| fit && cpus.iter().all(|cpu| *cpu <= CPU_NUMBER_MAX));
    let cpus = cpus.ok_or_else(bad)?;
    let mut sorted = cpus.clone();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.len() < cpus.len() {
        return Err("names a CPU twice; name each once".into());
    }
    Ok(Cores::Cpus(cpus))
}

fn cpu_number(value: &Value<'_>) -> Option<usize> {
    match value {
        Value::Integer(number) => usize::try_from(*number).ok(),
        Value::Text(_) | Value::List(_) | Value::Truth(_) | Value::Other(_) => None,
    }
}
