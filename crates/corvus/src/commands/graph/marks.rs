//! Where the fields of a YAML document stand in its file.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

/// A place in a file: line and column, both from one, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Place {
    fn of(location: Location) -> Self {
        Self {
            line: location.line() as usize,
            column: location.column() as usize,
        }
    }
}

/// A field: where it is named, and where its value begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Where its name stands; for an element of a list, where the element begins.
    pub name: Place,
    /// Where its value begins.
    pub value: Place,
}

/// The shape of a document, with places instead of values.
#[derive(Debug, Default)]
pub enum Marks {
    /// A map.
    Map(Vec<(Spanned<String>, Spanned<Marks>)>),
    /// A list.
    List(Vec<Spanned<Marks>>),
    /// Anything else.
    #[default]
    Scalar,
}

impl Marks {
    /// The field at a path such as `spec.resources[0].template`, or the nearest one around it that is
    /// there; none for a path of which not even the beginning is.
    pub fn find(&self, path: &str) -> Option<Field> {
        let (mut marks, mut found) = (self, None);
        for segment in segments(path) {
            let Some((field, inner)) = marks.step(&segment) else {
                break;
            };
            found = Some(field);
            marks = inner;
        }
        found
    }

    /// Whether there is a field of that name.
    pub fn has(&self, name: &str) -> bool {
        self.step(&Segment::Name(name.to_owned())).is_some()
    }

    /// What is inside at a path.
    pub fn inside(&self, path: &str) -> Option<&Self> {
        segments(path).try_fold(self, |marks, segment| Some(marks.step(&segment)?.1))
    }

    fn step(&self, segment: &Segment) -> Option<(Field, &Self)> {
        match (self, segment) {
            (Self::Map(fields), Segment::Name(wanted)) => {
                let (name, value) = fields.iter().find(|(name, _)| name.value == *wanted)?;
                let field = Field {
                    name: Place::of(name.referenced),
                    value: Place::of(value.referenced),
                };
                Some((field, &value.value))
            }
            (Self::List(items), Segment::Index(index)) => {
                let item = items.get(*index)?;
                let place = Place::of(item.referenced);
                let field = Field {
                    name: place,
                    value: place,
                };
                Some((field, &item.value))
            }
            _ => None,
        }
    }
}

enum Segment {
    Name(String),
    Index(usize),
}

/// The steps of a path: names between dots, `[0]` and `["a.b"]`.
fn segments(path: &str) -> impl Iterator<Item = Segment> {
    let mut rest = path;
    std::iter::from_fn(move || {
        rest = rest.strip_prefix('.').unwrap_or(rest);
        if let Some(inner) = rest.strip_prefix('[') {
            let quoted = inner.strip_prefix('"');
            let (text, end) = match quoted {
                Some(text) => (text, "\"]"),
                None => (inner, "]"),
            };
            let (name, after) = text.split_once(end)?;
            rest = after;
            let index = quoted.is_none().then(|| name.parse().ok()).flatten();
            return Some(index.map_or_else(|| Segment::Name(name.to_owned()), Segment::Index));
        }
        if rest.is_empty() {
            return None;
        }
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        rest = after;
        Some(Segment::Name(name.to_owned()))
    })
}

impl<'de> Deserialize<'de> for Marks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Shape)
    }
}

struct Shape;

impl<'de> Visitor<'de> for Shape {
    type Value = Marks;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Marks, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Marks::Map(fields))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Marks, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Marks::List(items))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Marks, E> {
        Ok(Marks::Scalar)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Marks, E> {
        Ok(Marks::Scalar)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Marks, E> {
        Ok(Marks::Scalar)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Marks, E> {
        Ok(Marks::Scalar)
    }

    fn visit_str<E>(self, _: &str) -> Result<Marks, E> {
        Ok(Marks::Scalar)
    }

    fn visit_unit<E>(self) -> Result<Marks, E> {
        Ok(Marks::Scalar)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a: 1\nb:\n  - c: x\n    d.e: {f: 2}\n  - |\n    text\n";

    #[test]
    fn fields_are_found_where_they_stand() {
        let marks: Spanned<Marks> = serde_saphyr::from_str(TEXT).expect("YAML");
        let name = |path: &str| {
            let found = marks.value.find(path).map(|field| field.name);
            found.map(|place| (place.line, place.column))
        };
        assert_eq!(name("a"), Some((1, 1)));
        assert_eq!(name("b[0].c"), Some((3, 5)));
        assert_eq!(name("b[0][\"d.e\"].f"), Some((4, 11)));
        assert_eq!(name("b[0].c.nowhere"), Some((3, 5)), "what is around it");
        assert_eq!(name("b[7]"), Some((2, 1)));
        assert_eq!(name("nowhere"), None);
        assert!(marks.value.has("b") && !marks.value.has("c"));
    }
}
