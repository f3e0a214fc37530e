//! Macros: calls that are rewritten while parsing.
//!
//! A [`Macro`] is found by name, number of arguments and call style, and gets its arguments parsed. It
//! builds nodes with an [`Expander`], or returns `None` to stay an ordinary call.

use std::collections::HashMap;
use std::sync::Arc;

use crate::ast::{Comprehension, ComprehensionKind, Expr, ExprId, ExprKind, Literal, Name};
use crate::error::Issue;
use crate::source::Span;

/// Rewrites a call. `None` leaves it as it is.
pub type Expand = dyn Fn(&mut Expander<'_>, Option<ExprId>, &[ExprId]) -> Result<Option<ExprId>, Issue>
    + Send
    + Sync;

/// A call that is rewritten while parsing.
#[derive(Clone)]
pub struct Macro {
    pub(crate) name: Name,
    pub(crate) arguments: usize,
    pub(crate) member: bool,
    pub(crate) expand: Arc<Expand>,
}

impl Macro {
    /// A macro `name(...)` with this many arguments.
    pub fn global(
        name: &str,
        arguments: usize,
        expand: impl Fn(&mut Expander<'_>, Option<ExprId>, &[ExprId]) -> Result<Option<ExprId>, Issue>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            arguments,
            member: false,
            expand: Arc::new(expand),
        }
    }

    /// A macro `receiver.name(...)` with this many arguments besides the receiver.
    pub fn member(
        name: &str,
        arguments: usize,
        expand: impl Fn(&mut Expander<'_>, Option<ExprId>, &[ExprId]) -> Result<Option<ExprId>, Issue>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            arguments,
            member: true,
            expand: Arc::new(expand),
        }
    }
}

impl std::fmt::Debug for Macro {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Macro")
            .field("name", &self.name)
            .field("arguments", &self.arguments)
            .finish_non_exhaustive()
    }
}

/// The macros of an environment.
#[derive(Clone, Debug, Default)]
pub(crate) struct MacroTable {
    by_name: HashMap<Name, Vec<Macro>>,
}

impl MacroTable {
    pub fn insert(&mut self, entry: Macro) {
        let entries = self.by_name.entry(Arc::clone(&entry.name)).or_default();
        entries.retain(|old| old.arguments != entry.arguments || old.member != entry.member);
        entries.push(entry);
    }

    pub fn find(&self, name: &str, arguments: usize, member: bool) -> Option<&Macro> {
        let entries = self.by_name.get(name)?;
        entries
            .iter()
            .find(|entry| entry.arguments == arguments && entry.member == member)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(|name| &**name)
    }
}

/// Builds the nodes a macro expands to.
pub struct Expander<'p> {
    pub(super) nodes: &'p mut Vec<Expr>,
    pub(super) span: Span,
    pub(super) anchor: u32,
}

impl Expander<'_> {
    /// Adds a node with the place of the macro call.
    pub fn add(&mut self, kind: ExprKind) -> ExprId {
        self.nodes.push(Expr {
            span: self.span,
            anchor: self.anchor,
            kind,
        });
        ExprId(self.nodes.len() as u32 - 1)
    }

    /// Adds a call.
    pub fn call(&mut self, function: &str, target: Option<ExprId>, arguments: &[ExprId]) -> ExprId {
        self.add(ExprKind::Call {
            function: function.into(),
            target,
            arguments: arguments.into(),
        })
    }

    /// Adds a name.
    pub fn ident(&mut self, name: &str) -> ExprId {
        self.add(ExprKind::Ident {
            name: name.into(),
            global: false,
        })
    }

    /// Adds a string constant.
    pub fn string(&mut self, text: &str) -> ExprId {
        self.add(ExprKind::Literal(Literal::String(text.into())))
    }

    /// A node made so far.
    #[must_use]
    pub fn node(&self, id: ExprId) -> &Expr {
        &self.nodes[id.index()]
    }

    /// The place of the macro call.
    #[must_use]
    pub fn span(&self) -> Span {
        self.span
    }

    /// Whether the node is the plain name `name`.
    #[must_use]
    pub fn is_ident(&self, id: ExprId, name: &str) -> bool {
        matches!(&self.node(id).kind, ExprKind::Ident { name: found, global: false } if **found == *name)
    }

    /// The name of a variable a macro declares.
    pub fn variable(&self, id: ExprId) -> Result<Name, Issue> {
        match &self.node(id).kind {
            ExprKind::Ident {
                name,
                global: false,
            } => Ok(Arc::clone(name)),
            _ => Err(Issue::new(
                self.node(id).span,
                "argument must be a simple name",
            )),
        }
    }

    fn comprehension(
        &mut self,
        kind: ComprehensionKind,
        range: ExprId,
        variables: (ExprId, Option<ExprId>),
        filter: Option<ExprId>,
        body: ExprId,
    ) -> Result<Option<ExprId>, Issue> {
        let first = self.variable(variables.0)?;
        let second = variables.1.map(|id| self.variable(id)).transpose()?;
        if second.as_ref() == Some(&first) {
            return Err(Issue::new(
                self.node(variables.0).span,
                format!("duplicate variable name: {first}"),
            ));
        }
        let comprehension = Comprehension {
            kind,
            range,
            first,
            second,
            filter,
            body,
        };
        Ok(Some(
            self.add(ExprKind::Comprehension(Box::new(comprehension))),
        ))
    }
}

