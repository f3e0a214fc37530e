//! What the Pods and claims of a stateful set are called and look like. Pure.

use controller::Object;
use model::object;
use serde_json::{Value, json};

use crate::{history, pod};

/// The label with a Pod's name.
pub const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
/// The label with a Pod's ordinal.
pub const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The name of the set a Pod's name speaks of, and its ordinal.
pub fn parent_and_ordinal(pod_name: &str) -> Option<(&str, i64)> {
    let (parent, digits) = pod_name.rsplit_once('-')?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let ordinal: i32 = digits.parse().ok().filter(|_| is_number)?;
    Some((parent, i64::from(ordinal)))
}

/// A Pod's ordinal.
pub fn ordinal(pod: &Object) -> Option<i64> {
    parent_and_ordinal(pod.name()).map(|(_, ordinal)| ordinal)
}

/// Whether a Pod has the name of one of the set's.
pub fn is_member(set: &Object, pod: &Object) -> bool {
    parent_and_ordinal(pod.name()).is_some_and(|(parent, _)| parent == set.name())
}

/// The first ordinal.
pub fn start(set: &Object) -> i64 {
    object::number(set.value(), &["spec", "ordinals", "start"]).unwrap_or(0)
}

/// How many Pods are wanted.
pub fn replicas(set: &Object) -> i64 {
    let replicas = object::number(set.value(), &["spec", "replicas"]);
    replicas.unwrap_or(1).max(0)
}

/// Whether a set of its present size has a Pod of this ordinal.
pub fn is_in_range(set: &Object, ordinal: i64) -> bool {
    (start(set)..start(set) + replicas(set)).contains(&ordinal)
}

/// The name of the Pod of an ordinal.
pub fn pod_name(set: &Object, ordinal: i64) -> String {
    format!("{}-{ordinal}", set.name())
}

fn templates(set: &Object) -> &[Value] {
    object::list(set.value(), &["spec", "volumeClaimTemplates"])
}

fn claim_name(set: &Object, template: &Value, ordinal: i64) -> String {
    format!("{}-{}-{ordinal}", object::name(template), set.name())
}

/// The names of the claims of an ordinal.
pub fn claim_names(set: &Object, ordinal: i64) -> Vec<String> {
    let templates = templates(set).iter();
    templates
        .map(|template| claim_name(set, template, ordinal))
        .collect()
}

/// The claims of an ordinal, as they are made.
pub fn claims(set: &Object, ordinal: i64) -> Vec<Value> {
    let selected = set
        .get(&["spec", "selector", "matchLabels"])
        .and_then(Value::as_object);
    let claim = |template: &Value| {
        let mut claim = template.clone();
        claim["apiVersion"] = json!("v1");
        claim["kind"] = json!("PersistentVolumeClaim");
        let metadata = object::metadata_mut(&mut claim);
        metadata.insert("name".to_owned(), json!(claim_name(set, template, ordinal)));
        metadata.insert("namespace".to_owned(), json!(set.namespace()));
        let labels = metadata.entry("labels").or_insert_with(|| json!({}));
        if labels.is_null() {
            *labels = json!({});
        }
        for (key, value) in selected.into_iter().flatten() {
            labels[key] = value.clone();
        }
        claim
    };
    templates(set).iter().map(claim).collect()
}

/// The Pod of an ordinal, of a revision.
pub fn new_pod(set: &Object, template: &Value, revision: &str, ordinal: i64) -> Value {
    let name = pod_name(set, ordinal);
    let labels = [(history::HASH, revision.to_owned())];
    let mut pod = pod::from_template(set, template, &labels);
    pod["metadata"]["name"] = json!(name);
    pod["spec"]["hostname"] = json!(name);
    let service = object::text(set.value(), &["spec", "serviceName"]);
    if service.is_empty() {
        object::child_mut(&mut pod, "spec").remove("subdomain");
    } else {
        pod["spec"]["subdomain"] = json!(service);
    }
    set_identity(&mut pod, &name, ordinal);
    set_storage(set, &mut pod, ordinal);
    pod
}

