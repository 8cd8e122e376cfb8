//! RFC 3339 timestamps in UTC.

use std::time::Duration;

const SECONDS_PER_DAY: u64 = 86_400;
/// Days from 0000-03-01 to 1970-01-01 in the proleptic Gregorian calendar.
const DAYS_TO_UNIX_EPOCH: u64 = 719_468;
/// Days of 400 years.
const DAYS_PER_ERA: u64 = 146_097;

/// `2026-11-22T19:00:00.123Z` (RFC 3339 §5.6) of a time since the Unix epoch.
#[must_use]
pub fn rfc3339(wall: Duration) -> String {
    let (days, second) = (
        wall.as_secs() / SECONDS_PER_DAY,
        wall.as_secs() % SECONDS_PER_DAY,
    );
    let (year, month, day) = civil_date(days);
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    let (second, millis) = (second % 60, wall.subsec_millis());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Year, month and day of a day counted from the Unix epoch. Years begin in March here, so that
/// the leap day is the last of one.
fn civil_date(days: u64) -> (u64, u64, u64) {
    let days = days.saturating_add(DAYS_TO_UNIX_EPOCH);
    let (era, day_of_era) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    // Every 4th year but the 100th, and the 400th again, has a day more.
    let leap_days = day_of_era / 1_460 + day_of_era / 146_096 - day_of_era / 36_524;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March have 153 days in five.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_read_as_the_calendar_says() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_795_374_000, "2026-11-22T19:00:00.000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(Duration::from_secs(seconds)), text);
        }
        assert!(rfc3339(Duration::from_millis(7)).ends_with(":00.007Z"));
        assert!(rfc3339(Duration::MAX).ends_with('Z'));
    }

    #[test]
    fn every_day_of_four_centuries_follows_the_day_before() {
        let (mut year, mut month, mut day) = civil_date(0);
        for days in 1..DAYS_PER_ERA {
            let next = civil_date(days);
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = [
                31,
                28 + u64::from(leap),
                31,
                30,
                31,
                30,
                31,
                31,
                30,
                31,
                30,
                31,
            ];
            let expected = match (month, day) {
                (12, 31) => (year + 1, 1, 1),
                _ if day == length[usize::try_from(month - 1).unwrap()] => (year, month + 1, 1),
                _ => (year, month, day + 1),
            };
            assert_eq!(next, expected);
            (year, month, day) = next;
        }
    }
}
