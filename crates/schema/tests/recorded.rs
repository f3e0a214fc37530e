//! Recorded answers of a real server: its objects are in the form this crate gives them, its
//! refusals have the words this crate finds.
//!
//! The recordings are read from beside the checkout; without them the tests say so and pass.

use std::path::Path;

use schema::Schema;
use serde_json::Value;

fn scenarios() -> Vec<(String, Value)> {
    let directory = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/cases/api-exchanges"
    );
    let Ok(entries) = std::fs::read_dir(Path::new(directory)) else {
        println!("skipped: api-exchanges is not beside this checkout");
        return Vec::new();
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut found: Vec<(String, Value)> = paths
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("readable");
            let text = text.replace("<<time>>", "2024-01-01T00:00:00Z");
            let name = path
                .file_stem()
                .and_then(|name| name.to_str())
                .unwrap_or_default()
                .to_owned();
            (name, serde_json::from_str(&text).expect("recorded JSON"))
        })
        .collect();
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

/// Whole answers of one step: the object, or the objects of a list.
fn objects(step: &Value) -> Vec<Value> {
    if step
        .get("compare")
        .is_some_and(|compare| !compare.is_null())
    {
        return Vec::new();
    }
    let body = &step["expect"]["body"];
    body.get("metadata")
        .map(|_| body.clone())
        .into_iter()
        .collect()
}

fn schema_of(object: &Value) -> Option<Schema> {
    let version = object["apiVersion"].as_str()?;
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    Schema::built_in(group, version, object["kind"].as_str()?)
}

#[test]
fn recorded_objects_are_decoded_and_encoded_to_themselves() {
    let (mut compared, mut wrong) = (0, Vec::new());
    for (name, scenario) in scenarios() {
        for step in scenario["steps"].as_array().into_iter().flatten() {
            for object in objects(step) {
                let text = object.to_string();
                let Some(schema) = schema_of(&object)
                    .filter(|_| !text.contains("<<any>>") && !text.contains("Port\":\"<<"))
                else {
                    continue;
                };
                let mut found = object.clone();
                if let Err(error) = schema::decode(&schema, &mut found) {
                    wrong.push(format!("{name} {}: {error}", step["id"]));
                    continue;
                }
                schema::encode(&schema, &mut found);
                compared += 1;
                let first = difference(&object, &found, String::new());
                // Where a status is written all the time the recordings leave it out.
                let is_left_out = first.contains("status: None") || first.contains(".items: None");
                if found != object && !is_left_out {
                    wrong.push(format!("{name} {}: {first}", step["id"]));
                }
            }
        }
    }
    println!("{compared} objects compared");
    assert!(
        wrong.is_empty(),
        "{} of {compared}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// The first place where two values differ.
fn difference(expect: &Value, found: &Value, path: String) -> String {
    match (expect, found) {
        (Value::Object(expect), Value::Object(found)) => {
            let names = expect.keys().chain(found.keys());
            let name = names
                .into_iter()
                .find(|name| expect.get(*name) != found.get(*name));
            match name.map(|name| (name, expect.get(name), found.get(name))) {
                Some((name, Some(expect), Some(found))) => {
                    difference(expect, found, format!("{path}.{name}"))
                }
                Some((name, expect, found)) => {
                    format!("{path}.{name}: {expect:?} became {found:?}")
                }
                None => path,
            }
        }
        (Value::Array(expect), Value::Array(found)) if expect.len() == found.len() => {
            let mut pairs = expect.iter().zip(found).enumerate();
            match pairs.find(|(_, (expect, found))| expect != found) {
                Some((index, (expect, found))) => {
                    difference(expect, found, format!("{path}[{index}]"))
                }
                None => path,
            }
        }
        _ => format!("{path}: {expect} became {found}"),
    }
}

#[test]
fn recorded_refusals_of_custom_resources() {
    let Some((_, scenario)) = scenarios()
        .into_iter()
        .find(|(name, _)| name == "crd-validation-keywords")
    else {
        return;
    };
    let steps = scenario["steps"].as_array().cloned().unwrap_or_default();
    let definition = &steps[0]["body"]["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let schema = Schema::custom_resource(definition, false).expect("structural");
    let (mut compared, mut wrong) = (0, Vec::new());
    for step in steps
        .iter()
        .filter(|step| step["method"] == "POST" && step["body"]["kind"] == "Val")
    {
        let mut object = step["body"].clone();
        // Later steps change the definition.
        if object["metadata"]["name"]
            .as_str()
            .is_none_or(|name| !name.starts_with('v'))
        {
            continue;
        }
        schema::prune(&schema, &mut object);
        schema::default(&schema, &mut object);
        let mut found: Vec<String> = schema::validate(&schema, &object)
            .iter()
            .map(|error| error.cause().message)
            .collect();
        let causes = step["expect"]["body"]["details"]["causes"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let mut expect: Vec<String> = causes
            .iter()
            .map(|cause| cause["message"].as_str().unwrap_or_default().to_owned())
            .collect();
        found.sort();
        expect.sort();
        compared += 1;
        if found != expect {
            wrong.push(format!(
                "{}: {}\n  expected {expect:?}\n  found    {found:?}",
                step["id"], object["spec"]
            ));
        }
    }
    println!("{compared} objects judged");
    assert!(
        wrong.is_empty(),
        "{} of {compared}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
