//! One HTTP request: its head, strictly read (RFC 9112 §§2–6, RFC 9110, RFC 6455 §4.2.1).
//!
//! Where two readers could disagree about where a request ends or what its path is, this one
//! refuses, since a proxy in front of us may be the other reader.

use bytes::Bytes;

use super::response::HttpResponse;
use crate::ids::Secret;
use crate::limits::{
    HTTP_BODY_BYTES_MAX, HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX, HTTP_QUERY_PAIRS_MAX,
    HTTP_TARGET_BYTES_MAX,
};

/// A request's method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// HEAD.
    Head,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// PATCH.
    Patch,
    /// DELETE.
    Delete,
    /// OPTIONS.
    Options,
    /// Any other token; methods are case-sensitive.
    Other(String),
}

/// A whole request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// What to do.
    pub method: Method,
    /// The path, percent-decoded once: begins with `/`, holds no control character, no `\`, no
    /// segment `.` or `..`, and no `/` that was encoded. `*` in `OPTIONS *`.
    pub path: String,
    /// The query's pairs in their order, decoded; at most [`HTTP_QUERY_PAIRS_MAX`].
    pub query: Vec<(String, String)>,
    /// `Content-Type`, as sent.
    pub content_type: Option<String>,
    /// `If-Match`, as sent.
    pub if_match: Option<String>,
    /// `If-None-Match`, as sent.
    pub if_none_match: Option<String>,
    /// `Origin`; several are joined by `, ` and so equal no origin.
    pub origin: Option<String>,
    /// `Host`: one, unless the request is HTTP/1.0.
    pub host: Option<String>,
    /// `Authorization`.
    pub authorization: Option<Secret>,
    /// Set if the request asks to become a WebSocket, and may.
    pub upgrade: Option<WebSocketUpgrade>,
    /// The body, at most [`HTTP_BODY_BYTES_MAX`].
    pub body: Bytes,
}

/// A legal request to become a WebSocket (RFC 6455 §4.2.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSocketUpgrade {
    /// `Sec-WebSocket-Key`: 16 bytes in base64.
    pub key: String,
}

impl HttpRequest {
    /// First value of a query parameter.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let pair = self.query.iter().find(|(key, _)| key == name);
        pair.map(|(_, value)| value.as_str())
    }

    /// The media type of the body: lower case, without parameters; empty if none was named.
    #[must_use]
    pub fn media_type(&self) -> String {
        let text = self.content_type.as_deref().unwrap_or_default();
        let media_type = text.split(';').next().unwrap_or_default();
        media_type.trim().to_ascii_lowercase()
    }
}

/// How the connection goes on after a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Framing {
    /// Bytes of body that follow.
    pub(super) body_bytes: usize,
    /// The peer waits for `100 Continue` before it sends them.
    pub(super) expects_continue: bool,
    /// The connection may be used again.
    pub(super) keep_alive: bool,
}

/// Finds the end of a head as bytes come in, and refuses what no line of a head may hold: a line
/// feed alone, a folded line, a control character, too much. Looks at each byte once.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct HeadScan {
    at: usize,
    line_start: usize,
    lines: usize,
    after_cr: bool,
}

/// Room in the request line for what is not the target: a method, two spaces, the version.
const REQUEST_LINE_REST_BYTES_MAX: usize = 64;

impl HeadScan {
    /// Length of the head with its empty line, once it is there.
    ///
    /// # Errors
    /// The answer to a peer whose bytes cannot become a legal head.
    pub(super) fn advance(&mut self, input: &[u8]) -> Result<Option<usize>, HttpResponse> {
        for &byte in input.iter().skip(self.at) {
            if self.at >= HTTP_HEAD_BYTES_MAX {
                return Err(refuse(431, "the request's head is larger than 16 KiB"));
            }
            let at = self.at;
            self.at += 1;
            if self.after_cr {
                if byte != b'\n' {
                    return Err(refuse(400, "a carriage return without a line feed"));
                }
                self.after_cr = false;
                if self.line_start + 1 == at {
                    return Ok(Some(self.at));
                }
                self.lines += 1;
                self.line_start = self.at;
                if self.lines > HTTP_HEADERS_MAX + 1 {
                    return Err(refuse(431, "more than 64 header fields"));
                }
                continue;
            }
            self.in_line(byte, at)?;
        }
        Ok(None)
    }

