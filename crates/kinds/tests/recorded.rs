//! Recorded requests and answers of a real server: objects become what they became there, refusals
//! have the same causes, rows the same cells.
//!
//! The recordings are read from beside the checkout; without them the test says so and passes.
//! Patches are left to tests of the whole server: here objects are made and replaced.

use std::collections::HashMap;
use std::path::Path;

use jiff::Timestamp;
use kinds::{Behaviour, behaviour};
use model::{FieldError, object, resources};
use schema::Schema;
use serde_json::{Value, json};

const NOW: &str = "2024-01-01T00:00:00Z";

/// What other parts of the server set (admission, the store, allocation).
const OF_OTHERS: &[&str] = &[
    "/metadata",
    "/spec/tolerations",
    "/spec/priority",
    "/spec/priorityClassName",
    "/spec/preemptionPolicy",
    "/spec/clusterIP",
    "/spec/clusterIPs",
    "/spec/taints",
    "/spec/healthCheckNodePort",
];

struct Scenario {
    name: String,
    steps: Vec<Value>,
}

fn scenarios() -> Vec<Scenario> {
    let directory = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/cases/api-exchanges"
    );
    let Ok(entries) = std::fs::read_dir(Path::new(directory)) else {
        println!("skipped: api-exchanges is not beside this checkout");
        return Vec::new();
    };
    let mut found: Vec<Scenario> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("readable");
            let mut text = text.replace("<<time>>", NOW).replace("{{ns}}", "ns");
            for index in 1..40 {
                let uid = format!("00000000-0000-4000-8000-{index:012}");
                text = text.replace(&format!("<<uid:{index}>>"), &uid);
                text = text.replace(&format!("<<ip:{index}>>"), &format!("10.0.0.{index}"));
            }
            let scenario: Value = serde_json::from_str(&text).expect("recorded JSON");
            let name = path
                .file_stem()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            Scenario {
                name: name.to_owned(),
                steps: scenario["steps"].as_array().cloned().unwrap_or_default(),
            }
        })
        .collect();
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}

/// The group, version and resource a path is about.
fn parse_path(path: &str) -> Option<(String, String, String, Vec<String>)> {
    let mut parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let (group, version) = match *parts.first()? {
        "api" => ("", *parts.get(1)?),
        "apis" => (*parts.get(1)?, *parts.get(2)?),
        _ => return None,
    };
    parts.drain(..if group.is_empty() { 2 } else { 3 });
    if parts.first() == Some(&"namespaces") && parts.len() > 2 {
        parts.drain(..2);
    }
    let resource = (*parts.first()?).to_owned();
    let rest = parts[1..].iter().map(|part| (*part).to_owned()).collect();
    Some((group.to_owned(), version.to_owned(), resource, rest))
}

struct Kind {
    schema: Schema,
    behaviour: &'static Behaviour,
    api_version: String,
    name: &'static str,
}

impl Kind {
    fn decode(&self, body: &Value) -> Value {
        let mut object = body.clone();
        schema::decode(&self.schema, &mut object).expect("well-typed");
        object["apiVersion"] = json!(self.api_version);
        object["kind"] = json!(self.name);
        object::metadata_mut(&mut object)
            .entry("namespace")
            .or_insert(json!("ns"));
        object
    }
}

fn kind(group: &str, version: &str, resource: &str) -> Option<Kind> {
    let found = resources::RESOURCES
        .iter()
        .find(|r| r.group == group && r.version == version && r.resource == resource)?;
    Some(Kind {
        schema: Schema::built_in(group, version, found.kind)?,
        behaviour: behaviour(group, resource),
        api_version: if group.is_empty() {
            version.to_owned()
        } else {
            format!("{group}/{version}")
        },
        name: found.kind,
    })
}

/// What the server makes of a new object, or what is wrong with it.
fn create(kind: &Kind, body: &Value, answer: &Value) -> Result<Value, Vec<FieldError>> {
    let mut object = kind.decode(body);
    let uid = if object::uid(answer).is_empty() {
        "00000000-0000-4000-8000-000000000006"
    } else {
        object::uid(answer)
    };
    let metadata = object::metadata_mut(&mut object);
    metadata.insert("uid".to_owned(), json!(uid));
    metadata.insert("creationTimestamp".to_owned(), json!(NOW));
    (kind.behaviour.default)(&mut object);
    schema::encode(&kind.schema, &mut object);
    kind.behaviour.before_create(&mut object);
    if let Some(stamp) = kind.behaviour.stamp {
        stamp(&mut object, None, NOW);
    }
    schema::encode(&kind.schema, &mut object);
    let errors = (kind.behaviour.validate_create)(&object);
    if errors.is_empty() {
        Ok(object)
    } else {
        Err(errors)
    }
}

