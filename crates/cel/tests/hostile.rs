//! Hostile input: every limit is an error, none an abort.

use cel::{Activation, Env, ErrorKind, Limits, Type, Value};

fn refuse(source: &str) -> String {
    let env = Env::with_all_libraries();
    match env.compile(source) {
        Err(error) => error.to_string(),
        Ok(program) => {
            let activation = Activation::new();
            // Smaller than the default ones, to be quick without optimisation too.
            let limits = Limits {
                cost: 2_000_000,
                work: 2_000_000,
                ..Limits::DEFAULT
            };
            let outcome = program.eval_with(&activation, &limits, None);
            outcome.result.expect_err("it must be refused").to_string()
        }
    }
}

fn check(source: &str, expect: &str) {
    let message = refuse(source);
    assert!(
        message.contains(expect),
        "{}",
        message.chars().take(300).collect::<String>()
    );
    assert!(
        message.len() < 20_000,
        "messages stay short: {}",
        message.chars().take(600).collect::<String>()
    );
}

#[test]
fn nesting() {
    check(
        &format!("{}1{}", "(".repeat(1_000_000), ")".repeat(1_000_000)),
        "exceeds limit",
    );
    check(
        &format!("{}1{}", "(".repeat(40_000), ")".repeat(40_000)),
        "recursion limit exceeded",
    );
    check(&"[".repeat(90_000), "recursion limit exceeded");
    check(&"{1:".repeat(30_000), "recursion limit exceeded");
    check(
        &format!("{}x", "a ? b : ".repeat(10_000)),
        "recursion limit exceeded",
    );
    check(
        &format!("{}1", "f(".repeat(40_000)),
        "recursion limit exceeded",
    );
}

#[test]
fn nesting_at_the_limit_is_fine() {
    let env = Env::with_all_libraries();
    let activation = Activation::new();
    let depth = 240;
    let source = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let program = env
        .compile(&source)
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(program.eval(&activation).is_ok());
    assert!(
        program
            .eval(&activation)
            .is_ok_and(|value| value.to_json(cel::JsonOptions::default()).is_ok())
    );
    let source = format!("{}true{}", "!(".repeat(depth), ")".repeat(depth));
    let program = env
        .compile(&source)
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(program.eval(&activation), Ok(Value::Bool(true)));
    let source = format!("{}1{}", "[1].map(x, ".repeat(depth), ")".repeat(depth));
    let program = env
        .compile(&source)
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(program.eval(&activation).is_ok());
}

#[test]
fn long_chains() {
    check(&format!("1{}", "+1".repeat(500_000)), "exceeds limit");
    check(&format!("x{}", ".b".repeat(500_000)), "exceeds limit");
    check(
        &format!("x{}", ".b".repeat(49_000)),
        "undeclared reference to 'x'",
    );
    check(
        &format!("[1]{}", ".map(x, x)".repeat(9_000)),
        "nests deeper than",
    );
    check(
        &format!("'a'{}", ".trim()".repeat(14_000)),
        "nests deeper than",
    );
    check(&format!("1{}", "==1".repeat(30_000)), "");
    check(
        &format!("[]{}", ".sortBy(x, x)".repeat(7_000)),
        "nests deeper than",
    );
    check(
        &format!("x{}", "[0]".repeat(30_000)),
        "undeclared reference",
    );
    check(
        &format!("{}1{}", "cel.bind(x, [x, x], ".repeat(300), ")".repeat(300)),
        "recursion limit",
    );
    check(
        &format!("cel.block([{}1], 1)", "1, ".repeat(30_000)),
        "cel.block",
    );
}

#[test]
fn long_sums_are_fine() {
    let env = Env::with_all_libraries();
    let activation = Activation::new();
    let source = format!("1{}", "+1".repeat(49_000));
    let program = env
        .compile(&source)
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(program.eval(&activation), Ok(Value::Int(49_001)));
    assert_eq!(program.ast().to_text().len(), source.len() + 49_000 * 2);
    let source = format!("true{}", "&&true".repeat(15_000));
    let program = env
        .compile(&source)
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(program.eval(&activation), Ok(Value::Bool(true)));
}

#[test]
fn unchecked_chains() {
    let env = Env::with_all_libraries();
    for source in [
        format!("x{}", ".b".repeat(49_000)),
        format!("x{}", ".f()".repeat(20_000)),
        format!("f(){}", ".b".repeat(40_000)),
    ] {
        if let Ok(program) = env.compile_unchecked(&source) {
            assert!(program.eval(&Activation::new()).is_err());
        }
        let ast = env.parse(&source).expect("it parses");
        assert!(ast.references().reads.len() <= 1);
        assert!(ast.to_text().len() >= source.len());
    }
}

#[test]
fn regular_expressions() {
    check(
        &format!("'a'.matches('{}')", "a".repeat(90_000)),
        "expression too large",
    );
    check(
        "'a'.matches('((a{100}){100}){100}')",
        "invalid repeat count",
    );
    check("'a'.matches('(' + 'a')", "missing closing )");
    let pattern = "a".repeat(1 << 20);
    let env = Env::with_all_libraries()
        .extend()
        .variable("p", Type::String)
        .build()
        .expect("fine");
    let program = env.compile("'a'.matches(p)").expect("fine");
    let mut activation = Activation::new();
    activation.bind("p", Value::from(pattern.as_str()));
    let error = program.eval(&activation).expect_err("it is too large");
    assert!(error.message().contains("expression too large"), "{error}");
}

