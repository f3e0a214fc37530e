//! What is related to which node: Pods run on it, and refer to other objects.

use std::collections::{HashMap, HashSet};

use model::object;
use serde_json::Value;
use store::Entry;

use crate::envelope;
use crate::follow::Follower;

/// A kind of object nodes may see when it concerns them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A Pod.
    Pod,
    /// A Secret.
    Secret,
    /// A ConfigMap.
    ConfigMap,
    /// A PersistentVolumeClaim.
    Claim,
    /// A PersistentVolume.
    Volume,
    /// A ServiceAccount.
    ServiceAccount,
    /// A ResourceClaim.
    ResourceClaim,
    /// A VolumeAttachment.
    Attachment,
    /// A ResourceSlice.
    Slice,
}

/// An object: its kind, namespace and name.
type Id = (Kind, String, String);

/// Which objects concern which nodes.
#[derive(Debug, Default)]
pub struct Graph {
    /// Pods, volume attachments and resource slices: their node, and what they refer to.
    sources: HashMap<Id, (String, Vec<Id>)>,
    /// How many of a node's Pods refer to an object.
    referred: HashMap<Id, HashMap<String, usize>>,
    /// Volumes by name: the claim they are bound to, and the Secrets they need.
    volumes: HashMap<String, (Id, Vec<Id>)>,
    /// Volumes that need a Secret.
    volumes_of_secret: HashMap<Id, HashSet<String>>,
}

impl Graph {
    /// Whether an object concerns a node.
    pub fn relates(&self, node: &str, kind: Kind, namespace: &str, name: &str) -> bool {
        let id = (kind, namespace.to_owned(), name.to_owned());
        if let Some((on, _)) = self.sources.get(&id) {
            return on == node;
        }
        if self.refers(node, &id) {
            return true;
        }
        let by_volume = |name: &String| {
            let claim = self.volumes.get(name).map(|(claim, _)| claim);
            claim.is_some_and(|claim| self.refers(node, claim))
        };
        match kind {
            Kind::Volume => by_volume(&id.2),
            Kind::Secret => self
                .volumes_of_secret
                .get(&id)
                .is_some_and(|volumes| volumes.iter().any(by_volume)),
            _ => false,
        }
    }

    fn refers(&self, node: &str, id: &Id) -> bool {
        self.referred
            .get(id)
            .is_some_and(|nodes| nodes.contains_key(node))
    }

    fn set_source(&mut self, id: Id, new: Option<(String, Vec<Id>)>) {
        let old = match new {
            Some((node, references)) => {
                for reference in &references {
                    let nodes = self.referred.entry(reference.clone()).or_default();
                    *nodes.entry(node.clone()).or_default() += 1;
                }
                self.sources.insert(id, (node, references))
            }
            None => self.sources.remove(&id),
        };
        let Some((node, references)) = old else {
            return;
        };
        for reference in references {
            let Some(nodes) = self.referred.get_mut(&reference) else {
                continue;
            };
            if let Some(count) = nodes.get_mut(&node) {
                *count -= 1;
                if *count == 0 {
                    nodes.remove(&node);
                }
            }
            if nodes.is_empty() {
                self.referred.remove(&reference);
            }
        }
    }

    fn set_volume(&mut self, name: &str, new: Option<(Id, Vec<Id>)>) {
        if let Some((_, secrets)) = self.volumes.remove(name) {
            for secret in secrets {
                if let Some(volumes) = self.volumes_of_secret.get_mut(&secret) {
                    volumes.remove(name);
                    if volumes.is_empty() {
                        self.volumes_of_secret.remove(&secret);
                    }
                }
            }
        }
        if let Some((claim, secrets)) = new {
            for secret in &secrets {
                let volumes = self.volumes_of_secret.entry(secret.clone()).or_default();
                volumes.insert(name.to_owned());
            }
            self.volumes.insert(name.to_owned(), (claim, secrets));
        }
    }
}

