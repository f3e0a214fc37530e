//! Paths to fields in a schema: `.a.b['c-d']`.

use serde_json::Value;

use super::object;

/// Follows a path through the properties and additional properties of a schema. Gives the names on the
/// way and the schema it leads to; what is wrong with it otherwise, in upstream's words.
pub fn field_path<'a>(
    schema: &'a Value,
    path: &str,
    allow_brackets: bool,
) -> Result<(Vec<String>, &'a Value), String> {
    let mut tokens = Tokens(path);
    let mut names = Vec::new();
    let mut schema = schema;
    let end = || "unexpected end of JSON path".to_owned();
    while let Some(token) = tokens.next() {
        let name = match token {
            "[" if !allow_brackets => return Err("array notation is not allowed".to_owned()),
            "[" => {
                let text = tokens.next().ok_or_else(end)?;
                let quoted = text
                    .strip_prefix('\'')
                    .and_then(|text| text.strip_suffix('\''))
                    .ok_or_else(|| format!("expected single quoted string but got {text}"))?;
                unescape(quoted)?
            }
            "." => tokens.next().ok_or_else(end)?.to_owned(),
            other => return Err(format!("expected [ or . but got: {other}")),
        };
        schema = below(schema, &name).ok_or("does not refer to a valid field")?;
        names.push(name);
        if token == "[" {
            match tokens.next().ok_or_else(end)? {
                "]" => {}
                other => return Err(format!("expected ] but got {other}")),
            }
        }
    }
    Ok((names, schema))
}

fn below<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    let schema = schema.as_object()?;
    match object(schema, "properties") {
        Some(properties) => properties.get(name),
        None => schema
            .get("additionalProperties")
            .filter(|values| values.is_object()),
    }
}

/// Delimiters one by one, quoted strings whole, and what stands between delimiters.
struct Tokens<'a>(&'a str);

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.0;
        let first = text.chars().next()?;
        let length = match first {
            '.' | '[' | ']' => 1,
            '\'' => {
                let bytes = text.as_bytes();
                (1..bytes.len())
                    .find(|at| bytes[*at] == b'\'' && bytes[*at - 1] != b'\\')
                    .map_or(text.len(), |at| at + 1)
            }
            _ => text.find(['.', '[', ']']).unwrap_or(text.len()),
        };
        let (token, rest) = text.split_at(length);
        self.0 = rest;
        Some(token)
    }
}

fn unescape(text: &str) -> Result<String, String> {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            plain.push(character);
            continue;
        }
        plain.push(match characters.next() {
            Some('a') => '\u{7}',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('v') => '\u{b}',
            Some('\'') => '\'',
            Some('\\') | None => '\\',
            Some(other) => {
                return Err(format!(
                    "invalid string literal: invalid escape char \\{other}"
                ));
            }
        });
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_lead_through_properties_and_maps() {
        let schema = json!({"properties": {
            "a": {"properties": {"b-c": {"type": "string"}}},
            "m": {"additionalProperties": {"type": "integer"}},
        }});
        let check = |path: &str, expect: Result<&str, &str>| {
            let found = field_path(&schema, path, true).map(|(names, _)| names.join("/"));
            assert_eq!(found.as_deref().map_err(String::as_str), expect, "{path}");
        };
        check(".a['b-c']", Ok("a/b-c"));
        check(".a.b-c", Ok("a/b-c"));
        check(".m['x\\'y']", Ok("m/x'y"));
        check(".a.z", Err("does not refer to a valid field"));
        check("a", Err("expected [ or . but got: a"));
        check(".a[0]", Err("expected single quoted string but got 0"));
        check(".a['b-c'", Err("unexpected end of JSON path"));
        check(".", Err("unexpected end of JSON path"));
        let bare = field_path(&schema, ".a['b-c']", false).map(|_| ());
        assert_eq!(bare, Err("array notation is not allowed".to_owned()));
    }
}
