//! The Common Expression Language: parse, check, bound and evaluate.
//!
//! CEL expressions are small, side-effect free programs over data: `self.spec.replicas <= 100`. This crate is
//! the whole language without protobuf messages, for programs that take expressions from people they do not
//! trust and evaluate them often.
//!
//! ```
//! use cel::{Activation, Env, ObjectType, Type, Value};
//!
//! // What expressions may refer to. Types are checked before anything is evaluated.
//! let spec = ObjectType::new("Deployment.spec").field("replicas", Type::Int);
//! let deployment = ObjectType::new("Deployment").field("spec", Type::object(spec));
//! let env = Env::standard().extend().variable("self", Type::object(deployment)).build()?;
//!
//! // A program can be kept, shared between threads, and evaluated any number of times.
//! let program = env.compile("self.spec.replicas >= 0 && self.spec.replicas <= 100")?;
//! assert_eq!(program.result_type(), &Type::Bool);
//!
//! // Data is borrowed: nothing is converted or copied.
//! let object = serde_json::json!({"spec": {"replicas": 3}});
//! let mut activation = Activation::new();
//! activation.bind_json("self", &object);
//! assert_eq!(program.eval(&activation)?, Value::Bool(true));
//!
//! // Mistakes are shown where they are, with what was probably meant.
//! let error = env.compile("self.spec.replica > 1").unwrap_err();
//! assert_eq!(error.to_string(), "\
//! ERROR: <input>:1:10: undefined field 'replica'; did you mean 'replicas'?
//!  | self.spec.replica > 1
//!  | .........^");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The tour
//!
//! * An [`Env`] holds variables, functions, macros and types. [`Env::extend`] makes children cheaply.
//! * [`Env::parse`] gives an [`Ast`], an arena of nodes. [`Ast::references`] tells which names, paths and functions
//!   occur, before any types are known.
//! * [`Env::check`] deduces types by cel-go's rules; [`Env::compile`] does all steps and gives a [`Program`].
//! * [`Program::eval`] takes an [`Activation`] with the values of variables and gives a [`Value`] that borrows from
//!   both. [`Program::eval_with`] takes [`Limits`] and tells the cost.
//! * [`Function`] and [`Library`] add functions, [`Macro`] adds macros, [`Opaque`] adds types of values.
//!
//! # What is bounded
//!
//! No expression and no data can make the crate panic, overflow the stack, or use unbounded memory or time: the
//! length and nesting of sources ([`ParseLimits`]), the size of regular expressions, cost, sizes and work of
//! evaluation ([`Limits`]) all have limits, and crossing one is an error.
//!
//! # What is left out
//!
//! Protobuf messages, except for the well-known ones that are plain values (`google.protobuf.Int64Value` and its
//! like). Kubernetes' own libraries and schemas are in the crate `cel-kube`.

mod activation;
mod ast;
mod check;
pub mod cost;
mod env;
mod error;
mod eval;
mod library;
mod literals;
mod parse;
mod program;
mod references;
pub mod regex;
mod source;
mod types;
mod unknown;
mod unparse;
mod value;

pub use crate::activation::Activation;
pub use crate::ast::{
    Ast, BinaryOperator, Comprehension, ComprehensionKind, Expr, ExprId, ExprKind, FieldItem,
    ListItem, Literal, MapItem, Name, UnaryOperator,
};
pub use crate::check::Checked;
pub use crate::env::{Env, EnvBuilder, EnvError, Function, Library, Overload, TypeProvider};
pub use crate::error::{CompileError, ErrorKind, EvalError, Issue};
pub use crate::eval::{Context, Limits, Outcome};
pub use crate::library::{NAMES as LIBRARY_NAMES, find as find_library};
pub use crate::parse::macros::{Expander, Macro};
pub use crate::parse::{ParseLimits, RESERVED_WORDS};
pub use crate::program::Program;
pub use crate::references::{FunctionReference, Identifier, Read, References};
pub use crate::source::{Place, Span, place};
pub use crate::types::{Field, ListKind, ListType, MapType, ObjectType, OpaqueType, Type};
pub use crate::unknown::{Attribute, AttributePattern, PathElement};
pub use crate::value::{
    Blob, Duration, JsonError, JsonOptions, List, Map, MapBuilder, Object, Opaque, OpaqueValue,
    Record, Str, Timestamp, Value,
};
