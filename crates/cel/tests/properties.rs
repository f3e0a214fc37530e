//! Properties of generated expressions and of arbitrary text.

use cel::{Activation, Env, JsonOptions, Limits, Type, Value};
use proptest::prelude::*;

/// Expressions over the variables `i`, `s`, `b`, `l`, `m` and `d`, well-typed or not.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        any::<i8>().prop_map(|n| n.to_string()),
        any::<u8>().prop_map(|n| format!("{n}u")),
        (-4_i8..5).prop_map(|n| format!("{n}.5")),
        "[a-c]{0,3}".prop_map(|s| format!("'{s}'")),
        prop::sample::select(vec![
            "true",
            "false",
            "null",
            "i",
            "s",
            "b",
            "l",
            "m",
            "d",
            "d.x",
            "d.missing",
            "m['a']",
            "l[0]",
            "l[9]",
            "b'x'",
            "[]",
            "{}",
            "duration('1m')",
            "timestamp(0)",
            "int",
            "9223372036854775807",
            "0.0/0.0",
        ])
        .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        let operator = prop::sample::select(vec![
            "+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "in", "&&", "||",
        ]);
        prop_oneof![
            (inner.clone(), operator, inner.clone())
                .prop_map(|(a, o, b)| format!("({a}) {o} ({b})")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| format!("({a}) ? ({b}) : ({c})")),
            prop::collection::vec(inner.clone(), 0..4).prop_map(|v| format!("[{}]", v.join(", "))),
            (inner.clone(), inner.clone()).prop_map(|(k, v)| format!("{{{k}: {v}}}")),
            inner.clone().prop_map(|a| format!("!({a})")),
            inner.clone().prop_map(|a| format!("-({a})")),
            (
                inner.clone(),
                prop::sample::select(vec!["all", "exists", "exists_one", "map", "filter"]),
                inner.clone()
            )
                .prop_map(|(r, m, e)| format!("({r}).{m}(i, {e})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a})[{b}]")),
            (
                prop::sample::select(vec![
                    "size", "string", "int", "uint", "double", "bool", "dyn", "type", "bytes"
                ]),
                inner.clone()
            )
                .prop_map(|(f, a)| format!("{f}({a})")),
            (
                inner.clone(),
                prop::sample::select(vec!["startsWith", "contains", "matches"]),
                inner
            )
                .prop_map(|(a, f, b)| format!("({a}).{f}({b})")),
        ]
    })
}

fn env() -> Env {
    Env::with_all_libraries()
        .extend()
        .variable("i", Type::Int)
        .variable("s", Type::String)
        .variable("b", Type::Bool)
        .variable("l", Type::list(Type::Int))
        .variable("m", Type::map(Type::String, Type::Int))
        .variable("d", Type::Dyn)
        .build()
        .expect("the names are fine")
}

fn data() -> serde_json::Value {
    serde_json::json!({"i": 3, "s": "abc", "b": true, "l": [1, 2, 3], "m": {"a": 1}, "d": {"x": [1, "y", {"z": null}]}})
}

