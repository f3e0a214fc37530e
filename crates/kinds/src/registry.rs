//! Which behaviour belongs to which resource.

use crate::admissionregistration::{policy as admission, webhook};
use crate::behaviour::{Behaviour, MetadataOnStatus, StatusRule};
use crate::{
    apiregistration, apps, autoscaling, batch, certificates, coordination, core, devices,
    discovery, flowcontrol, networking, policy, rbac, scheduling, storage,
};

/// Definitions of custom resources: what is in them is the API server's matter.
const CUSTOM_RESOURCE_DEFINITION: Behaviour = Behaviour {
    generation: true,
    status: StatusRule::Separate,
    metadata_on_status: MetadataOnStatus::Keeps,
    unconditional_update: false,
    ..Behaviour::DEFAULT
};

/// The behaviour of a built-in resource.
pub fn behaviour(group: &str, resource: &str) -> &'static Behaviour {
    match group {
        "" | "events.k8s.io" => of_core(resource),
        "admissionregistration.k8s.io" => match resource {
            "mutatingadmissionpolicies" => &admission::MUTATING,
            "mutatingadmissionpolicybindings" => &admission::MUTATING_BINDING,
            "mutatingwebhookconfigurations" => &webhook::MUTATING,
            "validatingadmissionpolicies" => &admission::VALIDATING,
            "validatingadmissionpolicybindings" => &admission::VALIDATING_BINDING,
            "validatingwebhookconfigurations" => &webhook::VALIDATING,
            _ => &Behaviour::DEFAULT,
        },
        "apps" => match resource {
            "controllerrevisions" => &apps::controller_revision::BEHAVIOUR,
            "daemonsets" => &apps::daemon_set::BEHAVIOUR,
            "deployments" => &apps::deployment::BEHAVIOUR,
            "replicasets" => &apps::replica_set::BEHAVIOUR,
            "statefulsets" => &apps::stateful_set::BEHAVIOUR,
            _ => &Behaviour::DEFAULT,
        },
        "networking.k8s.io" => match resource {
            "ingressclasses" => &networking::ingress_class::BEHAVIOUR,
            "ingresses" => &networking::ingress::BEHAVIOUR,
            "ipaddresses" => &networking::ranges::ADDRESS,
            "networkpolicies" => &networking::network_policy::BEHAVIOUR,
            "servicecidrs" => &networking::ranges::RANGE,
            _ => &Behaviour::DEFAULT,
        },
        "rbac.authorization.k8s.io" => match resource {
            "clusterrolebindings" => &rbac::CLUSTER_ROLE_BINDING,
            "clusterroles" => &rbac::CLUSTER_ROLE,
            "rolebindings" => &rbac::ROLE_BINDING,
            _ => &rbac::ROLE,
        },
        "resource.k8s.io" => match resource {
            "deviceclasses" => &devices::CLASS,
            "resourceclaims" => &devices::CLAIM,
            "resourceclaimtemplates" => &devices::CLAIM_TEMPLATE,
            "resourceslices" => &devices::SLICE,
            _ => &Behaviour::DEFAULT,
        },
        "storage.k8s.io" => match resource {
            "csidrivers" => &storage::csi::DRIVER,
            "csinodes" => &storage::csi::NODE,
            "csistoragecapacities" => &storage::csi::CAPACITY,
            "storageclasses" => &storage::class::STORAGE,
            "volumeattachments" => &storage::attachment::BEHAVIOUR,
            "volumeattributesclasses" => &storage::class::ATTRIBUTES,
            _ => &Behaviour::DEFAULT,
        },
        _ => of_small_group(group, resource),
    }
}

