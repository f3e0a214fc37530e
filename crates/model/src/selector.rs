//! Label and field selectors: the query-string form and the object form.

use std::fmt;

use serde_json::{Map, Value};

use crate::{Error, names};

/// Most requirements one selector may have. Upstream sets no limit but the URL's length.
const REQUIREMENTS_MAX: usize = 1_000;

/// How a label requirement compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are Kubernetes' own")]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// One requirement on one label.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LabelRequirement {
    /// The label's key.
    pub key: String,
    /// How to compare.
    pub operator: Operator,
    /// With what; sorted.
    pub values: Vec<String>,
}

/// A conjunction of requirements on labels; the empty one selects everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct LabelSelector {
    requirements: Vec<LabelRequirement>,
    nothing: bool,
}

impl LabelSelector {
    /// Selects every object.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Selects no object: what a null selector means.
    pub fn nothing() -> Self {
        Self {
            requirements: Vec::new(),
            nothing: true,
        }
    }

    /// Selects objects that carry all the given labels.
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let requirements = labels
            .into_iter()
            .map(|(key, value)| LabelRequirement {
                key: key.to_owned(),
                operator: Operator::In,
                values: vec![value.to_owned()],
            })
            .collect();
        Self {
            requirements,
            nothing: false,
        }
    }

    /// Reads the query-string form: `a=b,c!=d,e in (f,g),h,!i`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut parser = Parser::new(text);
        let mut requirements = Vec::new();
        loop {
            match parser.peek() {
                Token::End if requirements.is_empty() => break,
                Token::Word(_) | Token::Not => requirements.push(parser.requirement()?),
                other => {
                    return Err(unparsable(&format!(
                        "found '{other}', expected: !, identifier, or 'end of string'"
                    )));
                }
            }
            if requirements.len() > REQUIREMENTS_MAX {
                return Err(unparsable("too many requirements"));
            }
            match parser.next() {
                Token::End => break,
                Token::Comma => {
                    if !matches!(parser.peek(), Token::Word(_) | Token::Not) {
                        let found = parser.peek().to_string();
                        return Err(unparsable(&format!(
                            "found '{found}', expected: identifier after ','"
                        )));
                    }
                }
                other => {
                    return Err(unparsable(&format!(
                        "found '{other}', expected: ',' or 'end of string'"
                    )));
                }
            }
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self {
            requirements,
            nothing: false,
        })
    }

    /// Reads the object form, with `matchLabels` and `matchExpressions`. Null selects nothing, an
    /// empty object everything.
    pub fn from_object(selector: Option<&Value>) -> Result<Self, Error> {
        let Some(Value::Object(selector)) = selector else {
            return Ok(Self::nothing());
        };
        let mut requirements = Vec::new();
        if let Some(Value::Object(labels)) = selector.get("matchLabels") {
            for (key, value) in labels {
                requirements.push(LabelRequirement {
                    key: key.clone(),
                    operator: Operator::In,
                    values: vec![value.as_str().unwrap_or_default().to_owned()],
                });
            }
        }
        for expression in selector
            .get("matchExpressions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            requirements.push(Self::expression(expression)?);
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self {
            requirements,
            nothing: false,
        })
    }

    fn expression(expression: &Value) -> Result<LabelRequirement, Error> {
        let text = |field: &str| {
            expression
                .get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let operator = match text("operator") {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            other => {
                return Err(Error::Selector(format!(
                    "\"{other}\" is not a valid label selector operator"
                )));
            }
        };
        let mut values: Vec<String> = expression
            .get("values")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|v| v.as_str().map(str::to_owned))
            .collect();
        values.sort();
        Ok(LabelRequirement {
            key: text("key").to_owned(),
            operator,
            values,
        })
    }

    /// The same selector, which also asks for a value of a label.
    #[must_use]
    pub fn and_label(self, key: &str, value: &str) -> Self {
        self.and(&Self::from_labels([(key, value)]))
    }

    /// Selects what both select.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.nothing |= other.nothing;
        self.requirements.extend(other.requirements.iter().cloned());
        self
    }

    /// Whether every object is selected.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    /// The requirements, all of which must hold.
    pub fn requirements(&self) -> &[LabelRequirement] {
        &self.requirements
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: Option<&Map<String, Value>>) -> bool {
        self.matches_with(|key| labels.and_then(|l| l.get(key)).and_then(Value::as_str))
    }

    /// Whether an object is selected whose labels `lookup` answers.
    pub fn matches_with<'a>(&self, lookup: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(lookup(&r.key)))
    }
}

