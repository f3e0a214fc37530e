//! The scale subresource of instances: which fields `kubectl scale` and autoscalers read and write.
//!
//! After kro's proposal KREP-007, fields are marked: `replicas: integer | default=1 scale` in the schema's `spec`, and behind an
//! expression in its `status`: `${app.status.replicas} | scale` for the number there is, `| scaleSelector` for the label
//! selector of the Pods, as text. The marks are taken off before anything else looks at the fields. Left out: the
//! proposal's second phase, sets of instances.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::error::BuildError;
use crate::features::{Feature, Features};
use crate::rgd::SchemaSpec;

const SCALE: &str = "scale";
const SELECTOR: &str = "scaleSelector";
/// Schemas nest no deeper than this.
const DEPTH_LIMIT: usize = 64;

/// A schema without marks, and where they were.
pub(crate) struct Marked<'a> {
    /// The instances' `spec`, in SimpleSchema.
    pub spec: Cow<'a, Value>,
    /// The projections of the `status`.
    pub status: Cow<'a, Value>,
    marks: Marks,
}

#[derive(Default)]
struct Marks {
    /// Paths below `spec` of the wanted number.
    wanted: Vec<Vec<String>>,
    /// Paths below `status` of the present number.
    present: Vec<Vec<String>>,
    /// Paths below `status` of the selector.
    selector: Vec<Vec<String>>,
}

/// Takes the marks off a schema.
pub(crate) fn take(schema: &SchemaSpec, features: Features) -> Result<Marked<'_>, BuildError> {
    let mut marks = Marks::default();
    let spec = walk(&schema.spec, &mut Vec::new(), &mut |path, text| {
        let unmarked = without_marker(text)?;
        marks.wanted.push(path.to_vec());
        Some(unmarked)
    });
    let status = walk(&schema.status, &mut Vec::new(), &mut |path, text| {
        let (unmarked, name) = without_suffix(text)?;
        let found = if name == SCALE {
            &mut marks.present
        } else {
            &mut marks.selector
        };
        found.push(path.to_vec());
        Some(unmarked)
    });
    let first = [
        ("spec", SCALE, marks.wanted.first()),
        ("status", SCALE, marks.present.first()),
        ("status", SELECTOR, marks.selector.first()),
    ];
    for (part, name, path) in first {
        if let Some(path) = path {
            let used = features.require(Feature::ScaleSubresource, &format!("the marker {name}"));
            used.map_err(|message| BuildError::new(message).at(place(part, path)))?;
        }
    }
    let or_whole = |changed: Option<Value>, whole| changed.map_or(Cow::Borrowed(whole), Cow::Owned);
    Ok(Marked {
        spec: or_whole(spec, &schema.spec),
        status: or_whole(status, &schema.status),
        marks,
    })
}

/// Rewrites texts in a tree of maps; `None` if none was rewritten.
fn walk(
    value: &Value,
    path: &mut Vec<String>,
    rewrite: &mut impl FnMut(&[String], &str) -> Option<String>,
) -> Option<Value> {
    match value {
        Value::String(text) => rewrite(path, text).map(Value::String),
        Value::Object(fields) if path.len() < DEPTH_LIMIT => {
            let mut changed: Option<Map<String, Value>> = None;
            for (name, field) in fields {
                path.push(name.clone());
                if let Some(rewritten) = walk(field, path, rewrite) {
                    let copy = changed.get_or_insert_with(|| fields.clone());
                    copy.insert(name.clone(), rewritten);
                }
                path.pop();
            }
            changed.map(Value::Object)
        }
        _ => None,
    }
}

/// A field of SimpleSchema without the bare marker `scale`.
fn without_marker(text: &str) -> Option<String> {
    let (ty, markers) = text.split_once('|')?;
    let all = words(markers);
    let kept: Vec<&str> = all.iter().copied().filter(|word| *word != SCALE).collect();
    if kept.len() == all.len() {
        return None;
    }
    let ty = ty.trim_end();
    Some(if kept.is_empty() {
        ty.to_owned()
    } else {
        format!("{ty} | {}", kept.join(" "))
    })
}

