//! Admission: what looks at other objects, or at who writes, before a write is stored.
//!
//! Each plugin is a file of the same outline: `mutate` changes the new object, `validate` refuses it.
//! The order is upstream's.

mod default_toleration_seconds;
mod namespace_lifecycle;
mod priority;
mod service_account;

use std::collections::BTreeSet;

use model::{Status, object};
use serde_json::Value;
use store::Entry;

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
}

/// The plugins this server has, in upstream's order; all are on by default.
const KNOWN: &[&str] = &[
    "NamespaceLifecycle",
    "ServiceAccount",
    "DefaultTolerationSeconds",
    "Priority",
];

/// Upstream's plugins that this server does not have; naming one to switch it off is fine.
const UPSTREAM: &[&str] = &[
    "AlwaysAdmit",
    "AlwaysDeny",
    "AlwaysPullImages",
    "CertificateApproval",
    "CertificateSigning",
    "CertificateSubjectRestriction",
    "ClusterTrustBundleAttest",
    "DefaultIngressClass",
    "DefaultStorageClass",
    "DenyServiceExternalIPs",
    "EventRateLimit",
    "ExtendedResourceToleration",
    "ImagePolicyWebhook",
    "LimitPodHardAntiAffinityTopology",
    "LimitRanger",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionWebhook",
    "NamespaceAutoProvision",
    "NamespaceExists",
    "NodeDeclaredFeatureValidator",
    "NodeRestriction",
    "OwnerReferencesPermissionEnforcement",
    "PersistentVolumeClaimResize",
    "PodNodeSelector",
    "PodSecurity",
    "PodTolerationRestriction",
    "PodTopologyLabels",
    "ResourceQuota",
    "RuntimeClass",
    "StorageObjectInUseProtection",
    "TaintNodesByCondition",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionWebhook",
];

/// The plugins that are switched on.
#[derive(Debug, Clone)]
pub struct Plugins(BTreeSet<&'static str>);

impl Default for Plugins {
    fn default() -> Self {
        Self(KNOWN.iter().copied().collect())
    }
}

impl Plugins {
    /// The default plugins, more of them, and fewer of them, as upstream's flags have it. Fails with
    /// the reason where a name is unknown, or a plugin is wanted that this server does not have.
    pub fn with(enabled: &[String], disabled: &[String]) -> Result<Self, String> {
        let mut plugins = Self::default();
        for name in enabled {
            match KNOWN.iter().find(|known| *known == name) {
                Some(known) => drop(plugins.0.insert(known)),
                None if UPSTREAM.contains(&name.as_str()) => {
                    return Err(format!(
                        "admission plugin {name} is not part of this server; it has {}",
                        KNOWN.join(", ")
                    ));
                }
                None => return Err(unknown(name)),
            }
        }
        for name in disabled {
            if !KNOWN.contains(&name.as_str()) && !UPSTREAM.contains(&name.as_str()) {
                return Err(unknown(name));
            }
            plugins.0.remove(name.as_str());
        }
        Ok(plugins)
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }
}

fn unknown(name: &str) -> String {
    format!(
        "admission plugin {name:?} is unknown; this server has {}",
        KNOWN.join(", ")
    )
}

/// Lets every plugin change an object before it is checked.
pub(crate) async fn mutate(
    context: &Context,
    operation: Operation,
    subresource: &str,
    new: &mut Value,
    _old: Option<&Value>,
) -> Result<(), Status> {
    let plugins = &context.state.options.admission;
    if operation == Operation::Create && plugins.has("NamespaceLifecycle") {
        namespace_lifecycle::mutate(context).await?;
    }
    if operation == Operation::Create && subresource.is_empty() && is_pod(context) {
        if plugins.has("ServiceAccount") {
            service_account::mutate(context, new).await?;
        }
        if plugins.has("DefaultTolerationSeconds") {
            default_toleration_seconds::mutate(new);
        }
        if plugins.has("Priority") {
            priority::mutate(context, new)?;
        }
    }
    Ok(())
}

/// Lets every plugin refuse an object.
pub(crate) fn validate(
    context: &Context,
    operation: Operation,
    _subresource: &str,
    _new: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    let plugins = &context.state.options.admission;
    if operation == Operation::Delete && plugins.has("NamespaceLifecycle") {
        namespace_lifecycle::validate_delete(context, old)?;
    }
    Ok(())
}

/// What has to follow a write: addresses and ports that a Service has no more are given back.
pub(crate) fn written(context: &Context, old: &Value, stored: &Entry, gone: bool) {
    let gvr = &context.definition.gvr;
    if gvr.resource == "services" && gvr.group.is_empty() && old.is_object() {
        let new = if gone {
            None
        } else {
            envelope::decode(stored).ok()
        };
        context.state.allocator.release(old, new.as_ref());
    }
}

fn is_pod(context: &Context) -> bool {
    let gvr = &context.definition.gvr;
    gvr.group.is_empty() && gvr.resource == "pods"
}

/// An object another one refers to.
fn find(
    context: &Context,
    group: &str,
    resource: &str,
    namespace: Option<&str>,
    name: &str,
) -> Option<Value> {
    let key = envelope::key(group, resource, namespace, name);
    envelope::decode(context.state.store.get(&key)?.as_ref()).ok()
}

/// 403 by a plugin, worded as upstream words it.
fn refuse(context: &Context, new: &Value, why: &str) -> Status {
    let gvr = &context.definition.gvr;
    let name = object::name(new);
    let name = if name.is_empty() {
        object::text(new, &["metadata", "generateName"])
    } else {
        name
    };
    Status::forbidden(&gvr.group, &gvr.resource, name, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_switched_by_name() {
        let off = ["ServiceAccount".to_owned(), "PodSecurity".to_owned()];
        let plugins = Plugins::with(&[], &off).expect("known names");
        assert!(plugins.has("NamespaceLifecycle") && !plugins.has("ServiceAccount"));
        assert!(Plugins::with(&["PodSecurity".to_owned()], &[]).is_err());
        assert!(Plugins::with(&[], &["Nonsense".to_owned()]).is_err());
    }
}
