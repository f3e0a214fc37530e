//! Recorded writes of a real server: each answer is recomputed from the answer before it.
//!
//! The recordings are read from beside the checkout; without them the tests say so and pass.

use std::collections::BTreeMap;

use patch::{Error, FieldSet, JsonPatch, OneVersion, Write};
use schema::Schema;
use serde_json::{Value, json};

const NOW: &str = "2024-01-01T00:00:00Z";

fn scenario(name: &str) -> Option<Vec<Value>> {
    let directory = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/cases/api-exchanges"
    );
    let Ok(text) = std::fs::read_to_string(format!("{directory}/{name}.json")) else {
        println!("skipped: {name}.json is not beside this checkout");
        return None;
    };
    // Values that change from run to run stand for themselves; two are captured under other names.
    let text = text.replace("<<time>>", NOW);
    let text = text
        .replace("{{o1}}", "<<uid:4>>")
        .replace("{{o2}}", "<<uid:5>>");
    let scenario: Value = serde_json::from_str(&text).expect("recorded JSON");
    scenario["steps"].as_array().cloned()
}

/// Kinds whose objects the recorded paths lead to.
fn kind_of(path: &str) -> Option<(&'static str, &'static str)> {
    let kinds = [
        ("/configmaps", ("", "ConfigMap")),
        ("/podtemplates", ("", "PodTemplate")),
        ("/services", ("", "Service")),
        ("/networkpolicies", ("networking.k8s.io", "NetworkPolicy")),
        ("/secrets", ("", "Secret")),
    ];
    kinds
        .iter()
        .find(|(name, _)| path.contains(name))
        .map(|(_, kind)| *kind)
}

/// Without a name given, the server takes the user agent's.
fn manager_of(step: &Value) -> String {
    let agent = step["headers"].as_object().and_then(|headers| {
        let found = headers
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case("user-agent"));
        found.and_then(|(_, agent)| agent.as_str())
    });
    let agent = agent
        .unwrap_or("replay/1")
        .split('/')
        .next()
        .unwrap_or_default();
    // One step sends no agent at all, which the recording does not show.
    let agent = if step["id"] == "no user agent" {
        ""
    } else {
        agent
    };
    step["query"]["fieldManager"]
        .as_str()
        .unwrap_or(agent)
        .to_owned()
}

/// Compares the owners an apply or update gives with the recorded ones.
fn replay_owners(name: &str) {
    let Some(steps) = scenario(name) else { return };
    let mut objects: BTreeMap<String, Value> = BTreeMap::new();
    let (mut compared, mut wrong) = (0, Vec::new());
    for step in &steps {
        let path = step["path"].as_str().unwrap_or_default();
        let answer = &step["expect"]["body"];
        let is_whole = step.get("compare").is_none_or(Value::is_null)
            && answer["metadata"]["name"].is_string();
        let key = match step["method"].as_str() {
            Some("POST") => format!(
                "{path}/{}",
                step["body"]["metadata"]["name"]
                    .as_str()
                    .unwrap_or_default()
            ),
            _ => path.to_owned(),
        };
        let (Some((group, kind)), false) = (kind_of(path), path.ends_with("/status")) else {
            continue;
        };
        let body = step.get("body").filter(|body| body.is_object());
        let api_version = if group.is_empty() {
            "v1".to_owned()
        } else {
            format!("{group}/v1")
        };
        let schema = Schema::built_in(group, "v1", kind).expect("built in");
        let versions = OneVersion {
            api_version,
            schema: schema.clone(),
        };
        let manager = manager_of(step);
        let reset_fields = FieldSet::of_fields(&["status"]);
        let write = Write {
            manager: &manager,
            subresource: "",
            now: NOW,
            versions: &versions,
            reset_fields: &reset_fields,
        };
        let live = objects.get(&key).cloned();
        let is_apply = step["contentType"]
            .as_str()
            .is_some_and(|kind| kind.contains("apply-patch"));
        if let (true, Some(body)) = (is_apply, body) {
            let force = step["query"]["force"] == json!("true");
            let outcome = patch::apply(&write, live.as_ref(), body, force);
            let status = step["expect"]["status"].as_u64().unwrap_or_default();
            match outcome {
                Ok(mut found) if status < 300 && is_whole => {
                    schema::decode(&schema, &mut found).expect("typed");
                    schema::encode(&schema, &mut found);
                    if let Some(live) = &live {
                        patch::keep_timestamps(live, &mut found);
                    }
                    compared += 1;
                    let (owners, expect) = (
                        &found["metadata"]["managedFields"],
                        &answer["metadata"]["managedFields"],
                    );
                    if owners != expect {
                        wrong.push(format!(
                            "{}:\n  expected {expect}\n  found    {owners}",
                            step["id"]
                        ));
                    }
                }
                Err(Error::Conflicts { message, .. }) => {
                    compared += 1;
                    let expect = answer["message"].as_str().unwrap_or_default();
                    // The order of several causes is random upstream.
                    let sorted = |text: &str| {
                        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
                        lines.sort();
                        lines
                    };
                    if status != 409
                        || (!expect.starts_with('<') && sorted(&message) != sorted(expect))
                    {
                        wrong.push(format!(
                            "{}:\n  expected {status} {expect}\n  found    {message}",
                            step["id"]
                        ));
                    }
                }
                Err(Error::Malformed(_)) if status == 415 => {}
                Err(error @ (Error::Internal(_) | Error::Malformed(_))) => {
                    compared += 1;
                    let message = error.to_string();
                    let expect = if matches!(error, Error::Internal(_)) {
                        500
                    } else {
                        400
                    };
                    if status != expect || answer["message"] != json!(message) {
                        wrong.push(format!(
                            "{}:\n  expected {status} {answer}\n  found    {message}",
                            step["id"]
                        ));
                    }
                }
                Ok(_)
                    if status >= 300
                        && answer["message"]
                            .as_str()
                            .is_some_and(|text| text.starts_with("Apply failed")) =>
                {
                    wrong.push(format!("{}: expected {}", step["id"], answer["message"]));
                }
                _ => {}
            }
        } else if is_whole && matches!(step["method"].as_str(), Some("POST" | "PUT" | "PATCH")) {
            // The written object as the server saw it, with the tracking that was sent.
            let mut new = answer.clone();
            let sent = body
                .and_then(|body| body.pointer("/metadata/managedFields"))
                .cloned();
            let is_known = body.is_some();
            if let Some(metadata) = new["metadata"].as_object_mut() {
                metadata.remove("managedFields");
                if let Some(sent) = sent {
                    metadata.insert("managedFields".to_owned(), sent);
                }
            }
            if is_known {
                patch::track_update(&write, live.as_ref(), &mut new);
                compared += 1;
                let (owners, expect) = (
                    &new["metadata"]["managedFields"],
                    &answer["metadata"]["managedFields"],
                );
                if owners != expect {
                    wrong.push(format!(
                        "{}:\n  expected {expect}\n  found    {owners}",
                        step["id"]
                    ));
                }
            }
        }
        if is_whole {
            objects.insert(key, answer.clone());
        } else if answer.get("kind") != Some(&json!("Status")) {
            objects.remove(&key);
        }
    }
    println!("{name}: {compared} compared");
    assert!(compared > 0, "{name}");
    assert!(wrong.is_empty(), "{name}:\n{}", wrong.join("\n"));
}

