//! The rollback that clients of old ask for by an annotation: the template of an earlier revision comes back.
//!
//! `kubectl rollout undo` writes the template itself and needs none of this.

use controller::{EventRecorder, Object};
use serde_json::{Value, json};

use super::sets::{self, ROLLBACK_TO, Sets, revision_of};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::resources;

/// What comes of a wish to roll back. Pure.
#[derive(Debug, PartialEq)]
pub enum Rollback {
    /// There is no such revision; why.
    NotFound(&'static str),
    /// The template is that of the revision already.
    Unchanged,
    /// The deployment as it is to be.
    To(i64, Value),
}

/// The revision that is asked for; 0 is the one before the latest.
pub fn wanted(deployment: &Object) -> Option<i64> {
    deployment.annotation(ROLLBACK_TO)?.parse().ok()
}

/// Decides.
pub fn rollback(deployment: &Object, sets: &Sets, revision: i64) -> Rollback {
    let revision = match revision {
        0 => sets::last_revision(sets),
        revision => revision,
    };
    if revision == 0 {
        return Rollback::NotFound("Unable to find last revision.");
    }
    let Some(set) = sets.all().find(|set| revision_of(set) == revision) else {
        return Rollback::NotFound("Unable to find the revision to rollback to.");
    };
    if sets::same_template(deployment, set) {
        return Rollback::Unchanged;
    }
    let mut new = deployment.value().clone();
    new["spec"]["template"] = sets::template_without_hash(set);
    new["metadata"]["annotations"] = Value::Object(sets::annotations_of(deployment, set));
    Rollback::To(revision, new)
}

/// Carries it out; the wish is taken back in any case.
pub async fn carry_out(
    cluster: &Cluster,
    recorder: &EventRecorder,
    deployment: &Object,
    sets: &Sets,
    revision: i64,
) -> Result<(), Error> {
    let name = deployment.name();
    let mut unchanged = deployment.value().clone();
    if let Some(annotations) = unchanged["metadata"]["annotations"].as_object_mut() {
        annotations.remove(ROLLBACK_TO);
    }
    let (new, done) = match rollback(deployment, sets, revision) {
        Rollback::NotFound(why) => {
            recorder.warning(deployment, "DeploymentRollbackRevisionNotFound", why);
            (unchanged, None)
        }
        Rollback::Unchanged => {
            let text = format!(
                "The rollback revision contains the same template as current deployment {}",
                json!(name)
            );
            recorder.warning(deployment, "DeploymentRollbackTemplateUnchanged", text);
            (unchanged, None)
        }
        Rollback::To(revision, new) => {
            let text = format!(
                "Rolled back deployment {} to revision {revision}",
                json!(name)
            );
            (new, Some(text))
        }
    };
    cluster
        .api()
        .update(&resources::deployments(), &new)
        .await?;
    if let Some(text) = done {
        recorder.normal(deployment, "DeploymentRollback", text);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn set(revision: &str, image: &str) -> Arc<Object> {
        Arc::new(Object::new(json!({
            "metadata": {"name": image, "annotations": {sets::REVISION: revision, "cause": image}},
            "spec": {"template": {"metadata": {"labels": {"app": "d", sets::HASH: "x"}}, "spec": {"image": image}}},
        })))
    }

    #[test]
    fn an_earlier_template_comes_back_with_its_annotations() {
        let deployment = Object::new(json!({
            "metadata": {"name": "d", "annotations": {ROLLBACK_TO: "0", "cause": "v2", sets::REVISION: "2"}},
            "spec": {"template": {"metadata": {"labels": {"app": "d"}}, "spec": {"image": "v2"}}},
        }));
        let sets = Sets {
            new: Some(set("2", "v2")),
            old: vec![set("1", "v1")],
        };
        assert_eq!(wanted(&deployment), Some(0));
        let Rollback::To(1, new) = rollback(&deployment, &sets, 0) else {
            panic!("to the revision before");
        };
        assert_eq!(
            new["spec"]["template"],
            json!({"metadata": {"labels": {"app": "d"}}, "spec": {"image": "v1"}})
        );
        assert_eq!(
            new["metadata"]["annotations"],
            json!({"cause": "v1", sets::REVISION: "2"})
        );
        assert_eq!(rollback(&deployment, &sets, 2), Rollback::Unchanged);
        assert!(matches!(
            rollback(&deployment, &sets, 7),
            Rollback::NotFound(_)
        ));
    }
}
