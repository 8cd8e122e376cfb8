//! As much of a STUN message as it takes to know whose it is (RFC 8489 §5, §14.3). Nothing here
//! is proved: that is for the owner of the password.

/// Header, in bytes.
const HEADER_BYTES: usize = 20;
/// Bytes 4 to 7 of every message.
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// Type of a binding request.
const BINDING_REQUEST: u16 = 0x0001;
/// Attribute types.
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
/// Longest user name, in bytes (RFC 8489 §14.3: fewer than 509).
const USERNAME_BYTES_MAX: usize = 508;
/// Attributes looked at: a browser's check has eight.
const ATTRIBUTES_MAX: usize = 32;

/// A well-formed message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message<'a> {
    /// A binding request for the one who was given this ufrag.
    Request {
        /// The user name as far as its colon (RFC 8445 §7.2.2).
        ufrag: &'a str,
    },
    /// A response, an indication, or a request that names nobody.
    Other,
}

/// Whether the magic cookie is where STUN has it.
pub(super) fn has_cookie(datagram: &[u8]) -> bool {
    datagram.get(4..8) == Some(&MAGIC_COOKIE)
}

/// Reads a message that has the cookie; `None` if its lengths do not add up.
pub(super) fn read(datagram: &[u8]) -> Option<Message<'_>> {
    let (header, attributes) = datagram.split_first_chunk::<HEADER_BYTES>()?;
    let &[t0, t1, l0, l1, ..] = header;
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    if length != attributes.len() || !length.is_multiple_of(4) {
        return None;
    }
    let name = user_name(attributes)?;
    let ufrag = name
        .and_then(|name| name.split_once(':'))
        .map(|parts| parts.0);
    let is_request = u16::from_be_bytes([t0, t1]) == BINDING_REQUEST;
    Some(match ufrag {
        Some(ufrag) if is_request => Message::Request { ufrag },
        Some(_) | None => Message::Other,
    })
}

/// The first user name that message integrity covers; the outer `None` if the attributes are
/// malformed or too many.
fn user_name(attributes: &[u8]) -> Option<Option<&str>> {
    let mut rest = attributes;
    let mut name = None;
    let mut protected = true;
    for _ in 0..ATTRIBUTES_MAX {
        if rest.is_empty() {
            return Some(name);
        }
        let (&[t0, t1, l0, l1], after) = rest.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let (padded, after) = after.split_at_checked(length.next_multiple_of(4))?;
        let value = padded.get(..length)?;
        rest = after;
        match u16::from_be_bytes([t0, t1]) {
            USERNAME if protected && name.is_none() => {
                if length > USERNAME_BYTES_MAX {
                    return None;
                }
                name = Some(std::str::from_utf8(value).ok()?);
            }
            MESSAGE_INTEGRITY => protected = false,
            _ => {}
        }
    }
    rest.is_empty().then_some(name)
}
