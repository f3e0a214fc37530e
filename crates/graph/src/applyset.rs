//! ApplySets (KEP-3659): how an instance remembers where its children are.
//!
//! The instance carries the kinds and namespaces that may hold children, the children carry the ApplySet's id. So
//! children can be found, pruned and deleted without the graph that made them.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::GroupKind;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::keys;

/// Why an inventory cannot be trusted. Nothing is deleted by guess.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid applyset inventory: {0}")]
pub struct InvalidInventory(String);

/// The ApplySet id of an object.
pub fn id(name: &str, namespace: &str, kind: &str, group: &str) -> String {
    let text = format!("{name}.{namespace}.{kind}.{group}");
    format!("applyset-{}-v1", digest(&text))
}

fn digest(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(text.as_bytes()))
}

/// Where members may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Kinds with members.
    pub group_kinds: BTreeSet<(String, String)>,
    /// Namespaces with members, besides the parent's own.
    pub namespaces: BTreeSet<String>,
}

impl Inventory {
    /// Adds the place of a member; the parent's own namespace is understood.
    pub fn add(&mut self, group_kind: &GroupKind, namespace: Option<&str>, parent_namespace: &str) {
        self.group_kinds
            .insert((group_kind.group.clone(), group_kind.kind.clone()));
        if let Some(namespace) = namespace.filter(|namespace| *namespace != parent_namespace) {
            self.namespaces.insert(namespace.to_owned());
        }
    }

    /// All places of both.
    pub fn union(&self, other: &Self) -> Self {
        Self {
            group_kinds: self
                .group_kinds
                .union(&other.group_kinds)
                .cloned()
                .collect(),
            namespaces: self.namespaces.union(&other.namespaces).cloned().collect(),
        }
    }

    /// Kinds as the annotation lists them.
    fn group_kinds_text(&self) -> String {
        let mut texts: Vec<String> = self
            .group_kinds
            .iter()
            .map(|(group, kind)| {
                if group.is_empty() {
                    kind.clone()
                } else {
                    format!("{kind}.{group}")
                }
            })
            .collect();
        texts.sort();
        texts.join(",")
    }

    fn namespaces_text(&self) -> String {
        self.namespaces
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(",")
    }

    /// The annotations that hold the inventory of ApplySet `id`.
    pub fn annotations(&self, id: &str) -> BTreeMap<&'static str, String> {
        let (kinds, namespaces) = (self.group_kinds_text(), self.namespaces_text());
        let hash = format!("sha256:{}", digest(&format!("{id}\0{kinds}\0{namespaces}")));
        BTreeMap::from([
            (
                keys::APPLYSET_TOOLING,
                format!("kro/{}", keys::TOOL_VERSION),
            ),
            (keys::APPLYSET_GROUP_KINDS, kinds),
            (keys::APPLYSET_NAMESPACES, namespaces),
            (keys::INVENTORY_HASH, hash),
        ])
    }

    /// Whether the object carries any part of an inventory.
    pub fn is_present(object: &controller::Object) -> bool {
        object.label(keys::APPLYSET_ID).is_some()
            || [
                keys::APPLYSET_TOOLING,
                keys::APPLYSET_GROUP_KINDS,
                keys::APPLYSET_NAMESPACES,
            ]
            .iter()
            .any(|key| object.annotation(key).is_some())
    }

    /// Reads what is there without questions: a superset is written back anyway.
    pub fn read_lenient(object: &controller::Object) -> Self {
        let split = |key: &str| -> Vec<String> {
            let text = object.annotation(key).unwrap_or_default();
            text.split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect()
        };
        Self {
            group_kinds: split(keys::APPLYSET_GROUP_KINDS)
                .iter()
                .filter_map(|text| parse_group_kind(text).ok())
                .collect(),
            namespaces: split(keys::APPLYSET_NAMESPACES)
                .into_iter()
                .filter(|namespace| is_dns_label(namespace))
                .collect(),
        }
    }

    /// Reads the inventory of ApplySet `id` and checks everything about it.
    pub fn read(object: &controller::Object, id: &str) -> Result<Self, InvalidInventory> {
        let invalid = |message: String| InvalidInventory(message);
        match object.label(keys::APPLYSET_ID) {
            Some(found) if found == id => {}
            Some(found) => {
                return Err(invalid(format!(
                    "label {} is {found:?}, expected {id:?}",
                    keys::APPLYSET_ID
                )));
            }
            None => return Err(invalid(format!("label {} is missing", keys::APPLYSET_ID))),
        }
        let annotation = |key: &str| {
            object
                .annotation(key)
                .ok_or_else(|| invalid(format!("annotation {key} is missing")))
        };
        let tooling = annotation(keys::APPLYSET_TOOLING)?;
        if !tooling.starts_with("kro/") {
            return Err(invalid(format!(
                "annotation {} is {tooling:?}, expected kro/VERSION",
                keys::APPLYSET_TOOLING
            )));
        }
        let mut inventory = Self::default();
        for entry in entries(annotation(keys::APPLYSET_GROUP_KINDS)?) {
            inventory
                .group_kinds
                .insert(parse_group_kind(entry).map_err(invalid)?);
        }
        for entry in entries(annotation(keys::APPLYSET_NAMESPACES)?) {
            if !is_dns_label(entry) {
                return Err(invalid(format!(
                    "{entry:?} in annotation {} is not a namespace",
                    keys::APPLYSET_NAMESPACES
                )));
            }
            inventory.namespaces.insert(entry.to_owned());
        }
        let expected = &inventory.annotations(id)[keys::INVENTORY_HASH];
        match object.annotation(keys::INVENTORY_HASH) {
            Some(found) if found != expected => Err(invalid(format!(
                "annotation {} does not match the inventory (edited by hand?)",
                keys::INVENTORY_HASH
            ))),
            // Older versions wrote no hash.
            _ => Ok(inventory),
        }
    }
}

fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .take(if text.is_empty() { 0 } else { usize::MAX })
}

fn parse_group_kind(text: &str) -> Result<(String, String), String> {
    let (kind, group) = text.split_once('.').unwrap_or((text, ""));
    let kind_valid = !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let group_valid = group.is_empty() && !text.contains('.') || group.split('.').all(is_dns_label);
    if kind_valid && group_valid {
        Ok((group.to_owned(), kind.to_owned()))
    } else {
        Err(format!(
            "{text:?} in annotation {} is not KIND or KIND.GROUP",
            keys::APPLYSET_GROUP_KINDS
        ))
    }
}

fn is_dns_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| is_inner(byte) || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use controller::Object;
    use serde_json::json;

    use super::*;

    fn parent(inventory: &Inventory, id: &str) -> Object {
        Object::new(
            json!({"metadata": {"labels": {keys::APPLYSET_ID: id}, "annotations": inventory.annotations(id)}}),
        )
    }

    fn inventory() -> Inventory {
        let mut inventory = Inventory::default();
        inventory.add(
            &GroupKind {
                group: "apps".into(),
                kind: "Deployment".into(),
            },
            Some("default"),
            "default",
        );
        inventory.add(
            &GroupKind {
                group: String::new(),
                kind: "ConfigMap".into(),
            },
            Some("other"),
            "default",
        );
        inventory.add(
            &GroupKind {
                group: String::new(),
                kind: "Namespace".into(),
            },
            None,
            "default",
        );
        inventory
    }

    #[test]
    fn ids_have_the_form_of_the_kep() {
        // sha256("n.ns.K.g") in unpadded URL-safe base64.
        let id = id("n", "ns", "K", "g");
        assert!(id.starts_with("applyset-") && id.ends_with("-v1"));
        assert_eq!(id.len(), "applyset-".len() + 43 + "-v1".len());
    }

    #[test]
    fn what_is_written_is_read() {
        let inventory = inventory();
        let annotations = inventory.annotations("id");
        assert_eq!(
            annotations[keys::APPLYSET_GROUP_KINDS],
            "ConfigMap,Deployment.apps,Namespace"
        );
        assert_eq!(annotations[keys::APPLYSET_NAMESPACES], "other");
        let object = parent(&inventory, "id");
        assert_eq!(Inventory::read(&object, "id").unwrap(), inventory);
        assert_eq!(Inventory::read_lenient(&object), inventory);
        let empty = Inventory::default();
        assert_eq!(Inventory::read(&parent(&empty, "id"), "id").unwrap(), empty);
    }

    #[test]
    fn edits_by_hand_are_noticed() {
        let check = |pointer: &str, value: &str, expect: &str| {
            let mut object = parent(&inventory(), "id").into_value();
            *object.pointer_mut(pointer).unwrap() = value.into();
            let error = Inventory::read(&Object::new(object), "id")
                .unwrap_err()
                .to_string();
            assert!(error.contains(expect), "{error}");
        };
        check(
            "/metadata/labels/applyset.kubernetes.io~1id",
            "x",
            "expected \"id\"",
        );
        check(
            "/metadata/annotations/applyset.kubernetes.io~1tooling",
            "helm/1",
            "expected kro/VERSION",
        );
        check(
            "/metadata/annotations/applyset.kubernetes.io~1contains-group-kinds",
            "A,,B",
            "\"\" in annotation",
        );
        check(
            "/metadata/annotations/applyset.kubernetes.io~1contains-group-kinds",
            "A",
            "does not match",
        );
        check(
            "/metadata/annotations/applyset.kubernetes.io~1additional-namespaces",
            "A_b",
            "not a namespace",
        );
        assert!(Inventory::read(&Object::new(json!({})), "id").is_err());
    }
}
