//! Any text: parse, check, estimate, evaluate, print.
#![no_main]

use cel::{Activation, Env, JsonOptions, Limits, Type};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|source: &str| {
    let env = Env::with_all_libraries();
    let env = env.extend().variable("d", Type::Dyn).build().expect("the name is fine");
    let data = serde_json::json!({"a": [1, "x", null, {"b": 2.5}], "s": "text", "n": 3});
    let mut activation = Activation::new();
    activation.bind_json("d", &data);
    let limits = Limits { cost: 100_000, work: 100_000, bytes_max: 1 << 20, ..Limits::DEFAULT };
    if let Ok(ast) = env.parse(source) {
        let _ = ast.references();
        let text = ast.to_text();
        assert!(env.parse(&text).is_ok() || text.contains('@'), "{source} became {text}");
    }
    for program in [env.compile(source), env.compile_unchecked(source)].into_iter().flatten() {
        if let Some(checked) = program.types() {
            let _ = cel::cost::estimate(checked, &cel::cost::NoHints, true);
        }
        if let Ok(value) = program.eval_with(&activation, &limits, None).result {
            let _ = value.to_json(JsonOptions::default());
        }
    }
});
