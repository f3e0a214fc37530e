//! Conversion between versions by a webhook (`spec.conversion.strategy: Webhook`).
//!
//! Objects that are not in the version that is wanted are sent in one ConversionReview. What comes back
//! must be the same objects: of their metadata only labels and annotations may differ.

use std::time::Duration;

use bytes::Bytes;
use model::{Status, object};
use serde_json::{Value, json};

use crate::catalog::Definition;
use crate::server::State;
use crate::webhook_client::Target;

const GROUP: &str = "apiextensions.k8s.io";
/// How long a webhook may take, as upstream.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The webhook that converts a custom resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Webhook {
    client: Value,
    reviews: Vec<String>,
}

impl Webhook {
    /// The webhook of a definition, where it has one.
    pub fn of(crd: &Value) -> Option<Self> {
        let conversion = object::at(crd, &["spec", "conversion"])?;
        if object::text(conversion, &["strategy"]) != "Webhook" {
            return None;
        }
        let reviews = object::list(conversion, &["webhook", "conversionReviewVersions"]);
        Some(Self {
            client: object::at(conversion, &["webhook", "clientConfig"])?.clone(),
            reviews: reviews
                .iter()
                .filter_map(|version| version.as_str().map(str::to_owned))
                .collect(),
        })
    }

    /// Converts those of the objects that are in another version.
    async fn convert(
        &self,
        state: &State,
        objects: &mut [Value],
        wanted: &str,
    ) -> Result<(), String> {
        let others: Vec<usize> = (0..objects.len())
            .filter(|at| object::text(&objects[*at], &["apiVersion"]) != wanted)
            .collect();
        let Some(first) = others.first() else {
            return Ok(());
        };
        let about = gvk(&objects[*first]);
        let sent: Vec<&Value> = others.iter().map(|at| &objects[*at]).collect();
        let converted = self
            .ask(state, &sent, wanted)
            .await
            .map_err(|why| format!("conversion webhook for {about} failed: {why}"))?;
        if converted.len() != sent.len() {
            return Err(format!(
                "conversion webhook for {about} returned {} objects, expected {}",
                converted.len(),
                sent.len()
            ));
        }
        for (index, (at, mut new)) in others.into_iter().zip(converted).enumerate() {
            check(&objects[at], &new, wanted).map_err(|why| {
                format!("conversion webhook for {about} returned invalid converted object at index {index}: {why}")
            })?;
            restore_metadata(&objects[at], &mut new);
            objects[at] = new;
        }
        Ok(())
    }

    async fn ask(
        &self,
        state: &State,
        objects: &[&Value],
        wanted: &str,
    ) -> Result<Vec<Value>, String> {
        let known = |version: &&String| matches!(version.as_str(), "v1" | "v1beta1");
        let version = self.reviews.iter().find(known);
        let version = version.ok_or("no supported conversion review versions")?;
        let uid = uuid::Uuid::new_v4().to_string();
        let review = json!({
            "kind": "ConversionReview",
            "apiVersion": format!("{GROUP}/{version}"),
            "request": {"uid": uid, "desiredAPIVersion": wanted, "objects": objects},
        });
        let target = Target::resolve(state.store.as_ref(), &self.client)
            .map_err(|error| error.to_string())?;
        let body = Bytes::from(review.to_string());
        let answer = state.webhooks.post(&target, TIMEOUT, body).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let answer: Value = serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
        converted(answer, version, &uid)
    }
}

/// The objects in an answer, which must be one to the question. Pure.
fn converted(mut answer: Value, version: &str, uid: &str) -> Result<Vec<Value>, String> {
    let text = |path: &[&str]| object::text(&answer, path).to_owned();
    let (api_version, kind) = (text(&["apiVersion"]), text(&["kind"]));
    let wanted = format!("{GROUP}/{version}");
    // The older version of the review is not held to it.
    let is_strict = version == "v1";
    if is_strict && (api_version != wanted || kind != "ConversionReview") {
        return Err(format!(
            "expected webhook response of {wanted}, Kind=ConversionReview, got {api_version}, Kind={kind}"
        ));
    }
    if !answer.get("response").is_some_and(Value::is_object) {
        return Err("no response provided".to_owned());
    }
    let found = text(&["response", "uid"]);
    if is_strict && found != uid {
        return Err(format!("expected response.uid={uid:?}, got {found:?}"));
    }
    let status = text(&["response", "result", "status"]);
    if status != "Success" {
        let message = text(&["response", "result", "message"]);
        return Err(if message.is_empty() {
            format!("response.result.status was '{status}', not 'Success'")
        } else {
            message
        });
    }
    match answer
        .pointer_mut("/response/convertedObjects")
        .map(Value::take)
    {
        Some(Value::Array(objects)) => Ok(objects),
        _ => Ok(Vec::new()),
    }
}

fn gvk(value: &Value) -> String {
    let text = |name: &str| object::text(value, &[name]);
    format!("{}, Kind={}", text("apiVersion"), text("kind"))
}

