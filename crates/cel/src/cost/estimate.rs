//! What an expression costs at least and at most, before anything is evaluated.
//!
//! The rules are cel-go's: sizes come from constants, from what operations do to sizes, and for data from
//! [`SizeHints`], which a schema can give. An API server refuses rules whose estimate is beyond its limit.

use std::sync::Arc;

use super::{
    CallEstimate, LIST_CREATE, MAP_CREATE, Operand, REGEX_LENGTH_FACTOR, Range, SELECT_AND_IDENT,
    STRING_TRAVERSAL_FACTOR, STRUCT_CREATE, text_size,
};
use crate::ast::{
    Ast, BinaryOperator, Comprehension, ComprehensionKind, ExprId, ExprKind, Literal, Name,
};
use crate::check::{Checked, Resolution};
use crate::env::Overload;
use crate::types::Type;

/// What is known of the sizes of data.
pub trait SizeHints {
    /// The size of what lies at a path: characters, bytes or elements. The first element of the path is a variable,
    /// the others are fields, `@items`, `@keys` or `@values`.
    fn size(&self, path: &[Name], ty: &Type) -> Option<Range>;
}

/// Nothing is known.
pub struct NoHints;

impl SizeHints for NoHints {
    fn size(&self, _: &[Name], _: &Type) -> Option<Range> {
        None
    }
}

/// The least and the most a checked expression costs. `presence_test_has_cost` as in
/// [`Limits`](crate::Limits::presence_test_has_cost).
///
/// ```
/// use cel::cost::{NoHints, estimate};
/// use cel::{Env, Type};
/// let env = Env::standard().extend().variable("names", Type::list(Type::String)).build()?;
/// let bounded = env.check(&env.parse("['a', 'b'].all(x, x != 'c')")?)?;
/// assert!(estimate(&bounded, &NoHints, false).max < 50);
/// let unbounded = env.check(&env.parse("names.all(x, x != 'c')")?)?;
/// assert_eq!(estimate(&unbounded, &NoHints, false).max, u64::MAX);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn estimate(checked: &Checked, hints: &dyn SizeHints, presence_test_has_cost: bool) -> Range {
    let presence_test = u64::from(presence_test_has_cost);
    let mut coster = Coster {
        checked,
        ast: &checked.ast,
        hints,
        presence_test,
        scopes: Vec::new(),
    };
    coster.node(checked.ast.root()).cost
}

/// What is known of a node.
#[derive(Clone)]
struct Known {
    cost: Range,
    size: Option<Range>,
    /// Sizes of keys and values, or of elements.
    entries: Option<(Range, Range)>,
    path: Option<Arc<[Name]>>,
}

impl Known {
    fn costs(cost: Range) -> Self {
        Self {
            cost,
            size: None,
            entries: None,
            path: None,
        }
    }

    fn size(&self) -> Range {
        self.size.unwrap_or_else(Range::unbounded)
    }
}

struct Coster<'e> {
    checked: &'e Checked,
    ast: &'e Ast,
    hints: &'e dyn SizeHints,
    presence_test: u64,
    scopes: Vec<(Name, Known)>,
}

const ONE: Range = Range { min: 1, max: 1 };
const ZERO: Range = Range { min: 0, max: 0 };

impl<'e> Coster<'e> {
    /// A node and everything below it; chains are followed in a loop.
    fn node(&mut self, id: ExprId) -> Known {
        let mut spine = vec![id];
        while let Some(last) = spine.last().copied()
            && !self.is_name(last)
            && let Some(operand) = self.ast.node(last).kind.first_operand()
        {
            spine.push(operand);
        }
        let mut first = Known::costs(ZERO);
        while let Some(next) = spine.pop() {
            let mut known = self.step(next, first);
            if known.size.is_none() {
                known.size = self.size_of(next, known.path.as_deref());
            }
            first = known;
        }
        first
    }

    /// Whether nothing below the node is evaluated.
    fn is_name(&self, id: ExprId) -> bool {
        match &self.checked.resolutions[id.index()] {
            Resolution::Variable(_)
            | Resolution::Type(_)
            | Resolution::Null
            | Resolution::Local => true,
            Resolution::Function { qualified, .. } => *qualified,
            _ => false,
        }
    }

