//! Labels, annotations, finalizers and field managers that kro's users and tools rely on. None of them may change.

/// Group of the API.
pub const GROUP: &str = "kro.run";
/// Group of what users need not see.
pub const INTERNAL_GROUP: &str = "internal.kro.run";
/// Version of both.
pub const VERSION: &str = "v1alpha1";

/// Finalizer on ResourceGraphDefinitions, GraphRevisions and instances.
pub const FINALIZER: &str = "kro.run/finalizer";
/// `true` on everything that is ours.
pub const OWNED: &str = "kro.run/owned";
/// The version that made the object.
pub const KRO_VERSION: &str = "kro.run/kro-version";
/// Uid of the ResourceGraphDefinition; on CRDs and instances, never on children.
pub const RGD_ID: &str = "kro.run/resource-graph-definition-id";
/// Name of the ResourceGraphDefinition; on CRDs, revisions and instances, never on children.
pub const RGD_NAME: &str = "kro.run/resource-graph-definition-name";
/// Hash of the spec a GraphRevision holds.
pub const REVISION_HASH: &str = "kro.run/graph-revision-hash";
/// Who manages a child: `kro`.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Uid of the instance a child belongs to.
pub const INSTANCE_ID: &str = "kro.run/instance-id";
/// Name of that instance.
pub const INSTANCE_NAME: &str = "kro.run/instance-name";
/// Namespace of that instance; left out when cluster-scoped.
pub const INSTANCE_NAMESPACE: &str = "kro.run/instance-namespace";
/// Group of that instance.
pub const INSTANCE_GROUP: &str = "kro.run/instance-group";
/// Version of that instance.
pub const INSTANCE_VERSION: &str = "kro.run/instance-version";
/// Kind of that instance.
pub const INSTANCE_KIND: &str = "kro.run/instance-kind";
/// Id of the resource a child was made from.
pub const NODE_ID: &str = "kro.run/node-id";
/// Position of a child in its collection.
pub const COLLECTION_INDEX: &str = "kro.run/collection-index";
/// Number of children in its collection.
pub const COLLECTION_SIZE: &str = "kro.run/collection-size";

/// Id of the ApplySet a child is a member of.
pub const PART_OF: &str = "applyset.kubernetes.io/part-of";
/// Id of the ApplySet an instance stands for.
pub const APPLYSET_ID: &str = "applyset.kubernetes.io/id";
/// Which tool keeps the ApplySet.
pub const APPLYSET_TOOLING: &str = "applyset.kubernetes.io/tooling";
/// Kinds with members.
pub const APPLYSET_GROUP_KINDS: &str = "applyset.kubernetes.io/contains-group-kinds";
/// Namespaces with members, besides the instance's own.
pub const APPLYSET_NAMESPACES: &str = "applyset.kubernetes.io/additional-namespaces";
/// Protects the inventory against edits by hand.
pub const INVENTORY_HASH: &str = "internal.kro.run/applyset-inventory-hash";
/// The wave a child is deleted in, highest first.
pub const APPLY_ORDER: &str = "internal.kro.run/apply-order";

/// `Orphaned` on a child that stays when it is not asked for any more.
pub const DELETION_POLICY: &str = "internal.kro.run/deletion-policy";

/// Hash of what a child was last made to be, where `propagateWhen` needs to know.
pub const DESIRED_HASH: &str = "internal.kro.run/desired-hash";

/// The labels and annotations that make an object a child.
pub const CHILD_MARKS: [&str; 16] = [
    OWNED,
    KRO_VERSION,
    MANAGED_BY,
    INSTANCE_ID,
    INSTANCE_NAME,
    INSTANCE_NAMESPACE,
    INSTANCE_GROUP,
    INSTANCE_VERSION,
    INSTANCE_KIND,
    NODE_ID,
    COLLECTION_INDEX,
    COLLECTION_SIZE,
    PART_OF,
    APPLY_ORDER,
    DELETION_POLICY,
    DESIRED_HASH,
];

/// Set to `true` on a ResourceGraphDefinition to let breaking changes through.
pub const ALLOW_BREAKING_CHANGES: &str = "kro.run/allow-breaking-changes";
/// On a definition: `true` lets it go although there are instances (gate `DeletionSafety`).
pub const ALLOW_DELETE: &str = "kro.run/allow-delete";
/// On an instance the number of the revision it is to stay on, or `latest`.
pub const GRAPH_REVISION: &str = "kro.run/graph-revision";
/// `suspended` or `disabled` on an instance pauses it.
pub const RECONCILE: &str = "kro.run/reconcile";

/// Prefixes of label and annotation keys that templates may not set.
pub const RESERVED_PREFIXES: [&str; 2] = ["kro.run/", "internal.kro.run/"];

/// Owns an instance's labels and finalizer.
pub const MANAGER_LABELLER: &str = "kro.run/labeller";
/// Owns an instance's inventory.
pub const MANAGER_APPLYSET_PARENT: &str = "kro.run/applyset-parent";
/// Owns the children's fields.
pub const MANAGER_APPLYSET: &str = "kro.run/applyset";

/// What is written as version of the tool; upstream's unstamped builds use the same word.
pub const TOOL_VERSION: &str = "devel";
