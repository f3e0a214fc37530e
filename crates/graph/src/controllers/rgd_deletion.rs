//! The end of a ResourceGraphDefinition.
//!
//! Its kind goes only with `--allow-crd-deletion`, and then takes the instances with it. Otherwise instances that are left behind
//! can be read, but have a finalizer that nobody removes any more; so the gate `DeletionSafety` makes a definition wait for them, unless
//! it says that it need not. As long as a definition waits its instances are served, also by a process that started in
//! between: their deletion needs no graph.

use std::time::Instant;

use controller::{DeleteOptions, ListOptions, Object, ObjectKey, Outcome, finalizer};

use super::context::{Context, crd_resource, rgd_resource};
use super::rgd::{RgdError, RgdReconciler};
use super::rgd_status::Report;
use super::serving::Owner;
use crate::features::Feature;
use crate::keys;
use crate::rgd::{GraphSpec, SchemaSpec};

/// How many instances a message names.
const NAMED: usize = 5;

/// Whether a definition may go although there are instances.
pub(super) fn is_allowed(rgd: &Object) -> bool {
    rgd.annotation(keys::ALLOW_DELETE) == Some("true")
}

/// One step of a deletion.
pub(super) async fn run(reconciler: &RgdReconciler, rgd: &Object) -> Result<Outcome, RgdError> {
    let started = Instant::now();
    let context = &*reconciler.context;
    // One that cannot be read never had a kind.
    let schema = GraphSpec::read(rgd.spec()).ok().map(|spec| spec.schema);
    if let Some(schema) = schema
        && let Some(crd) = own_kind(context, rgd, &schema).await?
    {
        let is_safe = context.options.build.features.has(Feature::DeletionSafety);
        if is_safe && !is_allowed(rgd) {
            let left = instances(context, &schema).await?;
            if !left.is_empty() {
                serve(context, rgd, &schema);
                let mut report = Report::new(rgd, context.clock.now_text());
                report.deletion_waits(rgd, &describe(&left));
                reconciler.write_status(rgd, &report).await?;
                // The end of each of them wakes us.
                return Ok(Outcome::Done);
            }
        }
        if context.options.allow_crd_deletion && delete_kind(context, &crd).await? {
            // Instances are still being deleted, which needs the kind to be served. The definition's end wakes us.
            serve(context, rgd, &schema);
            return Ok(Outcome::Done);
        }
    }
    context.serving.stop(rgd.uid());
    context.rollouts.forget(rgd.name());
    finalizer::remove(&context.api, &rgd_resource(), rgd, keys::FINALIZER).await?;
    let metrics = &context.options.metrics;
    metrics.rgd_deleted(rgd.name(), started.elapsed());
    Ok(Outcome::Done)
}

/// Wakes a definition that may wait for the end of an instance.
pub(super) fn instance_is_gone(context: &Context, rgd: &str) {
    let key = ObjectKey::cluster(rgd);
    // One that is found to be deleted only later looks at what is left then.
    let waits = context
        .rgds
        .get(&key)
        .is_some_and(|rgd| rgd.is_terminating());
    if waits {
        context.rgd_queue.add(key);
    }
}

/// The generated definition, if it is of this ResourceGraphDefinition.
async fn own_kind(
    context: &Context,
    rgd: &Object,
    schema: &SchemaSpec,
) -> Result<Option<Object>, RgdError> {
    let key = ObjectKey::cluster(schema.crd_name());
    let found = context.api.get_metadata_opt(&crd_resource(), &key).await?;
    Ok(found.filter(|crd| crd.label(keys::RGD_NAME) == Some(rgd.name())))
}

async fn instances(context: &Context, schema: &SchemaSpec) -> Result<Vec<ObjectKey>, RgdError> {
    let options = ListOptions {
        metadata_only: true,
        ..ListOptions::default()
    };
    match context.api.list(&schema.resource(), &options).await {
        Ok(list) => Ok(list.items.iter().map(Object::key).collect()),
        // The kind went away in between, and its instances with it.
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

fn describe(left: &[ObjectKey]) -> String {
    let named: Vec<String> = left.iter().take(NAMED).map(ToString::to_string).collect();
    let more = left.len().saturating_sub(NAMED);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    let (count, noun) = match left.len() {
        1 => (1, "instance exists"),
        count => (count, "instances exist"),
    };
    format!(
        "{count} {noun}: {}{more}; delete them first, or annotate the definition with {}: \"true\" to leave them behind",
        named.join(", "),
        keys::ALLOW_DELETE
    )
}

/// Makes sure that instances are worked on; a process that has just started does not know of them.
fn serve(context: &Context, rgd: &Object, schema: &SchemaSpec) {
    let resource = schema.resource();
    if context.serving.owner(&resource).is_some() {
        return;
    }
    let owner = Owner {
        rgd: rgd.name().to_owned(),
        rgd_uid: rgd.uid().to_owned(),
    };
    context.serving.serve(&resource, &owner, "");
}

/// Deletes the generated definition; says whether it is still there.
async fn delete_kind(context: &Context, crd: &Object) -> Result<bool, RgdError> {
    let (crds, key) = (crd_resource(), crd.key());
    if !crd.is_terminating() {
        let options = DeleteOptions::of_uid(crd.uid());
        context.api.delete(&crds, &key, &options).await?;
    }
    Ok(context.api.get_metadata_opt(&crds, &key).await?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_of_many_are_named() {
        let all: Vec<ObjectKey> = (1..=7)
            .map(|number| ObjectKey::new("default", format!("it-{number}")))
            .collect();
        let check = |count: usize, expect: &str| {
            let found = describe(&all[..count]);
            assert!(found.starts_with(expect), "{found}");
        };
        check(1, "1 instance exists: default/it-1; delete them first");
        check(2, "2 instances exist: default/it-1, default/it-2; delete");
        check(
            7,
            "7 instances exist: default/it-1, default/it-2, default/it-3, default/it-4, default/it-5 and 2 more;",
        );
    }
}
