//! `cargo xtask gen`: the built-in types' tables of crate `schema`, from the recorded OpenAPI of a
//! Kubernetes 1.36 API server and the facts about Go's types that OpenAPI leaves out.
//!
//! Two text files come out, made to be read lazily: `definitions.txt` with one line per definition,
//! `name<TAB>schema as JSON`, and `kinds.txt` with `group version kind definition`. References are
//! shortened to the bare definition name; Go's facts about a field stand in its `x-go`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

/// Where the facts about Go's types are kept.
pub const FACTS: &str = "crates/schema/data/go-fields.txt";
/// The definitions' file.
pub const DEFINITIONS: &str = "crates/schema/src/generated/definitions.txt";
/// The kinds' file.
pub const KINDS: &str = "crates/schema/src/generated/kinds.txt";

const REFERENCE_PREFIX: &str = "#/components/schemas/";

/// The contents of [`DEFINITIONS`] and [`KINDS`].
pub fn generate(schemas: &Value, facts: &str) -> Result<(String, String)> {
    let schemas = schemas.as_object().context("the schemas are no object")?;
    let facts = parse_facts(facts)?;
    let (mut definitions, mut kinds) = (String::new(), Vec::new());
    for (name, schema) in schemas {
        let mut schema = schema.clone();
        shorten_references(&mut schema);
        if let Some(fields) = facts.get(name.as_str()) {
            add_facts(name, &mut schema, fields)?;
        }
        kinds.extend(kinds_of(name, &schema));
        writeln!(definitions, "{name}\t{schema}")?;
    }
    kinds.sort();
    Ok((definitions, kinds.concat()))
}

/// The lines of the facts' file as definition -> (field, marks).
fn parse_facts(text: &str) -> Result<BTreeMap<&str, Vec<(&str, &str)>>> {
    let mut facts = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split(' ');
        let name = words
            .next()
            .context("a line of facts without a definition")?;
        let fields = words
            .map(|word| {
                let end = word.find(['*', '!', 'z', '=']).map(|_| marks_start(word));
                end.map(|at| word.split_at(at))
                    .with_context(|| format!("no marks in {word}"))
            })
            .collect::<Result<_>>()?;
        facts.insert(name, fields);
    }
    Ok(facts)
}

/// Where the marks of `word` begin: field names may themselves contain a `z`.
fn marks_start(word: &str) -> usize {
    let head = word.split('=').next().unwrap_or(word);
    head.trim_end_matches('z')
        .trim_end_matches('!')
        .trim_end_matches('*')
        .len()
}

fn add_facts(name: &str, schema: &mut Value, fields: &[(&str, &str)]) -> Result<()> {
    for (field, marks) in fields {
        let property = schema["properties"]
            .get_mut(*field)
            .and_then(Value::as_object_mut)
            .with_context(|| format!("{name} has no field {field}"))?;
        property.insert("x-go".to_owned(), Value::from(*marks));
    }
    Ok(())
}

/// `{"$ref": "#/components/schemas/X"}` becomes `{"$ref": "X"}`.
fn shorten_references(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (key, member) in members.iter_mut() {
                match member {
                    Value::String(text) if key == "$ref" => {
                        if let Some(name) = text.strip_prefix(REFERENCE_PREFIX) {
                            *text = name.to_owned();
                        }
                    }
                    other => shorten_references(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(shorten_references),
        _ => {}
    }
}

/// The lines of `kinds.txt` for one definition. Types that every group registers (delete options,
/// watch events) are found by their definition's name instead.
fn kinds_of(name: &str, schema: &Value) -> Vec<String> {
    let text = |of: &Map<String, Value>, key: &str| {
        of.get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let Some(Value::Array(kinds)) = schema.get("x-kubernetes-group-version-kind") else {
        return Vec::new();
    };
    kinds
        .iter()
        .filter_map(Value::as_object)
        .filter(|_| kinds.len() == 1)
        .map(|kind| {
            let (group, version) = (text(kind, "group"), text(kind, "version"));
            format!("{group} {version} {} {name}\n", text(kind, "kind"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_and_references_are_merged_into_one_line_per_definition() {
        let schemas = r##"{"a.v1.X": {"type": "object",
            "properties": {"z": {"$ref": "#/components/schemas/a.v1.Y"}, "size": {"type": "integer"}},
            "x-kubernetes-group-version-kind": [{"group": "g", "version": "v1", "kind": "X"}]}}"##;
        let schemas: Value = serde_json::from_str(schemas).expect("a literal");
        let facts = "# note\na.v1.X z*! size=v1.Size\n";
        let (definitions, kinds) = generate(&schemas, facts).expect("valid input");
        assert_eq!(kinds, "g v1 X a.v1.X\n");
        assert!(
            definitions.contains(r#""$ref":"a.v1.Y","x-go":"*!""#),
            "{definitions}"
        );
        assert!(
            definitions.contains(r#""type":"integer","x-go":"=v1.Size""#),
            "{definitions}"
        );
    }

    #[test]
    fn marks_are_told_from_letters_of_the_name() {
        let check = |word: &str, field: &str| assert_eq!(&word[..marks_start(word)], field);
        check("size*", "size");
        check("zone!=v1.Zone", "zone");
        check("creationTimestampz", "creationTimestamp");
    }
}