/// What comes back must be what was sent, in the version that was wanted.
fn check(old: &Value, new: &Value, wanted: &str) -> Result<(), String> {
    let found = object::text(new, &["apiVersion"]);
    if found != wanted {
        return Err(format!(
            "invalid groupVersion (expected {wanted}, received {found})"
        ));
    }
    let (expected, received) = (object::text(old, &["kind"]), object::text(new, &["kind"]));
    if expected != received {
        return Err(format!(
            "invalid kind (expected {expected}, received {received})"
        ));
    }
    if !new.get("metadata").is_some_and(Value::is_object) {
        return Err("missing metadata in converted object".to_owned());
    }
    for (what, name) in [("name", "name"), ("namespace", "namespace"), ("UID", "uid")] {
        let text = |value| object::text(value, &["metadata", name]);
        if text(old) != text(new) {
            return Err(format!(
                "must have the same {what}: {} != {}",
                text(old),
                text(new)
            ));
        }
    }
    Ok(())
}

/// The metadata of the object that was sent, with the labels and annotations that came back.
fn restore_metadata(old: &Value, new: &mut Value) {
    let mut metadata = object::metadata(old).cloned().unwrap_or_default();
    for name in ["labels", "annotations"] {
        match object::at(new, &["metadata", name]).filter(|found| found.is_object()) {
            Some(found) => metadata.insert(name.to_owned(), found.clone()),
            None => metadata.remove(name),
        };
    }
    new["metadata"] = Value::Object(metadata);
}

/// 500, in the words of what went wrong.
fn failure(why: String) -> Status {
    let mut status = Status::internal("");
    (status.message, status.reason, status.details) = (why, String::new(), None);
    status
}

impl Definition {
    fn webhook(&self) -> Option<&Webhook> {
        self.custom.as_ref()?.conversion.as_ref()
    }

    /// Turns a stored object into this definition's version.
    pub(crate) async fn read(&self, state: &State, object: &mut Value) -> Result<(), Status> {
        self.read_all(state, std::slice::from_mut(object)).await
    }

    /// Turns stored objects into this definition's version.
    pub(crate) async fn read_all(
        &self,
        state: &State,
        objects: &mut [Value],
    ) -> Result<(), Status> {
        if let Some(webhook) = self.webhook() {
            let wanted = self.kind.api_version();
            let outcome = webhook.convert(state, objects, &wanted).await;
            outcome.map_err(failure)?;
        }
        for object in objects {
            self.present(object);
        }
        Ok(())
    }

    /// An object in the version it is stored in, where a webhook is needed for that; nothing where the
    /// object can be stored as it is.
    pub(crate) async fn for_storage(
        &self,
        state: &State,
        object: &Value,
    ) -> Result<Option<Value>, Status> {
        let Some(webhook) = self.webhook() else {
            return Ok(None);
        };
        if self.storage_version == self.kind.api_version() {
            return Ok(None);
        }
        let mut stored = [object.clone()];
        let outcome = webhook.convert(state, &mut stored, &self.storage_version);
        outcome.await.map_err(failure)?;
        let [stored] = stored;
        Ok(Some(stored))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(version: &str, name: &str) -> Value {
        json!({"apiVersion": format!("example.com/{version}"), "kind": "Thing",
            "metadata": {"name": name, "uid": "u", "labels": {"a": "b"}, "generation": 2}})
    }

    #[test]
    fn only_answers_to_the_question_count() {
        let answer = |api: &str, uid: &str, result: Value| {
            let review = json!({"apiVersion": api, "kind": "ConversionReview",
                "response": {"uid": uid, "result": result, "convertedObjects": [1]}});
            converted(review, "v1", "7").map_err(|why| why.chars().take(40).collect::<String>())
        };
        let success = json!({"status": "Success"});
        let v1 = "apiextensions.k8s.io/v1";
        assert_eq!(answer(v1, "7", success.clone()), Ok(vec![json!(1)]));
        assert!(answer(v1, "8", success.clone()).is_err());
        assert!(answer("apiextensions.k8s.io/v1beta1", "7", success).is_err());
        let failed = json!({"status": "Failed", "message": "no"});
        assert_eq!(answer(v1, "7", failed), Err("no".to_owned()));
    }

    #[test]
    fn the_object_must_stay_the_same() {
        let old = object("v1", "x");
        let check = |new: &Value| check(&old, new, "example.com/v2").map_err(|_| ());
        assert_eq!(check(&object("v2", "x")), Ok(()));
        assert_eq!(check(&object("v1", "x")), Err(()));
        assert_eq!(check(&object("v2", "y")), Err(()));
        let mut new = json!({"metadata": {"name": "x", "labels": {"c": "d"}, "generation": 9}});
        restore_metadata(&old, &mut new);
        assert_eq!(
            new["metadata"],
            json!({"name": "x", "uid": "u", "labels": {"c": "d"}, "generation": 2})
        );
    }
}
