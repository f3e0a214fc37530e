//! What a plugin knows of the write it is asked about.

use model::{GroupVersionKind, Status, object};
use serde_json::Value;
use store::ListOptions;

use super::reinvocation::Reinvocation;
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
    /// The name the client has given, empty where it is to be generated.
    pub name: String,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// Who is to be asked again.
    pub reinvocation: Reinvocation,
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
            name: context.name().to_owned(),
            reinvocation: Reinvocation::default(),
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

    /// The namespace the write is in: for a Namespace that is there its own name, empty for none.
    pub fn namespace(&self) -> &'a str {
        if self.operation != Operation::Create && self.is("", "namespaces") {
            return self.context.name();
        }
        self.context.namespace()
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
        let candidates = [
            self.name.as_str(),
            object::name(new),
            object::text(new, &["metadata", "generateName"]),
        ];
        let name = candidates.into_iter().find(|name| !name.is_empty());
        Status::forbidden(&gvr.group, &gvr.resource, name.unwrap_or("Unknown"), why)
    }
}
