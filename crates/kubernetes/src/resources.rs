//! The built-in resources the controllers work on.

use controller::Resource;

macro_rules! resources {
    ($($(#[$doc:meta])* $name:ident => $scope:ident($version:literal, $plural:literal, $kind:literal);)*) => {
        $($(#[$doc])* pub fn $name() -> Resource { Resource::$scope($version, $plural, $kind) })*
    };
}

resources! {
    /// Pods.
    pods => namespaced("v1", "pods", "Pod");
    /// Nodes.
    nodes => cluster("v1", "nodes", "Node");
    /// Namespaces.
    namespaces => cluster("v1", "namespaces", "Namespace");
    /// Services.
    services => namespaced("v1", "services", "Service");
    /// Secrets.
    secrets => namespaced("v1", "secrets", "Secret");
    /// Configuration.
    config_maps => namespaced("v1", "configmaps", "ConfigMap");
    /// Claims of volumes.
    persistent_volume_claims => namespaced("v1", "persistentvolumeclaims", "PersistentVolumeClaim");
    /// Volumes.
    persistent_volumes => cluster("v1", "persistentvolumes", "PersistentVolume");
    /// Leases, by which nodes say that they live.
    leases => namespaced("coordination.k8s.io/v1", "leases", "Lease");
    /// Classes of storage.
    storage_classes => cluster("storage.k8s.io/v1", "storageclasses", "StorageClass");
    /// What the storage drivers say of nodes.
    csi_nodes => cluster("storage.k8s.io/v1", "csinodes", "CSINode");
    /// Storage drivers.
    csi_drivers => cluster("storage.k8s.io/v1", "csidrivers", "CSIDriver");
    /// Where how much storage is left.
    csi_storage_capacities => namespaced("storage.k8s.io/v1", "csistoragecapacities", "CSIStorageCapacity");
    /// Classes of volume attributes.
    volume_attributes_classes => cluster("storage.k8s.io/v1", "volumeattributesclasses", "VolumeAttributesClass");
    /// Ranges of Service addresses.
    service_cidrs => cluster("networking.k8s.io/v1", "servicecidrs", "ServiceCIDR");
    /// Service accounts.
    service_accounts => namespaced("v1", "serviceaccounts", "ServiceAccount");
    /// Cluster roles.
    cluster_roles => cluster("rbac.authorization.k8s.io/v1", "clusterroles", "ClusterRole");
    /// Resource quotas.
    resource_quotas => namespaced("v1", "resourcequotas", "ResourceQuota");
    /// Pod disruption budgets.
    pod_disruption_budgets => namespaced("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget");
    /// Admission policies that check.
    validating_admission_policies => cluster("admissionregistration.k8s.io/v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy");
    /// Deployments.
    deployments => namespaced("apps/v1", "deployments", "Deployment");
    /// Replica sets.
    replica_sets => namespaced("apps/v1", "replicasets", "ReplicaSet");
    /// Replication controllers.
    replication_controllers => namespaced("v1", "replicationcontrollers", "ReplicationController");
    /// Stateful sets.
    stateful_sets => namespaced("apps/v1", "statefulsets", "StatefulSet");
    /// Daemon sets.
    daemon_sets => namespaced("apps/v1", "daemonsets", "DaemonSet");
    /// Revisions of the templates of stateful and daemon sets.
    controller_revisions => namespaced("apps/v1", "controllerrevisions", "ControllerRevision");
    /// Jobs.
    jobs => namespaced("batch/v1", "jobs", "Job");
    /// Cron jobs.
    cron_jobs => namespaced("batch/v1", "cronjobs", "CronJob");
    /// Endpoints.
    endpoints => namespaced("v1", "endpoints", "Endpoints");
    /// Horizontal Pod autoscalers.
    horizontal_pod_autoscalers => namespaced("autoscaling/v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler");
    /// Endpoint slices.
    endpoint_slices => namespaced("discovery.k8s.io/v1", "endpointslices", "EndpointSlice");
}
