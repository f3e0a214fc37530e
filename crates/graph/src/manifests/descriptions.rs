//! What `kubectl explain`, editors and `corvus graph schema` say about each field of our own kinds.
//!
//! Fields are named by their paths; `[]` is an element. What stands behind a feature gate says so.

use serde_json::Value;

/// Fields of every object, but for `metadata`, which the server describes itself.
const OBJECT: &[(&str, &str)] = &[
    ("apiVersion", "Group and version of this kind."),
    ("kind", "This kind."),
    ("spec", "What is wanted."),
    ("status", "What is the case."),
];

/// Fields of a ResourceGraphDefinition's spec.
const SPEC: &[(&str, &str)] = &[
    (
        "schema",
        "The API that is declared: what its users may say, and what they are told.",
    ),
    (
        "schema.kind",
        "Kind of the instances. It cannot be changed.",
    ),
    (
        "schema.apiVersion",
        "Version of the API, without its group: v1alpha1. It cannot be changed.",
    ),
    ("schema.group", "Group of the API. It cannot be changed."),
    (
        "schema.scope",
        "Whether instances live in namespaces or in the cluster as a whole. It cannot be changed.",
    ),
    (
        "schema.spec",
        "Fields that users of the API fill in, in SimpleSchema: `replicas: integer | default=2 minimum=0`.",
    ),
    (
        "schema.types",
        "Types of your own, by name, to be used in `spec`.",
    ),
    (
        "schema.status",
        "Fields that users of the API are shown, as expressions over the resources; `conditions` defines conditions.",
    ),
    (
        "schema.additionalPrinterColumns",
        "Columns of `kubectl get`, in place of STATE, READY and AGE.",
    ),
    (
        "schema.additionalPrinterColumns[].name",
        "Head of the column.",
    ),
    (
        "schema.additionalPrinterColumns[].type",
        "Type of its values: string, integer, number, boolean or date.",
    ),
    (
        "schema.additionalPrinterColumns[].jsonPath",
        "Where its values are found in an instance: .spec.replicas",
    ),
    (
        "schema.additionalPrinterColumns[].description",
        "What it tells.",
    ),
    (
        "schema.additionalPrinterColumns[].format",
        "Format of its values, as in OpenAPI.",
    ),
    (
        "schema.additionalPrinterColumns[].priority",
        "Columns above 0 are shown with -o wide alone.",
    ),
    ("schema.shortNames", "Short names for kubectl."),
    (
        "schema.categories",
        "Groups of kinds that kubectl gets together, such as `all`.",
    ),
    (
        "schema.metadata",
        "Metadata of the generated CustomResourceDefinition.",
    ),
    ("schema.metadata.labels", "Its labels."),
    ("schema.metadata.annotations", "Its annotations."),
    (
        "resources",
        "What an instance becomes. Who refers to a resource comes after it.",
    ),
    (
        "resources[].id",
        "What expressions call it: a letter, then letters and digits.",
    ),
    (
        "resources[].template",
        "The object to make, with expressions in `${...}`.",
    ),
    (
        "resources[].variable",
        "Values that expressions read by the id, in place of an object (feature gate Variables).",
    ),
    (
        "resources[].def",
        "The same as `variable` (feature gate Variables).",
    ),
    (
        "resources[].patch",
        "Fields to give to an object that is there without us (feature gate Decorators).",
    ),
    (
        "resources[].externalRef",
        "An object, or objects with certain labels, that are there without us and are only read.",
    ),
    (
        "resources[].externalRef.apiVersion",
        "Its group and version.",
    ),
    ("resources[].externalRef.kind", "Its kind."),
    (
        "resources[].externalRef.metadata",
        "Which: by name, or by labels.",
    ),
    ("resources[].externalRef.metadata.name", "Its name."),
    (
        "resources[].externalRef.metadata.namespace",
        "Its namespace; the instance's if nothing is said.",
    ),
    (
        "resources[].externalRef.metadata.selector",
        "Labels of the objects; {} is all.",
    ),
    (
        "resources[].externalRef.metadata.selector.matchLabels",
        "Labels with these values.",
    ),
    (
        "resources[].externalRef.metadata.selector.matchExpressions",
        "Requirements that must all hold.",
    ),
    (
        "resources[].externalRef.metadata.selector.matchExpressions[].key",
        "A label.",
    ),
    (
        "resources[].externalRef.metadata.selector.matchExpressions[].operator",
        "In, NotIn, Exists or DoesNotExist.",
    ),
    (
        "resources[].externalRef.metadata.selector.matchExpressions[].values",
        "Values for In and NotIn.",
    ),
    (
        "resources[].readyWhen",
        "When it counts as ready, which those that refer to it wait for: expressions over itself, all of which must hold.",
    ),
    (
        "resources[].includeWhen",
        "Whether it is there at all: expressions, all of which must hold. What refers to it goes with it.",
    ),
    (
        "resources[].forEach",
        "Makes one object for each element of a list, or for each combination of several lists: `- zone: ${schema.spec.zones}`.",
    ),
    (
        "resources[].propagateWhen",
        "Its objects are made, changed and corrected while all of these expressions hold (feature gate PropagationControl).",
    ),
    (
        "resources[].externalFields",
        "Paths of fields that are written until another field manager writes them, and left to that one from then on (feature gate ExternalFields).",
    ),
    (
        "resources[].deletionPolicy",
        "Whether its objects are deleted or stay when they are not asked for any more (feature gate DeletionPolicy).",
    ),
    (
        "resources[].lifecycle",
        "How its objects are taken over, changed and deleted: a map, or an expression with policy() (feature gate ResourceLifecycles).",
    ),
    (
        "propagateWhen",
        "When instances may move to a new revision of this definition: expressions, all of which must hold (feature gate GraphRollout).",
    ),
    (
        "rollout",
        "How instances get a new revision of this definition (feature gate GraphRollout).",
    ),
    (
        "rollout.strategy",
        "Latest: all move to the newest. Manual: each stays until its annotation kro.run/graph-revision names another.",
    ),
];

