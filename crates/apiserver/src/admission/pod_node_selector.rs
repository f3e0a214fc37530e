//! `PodNodeSelector`: a namespace's annotation says to which nodes its Pods go. Off by default.
//!
//! Left out: the plugin's configuration file, which sets a default for the cluster and lists what a
//! namespace may ask for.

use std::collections::BTreeMap;

use model::{Status, object};
use serde_json::{Value, json};

use super::{Mutate, Plugin, Request, Validate};

pub const PLUGIN: Plugin = Plugin {
    name: "PodNodeSelector",
    default: false,
    mutate: Mutate::Now(mutate),
    validate: Validate::Now(validate),
};

const ANNOTATION: &str = "scheduler.alpha.kubernetes.io/node-selector";

/// `a=b,c=d` as a map.
fn parse(text: &str) -> Result<BTreeMap<&str, &str>, Status> {
    let pairs = text
        .split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| match pair.split_once('=') {
            Some((key, value)) => Ok((key.trim(), value.trim())),
            None => Err(Status::internal(format!("invalid selector: {pair}"))),
        })
        .collect()
}

fn selector_of(request: &Request<'_>) -> Result<Option<String>, Status> {
    if !request.creates("", "pods") {
        return Ok(None);
    }
    let name = request.namespace();
    let namespace = request
        .find("", "namespaces", None, name)
        .ok_or_else(|| Status::not_found("", "namespaces", name))?;
    Ok(object::annotation(&namespace, ANNOTATION).map(str::to_owned))
}

fn check(pod: &Value, wanted: &BTreeMap<&str, &str>) -> Result<(), Status> {
    let conflicts = wanted.iter().any(|(key, value)| {
        let own = object::text(pod, &["spec", "nodeSelector", key]);
        !own.is_empty() && own != *value
    });
    if conflicts {
        let why = "pod node label selector conflicts with its namespace node label selector";
        return Err(Status::forbidden("", "pods", object::name(pod), why));
    }
    Ok(())
}

fn mutate(request: &Request<'_>, pod: &mut Value) -> Result<(), Status> {
    let Some(text) = selector_of(request)? else {
        return Ok(());
    };
    let wanted = parse(&text)?;
    check(pod, &wanted)?;
    let spec = object::child_mut(pod, "spec");
    let selector = spec.entry("nodeSelector").or_insert_with(|| json!({}));
    if let Some(selector) = selector.as_object_mut() {
        for (key, value) in wanted {
            selector.entry(key).or_insert_with(|| json!(value));
        }
    }
    Ok(())
}

fn validate(request: &Request<'_>, pod: &Value) -> Result<(), Status> {
    match selector_of(request)? {
        Some(text) => check(pod, &parse(&text)?),
        None => Ok(()),
    }
}
