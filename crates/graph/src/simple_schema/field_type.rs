//! The type half of a field: `string`, `[]integer`, `map[string][]Name`.

use super::NESTING_LIMIT;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FieldType {
    /// A type of OpenAPI that needs nothing else.
    Atomic(&'static str),
    /// Any object.
    Object,
    /// A list of elements.
    List(Box<FieldType>),
    /// A map from strings.
    Map(Box<FieldType>),
    /// A type that `types` names; not known to exist yet.
    Custom(String),
}

impl FieldType {
    /// What can be written without declaring it.
    pub const NAMES: [&'static str; 5] = ["string", "integer", "boolean", "float", "object"];

    pub fn parse(text: &str) -> Result<Self, String> {
        Self::parse_nested(text, 0)
    }

    fn parse_nested(text: &str, depth: usize) -> Result<Self, String> {
        if depth > NESTING_LIMIT {
            return Err(format!("type nested deeper than {NESTING_LIMIT} levels"));
        }
        let text = text.trim();
        if text.is_empty() {
            return Err("empty type".to_owned());
        }
        if let Some(element) = text.strip_prefix("[]") {
            if element.trim().is_empty() {
                return Err("empty slice element type".to_owned());
            }
            return Ok(Self::List(Box::new(Self::parse_nested(
                element,
                depth + 1,
            )?)));
        }
        if let Some(rest) = text.strip_prefix("map[") {
            let Some((key, value)) = rest.split_once(']') else {
                return Err(format!(
                    "invalid map type {text:?}: expected map[string]TYPE"
                ));
            };
            if key != "string" {
                return Err(format!("map key must be string, got {key:?}"));
            }
            if value.trim().is_empty() {
                return Err("map value type is required".to_owned());
            }
            return Ok(Self::Map(Box::new(Self::parse_nested(value, depth + 1)?)));
        }
        Ok(match text {
            "string" => Self::Atomic("string"),
            "integer" => Self::Atomic("integer"),
            "boolean" => Self::Atomic("boolean"),
            "float" => Self::Atomic("number"),
            "object" => Self::Object,
            name => Self::Custom(name.to_owned()),
        })
    }

    /// The custom type this one is made of, if any.
    pub fn custom_name(&self) -> Option<&str> {
        match self {
            Self::Custom(name) => Some(name),
            Self::List(inner) | Self::Map(inner) => inner.custom_name(),
            Self::Atomic(_) | Self::Object => None,
        }
    }
}
