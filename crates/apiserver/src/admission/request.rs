//! What a plugin knows of the write it is asked about.

use model::{GroupVersionKind, Status, object};
use serde_json::Value;
use store::ListOptions;

use crate::context::Context;
use crate::envelope;

/// What is done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// It is made.
    Create,
    /// It is changed.
    Update,
    /// It is deleted.
    Delete,
    /// A connection to it is opened.
    Connect,
}

impl Operation {
    /// As rules and reviews spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// A write that asks to be admitted.
pub(crate) struct Request<'a> {
    pub context: &'a Context,
    pub operation: Operation,
    /// Through which subresource, empty for none.
    pub subresource: &'a str,
    /// The object before the write; none where it is made.
    pub old: Option<&'a Value>,
    /// The kind of the object in the request, which need not be the resource's: a `Binding`.
    pub kind: GroupVersionKind,
    /// Whether nothing will be stored.
    pub dry_run: bool,
}

impl<'a> Request<'a> {
    /// A write to the resource of the request.
    pub fn new(
        context: &'a Context,
        operation: Operation,
        subresource: &'a str,
        old: Option<&'a Value>,
    ) -> Self {
        Self {
            context,
            operation,
            subresource,
            old,
            kind: context.definition.kind.clone(),
            dry_run: context.query.dry_run(),
        }
    }

    /// Whether the write is to this resource, or to a subresource of it.
    pub fn is(&self, group: &str, resource: &str) -> bool {
        let gvr = &self.context.definition.gvr;
        gvr.resource == resource && gvr.group == group
    }

    /// Whether the write is to objects of this resource themselves.
    pub fn is_object(&self, group: &str, resource: &str) -> bool {
        self.subresource.is_empty() && self.is(group, resource)
    }

    /// Whether an object of this resource is made.
    pub fn creates(&self, group: &str, resource: &str) -> bool {
        self.operation == Operation::Create && self.is_object(group, resource)
    }

    /// The namespace the object is in, empty for none.
    pub fn namespace(&self) -> &'a str {
        self.context.namespace()
    }

    /// The name of the object the write is about.
    pub fn name(&self, new: &'a Value) -> &'a str {
        let path = self.context.name();
        if !path.is_empty() && self.operation != Operation::Create {
            return path;
        }
        let name = object::name(new);
        if !name.is_empty() {
            return name;
        }
        let old = self.old.map(object::name).unwrap_or_default();
        if !old.is_empty() {
            return old;
        }
        let base = object::text(new, &["metadata", "generateName"]);
        if base.is_empty() { path } else { base }
    }

    /// An object another one refers to.
    pub fn find(
        &self,
        group: &str,
        resource: &str,
        namespace: Option<&str>,
        name: &str,
    ) -> Option<Value> {
        let key = envelope::key(group, resource, namespace, name);
        envelope::decode(self.context.state.store.get(&key)?.as_ref()).ok()
    }

    /// All objects of a resource, or those in one namespace, by name.
    pub fn list(&self, group: &str, resource: &str, namespace: Option<&str>) -> Vec<Value> {
        let prefix = envelope::key_prefix(group, resource, namespace);
        let listing = self
            .context
            .state
            .store
            .list(&prefix, &ListOptions::default());
        let entries = listing.map(|listing| listing.entries).unwrap_or_default();
        entries
            .iter()
            .filter_map(|entry| envelope::decode(entry).ok())
            .collect()
    }

    /// 403 by a plugin, worded as upstream words it.
    pub fn refuse(&self, new: &Value, why: &str) -> Status {
        let gvr = &self.context.definition.gvr;
        let name = self.name_for_refusal(new);
        Status::forbidden(&gvr.group, &gvr.resource, &name, why)
    }

    fn name_for_refusal(&self, new: &Value) -> String {
        let old = self.old.unwrap_or(&Value::Null);
        let candidates = [
            object::name(new),
            object::name(old),
            self.context.name(),
            object::text(new, &["metadata", "generateName"]),
        ];
        let found = candidates.into_iter().find(|name| !name.is_empty());
        found.unwrap_or("Unknown").to_owned()
    }
}
