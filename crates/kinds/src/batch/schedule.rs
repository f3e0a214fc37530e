//! Schedules of cron jobs: five fields, or one of a few names.

use jiff::tz;

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const NAMED: [&str; 7] = [
    "@yearly",
    "@annually",
    "@monthly",
    "@weekly",
    "@daily",
    "@midnight",
    "@hourly",
];

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
    let mut rest = schedule;
    if rest.is_empty() {
        return Some("empty spec string".to_owned());
    }
    if let Some(named) = rest
        .strip_prefix("TZ=")
        .or_else(|| rest.strip_prefix("CRON_TZ="))
    {
        let (zone, after) = named.split_once(' ').unwrap_or((named, ""));
        if !is_zone(zone) {
            return Some(format!(
                "provided bad location {zone}: unknown time zone {zone}"
            ));
        }
        rest = after.trim();
    }
    if rest.starts_with('@') {
        return descriptor(rest);
    }
    let words: Vec<&str> = rest.split_whitespace().collect();
    if words.len() != FIELDS.len() {
        let found = words.len();
        return Some(format!(
            "expected exactly 5 fields, found {found}: [{}]",
            words.join(" ")
        ));
    }
    words.iter().zip(&FIELDS).find_map(|(word, field)| {
        word.split(',')
            .filter(|part| !part.is_empty())
            .find_map(|part| field.error(part))
    })
}

fn descriptor(text: &str) -> Option<String> {
    if NAMED.contains(&text) {
        return None;
    }
    let Some(duration) = text.strip_prefix("@every ") else {
        return Some(format!("unrecognized descriptor: {text}"));
    };
    if is_duration(duration) {
        return None;
    }
    Some(format!(
        "failed to parse duration {text}: time: invalid duration \"{duration}\""
    ))
}

/// A duration as Go writes it: `1h30m`.
fn is_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let number = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let unit = rest[number..].find(|c: char| c.is_ascii_digit() || c == '.');
        let unit = unit.map_or(rest.len(), |end| number + end);
        let known = ["ns", "us", "µs", "ms", "s", "m", "h"].contains(&&rest[number..unit]);
        if number == 0 || !known {
            return false;
        }
        rest = &rest[unit..];
    }
    true
}

impl Field {
    fn error(&self, part: &str) -> Option<String> {
        self.range(part).err()
    }

    fn range(&self, part: &str) -> Result<(), String> {
        let steps: Vec<&str> = part.split('/').collect();
        let limits: Vec<&str> = steps[0].split('-').collect();
        let (start, mut end) = if matches!(limits[0], "*" | "?") {
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
        Ok(())
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
