//! Activations: the values of variables for one evaluation.

use serde_json::Value as Json;

use crate::error::EvalError;
use crate::types::Type;
use crate::unknown::AttributePattern;
use crate::value::Value;

/// The values of variables. Data is borrowed, never converted.
///
/// ```
/// use cel::{Activation, Env, Type, Value};
/// let env = Env::standard().extend().variable("self", Type::Dyn).build()?;
/// let program = env.compile("self.spec.replicas >= 1")?;
/// let object = serde_json::json!({"spec": {"replicas": 3}});
/// let mut activation = Activation::new();
/// activation.bind_json("self", &object);
/// assert_eq!(program.eval(&activation)?, Value::Bool(true));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Activation<'a> {
    bindings: Vec<(&'a str, Binding<'a>)>,
    unknowns: Vec<AttributePattern>,
    parent: Option<&'a Activation<'a>>,
}

/// What a variable is bound to.
#[derive(Clone, Debug)]
pub(crate) enum Binding<'a> {
    Value(Value<'a>),
    Json(&'a Json),
    Typed(&'a Json, &'a Type),
}

impl<'a> Activation<'a> {
    /// No variables.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// No variables of its own; what it does not bind is looked up in `parent`.
    #[must_use]
    pub fn with_parent(parent: &'a Activation<'a>) -> Self {
        Self {
            parent: Some(parent),
            ..Self::default()
        }
    }

    /// Binds a variable to a value.
    pub fn bind(&mut self, name: &'a str, value: Value<'a>) -> &mut Self {
        self.insert(name, Binding::Value(value))
    }

    /// Binds a variable to JSON data as it is: strings stay strings, whatever a schema says.
    pub fn bind_json(&mut self, name: &'a str, json: &'a Json) -> &mut Self {
        self.insert(name, Binding::Json(json))
    }

    /// Binds a variable to JSON data that follows a declared type: what is declared as bytes, timestamp or
    /// duration is decoded when read, and data of a wrong type is an error.
    pub fn bind_typed(&mut self, name: &'a str, json: &'a Json, ty: &'a Type) -> &mut Self {
        self.insert(name, Binding::Typed(json, ty))
    }

    /// Declares a variable or a part of it unknown.
    pub fn unknown(&mut self, pattern: AttributePattern) -> &mut Self {
        self.unknowns.push(pattern);
        self
    }

    fn insert(&mut self, name: &'a str, binding: Binding<'a>) -> &mut Self {
        match self.bindings.iter_mut().find(|(bound, _)| *bound == name) {
            Some((_, old)) => *old = binding,
            None => self.bindings.push((name, binding)),
        }
        self
    }

    /// The value of a variable.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Result<Value<'a>, EvalError>> {
        self.find(name).map(|binding| match binding {
            Binding::Value(value) => Ok(value.clone()),
            Binding::Json(json) => Ok(Value::from_json(json)),
            Binding::Typed(json, ty) => Value::from_typed(json, ty),
        })
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Binding<'a>> {
        let mut activation = self;
        loop {
            if let Some((_, binding)) = activation.bindings.iter().find(|(bound, _)| *bound == name)
            {
                return Some(binding);
            }
            activation = activation.parent?;
        }
    }

    /// Whether anything is declared unknown, here or in a parent.
    pub(crate) fn has_unknowns(&self) -> bool {
        !self.unknowns.is_empty() || self.parent.is_some_and(Activation::has_unknowns)
    }

    pub(crate) fn unknown_patterns(&self) -> impl Iterator<Item = &AttributePattern> {
        std::iter::successors(Some(self), |activation| activation.parent)
            .flat_map(|activation| &activation.unknowns)
    }
}
