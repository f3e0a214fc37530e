//! Names: local variables, variables and types of the environment, qualified names.

use super::{Checker, Resolution};
use crate::ast::{ExprId, ExprKind, Name};
use crate::env::nearest;
use crate::types::Type;

/// Parts of the longest name of a type: `google.protobuf.NullValue.NULL_VALUE`, with room.
const TYPE_PARTS_MAX: usize = 6;

/// `null` as the only value of an enum.
const NULL_VALUE: &str = "google.protobuf.NullValue.NULL_VALUE";

impl Checker<'_> {
    /// Resolves a node that is a name: an identifier always, a selection if the chain is the name of a variable or
    /// type, a call if its receiver belongs to the function's name. True if nothing below has to be checked.
    pub(super) fn resolve_as_name(&mut self, id: ExprId) -> bool {
        let ast = self.ast;
        match &ast.node(id).kind {
            ExprKind::Ident { name, global } => {
                self.resolutions[id.index()] = if !global && self.local(name).is_some() {
                    Resolution::Local
                } else {
                    let qualified = if *global {
                        format!(".{name}").into()
                    } else {
                        Name::clone(name)
                    };
                    self.resolve_global(&qualified)
                };
                true
            }
            ExprKind::Select {
                optional: false, ..
            } => {
                let parts_max = self.env.variable_parts_max().max(TYPE_PARTS_MAX);
                let Some(name) = self.qualified_name(id, parts_max) else {
                    return false;
                };
                let resolution = self.resolve_global(&name);
                let found = !matches!(resolution, Resolution::None);
                self.resolutions[id.index()] = resolution;
                found
            }
            ExprKind::Call {
                function,
                target: Some(target),
                ..
            } => {
                let Some(prefix) = self.qualified_name(*target, TYPE_PARTS_MAX) else {
                    return false;
                };
                let name = format!("{prefix}.{function}");
                let found = self
                    .env
                    .candidates(&name)
                    .iter()
                    .any(|name| self.env.function(name).is_some());
                if found {
                    self.resolutions[id.index()] = Resolution::Function {
                        overloads: Vec::new(),
                        qualified: true,
                    };
                }
                found
            }
            _ => false,
        }
    }

    pub(super) fn local(&self, name: &str) -> Option<&Type> {
        self.scopes
            .iter()
            .rev()
            .find(|(scope, _)| **scope == *name)
            .map(|(_, ty)| ty)
    }

    /// `a.b.c` as a name, unless `a` is a local variable or there are too many parts.
    pub(super) fn qualified_name(&self, id: ExprId, parts_max: usize) -> Option<Name> {
        let mut parts: [&str; 8] = [""; 8];
        let mut count = 0;
        let mut at = id;
        loop {
            if count >= parts_max.min(parts.len()) {
                return None;
            }
            match &self.ast.node(at).kind {
                ExprKind::Select {
                    operand,
                    field,
                    optional: false,
                } => {
                    parts[count] = field;
                    at = *operand;
                }
                ExprKind::Ident { name, global } => {
                    if !global && self.local(name).is_some() {
                        return None;
                    }
                    if count == 0 && !global {
                        return Some(Name::clone(name));
                    }
                    parts[count] = name;
                    parts[..=count].reverse();
                    let joined = parts[..=count].join(".");
                    return Some(if *global {
                        format!(".{joined}").into()
                    } else {
                        joined.into()
                    });
                }
                _ => return None,
            }
            count += 1;
        }
    }

    fn resolve_global(&self, name: &Name) -> Resolution {
        let plain = self.env.container().is_empty() && !name.starts_with('.');
        if plain {
            return self.resolve_candidate(name);
        }
        let candidates = self.env.candidates(name);
        let mut found = candidates
            .iter()
            .map(|candidate| self.resolve_candidate(candidate));
        found
            .find(|resolution| !matches!(resolution, Resolution::None))
            .unwrap_or_default()
    }

    fn resolve_candidate(&self, name: &Name) -> Resolution {
        if self.env.variable(name).is_some() {
            return Resolution::Variable(Name::clone(name));
        }
        if let Some(ty) = self.env.find_type(name) {
            return Resolution::Type(ty);
        }
        if **name == *NULL_VALUE {
            Resolution::Null
        } else {
            Resolution::None
        }
    }

    /// The type of a node that was resolved by name.
    pub(super) fn resolved_type(&mut self, id: ExprId) -> Type {
        match &self.resolutions[id.index()] {
            Resolution::Variable(name) => self.env.variable(name).cloned().unwrap_or_default(),
            Resolution::Type(ty) => Type::type_of(ty.clone()),
            Resolution::Null => Type::Null,
            Resolution::Local => {
                let ExprKind::Ident { name, .. } = &self.ast.node(id).kind else {
                    return Type::Dyn;
                };
                self.local(name).cloned().unwrap_or_default()
            }
            _ => {
                let ExprKind::Ident { name, .. } = &self.ast.node(id).kind else {
                    return Type::Dyn;
                };
                let name = Name::clone(name);
                self.undeclared(id, &name, false)
            }
        }
    }

    /// Reports a name that nothing has.
    pub(super) fn undeclared(&mut self, id: ExprId, name: &str, function: bool) -> Type {
        let message = format!(
            "undeclared reference to '{name}' (in container '{}')",
            self.env.container()
        );
        let near = if function {
            nearest(
                name,
                self.env.function_names().chain(self.env.macro_names()),
            )
        } else {
            let locals = self.scopes.iter().map(|(name, _)| &**name);
            nearest(
                name,
                locals.chain(self.env.variables().map(|(name, _)| &**name)),
            )
        };
        let hint = near.map(|near| format!("did you mean '{near}'?"));
        self.issue(id, message, hint)
    }
}
