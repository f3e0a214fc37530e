//! What an expression refers to: free names, the attribute paths it reads, the functions it calls.
//!
//! Worked out from the syntax tree alone, so that a tool can order resources by their dependencies
//! before any types are known. Variables of comprehensions and of `cel.bind` are not free.

use std::sync::Arc;

use crate::ast::{Ast, ExprId, ExprKind, Literal, Name};
use crate::source::Span;
use crate::unknown::PathElement;

/// A free name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identifier {
    /// The name.
    pub name: String,
    /// Where it stands first.
    pub span: Span,
}

/// An attribute path that is read: the longest chain of selections above a free name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// The free name at the bottom.
    pub root: String,
    /// The steps above it.
    pub path: Vec<PathElement>,
    /// Whether a step is optional (`.?x`) or the path is only tested by `has`.
    pub optional: bool,
    /// Whether evaluation may go without it: it stands in a branch of `?:`, or behind the first operand of `&&` or `||`.
    pub conditional: bool,
    /// The text of the whole path.
    pub span: Span,
}

/// A function that is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionReference {
    /// Its name as written; with the qualifier if it may be one: `base64.encode`.
    pub name: String,
    /// Whether it is called on a receiver that is not merely a qualifier.
    pub member: bool,
    /// Number of arguments besides the receiver.
    pub arguments: usize,
    /// Where the call stands.
    pub span: Span,
}

/// Everything an expression refers to, each list in the order of the source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Free names, each once.
    pub identifiers: Vec<Identifier>,
    /// Attribute paths, each occurrence.
    pub reads: Vec<Read>,
    /// Called functions, each occurrence.
    pub functions: Vec<FunctionReference>,
}

impl References {
    /// Whether the free name `name` occurs.
    #[must_use]
    pub fn uses(&self, name: &str) -> bool {
        self.identifiers
            .iter()
            .any(|identifier| identifier.name == name)
    }

    pub(crate) fn of(ast: &Ast) -> Self {
        let mut walk = Walk {
            ast,
            scopes: Vec::new(),
            branches: 0,
            found: Self::default(),
        };
        walk.visit(ast.root());
        let mut found = walk.found;
        found.identifiers.sort_by_key(|identifier| identifier.span);
        found
            .reads
            .sort_by_key(|read| (read.span.start, read.span.end));
        found.functions.sort_by_key(|function| function.span);
        found
    }
}

/// How many names may stand before the name of a function: `a.b.c.function`.
const QUALIFIERS_MAX: usize = 8;

struct Walk<'t> {
    ast: &'t Ast,
    scopes: Vec<Name>,
    /// How many branches this is in.
    branches: usize,
    found: References,
}