/// Fields of a GraphRevision's spec.
const REVISION: &[(&str, &str)] = &[
    (
        "revision",
        "The number of the revision, counted for each definition.",
    ),
    ("snapshot", "The definition as it was."),
    ("snapshot.name", "Name of the definition."),
    ("snapshot.generation", "Generation of the definition."),
    ("snapshot.spec", "Spec of the definition."),
];

/// Fields of both statuses.
const STATUS: &[(&str, &str)] = &[
    (
        "state",
        "Active if instances are served, Inactive if the definition cannot be built.",
    ),
    (
        "lastIssuedRevision",
        "The highest number a revision of this definition ever had.",
    ),
    (
        "topologicalOrder",
        "The resources in the order of their creation.",
    ),
    (
        "resources",
        "What depends on what; resources that depend on nothing are left out.",
    ),
    ("resources[].id", "A resource."),
    ("resources[].dependencies", "What it depends on."),
    ("resources[].dependencies[].id", "A resource."),
    (
        "conditions",
        "What is the case, each with the reason; Ready sums them up.",
    ),
    ("conditions[].type", "Which condition."),
    ("conditions[].status", "True, False or Unknown."),
    ("conditions[].reason", "Why, in one word."),
    ("conditions[].message", "Why, for people."),
    ("conditions[].lastTransitionTime", "Since when."),
    (
        "conditions[].observedGeneration",
        "The generation of the object this is about.",
    ),
];

/// Describes the fields of a ResourceGraphDefinition.
pub(super) fn definition(schema: &mut Value) {
    schema["description"] =
        "Declares an API, and what its instances become: objects that refer to each other by expressions.".into();
    put(schema, "", OBJECT);
    put(schema, "spec", SPEC);
    put(schema, "status", STATUS);
}

/// Describes the fields of a GraphRevision.
pub(super) fn revision(schema: &mut Value) {
    schema["description"] =
        "A ResourceGraphDefinition as it was at one time; made by the controllers, and never changed.".into();
    put(schema, "", OBJECT);
    put(schema, "spec", REVISION);
    put(schema, "spec.snapshot.spec", SPEC);
    put(schema, "status", STATUS);
}

/// Puts descriptions where their fields are; fields of the other kind are passed over.
fn put(schema: &mut Value, base: &str, descriptions: &[(&str, &str)]) {
    for (path, text) in descriptions {
        let full = if base.is_empty() {
            (*path).to_owned()
        } else {
            format!("{base}.{path}")
        };
        if let Some(field) = find(schema, &full) {
            field["description"] = (*text).into();
        }
    }
}

fn find<'a>(schema: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('.').try_fold(schema, |schema, step| {
        let (name, is_element) = match step.strip_suffix("[]") {
            Some(name) => (name, true),
            None => (step, false),
        };
        let field = schema.get_mut("properties")?.get_mut(name)?;
        if is_element {
            field.get_mut("items")
        } else {
            Some(field)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paths of fields without a description.
    fn bare(schema: &Value, path: &str, found: &mut Vec<String>) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            if field["description"].as_str().is_none_or(str::is_empty) {
                found.push(path.clone());
            }
            bare(field, &path, found);
            bare(&field["items"], &format!("{path}[]"), found);
        }
    }

    #[test]
    fn every_field_is_described() {
        for definition in [
            super::super::resource_graph_definition_crd(),
            super::super::graph_revision_crd(),
        ] {
            let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            let mut found = Vec::new();
            bare(schema, "", &mut found);
            // The server describes it, and lets nobody else.
            assert_eq!(found, [".metadata"]);
        }
    }
}
