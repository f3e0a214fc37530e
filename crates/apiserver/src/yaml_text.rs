//! Values as YAML, laid out as Kubernetes lays it out: keys in a natural order, lists not indented under
//! their key, long text folded after eighty columns, text quoted where it would be read as something else.

use std::cmp::Ordering;
use std::fmt::Write as _;

use serde_json::{Map, Value};

/// The column behind which text is folded at the next blank.
const WIDTH: usize = 80;
/// Deepest nesting that is written; no object the server has comes near.
const DEPTH_MAX: usize = 256;

/// A value as a YAML document. Nothing where it nests too deep.
pub fn to_yaml(value: &Value) -> Option<String> {
    let mut out = String::new();
    match value {
        Value::Object(members) if !members.is_empty() => mapping(&mut out, members, 0, false, 0)?,
        Value::Array(items) if !items.is_empty() => sequence(&mut out, items, 0, false, 0)?,
        other => {
            scalar(&mut out, other, 0);
            out.push('\n');
        }
    }
    Some(out)
}

fn indent(out: &mut String, columns: usize) {
    out.extend(std::iter::repeat_n(' ', columns));
}

/// `inline`: the first member stands on the line that has been begun.
fn mapping(
    out: &mut String,
    members: &Map<String, Value>,
    columns: usize,
    inline: bool,
    depth: usize,
) -> Option<()> {
    if depth > DEPTH_MAX {
        return None;
    }
    let mut members: Vec<(&String, &Value)> = members.iter().collect();
    members.sort_by(|a, b| natural(a.0, b.0));
    for (index, (key, value)) in members.into_iter().enumerate() {
        if index > 0 || !inline {
            indent(out, columns);
        }
        out.push_str(&key_text(key));
        out.push(':');
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                out.push('\n');
                mapping(out, inner, columns + 2, false, depth + 1)?;
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                sequence(out, items, columns, false, depth + 1)?;
            }
            other => {
                out.push(' ');
                scalar(out, other, columns + 2);
                out.push('\n');
            }
        }
    }
    Some(())
}

fn sequence(
    out: &mut String,
    items: &[Value],
    columns: usize,
    inline: bool,
    depth: usize,
) -> Option<()> {
    if depth > DEPTH_MAX {
        return None;
    }
    for (index, item) in items.iter().enumerate() {
        if index > 0 || !inline {
            indent(out, columns);
        }
        out.push_str("- ");
        match item {
            Value::Object(inner) if !inner.is_empty() => {
                mapping(out, inner, columns + 2, true, depth + 1)?;
            }
            Value::Array(inner) if !inner.is_empty() => {
                sequence(out, inner, columns + 2, true, depth + 1)?;
            }
            other => {
                scalar(out, other, columns + 2);
                out.push('\n');
            }
        }
    }
    Some(())
}