fn set_identity(pod: &mut Value, name: &str, ordinal: i64) {
    pod["metadata"]["labels"][POD_NAME] = json!(name);
    pod["metadata"]["labels"][POD_INDEX] = json!(ordinal.to_string());
}

/// Gives a Pod the volumes of the set's claims in place of its own of the same names.
fn set_storage(set: &Object, pod: &mut Value, ordinal: i64) {
    let templates = templates(set);
    if templates.is_empty() {
        return;
    }
    let mut volumes: Vec<Value> = templates
        .iter()
        .map(|template| {
            let claim = claim_name(set, template, ordinal);
            json!({"name": object::name(template), "persistentVolumeClaim": {"claimName": claim}})
        })
        .collect();
    let others = object::list(pod, &["spec", "volumes"])
        .iter()
        .filter(|volume| {
            let name = object::text(volume, &["name"]);
            templates
                .iter()
                .all(|template| object::name(template) != name)
        });
    volumes.extend(others.cloned());
    pod["spec"]["volumes"] = Value::Array(volumes);
}

/// Whether a Pod has the label with its name.
pub fn identity_matches(set: &Object, pod: &Object) -> bool {
    is_member(set, pod) && pod.label(POD_NAME) == Some(pod.name())
}

/// Whether a Pod uses the claims of its ordinal.
pub fn storage_matches(set: &Object, pod: &Object) -> bool {
    let Some(ordinal) = ordinal(pod) else {
        return false;
    };
    let volumes = object::list(pod.value(), &["spec", "volumes"]);
    templates(set).iter().all(|template| {
        let volume = volumes
            .iter()
            .find(|v| object::text(v, &["name"]) == object::name(template));
        let claim = volume.map(|v| object::text(v, &["persistentVolumeClaim", "claimName"]));
        claim == Some(claim_name(set, template, ordinal).as_str())
    })
}

/// A Pod with the identity and the storage its set wants.
pub fn conforming(set: &Object, pod: &Object) -> Value {
    let mut value = pod.value().clone();
    if let Some(ordinal) = ordinal(pod) {
        if !identity_matches(set, pod) {
            set_identity(&mut value, pod.name(), ordinal);
        }
        if !storage_matches(set, pod) {
            set_storage(set, &mut value, ordinal);
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_whose_a_pod_is() {
        let check = |name, expect| assert_eq!(parent_and_ordinal(name), expect, "{name}");
        check("web-0", Some(("web", 0)));
        check("my-web-12", Some(("my-web", 12)));
        check("web", None);
        check("web-", None);
        check("web-x", None);
        check("web-+1", None);
        check("web-99999999999", None);
    }

    #[test]
    fn pods_use_the_claims_of_their_ordinal() {
        let set = Object::new(json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": {"name": "web", "namespace": "n", "uid": "u"},
            "spec": {
                "serviceName": "web", "replicas": 2, "ordinals": {"start": 5},
                "selector": {"matchLabels": {"app": "web"}},
                "volumeClaimTemplates": [{"metadata": {"name": "data", "labels": {"own": "yes"}}, "spec": {}}],
            },
        }));
        let template = json!({
            "metadata": {"labels": {"app": "web"}},
            "spec": {"volumes": [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]},
        });
        let pod = Object::new(new_pod(&set, &template, "web-r", 5));
        assert_eq!(pod.name(), "web-5");
        assert_eq!(pod.label(POD_INDEX), Some("5"));
        assert_eq!(pod.label(history::HASH), Some("web-r"));
        assert_eq!(pod.value()["spec"]["subdomain"], "web");
        assert_eq!(
            pod.value()["spec"]["volumes"],
            json!([
                {"name": "data", "persistentVolumeClaim": {"claimName": "data-web-5"}},
                {"name": "tmp", "emptyDir": {}},
            ])
        );
        assert!(identity_matches(&set, &pod) && storage_matches(&set, &pod));
        let claims = claims(&set, 5);
        assert_eq!(object::name(&claims[0]), "data-web-5");
        assert_eq!(
            claims[0]["metadata"]["labels"],
            json!({"app": "web", "own": "yes"})
        );
        assert!(is_in_range(&set, 6) && !is_in_range(&set, 4) && !is_in_range(&set, 7));
    }
}
