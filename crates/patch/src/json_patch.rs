//! JSON patch (RFC 6902) with the liberties the API server takes: `replace` of a missing member
//! adds it, `copy` of one and `add` without a value write null, `test` takes a missing member for
//! null, and negative indexes count from the end.

use serde_json::Value;

use crate::Error;

/// All copies of a patch together may be no larger, as upstream.
const COPIED_BYTES_MAX: usize = 3 * 1024 * 1024;

/// A sequence of operations.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonPatch {
    operations: Vec<Value>,
}

impl JsonPatch {
    /// Reads a patch. Operations that make no sense show when the patch is applied.
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        let malformed = |text: String| Error::Malformed(format!("error decoding patch: {text}"));
        let found: Value =
            serde_json::from_slice(json).map_err(|error| malformed(go_error(&error, json)))?;
        let wrong = |what: &str, kind: &str| {
            malformed(format!(
                "json: cannot unmarshal {what} into Go value of type {kind}"
            ))
        };
        match found {
            Value::Array(operations) => match operations.iter().find(|found| !found.is_object()) {
                None => Ok(Self { operations }),
                Some(other) => Err(wrong(json_type(other), "handlers.jsonPatchOp")),
            },
            Value::Null => Ok(Self {
                operations: Vec::new(),
            }),
            other => Err(wrong(json_type(&other), "[]handlers.jsonPatchOp")),
        }
    }

    /// The number of operations: the server allows 10 000.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// The patched document; all operations succeed or none counts.
    pub fn apply(&self, document: &Value) -> Result<Value, Error> {
        let mut patching = Patching {
            document: document.clone(),
            copied_bytes: 0,
        };
        for operation in &self.operations {
            patching.perform(operation).ok_or(Error::Unprocessable)?;
        }
        Ok(patching.document)
    }
}

impl JsonPatch {
    /// As [`JsonPatch::apply`], for callers that tell what is wrong: the error names the operation and
    /// its path. `None` where a test does not hold.
    pub fn apply_explained(&self, document: &Value) -> Result<Option<Value>, String> {
        let mut patching = Patching {
            document: document.clone(),
            copied_bytes: 0,
        };
        for operation in &self.operations {
            if patching.perform(operation).is_some() {
                continue;
            }
            return match operation.get("op").and_then(Value::as_str) {
                Some("test") => Ok(None),
                op => Err(explain(
                    op.unwrap_or_default(),
                    operation,
                    &patching.document,
                )),
            };
        }
        Ok(Some(patching.document))
    }
}

/// Why an operation fails, in the words of the library upstream uses.
fn explain(op: &str, operation: &Value, document: &Value) -> String {
    let text = |field: &str| operation.get(field).and_then(Value::as_str);
    let Some(path) = text("path") else {
        return format!("{op} operation failed to decode path: missing value");
    };
    let parent_of = |path: &str| path.rfind('/').map(|at| path[..at].to_owned());
    let lacks_parent = |path: &str| {
        let parent = parent_of(path).and_then(|parent| get(document, &parent).cloned());
        !parent.is_some_and(|parent| parent.is_object() || parent.is_array())
    };
    match op {
        "add" | "remove" if lacks_parent(path) => {
            format!("{op} operation does not apply: doc is missing path: {path:?}: missing value")
        }
        "remove" => {
            let key = path.rsplit('/').next().unwrap_or_default();
            format!(
                "error in remove for path: '{path}': Unable to remove nonexistent key: {key}: missing value"
            )
        }
        "replace" if lacks_parent(path) => {
            format!("replace operation does not apply: doc is missing path: {path}: missing value")
        }
        "replace" => {
            format!("replace operation does not apply: doc is missing key: {path}: missing value")
        }
        "move" | "copy" => {
            let from = text("from").unwrap_or_default();
            if get(document, from).is_none() {
                format!(
                    "{op} operation does not apply: doc is missing from path: {from}: missing value"
                )
            } else {
                format!(
                    "{op} operation does not apply: doc is missing destination path: {path}: missing value"
                )
            }
        }
        "add" => format!("error in add for path: '{path}': invalid index referenced"),
        other => format!("Unexpected kind: {other}"),
    }
}

/// The syntax error as Go words it.
pub(crate) fn go_error(error: &serde_json::Error, json: &[u8]) -> String {
    if error.is_eof() {
        return "unexpected end of JSON input".to_owned();
    }
    let line = json
        .split(|byte| *byte == b'\n')
        .nth(error.line().saturating_sub(1))
        .unwrap_or_default();
    let text = String::from_utf8_lossy(
        line.get(error.column().saturating_sub(1)..)
            .unwrap_or_default(),
    );
    match text.chars().next() {
        Some(found) => format!("invalid character {found:?} looking for beginning of value"),
        None => error.to_string(),
    }
}

fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// A document being patched.
struct Patching {
    document: Value,
    copied_bytes: usize,
}

impl Patching {
    /// `None` when an operation fails: why makes no difference to the answer.
    fn perform(&mut self, operation: &Value) -> Option<()> {
        let document = &mut self.document;
        let path = operation.get("path")?.as_str()?;
        let value = || operation.get("value").cloned().unwrap_or(Value::Null);
        let from = || operation.get("from")?.as_str();
        match operation.get("op")?.as_str()? {
            "add" => add(document, path, value()),
            "remove" => remove(document, path).map(|_| ()),
            "replace" => replace(document, path, value()),
            "move" => {
                let value = remove(document, from()?)?;
                add(document, path, value)
            }
            "copy" => {
                let value = get(document, from()?)?.clone();
                // Copies of copies grow without end.
                self.copied_bytes += value.to_string().len();
                (self.copied_bytes <= COPIED_BYTES_MAX).then_some(())?;
                add(document, path, value)
            }
            "test" if path.is_empty() => (*document == value()).then_some(()),
            "test" => (*get(document, path)? == value()).then_some(()),
            _ => None,
        }
    }
}

/// Whether a value put `steps` deep keeps the document within the depth allowed.
fn is_shallow(value: &Value, steps: usize) -> bool {
    fn depth(value: &Value) -> usize {
        let below = match value {
            Value::Array(items) => items.iter().map(depth).max(),
            Value::Object(members) => members.values().map(depth).max(),
            _ => return 0,
        };
        1 + below.unwrap_or(0)
    }
    steps + depth(value) <= schema::MAX_DEPTH
}

/// The steps of a path up to its last, and the last. What stands before the first slash is not
/// looked at.
fn steps(path: &str) -> Option<(Vec<String>, String)> {
    let mut steps: Vec<String> = path
        .split('/')
        .skip(1)
        .map(|step| step.replace("~1", "/").replace("~0", "~"))
        .collect();
    let last = steps.pop()?;
    Some((steps, last))
}

/// An existing element's place; negative ones count from the end.
fn place(index: &str, length: usize) -> Option<usize> {
    let index: i64 = index.parse().ok()?;
    let index = if index < 0 {
        index + length as i64
    } else {
        index
    };
    usize::try_from(index).ok().filter(|index| *index < length)
}

fn step_into<'a>(value: &'a Value, step: &str) -> Option<&'a Value> {
    match value {
        Value::Object(members) => members.get(step),
        Value::Array(items) => items.get(place(step, items.len())?),
        _ => None,
    }
}

fn parent<'a>(document: &'a mut Value, steps: &[String]) -> Option<&'a mut Value> {
    steps.iter().try_fold(document, |value, step| match value {
        Value::Object(members) => members.get_mut(step),
        Value::Array(items) => {
            let at = place(step, items.len())?;
            items.get_mut(at)
        }
        _ => None,
    })
}

/// The value at a path; null when only the last member is missing.
fn get<'a>(document: &'a Value, path: &str) -> Option<&'a Value> {
    let (steps, last) = steps(path)?;
    match steps
        .iter()
        .try_fold(document, |value, step| step_into(value, step))?
    {
        Value::Object(members) => Some(members.get(&last).unwrap_or(&Value::Null)),
        list @ Value::Array(_) => step_into(list, &last),
        _ => None,
    }
}

fn add(document: &mut Value, path: &str, value: Value) -> Option<()> {
    is_shallow(&value, path.split('/').count()).then_some(())?;
    let (steps, last) = steps(path)?;
    match parent(document, &steps)? {
        Value::Object(members) => {
            members.insert(last, value);
        }
        Value::Array(items) if last == "-" => items.push(value),
        Value::Array(items) => {
            let index: i64 = last.parse().ok()?;
            let length = items.len() as i64;
            let index = if index < 0 { index + length + 1 } else { index };
            let index = usize::try_from(index)
                .ok()
                .filter(|index| *index <= items.len())?;
            items.insert(index, value);
        }
        _ => return None,
    }
    Some(())
}

fn remove(document: &mut Value, path: &str) -> Option<Value> {
    let (steps, last) = steps(path)?;
    match parent(document, &steps)? {
        Value::Object(members) => members.remove(&last),
        Value::Array(items) => {
            let at = place(&last, items.len())?;
            Some(items.remove(at))
        }
        _ => None,
    }
}