/// `has`, `all`, `exists`, `exists_one`, `existsOne`, `map`, `filter`.
pub(crate) fn standard() -> Vec<Macro> {
    use ComprehensionKind::{All, Exists, ExistsOne, Filter, Map};
    let mut macros = vec![Macro::global("has", 1, |expander, _, arguments| {
        let node = expander.node(arguments[0]);
        let ExprKind::Select {
            operand,
            field,
            optional,
        } = &node.kind
        else {
            return Err(Issue::new(node.span, "invalid argument to has() macro"));
        };
        let kind = ExprKind::Has {
            operand: *operand,
            field: Arc::clone(field),
            optional: *optional,
        };
        Ok(Some(expander.add(kind)))
    })];
    for (name, kind) in [
        ("all", All),
        ("exists", Exists),
        ("exists_one", ExistsOne),
        ("existsOne", ExistsOne),
        ("map", Map),
        ("filter", Filter),
    ] {
        macros.push(one_variable(name, kind));
    }
    macros.push(Macro::member("map", 3, |expander, target, arguments| {
        let Some(range) = target else { return Ok(None) };
        expander.comprehension(
            Map,
            range,
            (arguments[0], None),
            Some(arguments[1]),
            arguments[2],
        )
    }));
    macros
}

fn one_variable(name: &str, kind: ComprehensionKind) -> Macro {
    Macro::member(name, 2, move |expander, target, arguments| {
        let Some(range) = target else { return Ok(None) };
        expander.comprehension(kind, range, (arguments[0], None), None, arguments[1])
    })
}

/// `all`, `exists`, `existsOne`, `transformList`, `transformMap`, `transformMapEntry` with two variables.
pub(crate) fn two_variables() -> Vec<Macro> {
    use ComprehensionKind::{All, Exists, ExistsOne, Map, TransformMap, TransformMapEntry};
    let mut macros = Vec::new();
    for (name, kind) in [
        ("all", All),
        ("exists", Exists),
        ("existsOne", ExistsOne),
        ("exists_one", ExistsOne),
    ] {
        macros.push(Macro::member(
            name,
            3,
            move |expander, target, arguments| {
                let Some(range) = target else { return Ok(None) };
                expander.comprehension(
                    kind,
                    range,
                    (arguments[0], Some(arguments[1])),
                    None,
                    arguments[2],
                )
            },
        ));
    }
    for (name, kind) in [
        ("transformList", Map),
        ("transformMap", TransformMap),
        ("transformMapEntry", TransformMapEntry),
    ] {
        macros.push(Macro::member(
            name,
            3,
            move |expander, target, arguments| {
                let Some(range) = target else { return Ok(None) };
                expander.comprehension(
                    kind,
                    range,
                    (arguments[0], Some(arguments[1])),
                    None,
                    arguments[2],
                )
            },
        ));
        macros.push(Macro::member(
            name,
            4,
            move |expander, target, arguments| {
                let Some(range) = target else { return Ok(None) };
                let variables = (arguments[0], Some(arguments[1]));
                expander.comprehension(kind, range, variables, Some(arguments[2]), arguments[3])
            },
        ));
    }
    macros
}