    fn in_line(&mut self, byte: u8, at: usize) -> Result<(), HttpResponse> {
        match byte {
            b'\r' if at == 0 => return Err(refuse(400, "an empty line before the request")),
            b'\r' => self.after_cr = true,
            b' ' | b'\t' if at == self.line_start => {
                return Err(refuse(400, "a line that begins with white space"));
            }
            b'\t' => {}
            0x00..=0x1f | 0x7f => {
                return Err(refuse(400, "a control character in the request's head"));
            }
            _ => {}
        }
        if self.lines == 0 && at > HTTP_TARGET_BYTES_MAX + REQUEST_LINE_REST_BYTES_MAX {
            return Err(refuse(414, "the request's URL is longer than 8 KiB"));
        }
        Ok(())
    }
}

/// Reads a whole head, as found by [`HeadScan`].
///
/// # Errors
/// The answer to a request that is wrong (the peer's fault); the connection must then close.
pub(super) fn parse(head: &[u8]) -> Result<(HttpRequest, Framing), HttpResponse> {
    let mut headers = [httparse::EMPTY_HEADER; HTTP_HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    let whole = match parsed.parse(head) {
        Ok(httparse::Status::Complete(length)) => length == head.len(),
        Ok(httparse::Status::Partial) => false,
        Err(httparse::Error::TooManyHeaders) => {
            return Err(refuse(431, "more than 64 header fields"));
        }
        Err(httparse::Error::Version) => return Err(refuse(505, "speak HTTP/1.1")),
        Err(
            httparse::Error::HeaderName
            | httparse::Error::HeaderValue
            | httparse::Error::NewLine
            | httparse::Error::Status
            | httparse::Error::Token,
        ) => return Err(refuse(400, "the request's head is malformed")),
    };
    let (true, Some(method), Some(target), Some(version)) =
        (whole, parsed.method, parsed.path, parsed.version)
    else {
        return Err(refuse(400, "the request's head is malformed"));
    };
    if target.len() > HTTP_TARGET_BYTES_MAX {
        return Err(refuse(414, "the request's URL is longer than 8 KiB"));
    }
    let method = Method::parse(method);
    let fields = Fields::collect(parsed.headers)?;
    let host = fields.host(version)?;
    let (path, query) = target_of(target, &method, host.as_deref())?;
    let framing = fields.framing(version)?;
    let upgrade = fields.upgrade(&method, version, &framing)?;
    let request = HttpRequest {
        method,
        path,
        query,
        content_type: fields.content_type,
        if_match: fields.if_match,
        if_none_match: fields.if_none_match,
        origin: fields.origin,
        host,
        authorization: fields.authorization.map(Secret::new),
        upgrade,
        body: Bytes::new(),
    };
    Ok((request, framing))
}

impl Method {
    fn parse(text: &str) -> Self {
        match text {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "PATCH" => Self::Patch,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            other => Self::Other(other.into()),
        }
    }
}

fn refuse(status: u16, text: &str) -> HttpResponse {
    HttpResponse::error(status, text)
}

/// The fields we read; all others are passed over.
#[derive(Default)]
struct Fields {
    authorization: Option<String>,
    connection: Option<String>,
    content_length: Option<String>,
    content_type: Option<String>,
    expect: Option<String>,
    host: Option<String>,
    if_match: Option<String>,
    if_none_match: Option<String>,
    origin: Option<String>,
    transfer_encoding: Option<String>,
    upgrade: Option<String>,
    websocket_key: Option<String>,
    websocket_version: Option<String>,
}

impl Fields {
    fn collect(headers: &[httparse::Header<'_>]) -> Result<Self, HttpResponse> {
        let mut fields = Self::default();
        for header in headers {
            let name = header.name.to_ascii_lowercase();
            let (slot, is_list) = match name.as_str() {
                "authorization" => (&mut fields.authorization, false),
                "connection" => (&mut fields.connection, true),
                "content-length" => (&mut fields.content_length, false),
                "content-type" => (&mut fields.content_type, false),
                "expect" => (&mut fields.expect, false),
                "host" => (&mut fields.host, false),
                "if-match" => (&mut fields.if_match, true),
                "if-none-match" => (&mut fields.if_none_match, true),
                "origin" => (&mut fields.origin, true),
                "transfer-encoding" => (&mut fields.transfer_encoding, true),
                "upgrade" => (&mut fields.upgrade, true),
                "sec-websocket-key" => (&mut fields.websocket_key, false),
                "sec-websocket-version" => (&mut fields.websocket_version, false),
                _ => continue,
            };
            let Ok(value) = std::str::from_utf8(header.value) else {
                return Err(refuse(400, "a header field that is not text"));
            };
            match slot {
                None => *slot = Some(value.into()),
                Some(_) if !is_list => {
                    return Err(refuse(
                        400,
                        "a header field that must stand once came twice",
                    ));
                }
                Some(list) => {
                    list.push_str(", ");
                    list.push_str(value);
                }
            }
        }
        Ok(fields)
    }

    /// RFC 9112 §3.2: one, legal `Host`, unless the request is older than that field.
    fn host(&self, version: u8) -> Result<Option<String>, HttpResponse> {
        let legal =
            |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(&byte);
        match &self.host {
            Some(host) if !host.is_empty() && host.bytes().all(legal) => Ok(Some(host.clone())),
            Some(_) => Err(refuse(400, "a Host field that is no host")),
            None if version == 0 => Ok(None),
            None => Err(refuse(400, "a request without a Host field")),
        }
    }

    /// RFC 9112 §6, without transfer codings: a body has a plain length or is none.
    fn framing(&self, version: u8) -> Result<Framing, HttpResponse> {
        if let Some(coding) = &self.transfer_encoding {
            let alone = self.content_length.is_none() && version > 0;
            return Err(if alone && coding.eq_ignore_ascii_case("chunked") {
                refuse(411, "send a Content-Length instead of chunks")
            } else {
                refuse(400, "a Transfer-Encoding that cannot be trusted")
            });
        }
        let body_bytes = match &self.content_length {
            None => 0,
            Some(text) => content_length(text)?,
        };
        let expects_continue = match &self.expect {
            None => false,
            Some(text) if text.eq_ignore_ascii_case("100-continue") => version > 0,
            Some(_) => return Err(refuse(417, "only 100-continue can be expected")),
        };
        let keep_alive = version > 0 && !has_token(self.connection.as_deref(), "close");
        Ok(Framing {
            body_bytes,
            expects_continue,
            keep_alive,
        })
    }

    fn upgrade(
        &self,
        method: &Method,
        version: u8,
        framing: &Framing,
    ) -> Result<Option<WebSocketUpgrade>, HttpResponse> {
        let asks = has_token(self.upgrade.as_deref(), "websocket")
            && has_token(self.connection.as_deref(), "upgrade")
            && version > 0;
        if !asks {
            return Ok(None);
        }
        if *method != Method::Get || framing.body_bytes > 0 {
            return Err(refuse(
                400,
                "a WebSocket begins with GET and without a body",
            ));
        }
        if self.websocket_version.as_deref() != Some("13") {
            return Err(refuse(426, "speak WebSocket version 13 (RFC 6455)")
                .header("Upgrade", "websocket")
                .header("Sec-WebSocket-Version", "13"));
        }
        match &self.websocket_key {
            Some(key) if is_websocket_key(key) => Ok(Some(WebSocketUpgrade { key: key.clone() })),
            Some(_) | None => Err(refuse(400, "a Sec-WebSocket-Key is 16 bytes in base64")),
        }
    }
}

/// RFC 9110 §8.6: digits and nothing else, so that no other reader sees another number.
fn content_length(text: &str) -> Result<usize, HttpResponse> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refuse(400, "a Content-Length that is no number"));
    }
    let Ok(length) = text.parse::<u64>() else {
        return Err(refuse(400, "a Content-Length that is no number"));
    };
    match usize::try_from(length) {
        Ok(length) if length <= HTTP_BODY_BYTES_MAX => Ok(length),
        Ok(_) | Err(_) => Err(refuse(413, "the body is larger than 64 KiB")),
    }
}