impl LabelRequirement {
    fn matches(&self, value: Option<&str>) -> bool {
        let listed = |v: &str| self.values.iter().any(|candidate| candidate == v);
        match (self.operator, value) {
            (Operator::In, Some(v)) => listed(v),
            (Operator::NotIn, Some(v)) => !listed(v),
            (Operator::NotIn | Operator::DoesNotExist, None) => true,
            (Operator::Exists, found) => found.is_some(),
            (Operator::DoesNotExist, Some(_)) => false,
            (Operator::GreaterThan | Operator::LessThan, Some(v)) => {
                let limit = self.values.first().and_then(|l| l.parse::<i64>().ok());
                match (v.parse::<i64>(), limit) {
                    (Ok(v), Some(limit)) if self.operator == Operator::GreaterThan => v > limit,
                    (Ok(v), Some(limit)) => v < limit,
                    _ => false,
                }
            }
            (Operator::In | Operator::GreaterThan | Operator::LessThan, None) => false,
        }
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for LabelRequirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator {
            Operator::In if self.values.len() == 1 => write!(f, "{key}={values}"),
            Operator::NotIn if self.values.len() == 1 => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Comma,
    Open,
    Close,
    Not,
    Equals(&'static str),
    NotEquals,
    Greater,
    Less,
    End,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Word(word) => word,
            Self::Comma => ",",
            Self::Open => "(",
            Self::Close => ")",
            Self::Not => "!",
            Self::Equals(sign) => sign,
            Self::NotEquals => "!=",
            Self::Greater => ">",
            Self::Less => "<",
            Self::End => "",
        })
    }
}

fn unparsable(why: &str) -> Error {
    Error::Selector(format!("unable to parse requirement: {why}"))
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    fn peek(&self) -> Token {
        Self { rest: self.rest }.next()
    }

    fn next(&mut self) -> Token {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let signs = [
            ("!=", Token::NotEquals),
            ("==", Token::Equals("==")),
            ("=", Token::Equals("=")),
            ("!", Token::Not),
            (",", Token::Comma),
            ("(", Token::Open),
            (")", Token::Close),
            (">", Token::Greater),
            ("<", Token::Less),
        ];
        for (sign, token) in signs {
            if let Some(rest) = self.rest.strip_prefix(sign) {
                self.rest = rest;
                return token;
            }
        }
        let end = self
            .rest
            .find(|c: char| c.is_ascii_whitespace() || "!=,()<>".contains(c))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        if word.is_empty() {
            Token::End
        } else {
            Token::Word(word.to_owned())
        }
    }

    fn requirement(&mut self) -> Result<LabelRequirement, Error> {
        let negated = self.peek() == Token::Not;
        if negated {
            self.next();
        }
        let key = match self.next() {
            Token::Word(key) => key,
            other => {
                return Err(unparsable(&format!(
                    "found '{other}', expected: identifier"
                )));
            }
        };
        Self::check_key(&key)?;
        if negated {
            return Ok(LabelRequirement {
                key,
                operator: Operator::DoesNotExist,
                values: vec![],
            });
        }
        if matches!(self.peek(), Token::Comma | Token::End) {
            return Ok(LabelRequirement {
                key,
                operator: Operator::Exists,
                values: vec![],
            });
        }
        let (operator, values) = match self.next() {
            Token::Word(word) if word == "in" => (Operator::In, self.values()?),
            Token::Word(word) if word == "notin" => (Operator::NotIn, self.values()?),
            Token::Equals(_) => (Operator::In, vec![self.value()]),
            Token::NotEquals => (Operator::NotIn, vec![self.value()]),
            Token::Greater => (Operator::GreaterThan, vec![self.number()?]),
            Token::Less => (Operator::LessThan, vec![self.number()?]),
            other => {
                return Err(unparsable(&format!(
                    "found '{other}', expected: in, notin, =, ==, !=, gt, lt"
                )));
            }
        };
        for (index, value) in values.iter().enumerate() {
            if let Some(why) = names::label_value(value).first() {
                return Err(Error::Selector(format!(
                    "unable to parse requirement: values[{index}][{key}]: Invalid value: \"{value}\": {why}"
                )));
            }
        }
        Ok(LabelRequirement {
            key,
            operator,
            values,
        })
    }

    fn check_key(key: &str) -> Result<(), Error> {
        match names::qualified_name(key).as_slice() {
            [] => Ok(()),
            messages => Err(Error::Selector(format!(
                "unable to parse requirement: key: Invalid value: \"{key}\": {}",
                messages.join("; ")
            ))),
        }
    }

    fn value(&mut self) -> String {
        match self.peek() {
            Token::Word(word) => {
                self.next();
                word
            }
            _ => String::new(),
        }
    }

    fn number(&mut self) -> Result<String, Error> {
        let value = self.value();
        if value.parse::<i64>().is_err() {
            return Err(Error::Selector(format!(
                "unable to parse requirement: values[0]: Invalid value: \"{value}\": for 'Gt', 'Lt' operators, the value must be an integer"
            )));
        }
        Ok(value)
    }

    fn values(&mut self) -> Result<Vec<String>, Error> {
        match self.next() {
            Token::Open => {}
            other => return Err(unparsable(&format!("found '{other}' expected: '('"))),
        }
        let mut values = Vec::new();
        loop {
            values.push(self.value());
            match self.next() {
                Token::Comma => {}
                Token::Close => break,
                other => {
                    return Err(unparsable(&format!(
                        "found '{other}', expected: ',' or ')'"
                    )));
                }
            }
        }
        values.sort();
        values.dedup();
        Ok(values)
    }
}

