//! The syntax tree: an arena of nodes.
//!
//! Nodes name their children by [`ExprId`], an index into the arena, so that a tree of any shape is
//! freed without recursion and walking it is cheap. Long chains (`a + b + c ...`, `x.y.z ...`) make deep
//! trees: passes follow [`ExprKind::first_operand`] in a loop instead of calling themselves.
//!
//! Macros are expanded while parsing. Their results are nodes of their own ([`Comprehension`],
//! [`ExprKind::Bind`], [`ExprKind::OptionalMap`]) rather than the specification's general fold: what an
//! expression does stays visible to the checker, the evaluator and tools.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use crate::references::References;
use crate::source::Span;

/// A name in an expression.
pub type Name = Arc<str>;

/// The index of a node in its [`Ast`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExprId(pub(crate) u32);

impl ExprId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A node with its place.
#[derive(Clone, Debug)]
pub struct Expr {
    /// The text the node was made from.
    pub span: Span,
    /// Where messages about the node point: the operator, the dot, the opening parenthesis.
    pub anchor: u32,
    /// What the node is.
    pub kind: ExprKind,
}

impl Expr {
    /// The span messages point at.
    #[must_use]
    pub fn anchor_span(&self) -> Span {
        Span {
            start: self.anchor,
            end: self.anchor.max(self.span.end),
        }
    }
}

/// A constant in the source.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// `-1`
    Int(i64),
    /// `1u`
    Uint(u64),
    /// `1.5`
    Double(f64),
    /// `'text'`
    String(Name),
    /// `b'text'`
    Bytes(Arc<[u8]>),
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum ExprKind {
    /// A constant.
    Literal(Literal),
    /// A name; `global` if written with a leading dot.
    Ident {
        /// The name.
        name: Name,
        /// Whether it is looked up outside of any container and comprehension: `.name`.
        global: bool,
    },
    /// `operand.field`, or `operand.?field` if `optional`.
    Select {
        /// What the field is read from.
        operand: ExprId,
        /// The field.
        field: Name,
        /// Whether the result is an optional.
        optional: bool,
    },
    /// `has(operand.field)`.
    Has {
        /// What the field is looked for in.
        operand: ExprId,
        /// The field.
        field: Name,
        /// Whether it was written `has(operand.?field)`.
        optional: bool,
    },
    /// `operand[index]`, or `operand[?index]` if `optional`.
    Index {
        /// A list or map.
        operand: ExprId,
        /// A position or key.
        index: ExprId,
        /// Whether the result is an optional.
        optional: bool,
    },
    /// `function(arguments)` or `target.function(arguments)`.
    Call {
        /// The function as written.
        function: Name,
        /// The receiver.
        target: Option<ExprId>,
        /// The arguments.
        arguments: Box<[ExprId]>,
    },
    /// `!operand`, `-operand`.
    Unary(UnaryOperator, ExprId),
    /// `left operator right`.
    Binary(BinaryOperator, ExprId, ExprId),
    /// `a && b && ...`
    And(Box<[ExprId]>),
    /// `a || b || ...`
    Or(Box<[ExprId]>),
    /// `condition ? then : otherwise`
    Conditional {
        /// The condition.
        condition: ExprId,
        /// The value if it is true.
        then: ExprId,
        /// The value if it is false.
        otherwise: ExprId,
    },
    /// `[a, ?b]`
    List(Box<[ListItem]>),
    /// `{k: v, ?k: o}`
    Map(Box<[MapItem]>),
    /// `Name{field: value}`
    Struct {
        /// The type as written.
        name: Name,
        /// The fields.
        fields: Box<[FieldItem]>,
    },
    /// A macro that visits every element of a list or map.
    Comprehension(Box<Comprehension>),
    /// `cel.bind(variable, init, body)`
    Bind {
        /// The variable.
        variable: Name,
        /// Its value, evaluated when first read.
        init: ExprId,
        /// The expression the variable is visible in.
        body: ExprId,
    },
    /// `target.optMap(variable, body)`, or `optFlatMap` if `flat`.
    OptionalMap {
        /// An optional.
        target: ExprId,
        /// The variable that holds its value.
        variable: Name,
        /// The expression applied to it.
        body: ExprId,
        /// Whether `body` makes an optional itself.
        flat: bool,
    },
}

impl ExprKind {
    /// The operand of the node that makes chains deep on the left: the operand of a selection, the
    /// receiver of a call, the left side of an operator, the range of a comprehension. Every way in which a
    /// tree can become deep without nesting in the source is among them.
    #[must_use]
    pub fn first_operand(&self) -> Option<ExprId> {
        match self {
            Self::Select { operand, .. }
            | Self::Has { operand, .. }
            | Self::Index { operand, .. } => Some(*operand),
            Self::Call { target, .. } => *target,
            Self::Binary(_, left, _) => Some(*left),
            Self::Comprehension(inner) => Some(inner.range),
            Self::Bind { init, .. } => Some(*init),
            Self::OptionalMap { target, .. } => Some(*target),
            _ => None,
        }
    }
}

