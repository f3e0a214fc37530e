//! Fields, indexes and optionals.

use super::Checker;
use crate::ast::ExprId;
use crate::env::nearest;
use crate::types::Type;

impl Checker<'_> {
    /// The type of `operand.field`.
    pub(super) fn check_select(
        &mut self,
        id: ExprId,
        operand: ExprId,
        field: &str,
        optional: bool,
    ) -> Type {
        let operand_type = self.type_of(operand);
        let (inner, was_optional) = match &operand_type {
            Type::Optional(inner) => (self.substitution.resolve(inner, false), true),
            _ => (operand_type, false),
        };
        let ty = self.field_type(id, &inner, field);
        if (optional || was_optional) && !matches!(ty, Type::Optional(_) | Type::Error) {
            Type::optional(ty)
        } else {
            ty
        }
    }

    fn field_type(&mut self, id: ExprId, ty: &Type, field: &str) -> Type {
        match ty {
            Type::Dyn | Type::Any | Type::Error => Type::Dyn,
            Type::Variable(_) => {
                // Nothing may later decide that the operand is something else.
                self.substitution.is_assignable(&Type::Dyn, ty);
                Type::Dyn
            }
            Type::Map(map) => map.value.clone(),
            Type::Object(object) => {
                if let Some(ty) = object.field_type(field) {
                    ty.clone()
                } else {
                    let near = nearest(field, object.fields().keys().map(|name| &**name));
                    let hint = match near {
                        Some(near) => format!("did you mean '{near}'?"),
                        None => fields_hint(object),
                    };
                    self.issue(id, format!("undefined field '{field}'"), Some(hint))
                }
            }
            other => {
                let hint = match other {
                    Type::List(_) => Some(
                        "lists are read by position, or element by element with map() and filter()"
                            .to_owned(),
                    ),
                    _ => None,
                };
                self.issue(
                    id,
                    format!("type '{other}' does not support field selection"),
                    hint,
                )
            }
        }
    }

    /// The type of `operand[index]`.
    pub(super) fn check_index(
        &mut self,
        id: ExprId,
        operand: ExprId,
        index: &Type,
        optional: bool,
    ) -> Type {
        let operand_type = self.type_of(operand);
        let (inner, was_optional) = match &operand_type {
            Type::Optional(inner) => (self.substitution.resolve(inner, false), true),
            other => (other.clone(), false),
        };
        let element = match &inner {
            Type::Dyn | Type::Any | Type::Error => Some(Type::Dyn),
            Type::Variable(_) => {
                self.substitution.is_assignable(&Type::Dyn, &inner);
                Some(Type::Dyn)
            }
            Type::List(list) => self
                .substitution
                .is_assignable(index, &Type::Int)
                .then(|| list.element.clone()),
            Type::Map(map) => self
                .substitution
                .is_assignable(index, &map.key)
                .then(|| map.value.clone()),
            _ => None,
        };
        match element {
            Some(element) if optional || was_optional => Type::optional(element),
            Some(element) => element,
            None => {
                let message = format!(
                    "found no matching overload for '_[_]' applied to '({}, {})'",
                    self.shown(&operand_type),
                    self.shown(index)
                );
                self.issue(id, message, None)
            }
        }
    }
}

/// Names some fields of a type, for a field that is near none of them.
fn fields_hint(object: &crate::types::ObjectType) -> String {
    const NAMES_MAX: usize = 8;
    let names: Vec<&str> = object
        .fields()
        .keys()
        .take(NAMES_MAX)
        .map(|name| &**name)
        .collect();
    let more = if object.fields().len() > NAMES_MAX {
        ", ..."
    } else {
        ""
    };
    if names.is_empty() {
        return format!("'{}' has no fields", object.name());
    }
    format!("'{}' has {}{more}", object.name(), names.join(", "))
}
