//! Brings a CustomResourceDefinition to what it should be: creates, adopts, updates, refuses.

use std::time::Duration;

use controller::{Api, Backoff, Error, Object, ObjectKey, Subresource};
use serde_json::{Value, json};
use thiserror::Error as ThisError;

use super::context::{Context, crd_resource};
use crate::build;
use crate::compatibility::{self, Report, Rules};
use crate::keys;
use crate::managed_resources;

/// Polls come closer together at first than kro's 150 ms: a server in the same process needs no more.
const ESTABLISHED_POLL: Backoff = Backoff {
    base: Duration::from_millis(2),
    max: Duration::from_millis(150),
};
/// Matches kro.
const ESTABLISHED_TIMEOUT: Duration = Duration::from_mins(2);

/// Why the definition is not as it should be.
#[derive(Debug, ThisError)]
pub(crate) enum EnsureError {
    #[error(
        "failed to ensure CRD {name}: conflict detected: CRD {name} already exists and is not owned by KRO"
    )]
    NotOurs { name: String },
    #[error(
        "failed to ensure CRD {name}: conflict detected: CRD {name} is already owned by another ResourceGraphDefinition {other}"
    )]
    OfAnother { name: String, other: String },
    #[error(
        "cannot update CRD {name}: breaking changes detected: {report} (annotate the ResourceGraphDefinition with {}=true to let them through)",
        keys::ALLOW_BREAKING_CHANGES
    )]
    Breaking { name: String, report: Report },
    #[error("CRD {name} was not established within {} seconds", ESTABLISHED_TIMEOUT.as_secs())]
    NotEstablished { name: String },
    #[error("failed to ensure CRD: {0}")]
    Api(#[from] Error),
}

/// What is to be done about a definition that exists.
#[derive(Debug, PartialEq)]
pub(crate) enum Plan {
    /// It is as it should be.
    Leave,
    /// Merge this into it.
    Patch(Value),
}

/// Decides what to do about a definition that exists.
pub(crate) fn plan(
    current: &Object,
    desired: &Value,
    allow_breaking: bool,
    rules: Rules,
) -> Result<Plan, EnsureError> {
    let name = current.name().to_owned();
    let owned = match current.label(keys::OWNED) {
        Some(value) => value == "true",
        None => current.label(keys::MANAGED_BY) == Some("kro"),
    };
    if !owned {
        return Err(EnsureError::NotOurs { name });
    }
    let ours = desired
        .pointer("/metadata/labels")
        .and_then(|labels| labels[keys::RGD_NAME].as_str());
    if let Some(other) = current
        .label(keys::RGD_NAME)
        .filter(|other| Some(*other) != ours)
    {
        return Err(EnsureError::OfAnother {
            name,
            other: other.to_owned(),
        });
    }
    // What only a feature added is no part of the API.
    let without = managed_resources::undeclared(current.value(), desired);
    let present = without.as_ref().unwrap_or(current.value());
    let without = build::revisions_undeclared(present, desired);
    let report = compatibility::compare(without.as_ref().unwrap_or(present), desired, rules);
    if !report.has_changes() && same_names(&current.spec()["names"], &desired["spec"]["names"]) {
        return Ok(Plan::Leave);
    }
    if !report.breaking.is_empty() && !allow_breaking {
        return Err(EnsureError::Breaking { name, report });
    }
    Ok(Plan::Patch(patch(desired)))
}

fn same_names(current: &Value, desired: &Value) -> bool {
    let list = |names: &Value, key: &str| names[key].as_array().cloned().unwrap_or_default();
    ["kind", "listKind", "plural", "singular"]
        .iter()
        .all(|key| current[key] == desired[key])
        && ["shortNames", "categories"]
            .iter()
            .all(|key| list(current, key) == list(desired, key))
}

fn patch(desired: &Value) -> Value {
    let spec = &desired["spec"];
    let mut names = spec["names"].clone();
    for key in ["shortNames", "categories"] {
        if names.get(key).is_none() {
            // An explicit null removes what was there.
            names[key] = Value::Null;
        }
    }
    let mut patch = json!({"spec": {
        "group": spec["group"], "names": names, "scope": spec["scope"], "versions": spec["versions"],
    }});
    for field in ["labels", "annotations"] {
        let wanted = &desired["metadata"][field];
        if wanted.as_object().is_some_and(|map| !map.is_empty()) {
            patch["metadata"][field] = wanted.clone();
        }
    }
    patch
}

