//! What tests of several controllers expect of the world: what must always hold, and what it is like in the end.

use std::collections::BTreeMap;

use super::objects::{image_of, is_active, is_ready, node_by_affinity};
use super::recorder::World;

/// The annotation of a Pod with the index it works on.
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// How many Pods there are that stay.
pub fn active(world: &World) -> usize {
    world.pods().filter(|pod| is_active(pod)).count()
}

/// So many ready Pods of an image, and no others.
pub fn settled(image: &'static str, count: usize) -> impl Fn(&World) -> bool {
    move |world| {
        world.pods().count() == count
            && world
                .pods()
                .all(|pod| is_active(pod) && is_ready(pod) && image_of(pod) == image)
    }
}

/// So many Pods that stay, and so many of them ready.
pub fn within(least: usize, most: usize) -> impl Fn(&World) -> Result<(), String> {
    move |world| {
        let all = active(world);
        let ready = |pod: &&std::sync::Arc<controller::Object>| is_active(pod) && is_ready(pod);
        let ready = world.pods().filter(ready).count();
        if all > most {
            return Err(format!("{all} Pods where at most {most} may be"));
        }
        if ready < least {
            return Err(format!("{ready} Pods ready where at least {least} must be"));
        }
        Ok(())
    }
}

/// No node has more Pods that stay than `most`.
pub fn at_most_per_node(most: usize) -> impl Fn(&World) -> Result<(), String> {
    move |world| {
        let mut by_node: BTreeMap<String, usize> = BTreeMap::new();
        for pod in world.pods().filter(|pod| is_active(pod)) {
            *by_node
                .entry(node_by_affinity(pod).unwrap_or_default())
                .or_default() += 1;
        }
        match by_node.iter().find(|(_, count)| **count > most) {
            Some((node, count)) => Err(format!("{count} Pods on {node}")),
            None => Ok(()),
        }
    }
}

/// At most so many Pods of a Job run, and no index runs twice.
pub fn at_most_work(most: usize) -> impl Fn(&World) -> Result<(), String> {
    move |world| {
        let mut indexes: BTreeMap<&str, usize> = BTreeMap::new();
        let mut active = 0;
        for pod in world.pods().filter(|pod| is_active(pod)) {
            active += 1;
            if let Some(index) = pod.annotation(INDEX) {
                *indexes.entry(index).or_default() += 1;
            }
        }
        if active > most {
            return Err(format!("{active} Pods where at most {most} may be"));
        }
        match indexes.iter().find(|(_, count)| **count > 1) {
            Some((index, count)) => Err(format!("index {index} runs {count} times")),
            None => Ok(()),
        }
    }
}
