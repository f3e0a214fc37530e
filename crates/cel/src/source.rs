//! Positions in the text of an expression, and how they are shown to people.
//!
//! Everything the parser makes carries a [`Span`] of byte offsets. Lines and columns are computed only
//! when a message is printed, in the layout cel-go prints: the place, the line, and a caret under it.

use std::fmt::{self, Write as _};

/// A range of byte offsets in the source of an expression.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Offset behind the last byte.
    pub end: u32,
}

impl Span {
    /// The span from `start` to `end`.
    #[must_use]
    pub fn new(start: usize, end: usize) -> Self {
        Self {
            start: start as u32,
            end: end as u32,
        }
    }

    /// The smallest span that holds both.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }

    /// The text of the span in `source`, empty if the span does not belong to it.
    #[must_use]
    pub fn text(self, source: &str) -> &str {
        source
            .get(self.start as usize..self.end as usize)
            .unwrap_or("")
    }
}

/// A place as people count: lines from one, columns in characters from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Line, from one.
    pub line: usize,
    /// Column in characters, from one.
    pub column: usize,
}

/// The place of a byte offset in `source`.
#[must_use]
pub fn place(source: &str, offset: u32) -> Place {
    let offset = (offset as usize).min(source.len());
    let before = &source.as_bytes()[..offset];
    let line = before.split(|byte| *byte == b'\n').count();
    let line_start = before
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    // Counting bytes that start a character needs no valid boundary at `offset`.
    let column = before[line_start..]
        .iter()
        .filter(|byte| (**byte & 0xC0) != 0x80)
        .count()
        + 1;
    Place { line, column }
}

/// The longest part of a source line that is shown; the rest is cut so that a hostile one-line
/// expression of megabytes does not become a message of megabytes.
const EXCERPT_CHARS_MAX: usize = 160;

/// Writes ` | <line>` and the caret line below it.
pub fn write_excerpt(out: &mut impl fmt::Write, source: &str, offset: u32) -> fmt::Result {
    let place = place(source, offset);
    let line = source.split('\n').nth(place.line - 1).unwrap_or("");
    let caret = place.column - 1;
    let skip = caret.saturating_sub(EXCERPT_CHARS_MAX / 2);
    let mut shown = String::new();
    for character in line.chars().skip(skip).take(EXCERPT_CHARS_MAX) {
        shown.push(if character == '\t' { ' ' } else { character });
    }
    write!(out, " | {shown}\n | ")?;
    let mut dots = String::new();
    for character in line.chars().skip(skip).take(caret - skip) {
        // Wide characters take two cells in a terminal: keep the caret below its character.
        dots.push_str(if character as u32 >= 0x1100 {
            ".."
        } else {
            "."
        });
    }
    let _ = dots.write_char('^');
    out.write_str(&dots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_characters_and_lines() {
        assert_eq!(place("a\nbü c", 6), Place { line: 2, column: 4 });
        assert_eq!(place("", 10), Place { line: 1, column: 1 });
    }

    #[test]
    fn excerpt_points_below_the_character() {
        let mut out = String::new();
        write_excerpt(&mut out, "1 +\n  x.y", 8).expect("strings take everything");
        assert_eq!(out, " |   x.y\n | ....^");
    }
}
