//! Finds `${...}` in strings, and names the places they are found at.
//!
//! The scanner follows kro's rules to the letter: braces are counted, double quotes (not single ones) hide braces, a
//! nested `${` is an error unless a double quote stands right before it, and what never ends is plain text.

use std::fmt;

use thiserror::Error;

/// A string with this many starts that never end is refused: each costs a scan of the rest.
const UNTERMINATED_LIMIT: usize = 64;

/// Why a string is no template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TemplateError {
    /// `${outer(${inner})}`.
    #[error("nested expressions are not allowed unless inside string literals")]
    Nested,
    /// Something else than one expression where only an expression may stand.
    #[error("only standalone expressions are allowed")]
    NotStandalone,
    /// Too many `${` without end.
    #[error("more than 64 \"${{\" without closing brace")]
    TooManyUnterminated,
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text that is copied.
    Literal(String),
    /// The source of an expression, without `${` and `}`.
    Expression(String),
}

/// What a string is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Template {
    /// Plain text.
    Literal,
    /// Exactly one expression, whose value keeps its type.
    Standalone(String),
    /// Text with expressions in it; always a string.
    Mixed(Vec<Part>),
}

impl Template {
    /// Takes a string apart.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut literal_from = 0;
        let mut search_from = 0;
        let mut unterminated = 0;
        while let Some(offset) = text[search_from..].find("${") {
            let start = search_from + offset;
            let Some(end) = expression_end(text, start + 2)? else {
                unterminated += 1;
                if unterminated > UNTERMINATED_LIMIT {
                    return Err(TemplateError::TooManyUnterminated);
                }
                search_from = start + 1;
                continue;
            };
            if start > literal_from {
                parts.push(Part::Literal(text[literal_from..start].to_owned()));
            }
            parts.push(Part::Expression(text[start + 2..end].to_owned()));
            literal_from = end + 1;
            search_from = end + 1;
        }
        if parts.is_empty() {
            return Ok(Self::Literal);
        }
        if literal_from < text.len() {
            parts.push(Part::Literal(text[literal_from..].to_owned()));
        }
        match parts.as_mut_slice() {
            [Part::Expression(source)] => Ok(Self::Standalone(std::mem::take(source))),
            _ => Ok(Self::Mixed(parts)),
        }
    }

    /// The source of a string that must be exactly one expression.
    pub fn standalone(text: &str) -> Result<String, TemplateError> {
        match Self::parse(text)? {
            Self::Standalone(source) => Ok(source),
            Self::Literal | Self::Mixed(_) => Err(TemplateError::NotStandalone),
        }
    }
}

/// Where the expression that begins at `from` ends (the place of its `}`), if it does.
fn expression_end(text: &str, from: usize) -> Result<Option<usize>, TemplateError> {
    let bytes = text.as_bytes();
    let mut depth = 1_usize;
    let mut quoted = false;
    let mut at = from;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if quoted => at += 1,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return Ok(Some(at));
                }
            }
            b'$' if bytes.get(at + 1) == Some(&b'{') && bytes[at - 1] != b'"' => {
                return Err(TemplateError::Nested);
            }
            _ => {}
        }
        at += 1;
    }
    Ok(None)
}

/// One step into a document.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// Into a map.
    Field(String),
    /// Into a list.
    Index(usize),
}

/// A place in a document: `spec.containers[0].env`, `metadata.labels["app.kubernetes.io/name"]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FieldPath {
    steps: Vec<Step>,
}

impl FieldPath {
    /// The document itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// A field of this place.
    pub fn field(&self, name: &str) -> Self {
        self.step(Step::Field(name.to_owned()))
    }

    /// An element of this place.
    pub fn index(&self, index: usize) -> Self {
        self.step(Step::Index(index))
    }

    fn step(&self, step: Step) -> Self {
        let mut steps = self.steps.clone();
        steps.push(step);
        Self { steps }
    }

    /// The steps from the root.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Whether this is the field path `names`.
    pub fn is(&self, names: &[&str]) -> bool {
        self.steps.len() == names.len() && self.starts_with(names)
    }

    /// Whether this place is `names` or below.
    pub fn starts_with(&self, names: &[&str]) -> bool {
        self.steps.len() >= names.len()
            && self
                .steps
                .iter()
                .zip(names)
                .all(|(step, name)| matches!(step, Step::Field(field) if field == name))
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.steps.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Field(name) if name.is_empty() || name.contains('.') => {
                    write!(f, "[{name:?}]")?;
                }
                Step::Field(name) if position == 0 => f.write_str(name)?,
                Step::Field(name) => write!(f, ".{name}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn standalone(text: &str, source: &str) {
        assert_eq!(
            Template::parse(text),
            Ok(Template::Standalone(source.into())),
            "{text}"
        );
    }

    fn mixed(text: &str, expect: &[&str]) {
        let Ok(Template::Mixed(parts)) = Template::parse(text) else {
            panic!("{text}")
        };
        let shown: Vec<String> = parts
            .into_iter()
            .map(|part| match part {
                Part::Literal(text) => text,
                Part::Expression(source) => format!("<{source}>"),
            })
            .collect();
        assert_eq!(shown, expect, "{text}");
    }

    #[test]
    fn expressions() {
        standalone("${a.b}", "a.b");
        standalone("${{'a': {'b': 1}}}", "{'a': {'b': 1}}");
        standalone("${\"}\"}", "\"}\"");
        standalone("${\"\\\"}\"}", "\"\\\"}\"");
        standalone("${\"${VAR}\"}", "\"${VAR}\"");
        standalone("${a\n  + b}", "a\n  + b");
        mixed("${a}-${b}", &["<a>", "-", "<b>"]);
        mixed(" ${a}", &[" ", "<a>"]);
        mixed("${a}\n", &["<a>", "\n"]);
    }

    #[test]
    fn plain_text() {
        for text in ["", "a", "$", "${", "${a", "$a}", "{a}", "${\"}"] {
            assert_eq!(Template::parse(text), Ok(Template::Literal), "{text}");
        }
        // A single quote hides nothing, so the first brace ends the expression.
        mixed("${'}'}", &["<'>", "'}"]);
    }

    #[test]
    fn refused() {
        assert_eq!(Template::parse("${a(${b})}"), Err(TemplateError::Nested));
        assert_eq!(
            Template::standalone("${a} "),
            Err(TemplateError::NotStandalone)
        );
        assert_eq!(Template::standalone("a"), Err(TemplateError::NotStandalone));
        assert_eq!(
            Template::parse(&"\"${".repeat(500)),
            Err(TemplateError::TooManyUnterminated)
        );
    }

    #[test]
    fn paths() {
        let path = FieldPath::root()
            .field("spec")
            .field("list")
            .index(0)
            .field("a.b")
            .field("")
            .field("c");
        assert_eq!(path.to_string(), "spec.list[0][\"a.b\"][\"\"].c");
        assert!(path.starts_with(&["spec", "list"]));
        assert!(!path.is(&["spec"]));
    }

    proptest! {
        #[test]
        fn parts_put_together_are_the_text(text in "[a\"'{}$\\\\ é]{0,40}") {
            let together = match Template::parse(&text) {
                Ok(Template::Literal) | Err(_) => text.clone(),
                Ok(Template::Standalone(source)) => format!("${{{source}}}"),
                Ok(Template::Mixed(parts)) => parts.into_iter().map(|part| match part {
                    Part::Literal(text) => text,
                    Part::Expression(source) => format!("${{{source}}}"),
                }).collect(),
            };
            prop_assert_eq!(together, text);
        }
    }
}