/// Digits compare as numbers, letters stand behind everything else.
fn natural(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let Some(at) = (0..a.len().min(b.len())).find(|at| a[*at] != b[*at]) else {
        return a.len().cmp(&b.len());
    };
    match (a[at].is_alphabetic(), b[at].is_alphabetic()) {
        (true, true) => return a[at].cmp(&b[at]),
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let within_number = a[..at]
        .iter()
        .rev()
        .take_while(|c| c.is_ascii_digit())
        .any(|c| *c != '0');
    let lead = u64::from((a[at] == '0' || b[at] == '0') && within_number);
    let run = |text: &[char]| {
        let digits: Vec<u64> = text[at..]
            .iter()
            .map_while(|c| c.to_digit(10).map(u64::from))
            .collect();
        let number = digits
            .iter()
            .fold(lead, |all, digit| all.wrapping_mul(10).wrapping_add(*digit));
        (number, digits.len())
    };
    run(&a).cmp(&run(&b)).then(a[at].cmp(&b[at]))
}

fn key_text(key: &str) -> String {
    match style(key) {
        Style::Plain => key.to_owned(),
        Style::Single => format!("'{}'", key.replace('\'', "''")),
        Style::Double | Style::Literal => double_quoted(key, usize::MAX, 0, 0),
    }
}

fn scalar(out: &mut String, value: &Value, columns: usize) {
    match value {
        Value::String(text) => string(out, text, columns),
        Value::Array(_) => out.push_str("[]"),
        Value::Object(_) => out.push_str("{}"),
        other => {
            let _ = write!(out, "{other}");
        }
    }
}

fn string(out: &mut String, text: &str, columns: usize) {
    let line_start = out.rfind('\n').map_or(0, |at| at + 1);
    let column = out[line_start..].chars().count();
    match style(text) {
        Style::Plain => fold(out, text, column, columns),
        Style::Single => {
            out.push('\'');
            fold(out, &text.replace('\'', "''"), column + 1, columns);
            out.push('\'');
        }
        Style::Double => out.push_str(&double_quoted(text, WIDTH, column, columns)),
        Style::Literal => literal(out, text, columns),
    }
}

/// Writes text, broken at single blanks behind the width.
fn fold(out: &mut String, text: &str, column: usize, columns: usize) {
    let characters: Vec<char> = text.chars().collect();
    let mut column = column;
    for (at, character) in characters.iter().enumerate() {
        let alone = *character == ' '
            && at > 0
            && at + 1 < characters.len()
            && characters[at + 1] != ' '
            && characters[at - 1] != ' ';
        if alone && column > WIDTH {
            out.push('\n');
            indent(out, columns);
            column = columns;
        } else {
            out.push(*character);
            column += 1;
        }
    }
}

fn double_quoted(text: &str, width: usize, column: usize, columns: usize) -> String {
    let mut out = String::from("\"");
    let mut column = column + 1;
    let characters: Vec<char> = text.chars().collect();
    for (at, character) in characters.iter().enumerate() {
        let inner = at > 0 && at + 1 < characters.len();
        if *character == ' ' && inner && column > width && characters[at - 1] != ' ' {
            out.push('\n');
            indent(&mut out, columns);
            column = columns;
            if characters[at + 1] == ' ' {
                out.push('\\');
                column += 1;
            }
            continue;
        }
        let before = out.len();
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0' => out.push_str("\\0"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            '\u{1b}' => out.push_str("\\e"),
            '\u{85}' => out.push_str("\\N"),
            '\u{a0}' => out.push_str("\\_"),
            '\u{2028}' => out.push_str("\\L"),
            '\u{2029}' => out.push_str("\\P"),
            c if is_printable(*c) => out.push(*c),
            c if (*c as u32) <= 0xff => {
                let _ = write!(out, "\\x{:02X}", *c as u32);
            }
            c if (*c as u32) <= 0xffff => {
                let _ = write!(out, "\\u{:04X}", *c as u32);
            }
            c => {
                let _ = write!(out, "\\U{:08X}", *c as u32);
            }
        }
        column += out[before..].chars().count();
    }
    out.push('"');
    out
}

fn literal(out: &mut String, text: &str, columns: usize) {
    out.push('|');
    if text.starts_with([' ', '\n']) {
        out.push('2');
    }
    if !text.ends_with('\n') {
        out.push('-');
    } else if text.ends_with("\n\n") || text == "\n" {
        out.push('+');
    }
    let body = text.strip_suffix('\n').unwrap_or(text);
    for line in body.split('\n') {
        out.push('\n');
        if !line.is_empty() {
            indent(out, columns);
            out.push_str(line);
        }
    }
}

enum Style {
    Plain,
    Single,
    Double,
    Literal,
}

fn is_printable(c: char) -> bool {
    matches!(c, ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}') && c != '\u{feff}'
}

fn style(text: &str) -> Style {
    let is_special = text
        .chars()
        .any(|c| c != '\n' && !is_printable(c) && c as u32 <= 0xffff);
    let blank_before_break = text.contains(" \n");
    if text.contains('\n') {
        return if is_special || blank_before_break || text.ends_with(' ') {
            Style::Double
        } else {
            Style::Literal
        };
    }
    if is_special || resolves(text) {
        return Style::Double;
    }
    if text.is_empty() || !is_plain(text) {
        return Style::Single;
    }
    Style::Plain
}

/// Whether text can stand without quotes.
fn is_plain(text: &str) -> bool {
    let first = text.chars().next().unwrap_or(' ');
    let second_is_blank = text.chars().nth(1).is_none_or(|c| c == ' ');
    let starts_badly = matches!(
        first,
        '#' | ','
            | '['
            | ']'
            | '{'
            | '}'
            | '&'
            | '*'
            | '!'
            | '|'
            | '>'
            | '\''
            | '"'
            | '%'
            | '@'
            | '`'
    ) || (matches!(first, '-' | '?' | ':') && second_is_blank)
        || text.starts_with("---")
        || text.starts_with("...");
    !starts_badly
        && !text.starts_with(' ')
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.contains(" #")
}

