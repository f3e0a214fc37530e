//! Go's regular expression syntax to that of the `regex` crate.
//!
//! The pattern is read once, from left to right, with a stack for open groups; nothing recurses. What both
//! languages write alike is copied, what they read differently is written out: `\d`, `\w`, `\s` and `\b` are ASCII,
//! classes have no nesting and no set operations, `{` is a literal unless it is a repetition, `\Q...\E` quotes.

use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::CharIndices;

/// A pattern that is no regular expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegexError {
    /// It breaks the rules of the syntax.
    #[error("error parsing regexp: {what}: `{pattern}`")]
    Invalid {
        /// Which rule.
        what: String,
        /// The offending part.
        pattern: String,
    },
    /// It is longer, or needs more memory, than allowed.
    #[error("error parsing regexp: expression too large")]
    TooLarge,
}

/// Length of a pattern.
const PATTERN_BYTES_MAX: usize = 64 << 10;
/// Repetitions, nested ones multiplied; Go's limit.
const REPEAT_MAX: u32 = 1000;

/// Writes a pattern in Go's syntax in that of the `regex` crate.
///
/// ```
/// assert_eq!(cel::regex::translate(r"\d+\Q.\E[[]").as_deref(), Ok(r"[0-9]+\.[\[]"));
/// ```
pub fn translate(pattern: &str) -> Result<String, RegexError> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(RegexError::TooLarge);
    }
    let mut translator = Translator {
        pattern,
        chars: pattern.char_indices().peekable(),
        out: String::with_capacity(pattern.len() + 16),
        groups: Vec::new(),
        atom: None,
        repeated_at: None,
        level_weight: 1,
    };
    while let Some((at, character)) = translator.chars.next() {
        translator.step(at, character)?;
    }
    if !translator.groups.is_empty() {
        return Err(invalid("missing closing )", pattern));
    }
    Ok(translator.out)
}

fn invalid(what: &str, pattern: &str) -> RegexError {
    const SHOWN_CHARS_MAX: usize = 200;
    RegexError::Invalid {
        what: what.to_owned(),
        pattern: pattern.chars().take(SHOWN_CHARS_MAX).collect(),
    }
}

struct Translator<'p> {
    pattern: &'p str,
    chars: Peekable<CharIndices<'p>>,
    out: String,
    /// Of each open group, the heaviest repetition so far on the level around it.
    groups: Vec<u32>,
    /// What a repetition would repeat: how often its content is repeated at most already.
    atom: Option<u32>,
    /// Where the repetition just read begins.
    repeated_at: Option<usize>,
    level_weight: u32,
}

impl<'p> Translator<'p> {
    fn peek(&mut self) -> Option<char> {
        self.chars.peek().map(|(_, character)| *character)
    }

    fn offset(&mut self) -> usize {
        self.chars.peek().map_or(self.pattern.len(), |(at, _)| *at)
    }