impl Follower for Graph {
    const TOPICS: &'static [(&'static str, &'static str)] = &[
        ("", "pods"),
        ("", "persistentvolumes"),
        ("storage.k8s.io", "volumeattachments"),
        ("resource.k8s.io", "resourceslices"),
    ];

    fn apply(&mut self, topic: usize, key: &str, entry: Option<&Entry>) {
        let (namespace, name) = envelope::name_of(key);
        let id = |kind| {
            (
                kind,
                namespace.unwrap_or_default().to_owned(),
                name.to_owned(),
            )
        };
        let value = entry.and_then(|entry| envelope::decode(entry).ok());
        let on = |value: &Value| {
            let node = object::text(value, &["spec", "nodeName"]);
            (!node.is_empty()).then(|| node.to_owned())
        };
        let placed = value
            .as_ref()
            .and_then(|value| Some((on(value)?, Vec::new())));
        match topic {
            0 => {
                let pod = value.as_ref();
                let source = pod.and_then(|pod| Some((on(pod)?, references(pod))));
                self.set_source(id(Kind::Pod), source);
            }
            1 => self.set_volume(name, value.as_ref().and_then(bound)),
            2 => self.set_source(id(Kind::Attachment), placed),
            _ => self.set_source(id(Kind::Slice), placed),
        }
    }
}

/// What a Pod refers to.
fn references(pod: &Value) -> Vec<Id> {
    // A mirror Pod only shows what a node runs by itself: it gives no rights.
    if object::annotation(pod, "kubernetes.io/config.mirror").is_some() {
        return Vec::new();
    }
    let namespace = object::namespace(pod);
    let mut found = Vec::new();
    let mut add = |kind: Kind, name: &str| {
        if !name.is_empty() {
            found.push((kind, namespace.to_owned(), name.to_owned()));
        }
    };
    let account = object::text(pod, &["spec", "serviceAccountName"]);
    add(Kind::ServiceAccount, account);
    for secret in object::list(pod, &["spec", "imagePullSecrets"]) {
        add(Kind::Secret, object::text(secret, &["name"]));
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in object::list(pod, &["spec", list]) {
            for from in object::list(container, &["envFrom"]) {
                add(Kind::Secret, object::text(from, &["secretRef", "name"]));
                add(
                    Kind::ConfigMap,
                    object::text(from, &["configMapRef", "name"]),
                );
            }
            for variable in object::list(container, &["env"]) {
                let of = |source| object::text(variable, &["valueFrom", source, "name"]);
                add(Kind::Secret, of("secretKeyRef"));
                add(Kind::ConfigMap, of("configMapKeyRef"));
            }
        }
    }
    for volume in object::list(pod, &["spec", "volumes"]) {
        volume_references(pod, volume, &mut add);
    }
    for claim in object::list(pod, &["status", "resourceClaimStatuses"]) {
        add(
            Kind::ResourceClaim,
            object::text(claim, &["resourceClaimName"]),
        );
    }
    for claim in object::list(pod, &["spec", "resourceClaims"]) {
        add(
            Kind::ResourceClaim,
            object::text(claim, &["resourceClaimName"]),
        );
    }
    let extended = ["status", "extendedResourceClaimStatus", "resourceClaimName"];
    add(Kind::ResourceClaim, object::text(pod, &extended));
    found
}

/// Volume sources that name a Secret as `secretRef`.
const SECRET_REFERENCES: [&str; 8] = [
    "cephfs",
    "cinder",
    "flexVolume",
    "iscsi",
    "rbd",
    "scaleIO",
    "storageos",
    "csi",
];

fn volume_references(pod: &Value, volume: &Value, add: &mut impl FnMut(Kind, &str)) {
    add(
        Kind::Secret,
        object::text(volume, &["secret", "secretName"]),
    );
    add(
        Kind::Secret,
        object::text(volume, &["azureFile", "secretName"]),
    );
    add(
        Kind::ConfigMap,
        object::text(volume, &["configMap", "name"]),
    );
    let claim = object::text(volume, &["persistentVolumeClaim", "claimName"]);
    add(Kind::Claim, claim);
    if volume.get("ephemeral").is_some_and(Value::is_object) {
        let name = format!("{}-{}", object::name(pod), object::text(volume, &["name"]));
        add(Kind::Claim, &name);
    }
    for source in SECRET_REFERENCES {
        let field = if source == "csi" {
            "nodePublishSecretRef"
        } else {
            "secretRef"
        };
        add(Kind::Secret, object::text(volume, &[source, field, "name"]));
    }
    for source in object::list(volume, &["projected", "sources"]) {
        add(Kind::Secret, object::text(source, &["secret", "name"]));
        add(
            Kind::ConfigMap,
            object::text(source, &["configMap", "name"]),
        );
    }
}

