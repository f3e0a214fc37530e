//! What to do about the revisions of a ResourceGraphDefinition, decided without asking anybody.

use std::sync::Arc;

use controller::Object;
use serde_json::{Value, json};

use super::registry::{Entry, RevisionState};
use crate::build::Graph;
use crate::{hash, keys};

/// What to do about the revisions of a definition.
#[derive(Debug)]
pub(super) enum Decision {
    /// Wait, with reason and message.
    Wait(&'static str, String),
    /// Issue the next revision.
    Issue,
    /// Serve this one.
    Serve(i64, Arc<Graph>),
    /// The newest cannot be compiled.
    Failed(String),
}

/// Decides by the newest live revision and what the registry knows of it.
pub(super) fn decide(
    newest: Option<i64>,
    terminating: usize,
    entry: Option<Entry>,
    spec_hash: &str,
) -> Decision {
    if terminating > 0 {
        let message = format!("waiting for {terminating} terminating graph revisions to settle");
        return Decision::Wait("WaitingForGraphRevisionSettlement", message);
    }
    let Some(newest) = newest else {
        return Decision::Issue;
    };
    let Some(entry) = entry else {
        let message = format!("waiting for graph revision {newest} to be warmed up");
        return Decision::Wait("WaitingForGraphRevisionWarmup", message);
    };
    if entry.hash != spec_hash {
        return Decision::Issue;
    }
    match entry.state {
        RevisionState::Active(graph) => Decision::Serve(newest, graph),
        RevisionState::Pending | RevisionState::Retained => {
            let message = format!("graph revision {newest} is being compiled");
            Decision::Wait("WaitingForGraphRevisionCompilation", message)
        }
        RevisionState::Failed(message) => Decision::Failed(message),
    }
}

pub(super) fn owner_reference(rgd: &Object) -> Value {
    json!({
        "apiVersion": format!("{}/{}", keys::GROUP, keys::VERSION),
        "kind": "ResourceGraphDefinition",
        "name": rgd.name(),
        "uid": rgd.uid(),
        "controller": true,
    })
}

pub(super) fn revision_object(rgd: &Object, number: i64, spec_hash: &str) -> Value {
    json!({
        "apiVersion": format!("{}/{}", keys::INTERNAL_GROUP, keys::VERSION),
        "kind": "GraphRevision",
        "metadata": {
            "name": revision_name(rgd.name(), number),
            "finalizers": [keys::FINALIZER],
            "labels": {
                keys::OWNED: "true",
                keys::KRO_VERSION: keys::TOOL_VERSION,
                keys::RGD_NAME: rgd.name(),
                keys::REVISION_HASH: spec_hash,
            },
            "ownerReferences": [owner_reference(rgd)],
        },
        "spec": {
            "revision": number,
            "snapshot": {"name": rgd.name(), "generation": rgd.generation(), "spec": rgd.spec()},
        },
    })
}

/// `NAME-r00001`, shortened with a hash if too long for a name.
pub(super) fn revision_name(rgd: &str, number: i64) -> String {
    const NAME_LENGTH_LIMIT: usize = 253;
    let name = format!("{rgd}-r{number:05}");
    if name.len() <= NAME_LENGTH_LIMIT {
        return name;
    }
    let suffix = format!("-r{number:05}-{:08x}", hash::fnv1a_32(name.as_bytes()));
    let base = rgd[..rgd.floor_char_boundary(NAME_LENGTH_LIMIT - suffix.len())]
        .trim_end_matches(['.', '-']);
    format!("{}{suffix}", if base.is_empty() { "gr" } else { base })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revision_names() {
        assert_eq!(revision_name("app", 7), "app-r00007");
        let long = revision_name(&"a".repeat(250), 123_456);
        assert_eq!(long.len(), 253);
        assert!(long.contains("-r123456-"));
    }

    #[test]
    fn decisions() {
        let entry = |hash: &str, state| {
            Some(Entry {
                revision: 1,
                hash: hash.to_owned(),
                state,
            })
        };
        let check = |newest, terminating, entry, expect: &str| {
            let decision = decide(newest, terminating, entry, "h");
            assert!(format!("{decision:?}").starts_with(expect), "{decision:?}");
        };
        check(None, 0, None, "Issue");
        check(None, 1, None, "Wait(\"WaitingForGraphRevisionSettlement\"");
        check(Some(1), 0, None, "Wait(\"WaitingForGraphRevisionWarmup\"");
        check(Some(1), 0, entry("x", RevisionState::Pending), "Issue");
        check(
            Some(1),
            0,
            entry("h", RevisionState::Pending),
            "Wait(\"WaitingForGraphRevisionCompilation\"",
        );
        check(
            Some(1),
            0,
            entry("h", RevisionState::Failed("no".into())),
            "Failed(\"no\")",
        );
    }
}
