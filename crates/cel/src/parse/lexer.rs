//! Text to tokens. Tokens borrow the source and are made on demand; nothing is allocated.

use crate::error::Issue;
use crate::source::Span;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    Identifier,
    /// `` `any text` ``, allowed as a field name only.
    Quoted,
    Int,
    Uint,
    Double,
    /// Any string or bytes literal, with its prefix and quotes.
    String,
    Bytes,
    /// An operator or a bracket.
    Symbol(Symbol),
    End,
}

/// Operators and punctuation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symbol {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    And,
    Or,
    LeftBracket,
    RightBracket,
    LeftBrace,
    RightBrace,
    LeftParen,
    RightParen,
    Dot,
    Comma,
    Minus,
    Not,
    Question,
    Colon,
    Plus,
    Star,
    Slash,
    Percent,
}

/// A token and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Token {
    pub kind: TokenKind,
    pub span: Span,
}

/// Reads tokens from a source.
pub struct Lexer<'s> {
    source: &'s str,
    bytes: &'s [u8],
    at: usize,
}

impl<'s> Lexer<'s> {
    pub fn new(source: &'s str) -> Self {
        Self {
            source,
            bytes: source.as_bytes(),
            at: 0,
        }
    }

    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    /// The next token; [`TokenKind::End`] for ever at the end.
    pub fn next_token(&mut self) -> Result<Token, Issue> {
        self.skip_blanks();
        let start = self.at;
        if start >= self.bytes.len() {
            return Ok(Token {
                kind: TokenKind::End,
                span: Span::new(start, start),
            });
        }
        let first = self.peek(0);
        let kind = match first {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => self.word(start)?,
            b'0'..=b'9' => self.number(start)?,
            b'.' if self.peek(1).is_ascii_digit() => self.number(start)?,
            b'"' | b'\'' => self.string(start, false, TokenKind::String)?,
            b'`' => self.quoted(start)?,
            _ => self.symbol(start)?,
        };
        Ok(Token {
            kind,
            span: Span::new(start, self.at),
        })
    }

    fn skip_blanks(&mut self) {
        loop {
            match self.peek(0) {
                b' ' | b'\t' | b'\r' | b'\n' | 0x0C => self.at += 1,
                b'/' if self.peek(1) == b'/' => {
                    while self.at < self.bytes.len() && self.bytes[self.at] != b'\n' {
                        self.at += 1;
                    }
                }
                _ => return,
            }
        }
    }

    /// An identifier, or a string with a prefix out of `r`, `b`, `rb`, `br` in any case.
    fn word(&mut self, start: usize) -> Result<TokenKind, Issue> {
        let mut raw = false;
        let mut bytes = false;
        let mut prefix = 0;
        while prefix < 2 {
            match self.peek(prefix) {
                b'r' | b'R' if !raw => raw = true,
                b'b' | b'B' if !bytes => bytes = true,
                _ => break,
            }
            prefix += 1;
            if matches!(self.peek(prefix), b'"' | b'\'') {
                self.at += prefix;
                let kind = if bytes {
                    TokenKind::Bytes
                } else {
                    TokenKind::String
                };
                return self.string(start, raw, kind);
            }
        }
        while matches!(self.peek(0), b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_') {
            self.at += 1;
        }
        Ok(TokenKind::Identifier)
    }

    fn number(&mut self, start: usize) -> Result<TokenKind, Issue> {
        let mut kind = TokenKind::Int;
        if self.peek(0) == b'0' && matches!(self.peek(1), b'x' | b'X') {
            self.at += 2;
            let digits = self.at;
            self.skip_while(|byte| byte.is_ascii_hexdigit());
            if self.at == digits {
                return Err(self.issue(start, "a hexadecimal number needs digits"));
            }
        } else {
            self.skip_while(|byte| byte.is_ascii_digit());
            if self.peek(0) == b'.' && self.peek(1).is_ascii_digit() {
                kind = TokenKind::Double;
                self.at += 1;
                self.skip_while(|byte| byte.is_ascii_digit());
            }
            let sign = usize::from(matches!(self.peek(1), b'+' | b'-'));
            if matches!(self.peek(0), b'e' | b'E') && self.peek(1 + sign).is_ascii_digit() {
                kind = TokenKind::Double;
                self.at += 1 + sign;
                self.skip_while(|byte| byte.is_ascii_digit());
            }
        }
        if kind == TokenKind::Int && matches!(self.peek(0), b'u' | b'U') {
            self.at += 1;
            kind = TokenKind::Uint;
        }
        if self.peek(0).is_ascii_alphanumeric() || self.peek(0) == b'_' {
            self.at += 1;
            return Err(self.issue(start, "a number cannot be followed by a letter"));
        }
        Ok(kind)
    }