fn replace(document: &mut Value, path: &str, value: Value) -> Option<()> {
    is_shallow(&value, path.split('/').count()).then_some(())?;
    if path.is_empty() {
        let is_document = value.is_object() || value.is_array();
        return is_document.then(|| *document = value);
    }
    let (steps, last) = steps(path)?;
    match parent(document, &steps)? {
        Value::Object(members) => {
            members.insert(last, value);
        }
        Value::Array(items) => {
            let at = place(&last, items.len())?;
            items[at] = value;
        }
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(operations: Value, expect: Option<Value>) {
        let document = json!({"data": {"a": "1", "b~c/d": "x"}, "list": [1, 2, 3]});
        let patch = JsonPatch::parse(operations.to_string().as_bytes()).expect("well formed");
        assert_eq!(
            patch.apply(&document).ok(),
            expect.map(|changed| {
                let mut document = document.clone();
                crate::merge_patch(&mut document, &changed);
                document
            }),
            "{operations}"
        );
    }

    #[test]
    fn operations_do_what_the_server_does() {
        check(
            json!([{"op": "add", "path": "/data/c", "value": "3"}]),
            Some(json!({"data": {"c": "3"}})),
        );
        check(
            json!([{"op": "replace", "path": "/data/zz", "value": "5"}]),
            Some(json!({"data": {"zz": "5"}})),
        );
        check(
            json!([{"op": "remove", "path": "/data/a"}]),
            Some(json!({"data": {"a": null}})),
        );
        check(json!([{"op": "remove", "path": "/data/yy"}]), None);
        check(json!([{"op": "add", "path": "/nope/a", "value": 1}]), None);
        check(
            json!([{"op": "copy", "from": "/data/a", "path": "/data/d"}]),
            Some(json!({"data": {"d": "1"}})),
        );
        check(
            json!([{"op": "move", "from": "/data/a", "path": "/data/d"}]),
            Some(json!({"data": {"a": null, "d": "1"}})),
        );
        check(
            json!([{"op": "test", "path": "/data/a", "value": "1"}]),
            Some(json!({})),
        );
        check(
            json!([{"op": "test", "path": "/data/a", "value": "2"}]),
            None,
        );
        check(
            json!([{"op": "test", "path": "/data/zz", "value": null}]),
            Some(json!({})),
        );
        check(
            json!([{"op": "replace", "path": "/data/b~0c~1d", "value": "y"}]),
            Some(json!({"data": {"b~c/d": "y"}})),
        );
        check(
            json!([{"op": "add", "path": "data/a", "value": "1"}]),
            Some(json!({"a": "1"})),
        );
        check(
            json!([{"op": "add", "path": "/list/-", "value": 4}]),
            Some(json!({"list": [1, 2, 3, 4]})),
        );
        check(
            json!([{"op": "add", "path": "/list/0", "value": 0}]),
            Some(json!({"list": [0, 1, 2, 3]})),
        );
        check(json!([{"op": "add", "path": "/list/9", "value": 0}]), None);
        check(
            json!([{"op": "remove", "path": "/list/-1"}]),
            Some(json!({"list": [1, 2]})),
        );
        check(json!([{"op": "merge", "path": "/data", "value": {}}]), None);
        check(json!([{"op": "add", "value": 1}]), None);
        check(json!([{"path": "/data/a"}]), None);
    }

    #[test]
    fn copies_of_copies_end() {
        let deeper = json!({"op": "copy", "from": "/data", "path": "/data/x"});
        let patch = JsonPatch {
            operations: vec![deeper; 200],
        };
        assert_eq!(patch.apply(&json!({"data": {}})), Err(Error::Unprocessable));
        let wider = json!({"op": "copy", "from": "/list", "path": "/list/-"});
        let patch = JsonPatch {
            operations: vec![wider; 40],
        };
        assert_eq!(
            patch.apply(&json!({"list": ["some text"]})),
            Err(Error::Unprocessable)
        );
    }

    #[test]
    fn missing_values_are_null() {
        let document = json!({"data": {}});
        let check = |operation: Value| {
            let patch =
                JsonPatch::parse(json!([operation]).to_string().as_bytes()).expect("well formed");
            assert_eq!(patch.apply(&document), Ok(json!({"data": {"d": null}})));
        };
        check(json!({"op": "add", "path": "/data/d"}));
        check(json!({"op": "copy", "from": "/data/yy", "path": "/data/d"}));
    }

    #[test]
    fn malformed_patches_are_told_in_gos_words() {
        let check = |json: &str, expect: &str| {
            let error = JsonPatch::parse(json.as_bytes()).expect_err("malformed");
            assert_eq!(error.to_string(), format!("error decoding patch: {expect}"));
        };
        check(
            "{}",
            "json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
        );
        check("[{", "unexpected end of JSON input");
        check("", "unexpected end of JSON input");
        check(
            "hello",
            "invalid character 'h' looking for beginning of value",
        );
    }
}