#[test]
fn loops() {
    check("lists.range(10000000).all(x, x >= 0)", "exceeds the limit");
    check(
        "lists.range(1000).map(x, lists.range(1000).map(y, lists.range(1000).map(z, x + y + z)))",
        "cost limit exceeded",
    );
    check("lists.range(1000000).map(x, lists.range(1000000))", "limit");
    let towers = format!("{}[1]{}", "[".repeat(100), "]".repeat(100)) + &".map(x, x)".repeat(150);
    let env = Env::with_all_libraries();
    let program = env
        .compile(&towers)
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(program.eval(&Activation::new()).is_ok());
    // Ten million elements of data.
    let data = serde_json::Value::Array(vec![serde_json::Value::Bool(true); 10_000_000]);
    let env = env
        .extend()
        .variable("data", Type::Dyn)
        .build()
        .expect("fine");
    let program = env.compile("data.all(x, x)").expect("fine");
    let mut activation = Activation::new();
    activation.bind_json("data", &data);
    assert_eq!(
        program.eval(&activation).expect_err("too many").kind(),
        ErrorKind::CostLimit
    );
}

#[test]
fn doubling() {
    let double = |init: &str, step: &str, times: usize| {
        let bind = |n: usize| {
            format!(
                "cel.bind(x{n}, {}, ",
                step.replace('x', &format!("x{}", n - 1))
            )
        };
        let binds: Vec<String> = (1..=times).map(bind).collect();
        let binds = binds.concat();
        format!(
            "cel.bind(x0, {init}, {binds}size(x{times}){})",
            ")".repeat(times)
        )
    };
    check(&double("'aaaaaaaaaaaaaaaa'", "x + x", 60), "limit");
    check(&double("[1]", "x + x", 60), "limit");
    // Shared parts: tiny in memory, enormous as a tree.
    let shared = double("[1]", "[x, x]", 60).replace("size(x60)", "x60 == x60");
    check(&shared, "limit");
    let env = Env::with_all_libraries();
    let program = env
        .compile(&double("[1]", "[x, x]", 60).replace("size(x60)", "x60"))
        .expect("fine");
    let activation = Activation::new();
    let value = program.eval(&activation).expect("it is small in memory");
    assert!(value.to_json(cel::JsonOptions::default()).is_err());
    check(
        &double("[1]", "[x, x]", 60).replace("size(x60)", "'%s'.format([x60])"),
        "limit",
    );
}

/// A long text that is part of many values costs little to repeat: walking over all of them must not be free.
#[test]
fn long_texts_in_many_values() {
    let text = "a".repeat(1 << 20);
    let limits = Limits {
        work: 200_000,
        bytes_max: 2 << 20,
        ..Limits::DEFAULT
    };
    let env = Env::with_all_libraries()
        .extend()
        .variable("s", Type::String)
        .build()
        .expect("fine");
    let mut activation = Activation::new();
    activation.bind("s", Value::string(text));
    let many = format!("[{}s]", "s, ".repeat(400));
    for source in [
        format!("{many}.sort().size()"),
        format!("{many} == {many}"),
        format!("{many}.distinct().size()"),
        format!("'%s'.format([{many}])"),
        "'%s'.format([{'a': s, 'b': s, 'c': s, 'd': s}])".to_owned(),
        format!("sets.contains({many}, {many})"),
        format!("{many}.join()"),
    ] {
        let program = env
            .compile(&source)
            .unwrap_or_else(|error| panic!("{error}"));
        let result = program.eval_with(&activation, &limits, None).result;
        let error = result.expect_err(&source[source.len() - 30..]);
        assert!(error.kind().is_final(), "{error}");
    }
    let program = env.compile(&many).expect("fine");
    let value = program.eval(&activation).expect("it is small in memory");
    assert!(value.to_json(cel::JsonOptions::default()).is_err());
}

#[test]
fn cost_and_interrupts_end_evaluation() {
    let env = Env::with_all_libraries();
    let program = env
        .compile("lists.range(100000).exists(x, x < 0) || true")
        .expect("fine");
    let activation = Activation::new();
    let limits = Limits {
        cost: 1_000,
        ..Limits::DEFAULT
    };
    let outcome = program.eval_with(&activation, &limits, None);
    assert_eq!(
        outcome.result.expect_err("absorbed by nothing").kind(),
        ErrorKind::CostLimit
    );
    assert!(outcome.cost < 200_000);
    let interrupted = || true;
    let outcome = program.eval_with(&activation, &Limits::DEFAULT, Some(&interrupted));
    assert_eq!(
        outcome.result.expect_err("absorbed by nothing").kind(),
        ErrorKind::Interrupted
    );
}

#[test]
fn strange_text() {
    for source in [
        "",
        " ",
        "\0",
        "'",
        "\"\\",
        "`",
        "a.`",
        "\u{feff}1",
        "1 1",
        "''' '",
        "b'\\u0041'",
        "é",
        "a.é",
        "1.e",
        "0x",
        "1e",
        "99999999999999999999",
        "?",
        "a?.b",
        "[?",
        "{?",
        "x{",
        "//",
        "in",
        ".",
        "..a",
        "-",
        "!",
        "- - 1 -",
        "a.in",
        "has(a)",
        "has()",
        "[1].map(1, 2)",
        "[1].all(x.y, true)",
        "cel.bind(1, 2, 3)",
    ] {
        let env = Env::with_all_libraries();
        assert!(env.compile(source).is_err(), "{source:?}");
    }
}
