//! What the objects of a resource should look like.

use std::collections::BTreeSet;

use cel::Type;
use controller::ObjectKey;
use serde_json::{Map, Value};

use super::branches::Failures;
use super::edits::Edits;
use super::{Binding, Pass, Step};
use crate::build::{FieldValue, Node, NodeKind, TextPart};
use crate::expression::{EvalFailure, Evaluated};
use crate::template::{FieldPath, Step as PathStep};

/// Why objects cannot be made.
pub(super) enum DesiredError {
    /// An expression has no value.
    Eval(EvalFailure),
    /// The values make no object.
    Other(String),
}

impl From<EvalFailure> for DesiredError {
    fn from(failure: EvalFailure) -> Self {
        Self::Eval(failure)
    }
}

impl Pass<'_> {
    /// The objects a resource stands for; in the order of the expansion for collections.
    pub(super) fn desired(&self, node: &Node) -> Result<Vec<Value>, DesiredError> {
        let unsettled = self.unsettled(&node.branch_dependencies);
        if !node.kind.is_repeated() {
            return Ok(vec![self.object(node, &unsettled)?]);
        }
        let mut identities = BTreeSet::new();
        self.expand(node, &unsettled, |variables| {
            let object = self.object(node, variables)?;
            let key = key_of(&object);
            if identities.insert(key.clone()) {
                return Ok(object);
            }
            let message = format!(
                "resource \"{}\": two items of the collection have the same identity: {} {key}",
                node.id, node.resource.kind
            );
            Err(DesiredError::Other(message))
        })
    }

    /// Makes something of every combination of the iterators' values, which join the variables `given`.
    pub(super) fn expand<T>(
        &self,
        node: &Node,
        given: &[Binding<'_>],
        mut make: impl FnMut(&[Binding<'_>]) -> Result<T, DesiredError>,
    ) -> Result<Vec<T>, DesiredError> {
        let dimensions = self.dimensions(node, given)?;
        let types: Vec<Type> = node
            .for_each
            .iter()
            .map(|iterator| {
                iterator
                    .list
                    .result_type()
                    .element()
                    .cloned()
                    .unwrap_or(Type::Dyn)
            })
            .collect();
        let total = dimensions
            .iter()
            .map(Vec::len)
            .try_fold(1_usize, usize::checked_mul);
        let limit = self.options.max_collection_size;
        let total = match total {
            Some(total) if total <= limit => total,
            total => {
                let total = total.map_or_else(|| "too many".to_owned(), |total| total.to_string());
                let message = format!(
                    "resource \"{}\": collection size {total} exceeds maximum {limit}",
                    node.id
                );
                return Err(DesiredError::Other(message));
            }
        };
        let mut made = Vec::with_capacity(total);
        for number in 0..total {
            // The first dimension is the outermost loop.
            let mut rest = number;
            let mut chosen: Vec<usize> = dimensions
                .iter()
                .rev()
                .map(|values| {
                    let index = rest % values.len();
                    rest /= values.len();
                    index
                })
                .collect();
            chosen.reverse();
            let iterators = chosen.iter().enumerate().map(|(dimension, index)| {
                let name = node.for_each[dimension].name.as_str();
                Binding::typed(name, &dimensions[dimension][*index], &types[dimension])
            });
            let variables: Vec<Binding<'_>> = given.iter().copied().chain(iterators).collect();
            made.push(make(&variables)?);
        }
        Ok(made)
    }

    pub(super) fn dimensions(
        &self,
        node: &Node,
        given: &[Binding<'_>],
    ) -> Result<Vec<Vec<Value>>, DesiredError> {
        let evaluate =
            |iterator: &crate::build::Iterator| match self.evaluate(&iterator.list, given)? {
                Evaluated::Value(Value::Array(values)) => Ok(values),
                Evaluated::Value(Value::Null) => Ok(Vec::new()),
                other => Err(DesiredError::Other(format!(
                    "resource \"{}\": forEach iterator \"{}\" must return a list, got {other:?}",
                    node.id, iterator.name
                ))),
            };
        node.for_each.iter().map(evaluate).collect()
    }

    fn object(&self, node: &Node, variables: &[Binding<'_>]) -> Result<Value, DesiredError> {
        let mut object = self.resolve(node, variables)?;
        let name = object
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if name.is_empty() {
            let message = format!("resource \"{}\": metadata.name is empty", node.id);
            return Err(DesiredError::Other(message));
        }
        if node.resource.namespaced {
            self.place(node, &mut object)?;
        }
        Ok(object)
    }

    fn place(&self, node: &Node, object: &mut Value) -> Result<(), DesiredError> {
        let own = object
            .pointer("/metadata/namespace")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if !own.is_empty() {
            return Ok(());
        }
        let Some(namespace) = &self.instance_namespace else {
            let message = format!(
                "resource \"{}\": metadata.namespace is empty, but the instance is cluster-scoped and has none to inherit",
                node.id
            );
            return Err(DesiredError::Other(message));
        };
        object["metadata"]["namespace"] = namespace.as_str().into();
        Ok(())
    }

    /// The template with the values of its expressions.
    pub(super) fn resolve(
        &self,
        node: &Node,
        variables: &[Binding<'_>],
    ) -> Result<Value, EvalFailure> {
        let mut object = node.template.clone();
        let mut edits = Edits::default();
        let mut failures = Failures::default();
        for field in &node.fields {
            let value = if field.is_deferred {
                self.field_value(&field.value, &self.with_absent(node, variables))
            } else {
                self.field_value(&field.value, variables)
            };
            let value = match value {
                Err(EvalFailure::Pending { .. } | EvalFailure::Unsettled { .. })
                    if field.is_deferred =>
                {
                    edits.remove(&field.path);
                    continue;
                }
                Err(failure) => {
                    failures.add(self, failure)?;
                    continue;
                }
                Ok(value) => value,
            };
            match value {
                // Variables know no null: an empty optional is no field.
                Evaluated::Value(Value::Null) if node.kind.is_variable() => {
                    edits.remove(&field.path);
                }
                Evaluated::Value(value) => {
                    if let Some(place) = place_mut(&mut object, &field.path) {
                        *place = value;
                    }
                }
                Evaluated::Omit => edits.remove(&field.path),
            }
        }
        for key in &node.keys {
            match self.field_value(&key.value, variables) {
                Ok(value) => edits.rename(key, value)?,
                Err(failure) => failures.add(self, failure)?,
            }
        }
        failures.first()?;
        edits.carry_out(&mut object)?;
        Ok(object)
    }

    pub(super) fn field_value(
        &self,
        value: &FieldValue,
        variables: &[Binding<'_>],
    ) -> Result<Evaluated, EvalFailure> {
        let parts = match value {
            FieldValue::Expression(expression) => return self.evaluate(expression, variables),
            FieldValue::Text(parts) => parts,
        };
        let mut text = String::new();
        for part in parts {
            match part {
                TextPart::Literal(literal) => text.push_str(literal),
                TextPart::Expression(expression) => match self.evaluate(expression, variables)? {
                    Evaluated::Value(Value::String(value)) => text.push_str(&value),
                    other => {
                        let found = match &other {
                            Evaluated::Value(value) => crate::simple_schema::json_kind(value),
                            Evaluated::Omit => "omit()",
                        };
                        return Err(EvalFailure::Failed {
                            source_text: expression.source().to_owned(),
                            message: format!(
                                "expected a string (there is text around it), got {found}"
                            ),
                        });
                    }
                },
            }
        }
        Ok(Evaluated::Value(Value::String(text)))
    }

    /// What an external reference looks for.
    pub(super) fn external(&self, node: &Node) -> Step {
        let unsettled = self.unsettled(&node.branch_dependencies);
        let object = match self.resolve(node, &unsettled) {
            Ok(object) => object,
            Err(failure) => return self.give_up(node, "externalRef", &failure),
        };
        let text = |pointer: &str| {
            object
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let namespace = text("/metadata/namespace");
        if node.kind == NodeKind::External {
            let namespace = match (node.resource.namespaced, namespace.is_empty()) {
                (false, _) => "",
                (true, false) => namespace,
                (true, true) => self.instance_namespace.as_deref().unwrap_or_default(),
            };
            return Step::Read(ObjectKey::new(namespace, text("/metadata/name")));
        }
        let selector = &object["metadata"]["selector"];
        match model::LabelSelector::from_object(Some(selector)) {
            Ok(parsed) => Step::List {
                namespace: Some(namespace.to_owned()).filter(|namespace| !namespace.is_empty()),
                selector: if parsed.is_everything() {
                    String::new()
                } else {
                    parsed.to_string()
                },
            },
            Err(error) => Step::Fail(format!(
                "resource \"{}\": externalRef.metadata.selector: {error}",
                node.id
            )),
        }
    }
}

fn key_of(object: &Value) -> ObjectKey {
    let text = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    ObjectKey::new(text("/metadata/namespace"), text("/metadata/name"))
}

fn place_mut<'a>(object: &'a mut Value, path: &FieldPath) -> Option<&'a mut Value> {
    path.steps()
        .iter()
        .try_fold(object, |value, step| match step {
            PathStep::Field(name) => value.get_mut(name),
            PathStep::Index(index) => value.get_mut(index),
        })
}

/// Puts a value where a path says, making maps and lists on the way.
pub(super) fn upsert(root: &mut Value, path: &[PathStep], value: Value) {
    let Some((first, rest)) = path.split_first() else {
        *root = value;
        return;
    };
    match first {
        PathStep::Field(name) => {
            if !root.is_object() {
                *root = Value::Object(Map::new());
            }
            upsert(&mut root[name.as_str()], rest, value);
        }
        PathStep::Index(index) => {
            if !root.is_array() {
                *root = Value::Array(Vec::new());
            }
            if let Some(items) = root.as_array_mut() {
                // Elements before it that have no value yet are left out rather than null.
                let at = (*index).min(items.len());
                if at == items.len() {
                    items.push(Value::Null);
                }
                upsert(&mut items[at], rest, value);
            }
        }
    }
}