/// The claim a volume is bound to, and the Secrets a node needs to mount it.
fn bound(volume: &Value) -> Option<(Id, Vec<Id>)> {
    let claim = object::at(volume, &["spec", "claimRef"])?;
    let namespace = object::text(claim, &["namespace"]);
    let name = object::text(claim, &["name"]);
    let spec = &volume["spec"];
    let mut secrets = Vec::new();
    let azure = object::text(spec, &["azureFile", "secretName"]);
    if !azure.is_empty() {
        let own = object::text(spec, &["azureFile", "secretNamespace"]);
        let namespace = if own.is_empty() { namespace } else { own };
        secrets.push((Kind::Secret, namespace.to_owned(), azure.to_owned()));
    }
    let mut add = |reference: Option<&Value>| {
        let Some(reference) = reference else {
            return;
        };
        let name = object::text(reference, &["name"]);
        let own = object::text(reference, &["namespace"]);
        let namespace = if own.is_empty() { namespace } else { own };
        if !name.is_empty() {
            secrets.push((Kind::Secret, namespace.to_owned(), name.to_owned()));
        }
    };
    for source in SECRET_REFERENCES {
        add(object::at(spec, &[source, "secretRef"]));
    }
    for field in [
        "controllerPublishSecretRef",
        "nodePublishSecretRef",
        "nodeStageSecretRef",
        "controllerExpandSecretRef",
        "nodeExpandSecretRef",
    ] {
        add(object::at(spec, &["csi", field]));
    }
    Some((
        (Kind::Claim, namespace.to_owned(), name.to_owned()),
        secrets,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use store::Revision;

    fn put(graph: &mut Graph, topic: usize, object: &Value) {
        let (group, resource) = Graph::TOPICS[topic];
        let namespace = object::namespace(object);
        let namespace = (!namespace.is_empty()).then_some(namespace);
        let key = envelope::key(group, resource, namespace, object::name(object));
        let bytes = serde_json::to_vec(object).expect("JSON");
        let entry = Entry::new(key.clone(), Revision(1), Revision(1), bytes.into());
        graph.apply(topic, &key, Some(&entry));
    }

    #[test]
    fn objects_concern_the_nodes_whose_pods_use_them() {
        let mut graph = Graph::default();
        let mut pod = json!({
            "metadata": {"name": "p", "namespace": "a"},
            "spec": {
                "nodeName": "n",
                "serviceAccountName": "robot",
                "containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "s"}}}]}],
                "volumes": [
                    {"name": "v", "persistentVolumeClaim": {"claimName": "c"}},
                    {"name": "w", "projected": {"sources": [{"configMap": {"name": "m"}}]}},
                    {"name": "e", "ephemeral": {}},
                ],
            },
        });
        put(&mut graph, 0, &pod);
        put(
            &mut graph,
            1,
            &json!({"metadata": {"name": "pv"}, "spec": {
                "claimRef": {"namespace": "a", "name": "c"},
                "csi": {"nodeStageSecretRef": {"namespace": "b", "name": "deep"}},
            }}),
        );
        let check = |graph: &Graph, node: &str, expect: &str| {
            let ids = [
                (Kind::Pod, "a", "p"),
                (Kind::Secret, "a", "s"),
                (Kind::Secret, "b", "deep"),
                (Kind::ConfigMap, "a", "m"),
                (Kind::Claim, "a", "c"),
                (Kind::Claim, "a", "p-e"),
                (Kind::Volume, "", "pv"),
                (Kind::ServiceAccount, "a", "robot"),
                (Kind::Secret, "a", "other"),
            ];
            let found: String = ids
                .iter()
                .map(|(kind, namespace, name)| {
                    if graph.relates(node, *kind, namespace, name) {
                        '1'
                    } else {
                        '0'
                    }
                })
                .collect();
            assert_eq!(found, expect, "{node}");
        };
        check(&graph, "n", "111111110");
        check(&graph, "m", "000000000");
        pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        put(&mut graph, 0, &pod);
        check(&graph, "n", "100000000");
        let key = envelope::key("", "pods", Some("a"), "p");
        graph.apply(0, &key, None);
        check(&graph, "n", "000000000");
        assert!(graph.referred.is_empty() && graph.sources.is_empty());
    }
}