/// Whether a reader of YAML 1.1 would take the text for something else than text.
fn resolves(text: &str) -> bool {
    const WORDS: &[&str] = &[
        "", "~", "null", "Null", "NULL", "y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE",
        "on", "On", "ON", "n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off",
        "OFF", ".nan", ".NaN", ".NAN", ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", "-.inf",
        "-.Inf", "-.INF", "<<",
    ];
    WORDS.contains(&text) || is_number(text) || is_time(text)
}

fn is_number(text: &str) -> bool {
    let plain = text.replace('_', "");
    let unsigned = plain.strip_prefix(['+', '-']).unwrap_or(&plain);
    let Some(first) = unsigned.chars().next() else {
        return false;
    };
    if !(first.is_ascii_digit() || first == '.') {
        return false;
    }
    let all =
        |digits: &str, radix: u32| !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = unsigned.strip_prefix(prefix) {
            return all(digits, radix);
        }
    }
    // Numbers of base sixty, which only old readers know.
    if unsigned.contains(':') {
        let mut parts = unsigned.split(':');
        let whole = parts.next().is_some_and(|part| all(part, 10));
        return whole
            && parts.all(|part| {
                let part = part.trim_end_matches('.');
                part.len() <= 2 && all(part, 10)
            });
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    let exponent_fits = exponent
        .is_none_or(|exponent| all(exponent.strip_prefix(['+', '-']).unwrap_or(exponent), 10));
    digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty()) && exponent_fits
}

/// A date, or a date and a time.
fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    let year = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    if year != 4 || bytes.get(4) != Some(&b'-') {
        return false;
    }
    let (date, time) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, ""),
    };
    let parts: Vec<&str> = date.split('-').collect();
    let is_date = parts.len() == 3
        && parts[1..]
            .iter()
            .all(|part| (1..=2).contains(&part.len()) && part.chars().all(|c| c.is_ascii_digit()));
    is_date && (time.is_empty() || time.split(':').count() >= 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(value: &Value, expect: &str) {
        let text = to_yaml(value).expect("not too deep");
        assert_eq!(text, expect);
        let options = serde_saphyr::options! { legacy_octal_numbers: true };
        let back: Value = serde_saphyr::from_str_with_options(&text, options).expect("YAML");
        assert_eq!(back, *value, "{text}");
    }

    #[test]
    fn objects_are_laid_out_as_upstream_does() {
        check(
            &json!({"apiVersion": "v1", "metadata": {"creationTimestamp": "2026-01-02T03:04:05Z",
                "managedFields": [{"fieldsV1": {"f:data": {".": {}, "f:k": {}}}, "time": "x"}],
                "resourceVersion": "7"}, "items": [], "o": {"a": null, "b": 1.5, "c": true}}),
            "apiVersion: v1\nitems: []\nmetadata:\n  creationTimestamp: \"2026-01-02T03:04:05Z\"\n  \
             managedFields:\n  - fieldsV1:\n      f:data:\n        .: {}\n        f:k: {}\n    time: x\n  \
             resourceVersion: \"7\"\no:\n  a: null\n  b: 1.5\n  c: true\n",
        );
    }

    #[test]
    fn text_is_quoted_where_it_must_be() {
        check(
            &json!({"a": "yes", "b": "a: b", "c": "x\ny\n", "d": "1e3", "e": "", "f": " x",
                "g": "tab\there", "h": "it's", "i": "#no", "k10": "-", "k9": "10.0.0.1"}),
            "a: \"yes\"\nb: 'a: b'\nc: |\n  x\n  y\nd: \"1e3\"\ne: \"\"\nf: ' x'\ng: \"tab\\there\"\n\
             h: it's\ni: '#no'\nk9: 10.0.0.1\nk10: '-'\n",
        );
    }

    #[test]
    fn long_text_is_folded() {
        let words = "only the following media types are accepted: application/json;stream=watch, application/x";
        check(
            &json!({"message": words}),
            "message: 'only the following media types are accepted: application/json;stream=watch,\n  \
             application/x'\n",
        );
    }
}