fn update(
    kind: &Kind,
    subresource: &str,
    body: &Value,
    old: &Value,
) -> Result<Value, Vec<FieldError>> {
    let (mut object, mut old) = (kind.decode(body), kind.decode(old));
    (kind.behaviour.default)(&mut object);
    schema::encode(&kind.schema, &mut object);
    schema::encode(&kind.schema, &mut old);
    kind.behaviour.before_write(subresource, &mut object, &old);
    schema::encode(&kind.schema, &mut object);
    let errors = kind.behaviour.check_write(subresource, &object, &old);
    if errors.is_empty() {
        Ok(object)
    } else {
        Err(errors)
    }
}

fn comparable(object: &Value) -> Value {
    let mut object = object.clone();
    for path in OF_OTHERS {
        let (parent, name) = path.rsplit_once('/').expect("absolute");
        if let Some(members) = object.pointer_mut(parent).and_then(Value::as_object_mut) {
            members.remove(name);
        }
    }
    for port in object
        .pointer_mut("/spec/ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Some(port) = port.as_object_mut() {
            port.remove("nodePort");
        }
    }
    object
}

/// The parts of metadata kinds decide about.
fn own_metadata(object: &Value) -> Value {
    json!({
        "labels": object::labels(object),
        "generation": object::number(object, &["metadata", "generation"]),
        "annotations": object::at(object, &["metadata", "annotations"]),
    })
}

fn first_difference(expect: &Value, found: &Value, path: &str) -> String {
    match (expect, found) {
        (Value::Object(one), Value::Object(other)) => {
            let names = one.keys().chain(other.keys());
            for name in names {
                if one.get(name) != other.get(name) {
                    let null = Value::Null;
                    return first_difference(
                        one.get(name).unwrap_or(&null),
                        other.get(name).unwrap_or(&null),
                        &format!("{path}.{name}"),
                    );
                }
            }
            path.to_owned()
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            let index = one.iter().zip(other).position(|(a, b)| a != b).unwrap_or(0);
            first_difference(&one[index], &other[index], &format!("{path}[{index}]"))
        }
        _ => format!("{path}: expected {expect}, found {found}"),
    }
}

fn causes(errors: &[FieldError]) -> Vec<String> {
    let mut found: Vec<String> = errors
        .iter()
        .map(|error| {
            let cause = error.cause();
            format!("{}: {}", cause.field, cause.message)
        })
        // The server checks metadata by itself.
        .filter(|cause| !is_of_metadata(cause))
        .collect();
    found.dedup();
    // Causes about one map come in the order of its keys, or of none upstream.
    found.sort();
    found
}

fn is_of_metadata(cause: &str) -> bool {
    cause.starts_with("metadata.")
        && !cause.contains("52 characters")
        && !cause.starts_with("metadata.annotations[")
        && !cause.starts_with("metadata.taints")
}

fn expected_causes(body: &Value) -> Vec<String> {
    let mut causes: Vec<String> = object::list(body, &["details", "causes"])
        .iter()
        .map(|cause| {
            let text = |name: &str| object::text(cause, &[name]);
            format!("{}: {}", text("field"), text("message"))
        })
        .filter(|cause| !is_of_metadata(cause))
        .collect();
    causes.sort();
    causes
}

#[derive(Default)]
struct Tally {
    passed: usize,
    wrong: Vec<String>,
}

impl Tally {
    fn note(&mut self, name: &str, step: &Value, problem: Option<String>) {
        match problem {
            None => self.passed += 1,
            Some(problem) => self
                .wrong
                .push(format!("{name} [{}] {problem}", step["id"])),
        }
    }
}

fn is_error_of_others(cause: &str) -> bool {
    // Addresses and ports are handed out elsewhere.
    [
        "not in the valid range",
        "failed to allocate",
        "already allocated",
    ]
    .iter()
    .any(|text| cause.contains(text))
}

fn judge(expect: &Value, outcome: Result<Value, Vec<FieldError>>) -> Option<String> {
    let status = expect["status"].as_u64().unwrap_or(0);
    let body = &expect["body"];
    match outcome {
        Ok(object) if status < 300 => {
            let (one, other) = (comparable(body), comparable(&object));
            if one != other {
                return Some(first_difference(&one, &other, ""));
            }
            let (one, other) = (own_metadata(body), own_metadata(&object));
            (one != other).then(|| first_difference(&one, &other, ".metadata"))
        }
        Ok(_) => {
            let expected = expected_causes(body);
            let mine = expected.iter().any(|cause| !is_error_of_others(cause));
            mine.then(|| format!("accepted, expected {expected:?}"))
        }
        Err(errors) => {
            let (expected, found) = (expected_causes(body), causes(&errors));
            if status == 422
                && (expected == found || expected.iter().any(|c| is_error_of_others(c)))
            {
                return None;
            }
            Some(format!("\n  expected {expected:#?}\n  found    {found:#?}"))
        }
    }
}

/// Refusals of other parts of the server.
fn is_refused_elsewhere(expect: &Value) -> bool {
    let status = expect["status"].as_u64().unwrap_or(0);
    let message = expect["body"]["message"].as_str().unwrap_or_default();
    let known = message.contains("<<any>>") || expect["body"]["details"]["causes"].is_null();
    !(status < 300 || status == 422) || (status == 422 && known)
}