/// One requirement on one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldRequirement {
    /// The field, such as `metadata.name`.
    pub field: String,
    /// The value.
    pub value: String,
    /// Whether the field must equal the value, or differ from it.
    pub equal: bool,
}

/// A conjunction of requirements on fields. Which fields a resource knows is for its server to say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSelector {
    /// The requirements.
    pub requirements: Vec<FieldRequirement>,
}

impl FieldSelector {
    /// Reads the query-string form: `metadata.name=a,status.phase!=Running`; `\` escapes.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut requirements = Vec::new();
        for term in split_unescaped(text) {
            if term.is_empty() {
                continue;
            }
            requirements.push(Self::term(term)?);
            if requirements.len() > REQUIREMENTS_MAX {
                return Err(Error::Selector("too many field requirements".to_owned()));
            }
        }
        Ok(Self { requirements })
    }

    fn term(term: &str) -> Result<FieldRequirement, Error> {
        for (sign, equal) in [("!=", false), ("==", true), ("=", true)] {
            // The leftmost sign wins, and at one place the longest.
            let Some(at) = term.find(['=', '!']) else {
                break;
            };
            if let Some(value) = term[at..].strip_prefix(sign) {
                let field = term[..at].to_owned();
                return Ok(FieldRequirement {
                    field,
                    value: unescape(value)?,
                    equal,
                });
            }
        }
        Err(Error::Selector(format!(
            "invalid selector: '{term}'; can't understand '{term}'"
        )))
    }

    /// Whether every requirement holds, given what each field is (missing: empty).
    pub fn matches_with<'a>(&self, lookup: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements
            .iter()
            .all(|r| (lookup(&r.field).unwrap_or_default() == r.value) == r.equal)
    }
}

fn split_unescaped(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn unescape(text: &str) -> Result<String, Error> {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => match characters.next() {
                Some(escaped @ ('\\' | ',' | '=')) => plain.push(escaped),
                _ => {
                    return Err(Error::Selector(format!(
                        "invalid field selector: invalid escape sequence in value: {text:?}"
                    )));
                }
            },
            ',' | '=' => {
                return Err(Error::Selector(format!(
                    "invalid field selector: unescaped character in value: {text:?}"
                )));
            }
            c => plain.push(c),
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(selector: &str, labels: Value, expect: bool) {
        let selector = LabelSelector::parse(selector).expect(selector);
        assert_eq!(
            selector.matches(labels.as_object()),
            expect,
            "{selector} on {labels}"
        );
    }

    #[test]
    fn label_selectors_select() {
        check("", json!({}), true);
        check("a=b", json!({"a": "b"}), true);
        check("a==b", json!({"a": "c"}), false);
        check("a!=b", json!({}), true);
        check("a in (b, c)", json!({"a": "c"}), true);
        check("a notin (b)", json!({"a": "b"}), false);
        check("a,!b", json!({"a": "x"}), true);
        check("a,!b", json!({"a": "x", "b": ""}), false);
        check("a>1", json!({"a": "2"}), true);
        check("a<1", json!({"a": "x"}), false);
        check("a=", json!({"a": ""}), true);
    }

    #[test]
    fn malformed_label_selectors_say_why() {
        let error = LabelSelector::parse("a in b").expect_err("no parenthesis");
        assert!(error.to_string().contains("expected: '('"), "{error}");
        assert!(LabelSelector::parse("a,,b").is_err());
        assert!(LabelSelector::parse("=b").is_err());
        assert!(LabelSelector::parse("-a=b").is_err());
    }

    #[test]
    fn the_object_form_means_the_same() {
        let selector = json!({
            "matchLabels": {"app": "web"},
            "matchExpressions": [{"key": "tier", "operator": "In", "values": ["b", "a"]}],
        });
        let selector = LabelSelector::from_object(Some(&selector)).expect("valid");
        assert_eq!(selector.to_string(), "app=web,tier in (a,b)");
        assert!(
            !LabelSelector::from_object(None)
                .expect("null")
                .matches(None)
        );
        assert!(
            LabelSelector::from_object(Some(&json!({})))
                .expect("empty")
                .matches(None)
        );
    }

    #[test]
    fn field_selectors_escape() {
        let selector = FieldSelector::parse(r"metadata.name=a\,b,status.phase!=x").expect("valid");
        assert_eq!(selector.requirements[0].value, "a,b");
        assert!(!selector.requirements[1].equal);
        assert!(FieldSelector::parse("nonsense").is_err());
    }
}
