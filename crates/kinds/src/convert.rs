//! Conversion between the versions of the few built-in kinds that are served in more than one.

use serde_json::Value;

use crate::autoscaling;

/// Rewrites an object into another version of its kind; the caller sets `apiVersion` afterwards.
/// Kinds with one version are left alone.
pub fn convert(object: &mut Value, api_version: &str) {
    let kind = object
        .get("kind")
        .and_then(Value::as_str)
        .unwrap_or_default();
    match (kind, api_version) {
        ("Event", "v1") => rename(object, EVENT, false),
        ("Event", "events.k8s.io/v1") => {
            rename(object, EVENT, true);
            // These are always written in one version and left out when empty in the other.
            for name in ["reportingController", "reportingInstance"] {
                if object.get(name).and_then(Value::as_str) == Some("")
                    && let Some(members) = object.as_object_mut()
                {
                    members.remove(name);
                }
            }
        }
        ("HorizontalPodAutoscaler", "autoscaling/v1") => autoscaling::to_v1(object),
        ("HorizontalPodAutoscaler", "autoscaling/v2") => autoscaling::to_v2(object),
        _ => {}
    }
}

/// Members of an Event: the core name and the one in `events.k8s.io`.
const EVENT: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn rename(object: &mut Value, names: &[(&str, &str)], forward: bool) {
    let Some(members) = object.as_object_mut() else {
        return;
    };
    for (one, other) in names {
        let (from, to) = if forward { (one, other) } else { (other, one) };
        if let Some(value) = members.remove(*from) {
            members.insert((*to).to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn events_keep_their_content_under_other_names() {
        let mut event = json!({"kind": "Event", "apiVersion": "v1", "message": "m", "count": 2});
        convert(&mut event, "events.k8s.io/v1");
        assert_eq!(event["note"], "m");
        assert_eq!(event["deprecatedCount"], 2);
        convert(&mut event, "v1");
        assert_eq!(event["message"], "m");
    }
}
