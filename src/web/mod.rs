//! The pages and the player, embedded in the binary: `/` lists the rooms, `/ROOM` plays one.
//!
//! Plain ES modules without a build step. They work under the policy in
//! [`CONTENT_SECURITY_POLICY`]: no inline script or style, nothing from another host.

use aws_lc_rs::digest;

/// `Content-Security-Policy` the pages are written for. `blob:` is what media elements call a
/// stream; `ws:` and `wss:` are named because older browsers do not count them under `'self'`.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; \
     style-src 'self'; img-src 'self'; media-src 'self' blob:; connect-src 'self' ws: wss:; \
     base-uri 'none'; form-action 'none'";

/// Bytes of the digest that an entity tag shows: 64 bits tell a handful of files apart.
const ETAG_DIGEST_BYTES: usize = 8;

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const ICON: &str = "image/svg+xml";

/// One embedded file, as an HTTP answer needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asset {
    /// `Content-Type`.
    pub mime: &'static str,
    /// The body.
    pub bytes: &'static [u8],
    /// Strong entity tag with its quotes (RFC 9110 §8.8.3): changes with the bytes.
    pub etag: String,
}

/// Returns the file served under `/assets/{name}`, or `None` if there is none of that name.
#[must_use]
pub fn asset(name: &str) -> Option<Asset> {
    let (mime, bytes): (_, &'static [u8]) = match name {
        "player.js" => (SCRIPT, include_bytes!("player.js")),
        "answers.js" => (SCRIPT, include_bytes!("answers.js")),
        "page.js" => (SCRIPT, include_bytes!("page.js")),
        "index.js" => (SCRIPT, include_bytes!("index.js")),
        "style.css" => (STYLE, include_bytes!("style.css")),
        "icon.svg" => (ICON, include_bytes!("icon.svg")),
        _ => return None,
    };
    Some(tagged(mime, bytes))
}

/// The list of live rooms, served at `/`.
#[must_use]
pub fn index() -> Asset {
    tagged(HTML, include_bytes!("index.html"))
}

/// The player of a room, served at `/ROOM`: the same bytes for every room, which the script
/// learns from its address.
#[must_use]
pub fn page() -> Asset {
    tagged(HTML, include_bytes!("page.html"))
}

fn tagged(mime: &'static str, bytes: &'static [u8]) -> Asset {
    let digest = digest::digest(&digest::SHA256, bytes);
    let hex: String = digest
        .as_ref()
        .iter()
        .take(ETAG_DIGEST_BYTES)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Asset {
        mime,
        bytes,
        etag: format!("\"{hex}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 6] = [
        "player.js",
        "answers.js",
        "page.js",
        "index.js",
        "style.css",
        "icon.svg",
    ];

    fn text(asset: &Asset) -> &'static str {
        std::str::from_utf8(asset.bytes).unwrap()
    }

    /// What stands in quotes after `key`, once per occurrence.
    fn quoted<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
        text.split(key)
            .skip(1)
            .filter_map(|rest| {
                let quote = rest.chars().next().filter(|c| "\"'".contains(*c))?;
                rest.get(1..)?.split(quote).next()
            })
            .collect()
    }

    #[test]
    fn every_file_a_page_or_module_names_is_served() {
        let pages = [text(&index()), text(&page())];
        for html in pages {
            let links = [quoted(html, "src="), quoted(html, "href=")].concat();
            assert!(links.iter().any(|link| link.ends_with(".js")), "{links:?}");
            for link in links.iter().filter(|link| link.starts_with("/assets/")) {
                let name = link.trim_start_matches("/assets/");
                assert!(asset(name).is_some(), "{link} is not served");
            }
        }
        for name in NAMES.iter().filter(|name| name.ends_with(".js")) {
            let script = asset(name).unwrap();
            for module in quoted(text(&script), "from ") {
                let name = module.trim_start_matches("./");
                assert!(asset(name).is_some(), "{module} is not served");
            }
        }
    }

    #[test]
    fn pages_keep_to_their_security_policy() {
        for html in [text(&index()), text(&page())] {
            for banned in ["<style", "style=", " onclick=", " onload=", "javascript:"] {
                assert!(!html.contains(banned), "{banned} needs an unsafe policy");
            }
            for script in html.split("<script").skip(1) {
                assert!(script.contains("></script>"), "an inline script");
            }
        }
        for name in NAMES {
            let asset = asset(name).unwrap();
            for banned in ["innerHTML", "outerHTML", "insertAdjacentHTML", "eval("] {
                assert!(!text(&asset).contains(banned), "{name} uses {banned}");
            }
        }
    }

    #[test]
    fn entity_tags_are_quoted_and_tell_the_files_apart() {
        let mut tags: Vec<String> = NAMES.iter().map(|name| asset(name).unwrap().etag).collect();
        tags.push(index().etag);
        tags.push(page().etag);
        for tag in &tags {
            assert_eq!(tag.len(), 2 + 2 * ETAG_DIGEST_BYTES);
            assert!(tag.starts_with('"') && tag.ends_with('"'));
        }
        tags.sort();
        tags.dedup();
        assert_eq!(tags.len(), NAMES.len() + 2);
    }

    #[test]
    fn unknown_names_are_not_served() {
        for name in ["", "mod.rs", "../mod.rs", "player.js/", "Player.js"] {
            assert!(asset(name).is_none(), "{name:?} was served");
        }
    }
}
