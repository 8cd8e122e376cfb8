//! When a certificate is valid: the two times of X.509's Validity (RFC 5280 §4.1.2.5), read from DER
//! (X.690). Nothing else of a certificate is looked at here; rustls does that.

use std::ops::RangeInclusive;
use std::time::{Duration, UNIX_EPOCH};

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
/// `[0] EXPLICIT`, the version of a certificate.
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The first and the last moment of a certificate, since the Unix epoch; what was before it counts
/// as its beginning. `None` if it is no certificate.
pub(super) fn validity(certificate: &[u8]) -> Option<RangeInclusive<Duration>> {
    let mut outer = Der(certificate);
    let mut certificate = Der(outer.expect(SEQUENCE)?);
    let mut body = Der(certificate.expect(SEQUENCE)?);
    if body.0.first() == Some(&VERSION) {
        body.expect(VERSION)?;
    }
    body.expect(INTEGER)?;
    // Signature algorithm, then the issuer's name.
    body.expect(SEQUENCE)?;
    body.expect(SEQUENCE)?;
    let mut validity = Der(body.expect(SEQUENCE)?);
    let first = time(validity.next()?)?;
    let last = time(validity.next()?)?;
    Some(first..=last)
}

/// A moment as people read it.
pub(super) fn date(moment: Duration) -> String {
    /// The last second of the year 9999, beyond which the format has no years.
    const LAST: Duration = Duration::from_secs(253_402_300_799);
    httpdate::fmt_http_date(UNIX_EPOCH + moment.min(LAST))
}

/// What is left of a DER encoding.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next element: its tag and its contents.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], mut rest) = self.0.split_first_chunk()?;
        let length = match first {
            0..=0x7f => usize::from(first),
            // So many bytes of length follow.
            0x81..=0x83 => {
                let count = usize::from(first & 0x0f);
                let (bytes, after) = rest.split_at_checked(count)?;
                rest = after;
                bytes
                    .iter()
                    .fold(0, |sum, byte| sum << 8 | usize::from(*byte))
            }
            _ => return None,
        };
        let (contents, after) = rest.split_at_checked(length)?;
        self.0 = after;
        Some((tag, contents))
    }

    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, contents) = self.next()?;
        (found == tag).then_some(contents)
    }
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`.
fn time((tag, text): (u8, &[u8])) -> Option<Duration> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i64 = year.parse().ok()?;
            // RFC 5280 §4.1.2.5.1: 50 to 99 are of the last century.
            (if year < 50 { 2_000 } else { 1_900 } + year, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let pair = |at: usize| rest.get(at..at.checked_add(2)?)?.parse::<i64>().ok();
    let (month, day) = (pair(0)?, pair(2)?);
    let (hour, minute, second) = (pair(4)?, pair(6)?, pair(8)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let hours = days_since_epoch(year, month, day) * 24 + hour;
    let seconds = (hours * 60 + minute) * 60 + second;
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, for years 1900 to 9999.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    /// Days before each month of a common year that begins in March.
    const BEFORE: [i64; 12] = [306, 337, 0, 31, 61, 92, 122, 153, 184, 214, 245, 275];
    /// From 0000-03-01 to 1970-01-01.
    const TO_EPOCH: i64 = 719_468;
    let year = if month <= 2 { year - 1 } else { year };
    let leaps = year / 4 - year / 100 + year / 400;
    let months = usize::try_from(month - 1)
        .ok()
        .and_then(|index| BEFORE.get(index).copied())
        .unwrap_or(0);
    year * 365 + leaps + months + day - 1 - TO_EPOCH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        assert_eq!(days_since_epoch(1970, 1, 1), 0);
        assert_eq!(days_since_epoch(1970, 3, 1), 59);
        assert_eq!(days_since_epoch(2000, 2, 29), 11_016);
        assert_eq!(days_since_epoch(2024, 12, 31), 20_088);
        assert_eq!(days_since_epoch(2026, 11, 24), 20_781);
    }

    #[test]
    fn both_forms_of_time_are_read() {
        let second = |tag, text: &str| time((tag, text.as_bytes())).map(|at| at.as_secs());
        assert_eq!(second(UTC_TIME, "700101000001Z"), Some(1));
        assert_eq!(second(UTC_TIME, "261124220857Z"), Some(1_795_558_137));
        assert_eq!(
            second(GENERALIZED_TIME, "20261124220857Z"),
            Some(1_795_558_137)
        );
        assert_eq!(second(UTC_TIME, "500101000000Z"), Some(0), "1950");
        for wrong in ["", "Z", "26112422085Z", "261324220857Z", "26112422085+Z"] {
            assert_eq!(second(UTC_TIME, wrong), None, "{wrong}");
        }
        assert_eq!(second(INTEGER, "261124220857Z"), None);
    }

    #[test]
    fn a_real_certificate_has_its_times_and_any_part_of_it_has_none() {
        let params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        let der: &[u8] = made.der();
        // What rcgen takes unless told otherwise: 1975 to 4096.
        let validity = validity(der).unwrap();
        assert_eq!(date(*validity.start()), "Wed, 01 Jan 1975 00:00:00 GMT");
        assert_eq!(date(*validity.end()), "Sun, 01 Jan 4096 00:00:00 GMT");
        for length in 0..der.len() {
            assert_eq!(super::validity(&der[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn changed_bytes_never_panic() {
        let params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        for at in 0..der.len() {
            for value in [0, 0x17, 0x7f, 0x80, 0x83, 0x84, 0xff] {
                let mut changed = der.clone();
                changed[at] = value;
                let _ = validity(&changed);
            }
        }
    }
}
