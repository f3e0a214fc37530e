//! Calls: overload resolution.

use std::sync::Arc;

use super::{Checker, Resolution};
use crate::ast::{ExprId, Name};
use crate::env::{Function, Overload};
use crate::types::{ListType, MapType, OpaqueType, Type};

impl Checker<'_> {
    pub(super) fn check_call(
        &mut self,
        id: ExprId,
        name: &Name,
        target: Option<ExprId>,
        arguments: &[ExprId],
    ) -> Type {
        let qualified = matches!(
            &self.resolutions[id.index()],
            Resolution::Function {
                qualified: true,
                ..
            }
        );
        let receiver = target.filter(|_| !qualified);
        let mut types = Vec::with_capacity(arguments.len() + 1);
        if let Some(receiver) = receiver {
            types.push(self.type_of(receiver));
        }
        for argument in arguments {
            types.push(self.check(*argument));
        }
        let full_name = match target {
            Some(target) if qualified => {
                let prefix = self.qualified_name(target, usize::MAX).unwrap_or_default();
                Name::from(format!("{prefix}.{name}"))
            }
            _ => Name::clone(name),
        };
        let Some(function) = self.find_function(&full_name) else {
            return self.undeclared(id, &full_name, true);
        };
        let (overloads, result) = self.resolve_overloads(&function, &types, receiver.is_some());
        let Some(result) = result else {
            return self.no_matching_overload(id, &function, &types, receiver.is_some());
        };
        self.resolutions[id.index()] = Resolution::Function {
            overloads,
            qualified,
        };
        result
    }

    fn find_function(&self, name: &str) -> Option<Arc<Function>> {
        if self.env.container().is_empty() && !name.starts_with('.') {
            return self.env.function_arc(name).cloned();
        }
        self.env
            .candidates(name)
            .iter()
            .find_map(|name| self.env.function_arc(name).cloned())
    }

    /// The overloads that take arguments of these types, and the type of their results: the common one, or `dyn`.
    fn resolve_overloads(
        &mut self,
        function: &Function,
        types: &[Type],
        member: bool,
    ) -> (Vec<Arc<Overload>>, Option<Type>) {
        let mut fitting = Vec::new();
        let mut result: Option<Type> = None;
        for overload in &function.overloads {
            if overload.member != member || overload.parameters.len() != types.len() {
                continue;
            }
            let variables: Vec<Type> = (0..overload.type_parameters)
                .map(|_| self.substitution.fresh())
                .collect();
            let fits = self.substitution.attempt(|substitution| {
                types
                    .iter()
                    .zip(&overload.parameters)
                    .all(|(ty, parameter)| {
                        if variables.is_empty() {
                            substitution.is_assignable(ty, parameter)
                        } else {
                            substitution.is_assignable(ty, &instantiate(parameter, &variables))
                        }
                    })
            });
            if !fits {
                continue;
            }
            let ty = if variables.is_empty() {
                overload.result.clone()
            } else {
                self.substitution
                    .resolve(&instantiate(&overload.result, &variables), false)
            };
            fitting.push(Arc::clone(overload));
            result = Some(match result {
                None => ty,
                Some(previous) if previous.is_dyn() || previous.is_exactly(&ty) => previous,
                Some(_) => Type::Dyn,
            });
        }
        (fitting, result)
    }

    fn no_matching_overload(
        &mut self,
        id: ExprId,
        function: &Function,
        types: &[Type],
        member: bool,
    ) -> Type {
        if types.iter().any(|ty| matches!(ty, Type::Error)) {
            return Type::Error;
        }
        let signature = self.signature(types, member);
        let message = format!(
            "found no matching overload for '{}' applied to '{signature}'",
            function.name
        );
        let known: Vec<String> = function
            .overloads()
            .take(4)
            .map(ToString::to_string)
            .collect();
        self.issue(id, message, Some(format!("it takes {}", known.join(", "))))
    }

    pub(super) fn signature(&self, types: &[Type], member: bool) -> String {
        let shown: Vec<String> = types.iter().map(|ty| self.shown(ty).to_string()).collect();
        match shown.split_first() {
            Some((receiver, rest)) if member => format!("{receiver}.({})", rest.join(", ")),
            _ => format!("({})", shown.join(", ")),
        }
    }
}

/// The type with its parameters replaced by variables.
pub(super) fn instantiate(ty: &Type, variables: &[Type]) -> Type {
    match ty {
        Type::Param(index) => variables
            .get(usize::from(*index))
            .cloned()
            .unwrap_or_default(),
        Type::List(list) => Type::List(Arc::new(ListType {
            element: instantiate(&list.element, variables),
            kind: list.kind.clone(),
        })),
        Type::Map(map) => Type::Map(Arc::new(MapType {
            key: instantiate(&map.key, variables),
            value: instantiate(&map.value, variables),
        })),
        Type::Optional(inner) => Type::optional(instantiate(inner, variables)),
        Type::Wrapper(inner) => Type::wrapper(instantiate(inner, variables)),
        Type::Type(Some(inner)) => Type::type_of(instantiate(inner, variables)),
        Type::Opaque(opaque) if !opaque.parameters.is_empty() => {
            Type::Opaque(Arc::new(OpaqueType {
                name: Arc::clone(&opaque.name),
                parameters: opaque
                    .parameters
                    .iter()
                    .map(|parameter| instantiate(parameter, variables))
                    .collect(),
            }))
        }
        other => other.clone(),
    }
}