/// A prefix operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnaryOperator {
    /// `!`
    Not,
    /// `-`
    Negate,
}

/// An infix operator other than `&&` and `||`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryOperator {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterEqual,
    /// `in`
    In,
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Modulo,
}

impl BinaryOperator {
    /// The function cel-go knows the operator by.
    #[must_use]
    pub fn function(self) -> &'static str {
        match self {
            Self::Equal => "_==_",
            Self::NotEqual => "_!=_",
            Self::Less => "_<_",
            Self::LessEqual => "_<=_",
            Self::Greater => "_>_",
            Self::GreaterEqual => "_>=_",
            Self::In => "@in",
            Self::Add => "_+_",
            Self::Subtract => "_-_",
            Self::Multiply => "_*_",
            Self::Divide => "_/_",
            Self::Modulo => "_%_",
        }
    }

    /// The operator as written.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        match self {
            Self::In => "in",
            other => other.function().trim_matches('_'),
        }
    }
}

impl UnaryOperator {
    /// The function cel-go knows the operator by.
    #[must_use]
    pub fn function(self) -> &'static str {
        match self {
            Self::Not => "!_",
            Self::Negate => "-_",
        }
    }
}

/// An element of a list literal.
#[derive(Clone, Copy, Debug)]
pub struct ListItem {
    /// The element.
    pub value: ExprId,
    /// Whether it is an optional that is left out when empty.
    pub optional: bool,
}

/// An entry of a map literal.
#[derive(Clone, Copy, Debug)]
pub struct MapItem {
    /// The key.
    pub key: ExprId,
    /// The value.
    pub value: ExprId,
    /// Whether the value is an optional and the entry is left out when it is empty.
    pub optional: bool,
}

/// A field of a struct literal.
#[derive(Clone, Debug)]
pub struct FieldItem {
    /// The field.
    pub field: Name,
    /// Where its name stands.
    pub span: Span,
    /// The value.
    pub value: ExprId,
    /// Whether the value is an optional and the field is left unset when it is empty.
    pub optional: bool,
}

/// What a comprehension does with the elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ComprehensionKind {
    /// `all`
    All,
    /// `exists`
    Exists,
    /// `exists_one`, `existsOne`
    ExistsOne,
    /// `filter`
    Filter,
    /// `map`, `transformList`
    Map,
    /// `transformMap`: new values below the same keys.
    TransformMap,
    /// `transformMapEntry`: new entries.
    TransformMapEntry,
}

/// A macro that visits every element of a list or map.
#[derive(Clone, Debug)]
pub struct Comprehension {
    /// What is done with the elements.
    pub kind: ComprehensionKind,
    /// The list or map.
    pub range: ExprId,
    /// With one variable the element of a list or the key of a map; with two the index or the key.
    pub first: Name,
    /// The second variable: the element or the value.
    pub second: Option<Name>,
    /// Elements for which this is false are skipped.
    pub filter: Option<ExprId>,
    /// The predicate or the transformation.
    pub body: ExprId,
}

/// A parsed expression.
///
/// ```
/// let ast = cel::Env::standard().parse("pods.filter(p, p.ready).size() >= min")?;
/// let names: Vec<&str> = ast.references().identifiers.iter().map(|i| i.name.as_str()).collect();
/// assert_eq!(names, ["pods", "min"]);
/// # Ok::<(), cel::CompileError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Ast {
    pub(crate) source: Arc<str>,
    pub(crate) nodes: Arc<Vec<Expr>>,
    pub(crate) root: ExprId,
    pub(crate) references: Arc<OnceLock<References>>,
    /// The functions with a dot in their name that the environment knows.
    pub(crate) qualified_functions: Arc<HashSet<Name>>,
}

impl Ast {
    pub(crate) fn new(
        source: Arc<str>,
        mut nodes: Vec<Expr>,
        root: ExprId,
        qualified_functions: Arc<HashSet<Name>>,
    ) -> Self {
        // It stays as long as its program.
        nodes.shrink_to_fit();
        Self {
            source,
            nodes: Arc::new(nodes),
            root,
            references: Arc::default(),
            qualified_functions,
        }
    }

    /// The text the tree was parsed from.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The outermost node.
    #[must_use]
    pub fn root(&self) -> ExprId {
        self.root
    }

    /// The node with this id.
    ///
    /// # Panics
    /// If the id belongs to another tree.
    #[must_use]
    pub fn node(&self, id: ExprId) -> &Expr {
        &self.nodes[id.index()]
    }

    /// How many nodes the arena holds, including what macros replaced.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// The names, paths and functions the expression refers to, worked out once.
    #[must_use]
    pub fn references(&self) -> &References {
        self.references.get_or_init(|| References::of(self))
    }

    /// The expression as text, with macros as they were written and minimal parentheses.
    #[must_use]
    pub fn to_text(&self) -> String {
        crate::unparse::unparse(self)
    }
}
