//! The table of functions every kind fills in, and what holds where it does not.

use model::{FieldError, names, object};
use serde_json::{Map, Value, json};

/// Which names the objects of a kind may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameRule {
    /// A DNS subdomain: most kinds.
    Subdomain,
    /// A DNS label: namespaces.
    Label,
    /// A DNS label that starts with a letter: Services.
    Label1035,
    /// Anything that can stand in a path: RBAC kinds.
    PathSegment,
}

/// How a kind's status is kept apart from the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusRule {
    /// The kind has no status subresource: whoever writes the object writes all of it.
    None,
    /// Only the status subresource writes `status`.
    Separate,
    /// Only the status subresource writes `status`, except that a new object may bring one.
    SeparateOnceCreated,
}

/// Which metadata a write of the status may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetadataOnStatus {
    /// Labels, annotations and the rest, as in any write.
    Changes,
    /// Labels are kept as they were.
    KeepsLabels,
    /// Nothing but `managedFields`.
    Keeps,
}

/// A part of an object that is written by itself, besides `status`.
#[derive(Clone, Copy)]
pub struct Subresource {
    /// Its name in paths.
    pub name: &'static str,
    /// Restores what a write through it may not change; the second argument is the old object.
    pub prepare: fn(&mut Value, &Value),
    /// Checks a write through it against the old object.
    pub validate: fn(&Value, &Value) -> Vec<FieldError>,
}

/// What the API server knows of a kind.
#[derive(Clone, Copy)]
pub struct Behaviour {
    /// Names.
    pub name: NameRule,
    /// Whether `metadata.generation` counts the changes of `spec`.
    pub generation: bool,
    /// Whether it counts changes of labels too.
    pub generation_counts_labels: bool,
    /// Whether it counts changes of annotations too.
    pub generation_counts_annotations: bool,
    /// How `status` is kept.
    pub status: StatusRule,
    /// What a write of the status may do to the metadata.
    pub metadata_on_status: MetadataOnStatus,
    /// Whether a PUT to a name that does not exist creates it.
    pub create_on_update: bool,
    /// Whether an update without a resource version overwrites whatever is there.
    pub unconditional_update: bool,
    /// Whether DELETE answers with the object instead of a `Status`.
    pub delete_returns_object: bool,
    /// Seconds of grace a DELETE gets that asks for these, for kinds that end gracefully.
    pub grace_period_seconds: Option<fn(&Value, Option<i64>) -> i64>,
    /// Fills in what the client left out.
    pub default: fn(&mut Value),
    /// Clears what a create may not set, after the generic part (status, generation).
    pub prepare_create: fn(&mut Value),
    /// Restores what an update may not change; the second argument is the old object.
    pub prepare_update: fn(&mut Value, &Value),
    /// Restores what a status write may not change, after the generic part.
    pub prepare_status: fn(&mut Value, &Value),
    /// Notes times the server itself keeps, after preparation: the object, the old one where there
    /// is one, and now.
    pub stamp: Option<fn(&mut Value, Option<&Value>, &str)>,
    /// What [`Behaviour::reset_fields`] gives where the rule for the status does not say it all.
    pub resets: Option<fn(&str) -> Option<Value>>,
    /// Further parts that are written by themselves.
    pub subresources: &'static [Subresource],
    /// Checks a new object (metadata is checked by the server itself).
    pub validate_create: fn(&Value) -> Vec<FieldError>,
    /// Checks a changed object against the old one.
    pub validate_update: fn(&Value, &Value) -> Vec<FieldError>,
    /// Checks a changed status against the old object.
    pub validate_status: fn(&Value, &Value) -> Vec<FieldError>,
    /// The cells of the object's row, in the order of the kind's columns; `None` where the kind has
    /// only the generic ones (name, created at).
    pub cells: Option<fn(&Value, jiff::Timestamp) -> Vec<Value>>,
    /// Fields besides `metadata.name` and `metadata.namespace` that a field selector may name.
    pub selectable_fields: &'static [&'static str],
}

fn keep(_: &mut Value) {}
fn keep_two(_: &mut Value, _: &Value) {}
fn fine(_: &Value) -> Vec<FieldError> {
    Vec::new()
}
fn fine_two(_: &Value, _: &Value) -> Vec<FieldError> {
    Vec::new()
}

impl Behaviour {
    /// What holds for a kind that says nothing.
    pub const DEFAULT: Self = Self {
        name: NameRule::Subdomain,
        generation: false,
        generation_counts_labels: false,
        generation_counts_annotations: false,
        status: StatusRule::None,
        metadata_on_status: MetadataOnStatus::Changes,
        create_on_update: false,
        unconditional_update: true,
        delete_returns_object: false,
        grace_period_seconds: None,
        default: keep,
        prepare_create: keep,
        prepare_update: keep_two,
        prepare_status: keep_two,
        stamp: None,
        resets: None,
        subresources: &[],
        validate_create: fine,
        validate_update: fine_two,
        validate_status: fine_two,
        cells: None,
        selectable_fields: &[],
    };

    /// Everything that is fixed before a new object is admitted.
    pub fn before_create(&self, object: &mut Value) {
        if self.status == StatusRule::Separate
            && let Some(members) = object.as_object_mut()
        {
            members.remove("status");
        }
        if self.generation {
            object::metadata_mut(object).insert("generation".to_owned(), 1.into());
        }
        (self.prepare_create)(object);
    }

