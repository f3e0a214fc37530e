//! Deletes an instance: its children wave by wave, highest first, then its finalizer.
//!
//! Needs neither graph nor expressions, so it works when the graph is broken or what it referred to is gone.

use controller::{Object, Resource, finalizer};
use futures::future::try_join_all;

use super::children::{is_retained, wave_of};
use super::status::DeletionReport;
use super::{Instance, InstanceError, contributions, prune, retention};
use crate::applyset::Inventory;
use crate::keys;

/// How far a deletion is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Children are still there; their end wakes us.
    Waiting,
    /// Nothing of it is left.
    Gone,
}

/// One step of a deletion.
pub(super) async fn run(instance: &Instance<'_>) -> Result<Progress, InstanceError> {
    if !instance.object.has_finalizer(keys::FINALIZER) {
        return Ok(Progress::Gone);
    }
    let released = contributions::release_all(instance).await;
    let members = match released {
        Ok(()) => members(instance).await,
        Err(error) => Err(error.into()),
    };
    let members = match members {
        Ok(members) => members,
        Err(error) => {
            DeletionReport::blocked(&error.to_string())
                .write(instance)
                .await?;
            return Err(error);
        }
    };
    let Some(wave) = members.iter().map(|(_, member)| wave_of(member)).max() else {
        finalizer::remove(
            &instance.context.api,
            &instance.id.resource,
            &instance.object,
            keys::FINALIZER,
        )
        .await?;
        return Ok(Progress::Gone);
    };
    let in_wave: Vec<&(Resource, Object)> = members
        .iter()
        .filter(|(_, member)| wave_of(member) == wave)
        .collect();
    // The watches that tell when they are gone come first.
    for (resource, _) in &in_wave {
        instance.context.watches.children(resource).await?;
    }
    let features = instance.context.options.build.features;
    DeletionReport::wave(features, &in_wave, &members, wave)
        .write(instance)
        .await?;
    let deletions = in_wave.iter().map(|(resource, member)| async move {
        if is_retained(member) {
            return retention::release(instance, resource, member).await;
        }
        match prune::delete(instance, resource, member).await {
            // Another object of that name is not ours to delete.
            Err(error) if error.is_conflict() => Ok(()),
            result => result,
        }
    });
    try_join_all(deletions).await?;
    // Some may be gone already, without an event still to come.
    let mut gone = true;
    for (resource, member) in &in_wave {
        let still = instance
            .context
            .api
            .get_metadata_opt(resource, &member.key())
            .await?;
        gone &= still.is_none_or(|found| {
            found.uid() != member.uid() || found.label(keys::PART_OF) != Some(&instance.applyset)
        });
    }
    if gone {
        return Box::pin(run(instance)).await;
    }
    Ok(Progress::Waiting)
}

async fn members(instance: &Instance<'_>) -> Result<Vec<(Resource, Object)>, InstanceError> {
    let inventory = Inventory::read(&instance.object, &instance.applyset)?;
    let mut members = Vec::new();
    for (group, kind) in &inventory.group_kinds {
        if let Some((resource, found)) = prune::list_members(instance, group, kind).await? {
            members.extend(found.into_iter().map(|member| (resource.clone(), member)));
        }
    }
    Ok(members)
}
