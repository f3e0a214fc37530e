//! Which generated kinds are served, and by which ResourceGraphDefinition.

use std::collections::HashMap;

use controller::{
    Event, HandlerGuard, Informer, InformerOptions, Informers, Object, Resource, WorkQueue,
};
use parking_lot::Mutex;

use super::Metrics;
use super::context::InstanceKey;
use super::metrics::event_type;
use super::rollout::pin;
use crate::keys;

struct Served {
    rgd: String,
    rgd_uid: String,
    /// The revision and version of the definition its instances were last woken for.
    version: String,
    informer: Informer,
    _guard: HandlerGuard,
}

/// The served kinds.
pub(crate) struct Serving {
    informers: Informers,
    queue: WorkQueue<InstanceKey>,
    served: Mutex<HashMap<Resource, Served>>,
    metrics: Metrics,
}

/// Who serves a kind.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub rgd: String,
    pub rgd_uid: String,
}

impl Serving {
    pub fn new(informers: Informers, queue: WorkQueue<InstanceKey>, metrics: Metrics) -> Self {
        Self {
            informers,
            queue,
            served: Mutex::default(),
            metrics,
        }
    }

    /// Serves a kind; wakes all its instances when `version` is new.
    pub fn serve(&self, resource: &Resource, owner: &Owner, version: &str) {
        let mut served = self.served.lock();
        let present = served
            .get_mut(resource)
            .filter(|known| known.rgd_uid == owner.rgd_uid);
        if let Some(known) = present {
            if known.version != version {
                version.clone_into(&mut known.version);
                for object in known.informer.list() {
                    self.queue.add(InstanceKey {
                        resource: resource.clone(),
                        key: object.key(),
                    });
                }
            }
            return;
        }
        let informer = self
            .informers
            .informer(resource, InformerOptions::metadata_only());
        let guard = informer.add_handler(self.handler(resource));
        let entry = Served {
            rgd: owner.rgd.clone(),
            rgd_uid: owner.rgd_uid.clone(),
            version: version.to_owned(),
            informer,
            _guard: guard,
        };
        if served.insert(resource.clone(), entry).is_none() {
            self.metrics.kind_served();
        }
    }

    /// Changes of the instance's status and labels wake nobody: they are our own, or do not concern us.
    fn handler(&self, resource: &Resource) -> impl Fn(&Event) + Send + Sync + 'static {
        let (queue, resource) = (self.queue.clone(), resource.clone());
        let metrics = self.metrics.clone();
        move |event| {
            let concerns_us = match event {
                Event::Added(_) | Event::Deleted(_) => true,
                Event::Updated { old, new } => {
                    old.generation() != new.generation()
                        || old.is_terminating() != new.is_terminating()
                        || is_suspended(old) != is_suspended(new)
                        || pin(old) != pin(new)
                }
            };
            if concerns_us {
                metrics.event_seen(&resource, event_type(event));
                queue.add(InstanceKey {
                    resource: resource.clone(),
                    key: event.object().key(),
                });
            }
        }
    }

    /// Stops serving what a ResourceGraphDefinition serves; others with the same kind are left alone.
    pub fn stop(&self, rgd_uid: &str) {
        self.served.lock().retain(|_, served| {
            let stays = served.rgd_uid != rgd_uid;
            if !stays {
                self.metrics.kind_left();
            }
            stays
        });
    }

    /// How many kinds are served.
    pub fn len(&self) -> usize {
        self.served.lock().len()
    }

    /// Who serves a kind.
    pub fn owner(&self, resource: &Resource) -> Option<Owner> {
        let served = self.served.lock();
        let found = served.get(resource)?;
        Some(Owner {
            rgd: found.rgd.clone(),
            rgd_uid: found.rgd_uid.clone(),
        })
    }

    /// Wakes all instances of a ResourceGraphDefinition.
    pub fn wake_all(&self, rgd: &str) {
        for (resource, served) in self
            .served
            .lock()
            .iter()
            .filter(|(_, served)| served.rgd == rgd)
        {
            for object in served.informer.list() {
                self.queue.add(InstanceKey {
                    resource: resource.clone(),
                    key: object.key(),
                });
            }
        }
    }
}

/// Whether the user paused an instance.
pub(crate) fn is_suspended(instance: &Object) -> bool {
    instance.annotation(keys::RECONCILE).is_some_and(|value| {
        ["suspended", "disabled"]
            .iter()
            .any(|word| value.eq_ignore_ascii_case(word))
    })
}