    /// Everything that is fixed before a changed object is admitted.
    pub fn before_update(&self, object: &mut Value, old: &Value) {
        if self.status != StatusRule::None {
            restore(object, old, "status");
        }
        (self.prepare_update)(object, old);
        self.count_change(object, old);
    }

    /// The old generation, one more where what it counts has changed.
    fn count_change(&self, object: &mut Value, old: &Value) {
        let changed =
            self.generation && (spec_differs(object, old) || self.metadata_differs(object, old));
        let generation = object::generation(old) + i64::from(changed);
        let metadata = object::metadata_mut(object);
        metadata.remove("generation");
        if generation != 0 {
            metadata.insert("generation".to_owned(), generation.into());
        }
    }

    fn metadata_differs(&self, object: &Value, old: &Value) -> bool {
        let differs = |name: &str| {
            let at = |object| object::at(object, &["metadata", name]);
            at(object) != at(old)
        };
        (self.generation_counts_labels && differs("labels"))
            || (self.generation_counts_annotations && differs("annotations"))
    }

    /// Everything that is fixed before a write to an object that is there, through a subresource or
    /// (with an empty name) none.
    pub fn before_write(&self, subresource: &str, object: &mut Value, old: &Value) {
        if subresource == "status" {
            return self.before_status(object, old);
        }
        match self.subresource(subresource) {
            Some(own) => {
                (own.prepare)(object, old);
                self.count_change(object, old);
            }
            None => self.before_update(object, old),
        }
    }

    /// Checks a write to an object that is there, through a subresource or (with an empty name) none.
    pub fn check_write(&self, subresource: &str, object: &Value, old: &Value) -> Vec<FieldError> {
        if subresource == "status" {
            return (self.validate_status)(object, old);
        }
        match self.subresource(subresource) {
            Some(own) => (own.validate)(object, old),
            None => (self.validate_update)(object, old),
        }
    }

    fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|own| own.name == name)
    }

    /// Everything that is fixed before a changed status is admitted: all but the status is restored.
    pub fn before_status(&self, object: &mut Value, old: &Value) {
        let names: Vec<String> = object
            .as_object()
            .into_iter()
            .chain(old.as_object())
            .flat_map(Map::keys)
            .filter(|name| !matches!(name.as_str(), "metadata" | "status" | "kind" | "apiVersion"))
            .cloned()
            .collect();
        for name in names {
            restore(object, old, &name);
        }
        let old_metadata = object::metadata(old).cloned().unwrap_or_default();
        let metadata = object::metadata_mut(object);
        let kept: &[&str] = match self.metadata_on_status {
            MetadataOnStatus::Changes => &["generation"],
            MetadataOnStatus::KeepsLabels => &["generation", "labels"],
            MetadataOnStatus::Keeps => {
                let managed = metadata.remove("managedFields");
                let version = metadata.remove("resourceVersion");
                *metadata = old_metadata;
                metadata.remove("managedFields");
                metadata.extend(managed.map(|m| ("managedFields".to_owned(), m)));
                metadata.extend(version.map(|v| ("resourceVersion".to_owned(), v)));
                (self.prepare_status)(object, old);
                return;
            }
        };
        for name in kept {
            match old_metadata.get(*name) {
                Some(value) => metadata.insert((*name).to_owned(), value.clone()),
                None => metadata.remove(*name),
            };
        }
        (self.prepare_status)(object, old);
    }

    /// The fields (in FieldsV1 form) that a write through a subresource, or through none, resets, so
    /// that nobody comes to own them by it.
    pub fn reset_fields(&self, subresource: &str) -> Option<Value> {
        if let Some(resets) = self.resets {
            return resets(subresource);
        }
        let separate = self.status != StatusRule::None;
        match (separate, subresource) {
            (true, "") => Some(json!({"f:status": {}})),
            (true, "status") => Some(match self.metadata_on_status {
                MetadataOnStatus::Keeps => json!({"f:spec": {}, "f:metadata": {}}),
                MetadataOnStatus::KeepsLabels => {
                    json!({"f:spec": {}, "f:metadata": {"f:labels": {}}})
                }
                MetadataOnStatus::Changes => json!({"f:spec": {}}),
            }),
            _ => None,
        }
    }

    /// Checks a name.
    pub fn check_name(&self, name: &str) -> Vec<String> {
        match self.name {
            NameRule::Subdomain => names::dns1123_subdomain(name),
            NameRule::Label => names::dns1123_label(name),
            NameRule::Label1035 => names::dns1035_label(name),
            NameRule::PathSegment => names::path_segment(name),
        }
    }
}

/// Puts a member back to what it was.
fn restore(object: &mut Value, old: &Value, name: &str) {
    if let Some(members) = object.as_object_mut() {
        match old.get(name) {
            Some(value) => members.insert(name.to_owned(), value.clone()),
            None => members.remove(name),
        };
    }
}

/// Whether anything but metadata and status differs.
fn spec_differs(object: &Value, old: &Value) -> bool {
    let counted = |value: &Value| -> Map<String, Value> {
        let skipped = ["metadata", "status", "kind", "apiVersion"];
        value
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, _)| !skipped.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    };
    counted(object) != counted(old)
}