    fn type_of(&self, id: ExprId) -> &'e Type {
        self.checked.type_of(id)
    }

    /// What hints and types say of the size.
    fn size_of(&self, id: ExprId, path: Option<&[Name]>) -> Option<Range> {
        let ty = self.type_of(id);
        path.and_then(|path| self.hints.size(path, ty))
            .or_else(|| type_size(ty))
    }

    /// One node, with what is known of its first operand.
    fn step(&mut self, id: ExprId, first: Known) -> Known {
        let ast = self.ast;
        match &ast.node(id).kind {
            ExprKind::Literal(literal) => Known {
                size: Some(Range::exactly(literal_size(literal))),
                ..Known::costs(ZERO)
            },
            ExprKind::Ident { name, .. } => self.ident(id, name),
            ExprKind::Select { operand, field, .. } => {
                match &self.checked.resolutions[id.index()] {
                    Resolution::Variable(name) => variable(name),
                    Resolution::Type(_) | Resolution::Null => Known::costs(ZERO),
                    _ => {
                        let is_container = matches!(
                            self.type_of(*operand),
                            Type::Map(_) | Type::Object(_) | Type::Optional(_)
                        );
                        let step = if is_container { ONE } else { ZERO };
                        Known {
                            path: extend(&first, field),
                            ..Known::costs(first.cost.plus(step))
                        }
                    }
                }
            }
            ExprKind::Has { .. } => {
                Known::costs(first.cost.plus(Range::exactly(self.presence_test)))
            }
            ExprKind::Index { operand, index, .. } => {
                let index = self.node(*index);
                let below = if matches!(self.type_of(*operand), Type::List(_)) {
                    "@items"
                } else {
                    "@values"
                };
                let mut known = Known::costs(first.cost.plus(index.cost).plus(ONE));
                known.path = extend(&first, below);
                known.size = first.entries.map(|(_, value)| value);
                known
            }
            ExprKind::Call {
                function,
                target,
                arguments,
            } => self.call(id, function, *target, arguments, first),
            ExprKind::Unary(_, operand) => Known::costs(self.node(*operand).cost.plus(ONE)),
            ExprKind::Binary(operator, left, right) => {
                let right_known = self.node(*right);
                self.binary(*operator, (*left, first), (*right, right_known))
            }
            ExprKind::And(operands) | ExprKind::Or(operands) => {
                let costs = operands.iter().map(|operand| self.node(*operand).cost);
                let costs: Vec<Range> = costs.collect();
                let max = costs
                    .iter()
                    .fold(0_u64, |total, cost| total.saturating_add(cost.max));
                Known::costs(Range {
                    min: costs.first().map_or(0, |cost| cost.min),
                    max,
                })
            }
            ExprKind::Conditional {
                condition,
                then,
                otherwise,
            } => {
                let (condition, then, otherwise) = (
                    self.node(*condition),
                    self.node(*then),
                    self.node(*otherwise),
                );
                Known {
                    cost: condition.cost.plus(then.cost.union(otherwise.cost)),
                    size: Some(then.size().union(otherwise.size())),
                    entries: then
                        .entries
                        .zip(otherwise.entries)
                        .map(|(a, b)| (a.0.union(b.0), a.1.union(b.1))),
                    path: None,
                }
            }
            ExprKind::List(_) | ExprKind::Map(_) | ExprKind::Struct { .. } => self.literal(id),
            ExprKind::Comprehension(inner) => self.comprehension(inner, first),
            ExprKind::Bind { variable, body, .. } => {
                let cost = first.cost.plus(Range::exactly(LIST_CREATE));
                let body = self.with_variable(variable, first, |coster| coster.node(*body));
                Known {
                    cost: cost.plus(body.cost),
                    path: None,
                    ..body
                }
            }
            ExprKind::OptionalMap { variable, body, .. } => {
                // cel-go's expansion evaluates the receiver twice and binds its value.
                let cost = first.cost.plus(first.cost).plus(Range {
                    min: 2,
                    max: 3 + LIST_CREATE,
                });
                let body = self.with_variable(variable, first, |coster| coster.node(*body));
                Known::costs(Range {
                    min: cost.min,
                    max: cost.plus(body.cost).max,
                })
            }
        }
    }

    fn with_variable<T>(
        &mut self,
        name: &Name,
        known: Known,
        inner: impl FnOnce(&mut Self) -> T,
    ) -> T {
        self.scopes.push((Arc::clone(name), known));
        let result = inner(self);
        self.scopes.pop();
        result
    }

    fn ident(&self, id: ExprId, name: &Name) -> Known {
        match &self.checked.resolutions[id.index()] {
            Resolution::Local => {
                let found = self.scopes.iter().rev().find(|(scope, _)| scope == name);
                let known = found.map_or_else(|| Known::costs(ZERO), |(_, known)| known.clone());
                Known {
                    cost: Range::exactly(SELECT_AND_IDENT),
                    ..known
                }
            }
            Resolution::Variable(name) => variable(name),
            _ => Known::costs(ZERO),
        }
    }

    fn literal(&mut self, id: ExprId) -> Known {
        let ast = self.ast;
        let mut cost = ZERO;
        let mut entries: Option<(Range, Range)> = None;
        let mut add = |key: Range, value: Range| {
            entries = Some(match entries {
                Some(known) => (known.0.union(key), known.1.union(value)),
                None => (key, value),
            });
        };
        let (base, count) = match &ast.node(id).kind {
            ExprKind::List(items) => {
                for item in items {
                    let known = self.node(item.value);
                    cost = cost.plus(known.cost);
                    add(ONE, known.size());
                }
                (LIST_CREATE, Some(items.len()))
            }
            ExprKind::Map(items) => {
                for item in items {
                    let (key, value) = (self.node(item.key), self.node(item.value));
                    cost = cost.plus(key.cost).plus(value.cost);
                    add(key.size(), value.size());
                }
                (MAP_CREATE, Some(items.len()))
            }
            ExprKind::Struct { fields, .. } => {
                for field in fields {
                    cost = cost.plus(self.node(field.value).cost);
                }
                (STRUCT_CREATE, None)
            }
            _ => (0, None),
        };
        Known {
            cost: cost.plus(Range::exactly(base)),
            size: count.map(|count| Range::exactly(count as u64)),
            entries,
            path: None,
        }
    }

    fn binary(
        &self,
        operator: BinaryOperator,
        left: (ExprId, Known),
        right: (ExprId, Known),
    ) -> Known {
        let (left_type, right_type) = (self.type_of(left.0), self.type_of(right.0));
        let (left, right) = (left.1, right.1);
        let operands = left.cost.plus(right.cost);
        let (a, b) = (left.size(), right.size());
        let smaller = || {
            let max = a.max.min(b.max);
            Range {
                min: u64::from(max > 0),
                max,
            }
            .scaled(STRING_TRAVERSAL_FACTOR)
        };
        let is = |test: fn(&Type) -> bool| test(left_type) || test(right_type);
        let text = |ty: &Type| matches!(ty, Type::String | Type::Bytes);
        let own = match operator {
            BinaryOperator::Equal | BinaryOperator::NotEqual => smaller(),
            BinaryOperator::Less
            | BinaryOperator::LessEqual
            | BinaryOperator::Greater
            | BinaryOperator::GreaterEqual => match (left_type, right_type) {
                _ if is(text) => smaller(),
                (Type::Dyn, Type::Dyn) => smaller().union(ONE),
                _ => ONE,
            },
            BinaryOperator::In => match right_type {
                Type::List(_) => b,
                Type::Map(_) | Type::Object(_) => ONE,
                _ => b.union(ONE),
            },
            BinaryOperator::Add => {
                let joined = a.plus(b);
                let traversed = joined.scaled(STRING_TRAVERSAL_FACTOR);
                let (cost, size) = match (left_type, right_type) {
                    _ if is(text) => (traversed, Some(joined)),
                    (Type::List(_), _) | (_, Type::List(_)) => (ONE, Some(joined)),
                    (Type::Dyn, Type::Dyn) => (traversed.union(ONE), Some(joined)),
                    _ => (ONE, None),
                };
                let entries = left.entries.zip(right.entries);
                return Known {
                    cost: operands.plus(cost),
                    size,
                    entries: entries.map(|(a, b)| (a.0.union(b.0), a.1.union(b.1))),
                    path: None,
                };
            }
            _ => ONE,
        };
        Known::costs(operands.plus(own))
    }

    fn call(
        &mut self,
        id: ExprId,
        name: &str,
        target: Option<ExprId>,
        arguments: &[ExprId],
        first: Known,
    ) -> Known {
        let Resolution::Function {
            overloads,
            qualified,
        } = &self.checked.resolutions[id.index()]
        else {
            return Known::costs(ZERO);
        };
        let mut known = Vec::with_capacity(arguments.len() + 1);
        if let Some(target) = target.filter(|_| !qualified) {
            known.push((target, first));
        }
        for argument in arguments {
            let argument_known = self.node(*argument);
            known.push((*argument, argument_known));
        }
        let total = known
            .iter()
            .fold(ZERO, |total, (_, known)| total.plus(known.cost));
        if name == "dyn"
            && let Some((_, only)) = known.first()
        {
            return Known {
                cost: total.plus(ONE),
                ..only.clone()
            };
        }
        let operands: Vec<Operand> = known
            .iter()
            .map(|(id, known)| self.operand(*id, known))
            .collect();
        let mut own: Option<Range> = None;
        let mut size: Option<Range> = None;
        for overload in overloads {
            let estimate = call_estimate(overload, &operands);
            own = Some(own.map_or(estimate.cost, |cost| cost.union(estimate.cost)));
            if let Some(result) = estimate.result_size {
                size = Some(size.map_or(result, |size| size.union(result)));
            }
        }
        Known {
            size,
            ..Known::costs(total.plus(own.unwrap_or(ONE)))
        }
    }

    fn operand(&self, id: ExprId, known: &Known) -> Operand {
        let ty = self.type_of(id).clone();
        let element_size = match (&known.entries, ty.element()) {
            (Some((_, value)), _) => *value,
            (None, Some(element)) => {
                let hinted =
                    extend(known, "@items").and_then(|path| self.hints.size(&path, element));
                hinted
                    .or_else(|| type_size(element))
                    .unwrap_or_else(Range::unbounded)
            }
            _ => Range::unbounded(),
        };
        let constant = match &self.ast.node(id).kind {
            ExprKind::Literal(Literal::Int(value)) => Some(*value),
            _ => None,
        };
        Operand {
            ty,
            size: known.size(),
            element_size,
            constant,
        }
    }

    /// The fold cel-go expands the macro to: its start, its turns and its result.
    fn comprehension(&mut self, inner: &Comprehension, range: Known) -> Known {
        use ComprehensionKind::{
            All, Exists, ExistsOne, Filter, Map, TransformMap, TransformMapEntry,
        };
        let is_list = matches!(self.type_of(inner.range), Type::List(_));
        let variable = |below: &str, size: Option<Range>| Known {
            size,
            path: extend(&range, below),
            ..Known::costs(ZERO)
        };
        let (keys, values) = (
            range.entries.map(|entries| entries.0),
            range.entries.map(|entries| entries.1),
        );
        let value_path = if is_list { "@items" } else { "@values" };
        let outer = self.scopes.len();
        match &inner.second {
            Some(second) => {
                let key = if is_list { Some(ONE) } else { keys };
                self.scopes
                    .push((Arc::clone(&inner.first), variable("@keys", key)));
                self.scopes
                    .push((Arc::clone(second), variable(value_path, values)));
            }
            None if is_list => self
                .scopes
                .push((Arc::clone(&inner.first), variable(value_path, values))),
            None => self
                .scopes
                .push((Arc::clone(&inner.first), variable("@keys", keys))),
        }
        for (_, known) in &mut self.scopes[outer..] {
            if known.size.is_none()
                && let Some(path) = &known.path
            {
                known.size = self.hints.size(path, &Type::Dyn);
            }
        }
        let filter = inner.filter.map(|filter| self.node(filter).cost);
        let body = self.node(inner.body);
        self.scopes.truncate(outer);
        let fixed = |start: u64, result: u64| Range::exactly(start + result);
        let kept = |cost: Range| cost.union(ONE);
        let (around, turn) = match inner.kind {
            All => (
                fixed(0, 1),
                Range {
                    min: 3,
                    max: body.cost.max.saturating_add(3),
                },
            ),
            Exists => (
                fixed(0, 1),
                Range {
                    min: 4,
                    max: body.cost.max.saturating_add(4),
                },
            ),
            ExistsOne => (fixed(0, 2), body.cost.plus(kept(Range::exactly(2)))),
            Filter => (
                fixed(LIST_CREATE, 1),
                body.cost.plus(kept(Range::exactly(LIST_CREATE + 3))),
            ),
            Map => (
                fixed(LIST_CREATE, 1),
                body.cost.plus(Range::exactly(LIST_CREATE + 2)),
            ),
            TransformMap => (fixed(MAP_CREATE, 1), body.cost.plus(Range::exactly(3))),
            TransformMapEntry => (fixed(MAP_CREATE, 1), body.cost.plus(Range::exactly(2))),
        };
        let turn = match filter {
            Some(filter) => filter.plus(kept(turn)),
            None => turn,
        };
        let count = range.size();
        let makes_container = !matches!(inner.kind, All | Exists | ExistsOne);
        Known {
            cost: range.cost.plus(around).plus(count.times(turn)),
            size: Some(if makes_container { count } else { ONE }),
            entries: match inner.kind {
                Map => body.size.map(|size| (ONE, size)),
                Filter => range.entries,
                _ => None,
            },
            // Filtered elements are elements of the range.
            path: None,
        }
    }
}