/// Creates or updates the definition of a generated kind; returns the version it has then.
pub(crate) async fn ensure(
    context: &Context,
    desired: &Value,
    allow_breaking: bool,
) -> Result<String, EnsureError> {
    let name = desired["metadata"]["name"].as_str().unwrap_or_default();
    let rules = Rules::of(context.options.build.features);
    let key = ObjectKey::cluster(name);
    let crds = crd_resource();
    let written = match context.api.get_opt(&crds, &key).await? {
        None => context.api.create(&crds, desired).await?,
        Some(current) => match plan(&current, desired, allow_breaking, rules)? {
            Plan::Leave if is_established(&current) => return Ok(current.generation().to_string()),
            Plan::Leave => current,
            Plan::Patch(patch) => {
                context
                    .api
                    .merge_patch(&crds, &key, Subresource::None, &patch)
                    .await?
            }
        },
    };
    context
        .discovery
        .invalidate(desired["spec"]["group"].as_str().unwrap_or_default());
    wait_established(&context.api, written).await
}

async fn wait_established(api: &Api, written: Object) -> Result<String, EnsureError> {
    let key = written.key();
    let wait = async {
        let mut current = written;
        let mut polls = 0;
        while !is_established(&current) {
            tokio::time::sleep(ESTABLISHED_POLL.delay(polls)).await;
            polls += 1;
            current = api.get(&crd_resource(), &key).await?;
        }
        Ok::<_, Error>(current.generation().to_string())
    };
    match tokio::time::timeout(ESTABLISHED_TIMEOUT, wait).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(EnsureError::NotEstablished { name: key.name }),
    }
}

fn is_established(crd: &Object) -> bool {
    controller::condition::is_true(crd.status(), "Established")
}

/// Installs one of our own definitions, or brings it up to date.
pub(crate) async fn install(api: &Api, desired: &Value) -> Result<(), Error> {
    let crds = crd_resource();
    let options = controller::ApplyOptions::force("kro.run/installer");
    let written = api.apply(&crds, desired, &options).await?;
    match wait_established(api, written).await {
        Ok(_) => Ok(()),
        Err(EnsureError::Api(error)) => Err(error),
        // It will be established later; the informers wait for that anyway.
        Err(error) => {
            tracing::warn!(%error, "continuing");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crd(labels: Value, spec: Value) -> Value {
        json!({
            "metadata": {"name": "apps.kro.run", "labels": labels},
            "spec": {"group": "kro.run", "scope": "Namespaced", "names": {"kind": "App", "plural": "apps"},
                "versions": [{"name": "v1", "served": true, "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}}]},
        })
    }

    fn ours(spec: Value) -> Value {
        crd(json!({keys::OWNED: "true", keys::RGD_NAME: "app"}), spec)
    }

    fn check(current: Value, desired: &Value, allow_breaking: bool, expect: &str) {
        let found = match plan(&Object::new(current), desired, allow_breaking, Rules::Usual) {
            Ok(Plan::Leave) => "leave".to_owned(),
            Ok(Plan::Patch(_)) => "patch".to_owned(),
            Err(error) => error.to_string(),
        };
        assert!(found.contains(expect), "{found}");
    }

    #[test]
    fn plans() {
        let (a, ab) = (
            json!({"properties": {"a": {}}}),
            json!({"properties": {"a": {}, "b": {}}}),
        );
        let desired = ours(a.clone());
        check(ours(a.clone()), &desired, false, "leave");
        check(ours(json!({})), &desired, false, "patch");
        check(
            ours(ab.clone()),
            &desired,
            false,
            "breaking changes detected: Property b was removed",
        );
        check(ours(ab), &desired, true, "patch");
        check(
            crd(json!({}), a.clone()),
            &desired,
            false,
            "not owned by KRO",
        );
        check(
            crd(json!({keys::MANAGED_BY: "kro"}), a.clone()),
            &desired,
            false,
            "leave",
        );
        check(
            crd(
                json!({keys::OWNED: "false", keys::MANAGED_BY: "kro"}),
                a.clone(),
            ),
            &desired,
            false,
            "not owned by KRO",
        );
        let other = crd(
            json!({keys::OWNED: "true", keys::RGD_NAME: "other"}),
            a.clone(),
        );
        check(
            other,
            &desired,
            false,
            "already owned by another ResourceGraphDefinition other",
        );
        // What the comparison does not look at is not worth a patch.
        check(
            ours(json!({"properties": {"a": {}}, "x-kubernetes-validations": []})),
            &desired,
            false,
            "leave",
        );
    }

    #[test]
    fn names_that_are_gone_are_removed_explicitly() {
        let mut current = ours(json!({}));
        current["spec"]["names"]["shortNames"] = json!(["a"]);
        let Ok(Plan::Patch(patch)) =
            plan(&Object::new(current), &ours(json!({})), false, Rules::Usual)
        else {
            panic!()
        };
        assert_eq!(patch["spec"]["names"]["shortNames"], Value::Null);
        assert_eq!(patch["metadata"].get("annotations"), None);
    }
}
