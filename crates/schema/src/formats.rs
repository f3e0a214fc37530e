//! String formats as the API server knows them. Unknown formats restrict nothing.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use base64::Engine as _;
use regex::Regex;

/// Formats that restrict strings, with dashes left out: `date-time` and `datetime` are one.
const STRING_FORMATS: [&str; 27] = [
    "bsonobjectid",
    "byte",
    "cidr",
    "creditcard",
    "date",
    "datetime",
    "duration",
    "email",
    "hexcolor",
    "hostname",
    "ipv4",
    "ipv6",
    "isbn",
    "isbn10",
    "isbn13",
    "k8slongname",
    "k8sshortname",
    "mac",
    "password",
    "rgbcolor",
    "ssn",
    "uri",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
    "base64",
];

const NUMBER_FORMATS: [&str; 4] = ["int32", "int64", "float", "double"];

/// Whether a format restricts anything; others are dropped from a schema.
pub(crate) fn is_known(format: &str) -> bool {
    NUMBER_FORMATS.contains(&format) || is_string_format(format)
}

/// Whether a format is one of strings.
pub(crate) fn is_string_format(format: &str) -> bool {
    STRING_FORMATS.contains(&format.replace('-', "").as_str())
}

macro_rules! pattern {
    ($name:ident, $text:expr) => {
        static $name: LazyLock<Regex> =
            LazyLock::new(|| Regex::new($text).expect("the pattern is a constant"));
    };
}

