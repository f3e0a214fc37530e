//! `omit()`: the field it is the value of is left out.

use std::any::Any;

use cel::{EvalError, Function, Library, Opaque, Type, Value};

/// The value of `omit()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Omit;

impl Opaque for Omit {
    fn type_of(&self) -> Type {
        Type::opaque("kro.omit")
    }

    fn equals(&self, _: &dyn Opaque) -> bool {
        false
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn comparison_error(&self) -> Option<EvalError> {
        Some(EvalError::invalid("omit() cannot be compared"))
    }
}

pub fn library() -> Library {
    Library::new("kro.omit").function(Function::new("omit").global(
        "omit",
        [],
        Type::Dyn,
        |_, _| Ok(Value::opaque(Omit)),
    ))
}
