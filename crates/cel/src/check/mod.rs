//! The checker: types of all nodes, and what their names refer to.
//!
//! The rules are cel-go's. Every node gets a [`Type`] and, where it names something, a [`Resolution`], so that
//! nothing has to be looked up by name later. All mistakes of an expression are reported, each once: a faulty
//! node has the type [`Type::Error`], which fits everywhere.
//!
//! The checker calls itself for nested nodes only; chains are followed down and worked up in a loop.

mod call;
mod literal;
mod names;
mod operators;
mod select;

use std::sync::Arc;

use crate::ast::{Ast, Comprehension, ComprehensionKind, ExprId, ExprKind, Literal, Name};
use crate::env::{Env, Overload};
use crate::error::{CompileError, Issue};
use crate::types::{Substitution, Type, most_general};

/// What a node refers to.
#[derive(Clone, Debug, Default)]
pub(crate) enum Resolution {
    /// Nothing by name, or a name that is worked out while evaluating.
    #[default]
    None,
    /// A variable of the environment; for selections the whole chain is its name.
    Variable(Name),
    /// A variable of a comprehension or binding.
    Local,
    /// A type used as a value.
    Type(Type),
    /// The constant `null` by one of its names.
    Null,
    /// A function and the overloads that fit the argument types.
    Function {
        overloads: Vec<Arc<Overload>>,
        /// Whether the receiver is part of the function's name.
        qualified: bool,
    },
    /// The type of a struct literal.
    Struct(Type),
}

/// A checked expression.
#[derive(Clone, Debug)]
pub struct Checked {
    pub(crate) ast: Ast,
    pub(crate) types: Vec<Type>,
    pub(crate) resolutions: Vec<Resolution>,
}

impl Checked {
    /// The expression.
    #[must_use]
    pub fn ast(&self) -> &Ast {
        &self.ast
    }

    /// The type of the result.
    #[must_use]
    pub fn result_type(&self) -> &Type {
        self.type_of(self.ast.root())
    }

    /// The type of a node.
    #[must_use]
    pub fn type_of(&self, id: ExprId) -> &Type {
        &self.types[id.index()]
    }
}

/// Checks an expression.
pub(crate) fn check(env: &Env, ast: &Ast) -> Result<Checked, CompileError> {
    let count = ast.node_count();
    let mut checker = Checker {
        env,
        ast,
        types: vec![Type::Dyn; count],
        resolutions: vec![Resolution::None; count],
        substitution: Substitution::default(),
        scopes: Vec::new(),
        spine: Vec::new(),
        issues: Vec::new(),
    };
    checker.check(ast.root());
    if !checker.issues.is_empty() {
        return Err(CompileError::new(&ast.source, checker.issues));
    }
    let Checker {
        mut types,
        resolutions,
        substitution,
        ..
    } = checker;
    for ty in &mut types {
        *ty = substitution.resolve(ty, true);
    }
    Ok(Checked {
        ast: ast.clone(),
        types,
        resolutions,
    })
}

/// More issues than this help nobody.
const ISSUES_MAX: usize = 20;

struct Checker<'e> {
    env: &'e Env,
    ast: &'e Ast,
    types: Vec<Type>,
    resolutions: Vec<Resolution>,
    substitution: Substitution,
    scopes: Vec<(Name, Type)>,
    spine: Vec<ExprId>,
    issues: Vec<Issue>,
}

