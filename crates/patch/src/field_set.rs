//! Sets of paths, and their form in `managedFields`.
//!
//! A set is a tree: at each level, which steps end a path that belongs to the set, and the subtrees
//! of longer paths. A path may be in the set without what lies below it, and the other way round.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::path::PathElement;

/// No set nests deeper; what does is no set of any real object's fields.
const MAX_DEPTH: usize = 256;

/// A set of paths into an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSet {
    pub(crate) members: BTreeSet<PathElement>,
    pub(crate) children: BTreeMap<PathElement, FieldSet>,
}

impl FieldSet {
    /// The empty set.
    pub const fn new() -> Self {
        Self {
            members: BTreeSet::new(),
            children: BTreeMap::new(),
        }
    }

    /// A set of paths of member names: `["metadata.name", "status"]`.
    pub fn of_fields(paths: &[&str]) -> Self {
        let mut set = Self::new();
        for path in paths {
            let steps: Vec<_> = path
                .split('.')
                .map(|name| PathElement::Field(name.to_owned()))
                .collect();
            set.insert(&steps);
        }
        set
    }

    /// Reads a `fieldsV1`; `None` when it is none.
    pub fn parse(fields: &Value) -> Option<Self> {
        Self::parse_level(fields, 0).map(|(set, _)| set)
    }

    /// The set below a step, and whether the step itself is a member.
    fn parse_level(fields: &Value, depth: usize) -> Option<(Self, bool)> {
        let fields = fields.as_object().filter(|_| depth <= MAX_DEPTH)?;
        let mut set = Self::new();
        let mut is_member = fields.is_empty();
        for (name, below) in fields {
            if name == "." {
                is_member = true;
                continue;
            }
            let step = PathElement::parse(name)?;
            let (children, child_is_member) = Self::parse_level(below, depth + 1)?;
            if child_is_member {
                set.members.insert(step.clone());
            }
            if !children.is_empty() {
                set.children.insert(step, children);
            }
        }
        Some((set, is_member))
    }

    /// The set as a `fieldsV1`.
    pub fn to_value(&self) -> Value {
        let mut fields = Map::new();
        for (step, children) in &self.children {
            let mut below = children.to_value();
            if let Some(below) = below
                .as_object_mut()
                .filter(|_| self.members.contains(step))
            {
                below.insert(".".to_owned(), Value::Object(Map::new()));
            }
            fields.insert(step.encode(), below);
        }
        for step in self
            .members
            .iter()
            .filter(|step| !self.children.contains_key(*step))
        {
            fields.insert(step.encode(), Value::Object(Map::new()));
        }
        Value::Object(fields)
    }

