//! Points in time and spans of time, with Go's text forms.
//!
//! Durations count nanoseconds in an `i64`, as Go's do; timestamps lie in the years 1 to 9999. Both refuse
//! what does not fit. Zone data comes from the system, or from jiff's copy of it.

use std::fmt;

use jiff::tz::TimeZone;

use crate::error::EvalError;

const NANOS_PER_SECOND: i64 = 1_000_000_000;
/// 0001-01-01T00:00:00Z
const SECONDS_MIN: i64 = -62_135_596_800;
/// 9999-12-31T23:59:59Z
const SECONDS_MAX: i64 = 253_402_300_799;

/// A span of time in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(i64);

impl Duration {
    /// A duration of this many nanoseconds.
    #[must_use]
    pub fn from_nanoseconds(nanoseconds: i64) -> Self {
        Self(nanoseconds)
    }

    /// Its length in nanoseconds.
    #[must_use]
    pub fn nanoseconds(self) -> i64 {
        self.0
    }

    /// Reads Go's form: `1h15m30.918s`, `-1.5ms`.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, mut rest) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        if rest == "0" {
            return Some(Self(0));
        }
        if rest.is_empty() {
            return None;
        }
        let mut total: i128 = 0;
        while !rest.is_empty() {
            let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
            let (number, tail) = rest.split_at(number_end);
            let unit_end = tail
                .find(|c: char| c.is_ascii_digit() || c == '.')
                .unwrap_or(tail.len());
            let (unit, next) = tail.split_at(unit_end);
            total += parse_number(number, unit_nanoseconds(unit)?)?;
            if total > 1_i128 << 63 {
                return None;
            }
            rest = next;
        }
        i64::try_from(if negative { -total } else { total })
            .ok()
            .map(Self)
    }

    /// The sum, if it fits.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, if it fits.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The form `string()` gives: seconds, `5025s`, `1.5s`.
    #[must_use]
    pub fn to_seconds_text(self) -> String {
        let sign = if self.0 < 0 { "-" } else { "" };
        let magnitude = self.0.unsigned_abs();
        let (seconds, nanos) = (magnitude / 1_000_000_000, magnitude % 1_000_000_000);
        if nanos == 0 {
            return format!("{sign}{seconds}s");
        }
        let fraction = format!("{nanos:09}");
        format!("{sign}{seconds}.{}s", fraction.trim_end_matches('0'))
    }
}

/// `digits.digits` times a unit, in nanoseconds, truncated as Go does.
fn parse_number(text: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || whole.len() > 20 {
        return None;
    }
    let mut total = if whole.is_empty() {
        0
    } else {
        whole.parse::<i128>().ok()?
    } * unit;
    let mut scale = unit;
    for digit in fraction.bytes().take(18) {
        // Dividing first would lose what later digits need; units are small enough to multiply.
        scale *= 10;
        total = total * 10 + i128::from(digit - b'0') * unit;
    }
    Some(total / (scale / unit))
}

fn unit_nanoseconds(unit: &str) -> Option<i128> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

impl fmt::Display for Duration {
    /// Go's `Duration.String`: `1h15m30.918s`, `1.5ms`, `0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.0.unsigned_abs();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        let fraction = |value: u64, unit: u64| {
            let (whole, rest) = (value / unit, value % unit);
            if rest == 0 {
                return whole.to_string();
            }
            let width = unit.ilog10() as usize;
            let digits = format!("{rest:0width$}");
            format!("{whole}.{}", digits.trim_end_matches('0'))
        };
        match magnitude {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{magnitude}ns"),
            1_000..1_000_000 => write!(f, "{}µs", fraction(magnitude, 1_000)),
            1_000_000..1_000_000_000 => write!(f, "{}ms", fraction(magnitude, 1_000_000)),
            _ => {
                let seconds = magnitude / 1_000_000_000;
                let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
                let rest = fraction(magnitude % 60_000_000_000, 1_000_000_000);
                if hours > 0 {
                    write!(f, "{hours}h")?;
                }
                if hours > 0 || minutes > 0 {
                    write!(f, "{minutes}m")?;
                }
                write!(f, "{rest}s")
            }
        }
    }
}

/// A point in time between the years 1 and 9999, to the nanosecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    seconds: i64,
    nanoseconds: u32,
}

impl Timestamp {
    /// Seconds since 1970 and nanoseconds behind them, if in range.
    #[must_use]
    pub fn new(seconds: i64, nanoseconds: u32) -> Option<Self> {
        let in_range =
            (SECONDS_MIN..=SECONDS_MAX).contains(&seconds) && nanoseconds < 1_000_000_000;
        in_range.then_some(Self {
            seconds,
            nanoseconds,
        })
    }

