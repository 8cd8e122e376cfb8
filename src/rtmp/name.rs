//! Where a publisher wants to go: application, stream key and query, however its encoder cut the
//! URL.
//!
//! OBS sends `rtmp://host/live` + key, ffmpeg cuts the last part of the path off as the key, and
//! others put everything into the application. A query may hang on either.

use crate::limits::{RTMP_NAME_BYTES_MAX, RTMP_QUERY_BYTES_MAX};

/// An application, a key and a query, none of them judged but for length and control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) app: String,
    pub(super) key: String,
    pub(super) query: String,
}

/// The names cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NameFault {
    /// There is no key.
    NoKey,
    /// A name is too long or holds a control character.
    Illegal,
}

impl Target {
    /// Reads the `app` and `tcUrl` of `connect` and the name of `publish`.
    pub(super) fn parse(app: &str, tc_url: &str, name: &str) -> Result<Self, NameFault> {
        let (app, app_query) = cut_query(app);
        let (name, name_query) = cut_query(name);
        let app = app.trim_matches('/');
        let name = name.trim_matches('/');
        let (app, app_query, key) = if name.is_empty() {
            key_from_app(app, app_query).ok_or(NameFault::NoKey)?
        } else {
            (app, app_query, name)
        };
        let app_query = if app_query.is_empty() {
            cut_query(tc_url).1
        } else {
            app_query
        };
        let queries = [name_query, app_query];
        let filled: Vec<&str> = queries.into_iter().filter(|q| !q.is_empty()).collect();
        let query = filled.join("&");
        if !is_legal(app, RTMP_NAME_BYTES_MAX)
            || !is_legal(key, RTMP_NAME_BYTES_MAX)
            || !is_legal(&query, RTMP_QUERY_BYTES_MAX)
        {
            return Err(NameFault::Illegal);
        }
        Ok(Self {
            app: app.to_owned(),
            key: key.to_owned(),
            query,
        })
    }
}

/// Splits at the first `?`.
fn cut_query(text: &str) -> (&str, &str) {
    text.split_once('?').unwrap_or((text, ""))
}

/// `live/room` without a key: the key is the last part. Also behind a query, as in
/// `live?token=1/room`.
fn key_from_app<'a>(app: &'a str, query: &'a str) -> Option<(&'a str, &'a str, &'a str)> {
    if let Some((app, key)) = app.rsplit_once('/') {
        return Some((app, query, key));
    }
    let (query, key) = query.rsplit_once('/')?;
    (!key.is_empty()).then_some((app, query, key))
}

fn is_legal(text: &str, bytes_max: usize) -> bool {
    text.len() <= bytes_max && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(app: &str, tc_url: &str, name: &str) -> Result<(String, String, String), NameFault> {
        Target::parse(app, tc_url, name).map(|target| (target.app, target.key, target.query))
    }

    fn parts(app: &str, key: &str, query: &str) -> Result<(String, String, String), NameFault> {
        Ok((app.into(), key.into(), query.into()))
    }

    #[test]
    fn every_habit_of_cutting_the_url_gives_the_same_names() {
        for (app, name) in [
            ("live", "room"),
            ("live/", "room"),
            ("/live", "/room"),
            ("live/room", ""),
            ("live/room/", ""),
        ] {
            assert_eq!(
                parse(app, "", name),
                parts("live", "room", ""),
                "{app} {name}"
            );
        }
        assert_eq!(parse("a/b", "", "c"), parts("a/b", "c", ""));
        assert_eq!(parse("a/b/c", "", ""), parts("a/b", "c", ""));
        assert_eq!(parse("", "", "room"), parts("", "room", ""));
    }

    #[test]
    fn queries_are_kept_apart_wherever_they_hang() {
        assert_eq!(parse("live", "", "room?t=1"), parts("live", "room", "t=1"));
        assert_eq!(parse("live?t=1", "", "room"), parts("live", "room", "t=1"));
        assert_eq!(
            parse("live?t=1", "rtmp://h/live?t=1", "room?u=2"),
            parts("live", "room", "u=2&t=1")
        );
        assert_eq!(
            parse("live", "rtmp://h/live?t=1", "room"),
            parts("live", "room", "t=1")
        );
        assert_eq!(parse("live?t=1/room", "", ""), parts("live", "room", "t=1"));
        assert_eq!(parse("live/room?t=1", "", ""), parts("live", "room", "t=1"));
        assert_eq!(
            parse("live/room?t=a/b", "", ""),
            parts("live", "room", "t=a/b")
        );
    }

    #[test]
    fn a_missing_key_is_told_apart_from_an_illegal_one() {
        assert_eq!(parse("live", "", ""), Err(NameFault::NoKey));
        assert_eq!(parse("live", "", "?t=1"), Err(NameFault::NoKey));
        for bad in ["a\r\nb", "\u{1b}[2J", "a\0b", "\u{9b}2J", &"k".repeat(257)] {
            assert_eq!(parse("live", "", bad), Err(NameFault::Illegal), "{bad:?}");
            assert_eq!(parse(bad, "", "room"), Err(NameFault::Illegal), "{bad:?}");
        }
        assert!(parse("live", "", &"k".repeat(256)).is_ok());
        let long = format!("room?{}", "q".repeat(RTMP_QUERY_BYTES_MAX + 1));
        assert_eq!(parse("live", "", &long), Err(NameFault::Illegal));
    }
}
