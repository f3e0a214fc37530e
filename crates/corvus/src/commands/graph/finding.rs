//! What is wrong with a document, and where in its file: for people, and for editors and forges.

use std::fmt::Write as _;

use graph::BuildError;
use serde_json::{Value, json};

use super::documents::Document;
use super::marks::{Field, Place};

/// Something wrong.
pub struct Finding {
    document: Document,
    error: BuildError,
    place: Option<Place>,
    /// How many characters it is about.
    length: usize,
    message: String,
}

impl Finding {
    /// A finding about a document.
    pub fn new(document: &Document, error: BuildError) -> Self {
        let (message, inner) = without_position(&error.message);
        let field = field_of(document, &error);
        let mut finding = Self {
            document: document.clone(),
            place: field.map(|field| field.name),
            length: 1,
            message,
            error,
        };
        finding.look_closer(field, inner);
        finding
    }

    /// From the field to the expression in it, and to the place in the expression; or to the name.
    fn look_closer(&mut self, field: Option<Field>, inner: Option<Place>) {
        let Some(field) = field else { return };
        let text = self.document.text.clone();
        let expression = self.error.expression.as_deref().map(str::trim);
        let expression = expression.filter(|expression| !expression.is_empty());
        if let Some(start) = expression.and_then(|found| find(&text, field.value, found)) {
            let inner = inner.unwrap_or(Place { line: 1, column: 1 });
            self.place = Some(Place {
                line: start.line + inner.line - 1,
                column: if inner.line == 1 {
                    start.column + inner.column - 1
                } else {
                    inner.column
                },
            });
            self.length = match expression {
                Some(whole) if inner.column == 1 => first_line_length(whole),
                _ => 1,
            };
            return;
        }
        let line = line_at(&text, field.name.line);
        let name = line.chars().skip(field.name.column.saturating_sub(1));
        let is_name = |c: &char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
        self.length = name.take_while(is_name).count().max(1);
    }

    /// For people: one line with the place, the line of the file and what in it is meant.
    pub fn text(&self) -> String {
        let file = self.document.file.display();
        let mut text = match self.place {
            Some(place) => format!("{file}:{}:{}: ", place.line, place.column),
            None => format!("{file}: "),
        };
        let _ = write!(text, "{}: {}", self.document.title(), self.described());
        if let Some(place) = self.place {
            let number = place.line.to_string();
            let margin = " ".repeat(number.len());
            let line = line_at(&self.document.text, place.line);
            let before = " ".repeat(place.column.saturating_sub(1));
            let carets = "^".repeat(self.length);
            let _ = write!(
                text,
                "\n{margin} |\n{number} | {line}\n{margin} | {before}{carets}"
            );
        }
        text
    }

    fn described(&self) -> String {
        let mut text = String::new();
        if let Some(resource) = &self.error.resource {
            let _ = write!(text, "resource {resource:?}: ");
        }
        if let Some(path) = self.error.path.as_deref().filter(|path| !path.is_empty()) {
            let _ = write!(text, "path {path:?}: ");
        }
        text + &self.message
    }

    /// For programs.
    pub fn json(&self) -> Value {
        json!({
            "file": self.document.file.display().to_string(),
            "line": self.place.map(|place| place.line),
            "column": self.place.map(|place| place.column),
            "kind": self.document.kind(),
            "name": self.document.value["metadata"]["name"],
            "resource": self.error.resource,
            "path": self.error.path,
            "expression": self.error.expression,
            "message": self.error.message,
        })
    }

    fn rule(&self) -> &'static str {
        match (self.document.is_definition(), &self.error.expression) {
            (true, Some(_)) => "expression",
            (true, None) => "definition",
            (false, _) => "instance",
        }
    }

    fn sarif(&self) -> Value {
        let file = self.document.file.display().to_string();
        let mut location = json!({"artifactLocation": {"uri": file}});
        if let Some(place) = self.place {
            location["region"] = json!({
                "startLine": place.line,
                "startColumn": place.column,
                "endColumn": place.column + self.length,
            });
        }
        json!({
            "ruleId": self.rule(),
            "level": "error",
            "message": {"text": format!("{}: {}", self.document.title(), self.described())},
            "locations": [{"physicalLocation": location}],
        })
    }
}

