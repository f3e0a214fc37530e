//! Measures compile and evaluation time per expression.
//!
//! `cargo run -p cel --release --example bench` prints one JSON line per expression: with `self` declared as `dyn`, and
//! again with a declared schema. Then it runs the package in `compare/`, which measures this crate and the crate
//! `cel` 0.15 in one process, and prints the ratio. That package stands apart because two packages named `cel` in one
//! workspace would make `-p cel` ambiguous.
//!
//! Expressions and object: `suite.rs`.

mod suite;

use std::path::Path;
use std::process::Command;

use cel::{Activation, Env, ObjectType, Type};

fn main() {
    let object = suite::object();
    measure("dyn", &Type::Dyn, &object);
    measure("schema", &declared(), &object);
    if std::env::args().any(|argument| argument == "--own") {
        return;
    }
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("compare/Cargo.toml");
    let status = Command::new("cargo")
        .args(["run", "--release", "--quiet", "--manifest-path"])
        .arg(manifest)
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => eprintln!("the comparison ended with {status}"),
        Err(error) => eprintln!("the comparison could not be started: {error}"),
    }
}

fn measure(declared_as: &str, ty: &Type, object: &serde_json::Value) {
    let env = Env::standard()
        .extend()
        .variable("self", ty.clone())
        .build()
        .expect("'self' is a name");
    for source in suite::EXPRESSIONS {
        let program = match env.compile(source) {
            Ok(program) => program,
            Err(error) => {
                eprintln!("{error}");
                continue;
            }
        };
        let mut activation = Activation::new();
        match declared_as {
            "schema" => activation.bind_typed("self", object, ty),
            _ => activation.bind_json("self", object),
        };
        if let Err(error) = program.eval(&activation) {
            eprintln!("{source}: {error}");
            continue;
        }
        let compile = suite::nanoseconds(|| env.compile(source));
        let eval = suite::nanoseconds(|| program.eval(&activation).is_ok());
        let line = serde_json::json!({
            "self": declared_as, "expression": source, "compile_ns": compile.round(), "eval_ns": eval.round(),
        });
        println!("{line}");
    }
}

/// The schema of the object.
fn declared() -> Type {
    let port = ObjectType::new("Web.spec.containers.ports").field("containerPort", Type::Int);
    let container = ObjectType::new("Web.spec.containers")
        .field("name", Type::String)
        .field("image", Type::String)
        .field("ports", Type::list(Type::object(port)));
    let spec = ObjectType::new("Web.spec")
        .field("replicas", Type::Int)
        .field("containers", Type::list(Type::object(container)));
    let condition = ObjectType::new("Web.status.conditions")
        .field("type", Type::String)
        .field("status", Type::String);
    let status = ObjectType::new("Web.status")
        .field("readyReplicas", Type::Int)
        .field("conditions", Type::list(Type::object(condition)));
    let metadata = ObjectType::new("Web.metadata")
        .field("name", Type::String)
        .field("namespace", Type::String)
        .field("labels", Type::map(Type::String, Type::String));
    Type::object(
        ObjectType::new("Web")
            .field("metadata", Type::object(metadata))
            .field("spec", Type::object(spec))
            .field("status", Type::object(status)),
    )
}
