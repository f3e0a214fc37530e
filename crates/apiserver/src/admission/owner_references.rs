//! `OwnerReferencesPermissionEnforcement`: who sets owners may delete the object; who makes an owner
//! wait for it may set finalizers on the owner. Off by default.

use model::{Status, object};
use serde_json::Value;

use super::{Mutate, Operation, Plugin, Request, Validate};
use crate::identity::Attributes;

pub const PLUGIN: Plugin = Plugin {
    name: "OwnerReferencesPermissionEnforcement",
    default: false,
    mutate: Mutate::Never,
    validate: Validate::Now(validate),
};

fn validate(request: &Request<'_>, new: &Value) -> Result<(), Status> {
    if !matches!(request.operation, Operation::Create | Operation::Update)
        || request.is("", "pods") && request.subresource == "status"
    {
        return Ok(());
    }
    let old = request.old.unwrap_or(&Value::Null);
    if object::owner_references(new) == object::owner_references(old) {
        return Ok(());
    }
    if request.operation != Operation::Create {
        let gvr = &request.context.definition.gvr;
        let wanted = Attributes {
            verb: "delete".to_owned(),
            group: gvr.group.clone(),
            version: gvr.version.clone(),
            resource: gvr.resource.clone(),
            subresource: request.subresource.to_owned(),
            namespace: request.namespace().to_owned(),
            name: object::name(new).to_owned(),
            ..Attributes::default()
        };
        may(request, &wanted).map_err(|reason| {
            let why =
                format!("cannot set an ownerRef on a resource you can't delete: {reason}, <nil>");
            request.refuse(new, &why)
        })?;
    }
    let blocking = newly_blocking(new, old);
    if blocking.is_empty() || may(request, &finalize("*", "*", "*", "", "*")).is_ok() {
        return Ok(());
    }
    blocking
        .into_iter()
        .try_for_each(|owner| check_owner(request, new, owner))
}

fn may(request: &Request<'_>, wanted: &Attributes) -> Result<(), String> {
    let context = request.context;
    let decision = context.state.authorizer.authorize(&context.user, wanted);
    if decision.is_allowed() {
        return Ok(());
    }
    Err(decision.reason().to_owned())
}

fn finalize(group: &str, version: &str, resource: &str, namespace: &str, name: &str) -> Attributes {
    Attributes {
        verb: "update".to_owned(),
        group: group.to_owned(),
        version: version.to_owned(),
        resource: resource.to_owned(),
        subresource: "finalizers".to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        ..Attributes::default()
    }
}

fn blocks(reference: &Value) -> bool {
    reference["blockOwnerDeletion"] == true
}

/// Owners that are made to wait, and were not before.
fn newly_blocking<'a>(new: &'a Value, old: &Value) -> Vec<&'a Value> {
    let before = object::owner_references(old);
    object::owner_references(new)
        .iter()
        .filter(|reference| blocks(reference))
        .filter(|reference| {
            let known = before.iter().find(|known| known["uid"] == reference["uid"]);
            !known.is_some_and(blocks)
        })
        .collect()
}

fn check_owner(request: &Request<'_>, new: &Value, owner: &Value) -> Result<(), Status> {
    let (api_version, kind) = (
        object::text(owner, &["apiVersion"]),
        object::text(owner, &["kind"]),
    );
    let definitions = request.context.catalog.all().filter(|definition| {
        definition.kind.kind == kind && definition.kind.api_version() == api_version
    });
    let mut found = false;
    for definition in definitions {
        found = true;
        let namespace = if definition.namespaced() {
            request.namespace()
        } else {
            ""
        };
        let gvr = &definition.gvr;
        let name = object::text(owner, &["name"]);
        let wanted = finalize(&gvr.group, &gvr.version, &gvr.resource, namespace, name);
        may(request, &wanted).map_err(|reason| {
            let why = format!(
                "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: {reason}, <nil>"
            );
            request.refuse(new, &why)
        })?;
    }
    if found {
        return Ok(());
    }
    let why = format!(
        "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion {api_version} Kind {kind}: no matches for kind {kind:?} in version {api_version:?}"
    );
    Err(request.refuse(new, &why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_new_blocking_owners_count() {
        let of = |blocking: &[(&str, bool)]| {
            let list: Vec<Value> = blocking
                .iter()
                .map(|(uid, blocks)| json!({"uid": uid, "blockOwnerDeletion": blocks}))
                .collect();
            json!({"metadata": {"ownerReferences": list}})
        };
        let (old, new) = (
            of(&[("a", true), ("b", false)]),
            of(&[("a", true), ("b", true), ("c", false), ("d", true)]),
        );
        let found: Vec<&str> = newly_blocking(&new, &old)
            .into_iter()
            .map(|reference| object::text(reference, &["uid"]))
            .collect();
        assert_eq!(found, ["b", "d"]);
    }
}