fn of_core(resource: &str) -> &'static Behaviour {
    match resource {
        "configmaps" => &core::config_map::BEHAVIOUR,
        "endpoints" => &core::endpoints::BEHAVIOUR,
        "events" => &core::event::BEHAVIOUR,
        "limitranges" => &core::limit_range::BEHAVIOUR,
        "namespaces" => &core::namespace::BEHAVIOUR,
        "nodes" => &core::node::BEHAVIOUR,
        "persistentvolumeclaims" => &core::persistent_volume_claim::BEHAVIOUR,
        "persistentvolumes" => &core::persistent_volume::BEHAVIOUR,
        "pods" => &core::pod::BEHAVIOUR,
        "podtemplates" => &core::pod_template::BEHAVIOUR,
        "replicationcontrollers" => &core::replication_controller::BEHAVIOUR,
        "resourcequotas" => &core::resource_quota::BEHAVIOUR,
        "secrets" => &core::secret::BEHAVIOUR,
        "serviceaccounts" => &core::service_account::BEHAVIOUR,
        "services" => &core::service::BEHAVIOUR,
        _ => &Behaviour::DEFAULT,
    }
}

fn of_small_group(group: &str, resource: &str) -> &'static Behaviour {
    match (group, resource) {
        ("apiextensions.k8s.io", "customresourcedefinitions") => &CUSTOM_RESOURCE_DEFINITION,
        ("apiregistration.k8s.io", "apiservices") => &apiregistration::SERVICE,
        ("autoscaling", "horizontalpodautoscalers") => &autoscaling::AUTOSCALER,
        ("batch", "cronjobs") => &batch::cron_job::BEHAVIOUR,
        ("batch", "jobs") => &batch::job::BEHAVIOUR,
        ("certificates.k8s.io", "certificatesigningrequests") => &certificates::REQUEST,
        ("coordination.k8s.io", "leases") => &coordination::LEASE,
        ("discovery.k8s.io", "endpointslices") => &discovery::SLICE,
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => &flowcontrol::FLOW_SCHEMA,
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => {
            &flowcontrol::PRIORITY_LEVEL
        }
        ("node.k8s.io", "runtimeclasses") => &scheduling::RUNTIME_CLASS,
        ("policy", "poddisruptionbudgets") => &policy::BUDGET,
        ("scheduling.k8s.io", "priorityclasses") => &scheduling::PRIORITY_CLASS,
        _ => &Behaviour::DEFAULT,
    }
}

/// What clients of a resource are warned of, where upstream has deprecated it.
pub fn deprecation(group: &str, version: &str, resource: &str) -> Option<&'static str> {
    match (group, version, resource) {
        ("", "v1", "componentstatuses") => Some("v1 ComponentStatus is deprecated in v1.19+"),
        ("", "v1", "endpoints") => {
            Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::resources::RESOURCES;

    #[test]
    fn rows_have_as_many_cells_as_their_kind_has_columns() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        for resource in RESOURCES {
            let columns = crate::columns(resource.group, resource.version, resource.resource);
            let Some(cells) = behaviour(resource.group, resource.resource).cells else {
                continue;
            };
            let object = serde_json::json!({"apiVersion": resource.version, "kind": resource.kind});
            let expect = columns.map_or(2, <[_]>::len);
            assert_eq!(cells(&object, now).len(), expect, "{}", resource.resource);
        }
    }

    #[test]
    fn no_object_is_too_odd_for_any_kind() {
        let odd = [
            serde_json::json!({}),
            serde_json::json!({"spec": [], "status": 1, "metadata": null, "data": "x"}),
            serde_json::json!({"spec": {"template": 1, "containers": {}, "ports": "x", "rules": [1, null]}}),
        ];
        for resource in RESOURCES {
            let behaviour = behaviour(resource.group, resource.resource);
            for object in &odd {
                let mut changed = object.clone();
                (behaviour.default)(&mut changed);
                behaviour.before_create(&mut changed);
                (behaviour.validate_create)(&changed);
                behaviour.before_write("", &mut changed, object);
                behaviour.check_write("", &changed, object);
                behaviour.before_write("status", &mut changed, object);
                behaviour.check_write("status", &changed, object);
            }
        }
    }
}
