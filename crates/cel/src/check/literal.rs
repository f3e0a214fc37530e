//! List, map and struct literals.

use super::{Checker, Resolution};
use crate::ast::{ExprId, FieldItem, ListItem, MapItem, Name};
use crate::env::nearest;
use crate::error::Issue;
use crate::library::well_known;
use crate::types::Type;

impl Checker<'_> {
    pub(super) fn check_list(&mut self, items: &[ListItem]) -> Type {
        let mut element = None;
        for item in items {
            let ty = self.check(item.value);
            let ty = if item.optional {
                self.optional_content(item.value, &ty)
            } else {
                ty
            };
            element = Some(self.join(element, ty));
        }
        Type::list(element.unwrap_or_else(|| self.substitution.fresh()))
    }

    pub(super) fn check_map(&mut self, items: &[MapItem]) -> Type {
        let (mut key, mut value) = (None, None);
        for item in items {
            let key_type = self.check(item.key);
            key = Some(self.join(key, key_type));
            let ty = self.check(item.value);
            let ty = if item.optional {
                self.optional_content(item.value, &ty)
            } else {
                ty
            };
            value = Some(self.join(value, ty));
        }
        let key = key.unwrap_or_else(|| self.substitution.fresh());
        let value = value.unwrap_or_else(|| self.substitution.fresh());
        Type::map(key, value)
    }

    pub(super) fn check_struct(&mut self, id: ExprId, name: &Name, fields: &[FieldItem]) -> Type {
        let candidates = self.env.candidates(name);
        let found = candidates.iter().find_map(|candidate| {
            well_known::message_type(candidate)
                .map(|ty| (ty, true, Name::clone(candidate)))
                .or_else(|| {
                    self.env
                        .find_type(candidate)
                        .map(|ty| (ty, false, Name::clone(candidate)))
                })
        });
        let Some((ty, is_well_known, full_name)) = found else {
            for field in fields {
                self.check(field.value);
            }
            return self.undeclared(id, name, false);
        };
        for field in fields {
            let value = self.check(field.value);
            let value = if field.optional {
                self.optional_content(field.value, &value)
            } else {
                value
            };
            let expected = if is_well_known {
                well_known::field_type(&full_name, &field.field)
            } else {
                match &ty {
                    Type::Object(object) => object.field_type(&field.field).cloned(),
                    other => {
                        return self.issue(id, format!("'{other}' is not a message type"), None);
                    }
                }
            };
            self.check_field(&ty, field, expected, &value);
        }
        let resolved = if is_well_known {
            Type::opaque(&full_name)
        } else {
            ty.clone()
        };
        self.resolutions[id.index()] = Resolution::Struct(resolved);
        ty
    }

    fn check_field(&mut self, ty: &Type, field: &FieldItem, expected: Option<Type>, value: &Type) {
        let Some(expected) = expected else {
            let near = ty
                .as_object()
                .and_then(|object| nearest(&field.field, object.fields().keys().map(|n| &**n)));
            let hint = near.map(|near| format!("did you mean '{near}'?"));
            self.report(
                Issue::new(field.span, format!("undefined field '{}'", field.field))
                    .with_hint(hint),
            );
            return;
        };
        if !self.substitution.is_assignable(value, &expected) {
            let message = format!(
                "expected type of field '{}' is '{expected}' but provided type is '{}'",
                field.field,
                self.shown(value)
            );
            self.report(Issue::new(field.span, message));
        }
    }

    /// What an optional entry holds: `?` takes optionals only.
    fn optional_content(&mut self, id: ExprId, ty: &Type) -> Type {
        match self.substitution.resolve(ty, false) {
            Type::Optional(inner) => (*inner).clone(),
            Type::Dyn | Type::Any | Type::Error | Type::Variable(_) => Type::Dyn,
            other => {
                let message = format!("expected type 'optional_type({other})' but found '{other}'");
                self.issue(
                    id,
                    message,
                    Some("'?' in front of an entry takes an optional".to_owned()),
                )
            }
        }
    }
}