pattern!(BSON, r"^[0-9a-fA-F]{24}$");
pattern!(HEX_COLOR, r"^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$");
pattern!(
    RGB_COLOR,
    r"^rgb\(\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*\)$"
);
pattern!(SSN, r"^\d{3}[- ]?\d{2}[- ]?\d{4}$");
pattern!(
    CREDIT_CARD,
    r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|(222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720)[0-9]{12}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35\d{3})\d{11}|6[27][0-9]{14})$"
);
pattern!(
    UUID,
    r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$"
);
pattern!(
    HOST_LABEL,
    r"^[a-zA-Z0-9\p{S}\p{L}]([a-zA-Z0-9\-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?$"
);
pattern!(EMAIL, r"^[^\s@<>(),;:\\]+@[^\s@<>(),;:\\]+$");
pattern!(
    DURATION,
    r"^(?i)\s*\d+(\.\d+)?\s*(ns|us|µs|μs|ms|s|m|h|d|w|nano(second)?s?|micro(second)?s?|milli(second)?s?|sec(ond)?s?|min(ute)?s?|hours?|hrs?|days?|weeks?|wks?)\s*$"
);
pattern!(
    GO_DURATION,
    r"^[+-]?((\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h))+$"
);
pattern!(SHORT_NAME, r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$");

/// Whether `text` is of the format; of an unknown one everything is.
pub(crate) fn matches(format: &str, text: &str) -> bool {
    match format.replace('-', "").as_str() {
        "bsonobjectid" => BSON.is_match(text),
        "byte" | "base64" => base64::engine::general_purpose::STANDARD
            .decode(text)
            .is_ok(),
        "cidr" => is_cidr(text),
        "creditcard" => is_credit_card(text),
        "date" => {
            format!("{text}T00:00:00")
                .parse::<jiff::civil::DateTime>()
                .is_ok()
                && text.len() == 10
        }
        "datetime" => is_date_time(text),
        "duration" => text == "0" || GO_DURATION.is_match(text) || DURATION.is_match(text),
        "email" => is_email(text),
        "hexcolor" => HEX_COLOR.is_match(text),
        "hostname" => is_hostname(text),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "isbn" => is_isbn10(text) || is_isbn13(text),
        "isbn10" => is_isbn10(text),
        "isbn13" => is_isbn13(text),
        "k8slongname" => is_long_name(text),
        "k8sshortname" => text.len() <= 63 && SHORT_NAME.is_match(text),
        "mac" => is_mac(text),
        "rgbcolor" => RGB_COLOR.is_match(text),
        "ssn" => SSN.is_match(text),
        "uri" => is_uri(text),
        "uuid" => UUID.is_match(text),
        "uuid3" => is_uuid_version(text, b'3'),
        "uuid4" => is_uuid_version(text, b'4'),
        "uuid5" => is_uuid_version(text, b'5'),
        _ => true,
    }
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else {
        return false;
    };
    let plain = !bits.is_empty() && bits.len() <= 3 && bits.bytes().all(|b| b.is_ascii_digit());
    let bits: u32 = bits.parse().unwrap_or(u32::MAX);
    plain
        && ((address.parse::<Ipv4Addr>().is_ok() && bits <= 32)
            || (address.parse::<Ipv6Addr>().is_ok() && bits <= 128))
}

fn is_date_time(text: &str) -> bool {
    // Beside RFC 3339 upstream takes a time without offset, and one in whole minutes.
    let head = text.get(..19).is_some_and(|head| {
        head.as_bytes()[10].eq_ignore_ascii_case(&b'T')
            && head.parse::<jiff::civil::DateTime>().is_ok()
    });
    let tail = text.get(19..).unwrap_or("");
    let tail = match tail.strip_prefix('.') {
        Some(rest) => rest.trim_start_matches(|c: char| c.is_ascii_digit()),
        None => tail,
    };
    let offset = tail.as_bytes();
    let plain_offset = offset.len() >= 5
        && matches!(offset[0], b'+' | b'-')
        && offset[1..].iter().all(|b| b.is_ascii_digit() || *b == b':');
    head && (tail.is_empty() || tail.eq_ignore_ascii_case("z") || plain_offset)
}

fn is_email(text: &str) -> bool {
    let address = match (text.rfind('<'), text.strip_suffix('>')) {
        (Some(start), Some(inner)) => &inner[start + 1..],
        _ => text,
    };
    EMAIL.is_match(address)
}

fn is_hostname(text: &str) -> bool {
    let labels: Vec<&str> = text.split('.').collect();
    let top_is_letters = labels.last().is_some_and(|top| {
        labels.len() == 1 || (top.chars().count() >= 2 && top.chars().all(char::is_alphabetic))
    });
    text.len() <= 255
        && top_is_letters
        && labels
            .iter()
            .all(|label| label.len() <= 63 && HOST_LABEL.is_match(label))
}

fn is_long_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(|label| SHORT_NAME.is_match(label))
}

fn is_mac(text: &str) -> bool {
    let parts_of = |separator: char, width: usize| -> usize {
        let parts: Vec<&str> = text.split(separator).collect();
        let fit = parts
            .iter()
            .all(|part| part.len() == width && part.bytes().all(|b| b.is_ascii_hexdigit()));
        if fit { parts.len() * width / 2 } else { 0 }
    };
    [(':', 2), ('-', 2), ('.', 4)]
        .iter()
        .any(|(separator, width)| {
            let octets = parts_of(*separator, *width);
            matches!(octets, 6 | 8 | 20)
        })
}

/// A URI as Go's request parser takes it: absolute, or a path from the root.
fn is_uri(text: &str) -> bool {
    if text.is_empty() || text.bytes().any(|b| b <= b' ' || b == 0x7f) {
        return false;
    }
    if text.starts_with('/') {
        return true;
    }
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    let mut characters = scheme.chars();
    characters.next().is_some_and(|c| c.is_ascii_alphabetic())
        && characters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
        && rest.starts_with('/')
}

fn is_uuid_version(text: &str, version: u8) -> bool {
    let digits: Vec<u8> = text.bytes().filter(|b| *b != b'-').collect();
    UUID.is_match(text)
        && digits[12] == version
        && (version == b'3' || matches!(digits[16].to_ascii_lowercase(), b'8' | b'9' | b'a' | b'b'))
}