impl Checker<'_> {
    /// Checks a node and everything below it; gives its type.
    fn check(&mut self, id: ExprId) -> Type {
        let base = self.spine.len();
        let mut at = id;
        loop {
            self.spine.push(at);
            if self.resolve_as_name(at) {
                break;
            }
            match self.ast.node(at).kind.first_operand() {
                Some(operand) => at = operand,
                None => break,
            }
        }
        while self.spine.len() > base {
            let Some(next) = self.spine.pop() else { break };
            let ty = self.check_node(next);
            self.types[next.index()] = ty;
        }
        self.types[id.index()].clone()
    }

    /// Checks one node whose first operand is checked.
    fn check_node(&mut self, id: ExprId) -> Type {
        let ast = self.ast;
        match &ast.node(id).kind {
            ExprKind::Literal(literal) => literal_type(literal),
            ExprKind::Ident { .. } => self.resolved_type(id),
            ExprKind::Select {
                operand,
                field,
                optional,
            } => match &self.resolutions[id.index()] {
                Resolution::None => self.check_select(id, *operand, field, *optional),
                _ => self.resolved_type(id),
            },
            ExprKind::Has { operand, field, .. } => {
                self.check_select(id, *operand, field, false);
                Type::Bool
            }
            ExprKind::Index {
                operand,
                index,
                optional,
            } => {
                let index_type = self.check(*index);
                self.check_index(id, *operand, &index_type, *optional)
            }
            ExprKind::Call {
                function,
                target,
                arguments,
            } => self.check_call(id, function, *target, arguments),
            ExprKind::Unary(operator, operand) => {
                let ty = self.check(*operand);
                self.check_unary(id, *operator, &ty)
            }
            ExprKind::Binary(operator, left, right) => {
                let right_type = self.check(*right);
                let left_type = self.types[left.index()].clone();
                self.check_binary(id, *operator, &left_type, &right_type)
            }
            ExprKind::And(operands) => self.check_logical(id, "_&&_", operands),
            ExprKind::Or(operands) => self.check_logical(id, "_||_", operands),
            ExprKind::Conditional {
                condition,
                then,
                otherwise,
            } => {
                let types = [
                    self.check(*condition),
                    self.check(*then),
                    self.check(*otherwise),
                ];
                self.check_conditional(id, &types)
            }
            ExprKind::List(items) => self.check_list(items),
            ExprKind::Map(items) => self.check_map(items),
            ExprKind::Struct { name, fields } => self.check_struct(id, name, fields),
            ExprKind::Comprehension(inner) => self.check_comprehension(id, inner),
            ExprKind::Bind {
                variable,
                init,
                body,
            } => {
                let ty = self.types[init.index()].clone();
                self.with_variable(variable, ty, |checker| checker.check(*body))
            }
            ExprKind::OptionalMap {
                target,
                variable,
                body,
                flat,
            } => self.check_optional_map(id, *target, variable, *body, *flat),
        }
    }

    fn with_variable<T>(&mut self, name: &Name, ty: Type, inner: impl FnOnce(&mut Self) -> T) -> T {
        self.scopes.push((Arc::clone(name), ty));
        let result = inner(self);
        self.scopes.pop();
        result
    }

    fn issue(&mut self, id: ExprId, message: impl Into<String>, hint: Option<String>) -> Type {
        let span = self.ast.node(id).anchor_span();
        self.report(Issue::new(span, message).with_hint(hint));
        Type::Error
    }

    fn report(&mut self, issue: Issue) {
        if self.issues.len() < ISSUES_MAX {
            self.issues.push(issue);
        }
    }

    fn type_of(&self, id: ExprId) -> Type {
        self.substitution.resolve(&self.types[id.index()], false)
    }

    /// The type for a message: variables without a type are `dyn`.
    fn shown(&self, ty: &Type) -> Type {
        self.substitution.resolve(ty, true)
    }

    fn join(&mut self, previous: Option<Type>, current: Type) -> Type {
        match previous {
            None => current,
            Some(previous) if self.substitution.is_assignable(&previous, &current) => {
                most_general(&previous, &current)
            }
            Some(_) => Type::Dyn,
        }
    }

    fn expect_bool(&mut self, id: ExprId) {
        let ty = self.check(id);
        if !self.substitution.is_assignable(&ty, &Type::Bool) {
            let message = format!("expected type 'bool' but found '{}'", self.shown(&ty));
            let span = self.ast.node(id).span;
            self.report(Issue::new(span, message));
        }
    }

    fn check_comprehension(&mut self, id: ExprId, inner: &Comprehension) -> Type {
        let range = self.type_of(inner.range);
        let (key, value, is_map) = match &range {
            Type::List(list) => (Type::Int, list.element.clone(), false),
            Type::Map(map) => (map.key.clone(), map.value.clone(), true),
            Type::Dyn | Type::Any | Type::Error => (Type::Dyn, Type::Dyn, false),
            Type::Variable(_) => {
                // Nothing may later decide that the range is something else.
                self.substitution.is_assignable(&Type::Dyn, &range);
                (Type::Dyn, Type::Dyn, false)
            }
            other => {
                let message = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.issue(inner.range, message, None);
                (Type::Error, Type::Error, false)
            }
        };
        let depth = self.scopes.len();
        let element = if is_map { key.clone() } else { value.clone() };
        match &inner.second {
            Some(second) => {
                self.scopes.push((Arc::clone(&inner.first), key.clone()));
                self.scopes.push((Arc::clone(second), value));
            }
            None => self
                .scopes
                .push((Arc::clone(&inner.first), element.clone())),
        }
        if let Some(filter) = inner.filter {
            self.expect_bool(filter);
        }
        let result = match inner.kind {
            ComprehensionKind::All | ComprehensionKind::Exists | ComprehensionKind::ExistsOne => {
                self.expect_bool(inner.body);
                Type::Bool
            }
            ComprehensionKind::Filter => {
                self.expect_bool(inner.body);
                Type::list(element)
            }
            ComprehensionKind::Map => Type::list(self.check(inner.body)),
            ComprehensionKind::TransformMap => Type::map(key, self.check(inner.body)),
            ComprehensionKind::TransformMapEntry => {
                let body = self.check(inner.body);
                match self.substitution.resolve(&body, false) {
                    ty @ Type::Map(_) => ty,
                    Type::Dyn | Type::Any | Type::Error | Type::Variable(_) => {
                        Type::map(Type::Dyn, Type::Dyn)
                    }
                    other => self.issue(
                        id,
                        format!("expected a map with one entry but found '{other}'"),
                        None,
                    ),
                }
            }
        };
        self.scopes.truncate(depth);
        result
    }

    fn check_optional_map(
        &mut self,
        id: ExprId,
        target: ExprId,
        variable: &Name,
        body: ExprId,
        flat: bool,
    ) -> Type {
        let target_type = self.type_of(target);
        let inner = match &target_type {
            Type::Optional(inner) => (**inner).clone(),
            Type::Dyn | Type::Any | Type::Error | Type::Variable(_) => Type::Dyn,
            other => {
                let message =
                    format!("found no matching overload for 'optMap' applied to '{other}.()'");
                return self.issue(
                    id,
                    message,
                    Some("the receiver must be an optional".to_owned()),
                );
            }
        };
        let result = self.with_variable(variable, inner, |checker| checker.check(body));
        if !flat {
            return Type::optional(result);
        }
        match self.substitution.resolve(&result, false) {
            ty @ Type::Optional(_) => ty,
            Type::Dyn | Type::Any | Type::Error | Type::Variable(_) => Type::optional(Type::Dyn),
            other => {
                let message =
                    format!("found no matching overload for 'optFlatMap' applied to '{other}'");
                self.issue(
                    id,
                    message,
                    Some("the expression must make an optional".to_owned()),
                )
            }
        }
    }
}

fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}
