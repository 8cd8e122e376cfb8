//! HTTP answers, and how they are written to the wire (RFC 9112 §4, RFC 9110 §15).

use bytes::Bytes;
use serde::Serialize;

/// One answer. The session adds `Content-Length` and `Connection`; whoever knows the wall clock
/// adds `Date`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpResponse {
    /// Status code, 101 or 200 to 599.
    pub status: u16,
    /// Header fields, in the order they are sent.
    pub headers: Vec<(&'static str, String)>,
    /// The body. Not sent to HEAD, nor with 101, 204 and 304.
    pub body: Bytes,
}

/// The body of every error (the shape MediaMTX's player shows).
#[derive(Serialize)]
struct ErrorBody<'a> {
    status: &'static str,
    error: &'a str,
}

impl HttpResponse {
    /// An answer without fields and body.
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    /// An error: `{"status":"error","error":"…"}`. `text` says what is wrong and what to do.
    #[must_use]
    pub fn error(status: u16, text: &str) -> Self {
        let body = ErrorBody {
            status: "error",
            error: text,
        };
        Self::json(status, serde_json::to_vec(&body).unwrap_or_default())
    }

    /// An answer whose body is JSON text.
    #[must_use]
    pub fn json(status: u16, body: impl Into<Bytes>) -> Self {
        Self::new(status)
            .header("Content-Type", "application/json")
            .header("X-Content-Type-Options", "nosniff")
            .header("Cache-Control", "no-store")
            .body(body)
    }

    /// 405, naming the methods that would do, as in `GET, HEAD`.
    #[must_use]
    pub fn method_not_allowed(allow: &str) -> Self {
        Self::error(405, "this URL does not take that method").header("Allow", allow)
    }

    /// Adds a field. A value that could not stand in one field line (RFC 9110 §5.5) is left out,
    /// so that nothing a peer said can make a line of its own.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        let value = value.into();
        if is_field_value(&value) {
            self.headers.push((name, value));
        }
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Value of the first field of that name, whatever its case.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        let same = |(key, _): &&(&'static str, String)| key.eq_ignore_ascii_case(name);
        self.headers
            .iter()
            .find(same)
            .map(|(_, value)| value.as_str())
    }

    /// The head as bytes. `connection` is the value of that field, if there must be one.
    pub(super) fn head(&self, connection: Option<&str>) -> Vec<u8> {
        let mut text = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        let mut field = |name: &str, value: &str| {
            text.push_str(name);
            text.push_str(": ");
            text.push_str(value);
            text.push_str("\r\n");
        };
        for (name, value) in &self.headers {
            // `headers` is public: what `header` refuses is refused here too.
            if is_field_value(value) {
                field(name, value);
            }
        }
        if self.has_length() {
            field("Content-Length", &self.body.len().to_string());
        }
        if let Some(connection) = connection {
            field("Connection", connection);
        }
        text.push_str("\r\n");
        text.into_bytes()
    }

    /// Whether a body of this status has a length (RFC 9110 §8.6).
    pub(super) fn has_length(&self) -> bool {
        !matches!(self.status, 100..=199 | 204 | 304)
    }
}

fn is_field_value(value: &str) -> bool {
    !value.bytes().any(|byte| byte < 0x20 || byte == 0x7f)
}

/// Reason phrases (RFC 9110 §15). An empty one is legal.
fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_is_the_json_that_players_show() {
        let response = HttpResponse::error(400, "no \"v=0\"");
        assert_eq!(
            &response.body[..],
            br#"{"status":"error","error":"no \"v=0\""}"#
        );
        assert_eq!(response.field("content-type"), Some("application/json"));
    }

    #[test]
    fn head_has_length_and_connection_but_not_for_204() {
        let head = |response: HttpResponse, connection| {
            String::from_utf8(response.head(connection)).unwrap()
        };
        let text = head(HttpResponse::new(200).body("hello"), Some("close"));
        assert_eq!(
            text,
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n"
        );
        let text = head(HttpResponse::new(204), None);
        assert_eq!(text, "HTTP/1.1 204 No Content\r\n\r\n");
    }

    #[test]
    fn a_value_with_a_line_break_is_never_written() {
        let mut response = HttpResponse::new(200);
        response
            .headers
            .push(("Location", "/a\r\nSet-Cookie: b".into()));
        let text = String::from_utf8(response.head(None)).unwrap();
        assert_eq!(text, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    }
}
