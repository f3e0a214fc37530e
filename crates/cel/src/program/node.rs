//! The nodes of a program.

use std::sync::{Arc, OnceLock};

use crate::ast::{BinaryOperator, ComprehensionKind, Name};
use crate::env::Overload;
use crate::error::EvalError;
use crate::regex::Regex;
use crate::source::Span;
use crate::types::{Field, ObjectType, Type};
use crate::value::Value;

/// Slots for places that several attributes share.
pub const PLACE_SLOTS: usize = 8;
/// No slot.
pub const NO_SLOT: u8 = u8::MAX;

/// A node of a program: what is left of a syntax node once names and overloads are resolved.
pub enum Node {
    /// A constant.
    Constant(Value<'static>),
    /// A constant worked out while lowering, and what working it out costs.
    Folded(Box<(Value<'static>, u64)>),
    /// A variable and the fields read from it.
    Attribute(Box<Attribute>),
    /// `a && b && ...`
    And(Box<[Node]>),
    /// `a || b || ...`
    Or(Box<[Node]>),
    /// `!a`
    Not(Box<(Node, Span)>),
    /// `-a`
    Negate(Box<(Node, Span)>),
    /// `a ? b : c`
    Conditional(Box<Conditional>),
    /// `==`, `<`, `in` ...
    Compare(Box<Binary>),
    /// `a + b - c ...`, from left to right.
    Chain(Box<Chain>),
    /// `[a, ?b]`
    List(Box<[(Node, bool)]>),
    /// `{k: v, ?k: v}`
    Map(Box<[MapEntry]>),
    /// `Name{field: value}`
    Struct(Box<Struct>),
    /// A call of a function.
    Call(Box<Call>),
    /// A call of one of the commonest functions.
    Intrinsic(Box<(Intrinsic, Call)>),
    /// `matches` with a constant pattern.
    Matches(Box<Matches>),
    /// A macro over a list or map.
    Comprehension(Box<Loop>),
    /// `cel.bind`
    Bind(Box<Bind>),
    /// `optMap`, `optFlatMap`
    OptionalMap(Box<OptionalMap>),
    /// What can only fail.
    Fail(Box<EvalError>),
}

/// A variable, or a value, and the fields and elements read from it.
pub struct Attribute {
    pub base: Base,
    pub qualifiers: Box<[Qualifier]>,
    /// Whether only the presence of the last field is asked for.
    pub test: bool,
    /// Whether it is a variable and fields or elements known before evaluation, none of them optional.
    pub is_plain: bool,
    pub span: Span,
}

/// What an attribute starts from.
pub enum Base {
    /// A variable of the activation, and the slot its place is kept in.
    Variable(Name, u8),
    /// A local variable, by slot.
    Local(u32),
    /// Any other value.
    Value(Node),
    /// Unchecked: the variables the chain may name, longest first, with how many qualifiers each takes.
    Candidates(Box<[(Name, usize)]>),
}

/// A step of an attribute.
pub struct Qualifier {
    pub kind: QualifierKind,
    pub optional: bool,
    /// The slot the place behind this step is kept in, for other attributes that begin alike.
    pub cache: u8,
    /// The field as the checker found it: data of the same type needs no lookup of its declaration.
    pub declared: Option<Box<Declared>>,
    pub span: Span,
}

/// A field of a type.
pub struct Declared {
    pub object: Arc<ObjectType>,
    pub field: Field,
}

/// What a step reads.
pub enum QualifierKind {
    /// A field, or a string key.
    Field(Name),
    /// A constant index or key.
    Constant(Value<'static>),
    /// An index or key worked out while evaluating.
    Dynamic(Node),
}

pub struct Conditional {
    pub condition: Node,
    pub then: Node,
    pub otherwise: Node,
    pub span: Span,
}

pub struct Binary {
    pub operator: BinaryOperator,
    pub left: Node,
    pub right: Node,
    pub span: Span,
}

pub struct Chain {
    pub first: Node,
    pub rest: Box<[(BinaryOperator, Node, Span)]>,
}

pub struct MapEntry {
    pub key: Node,
    pub value: Node,
    pub optional: bool,
    pub span: Span,
}

pub struct Struct {
    pub kind: StructKind,
    pub fields: Box<[(Name, Node, bool)]>,
    pub span: Span,
}

/// What a struct literal makes.
pub enum StructKind {
    Object(Arc<ObjectType>),
    /// A well-known message that is a plain value: `google.protobuf.Int64Value`.
    WellKnown(Name),
}

pub struct Call {
    pub name: Name,
    pub overloads: Box<[Arc<Overload>]>,
    pub arguments: Box<[Node]>,
    pub span: Span,
}

/// Functions the evaluator knows itself; the call behind is for arguments of unexpected types.
#[derive(Clone, Copy)]
pub enum Intrinsic {
    Size,
    /// `string()`
    Text,
    StartsWith,
    EndsWith,
    Contains,
}

pub struct Matches {
    pub target: Node,
    pub pattern: Name,
    pub regex: OnceLock<Result<Regex, EvalError>>,
    pub span: Span,
}

pub struct Loop {
    pub kind: ComprehensionKind,
    pub range: Node,
    /// The slot of the first variable; the second has the next one.
    pub slot: u32,
    pub two_variables: bool,
    pub filter: Option<Node>,
    pub body: Node,
    pub span: Span,
}

pub struct Bind {
    pub slot: u32,
    pub init: Node,
    pub body: Node,
}

pub struct OptionalMap {
    pub target: Node,
    pub slot: u32,
    pub body: Node,
    pub flat: bool,
    pub span: Span,
}

impl Node {
    /// The constant the node is, if it is one.
    pub fn constant(&self) -> Option<&Value<'static>> {
        match self {
            Self::Constant(value) => Some(value),
            Self::Folded(folded) => Some(&folded.0),
            _ => None,
        }
    }

    /// A node for a type used as a value.
    pub fn of_type(ty: &Type) -> Self {
        Self::Constant(Value::Type(ty.clone()))
    }
}
