//! The part of JSONPath that printer columns and selectable fields use.
//!
//! `.a.b`, `['a']`, `[0]`, `[-1]`, `[*]` and filters of one comparison such as
//! `[?(@.type=="Ready")]`. Anything else is an error when the definition is made, not when it is read.

use serde_json::Value;

/// Longest path.
const STEPS_MAX: usize = 64;

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    All,
    Filter {
        path: Vec<String>,
        equal: bool,
        value: Value,
    },
}

/// A parsed path.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonPath(Vec<Step>);

impl JsonPath {
    /// Parses a path such as `.status.conditions[?(@.type=="Ready")].status`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut steps = Vec::new();
        let mut rest = text.trim().strip_prefix('$').unwrap_or(text.trim());
        while !rest.is_empty() {
            if steps.len() == STEPS_MAX {
                return Err(format!("more than {STEPS_MAX} steps"));
            }
            if let Some(after) = rest.strip_prefix('[') {
                let end = closing(after).ok_or("unterminated array")?;
                steps.push(bracket(&after[..end])?);
                rest = &after[end + 1..];
            } else if let Some(after) = rest.strip_prefix('.') {
                let (name, left) = field(after)?;
                if name == "*" {
                    steps.push(Step::All);
                } else if !name.is_empty() {
                    steps.push(Step::Field(name));
                }
                rest = left;
            } else {
                return Err(format!(
                    "unexpected {rest:?}: a step starts with a dot or a bracket"
                ));
            }
        }
        Ok(Self(steps))
    }

    /// Every value the path leads to.
    pub fn find<'a>(&self, root: &'a Value) -> Vec<&'a Value> {
        let mut values = vec![root];
        for step in &self.0 {
            values = values
                .into_iter()
                .flat_map(|value| step.find(value))
                .collect();
        }
        values
    }
}

/// The closing bracket, outside quotes.
fn closing(text: &str) -> Option<usize> {
    let (mut quote, mut depth) = (None, 0);
    for (i, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(i),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

/// A field name up to the next step; `\.` is a dot in it.
fn field(text: &str) -> Result<(String, &str), String> {
    let mut name = String::new();
    let mut characters = text.char_indices();
    while let Some((i, c)) = characters.next() {
        match c {
            '\\' => match characters.next() {
                Some((_, escaped)) => name.push(escaped),
                None => return Err("a path ends with a backslash".to_owned()),
            },
            '.' | '[' => return Ok((name, &text[i..])),
            c => name.push(c),
        }
    }
    Ok((name, ""))
}

fn bracket(text: &str) -> Result<Step, String> {
    let text = text.trim();
    if text == "*" {
        return Ok(Step::All);
    }
    if let Some(filter) = text.strip_prefix("?(").and_then(|f| f.strip_suffix(')')) {
        return comparison(filter);
    }
    if let Some(name) = unquote(text) {
        return Ok(Step::Field(name.to_owned()));
    }
    text.parse()
        .map(Step::Index)
        .map_err(|_| format!("invalid array index {text:?}"))
}

fn unquote(text: &str) -> Option<&str> {
    ['"', '\'']
        .into_iter()
        .find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))
}

fn comparison(text: &str) -> Result<Step, String> {
    for (sign, equal) in [("==", true), ("!=", false)] {
        if let Some((left, right)) = text.split_once(sign) {
            let path = left
                .trim()
                .strip_prefix("@.")
                .ok_or_else(|| format!("filter {text:?} does not start with @."))?;
            let right = right.trim();
            let value = match unquote(right) {
                Some(text) => Value::from(text),
                None => serde_json::from_str(right)
                    .map_err(|_| format!("filter {text:?} compares with no literal"))?,
            };
            let path = path.split('.').map(str::to_owned).collect();
            return Ok(Step::Filter { path, equal, value });
        }
    }
    Err(format!("filter {text:?} is no comparison with == or !="))
}

impl Step {
    fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        match (self, value) {
            (Self::Field(name), value) => value.get(name).into_iter().collect(),
            (Self::Index(index), Value::Array(items)) => {
                let index = if *index < 0 {
                    items.len() as i64 + index
                } else {
                    *index
                };
                usize::try_from(index)
                    .ok()
                    .and_then(|i| items.get(i))
                    .into_iter()
                    .collect()
            }
            (Self::All, Value::Array(items)) => items.iter().collect(),
            (Self::All, Value::Object(members)) => members.values().collect(),
            (
                Self::Filter {
                    path,
                    equal,
                    value: wanted,
                },
                Value::Array(items),
            ) => items
                .iter()
                .filter(|item| {
                    let found = path.iter().try_fold(*item, |value, name| value.get(name));
                    (found == Some(wanted)) == *equal
                })
                .collect(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(path: &str, expect: &[Value]) {
        let object = json!({
            "a": {"b.c": 1, "list": [{"type": "Ready", "status": "True"}, {"type": "X", "status": "False"}]},
        });
        let path = JsonPath::parse(path).expect(path);
        assert_eq!(path.find(&object), expect.iter().collect::<Vec<_>>());
    }

    #[test]
    fn paths_lead_to_values() {
        check(r#".a.list[?(@.type=="Ready")].status"#, &[json!("True")]);
        check(".a.list[*].type", &[json!("Ready"), json!("X")]);
        check(".a.list[-1].type", &[json!("X")]);
        check(r".a.b\.c", &[json!(1)]);
        check(".a['b.c']", &[json!(1)]);
        check(".nothing.here", &[]);
    }

    #[test]
    fn malformed_paths_are_refused() {
        for path in ["a", ".a[", ".a[?(x)]", ".a[x]"] {
            assert!(JsonPath::parse(path).is_err(), "{path}");
        }
    }
}