/// `cel.bind(variable, init, body)`.
pub(crate) fn bindings() -> Vec<Macro> {
    vec![Macro::member("bind", 3, |expander, target, arguments| {
        if !target.is_some_and(|target| expander.is_ident(target, "cel")) {
            return Ok(None);
        }
        let variable = expander.variable(arguments[0])?;
        Ok(Some(expander.add(ExprKind::Bind {
            variable,
            init: arguments[1],
            body: arguments[2],
        })))
    })]
}

/// Bindings nest, so their number is bounded as nesting is.
const BLOCK_ITEMS_MAX: usize = 100;

/// `cel.block([...], body)` with `cel.index(n)` and `cel.iterVar(n, m)`: the form optimisers write common
/// subexpressions in.
pub(crate) fn blocks() -> Vec<Macro> {
    let number = |expander: &Expander<'_>, id: ExprId| match &expander.node(id).kind {
        ExprKind::Literal(Literal::Int(value)) if *value >= 0 => Ok(*value),
        _ => Err(Issue::new(
            expander.node(id).span,
            "argument must be a non-negative int constant",
        )),
    };
    let of_cel = |expander: &Expander<'_>, target: Option<ExprId>| {
        target.is_some_and(|target| expander.is_ident(target, "cel"))
    };
    let mut macros = vec![Macro::member(
        "block",
        2,
        move |expander, target, arguments| {
            if !of_cel(expander, target) {
                return Ok(None);
            }
            let ExprKind::List(items) = &expander.node(arguments[0]).kind else {
                let span = expander.node(arguments[0]).span;
                return Err(Issue::new(
                    span,
                    "cel.block requires the first arg to be a list literal",
                ));
            };
            if items.len() > BLOCK_ITEMS_MAX {
                let message = format!("cel.block takes at most {BLOCK_ITEMS_MAX} expressions");
                return Err(Issue::new(expander.node(arguments[0]).span, message));
            }
            let inits: Vec<ExprId> = items.iter().map(|item| item.value).collect();
            let mut body = arguments[1];
            for (index, init) in inits.into_iter().enumerate().rev() {
                body = expander.add(ExprKind::Bind {
                    variable: format!("@index{index}").into(),
                    init,
                    body,
                });
            }
            Ok(Some(body))
        },
    )];
    macros.push(Macro::member(
        "index",
        1,
        move |expander, target, arguments| {
            if !of_cel(expander, target) {
                return Ok(None);
            }
            let index = number(expander, arguments[0])?;
            Ok(Some(expander.ident(&format!("@index{index}"))))
        },
    ));
    for (name, prefix) in [("iterVar", "@it"), ("accuVar", "@ac")] {
        macros.push(Macro::member(
            name,
            2,
            move |expander, target, arguments| {
                if !of_cel(expander, target) {
                    return Ok(None);
                }
                let (depth, unique) = (
                    number(expander, arguments[0])?,
                    number(expander, arguments[1])?,
                );
                Ok(Some(expander.ident(&format!("{prefix}:{depth}:{unique}"))))
            },
        ));
    }
    macros
}

/// `optMap` and `optFlatMap`.
pub(crate) fn optionals() -> Vec<Macro> {
    [("optMap", false), ("optFlatMap", true)]
        .into_iter()
        .map(|(name, flat)| {
            Macro::member(name, 2, move |expander, target, arguments| {
                let Some(target) = target else {
                    return Ok(None);
                };
                let variable = expander.variable(arguments[0])?;
                let body = arguments[1];
                Ok(Some(expander.add(ExprKind::OptionalMap {
                    target,
                    variable,
                    body,
                    flat,
                })))
            })
        })
        .collect()
}

/// `list.sortBy(element, key)`.
pub(crate) fn sort_by() -> Macro {
    Macro::member("sortBy", 2, |expander, target, arguments| {
        let Some(target) = target else {
            return Ok(None);
        };
        let input = "@__sortBy_input__";
        let range = expander.ident(input);
        let keys = expander.comprehension(
            ComprehensionKind::Map,
            range,
            (arguments[0], None),
            None,
            arguments[1],
        )?;
        let list = expander.ident(input);
        let keys = keys.into_iter().collect::<Vec<_>>();
        let body = expander.call("@sortByAssociatedKeys", Some(list), &keys);
        Ok(Some(expander.add(ExprKind::Bind {
            variable: input.into(),
            init: target,
            body,
        })))
    })
}