    /// Whether there is no path in the set.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.values().all(Self::is_empty)
    }

    /// Adds a path.
    pub fn insert(&mut self, path: &[PathElement]) {
        match path {
            [] => {}
            [last] => {
                self.members.insert(last.clone());
            }
            [first, rest @ ..] => self.children.entry(first.clone()).or_default().insert(rest),
        }
    }

    /// Whether exactly this path is in the set.
    pub fn has(&self, path: &[PathElement]) -> bool {
        match path {
            [] => false,
            [last] => self.members.contains(last),
            [first, rest @ ..] => self.children.get(first).is_some_and(|set| set.has(rest)),
        }
    }

    /// Puts a subtree below a step; an empty one leaves no trace.
    pub(crate) fn put(&mut self, step: PathElement, is_member: bool, below: Self) {
        if is_member {
            self.members.insert(step.clone());
        }
        if !below.is_empty() {
            self.children.insert(step, below);
        }
    }

    /// Some step the set begins with.
    pub(crate) fn first_step(&self) -> Option<&PathElement> {
        self.members.first().or_else(|| self.children.keys().next())
    }

    /// The paths in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut set = self.clone();
        set.extend(other);
        set
    }

    fn extend(&mut self, other: &Self) {
        self.members.extend(other.members.iter().cloned());
        for (step, below) in &other.children {
            self.children.entry(step.clone()).or_default().extend(below);
        }
    }

    /// The paths in either set, without copying any.
    pub(crate) fn joined(mut self, other: Self) -> Self {
        if self.is_empty() {
            return other;
        }
        self.members.extend(other.members);
        for (step, below) in other.children {
            let mine = self.children.entry(step).or_default();
            *mine = std::mem::take(mine).joined(below);
        }
        self
    }

    /// Takes out the paths that are in the other set.
    pub(crate) fn subtract(&mut self, other: &Self) {
        for step in &other.members {
            self.members.remove(step);
        }
        for (step, other) in &other.children {
            if let Some(below) = self.children.get_mut(step) {
                below.subtract(other);
                if below.is_empty() {
                    self.children.remove(step);
                }
            }
        }
    }

    /// Takes out the paths that are in the other set or below one of its paths.
    pub(crate) fn subtract_recursively(&mut self, other: &Self) {
        for step in &other.members {
            self.members.remove(step);
            self.children.remove(step);
        }
        for (step, other) in &other.children {
            if let Some(below) = self.children.get_mut(step) {
                below.subtract_recursively(other);
                if below.is_empty() {
                    self.children.remove(step);
                }
            }
        }
    }

    /// The paths in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let members = self.members.intersection(&other.members).cloned().collect();
        let mut set = Self {
            members,
            children: BTreeMap::new(),
        };
        for (step, below) in &self.children {
            if let Some(other) = other.children.get(step) {
                set.put(step.clone(), false, below.intersection(other));
            }
        }
        set
    }

    /// The paths of this set that are not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let mut set = self.clone();
        set.subtract(other);
        set
    }

    /// The paths of this set that are neither in the other nor below a path of it.
    #[must_use]
    pub fn recursive_difference(&self, other: &Self) -> Self {
        let mut set = self.clone();
        set.subtract_recursively(other);
        set
    }

    /// Calls `visit` with every path: at each level first those that end there.
    pub fn for_each(&self, visit: &mut dyn FnMut(&[PathElement])) {
        self.for_each_below(&mut Vec::new(), visit);
    }

    fn for_each_below(&self, path: &mut Vec<PathElement>, visit: &mut dyn FnMut(&[PathElement])) {
        for step in &self.members {
            path.push(step.clone());
            visit(path);
            path.pop();
        }
        for (step, below) in &self.children {
            path.push(step.clone());
            below.for_each_below(path, visit);
            path.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_v1_round_trips() {
        let check = |fields: Value| {
            let set = FieldSet::parse(&fields).expect("valid");
            assert_eq!(set.to_value(), fields);
        };
        check(json!({"f:data": {".": {}, "f:a": {}}, "f:metadata": {"f:labels": {"f:l": {}}}}));
        check(
            json!({"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:image": {}}},
            "f:finalizers": {"v:\"x\"": {}}, "f:list": {"i:0": {}}}}),
        );
        assert_eq!(FieldSet::parse(&json!({"x": {}})), None);
        assert_eq!(FieldSet::parse(&json!({"f:a": 1})), None);
    }

    #[test]
    fn whole_subtrees_are_excluded_recursively() {
        let set =
            FieldSet::parse(&json!({"f:status": {".": {}, "f:x": {}}, "f:spec": {"f:y": {}}}))
                .expect("valid");
        let rest = set.recursive_difference(&FieldSet::of_fields(&["status"]));
        assert_eq!(rest.to_value(), json!({"f:spec": {"f:y": {}}}));
    }

    fn path() -> impl Strategy<Value = Vec<PathElement>> {
        let step = prop_oneof![
            "[a-c]".prop_map(PathElement::Field),
            "[a-c]".prop_map(|name| PathElement::Key(vec![("name".to_owned(), Value::from(name))])),
            (0..3_i64).prop_map(|value| PathElement::Value(Value::from(value))),
        ];
        proptest::collection::vec(step, 1..4)
    }

    fn set() -> impl Strategy<Value = FieldSet> {
        proptest::collection::vec(path(), 0..12).prop_map(|paths| {
            let mut set = FieldSet::new();
            for path in &paths {
                set.insert(path);
            }
            set
        })
    }

    proptest! {
        #[test]
        fn sets_obey_the_algebra(one in set(), other in set(), path in path()) {
            let (has, other_has) = (one.has(&path), other.has(&path));
            prop_assert_eq!(one.union(&other).has(&path), has || other_has);
            prop_assert_eq!(one.intersection(&other).has(&path), has && other_has);
            prop_assert_eq!(one.difference(&other).has(&path), has && !other_has);
            let whole = one.difference(&other).union(&one.intersection(&other));
            prop_assert_eq!(&whole, &one);
        }

        #[test]
        fn every_set_survives_encoding(one in set()) {
            prop_assert_eq!(FieldSet::parse(&one.to_value()), Some(one));
        }
    }
}
