//! Any text both engines accept and evaluate gives the same scalar. Sources are kept short and shallow: the other engine
//! has no limits.
#![no_main]

use cel::{Activation, Env, Value};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|source: &str| {
    if source.len() > 200 || source.matches(['(', '[', '{', '!', '-', '?']).count() > 40 {
        return;
    }
    let theirs = cel_core::Env::with_standard_library();
    let (Ok(program), Ok(ast)) = (Env::standard().compile(source), theirs.compile(source)) else { return };
    let Ok(their_program) = theirs.program(&ast) else { return };
    let activation = Activation::new();
    match (program.eval(&activation), their_program.eval_empty()) {
        (Ok(Value::Int(a)), cel_core::Value::Int(b)) => assert_eq!(a, b, "{source}"),
        (Ok(Value::Bool(a)), cel_core::Value::Bool(b)) => assert_eq!(a, b, "{source}"),
        (Ok(Value::String(a)), cel_core::Value::String(b)) => assert_eq!(&*a, &*b, "{source}"),
        _ => {}
    }
});