fn is_isbn10(text: &str) -> bool {
    let digits: Vec<char> = text.chars().filter(|c| !matches!(c, '-' | ' ')).collect();
    digits.len() == 10
        && digits
            .iter()
            .enumerate()
            .try_fold(0, |sum, (at, digit)| {
                let value = match digit {
                    'X' if at == 9 => Some(10),
                    digit => digit.to_digit(10),
                };
                value.map(|value| sum + value * (at as u32 + 1))
            })
            .is_some_and(|sum| sum.is_multiple_of(11))
}

fn is_isbn13(text: &str) -> bool {
    let digits: Option<Vec<u32>> = text
        .chars()
        .filter(|c| !matches!(c, '-' | ' '))
        .map(|c| c.to_digit(10))
        .collect();
    digits.is_some_and(|digits| {
        let weighted = digits
            .iter()
            .enumerate()
            .map(|(at, digit)| digit * if at % 2 == 0 { 1 } else { 3 });
        digits.len() == 13 && weighted.sum::<u32>().is_multiple_of(10)
    })
}

fn is_credit_card(text: &str) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let luhn: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(at, digit)| {
            let digit = u32::from(digit - b'0');
            let doubled = digit * 2;
            if at % 2 == 0 {
                digit
            } else {
                doubled / 10 + doubled % 10
            }
        })
        .sum();
    CREDIT_CARD.is_match(&digits) && luhn.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_tell_good_from_bad() {
        let check = |format: &str, good: &[&str], bad: &[&str]| {
            assert!(is_known(format), "{format}");
            for text in good {
                assert!(matches(format, text), "{format} {text}");
            }
            for text in bad {
                assert!(!matches(format, text), "{format} {text}");
            }
        };
        check("date", &["2020-12-01"], &["2020-13-01", "today", ""]);
        check(
            "date-time",
            &["2020-12-01T10:00:00Z", "2020-12-01t10:00:00.5+01:00"],
            &["yesterday", "2020-12-01"],
        );
        check("uuid", &["11111111-1111-1111-1111-111111111111"], &["x"]);
        check(
            "uuid4",
            &["11111111-1111-4111-8111-111111111111"],
            &["11111111-1111-1111-1111-111111111111"],
        );
        check("ipv4", &["1.2.3.4"], &["1.2.3", "::1"]);
        check("ipv6", &["::1"], &["1.2.3.4"]);
        check(
            "cidr",
            &["10.0.0.0/8", "fd00::/8"],
            &["1.2.3.4", "10.0.0.0/33"],
        );
        check(
            "mac",
            &["01:23:45:67:89:ab", "0123.4567.89ab"],
            &["zz", "01:23"],
        );
        check("uri", &["https://example.com/x", "/x"], &["::", "", "a b"]);
        check("email", &["a@b.com", "A <a@b.com>"], &["x", "@"]);
        check(
            "hostname",
            &["localhost", "a.example.com"],
            &["-x-", "a..b"],
        );
        check("byte", &["YQ=="], &["***"]);
        check("duration", &["5s", "1h30m", "3 days"], &["5 parsecs", ""]);
        check("isbn", &["0-306-40615-2", "978-0-306-40615-7"], &["x"]);
        check(
            "creditcard",
            &["4111 1111 1111 1111"],
            &["x", "4111111111111112"],
        );
        check("ssn", &["111-22-3333"], &["x"]);
        check("hexcolor", &["#fff", "00ff00"], &["x"]);
        check("rgbcolor", &["rgb(1, 2, 255)"], &["x", "rgb(1,2,256)"]);
        check("bsonobjectid", &["507f1f77bcf86cd799439011"], &["x"]);
        check("k8s-short-name", &["good-name"], &["Bad Name"]);
        check("k8s-long-name", &["a.b"], &["A.b"]);
        check("password", &["anything"], &[]);
        assert!(!is_known("nonsense"));
    }
}