fn variable(name: &Name) -> Known {
    let path: Arc<[Name]> = [Arc::clone(name)].into();
    Known {
        path: Some(path),
        ..Known::costs(Range::exactly(SELECT_AND_IDENT))
    }
}

/// Steps of a path; what lies deeper has no hints.
const PATH_MAX: usize = 64;

fn extend(known: &Known, step: &str) -> Option<Arc<[Name]>> {
    let path = known.path.as_deref().filter(|path| path.len() < PATH_MAX)?;
    Some(path.iter().cloned().chain([Name::from(step)]).collect())
}

/// The size of values of a type, if all have the same.
fn type_size(ty: &Type) -> Option<Range> {
    let is_scalar = matches!(
        ty,
        Type::Bool
            | Type::Int
            | Type::Uint
            | Type::Double
            | Type::Null
            | Type::Duration
            | Type::Timestamp
            | Type::Type(_)
    );
    is_scalar.then_some(ONE)
}

fn literal_size(literal: &Literal) -> u64 {
    match literal {
        Literal::String(text) => text_size(text),
        Literal::Bytes(bytes) => bytes.len() as u64,
        _ => 1,
    }
}

/// What a call costs: what its library says, the rules for the standard functions, or one.
fn call_estimate(overload: &Overload, operands: &[Operand]) -> CallEstimate {
    if let Some(estimate) = &overload.estimate {
        return estimate(operands);
    }
    let size = |index: usize| {
        operands
            .get(index)
            .map_or_else(Range::unbounded, |operand| operand.size)
    };
    let traversed = |index: usize| size(index).scaled(STRING_TRAVERSAL_FACTOR);
    let (cost, result_size) = match &*overload.id {
        "starts_with_string" | "ends_with_string" => (traversed(1), None),
        "matches" | "matches_string" => {
            let text = size(0).plus(ONE).scaled(STRING_TRAVERSAL_FACTOR);
            (text.times(size(1).scaled(REGEX_LENGTH_FACTOR)), None)
        }
        "contains_string" => (traversed(0).times(traversed(1)), None),
        "string_to_bytes" => (
            traversed(0),
            Some(Range {
                min: size(0).min,
                max: size(0).max.saturating_mul(4),
            }),
        ),
        "bytes_to_string" => (
            traversed(0),
            Some(Range {
                min: size(0).min / 4,
                max: size(0).max,
            }),
        ),
        "strings_quote" => {
            let doubled = size(0).max.saturating_mul(2).saturating_add(2);
            (
                traversed(0),
                Some(Range {
                    min: size(0).min.saturating_add(2),
                    max: doubled,
                }),
            )
        }
        "string_format" => (traversed(0), None),
        _ => (ONE, None),
    };
    CallEstimate { cost, result_size }
}
