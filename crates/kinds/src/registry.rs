//! Which behaviour belongs to which resource.

use crate::behaviour::{Behaviour, MetadataOnStatus, NameRule, StatusRule};

/// With a separate status.
const WITH_STATUS: Behaviour = Behaviour {
    status: StatusRule::Separate,
    ..Behaviour::DEFAULT
};

/// With a separate status and a generation.
const WORKLOAD: Behaviour = Behaviour {
    generation: true,
    metadata_on_status: MetadataOnStatus::KeepsLabels,
    ..WITH_STATUS
};

const PATH_SEGMENT: Behaviour = Behaviour {
    name: NameRule::PathSegment,
    ..Behaviour::DEFAULT
};

/// The behaviour of a built-in resource.
pub fn behaviour(group: &str, resource: &str) -> &'static Behaviour {
    match (group, resource) {
        ("", "namespaces") => &Behaviour {
            name: NameRule::Label,
            ..WITH_STATUS
        },
        ("", "services") => &Behaviour {
            name: NameRule::Label1035,
            ..WITH_STATUS
        },
        ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets")
        | ("batch", "jobs" | "cronjobs")
        | ("policy", "poddisruptionbudgets")
        | ("", "replicationcontrollers")
        | ("networking.k8s.io", "ingresses") => &WORKLOAD,
        ("rbac.authorization.k8s.io", _) => &PATH_SEGMENT,
        ("apiextensions.k8s.io", "customresourcedefinitions") => &Behaviour {
            generation: true,
            ..WITH_STATUS
        },
        (
            "",
            "pods" | "nodes" | "persistentvolumes" | "persistentvolumeclaims" | "resourcequotas",
        )
        | ("autoscaling", _)
        | ("certificates.k8s.io", _)
        | ("storage.k8s.io", "volumeattachments") => &WITH_STATUS,
        _ => &Behaviour::DEFAULT,
    }
}
