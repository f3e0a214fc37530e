//! Admission: what looks at other objects, or at who writes, before a write is stored.
//!
//! A plugin is a file that declares one `Plugin`: `mutate` changes the new object, `validate` refuses
//! it. `PLUGINS` has them all in upstream's order; which of them are asked is the server's setting
//! ([`Plugins`]).
//!
//! ```text
//! decoded object -> mutate, plugin by plugin -> (again, where a webhook or policy asks for it)
//!                -> the kind's own validation -> validate, plugin by plugin -> store
//! ```
//!
//! A plugin that has nothing to do for a request costs one comparison.

mod always;
mod always_pull_images;
mod authorizer;
mod certificates;
mod claim_resize;
mod default_class;
mod default_toleration_seconds;
mod extended_resource_toleration;
mod external_ips;
mod hard_anti_affinity;
mod in_use_protection;
mod limit_ranger;
mod matching;
mod mutating_policy;
mod mutating_webhook;
mod namespace_auto_provision;
mod namespace_lifecycle;
mod node_restriction;
mod node_taint;
mod owner_references;
mod pod_node_selector;
mod pod_resize;
mod pod_security;
mod pod_toleration_restriction;
mod pod_topology_labels;
mod policy;
mod priority;
mod reinvocation;
mod request;
mod resource_quota;
mod review;
mod runtime_class;
mod service_account;
mod snapshot;
mod tolerations;
mod validating_policy;
mod validating_webhook;
mod webhook;

pub use self::request::Operation;
pub(crate) use self::request::Request;
pub use self::webhook::InProcess;

/// What admission remembers between requests.
pub(crate) struct Memory {
    quotas: resource_quota::Locks,
    mutating_policies: mutating_policy::Policies,
    validating_policies: validating_policy::Policies,
    mutating_webhooks: mutating_webhook::Webhooks,
    validating_webhooks: validating_webhook::Webhooks,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            quotas: resource_quota::Locks::default(),
            mutating_policies: Snapshot::new(mutating_policy::RESOURCES),
            validating_policies: Snapshot::new(validating_policy::RESOURCES),
            mutating_webhooks: Snapshot::new(mutating_webhook::RESOURCES),
            validating_webhooks: Snapshot::new(validating_webhook::RESOURCES),
        }
    }
}

use std::sync::Arc;

use futures::future::BoxFuture;
use model::Status;
use serde_json::Value;
use store::Entry;

use self::snapshot::Snapshot;
use self::webhook::Webhook;
use crate::context::Context;
use crate::envelope;

/// What a plugin does to a new object.
#[derive(Clone, Copy)]
pub(crate) enum Mutate {
    /// Nothing.
    Never,
    /// Changes it at once.
    Now(fn(&Request<'_>, &mut Value) -> Result<(), Status>),
    /// Has to wait for something.
    Later(for<'a> fn(&'a Request<'a>, &'a mut Value) -> BoxFuture<'a, Result<(), Status>>),
}

/// How a plugin refuses an object. Where an object is deleted, the new one is `null`.
#[derive(Clone, Copy)]
pub(crate) enum Validate {
    /// Never.
    Never,
    /// At once.
    Now(fn(&Request<'_>, &Value) -> Result<(), Status>),
    /// Has to wait for something.
    Later(for<'a> fn(&'a Request<'a>, &'a Value) -> BoxFuture<'a, Result<(), Status>>),
}

/// One admission plugin.
pub(crate) struct Plugin {
    /// Upstream's name of it, which flags use.
    pub name: &'static str,
    /// Whether it is asked unless a flag says otherwise.
    pub default: bool,
    /// How it changes objects.
    pub mutate: Mutate,
    /// How it refuses objects.
    pub validate: Validate,
}

/// The plugins this server has, in upstream's order.
static PLUGINS: &[&Plugin] = &[
    &always::ADMIT,
    &namespace_auto_provision::PROVISION,
    &namespace_lifecycle::PLUGIN,
    &namespace_auto_provision::EXISTS,
    &hard_anti_affinity::PLUGIN,
    &limit_ranger::PLUGIN,
    &service_account::PLUGIN,
    &node_restriction::PLUGIN,
    &node_taint::PLUGIN,
    &always_pull_images::PLUGIN,
    &pod_security::PLUGIN,
    &pod_node_selector::PLUGIN,
    &priority::PLUGIN,
    &default_toleration_seconds::PLUGIN,
    &pod_toleration_restriction::PLUGIN,
    &extended_resource_toleration::PLUGIN,
    &default_class::STORAGE,
    &in_use_protection::PLUGIN,
    &owner_references::PLUGIN,
    &claim_resize::PLUGIN,
    &runtime_class::PLUGIN,
    &certificates::APPROVAL,
    &certificates::SIGNING,
    &certificates::SUBJECT,
    &default_class::INGRESS,
    &external_ips::PLUGIN,
    &pod_topology_labels::PLUGIN,
    &pod_resize::PLUGIN,
    &mutating_policy::PLUGIN,
    &mutating_webhook::PLUGIN,
    &validating_policy::PLUGIN,
    &validating_webhook::PLUGIN,
    &resource_quota::PLUGIN,
    &always::DENY,
];

/// Upstream's plugins that this server does not have; naming one to switch it off is fine.
const UPSTREAM: &[&str] = &[
    "ClusterTrustBundleAttest",
    "EventRateLimit",
    "ImagePolicyWebhook",
    "JobValidation",
    "NodeDeclaredFeatureValidator",
    "PodGroupProtection",
    "PodGroupWorkloadExists",
];

/// The plugins that are switched on, and the handlers in this process that are asked like webhooks.
#[derive(Clone)]
pub struct Plugins {
    on: Vec<&'static Plugin>,
    mutating: Arc<[Webhook]>,
    validating: Arc<[Webhook]>,
}

impl std::fmt::Debug for Plugins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.on.iter().map(|plugin| plugin.name))
            .finish()
    }
}

impl Default for Plugins {
    fn default() -> Self {
        Self::of(PLUGINS.iter().copied().filter(|p| p.default).collect())
    }
}

impl Plugins {
    /// The default plugins, more of them, and fewer of them, as upstream's flags have it. Fails with
    /// the reason where a name is unknown, or a plugin is wanted that this server does not have.
    pub fn with(enabled: &[String], disabled: &[String]) -> Result<Self, String> {
        let known = |name: &String| PLUGINS.iter().any(|plugin| plugin.name == name);
        for name in enabled {
            if known(name) {
                continue;
            }
            if UPSTREAM.contains(&name.as_str()) {
                return Err(format!(
                    "admission plugin {name} is not part of this server; it has {}",
                    names()
                ));
            }
            return Err(unknown(name));
        }
        for name in disabled {
            if !known(name) && !UPSTREAM.contains(&name.as_str()) {
                return Err(unknown(name));
            }
        }
        let wanted = |plugin: &&'static Plugin| {
            let named = |list: &[String]| list.iter().any(|name| name == plugin.name);
            (plugin.default || named(enabled)) && !named(disabled)
        };
        Ok(Self::of(PLUGINS.iter().copied().filter(wanted).collect()))
    }