fn activation(data: &serde_json::Value) -> Activation<'_> {
    let mut activation = Activation::new();
    for (name, json) in data.as_object().expect("it is an object") {
        activation.bind_json(name, json);
    }
    activation
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_text_is_read_or_refused(source in ".{0,60}") {
        let env = env();
        if let Ok(ast) = env.parse(&source) {
            let _ = ast.references();
            let _ = env.check(&ast).map_err(|error| error.to_string());
        }
    }

    #[test]
    fn fragments_are_read_or_refused(
        parts in prop::collection::vec(prop::sample::select(vec![
            "a", ".", "?", "[", "]", "(", ")", "{", "}", ",", ":", "-", "!", "+", "==", "&&", "in", "has", "'", "\"",
            "\\", "1", "u", ".5", "b", "r", "`", "//", "\n", "map", "x,", "cel.bind(", "é", "\u{0}",
        ]), 0..40)
    ) {
        let source = parts.concat();
        let env = env();
        if let Ok(program) = env.compile(&source) {
            let data = data();
            let _ = program.eval(&activation(&data));
        }
        if let Ok(program) = env.compile_unchecked(&source) {
            let _ = program.eval(&Activation::new());
        }
    }

    /// What is written reads as the same tree, and evaluates to the same.
    #[test]
    fn written_expressions_read_the_same(source in expression()) {
        let env = env();
        let ast = env.parse(&source).expect("generated expressions are syntactically correct");
        let text = ast.to_text();
        let again = env.parse(&text);
        prop_assert!(again.is_ok(), "{} became {}", source, text);
        prop_assert_eq!(again.map(|ast| ast.to_text()).ok(), Some(text.clone()));
        if let (Ok(a), Ok(b)) = (env.compile_unchecked(&source), env.compile_unchecked(&text)) {
            let data = data();
            let (first, second) = (activation(&data), activation(&data));
            let (a, b) = (a.eval(&first), b.eval(&second));
            prop_assert_eq!(format!("{a:?}").split("span").next().map(str::to_owned), format!("{b:?}").split("span").next().map(str::to_owned));
        }
    }

    /// The checker's promise: a result has the deduced type, and no overload is missing where nothing is dyn.
    #[test]
    fn results_have_the_deduced_type(source in expression()) {
        let env = env();
        let Ok(program) = env.compile(&source) else { return Ok(()) };
        let data = data();
        let activation = activation(&data);
        if let Ok(value) = program.eval(&activation) {
            let (deduced, actual) = (program.result_type(), value.type_of());
            prop_assert!(deduced.is_assignable_from(&actual), "{}: deduced {}, got {}", source, deduced, actual);
        }
    }

    /// Cost is the same every time, and a limit below it ends evaluation.
    #[test]
    fn cost_is_deterministic_and_limits_hold(source in expression()) {
        let env = env();
        let Ok(program) = env.compile(&source) else { return Ok(()) };
        let data = data();
        let activation = activation(&data);
        let first = program.eval_with(&activation, &Limits::DEFAULT, None);
        let second = program.eval_with(&activation, &Limits::DEFAULT, None);
        prop_assert_eq!(first.cost, second.cost);
        if first.cost > 0 && first.result.is_ok() {
            let limits = Limits { cost: first.cost - 1, ..Limits::DEFAULT };
            prop_assert!(program.eval_with(&activation, &limits, None).result.is_err(), "{}", source);
        }
        let checked = program.types().expect("it was checked");
        let estimate = cel::cost::estimate(checked, &cel::cost::NoHints, false);
        // cel-go's estimate counts nothing for selections from dyn, and less than it spends for an index of what is
        // no variable.
        if first.result.is_ok() && !source.contains('d') && !source.contains(")[") {
            prop_assert!(first.cost <= estimate.max, "{}: spent {}, estimated {:?}", source, first.cost, estimate);
        }
    }

    /// Equality of values is that of their JSON.
    #[test]
    fn results_survive_json(source in expression()) {
        let env = env();
        let Ok(program) = env.compile(&source) else { return Ok(()) };
        let data = data();
        let activation = activation(&data);
        let Ok(value) = program.eval(&activation) else { return Ok(()) };
        if let Ok(json) = value.to_json(JsonOptions::default()) {
            let text = serde_json::to_string(&json).expect("JSON is printable");
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&text).ok(), Some(json));
        }
    }

    #[test]
    fn patterns_are_translated_or_refused(pattern in "[a-c\\[\\]\\\\(){}*+?|^$.,0-9-]{0,12}", text in "[a-c0-9]{0,6}") {
        if let Ok(translated) = cel::regex::translate(&pattern) {
            // What is translated compiles, but for limits of size and nesting.
            if let Ok(regex) = cel::regex::compile(&pattern) {
                let _ = regex.is_match(&text);
            } else {
                prop_assert!(false, "{} became {}", pattern, translated);
            }
        }
    }

    #[test]
    fn durations_and_timestamps_survive_text(nanoseconds in any::<i64>(), seconds in -62_135_596_800_i64..253_402_300_800, fraction in 0_u32..1_000_000_000) {
        let duration = cel::Duration::from_nanoseconds(nanoseconds);
        prop_assert_eq!(cel::Duration::parse(&duration.to_string()), Some(duration));
        prop_assert_eq!(cel::Duration::parse(&duration.to_seconds_text()), Some(duration));
        let timestamp = cel::Timestamp::new(seconds, fraction).expect("it is in range");
        prop_assert_eq!(cel::Timestamp::parse(&timestamp.to_string()), Some(timestamp));
    }

    #[test]
    fn numbers_compare_as_an_order(a in any::<i64>(), b in any::<u64>(), c in any::<f64>()) {
        let values = [Value::Int(a), Value::Uint(b), Value::Double(c)];
        for x in &values {
            for y in &values {
                prop_assert_eq!(x.compare(y), y.compare(x).map(std::cmp::Ordering::reverse));
            }
        }
    }
}
