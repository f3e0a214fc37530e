//! Which behaviour belongs to which resource.

use crate::behaviour::{Behaviour, MetadataOnStatus, NameRule, StatusRule};
use crate::{apps, batch, core};

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
        ("", "configmaps") => &core::config_map::BEHAVIOUR,
        ("", "endpoints") => &core::endpoints::BEHAVIOUR,
        ("" | "events.k8s.io", "events") => &core::event::BEHAVIOUR,
        ("", "limitranges") => &core::limit_range::BEHAVIOUR,
        ("", "namespaces") => &core::namespace::BEHAVIOUR,
        ("", "nodes") => &core::node::BEHAVIOUR,
        ("", "persistentvolumeclaims") => &core::persistent_volume_claim::BEHAVIOUR,
        ("", "persistentvolumes") => &core::persistent_volume::BEHAVIOUR,
        ("", "pods") => &core::pod::BEHAVIOUR,
        ("", "podtemplates") => &core::pod_template::BEHAVIOUR,
        ("", "replicationcontrollers") => &core::replication_controller::BEHAVIOUR,
        ("", "resourcequotas") => &core::resource_quota::BEHAVIOUR,
        ("", "secrets") => &core::secret::BEHAVIOUR,
        ("", "serviceaccounts") => &core::service_account::BEHAVIOUR,
        ("", "services") => &core::service::BEHAVIOUR,
        ("apps", "controllerrevisions") => &apps::controller_revision::BEHAVIOUR,
        ("apps", "daemonsets") => &apps::daemon_set::BEHAVIOUR,
        ("apps", "deployments") => &apps::deployment::BEHAVIOUR,
        ("apps", "replicasets") => &apps::replica_set::BEHAVIOUR,
        ("apps", "statefulsets") => &apps::stateful_set::BEHAVIOUR,
        ("batch", "cronjobs") => &batch::cron_job::BEHAVIOUR,
        ("batch", "jobs") => &batch::job::BEHAVIOUR,
        ("policy", "poddisruptionbudgets") | ("networking.k8s.io", "ingresses") => &WORKLOAD,
        ("rbac.authorization.k8s.io", _) => &PATH_SEGMENT,
        ("apiextensions.k8s.io", "customresourcedefinitions") => &Behaviour {
            generation: true,
            ..WITH_STATUS
        },
        ("autoscaling", _)
        | ("certificates.k8s.io", _)
        | ("storage.k8s.io", "volumeattachments") => &WITH_STATUS,
        _ => &Behaviour::DEFAULT,
    }
}
