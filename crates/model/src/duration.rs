//! Lengths of time as people write them: on the command line as upstream's flags have them, and in files.

use std::time::Duration;

/// A length of time as Go writes it: `15s`, `1m30s`, `500ms`; `0` needs no unit.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || "write a duration such as 15s, 1m30s or 500ms".to_owned();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut rest, mut sum) = (text, Duration::ZERO);
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let (number, after) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| bad())?;
        let letters = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, next) = after.split_at(letters);
        let milliseconds: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(bad()),
        };
        let part = number.checked_mul(milliseconds).ok_or_else(bad)?;
        sum = sum
            .checked_add(Duration::from_millis(part))
            .ok_or_else(bad)?;
        rest = next;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_upstream_writes_them() {
        let check = |text: &str, expect: Option<u64>| {
            let milliseconds = parse_duration(text).ok().map(|d| d.as_millis() as u64);
            assert_eq!(milliseconds, expect, "{text}");
        };
        check("15s", Some(15_000));
        check("1m30s", Some(90_000));
        check("500ms", Some(500));
        check("1h", Some(3_600_000));
        check("0", Some(0));
        check("", None);
        check("15", None);
        check("s", None);
        check("99999999999999999999s", None);
    }
}
