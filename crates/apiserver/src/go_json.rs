//! Errors of malformed bodies, worded as Go's JSON decoder and the API server word them.

use model::Status;
use serde_json::Value;

/// How much of a body stands in an error, as upstream.
const PREVIEW_BYTES: usize = 30;

/// Parses a body of JSON into an object of kind `kind`; null and nothing but white space are what
/// upstream makes of them.
pub fn parse(body: &[u8], kind: &str) -> Result<Value, Status> {
    let failure = |why: &str| {
        Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): couldn't get \
             version/kind; json parse error: {why} ({})",
            preview(body)
        ))
    };
    match serde_json::from_slice::<Value>(body) {
        Ok(Value::Null) => Ok(Value::Object(serde_json::Map::new())),
        Ok(object @ Value::Object(_)) => Ok(object),
        Ok(other) => {
            let found = match other {
                Value::Array(_) => "array",
                Value::String(_) => "string",
                Value::Bool(_) => "bool",
                _ => "number",
            };
            Err(failure(&format!(
                "json: cannot unmarshal {found} into Go value of type struct {{ APIVersion string \
                 \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}"
            )))
        }
        Err(error) => Err(failure(&syntax_error(body, &error))),
    }
}

/// A value as Go prints one with `%+v`.
pub fn go_value(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(go_value).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(members) => {
            let members: Vec<String> = members
                .iter()
                .map(|(name, value)| format!("{name}:{}", go_value(value)))
                .collect();
            format!("map[{}]", members.join(" "))
        }
        other => other.to_string(),
    }
}

/// The words of Go's decoder for a syntax error.
pub fn syntax_error(body: &[u8], error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "unexpected end of JSON input".to_owned();
    }
    let Some((offset, byte)) = offender(body, error) else {
        return "unexpected end of JSON input".to_owned();
    };
    let text = error.to_string();
    let before = body[..offset]
        .iter()
        .rev()
        .find(|b| !b.is_ascii_whitespace());
    let place = if text.starts_with("trailing characters") {
        "after top-level value"
    } else if text.starts_with("expected value") || text.starts_with("expected ident") {
        "looking for beginning of value"
    } else if text.starts_with("key must be a string") {
        "looking for beginning of object key string"
    } else if text.starts_with("expected `:`") {
        "after object key"
    } else if text.starts_with("expected `,` or `}`") {
        "after object key:value pair"
    } else if text.starts_with("expected `,` or `]`") {
        "after array element"
    } else if text.starts_with("trailing comma") && before == Some(&b',') {
        if byte == b'}' {
            "looking for beginning of object key string"
        } else {
            "looking for beginning of value"
        }
    } else if text.starts_with("control character") || text.starts_with("invalid escape") {
        "in string literal"
    } else {
        "looking for beginning of value"
    };
    let shown = match byte {
        b'\'' => "\\'".to_owned(),
        b' '..=b'~' => char::from(byte).to_string().replace('\\', "\\\\"),
        b'\n' => "\\n".to_owned(),
        b'\t' => "\\t".to_owned(),
        b'\r' => "\\r".to_owned(),
        other => format!("\\x{other:02x}"),
    };
    format!("invalid character '{shown}' {place}")
}

/// The byte a syntax error is about.
fn offender(body: &[u8], error: &serde_json::Error) -> Option<(usize, u8)> {
    let mut start = 0;
    for _ in 1..error.line() {
        start += body[start..].iter().position(|b| *b == b'\n')? + 1;
    }
    let offset = start + error.column().saturating_sub(1);
    body.get(offset).map(|byte| (offset, *byte))
}

/// The beginning of a body: as text where it looks like an object, in hexadecimal otherwise.
fn preview(body: &[u8]) -> String {
    if body.is_empty() {
        return "<empty>".to_owned();
    }
    let head = &body[..body.len().min(PREVIEW_BYTES)];
    let more = if body.len() > PREVIEW_BYTES {
        " ..."
    } else {
        ""
    };
    if body[0] == b'{' {
        return format!("{}{more}", String::from_utf8_lossy(head));
    }
    let digits: String = head.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{digits}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expect: &str) {
        let status = parse(body.as_bytes(), "ConfigMap").expect_err(body);
        let (_, tail) = status
            .message
            .split_once("json parse error: ")
            .expect("the words");
        assert_eq!(tail, expect, "{body}");
    }

    #[test]
    fn malformed_bodies_are_described_as_go_describes_them() {
        check("", "unexpected end of JSON input (<empty>)");
        check(
            "{\"apiVersion\":\"v1\",",
            "unexpected end of JSON input ({\"apiVersion\":\"v1\",)",
        );
        check(
            "hello",
            "invalid character 'h' looking for beginning of value (68656c6c6f)",
        );
        check(
            "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"trail\"}} x",
            "invalid character 'x' after top-level value ({\"apiVersion\":\"v1\",\"kind\":\"Con ...)",
        );
        assert_eq!(parse(b"null", "ConfigMap"), Ok(serde_json::json!({})));
    }
}
