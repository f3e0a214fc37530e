//! Definitions, most of them with a mistake, that kro was given: what it takes is built here, what it refuses is refused, and
//! the schemas of the generated kinds are the same.
//!
//! `data/as-kro.jsonl` has a case on each line: the definition (`"spec": "base"` stands for [`BASE`]), whether kro took it, and the
//! schemas that it made of `spec` and `status`. Where we differ on purpose, [`DIFFERENCES`] says why; each of those is on the
//! page of differences.

use std::collections::BTreeMap;

use graph::{BuildOptions, Feature, Features, Graph, OfflineKinds, build, read_spec};
use serde_json::{Value, json};

const CASES: &str = include_str!("data/as-kro.jsonl");

/// Cases whose name begins so, and why they differ.
const DIFFERENCES: &[(&str, &str)] = &[
    ("field: \"float | default=NaN\"", DEFAULTS),
    ("field: \"float | default=0x1p-2\"", DEFAULTS),
    ("field: \"float | default=Inf\"", DEFAULTS),
    ("field: \"[]string | default=[a]\"", DEFAULTS),
    ("field: \"[]string | default=x\"", DEFAULTS),
    ("field: \"string | minimum=NaN\"", DEFAULTS),
    ("template: meta empty", NO_NAME),
    ("template: generateName", NO_NAME),
    (
        "template: key expr",
        "expressions in keys would stand in the object as they are written",
    ),
    ("expr: \"${schema.spec.o}\"", DYN),
    (
        "expr: \"${\\\"a\\\"+\\\"a\\\"",
        "long sums do not count as deep",
    ),
    ("deploy: replicas = \"${schema.spec.o}\"", DYN),
    (
        "deploy: template.spec.containers = \"${[{\\\"name\\\":\\\"a\\\",\\\"image\\\":\\\"b",
        MAPS,
    ),
    (
        "deploy: template.spec.containers = \"${schema.spec.l.map",
        MAPS,
    ),
    (
        "deploy: template.spec.containers = \"${schema.spec.l}\"",
        NOT_AN_OBJECT,
    ),
    ("deploy: template.spec.containers = \"${{", NOT_AN_OBJECT),
    ("deploy: template.spec.affinity = \"${{}}\"", MAPS),
    ("includeWhen: \"${dyn(true)}\"", DYN),
    ("includeWhen: \"${optional.none()}\"", DYN),
    ("readyWhen: \"${dyn(true)}\"", DYN),
    ("readyWhen: \"${optional.none()}\"", DYN),
    ("forEach: [{\"x\": \"${schema.spec.o}\"}]", DYN),
    ("forEach: [{\"x\": \"${schema.spec.o.z}\"}]", DYN),
    ("forEach: [{\"x\": \"${dyn([1])}\"}]", DYN),
    ("status: {\"a\": \"${schema.spec.o}\"}", OPEN_STATUS),
    ("status: {\"a\": \"${schema.spec}\"}", OPEN_STATUS),
    ("status: {\"a\": \"${quantity(it.data.a)}\"}", NO_JSON),
    ("status: {\"a\": \"${url(it.data.a)}\"}", NO_JSON),
    ("status: {\"a\": \"${type(it)}\"}", NO_JSON),
    (
        "status: {\"a\": \"${d.metadata.managedFields}\"}",
        OPEN_STATUS,
    ),
    (
        "status: {\"conditions\": [\"${runtime.newCondition({type:\\\"A\\\",status:true",
        LITERAL,
    ),
    (
        "status: {\"conditions\": [\"${runtime.newCondition({type:\\\"A\\\",status:\\\"True\\\",reason:1",
        LITERAL,
    ),
];

const DEFAULTS: &str = "what is no JSON is refused when it is built, not when the kind is made";
const NO_NAME: &str = "an object without a name can never be applied";
const DYN: &str = "a type that is not known is checked when it is evaluated";
const MAPS: &str = "a type does not say which keys a map has";
const NOT_AN_OBJECT: &str = "what is no object never fits an object";
const OPEN_STATUS: &str =
    "a field that says nothing more than that it is an object would be emptied by the server";
const NO_JSON: &str = "a value of this type has no JSON, so there is never anything in the field";
const LITERAL: &str = "a condition that is no string is told when it is built";

fn base() -> Value {
    json!({
        "name": "string", "n": "integer", "b": "boolean", "f": "float", "l": "[]string",
        "m": "map[string]string", "o": "object", "s": {"x": "string"},
    })
}

fn cases() -> impl Iterator<Item = Value> {
    CASES
        .lines()
        .map(|line| serde_json::from_str(line).expect("a case"))
}

fn built(case: &Value) -> Result<Graph, String> {
    let mut schema = case["schema"].clone();
    if schema["spec"] == "base" {
        schema["spec"] = base();
    }
    for (field, value) in [("apiVersion", "v1alpha1"), ("kind", "Case")] {
        if schema.get(field).is_none() {
            schema[field] = value.into();
        }
    }
    let spec = json!({"schema": schema, "resources": case["resources"]});
    let options = BuildOptions {
        features: Features::default().with(Feature::CelOmitFunction),
        ..BuildOptions::default()
    };
    let built = read_spec(&spec).and_then(|spec| build(&spec, &OfflineKinds::new(), &options));
    built.map_err(|error| error.to_string())
}

/// What differs from kro in one case.
fn difference(case: &Value) -> Option<String> {
    let taken = case["taken"] == true;
    let graph = match built(case) {
        Ok(_) if !taken => return Some("taken, and kro refuses it".to_owned()),
        Err(_) if !taken => return None,
        Err(error) => return Some(format!("refused, and kro takes it: {error}")),
        Ok(graph) => graph,
    };
    let crd = graph.crd();
    let made = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    ["spec", "status"].into_iter().find_map(|part| {
        let expect = case.get(part)?;
        (made[part] != *expect).then(|| format!("{part} is {}, and kro's {expect}", made[part]))
    })
}

#[test]
fn definitions_are_taken_and_refused_as_kro_does() {
    let mut used: BTreeMap<&str, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut count = 0;
    for case in cases() {
        count += 1;
        let name = case["case"].as_str().expect("a name");
        let known = DIFFERENCES
            .iter()
            .find(|(prefix, _)| name.starts_with(prefix));
        match (difference(&case), known) {
            (None, None) => {}
            (Some(_), Some((prefix, _))) => *used.entry(prefix).or_default() += 1,
            (None, Some(_)) => wrong.push(format!("{name}: does not differ any more")),
            (Some(found), None) => wrong.push(format!("{name}: {found}")),
        }
    }
    assert!(count > 800, "{count} cases");
    assert_eq!(used.len(), DIFFERENCES.len(), "a difference is unused");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