fn has_token(list: Option<&str>, token: &str) -> bool {
    let mut tokens = list.unwrap_or_default().split(',');
    tokens.any(|word| word.trim().eq_ignore_ascii_case(token))
}

/// Base64 of 16 bytes: 22 digits and two signs of padding.
fn is_websocket_key(key: &str) -> bool {
    let Some(digits) = key.strip_suffix("==") else {
        return false;
    };
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    digits.len() == 22 && digits.bytes().all(legal)
}

type Target = (String, Vec<(String, String)>);

/// RFC 9112 §3.2: origin-form, absolute-form of our own host, or `*`.
fn target_of(target: &str, method: &Method, host: Option<&str>) -> Result<Target, HttpResponse> {
    let wrong = || refuse(400, "a URL that is no legal path");
    if target == "*" && *method == Method::Options {
        return Ok((target.into(), Vec::new()));
    }
    let origin_form = match target.split_once("://") {
        Some((scheme, rest)) if !target.starts_with('/') => {
            let is_web = ["http", "https"]
                .iter()
                .any(|s| scheme.eq_ignore_ascii_case(s));
            let end = rest.find('/').ok_or_else(wrong)?;
            let (authority, path) = rest.split_at(end);
            if !is_web || !host.is_some_and(|host| host.eq_ignore_ascii_case(authority)) {
                return Err(refuse(400, "a URL of another host than the Host field's"));
            }
            path
        }
        Some(_) | None => target,
    };
    let (path, query) = origin_form.split_once('?').unwrap_or((origin_form, ""));
    let path = decode_path(path).ok_or_else(wrong)?;
    let query = decode_query(query).ok_or_else(wrong)?;
    Ok((path, query))
}