/// All findings in the Static Analysis Results Interchange Format, version 2.1.0.
pub fn sarif(findings: &[Finding]) -> Value {
    let rules = [
        (
            "definition",
            "A ResourceGraphDefinition the server would refuse",
        ),
        ("expression", "An expression that does not compile"),
        ("instance", "An instance the server would refuse"),
    ];
    let rules = rules.map(|(id, text)| json!({"id": id, "shortDescription": {"text": text}}));
    let results: Vec<Value> = findings.iter().map(Finding::sarif).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "corvus graph lint",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

/// The field an error is about. Errors of resources give paths from the resource or from its template,
/// those of the schema from the definition's `spec`.
fn field_of(document: &Document, error: &BuildError) -> Option<Field> {
    let path = error.path.as_deref().unwrap_or_default();
    let marks = &document.marks;
    if let Some(resource) = &error.resource {
        let resources = document.value["spec"]["resources"].as_array();
        let index = resources.and_then(|list| list.iter().position(|r| r["id"] == *resource));
        let root = format!("spec.resources[{}]", index?);
        let bodies = ["template", "variable", "def", "patch", "externalRef"];
        let template = bodies
            .map(|body| format!("{root}.{body}"))
            .into_iter()
            .find(|body| marks.inside(body).is_some())
            .unwrap_or_default();
        let first = path.split(['.', '[']).next().unwrap_or_default();
        let in_resource = marks.inside(&root).is_some_and(|inside| inside.has(first));
        let in_template = marks.inside(&template).is_some();
        return match (path, in_resource || !in_template) {
            ("", _) => marks.find(&format!("{root}.id")),
            (_, true) => marks.find(&format!("{root}.{path}")),
            (_, false) => marks.find(&format!("{template}.{path}")),
        };
    }
    // What a schema's validation says begins with the path.
    let told = error.message.split([':', ' ']).next().unwrap_or_default();
    [path.to_owned(), format!("spec.{path}"), told.to_owned()]
        .into_iter()
        .filter(|path| !path.is_empty() && path != "spec.")
        .find_map(|path| marks.find(&path))
        .or_else(|| marks.find("kind"))
}

/// The message without the position in its expression and the picture of it, and the position.
fn without_position(message: &str) -> (String, Option<Place>) {
    let parse = || {
        let rest = message.strip_prefix("ERROR: <input>:")?;
        let (line, rest) = rest.split_once(':')?;
        let (column, rest) = rest.split_once(": ")?;
        let place = Place {
            line: line.parse().ok()?,
            column: column.parse().ok()?,
        };
        let text = rest.split("\n | ").next().unwrap_or(rest);
        Some((text.to_owned(), Some(place)))
    };
    parse().unwrap_or_else(|| (message.to_owned(), None))
}

/// Where a text first stands at or after a place; looked for as it is, so a text that YAML writes
/// otherwise (escaped, folded) is not found.
fn find(text: &str, from: Place, wanted: &str) -> Option<Place> {
    let first = wanted.lines().next()?;
    text.lines()
        .enumerate()
        .skip(from.line.checked_sub(1)?)
        .find_map(|(index, line)| {
            let skip = if index + 1 == from.line {
                from.column - 1
            } else {
                0
            };
            let start = line
                .char_indices()
                .nth(skip)
                .map_or(line.len(), |(at, _)| at);
            let at = start + line[start..].find(first)?;
            Some(Place {
                line: index + 1,
                column: line[..at].chars().count() + 1,
            })
        })
}

fn line_at(text: &str, number: usize) -> &str {
    text.lines()
        .nth(number.saturating_sub(1))
        .unwrap_or_default()
}

fn first_line_length(text: &str) -> usize {
    text.lines().next().map_or(1, |line| line.chars().count())
}
