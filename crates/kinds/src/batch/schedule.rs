//! Schedules of cron jobs: five fields, or one of a few names, and when they come due.
//!
//! A day must fit its month's field and its week's field; where neither has a star, one of them is enough. A time that
//! a change of clocks leaves out does not come; one that it repeats comes twice, where every hour fits.

use jiff::civil::Date;
use jiff::tz::{self, TimeZone};
use jiff::{SignedDuration, Timestamp, ToSpan as _, Zoned};

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

struct Field {
    low: u64,
    high: u64,
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field {
        low: 0,
        high: 59,
        names: &[],
    },
    Field {
        low: 0,
        high: 23,
        names: &[],
    },
    Field {
        low: 1,
        high: 31,
        names: &[],
    },
    Field {
        low: 1,
        high: 12,
        names: &MONTHS,
    },
    Field {
        low: 0,
        high: 6,
        names: &DAYS,
    },
];

/// Why a schedule does not parse, worded as upstream's parser words it.
pub fn error(schedule: &str) -> Option<String> {
    Schedule::parse(schedule, None).err()
}

/// Years after which a schedule that has not come due never will.
const YEARS_LIMIT: i16 = 5;

/// When something is due.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    rule: Rule,
    zone: TimeZone,
}

#[derive(Debug, Clone, PartialEq)]
enum Rule {
    /// Again and again after this long.
    Every(SignedDuration),
    /// At these minutes, hours, days, months and days of the week.
    Fields([Set; 5]),
}

/// The values that fit a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Set {
    bits: u64,
    /// Whether a star says that any value fits.
    star: bool,
}

impl Set {
    fn has(self, value: i8) -> bool {
        u32::try_from(value).is_ok_and(|value| self.bits >> value & 1 == 1)
    }
}

impl Schedule {
    /// Reads a schedule; `zone` is the time zone it is meant in (UTC where there is none), unless it names one itself.
    /// The error is worded as upstream's parser words it.
    pub fn parse(schedule: &str, zone: Option<&str>) -> Result<Self, String> {
        let mut rest = schedule;
        if rest.is_empty() {
            return Err("empty spec string".to_owned());
        }
        let mut zone = zone_named(zone.unwrap_or_default());
        let named = rest
            .strip_prefix("TZ=")
            .or_else(|| rest.strip_prefix("CRON_TZ="));
        if let Some(named) = named {
            let (name, after) = named.split_once(' ').unwrap_or((named, ""));
            if !is_zone(name) {
                return Err(format!(
                    "provided bad location {name}: unknown time zone {name}"
                ));
            }
            zone = zone_named(name);
            rest = after.trim();
        }
        if rest.starts_with('@') {
            let rule = descriptor(rest)?;
            return Ok(Self { rule, zone });
        }
        let words: Vec<&str> = rest.split_whitespace().collect();
        let words: [&str; 5] = words.try_into().map_err(|words: Vec<&str>| {
            let found = words.len();
            format!(
                "expected exactly 5 fields, found {found}: [{}]",
                words.join(" ")
            )
        })?;
        let rule = fields(words)?;
        Ok(Self { rule, zone })
    }

    /// The first time after another at which it is due; none where there is none for years.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match &self.rule {
            Rule::Every(delay) => {
                let fraction = SignedDuration::from_nanos(i64::from(after.subsec_nanosecond()));
                after.checked_add(*delay).ok()?.checked_sub(fraction).ok()
            }
            Rule::Fields(fields) => {
                let start = after.to_zoned(self.zone.clone());
                next(fields, &start).map(|next| next.timestamp())
            }
        }
    }

    /// The time zone it is meant in.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }
}

/// The time zone of a name that [`is_zone`]; UTC where there is no database of them.
fn zone_named(name: &str) -> TimeZone {
    match name {
        "" | "UTC" | "Local" => TimeZone::UTC,
        name => tz::db().get(name).unwrap_or(TimeZone::UTC),
    }
}

fn next(fields: &[Set; 5], after: &Zoned) -> Option<Zoned> {
    let [minutes, hours, days, months, weekdays] = fields;
    let fits = |date: Date| {
        let (day, weekday) = (
            days.has(date.day()),
            weekdays.has(date.weekday().to_sunday_zero_offset()),
        );
        let both = days.star || weekdays.star;
        months.has(date.month()) && if both { day && weekday } else { day || weekday }
    };
    let end = after.year().saturating_add(YEARS_LIMIT);
    let mut date = after.date();
    while date.year() <= end {
        if !months.has(date.month()) {
            date = date.first_of_month().checked_add(1.month()).ok()?;
            continue;
        }
        if fits(date) {
            let found = first_in(date, *hours, *minutes, after);
            if found.is_some() {
                return found;
            }
        }
        date = date.tomorrow().ok()?;
    }
    None
}

