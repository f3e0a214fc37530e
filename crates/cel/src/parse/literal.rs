//! The values of literals: numbers with their ranges, strings and bytes with their escapes.

/// Reads `123` or `0x7B`, with the sign that stood before it.
pub fn int(text: &str, negative: bool) -> Result<i64, String> {
    let magnitude = magnitude(text);
    let value = magnitude.and_then(|magnitude| {
        let signed = if negative {
            -i128::from(magnitude)
        } else {
            i128::from(magnitude)
        };
        i64::try_from(signed).ok()
    });
    value.ok_or_else(|| "invalid int literal: value out of range".to_owned())
}

/// Reads `123u` or `0x7Bu`.
pub fn uint(text: &str) -> Result<u64, String> {
    magnitude(text.trim_end_matches(['u', 'U']))
        .ok_or_else(|| "invalid uint literal: value out of range".to_owned())
}

fn magnitude(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Reads `1.5e3`.
pub fn double(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err("invalid double literal: value out of range".to_owned()),
    }
}

/// The content of a string literal with prefix and quotes.
pub fn string(text: &str) -> Result<String, String> {
    let (content, raw) = content(text);
    if raw || !content.contains('\\') {
        return Ok(content.to_owned());
    }
    let mut out = String::with_capacity(content.len());
    let mut rest = content;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let (code, length) = escape(rest)?;
        let character = char::from_u32(code.value());
        out.push(character.ok_or("invalid unicode code point in string literal")?);
        rest = &rest[length..];
    }
    out.push_str(rest);
    Ok(out)
}

/// The content of a bytes literal with prefix and quotes.
pub fn bytes(text: &str) -> Result<Vec<u8>, String> {
    let (content, raw) = content(text);
    if raw || !content.contains('\\') {
        return Ok(content.as_bytes().to_vec());
    }
    let mut out = Vec::with_capacity(content.len());
    let mut rest = content;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at + 1..];
        let (code, length) = escape(rest)?;
        match code {
            Code::Byte(byte) => out.push(
                u8::try_from(byte).map_err(|_| "invalid octal escape sequence in bytes literal")?,
            ),
            Code::Point(_) => {
                return Err("unicode escapes are not allowed in bytes literals".to_owned());
            }
        }
        rest = &rest[length..];
    }
    out.extend_from_slice(rest.as_bytes());
    Ok(out)
}

/// Strips prefix and quotes; tells whether the literal is raw.
fn content(text: &str) -> (&str, bool) {
    let quote_at = text.find(['"', '\'']).unwrap_or(0);
    let raw = text[..quote_at].contains(['r', 'R']);
    let quoted = &text[quote_at..];
    let quotes = if quoted.len() >= 6 && (quoted.starts_with("\"\"\"") || quoted.starts_with("'''"))
    {
        3
    } else {
        1
    };
    (&quoted[quotes..quoted.len() - quotes], raw)
}

enum Code {
    /// `\x41`, `\101`, `\n`: a byte in bytes literals, a code point in strings.
    Byte(u32),
    /// `\u0041`, `\U00000041`.
    Point(u32),
}

impl Code {
    fn value(&self) -> u32 {
        match self {
            Self::Byte(value) | Self::Point(value) => *value,
        }
    }
}

/// One escape sequence without its backslash, and how many bytes it takes.
fn escape(rest: &str) -> Result<(Code, usize), String> {
    let first = rest
        .bytes()
        .next()
        .ok_or("unable to unescape string: it ends with a backslash")?;
    let simple = |byte: u8| Ok((Code::Byte(u32::from(byte)), 1));
    match first {
        b'a' => simple(7),
        b'b' => simple(8),
        b'f' => simple(12),
        b'n' => simple(10),
        b'r' => simple(13),
        b't' => simple(9),
        b'v' => simple(11),
        b'\\' | b'\'' | b'"' | b'`' | b'?' => simple(first),
        b'x' | b'X' => Ok((Code::Byte(digits(rest, 1, 2, 16)?), 3)),
        b'u' => Ok((Code::Point(digits(rest, 1, 4, 16)?), 5)),
        b'U' => Ok((Code::Point(digits(rest, 1, 8, 16)?), 9)),
        b'0'..=b'3' => Ok((Code::Byte(digits(rest, 0, 3, 8)?), 3)),
        _ => Err("unable to unescape string: invalid escape sequence".to_owned()),
    }
}

fn digits(rest: &str, from: usize, count: usize, radix: u32) -> Result<u32, String> {
    rest.get(from..from + count)
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        .and_then(|digits| u32::from_str_radix(digits, radix).ok())
        .ok_or_else(|| "unable to unescape string: invalid escape sequence".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes() {
        let check = |text: &str, expect: Result<&str, ()>| {
            assert_eq!(
                string(text).map_err(|_| ()),
                expect.map(str::to_owned),
                "{text}"
            );
        };
        check(r"'a\x41\u00e9\U0001F431\101\n'", Ok("aAé🐱A\n"));
        check(r"r'\n'", Ok(r"\n"));
        check(r"'''it's'''", Ok("it's"));
        check(r"'\ud800'", Err(()));
        check(r"'\U00110000'", Err(()));
        check(r"'\x4'", Err(()));
        check(r"'\400'", Err(()));
        assert_eq!(bytes(r"b'\xff\377ÿ'"), Ok(vec![255, 255, 0xc3, 0xbf]));
        assert!(bytes(r"b'\u0041'").is_err());
    }

    #[test]
    fn number_ranges() {
        assert_eq!(int("9223372036854775808", true), Ok(i64::MIN));
        assert!(int("9223372036854775808", false).is_err());
        assert_eq!(uint("0xFFFFFFFFFFFFFFFFu"), Ok(u64::MAX));
        assert!(uint("18446744073709551616u").is_err());
        assert!(double("1e999").is_err());
    }
}
