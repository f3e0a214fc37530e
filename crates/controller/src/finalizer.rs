//! Adds and removes finalizers without touching anybody else's.

use serde_json::{Value, json};

use crate::api::{Api, Subresource};
use crate::error::Error;
use crate::object::{Object, ObjectKey};
use crate::resource::Resource;

const ATTEMPTS: u32 = 5;

/// Adds a finalizer unless present; returns the object as it is then.
pub async fn add(
    api: &Api,
    resource: &Resource,
    object: &Object,
    finalizer: &str,
) -> Result<Object, Error> {
    change(api, resource, object, |present| {
        if !present.iter().any(|name| name == finalizer) {
            present.push(finalizer.to_owned());
        }
    })
    .await?
    .ok_or_else(|| vanished(resource, &object.key()))
}

/// Removes a finalizer if present; fine if the object is gone.
pub async fn remove(
    api: &Api,
    resource: &Resource,
    object: &Object,
    finalizer: &str,
) -> Result<(), Error> {
    change(api, resource, object, |present| {
        present.retain(|name| name != finalizer);
    })
    .await?;
    Ok(())
}

/// Patches the list as last read, guarded by the resource version; reads again after a conflict.
async fn change(
    api: &Api,
    resource: &Resource,
    object: &Object,
    edit: impl Fn(&mut Vec<String>),
) -> Result<Option<Object>, Error> {
    let key = object.key();
    let mut current = object.clone();
    for _ in 0..ATTEMPTS {
        let before: Vec<String> = current.finalizers().map(str::to_owned).collect();
        let mut after = before.clone();
        edit(&mut after);
        if after == before {
            return Ok(Some(current));
        }
        let patch = patch(&current, &after);
        match api
            .merge_patch(resource, &key, Subresource::None, &patch)
            .await
        {
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) if error.is_conflict() => match api.get_opt(resource, &key).await? {
                // The same name may by now be another object, whose finalizers are not ours to edit.
                Some(found) if found.uid() == object.uid() => current = found,
                _ => return Ok(None),
            },
            answer => return answer.map(Some),
        }
    }
    Err(Error::TooManyConflicts {
        operation: format!("change finalizers of {resource} {key}"),
        attempts: ATTEMPTS,
    })
}

fn patch(object: &Object, finalizers: &[String]) -> Value {
    let list = if finalizers.is_empty() {
        Value::Null
    } else {
        json!(finalizers)
    };
    json!({"metadata": {"resourceVersion": object.resource_version(), "finalizers": list}})
}

fn vanished(resource: &Resource, key: &ObjectKey) -> Error {
    Error::Request {
        operation: format!("add a finalizer to {resource} {key}"),
        message: "the object was deleted meanwhile".to_owned(),
    }
}
