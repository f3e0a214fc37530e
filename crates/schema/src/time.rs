//! Times as Go's `time.Parse` reads them in the two layouts Kubernetes uses.

use jiff::SignedDuration;
use jiff::civil::DateTime;

/// A layout of RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Whole seconds when written; a fraction is read and dropped.
    Seconds,
    /// Exactly six fractional digits.
    Micros,
}

impl Layout {
    fn text(self) -> &'static str {
        match self {
            Self::Seconds => "2006-01-02T15:04:05Z07:00",
            Self::Micros => "2006-01-02T15:04:05.000000Z07:00",
        }
    }
}

/// Whether `text` has the written form of `layout`, in UTC, with plausible fields.
pub(crate) fn is_canonical(text: &str, layout: Layout) -> bool {
    let length = if layout == Layout::Seconds { 20 } else { 27 };
    text.len() == length && text.ends_with('Z') && parse(text, layout).as_deref() == Ok(text)
}

/// Reads a time and writes it in UTC; the error is worded as Go's.
pub(crate) fn parse(text: &str, layout: Layout) -> Result<String, String> {
    let mut reader = Reader {
        text,
        rest: text,
        layout,
    };
    let year = reader.number(4, "2006")?;
    reader.literal("-", "-")?;
    let month = reader.number(2, "01")?;
    reader.in_range(month, 1, 12, "month")?;
    reader.literal("-", "-")?;
    let day = reader.number(2, "02")?;
    reader.literal("T", "T")?;
    let hour = reader.number(2, "15")?;
    reader.in_range(hour, 0, 23, "hour")?;
    reader.literal(":", ":")?;
    let minute = reader.number(2, "04")?;
    reader.in_range(minute, 0, 59, "minute")?;
    reader.literal(":", ":")?;
    let second = reader.number(2, "05")?;
    reader.in_range(second, 0, 59, "second")?;
    let nanosecond = reader.fraction()?;
    let offset_seconds = reader.offset()?;
    if !reader.rest.is_empty() {
        return Err(format!(
            "parsing time {text:?}: extra text: {:?}",
            reader.rest
        ));
    }
    let narrow = |number: i64| i8::try_from(number).unwrap_or(0);
    let local = DateTime::new(
        i16::try_from(year).unwrap_or(0),
        narrow(month),
        narrow(day),
        narrow(hour),
        narrow(minute),
        narrow(second),
        nanosecond,
    );
    let utc = local.ok().and_then(|local| {
        local
            .checked_sub(SignedDuration::from_secs(offset_seconds))
            .ok()
    });
    let Some(utc) = utc else {
        return Err(format!("parsing time {text:?}: day out of range"));
    };
    let whole = utc.strftime("%Y-%m-%dT%H:%M:%S");
    Ok(match layout {
        Layout::Seconds => format!("{whole}Z"),
        Layout::Micros => format!("{whole}.{:06}Z", utc.subsec_nanosecond() / 1000),
    })
}

struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
    layout: Layout,
}

impl Reader<'_> {
    fn error(&self, part: &str) -> String {
        let (text, rest, layout) = (self.text, self.rest, self.layout.text());
        format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {part:?}")
    }

    fn in_range(&self, number: i64, low: i64, high: i64, name: &str) -> Result<(), String> {
        if (low..=high).contains(&number) {
            return Ok(());
        }
        Err(format!("parsing time {:?}: {name} out of range", self.text))
    }

    fn number(&mut self, width: usize, part: &str) -> Result<i64, String> {
        let digits = self
            .rest
            .get(..width)
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
        let number = digits
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| self.error(part))?;
        self.rest = &self.rest[width..];
        Ok(number)
    }

    fn literal(&mut self, expect: &str, part: &str) -> Result<(), String> {
        self.rest = self
            .rest
            .strip_prefix(expect)
            .ok_or_else(|| self.error(part))?;
        Ok(())
    }

    /// The fraction of a second in nanoseconds.
    fn fraction(&mut self) -> Result<i32, String> {
        let digits: &str = match self.rest.strip_prefix('.') {
            Some(rest) => &rest[..rest.bytes().take_while(u8::is_ascii_digit).count()],
            None => "",
        };
        let is_wanted = digits.len() == 6;
        if self.layout == Layout::Micros && !is_wanted {
            return Err(self.error(".000000"));
        }
        if digits.is_empty() {
            return Ok(0);
        }
        self.rest = &self.rest[1 + digits.len()..];
        let nine: String = digits.chars().chain("000000000".chars()).take(9).collect();
        Ok(nine.parse().unwrap_or(0))
    }

    /// The offset from UTC in seconds.
    fn offset(&mut self) -> Result<i64, String> {
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(0);
        }
        let bytes = self.rest.as_bytes();
        let sign = match bytes.first() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return Err(self.error("Z07:00")),
        };
        let digit = |at: usize| {
            bytes
                .get(at)
                .filter(|b| b.is_ascii_digit())
                .map(|b| i64::from(b - b'0'))
        };
        let parts = (
            digit(1),
            digit(2),
            bytes.get(3) == Some(&b':'),
            digit(4),
            digit(5),
        );
        let (Some(h1), Some(h2), true, Some(m1), Some(m2)) = parts else {
            return Err(self.error("Z07:00"));
        };
        self.rest = &self.rest[6..];
        Ok(sign * ((h1 * 10 + h2) * 3600 + (m1 * 10 + m2) * 60))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_go_reads_them() {
        let check = |text: &str, layout, expect: &str| {
            let found = parse(text, layout).unwrap_or_else(|error| error);
            assert_eq!(found, expect);
        };
        check(
            "2024-01-01T00:00:00Z",
            Layout::Seconds,
            "2024-01-01T00:00:00Z",
        );
        check(
            "2024-01-01T01:30:00.5+01:30",
            Layout::Seconds,
            "2024-01-01T00:00:00Z",
        );
        check(
            "2024-01-01T00:00:00.123456Z",
            Layout::Micros,
            "2024-01-01T00:00:00.123456Z",
        );
        check(
            "2024-01-01T00:00:00Z",
            Layout::Micros,
            r#"parsing time "2024-01-01T00:00:00Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "Z" as ".000000""#,
        );
        check(
            "2024-01-01T00:00:00.5Z",
            Layout::Micros,
            r#"parsing time "2024-01-01T00:00:00.5Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse ".5Z" as ".000000""#,
        );
        check(
            "soon",
            Layout::Seconds,
            r#"parsing time "soon" as "2006-01-02T15:04:05Z07:00": cannot parse "soon" as "2006""#,
        );
        check(
            "2024-13-01T00:00:00Z",
            Layout::Seconds,
            r#"parsing time "2024-13-01T00:00:00Z": month out of range"#,
        );
        check(
            "2024-02-30T00:00:00Z",
            Layout::Seconds,
            r#"parsing time "2024-02-30T00:00:00Z": day out of range"#,
        );
    }
}