/// The first fitting minute of a day that is after a time.
fn first_in(date: Date, hours: Set, minutes: Set, after: &Zoned) -> Option<Zoned> {
    let zone = after.time_zone();
    let start = date.to_zoned(zone.clone()).ok()?;
    let end = start.tomorrow().ok()?;
    // Hours are walked in real time: one that the clocks leave out is not met, one that they repeat is met twice.
    let mut hour = start;
    while hour < end {
        if hours.has(hour.hour()) {
            let free = (0..60).filter(|minute| minutes.has(*minute));
            for minute in free {
                let offset = i64::from(minute) - i64::from(hour.minute());
                let at = hour.checked_add(SignedDuration::from_mins(offset)).ok()?;
                if offset >= 0 && at > *after && at.hour() == hour.hour() {
                    return Some(at);
                }
            }
        }
        let into = SignedDuration::from_mins(60 - i64::from(hour.minute()));
        hour = hour.checked_add(into).ok()?;
    }
    None
}

fn fields(words: [&str; 5]) -> Result<Rule, String> {
    let mut sets = [Set {
        bits: 0,
        star: false,
    }; 5];
    for ((word, field), set) in words.iter().zip(&FIELDS).zip(&mut sets) {
        for part in word.split(',').filter(|part| !part.is_empty()) {
            let range = field.range(part)?;
            set.bits |= range.bits;
            set.star |= range.star;
        }
    }
    Ok(Rule::Fields(sets))
}

fn descriptor(text: &str) -> Result<Rule, String> {
    match text {
        "@yearly" | "@annually" => return fields(["0", "0", "1", "1", "*"]),
        "@monthly" => return fields(["0", "0", "1", "*", "*"]),
        "@weekly" => return fields(["0", "0", "*", "*", "0"]),
        "@daily" | "@midnight" => return fields(["0", "0", "*", "*", "*"]),
        "@hourly" => return fields(["0", "*", "*", "*", "*"]),
        _ => {}
    }
    let Some(duration) = text.strip_prefix("@every ") else {
        return Err(format!("unrecognized descriptor: {text}"));
    };
    let Some(delay) = go_duration(duration) else {
        return Err(format!(
            "failed to parse duration {text}: time: invalid duration \"{duration}\""
        ));
    };
    // Whole seconds, and at least one.
    Ok(Rule::Every(SignedDuration::from_secs(
        delay.as_secs().max(1),
    )))
}

/// A duration as Go writes it: `1h30m`.
fn go_duration(text: &str) -> Option<SignedDuration> {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let number = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let unit = rest[number..].find(|c: char| c.is_ascii_digit() || c == '.');
        let unit = unit.map_or(rest.len(), |end| number + end);
        let factor = match &rest[number..unit] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += rest[..number].parse::<f64>().ok()? * factor;
        rest = &rest[unit..];
    }
    let duration = SignedDuration::try_from_secs_f64(seconds).ok()?;
    Some(if text.starts_with('-') {
        -duration
    } else {
        duration
    })
}

impl Field {
    fn range(&self, part: &str) -> Result<Set, String> {
        let steps: Vec<&str> = part.split('/').collect();
        let limits: Vec<&str> = steps[0].split('-').collect();
        let any = matches!(limits[0], "*" | "?");
        let (start, mut end) = if any {
            (self.low, self.high)
        } else {
            let start = self.number(limits[0])?;
            match limits.as_slice() {
                [_] => (start, start),
                [_, end] => (start, self.number(end)?),
                _ => return Err(format!("too many hyphens: {part}")),
            }
        };
        let step = match steps.as_slice() {
            [_] => 1,
            [_, step] => {
                if limits.len() == 1 {
                    end = self.high;
                }
                number(step)?
            }
            _ => return Err(format!("too many slashes: {part}")),
        };
        let (low, high) = (self.low, self.high);
        if start < low {
            return Err(format!(
                "beginning of range ({start}) below minimum ({low}): {part}"
            ));
        }
        if end > high {
            return Err(format!(
                "end of range ({end}) above maximum ({high}): {part}"
            ));
        }
        if start > end {
            return Err(format!(
                "beginning of range ({start}) beyond end of range ({end}): {part}"
            ));
        }
        if step == 0 {
            return Err(format!("step of range should be a positive number: {part}"));
        }
        let step = usize::try_from(step).unwrap_or(usize::MAX);
        let bits = (start..=end)
            .step_by(step)
            .fold(0, |bits, at| bits | 1 << at);
        let star = any && step == 1;
        Ok(Set { bits, star })
    }

    fn number(&self, text: &str) -> Result<u64, String> {
        let lower = text.to_lowercase();
        match self.names.iter().position(|name| *name == lower) {
            Some(index) => Ok(self.low + index as u64),
            None => number(text),
        }
    }
}

fn number(text: &str) -> Result<u64, String> {
    match text.parse::<i64>() {
        Ok(found) => u64::try_from(found)
            .map_err(|_| format!("negative number ({found}) not allowed: {text}")),
        Err(_) => Err(format!(
            "failed to parse int from {text}: strconv.Atoi: parsing \"{text}\": invalid syntax"
        )),
    }
}