fn decode_path(raw: &str) -> Option<String> {
    let encoded_slash = |(index, _): (usize, &str)| {
        let digits = raw.get(index + 1..index + 3).unwrap_or_default();
        digits.eq_ignore_ascii_case("2f")
    };
    if raw.match_indices('%').any(encoded_slash) {
        return None;
    }
    let path = decode(raw, false)?;
    let legal = path.starts_with('/')
        && !path.chars().any(|c| c.is_control() || c == '\\')
        && !path
            .split('/')
            .any(|segment| segment == "." || segment == "..");
    legal.then_some(path)
}

fn decode_query(raw: &str) -> Option<Vec<(String, String)>> {
    let pairs: Vec<&str> = raw
        .split('&')
        .filter(|pair| !pair.is_empty())
        .take(HTTP_QUERY_PAIRS_MAX + 1)
        .collect();
    if pairs.len() > HTTP_QUERY_PAIRS_MAX {
        return None;
    }
    let decode_pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((decode(key, true)?, decode(value, true)?))
    };
    pairs.into_iter().map(decode_pair).collect()
}

/// Percent-decodes once (RFC 3986 §2.1). Refuses raw bytes that no URL holds, a broken escape,
/// NUL, and what is not UTF-8.
fn decode(raw: &str, plus_is_space: bool) -> Option<String> {
    let mut decoded = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                decoded.push(u8::try_from(high * 16 + low).ok()?);
            }
            b'+' if plus_is_space => decoded.push(b' '),
            b'#' => return None,
            0x21..=0x7e => decoded.push(byte),
            _ => return None,
        }
    }
    let text = String::from_utf8(decoded).ok()?;
    (!text.contains('\0')).then_some(text)
}
