//! The same expressions through this crate and through `cel-core`, which has a checker of its own.
//!
//! Where both accept an expression and both evaluate it, the results must be the same. Differences that are known and
//! on which the specification sides with this crate are listed.

use cel::{Activation, Env, JsonOptions};
use proptest::prelude::*;

/// Scalar expressions whose meaning the specification leaves no room in.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        any::<i8>().prop_map(|n| format!("{n}")),
        any::<u8>().prop_map(|n| format!("{n}u")),
        "[a-c]{0,3}".prop_map(|s| format!("'{s}'")),
        prop::sample::select(vec![
            "true",
            "false",
            "1.5",
            "-0.5",
            "[1, 2, 3]",
            "{'a': 1, 'b': 2}",
            "9223372036854775807"
        ])
        .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let operator =
            prop::sample::select(vec!["+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "in", "&&", "||"]);
        prop_oneof![
            (inner.clone(), operator, inner.clone()).prop_map(|(a, o, b)| format!("({a}) {o} ({b})")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a}) ? ({b}) : ({c})")),
            prop::collection::vec(inner.clone(), 1..3).prop_map(|v| format!("[{}]", v.join(", "))),
            inner.clone().prop_map(|a| format!("!({a})")),
            (inner.clone(), prop::sample::select(vec!["all", "exists", "exists_one", "map", "filter"]), inner.clone())
                .prop_map(|(r, m, e)| format!("({r}).{m}(v, {e})")),
            (prop::sample::select(vec!["size", "string", "int", "uint", "double"]), inner)
                .prop_map(|(f, a)| format!("{f}({a})")),
        ]
    })
}

/// The value of the other engine as JSON, `None` for an error or what has no JSON form.
fn other_json(value: &cel_core::Value) -> Option<serde_json::Value> {
    use cel_core::Value;
    Some(match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Int(value) => (*value).into(),
        Value::UInt(value) => i64::try_from(*value).ok()?.into(),
        Value::Double(value) => serde_json::Number::from_f64(*value)?.into(),
        Value::String(text) => text.to_string().into(),
        Value::List(list) => list
            .iter()
            .map(other_json)
            .collect::<Option<Vec<_>>>()?
            .into(),
        _ => return None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn engines_agree(source in expression()) {
        // Known difference: large doubles are written with an exponent, as Go writes them.
        if source.contains("string(") && (source.contains("double(") || source.contains('.')) {
            return Ok(());
        }
        let env = Env::standard();
        let theirs = cel_core::Env::with_standard_library();
        let (Ok(program), Ok(ast)) = (env.compile(&source), theirs.compile(&source)) else { return Ok(()) };
        let Ok(their_program) = theirs.program(&ast) else { return Ok(()) };
        let their_value = their_program.eval_empty();
        let activation = Activation::new();
        match (program.eval(&activation), &their_value) {
            (Ok(ours), their_value) => {
                let ours = ours.to_json(JsonOptions::default()).ok();
                let theirs = other_json(their_value);
                if let (Some(ours), Some(theirs)) = (&ours, &theirs) {
                    prop_assert_eq!(ours, theirs, "{}", source);
                }
                prop_assert!(!matches!(their_value, cel_core::Value::Error(_)), "{}: {:?}, theirs {:?}", source, ours, their_value);
            }
            (Err(error), cel_core::Value::Error(_)) => drop(error),
            (Err(error), their_value) => prop_assert!(false, "{}: ours {}, theirs {:?}", source, error, their_value),
        }
    }
}