/// Whether a name is one of a time zone. Where there is no database of them, any is.
pub fn is_zone(name: &str) -> bool {
    let database = tz::db();
    matches!(name, "UTC" | "Local" | "")
        || database.is_definitively_empty()
        || database.get(name).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_come_due() {
        let check = |schedule: &str, zone: &str, after: &str, expect: &[&str]| {
            let schedule = Schedule::parse(schedule, Some(zone)).expect(schedule);
            let mut at: Timestamp = after.parse().expect("a time");
            for expect in expect {
                at = schedule.next(at).expect("it comes due");
                assert_eq!(at.to_string(), *expect, "{schedule:?}");
            }
        };
        let noon = "2026-03-14T12:00:30Z";
        check(
            "* * * * *",
            "",
            noon,
            &["2026-03-14T12:01:00Z", "2026-03-14T12:02:00Z"],
        );
        check(
            "*/15 * * * *",
            "",
            "2026-03-14T12:00:00Z",
            &["2026-03-14T12:15:00Z"],
        );
        check("5 0 * * *", "", noon, &["2026-03-15T00:05:00Z"]);
        check("0 0 29 2 *", "", noon, &["2028-02-29T00:00:00Z"]);
        check(
            "@weekly",
            "",
            noon,
            &["2026-03-15T00:00:00Z", "2026-03-22T00:00:00Z"],
        );
        check("@yearly", "", noon, &["2027-01-01T00:00:00Z"]);
        check("@every 90m", "", noon, &["2026-03-14T13:30:30Z"]);
        check("@every 1ms", "", noon, &["2026-03-14T12:00:31Z"]);
        // Either day is enough where neither field is a star.
        check(
            "0 0 20 * fri",
            "",
            noon,
            &["2026-03-20T00:00:00Z", "2026-03-27T00:00:00Z"],
        );
        check("0 0 */1 * mon", "", noon, &["2026-03-16T00:00:00Z"]);
        check(
            "0 6-16/4 * * 1-5",
            "",
            noon,
            &["2026-03-16T06:00:00Z", "2026-03-16T10:00:00Z"],
        );
        check(
            "TZ=Asia/Tokyo 0 9 * * *",
            "",
            noon,
            &["2026-03-15T00:00:00Z"],
        );
        check("0 9 * * *", "Asia/Tokyo", noon, &["2026-03-15T00:00:00Z"]);
    }

    #[test]
    fn clocks_leave_out_and_repeat_hours() {
        let check = |schedule: &str, after: &str, expect: &[&str]| {
            let schedule = Schedule::parse(schedule, Some("Europe/Berlin")).expect(schedule);
            let mut at: Timestamp = after.parse().expect("a time");
            for expect in expect {
                at = schedule.next(at).expect("it comes due");
                assert_eq!(at.to_string(), *expect, "{schedule:?}");
            }
        };
        // From 02:00 to 03:00 on 2026-03-29, back from 03:00 to 02:00 on 2026-10-25.
        check(
            "30 2 * * *",
            "2026-03-28T12:00:00Z",
            &["2026-03-30T00:30:00Z"],
        );
        check(
            "30 * * * *",
            "2026-03-29T00:00:00Z",
            &["2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"],
        );
        let twice = [
            "2026-10-25T00:30:00Z",
            "2026-10-25T01:30:00Z",
            "2026-10-26T01:30:00Z",
        ];
        check("30 2 * * *", "2026-10-24T12:00:00Z", &twice);
    }

    #[test]
    fn some_schedules_never_come_due() {
        let never = Schedule::parse("59 23 31 2 *", None).expect("five fields");
        assert_eq!(never.next(Timestamp::UNIX_EPOCH), None);
        let empty = Schedule::parse(", * * * *", None).expect("five fields");
        assert_eq!(empty.next(Timestamp::UNIX_EPOCH), None);
    }

    #[test]
    fn schedules_have_five_fields() {
        let check = |schedule: &str, expect: Option<&str>| {
            assert_eq!(error(schedule).as_deref(), expect, "{schedule}");
        };
        check("*/5 * * * *", None);
        check("0 0 1 jan mon-fri", None);
        check("@hourly", None);
        check("@every 1h30m", None);
        check("@never", Some("unrecognized descriptor: @never"));
        check(
            "61 * * * *",
            Some("end of range (61) above maximum (59): 61"),
        );
        check(
            "* * * *",
            Some("expected exactly 5 fields, found 4: [* * * *]"),
        );
        check(
            "5-1 * * * *",
            Some("beginning of range (5) beyond end of range (1): 5-1"),
        );
        check(
            "*/0 * * * *",
            Some("step of range should be a positive number: */0"),
        );
        check(
            "x * * * *",
            Some("failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"),
        );
    }
}
