//! Measures both engines on the expressions of the benchmark, in the same process, and prints the ratio.

#[path = "../../examples/bench/suite.rs"]
mod suite;

use ours::{Activation, Env, Type};

fn main() {
    let object = suite::object();
    let env = Env::standard()
        .extend()
        .variable("self", Type::Dyn)
        .build()
        .expect("'self' is a name");
    let mut context = other::Context::default();
    let converted = other::to_value(&object).expect("JSON is convertible");
    context.add_variable_from_value("self", converted);
    for source in suite::EXPRESSIONS {
        let mut activation = Activation::new();
        activation.bind_json("self", &object);
        let ours = env.compile(source).expect("the expressions are correct");
        let theirs = other::Program::compile(source).expect("the expressions are correct");
        let (our_value, their_value) = (ours.eval(&activation), theirs.execute(&context));
        let our_json = our_value.ok().and_then(|value| value.to_json(ours::JsonOptions::default()).ok());
        let their_json = their_value.ok().and_then(|value| value.json().ok());
        assert_eq!(our_json, their_json, "{source}: the engines disagree");
        // Alternating, so that a busy moment hits both.
        let mut best = [f64::MAX; 2];
        for _ in 0..3 {
            best[0] = best[0].min(suite::nanoseconds(|| ours.eval(&activation).is_ok()));
            best[1] = best[1].min(suite::nanoseconds(|| theirs.execute(&context).is_ok()));
        }
        let ours_compile = suite::nanoseconds(|| env.compile(source));
        let theirs_compile = suite::nanoseconds(|| other::Program::compile(source));
        let line = serde_json::json!({
            "expression": source,
            "eval_ns": best[0].round(),
            "other_eval_ns": best[1].round(),
            "ratio": (best[1] / best[0] * 10.0).round() / 10.0,
            "compile_ns": ours_compile.round(),
            "other_compile_ns": theirs_compile.round(),
        });
        println!("{line}");
    }
}