    fn skip_while(&mut self, wanted: impl Fn(u8) -> bool) {
        while self.at < self.bytes.len() && wanted(self.bytes[self.at]) {
            self.at += 1;
        }
    }

    /// A string from its opening quote at `self.at`; `start` is where its prefix begins.
    fn string(&mut self, start: usize, raw: bool, kind: TokenKind) -> Result<TokenKind, Issue> {
        let quote = self.peek(0);
        let triple = self.peek(1) == quote && self.peek(2) == quote;
        self.at += if triple { 3 } else { 1 };
        loop {
            if self.at >= self.bytes.len() {
                return Err(self.issue(
                    start,
                    "Syntax error: token recognition error: the string is not closed",
                ));
            }
            let byte = self.peek(0);
            if byte == quote && (!triple || (self.peek(1) == quote && self.peek(2) == quote)) {
                self.at += if triple { 3 } else { 1 };
                return Ok(kind);
            }
            if !triple && matches!(byte, b'\n' | b'\r') {
                return Err(self.issue(start, "Syntax error: token recognition error: the string is not closed before the end of its line"));
            }
            // In raw strings too a backslash keeps the quote behind it from closing the string only
            // when the grammar says so: CEL's raw strings end at the first quote.
            self.at += if byte == b'\\' && !raw && self.at + 1 < self.bytes.len() {
                2
            } else {
                1
            };
        }
    }

    fn quoted(&mut self, start: usize) -> Result<TokenKind, Issue> {
        self.at += 1;
        let content = self.at;
        self.skip_while(|byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'/' | b' ')
        });
        if self.peek(0) != b'`' || self.at == content {
            self.at = (self.at + 1).min(self.bytes.len());
            return Err(self.issue(start, "Syntax error: a name in backquotes holds letters, digits, '_', '.', '-', '/' and blanks"));
        }
        self.at += 1;
        Ok(TokenKind::Quoted)
    }

    fn symbol(&mut self, start: usize) -> Result<TokenKind, Issue> {
        let (symbol, length) = match (self.peek(0), self.peek(1)) {
            (b'=', b'=') => (Symbol::Equal, 2),
            (b'!', b'=') => (Symbol::NotEqual, 2),
            (b'<', b'=') => (Symbol::LessEqual, 2),
            (b'>', b'=') => (Symbol::GreaterEqual, 2),
            (b'&', b'&') => (Symbol::And, 2),
            (b'|', b'|') => (Symbol::Or, 2),
            (b'<', _) => (Symbol::Less, 1),
            (b'>', _) => (Symbol::Greater, 1),
            (b'[', _) => (Symbol::LeftBracket, 1),
            (b']', _) => (Symbol::RightBracket, 1),
            (b'{', _) => (Symbol::LeftBrace, 1),
            (b'}', _) => (Symbol::RightBrace, 1),
            (b'(', _) => (Symbol::LeftParen, 1),
            (b')', _) => (Symbol::RightParen, 1),
            (b'.', _) => (Symbol::Dot, 1),
            (b',', _) => (Symbol::Comma, 1),
            (b'-', _) => (Symbol::Minus, 1),
            (b'!', _) => (Symbol::Not, 1),
            (b'?', _) => (Symbol::Question, 1),
            (b':', _) => (Symbol::Colon, 1),
            (b'+', _) => (Symbol::Plus, 1),
            (b'*', _) => (Symbol::Star, 1),
            (b'/', _) => (Symbol::Slash, 1),
            (b'%', _) => (Symbol::Percent, 1),
            _ => {
                let character = self.source[start..].chars().next().unwrap_or(' ');
                self.at += character.len_utf8();
                let text = format!(
                    "Syntax error: token recognition error at: '{}'",
                    character.escape_debug()
                );
                let hint = match character {
                    '=' => Some("comparison is written '=='".to_owned()),
                    '&' => Some("conjunction is written '&&'".to_owned()),
                    '|' => Some("disjunction is written '||'".to_owned()),
                    _ => None,
                };
                return Err(Issue::new(Span::new(start, self.at), text).with_hint(hint));
            }
        };
        self.at += length;
        Ok(TokenKind::Symbol(symbol))
    }

    fn issue(&self, start: usize, message: &str) -> Issue {
        Issue::new(Span::new(start, self.at), message)
    }
}