    fn of(on: Vec<&'static Plugin>) -> Self {
        Self {
            on,
            mutating: Arc::default(),
            validating: Arc::default(),
        }
    }

    /// The same plugins, and these handlers, which are asked before the configured webhooks.
    #[must_use]
    pub fn with_handlers(mut self, handlers: &[InProcess]) -> Self {
        let of = |mutating: bool| {
            let own = handlers.iter().filter(|own| own.mutating == mutating);
            own.map(Webhook::in_process).collect()
        };
        (self.mutating, self.validating) = (of(true), of(false));
        self
    }

    /// The handlers in this process.
    fn handlers(&self, mutating: bool) -> &[Webhook] {
        if mutating {
            &self.mutating
        } else {
            &self.validating
        }
    }

    #[cfg(test)]
    fn has(&self, name: &str) -> bool {
        self.on.iter().any(|plugin| plugin.name == name)
    }
}

fn names() -> String {
    let names: Vec<&str> = PLUGINS.iter().map(|plugin| plugin.name).collect();
    names.join(", ")
}

fn unknown(name: &str) -> String {
    format!(
        "admission plugin {name:?} is unknown; this server has {}",
        names()
    )
}

/// Lets every plugin change an object before it is checked.
pub(crate) async fn mutate(request: &Request<'_>, new: &mut Value) -> Result<(), Status> {
    mutate_once(request, new).await?;
    if request.reinvocation.begin_again() {
        mutate_once(request, new).await?;
    }
    Ok(())
}

async fn mutate_once(request: &Request<'_>, new: &mut Value) -> Result<(), Status> {
    for plugin in &request.context.state.options.admission.on {
        match plugin.mutate {
            Mutate::Never => {}
            Mutate::Now(mutate) => mutate(request, new)?,
            Mutate::Later(mutate) => mutate(request, new).await?,
        }
    }
    Ok(())
}

/// Lets every plugin refuse an object; `new` is `null` where it is deleted.
pub(crate) async fn validate(request: &Request<'_>, new: &Value) -> Result<(), Status> {
    for plugin in &request.context.state.options.admission.on {
        match plugin.validate {
            Validate::Never => {}
            Validate::Now(validate) => validate(request, new)?,
            Validate::Later(validate) => validate(request, new).await?,
        }
    }
    Ok(())
}

/// What has to follow a write: addresses and ports that a Service has no more are given back.
pub(crate) async fn written(context: &Context, old: &Value, stored: &Entry, gone: bool) {
    let gvr = &context.definition.gvr;
    if gvr.resource == "services" && gvr.group.is_empty() && old.is_object() {
        let new = if gone {
            None
        } else {
            envelope::decode(stored).ok()
        };
        context.state.allocator.release(old, new.as_ref()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_switched_by_name() {
        let off = ["ServiceAccount".to_owned(), "ImagePolicyWebhook".to_owned()];
        let plugins = Plugins::with(&[], &off).expect("known names");
        assert!(plugins.has("NamespaceLifecycle") && !plugins.has("ServiceAccount"));
        assert!(!plugins.has("AlwaysPullImages"));
        let plugins = Plugins::with(&["AlwaysPullImages".to_owned()], &[]).expect("a known name");
        assert!(plugins.has("AlwaysPullImages"));
        assert!(Plugins::with(&["ImagePolicyWebhook".to_owned()], &[]).is_err());
        assert!(Plugins::with(&[], &["Nonsense".to_owned()]).is_err());
    }
}
