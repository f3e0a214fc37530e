//! The schemas and levels there are, as of now.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use store::Entry;

use super::level::{Level, Settings};
use super::schema::Schema;
use crate::envelope;
use crate::follow::Follower;
use crate::identity::{Attributes, User};

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
/// The schema that everything is of, and that is always there.
const CATCH_ALL: &str = "catch-all";

/// Schemas and levels.
#[derive(Default)]
pub struct Config {
    concurrency: usize,
    /// By precedence, then by name.
    schemas: Vec<Arc<Schema>>,
    /// Levels stay while their settings change: requests are running in them.
    levels: HashMap<String, Arc<Level>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Object {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Metadata {
    name: String,
    uid: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Spec {
    r#type: String,
    limited: Limited,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Limited {
    nominal_concurrency_shares: Option<usize>,
    lendable_percent: Option<usize>,
    borrowing_limit_percent: Option<usize>,
    limit_response: LimitResponse,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct LimitResponse {
    r#type: String,
    queuing: Option<Queuing>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Queuing {
    queues: usize,
    hand_size: usize,
    queue_length_limit: usize,
}

impl Config {
    /// No schemas yet, and this many requests at a time.
    pub fn new(concurrency: usize) -> Self {
        Self {
            concurrency,
            ..Self::default()
        }
    }

    /// The schema and level of a request.
    pub fn classify(&self, user: &User, wanted: &Attributes) -> Option<(Arc<Schema>, Arc<Level>)> {
        let found = self
            .schemas
            .iter()
            .filter(|schema| schema.matches(user, wanted))
            .find_map(|schema| Some((schema, self.levels.get(&schema.level)?)));
        let (schema, level) = found.or_else(|| {
            let schema = self
                .schemas
                .iter()
                .find(|schema| &*schema.name == CATCH_ALL)?;
            Some((schema, self.levels.get(CATCH_ALL)?))
        })?;
        Some((schema.clone(), level.clone()))
    }

    /// Divides the seats among the levels anew.
    fn divide(&self) {
        let shares: usize = self.levels.values().map(|level| level.shares()).sum();
        let lenders: Vec<Arc<Level>> = self.levels.values().cloned().collect();
        for level in self.levels.values() {
            let seats = if shares == 0 {
                0
            } else {
                (self.concurrency * level.shares()).div_ceil(shares)
            };
            level.resize(seats, &lenders);
        }
    }

    fn set_level(&mut self, name: &str, object: Option<Object>) {
        let Some(Object { metadata, spec }) = object else {
            self.levels.remove(name);
            self.divide();
            return;
        };
        let queuing = spec.limited.limit_response.queuing.unwrap_or_default();
        let queues = spec.limited.limit_response.r#type == "Queue";
        let settings = Settings {
            uid: metadata.uid.into(),
            exempt: spec.r#type == "Exempt",
            shares: spec.limited.nominal_concurrency_shares.unwrap_or(30),
            lendable_percent: spec.limited.lendable_percent.unwrap_or(0),
            borrowing_limit_percent: spec.limited.borrowing_limit_percent,
            queues: if queues { queuing.queues.max(1) } else { 0 },
            hand_size: queuing.hand_size.max(1),
            queue_length_limit: queuing.queue_length_limit,
        };
        match self.levels.get(&metadata.name) {
            Some(level) => level.configure(settings),
            None => {
                let level = Arc::new(Level::new(settings));
                self.levels.insert(metadata.name, level);
            }
        }
        self.divide();
    }
}

impl Follower for Config {
    const TOPICS: &'static [(&'static str, &'static str)] = &[
        (GROUP, "prioritylevelconfigurations"),
        (GROUP, "flowschemas"),
    ];

    fn apply(&mut self, topic: usize, key: &str, entry: Option<&Entry>) {
        let (_, name) = envelope::name_of(key);
        if topic == 0 {
            let object = entry.and_then(|entry| serde_json::from_slice(entry.bytes()).ok());
            self.set_level(name, object);
            return;
        }
        self.schemas.retain(|schema| &*schema.name != name);
        if let Some(schema) = entry.and_then(|entry| Schema::parse(entry.bytes())) {
            self.schemas.push(Arc::new(schema));
            self.schemas
                .sort_by(|a, b| (a.precedence, &a.name).cmp(&(b.precedence, &b.name)));
        }
    }

    fn clear(&mut self) {
        // Levels are told again before anybody reads; those that are gone have no schemas.
        self.schemas.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap;
    use model::object;
    use store::Revision;

    #[test]
    fn everything_has_a_level() {
        let mut config = Config::new(600);
        for value in bootstrap::flow_objects() {
            let topic = usize::from(object::text(&value, &["kind"]) == "FlowSchema");
            let (group, resource) = Config::TOPICS[topic];
            let key = envelope::key(group, resource, None, object::name(&value));
            let bytes = serde_json::to_vec(&value).expect("JSON");
            let entry = Entry::new(key.clone(), Revision(1), Revision(1), bytes.into());
            config.apply(topic, &key, Some(&entry));
        }
        let check = |user: &User, verb: &str, resource: &str, expect: &str| {
            let mut wanted = Attributes {
                verb: verb.to_owned(),
                namespace: "a".to_owned(),
                ..Attributes::default()
            };
            if resource.starts_with('/') {
                resource.clone_into(&mut wanted.path);
                wanted.namespace.clear();
            } else {
                resource.clone_into(&mut wanted.resource);
            }
            let (schema, _) = config.classify(user, &wanted).expect("a schema");
            assert_eq!(&*schema.name, expect, "{} {resource}", user.name);
        };
        check(&User::admin(), "get", "pods", "exempt");
        check(&User::anonymous(), "get", "/healthz", "probes");
        check(&User::anonymous(), "get", "/version", "global-default");
        check(&User::new("jane", &[]), "list", "pods", "global-default");
        let node = User::new("system:node:n", &["system:nodes"]);
        check(&node, "get", "pods", "system-nodes");
        check(&node, "update", "nodes", "system-node-high");
        let robot = User::new("system:serviceaccount:x:y", &["system:serviceaccounts"]);
        check(&robot, "get", "pods", "service-accounts");
        let default = &config.levels["global-default"];
        assert_eq!(default.nominal(), (600_usize * 20).div_ceil(245));
    }
}