impl Walk<'_> {
    /// Visits a node. Calls itself for nested nodes only; chains are followed in a loop.
    fn visit(&mut self, mut id: ExprId) {
        // The bottom of the chain above which no node can end a path: looked for once per chain.
        let mut bottom = None;
        loop {
            if bottom.is_none_or(|bottom| bottom == id) {
                match self.path(id) {
                    Ok(()) => return,
                    Err(at) => bottom = Some(at),
                }
            }
            let ast = self.ast;
            let node = ast.node(id);
            match &node.kind {
                ExprKind::Literal(_) | ExprKind::Ident { .. } => return,
                ExprKind::Index { index, .. } => self.visit(*index),
                ExprKind::Select { .. } | ExprKind::Has { .. } => {}
                ExprKind::Binary(_, _, right) => {
                    self.visit(*right);
                    bottom = None;
                }
                ExprKind::Call {
                    function,
                    target,
                    arguments,
                } => {
                    let qualified = target.and_then(|target| self.qualified(target, function));
                    let is_qualified = qualified.is_some();
                    self.found.functions.push(FunctionReference {
                        name: qualified.unwrap_or_else(|| function.to_string()),
                        member: target.is_some() && !is_qualified,
                        arguments: arguments.len(),
                        span: node.span,
                    });
                    arguments.iter().for_each(|argument| self.visit(*argument));
                    if is_qualified {
                        return;
                    }
                    bottom = None;
                }
                ExprKind::Comprehension(inner) => {
                    let outer = self.scopes.len();
                    self.scopes.push(Arc::clone(&inner.first));
                    self.scopes.extend(inner.second.clone());
                    inner
                        .filter
                        .into_iter()
                        .for_each(|filter| self.visit(filter));
                    self.visit(inner.body);
                    self.scopes.truncate(outer);
                    bottom = None;
                }
                ExprKind::Bind { variable, body, .. }
                | ExprKind::OptionalMap { variable, body, .. } => {
                    self.scopes.push(Arc::clone(variable));
                    self.visit(*body);
                    self.scopes.pop();
                    bottom = None;
                }
                _ => return self.visit_nested(id),
            }
            match node.kind.first_operand() {
                Some(operand) => id = operand,
                None => return,
            }
        }
    }

    fn visit_nested(&mut self, id: ExprId) {
        let ast = self.ast;
        match &ast.node(id).kind {
            ExprKind::Unary(_, operand) => self.visit(*operand),
            ExprKind::And(operands) | ExprKind::Or(operands) => {
                if let Some((first, others)) = operands.split_first() {
                    self.visit(*first);
                    self.visit_branches(others);
                }
            }
            ExprKind::Conditional {
                condition,
                then,
                otherwise,
            } => {
                self.visit(*condition);
                self.visit_branches(&[*then, *otherwise]);
            }
            ExprKind::List(items) => items.iter().for_each(|item| self.visit(item.value)),
            ExprKind::Map(items) => items.iter().for_each(|item| {
                self.visit(item.key);
                self.visit(item.value);
            }),
            ExprKind::Struct { fields, .. } => {
                fields.iter().for_each(|field| self.visit(field.value));
            }
            _ => {}
        }
    }

    fn visit_branches(&mut self, branches: &[ExprId]) {
        self.branches += 1;
        for branch in branches {
            self.visit(*branch);
        }
        self.branches -= 1;
    }

    fn is_local(&self, name: &str) -> bool {
        self.scopes.iter().any(|scope| **scope == *name)
    }

    /// The name of a function with its qualifier, `base64.encode`, if the environment the expression was
    /// parsed in knows one of that name.
    fn qualified(&self, target: ExprId, function: &str) -> Option<String> {
        let mut parts = vec![function];
        let mut at = target;
        loop {
            match &self.ast.node(at).kind {
                ExprKind::Select {
                    operand,
                    field,
                    optional: false,
                } if parts.len() < QUALIFIERS_MAX => {
                    parts.push(field);
                    at = *operand;
                }
                ExprKind::Ident {
                    name,
                    global: false,
                } if !self.is_local(name) => {
                    parts.push(name);
                    parts.reverse();
                    let name = parts.join(".");
                    return self
                        .ast
                        .qualified_functions
                        .contains(&*name)
                        .then_some(name);
                }
                _ => return None,
            }
        }
    }

    /// Records the path that ends at `id`, or tells at which node the chain stops being one.
    fn path(&mut self, id: ExprId) -> Result<(), ExprId> {
        let ast = self.ast;
        let (mut at, mut path, mut optional) = (id, Vec::new(), false);
        let mut indexes = Vec::new();
        let (name, global, name_span) = loop {
            let node = ast.node(at);
            match &node.kind {
                ExprKind::Ident { name, global } => break (name, *global, node.span),
                ExprKind::Select {
                    operand,
                    field,
                    optional: opt,
                } => {
                    optional |= opt;
                    path.push(PathElement::Field(field.to_string()));
                    at = *operand;
                }
                ExprKind::Has { operand, field, .. } => {
                    optional = true;
                    path.push(PathElement::Field(field.to_string()));
                    at = *operand;
                }
                ExprKind::Index {
                    operand,
                    index,
                    optional: opt,
                } => {
                    optional |= opt;
                    path.push(match &ast.node(*index).kind {
                        ExprKind::Literal(Literal::String(key)) => {
                            PathElement::Field(key.to_string())
                        }
                        ExprKind::Literal(Literal::Int(position)) => PathElement::Index(*position),
                        _ => PathElement::Any,
                    });
                    indexes.push(*index);
                    at = *operand;
                }
                _ => return Err(at),
            }
        };
        for index in indexes {
            self.visit(index);
        }
        if global || !self.is_local(name) {
            path.reverse();
            if !self
                .found
                .identifiers
                .iter()
                .any(|known| known.name == **name)
            {
                self.found.identifiers.push(Identifier {
                    name: name.to_string(),
                    span: name_span,
                });
            }
            self.found.reads.push(Read {
                root: name.to_string(),
                path,
                optional,
                conditional: self.branches > 0,
                span: ast.node(id).span,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::Env;

    #[test]
    fn reads_in_branches_are_conditional() {
        let check = |source: &str, expect: &str| {
            let ast = Env::standard().parse(source).unwrap();
            let conditional = ast.references().reads.iter();
            let conditional = conditional.filter(|read| read.conditional);
            let names: String = conditional.map(|read| read.root.as_str()).collect();
            assert_eq!(names, expect, "{source}");
        };
        check("a ? b.x : c", "bc");
        check("a + (b ? c : d) + e", "cd");
        check("a && b && c", "bc");
        check("a || b.all(x, x == c)", "bc");
        check("a ? (b ? c : d) : e", "bcde");
        check("a.map(x, x ? b : c)", "bc");
        check("[a, b].size() == 2 ? 1 : 2", "");
    }
}
