//! Object types: named fields with types, as schemas declare them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Type;

/// A field of an object type.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its type.
    pub ty: Type,
    /// Whether the schema demands it.
    pub required: bool,
    /// Whether the data may hold `null` for it.
    pub nullable: bool,
    /// The key in the JSON data, where it differs from the field's name in expressions: names that are no CEL
    /// identifiers are escaped.
    pub key: Option<Arc<str>>,
}

/// An object with declared fields.
///
/// ```
/// use cel::{Env, ObjectType, Type};
/// let status = ObjectType::new("Deployment.status").field("availableReplicas", Type::Int);
/// let deployment = ObjectType::new("Deployment").field("status", Type::object(status));
/// let env = Env::standard().extend().variable("deployment", Type::object(deployment)).build()?;
/// assert_eq!(env.compile("deployment.status.availableReplicas")?.result_type(), &Type::Int);
/// let error = env.compile("deployment.status.avail").unwrap_err();
/// assert_eq!(error.issues[0].message, "undefined field 'avail'");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ObjectType {
    name: Arc<str>,
    fields: BTreeMap<Arc<str>, Field>,
    open: Option<Type>,
    /// Whether any field has another key in JSON than its name.
    renamed: bool,
}

impl ObjectType {
    /// An object type without fields.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            fields: BTreeMap::new(),
            open: None,
            renamed: false,
        }
    }

    /// Declares a field.
    pub fn field(self, name: impl Into<Arc<str>>, ty: Type) -> Self {
        self.with_field(
            name,
            Field {
                ty,
                required: false,
                nullable: true,
                key: None,
            },
        )
    }

    /// Declares a field with all its properties.
    pub fn with_field(mut self, name: impl Into<Arc<str>>, field: Field) -> Self {
        self.renamed |= field.key.is_some();
        self.fields.insert(name.into(), field);
        self
    }

    /// Allows undeclared fields; they are `dyn`.
    #[must_use]
    pub fn open(self) -> Self {
        self.open_with(Type::Dyn)
    }

    /// Allows undeclared fields of this type.
    #[must_use]
    pub fn open_with(mut self, ty: Type) -> Self {
        self.open = Some(ty);
        self
    }

    /// The name that identifies the type.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The declared fields by name.
    #[must_use]
    pub fn fields(&self) -> &BTreeMap<Arc<str>, Field> {
        &self.fields
    }

    /// Whether undeclared fields are allowed.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The type of undeclared fields, if allowed.
    #[must_use]
    pub fn additional(&self) -> Option<&Type> {
        self.open.as_ref()
    }

    /// The declared field with this name, or with this key in JSON: what cannot be written as an identifier can be
    /// in backquotes.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Field> {
        match self.fields.get(name) {
            None if self.renamed => self.find_key(name).map(|(_, field)| field),
            found => found,
        }
    }

    /// The type a field has, declared or not; `None` if there is no such field.
    #[must_use]
    pub fn field_type(&self, name: &str) -> Option<&Type> {
        self.find(name)
            .map(|field| &field.ty)
            .or(self.open.as_ref())
    }

    /// The declared field that reads the JSON key `key`.
    #[must_use]
    pub fn find_key(&self, key: &str) -> Option<(&str, &Field)> {
        if let Some((name, field)) = self.fields.get_key_value(key)
            && field.key.is_none()
        {
            return Some((name, field));
        }
        let mut fields = self.fields.iter().filter(|_| self.renamed);
        fields
            .find(|(_, field)| field.key.as_deref() == Some(key))
            .map(|(name, field)| (&**name, field))
    }
}