    /// Whole seconds since 1970.
    #[must_use]
    pub fn seconds(self) -> i64 {
        self.seconds
    }

    /// Nanoseconds behind the whole second.
    #[must_use]
    pub fn nanoseconds(self) -> u32 {
        self.nanoseconds
    }

    /// Whether it is the start of 1970.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.seconds == 0 && self.nanoseconds == 0
    }

    /// Reads RFC 3339: `2009-02-13T23:31:30.5Z`, with an offset or `Z`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let number = |from: usize, to: usize| -> Option<i64> {
            let digits = bytes.get(from..to)?;
            digits.iter().all(u8::is_ascii_digit).then_some(())?;
            Some(
                digits
                    .iter()
                    .fold(0, |value, digit| value * 10 + i64::from(digit - b'0')),
            )
        };
        let is = |at: usize, wanted: u8| bytes.get(at).copied() == Some(wanted);
        if !(is(4, b'-')
            && is(7, b'-')
            && (is(10, b'T') || is(10, b't'))
            && is(13, b':')
            && is(16, b':'))
        {
            return None;
        }
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        let valid = (1..=12).contains(&month) && day >= 1 && day <= days_in_month(year, month);
        if !valid || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let mut at = 19;
        let mut nanoseconds = 0;
        if is(at, b'.') || is(at, b',') {
            let digits = bytes[at + 1..]
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            if digits == 0 {
                return None;
            }
            let kept = digits.min(9);
            nanoseconds = number(at + 1, at + 1 + kept)? as u32 * 10_u32.pow(9 - kept as u32);
            at += 1 + digits;
        }
        let offset = match bytes.get(at)? {
            b'Z' | b'z' if at + 1 == bytes.len() => 0,
            sign @ (b'+' | b'-') if at + 6 == bytes.len() && is(at + 3, b':') => {
                let (hours, minutes) = (number(at + 1, at + 3)?, number(at + 4, at + 6)?);
                if hours > 23 || minutes > 59 {
                    return None;
                }
                let magnitude = hours * 3600 + minutes * 60;
                if *sign == b'-' { -magnitude } else { magnitude }
            }
            _ => return None,
        };
        let seconds =
            days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second
                - offset;
        Self::new(seconds, nanoseconds)
    }

    /// Reads a date, `2009-02-13`, as the start of that day in UTC.
    #[must_use]
    pub fn parse_date(text: &str) -> Option<Self> {
        (text.len() == 10).then(|| Self::parse(&format!("{text}T00:00:00Z")))?
    }

    /// The point in time `duration` later, if in range.
    #[must_use]
    pub fn checked_add(self, duration: Duration) -> Option<Self> {
        let total = self.total_nanoseconds() + i128::from(duration.0);
        Self::from_total(total)
    }

    /// The point in time `duration` earlier, if in range.
    #[must_use]
    pub fn checked_sub(self, duration: Duration) -> Option<Self> {
        Self::from_total(self.total_nanoseconds() - i128::from(duration.0))
    }

    /// The span from `earlier` to this, if it fits a duration.
    pub fn since(self, earlier: Self) -> Option<Duration> {
        i64::try_from(self.total_nanoseconds() - earlier.total_nanoseconds())
            .ok()
            .map(Duration)
    }

    fn total_nanoseconds(self) -> i128 {
        i128::from(self.seconds) * i128::from(NANOS_PER_SECOND) + i128::from(self.nanoseconds)
    }

    fn from_total(total: i128) -> Option<Self> {
        let per_second = i128::from(NANOS_PER_SECOND);
        let seconds = i64::try_from(total.div_euclid(per_second)).ok()?;
        Self::new(seconds, total.rem_euclid(per_second) as u32)
    }

    /// Calendar and clock in a zone.
    #[must_use]
    pub fn civil(self, zone: &Zone) -> Civil {
        let local = self.seconds + zone.offset_seconds(self.seconds);
        let days = local.div_euclid(86_400);
        let second_of_day = local.rem_euclid(86_400);
        let (year, month, day) = civil_from_days(days);
        Civil {
            year,
            month,
            day,
            day_of_year: days - days_from_civil(year, 1, 1),
            day_of_week: (days + 4).rem_euclid(7),
            hour: second_of_day / 3600,
            minute: second_of_day / 60 % 60,
            second: second_of_day % 60,
            nanosecond: i64::from(self.nanoseconds),
        }
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 with as many digits of the second as needed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = self.civil(&Zone::Utc);
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            c.year, c.month, c.day, c.hour, c.minute, c.second
        )?;
        if self.nanoseconds > 0 {
            let fraction = format!("{:09}", self.nanoseconds);
            write!(f, ".{}", fraction.trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

/// Calendar and clock of a point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// Year.
    pub year: i64,
    /// Month, from one.
    pub month: i64,
    /// Day of the month, from one.
    pub day: i64,
    /// Day of the year, from zero.
    pub day_of_year: i64,
    /// Day of the week, Sunday is zero.
    pub day_of_week: i64,
    /// Hour.
    pub hour: i64,
    /// Minute.
    pub minute: i64,
    /// Second.
    pub second: i64,
    /// Nanosecond.
    pub nanosecond: i64,
}

/// A time zone.
#[derive(Clone, Debug)]
pub enum Zone {
    /// UTC.
    Utc,
    /// A fixed offset in seconds east of UTC.
    Fixed(i64),
    /// A named zone with its history.
    Named(TimeZone),
}

impl Zone {
    /// Reads `UTC`, `+11:00`, `-09:30`, `02:00` or a name such as `Asia/Kathmandu`.
    pub fn parse(text: &str) -> Result<Self, EvalError> {
        if text.is_empty() || text == "UTC" || text == "Z" {
            return Ok(Self::Utc);
        }
        let unknown = || EvalError::invalid(format!("unknown time zone {text}"));
        if let Some((hours, minutes)) = text.split_once(':') {
            let (negative, hours) = match hours.strip_prefix('-') {
                Some(hours) => (true, hours),
                None => (false, hours.strip_prefix('+').unwrap_or(hours)),
            };
            let part = |text: &str, max: i64| {
                let valid = !text.is_empty()
                    && text.len() <= 2
                    && text.bytes().all(|byte| byte.is_ascii_digit());
                valid
                    .then(|| text.parse::<i64>().ok())
                    .flatten()
                    .filter(|value| *value <= max)
            };
            let offset = part(hours, 23).ok_or_else(unknown)? * 3600
                + part(minutes, 59).ok_or_else(unknown)? * 60;
            return Ok(Self::Fixed(if negative { -offset } else { offset }));
        }
        TimeZone::get(text).map(Self::Named).map_err(|_| unknown())
    }

    fn offset_seconds(&self, seconds: i64) -> i64 {
        match self {
            Self::Utc => 0,
            Self::Fixed(offset) => *offset,
            Self::Named(zone) => jiff::Timestamp::from_second(seconds).map_or(0, |timestamp| {
                i64::from(zone.to_offset(timestamp).seconds())
            }),
        }
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date of the Gregorian calendar: years start in March, so that the leap day is
/// their last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_write_as_go_does() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(
                Duration::parse(text).map(|d| d.to_string()).as_deref(),
                expect,
                "{text}"
            );
        };
        check("1h15m30.918s", Some("1h15m30.918s"));
        check("90m", Some("1h30m0s"));
        check("-1.5ms", Some("-1.5ms"));
        check("1.5h", Some("1h30m0s"));
        check(".5s", Some("500ms"));
        check("0", Some("0s"));
        check("1", None);
        check("", None);
        check("1d", None);
        check("320000000000s", None);
        check("9223372036854775807ns", Some("2562047h47m16.854775807s"));
        check("-9223372036854775808ns", Some("-2562047h47m16.854775808s"));
        assert_eq!(
            Duration::parse("1h45m47s")
                .map(Duration::to_seconds_text)
                .as_deref(),
            Some("6347s")
        );
    }

    #[test]
    fn timestamps_read_and_write() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(
                Timestamp::parse(text).map(|t| t.to_string()).as_deref(),
                expect,
                "{text}"
            );
        };
        check("2009-02-13T23:31:30Z", Some("2009-02-13T23:31:30Z"));
        check(
            "2009-02-13T23:31:30.120+01:00",
            Some("2009-02-13T22:31:30.12Z"),
        );
        check("0001-01-01T00:00:00Z", Some("0001-01-01T00:00:00Z"));
        check("0000-01-01T00:00:00Z", None);
        check(
            "9999-12-31T23:59:59.999999999Z",
            Some("9999-12-31T23:59:59.999999999Z"),
        );
        check("2023-02-29T00:00:00Z", None);
        check("2024-02-29T00:00:00Z", Some("2024-02-29T00:00:00Z"));
        check("2009-02-13 23:31:30Z", None);
        assert_eq!(
            Timestamp::parse_date("2024-03-01").map(Timestamp::seconds),
            Some(1_709_251_200)
        );
    }
}