#[test]
fn objects_become_what_they_became_on_a_real_server() {
    let mut tally = Tally::default();
    for scenario in scenarios() {
        if [
            "crd-",
            "apply-",
            "mutating-policy",
            "validating-policy",
            "access-reviews",
            "token-request",
            "http-auth",
            "kind-certificatesigningrequests",
        ]
        .iter()
        .any(|prefix| scenario.name.starts_with(prefix))
        {
            continue;
        }
        let mut answers: HashMap<String, Value> = HashMap::new();
        for step in &scenario.steps {
            replay(&scenario.name, step, &mut answers, &mut tally);
        }
    }
    println!("{} passed, {} did not", tally.passed, tally.wrong.len());
    assert!(tally.wrong.is_empty(), "{}", tally.wrong.join("\n"));
}

fn replay(name: &str, step: &Value, answers: &mut HashMap<String, Value>, tally: &mut Tally) {
    let Some((group, version, resource, rest)) = step["path"].as_str().and_then(parse_path) else {
        return;
    };
    let Some(kind) = kind(&group, &version, &resource) else {
        return;
    };
    let (body, expect) = (&step["body"], &step["expect"]);
    if body.to_string().contains("{{repeat:") {
        return;
    }
    let method = step["method"].as_str().unwrap_or_default();
    let answer = &expect["body"];
    let id = step["path"].as_str().unwrap_or_default().to_owned();
    if answer["kind"] == "Table" {
        return;
    }
    if method == "POST" && rest.is_empty() && body.is_object() && !is_refused_elsewhere(expect) {
        let dry = step["query"]["dryRun"].is_string();
        if expect["compare"].is_null() && step["compare"].is_null() && !dry {
            tally.note(name, step, judge(expect, create(&kind, body, answer)));
        }
    }
    if method == "PUT"
        && rest.len() < 3
        && body.is_object()
        && !is_refused_elsewhere(expect)
        && step["ignore"].is_null()
        && step["compare"].is_null()
    {
        let subresource = rest.get(1).map_or("", String::as_str);
        let key = if subresource.is_empty() {
            id.clone()
        } else {
            id.rsplit_once('/')
                .map(|(k, _)| k.to_owned())
                .unwrap_or_default()
        };
        if let Some(old) = answers.get(&key)
            && matches!(subresource, "" | "status")
        {
            tally.note(
                name,
                step,
                judge(expect, update(&kind, subresource, body, old)),
            );
        }
    }
    if answer.is_object() && expect["status"].as_u64().unwrap_or(0) < 300 && method != "GET" {
        let key = if method == "POST" {
            format!("{id}/{}", object::name(answer))
        } else {
            id
        };
        answers.insert(key, answer.clone());
    }
}

#[test]
fn rows_have_the_cells_of_a_real_server() {
    // Rows that stand for something else than the object last answered.
    const OTHERS: [&str; 4] = [
        "kind-persistentvolumeclaims",
        "kind-persistentvolumes",
        "scale-subresource",
        "table-output",
    ];
    let mut tally = Tally::default();
    for scenario in scenarios() {
        if OTHERS.contains(&scenario.name.as_str()) {
            continue;
        }
        let mut last: HashMap<String, Value> = HashMap::new();
        for step in &scenario.steps {
            let Some((group, version, resource, _)) = step["path"].as_str().and_then(parse_path)
            else {
                continue;
            };
            let answer = &step["expect"]["body"];
            let Some(kind) = kind(&group, &version, &resource) else {
                continue;
            };
            if answer["kind"] != "Table" {
                if !object::name(answer).is_empty() && answer["kind"] != "Status" {
                    last.insert(object::name(answer).to_owned(), answer.clone());
                }
                continue;
            }
            for row in object::list(answer, &["rows"]) {
                let expect = &row["cells"];
                let at = row["object"]["metadata"]["name"]
                    .as_str()
                    .unwrap_or_default();
                if row["object"]["kind"] != "PartialObjectMetadata" {
                    continue;
                }
                let (Some(cells), Some(object)) = (kind.behaviour.cells, last.get(at)) else {
                    continue;
                };
                let now: Timestamp = NOW.parse().expect("a time");
                let found = Value::Array(cells(object, now));
                let blurred = blur(expect, &found);
                tally.note(
                    &scenario.name,
                    step,
                    (blurred != found).then(|| format!("expected {expect}, found {found}")),
                );
            }
        }
    }
    println!(
        "{} rows passed, {} did not",
        tally.passed,
        tally.wrong.len()
    );
    assert!(tally.wrong.is_empty(), "{}", tally.wrong.join("\n"));
}

/// Expected cells, with what differs from run to run taken from those found.
fn blur(expect: &Value, found: &Value) -> Value {
    let expect = expect.as_array().cloned().unwrap_or_default();
    let blurred = expect.into_iter().enumerate().map(|(index, cell)| {
        if cell.as_str().is_some_and(|text| text.contains("<<")) {
            found.get(index).cloned().unwrap_or_default()
        } else {
            cell
        }
    });
    Value::Array(blurred.collect())
}