/// Words between blanks; quotes and brackets hold blanks together.
fn words(text: &str) -> Vec<&str> {
    let (mut words, mut start) = (Vec::new(), None);
    let (mut quoted, mut escaped, mut depth) = (false, false, 0_usize);
    for (at, character) in text.char_indices() {
        if character.is_whitespace() && !quoted && depth == 0 {
            words.extend(start.take().map(|start| &text[start..at]));
            continue;
        }
        start.get_or_insert(at);
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '{' | '[' if !quoted => depth += 1,
            '}' | ']' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    words.extend(start.map(|start| &text[start..]));
    words
}

/// A projection without the mark behind it, and which mark that was.
fn without_suffix(text: &str) -> Option<(String, &'static str)> {
    let (expression, mark) = text.rsplit_once('|')?;
    let known = [SCALE, SELECTOR];
    let name = known.into_iter().find(|name| mark.trim() == *name)?;
    let expression = expression.trim();
    let is_expression = expression.starts_with("${") && expression.ends_with('}');
    is_expression.then(|| (expression.to_owned(), name))
}

fn place(part: &str, path: &[String]) -> String {
    format!("schema.{part}.{}", path.join("."))
}

impl Marked<'_> {
    /// Declares the subresource in a generated definition, and checks that the marked fields can be scaled by.
    pub fn declare(&self, crd: &mut Value) -> Result<(), BuildError> {
        let Marks {
            wanted,
            present,
            selector,
        } = &self.marks;
        if wanted.is_empty() && present.is_empty() && selector.is_empty() {
            return Ok(());
        }
        for (part, name, paths) in [
            ("spec", SCALE, wanted),
            ("status", SCALE, present),
            ("status", SELECTOR, selector),
        ] {
            if let [_, second, ..] = paths.as_slice() {
                let message = format!("the marker {name} stands at more than one field of {part}");
                return Err(BuildError::new(message).at(place(part, second)));
            }
        }
        let ([wanted], [present]) = (wanted.as_slice(), present.as_slice()) else {
            let (here, there) = if wanted.is_empty() {
                ("status", "spec")
            } else {
                ("spec", "status")
            };
            let message = format!(
                "the marker scale needs a field in spec and one in status; there is one in {here} and none in {there}"
            );
            return Err(BuildError::new(message).at(format!("schema.{there}")));
        };
        let mut scale = json!({
            "specReplicasPath": json_path(crd, "spec", wanted, "integer")?,
            "statusReplicasPath": json_path(crd, "status", present, "integer")?,
        });
        if let [selector] = selector.as_slice() {
            scale["labelSelectorPath"] = json_path(crd, "status", selector, "string")?.into();
        }
        crd["spec"]["versions"][0]["subresources"][SCALE] = scale;
        Ok(())
    }
}

/// The path of a marked field as definitions write it, if it has the right type.
fn json_path(
    crd: &Value,
    part: &str,
    path: &[String],
    expected: &str,
) -> Result<String, BuildError> {
    let root = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    let schema = path
        .iter()
        .fold(&root[part], |schema, name| &schema["properties"][name]);
    let fail = |message: String| Err(BuildError::new(message).at(place(part, path)));
    if schema["type"] != expected {
        let found = schema["type"].as_str().unwrap_or("of no known type");
        return fail(format!(
            "a field to scale by must be {expected}, this one is {found}"
        ));
    }
    let is_plain = |name: &String| {
        !name.is_empty()
            && name
                .chars()
                .all(|it| it.is_ascii_alphanumeric() || "-_".contains(it))
    };
    if !path.iter().all(is_plain) {
        return fail("a field to scale by must have a plain name on its whole path".to_owned());
    }
    Ok(format!(".{part}.{}", path.join(".")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_taken_off() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(without_marker(text).as_deref(), expect, "{text}");
        };
        check("integer | scale", Some("integer"));
        check(
            "integer | default=1 scale minimum=0",
            Some("integer | default=1 minimum=0"),
        );
        check("integer | description=\"to scale by\"", None);
        check(
            "integer | description=\"to scale by\" scale",
            Some("integer | description=\"to scale by\""),
        );
        check("integer", None);
        check("integer | default=1", None);
        let check = |text: &str, expect: Option<(&str, &str)>| {
            let found = without_suffix(text);
            let found = found.as_ref().map(|(text, name)| (text.as_str(), *name));
            assert_eq!(found, expect, "{text}");
        };
        check("${a.b} | scale", Some(("${a.b}", "scale")));
        check(
            "${a || b}|scaleSelector ",
            Some(("${a || b}", "scaleSelector")),
        );
        check("${a} | other", None);
        check("text | scale", None);
        check("${a}", None);
    }
}