    fn rest(&mut self) -> &'p str {
        let at = self.offset();
        &self.pattern[at..]
    }

    fn skip_to(&mut self, offset: usize) {
        while self.chars.peek().is_some_and(|(at, _)| *at < offset) {
            self.chars.next();
        }
    }

    fn step(&mut self, at: usize, character: char) -> Result<(), RegexError> {
        match character {
            '(' => return self.open(at),
            ')' => return self.close(),
            '|' => {
                self.out.push('|');
                self.atom = None;
                self.repeated_at = None;
                return Ok(());
            }
            '*' | '+' | '?' => return self.repeat(at, &character.to_string(), 1),
            '{' => {
                if let Some((text, max)) = self.braces()? {
                    return self.repeat(at, &text, max);
                }
                self.literal('{');
            }
            '[' => self.class(at)?,
            '\\' => self.escape(at)?,
            '.' | '^' | '$' => self.out.push(character),
            _ => self.literal(character),
        }
        self.atom = Some(1);
        self.repeated_at = None;
        Ok(())
    }

    fn literal(&mut self, character: char) {
        // Not all punctuation: `\<` would be the start of a word.
        if "\\.+*?()|[]{}^$#&-~".contains(character) {
            self.out.push('\\');
        }
        self.out.push(character);
    }

    fn repeat(&mut self, at: usize, operator: &str, max: u32) -> Result<(), RegexError> {
        let lazy = self.peek() == Some('?');
        if lazy {
            self.chars.next();
        }
        let end = self.offset();
        if let Some(before) = self.repeated_at {
            return Err(invalid(
                "invalid nested repetition operator",
                &self.pattern[before..end],
            ));
        }
        let Some(weight) = self.atom else {
            return Err(invalid(
                "missing argument to repetition operator",
                &self.pattern[at..end],
            ));
        };
        let weight = weight.saturating_mul(max.max(1));
        if weight > REPEAT_MAX {
            return Err(invalid("invalid repeat count", &self.pattern[at..end]));
        }
        self.out.push_str(operator);
        if lazy {
            self.out.push('?');
        }
        self.atom = Some(weight);
        self.level_weight = self.level_weight.max(weight);
        self.repeated_at = Some(at);
        Ok(())
    }

    /// `n}`, `n,}` or `n,m}` behind a brace; `None` if the brace is a literal.
    fn braces(&mut self) -> Result<Option<(String, u32)>, RegexError> {
        let rest = self.rest();
        let Some(end) = rest.find('}') else {
            return Ok(None);
        };
        let body = &rest[..end];
        let (min, max) = body
            .split_once(',')
            .map_or((body, None), |(min, max)| (min, Some(max)));
        let number = |text: &str| {
            let plain = text.bytes().all(|byte| byte.is_ascii_digit())
                && (text.len() == 1 || !text.starts_with('0'));
            (plain && !text.is_empty()).then(|| text.parse::<u32>().unwrap_or(u32::MAX))
        };
        let Some(least) = number(min) else {
            return Ok(None);
        };
        let most = match max {
            None | Some("") => least,
            Some(text) => match number(text) {
                Some(most) => most,
                None => return Ok(None),
            },
        };
        if least > REPEAT_MAX || most > REPEAT_MAX || most < least {
            return Err(invalid("invalid repeat count", &format!("{{{body}}}")));
        }
        let target = self.offset() + end + 1;
        self.skip_to(target);
        Ok(Some((format!("{{{body}}}"), most)))
    }

    fn open(&mut self, at: usize) -> Result<(), RegexError> {
        if self.peek() != Some('?') {
            self.out.push('(');
            self.enter();
            return Ok(());
        }
        self.chars.next();
        let rest = self.rest();
        let named = rest.strip_prefix("P<").or_else(|| rest.strip_prefix('<'));
        if let Some(named) = named {
            let Some(end) = named.find('>') else {
                return Err(invalid("invalid named capture", &self.pattern[at..]));
            };
            let name = &named[..end];
            let valid = !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            let start = self.offset() + (rest.len() - named.len());
            if !valid {
                return Err(invalid(
                    "invalid named capture",
                    &self.pattern[at..=start + end],
                ));
            }
            // The crate allows no digit in front.
            let safe = if name.starts_with(|first: char| first.is_ascii_digit()) {
                "_"
            } else {
                ""
            };
            let _ = write!(self.out, "(?P<{safe}{name}>");
            self.skip_to(start + end + 1);
            self.enter();
            return Ok(());
        }
        self.flags(at)
    }

    fn enter(&mut self) {
        self.groups.push(self.level_weight);
        self.level_weight = 1;
        self.atom = None;
        self.repeated_at = None;
    }

    fn flags(&mut self, at: usize) -> Result<(), RegexError> {
        let mut flags = String::new();
        let mut negative = false;
        let mut any = false;
        loop {
            let next = self.chars.next().map(|(_, character)| character);
            match next {
                Some(flag @ ('i' | 'm' | 's' | 'U')) => {
                    flags.push(flag);
                    any = true;
                }
                Some('-') if !negative => {
                    negative = true;
                    any = false;
                    flags.push('-');
                }
                Some(end @ (':' | ')')) if !negative || any => {
                    self.out.push_str("(?");
                    self.out.push_str(&flags);
                    if end == ')' && flags.is_empty() {
                        // `(?)` says nothing, and the crate does not take it.
                        self.out.truncate(self.out.len() - 2);
                        return Ok(());
                    }
                    self.out.push(end);
                    if end == ':' {
                        self.enter();
                    }
                    return Ok(());
                }
                _ => {
                    let end = self.offset();
                    let what = if next.is_none() {
                        "missing closing )"
                    } else {
                        "invalid or unsupported Perl syntax"
                    };
                    return Err(invalid(what, &self.pattern[at..end]));
                }
            }
        }
    }

    fn close(&mut self) -> Result<(), RegexError> {
        let Some(around) = self.groups.pop() else {
            return Err(invalid("unexpected )", self.pattern));
        };
        self.out.push(')');
        self.atom = Some(self.level_weight);
        self.level_weight = around.max(self.level_weight);
        self.repeated_at = None;
        Ok(())
    }

    fn escape(&mut self, at: usize) -> Result<(), RegexError> {
        let Some((_, character)) = self.chars.next() else {
            return Err(invalid("trailing backslash at end of expression", ""));
        };
        match character {
            'd' => self.out.push_str("[0-9]"),
            'D' => self.out.push_str("[^0-9]"),
            's' => self.out.push_str("[\\t\\n\\x0C\\r ]"),
            'S' => self.out.push_str("[^\\t\\n\\x0C\\r ]"),
            'w' => self.out.push_str("[0-9A-Za-z_]"),
            'W' => self.out.push_str("[^0-9A-Za-z_]"),
            'b' => self.out.push_str("(?-u:\\b)"),
            'B' => self.out.push_str("(?-u:\\B)"),
            'A' => self.out.push_str("\\A"),
            'z' => self.out.push_str("\\z"),
            'p' | 'P' => {
                let property = self.property(at, character == 'P')?;
                self.out.push_str(&property);
            }
            'Q' => {
                let rest = self.rest();
                let length = rest.find("\\E").unwrap_or(rest.len());
                rest[..length]
                    .chars()
                    .for_each(|character| self.literal(character));
                let target = self.offset() + length + if length < rest.len() { 2 } else { 0 };
                self.skip_to(target);
            }
            _ => {
                let literal = self.escaped_literal(at, character)?;
                self.push_code(literal);
            }
        }
        Ok(())
    }

    fn push_code(&mut self, character: char) {
        if character.is_ascii_graphic() || character == ' ' {
            self.literal(character);
        } else {
            let _ = write!(self.out, "\\x{{{:X}}}", character as u32);
        }
    }

    /// The character of `\n`, `\x41`, `\101`, `\.`.
    fn escaped_literal(&mut self, at: usize, character: char) -> Result<char, RegexError> {
        let simple = match character {
            'a' => Some('\x07'),
            'f' => Some('\x0C'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\x0B'),
            _ => None,
        };
        if let Some(simple) = simple {
            return Ok(simple);
        }
        let code = match character {
            // A single digit but zero would be a reference to a group.
            '1'..='7' if !self.peek().is_some_and(|next| ('0'..='7').contains(&next)) => None,
            '0'..='7' => {
                let mut code = character as u32 - '0' as u32;
                for _ in 0..2 {
                    match self.peek() {
                        Some(digit @ '0'..='7') => {
                            self.chars.next();
                            code = code * 8 + (digit as u32 - '0' as u32);
                        }
                        _ => break,
                    }
                }
                Some(code)
            }
            'x' => self.hexadecimal(),
            _ if character.is_ascii_punctuation()
                || (character.is_ascii() && !character.is_ascii_alphanumeric()) =>
            {
                Some(character as u32)
            }
            _ => None,
        };
        let end = self.offset();
        code.and_then(char::from_u32)
            .ok_or_else(|| invalid("invalid escape sequence", &self.pattern[at..end]))
    }

    fn hexadecimal(&mut self) -> Option<u32> {
        let rest = self.rest();
        let start = self.offset();
        let (digits, length) = match rest.strip_prefix('{') {
            Some(inner) => {
                let end = inner.find('}')?;
                (&inner[..end], end + 2)
            }
            None => (rest.get(..2)?, 2),
        };
        if digits.is_empty()
            || digits.len() > 8
            || !digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            return None;
        }
        self.skip_to(start + length);
        u32::from_str_radix(digits, 16).ok()
    }

    /// `\pL`, `\p{Greek}`, `\p{^Greek}`.
    fn property(&mut self, at: usize, negated: bool) -> Result<String, RegexError> {
        let rest = self.rest();
        let start = self.offset();
        let name = match rest.strip_prefix('{') {
            Some(inner) => inner.find('}').map(|end| (&inner[..end], end + 2)),
            None => rest
                .chars()
                .next()
                .map(|name| (&rest[..name.len_utf8()], name.len_utf8())),
        };
        let Some((name, length)) = name else {
            return Err(invalid(
                "invalid character class range",
                &self.pattern[at..],
            ));
        };
        self.skip_to(start + length);
        let (name, negated) = match name.strip_prefix('^') {
            Some(name) => (name, !negated),
            None => (name, negated),
        };
        let letter = if negated { 'P' } else { 'p' };
        let property = format!("\\{letter}{{{name}}}");
        let known = !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && regex::Regex::new(&property).is_ok();
        if known {
            return Ok(property);
        }
        let end = self.offset();
        Err(invalid(
            "invalid character class range",
            &self.pattern[at..end],
        ))
    }

    /// A class from its bracket on.
    fn class(&mut self, at: usize) -> Result<(), RegexError> {
        self.out.push('[');
        if self.peek() == Some('^') {
            self.chars.next();
            self.out.push('^');
        }
        let mut first = true;
        loop {
            let Some((item_at, character)) = self.chars.next() else {
                return Err(invalid("missing closing ]", &self.pattern[at..]));
            };
            if character == ']' && !first {
                self.out.push(']');
                return Ok(());
            }
            first = false;
            if character == '[' && self.posix_class()? {
                continue;
            }
            if character == '\\' && self.class_escape(item_at)? {
                continue;
            }
            self.class_range(item_at, character)?;
        }
    }

    /// `[:alpha:]` within a class.
    fn posix_class(&mut self) -> Result<bool, RegexError> {
        const NAMES: [&str; 14] = [
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print",
            "punct", "space", "upper", "word", "xdigit",
        ];
        let rest = self.rest();
        let Some(inner) = rest.strip_prefix(':') else {
            return Ok(false);
        };
        let Some(end) = inner.find(":]") else {
            return Ok(false);
        };
        let name = &inner[..end];
        if !NAMES.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return Err(invalid(
                "invalid character class range",
                &format!("[:{name}:]"),
            ));
        }
        let _ = write!(self.out, "[:{name}:]");
        let target = self.offset() + end + 3;
        self.skip_to(target);
        Ok(true)
    }

    /// `\d`, `\pL` and the like within a class; false for an escaped character.
    fn class_escape(&mut self, at: usize) -> Result<bool, RegexError> {
        let written = match self.peek() {
            Some('d') => "0-9",
            Some('D') => "[^0-9]",
            Some('s') => "\\t\\n\\x0C\\r ",
            Some('S') => "[^\\t\\n\\x0C\\r ]",
            Some('w') => "0-9A-Za-z_",
            Some('W') => "[^0-9A-Za-z_]",
            Some(letter @ ('p' | 'P')) => {
                self.chars.next();
                let property = self.property(at, letter == 'P')?;
                self.out.push_str(&property);
                return Ok(true);
            }
            _ => return Ok(false),
        };
        self.chars.next();
        self.out.push_str(written);
        Ok(true)
    }

    /// One character, or a range of them.
    fn class_range(&mut self, at: usize, character: char) -> Result<(), RegexError> {
        let low = self.class_character(at, character)?;
        let rest = self.rest();
        let is_range = rest.starts_with('-') && !rest.starts_with("-]") && rest.len() > 1;
        if !is_range {
            self.push_code(low);
            return Ok(());
        }
        self.chars.next();
        let Some((high_at, high)) = self.chars.next() else {
            return Err(invalid("missing closing ]", &self.pattern[at..]));
        };
        let high = self.class_character(high_at, high)?;
        if high < low {
            let end = self.offset();
            return Err(invalid(
                "invalid character class range",
                &self.pattern[at..end],
            ));
        }
        self.push_code(low);
        self.out.push('-');
        self.push_code(high);
        Ok(())
    }

    fn class_character(&mut self, at: usize, character: char) -> Result<char, RegexError> {
        if character != '\\' {
            return Ok(character);
        }
        match self.chars.next() {
            Some((_, escaped)) => self.escaped_literal(at, escaped),
            None => Err(invalid("trailing backslash at end of expression", "")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::regex::compile;

    #[test]
    fn reads_what_go_reads() {
        let check = |pattern: &str, text: &str, expect: bool| {
            let regex = compile(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
            assert_eq!(regex.is_match(text), expect, "{pattern} on {text}");
        };
        check(r"^\d+$", "12", true);
        check(r"^\d+$", "१२", false);
        check(r"^\w$", "é", false);
        check(r"\bfoo\b", "a foo!", true);
        check(r"o\B", "foo", true);
        check(r"^\Qa.b\E$", "a.b", true);
        check(r"^\Qa.b\E$", "axb", false);
        check(r"^\141$", "a", true);
        check(r"^\x{61}\x61$", "aa", true);
        check(r"^a{$", "a{", true);
        check(r"^a{,3}$", "a{,3}", true);
        check(r"^[[]$", "[", true);
        check(r"^[a&&b]+$", "a&b", true);
        check(r"^[a-z--c]+$", "-z", true);
        check(r"^\<$", "<", true);
        check(r"^[]a]+$", "]a", true);
        check(r"^[^]a]$", "b", true);
        check(r"^\p{^Greek}$", "a", true);
        check(r"^\pL$", "é", true);
        check(r"^[[:alpha:][:digit:]]+$", "a1", true);
        check(r"(?i)^ABC$", "abc", true);
        check(r"^(?:)$", "", true);
        check(r"^(a|b|)$", "", true);
        check(r"^a{2,3}?$", "aaa", true);
        check(r"^[\d-z]+$", "5-z", true);
        check(r"^(?P<name>a)(?<other>b)$", "ab", true);
        check("^#~ $", "#~ ", true);
    }

    #[test]
    fn refuses_what_go_refuses() {
        let check = |pattern: &str, expect: &str| {
            let error = translate(pattern).expect_err(pattern).to_string();
            assert!(error.contains(expect), "{pattern}: {error}");
        };
        check("a**", "invalid nested repetition operator: `**`");
        check("*a", "missing argument to repetition operator: `*`");
        check("(a", "missing closing ): `(a`");
        check("a)", "unexpected ): `a)`");
        check("[a", "missing closing ]: `[a`");
        check("a{1001}", "invalid repeat count: `{1001}`");
        check("((a{100}){100})", "invalid repeat count");
        check(r"\1", r"invalid escape sequence: `\1`");
        check(r"\Z", r"invalid escape sequence: `\Z`");
        check("[z-a]", "invalid character class range: `z-a`");
        check(r"\p{Nope}", "invalid character class range");
        check("(?<=a)", "invalid");
        check("(?=a)", "invalid or unsupported Perl syntax: `(?=`");
        check("a\\", "trailing backslash at end of expression");
    }
}
