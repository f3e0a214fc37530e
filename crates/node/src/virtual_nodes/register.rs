//! Brings the Node objects of this server in line with what it is to have.
//!
//! Several servers may share one store, so each node says whose it is. A node without an owner (one
//! that somebody has applied) belongs to whoever claims it first.

use std::collections::BTreeSet;

use controller::{Api, DeleteOptions, Error, ListOptions, Object, Subresource};
use serde_json::json;

use super::node::Template;
use super::{LABEL, SERVER, nodes};

/// The label that says which template of a server a node was made from.
const TEMPLATE: &str = "node.corvus.dev/template";

/// Makes the nodes that are missing and removes this server's that are too many.
pub async fn register(api: &Api, server: &str, templates: &[Template]) -> Result<(), Error> {
    let options = ListOptions {
        label_selector: Some(format!("{LABEL}=true")),
        ..ListOptions::default()
    };
    let present = api.list(&nodes(), &options).await?.items;
    let taken: BTreeSet<&str> = present.iter().map(Object::name).collect();
    let mut kept: BTreeSet<&str> = BTreeSet::new();
    for template in templates {
        let wanted = template.count.unwrap_or(1) as usize;
        let mut own: Vec<&Object> = present
            .iter()
            .filter(|node| is_made_from(node, template, server))
            .collect();
        // By number, so that the last ones go first.
        own.sort_by_key(|node| (node.name().len(), node.name()));
        own.truncate(wanted);
        kept.extend(own.iter().map(|node| node.name()));
        let mut number = 0;
        for made in own.len()..wanted {
            number = make(api, server, template, made, number, &taken).await?;
        }
    }
    for node in &present {
        let mine = node.label(SERVER) == Some(server) && node.label(TEMPLATE).is_some();
        if mine && !kept.contains(node.name()) {
            api.delete(&nodes(), &node.key(), &DeleteOptions::of_uid(node.uid()))
                .await?;
        }
    }
    Ok(())
}

fn is_made_from(node: &Object, template: &Template, server: &str) -> bool {
    // Nodes of versions that knew only one server have neither label.
    let unclaimed = node.label(SERVER).is_none()
        && node.label("type") == Some("virtual")
        && template.name == "virtual";
    unclaimed
        || (node.label(SERVER) == Some(server) && node.label(TEMPLATE) == Some(&template.name))
}

/// Makes one node under the first number from `number` on that nobody has; returns the next number.
async fn make(
    api: &Api,
    server: &str,
    template: &Template,
    made: usize,
    mut number: usize,
    taken: &BTreeSet<&str>,
) -> Result<usize, Error> {
    loop {
        let name = match template.count {
            Some(_) => format!("{}-{number}", template.name),
            None => template.name.clone(),
        };
        number += 1;
        if template.count.is_some() && taken.contains(name.as_str()) {
            continue;
        }
        let mut node = template.object(&name, made, server);
        node["metadata"]["labels"][TEMPLATE] = json!(template.name);
        let status = node["status"].clone();
        match api.create(&nodes(), &node).await {
            Ok(created) => {
                // What a node has is status, which a creation does not take.
                if status.as_object().is_some_and(|status| !status.is_empty()) {
                    let patch = json!({"status": status});
                    api.merge_patch(&nodes(), &created.key(), Subresource::Status, &patch)
                        .await?;
                }
                return Ok(number);
            }
            Err(error) if error.is_already_exists() && template.count.is_some() => {}
            Err(error) if error.is_already_exists() => {
                tracing::warn!(node = name, "a node of that name belongs to somebody else");
                return Ok(number);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Claims a node without an owner. Whoever is first gets it.
pub async fn claim(api: &Api, server: &str, node: &Object) -> Result<(), Error> {
    let patch = json!({"metadata": {
        "resourceVersion": node.resource_version(),
        "labels": {SERVER: server},
    }});
    match api
        .merge_patch(&nodes(), &node.key(), Subresource::None, &patch)
        .await
    {
        Err(error) if error.is_conflict() || error.is_not_found() => Ok(()),
        outcome => outcome.map(drop),
    }
}

/// Takes away a node whose server is gone, as a cloud does with the nodes of machines that are: nobody would ever speak for it,
/// and its Pods could neither run nor end. One that somebody has applied is left to be claimed instead.
pub async fn abandon(api: &Api, node: &Object) -> Result<(), Error> {
    let outcome = if node.label(TEMPLATE).is_some() {
        let options = DeleteOptions {
            // It may have come back in this moment.
            resource_version: Some(node.resource_version().to_owned()),
            ..DeleteOptions::of_uid(node.uid())
        };
        api.delete(&nodes(), &node.key(), &options).await.map(drop)
    } else {
        let patch = json!({"metadata": {
            "resourceVersion": node.resource_version(),
            "labels": {SERVER: null},
        }});
        let patched = api
            .merge_patch(&nodes(), &node.key(), Subresource::None, &patch)
            .await;
        patched.map(drop)
    };
    match outcome {
        Err(error) if error.is_conflict() || error.is_not_found() => Ok(()),
        outcome => outcome,
    }
}