#[test]
fn recorded_owners() {
    for name in [
        "apply-basics",
        "apply-conflicts",
        "apply-lists",
        "apply-errors",
        "managed-fields",
        "apply-migration",
    ] {
        replay_owners(name);
    }
}

/// The recorded strategic merge patches: what a patch says and what the server defaults besides.
#[test]
fn recorded_strategic_merges() {
    let Some(steps) = scenario("strategic-merge-patch") else {
        return;
    };
    let schema = Schema::built_in("", "v1", "PodTemplate").expect("built in");
    let (mut live, mut compared, mut wrong) = (Value::Null, 0, Vec::new());
    for step in &steps {
        let answer = &step["expect"]["body"];
        let is_template = answer["kind"] == json!("PodTemplate");
        if let (Some("PATCH"), Some(body), true) =
            (step["method"].as_str(), step.get("body"), live.is_object())
        {
            let status = step["expect"]["status"].as_u64().unwrap_or_default();
            match patch::strategic_merge(&schema, live.clone(), body) {
                Ok(found) if is_template => {
                    compared += 1;
                    let difference =
                        missing(&found["template"], &answer["template"], String::new());
                    if let Some(difference) = difference {
                        wrong.push(format!("{}: {difference}", step["id"]));
                    }
                }
                Err(error) => {
                    compared += 1;
                    let expect = answer["message"].as_str().unwrap_or_default();
                    if status < 400 || !expect.ends_with(&error.to_string()) {
                        wrong.push(format!(
                            "{}:\n  expected {status} {expect}\n  found {error}",
                            step["id"]
                        ));
                    }
                }
                Ok(_) => {}
            }
        }
        if is_template {
            live = answer.clone();
        }
    }
    assert!(compared > 20);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The first place where `found` is not contained in `expect`; lists must match in length.
fn missing(found: &Value, expect: &Value, path: String) -> Option<String> {
    match (found, expect) {
        (Value::Object(found), Value::Object(_)) => found.iter().find_map(|(name, value)| {
            let is_empty = value.as_array().is_some_and(Vec::is_empty)
                || value.as_object().is_some_and(serde_json::Map::is_empty);
            match expect.get(name) {
                None if is_empty || value.is_null() => None,
                expect => missing(
                    value,
                    expect.unwrap_or(&Value::Null),
                    format!("{path}.{name}"),
                ),
            }
        }),
        (Value::Array(found), Value::Array(expect)) if found.len() == expect.len() => found
            .iter()
            .zip(expect)
            .enumerate()
            .find_map(|(index, (found, expect))| {
                missing(found, expect, format!("{path}[{index}]"))
            }),
        _ => (found != expect).then(|| format!("{path}: expected {expect}, found {found}")),
    }
}

#[test]
fn recorded_json_patches() {
    let Some(steps) = scenario("json-patch") else {
        return;
    };
    let (mut live, mut compared, mut wrong) = (Value::Null, 0, Vec::new());
    for step in &steps {
        let answer = &step["expect"]["body"];
        if let (Some("PATCH"), Some(body)) = (
            step["method"].as_str(),
            step.get("body").filter(|b| b.is_array()),
        ) {
            let patch = JsonPatch::parse(body.to_string().as_bytes()).expect("well formed");
            let is_refused = answer["message"]
                .as_str()
                .is_some_and(|text| text.starts_with("the server rejected our"));
            let found = patch.apply(&live);
            compared += 1;
            let is_right = match &found {
                Ok(_) if answer["kind"] == json!("Status") => !is_refused,
                Ok(found) => missing(&found["data"], &answer["data"], String::new())
                    .is_none_or(|text| text.ends_with(r#"expected "", found null"#)),
                Err(_) => is_refused,
            };
            if !is_right {
                wrong.push(format!("{}: {found:?}", step["id"]));
            }
        }
        if answer["kind"] == json!("ConfigMap") {
            live = answer.clone();
        }
    }
    assert!(compared > 20);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
