//! What evaluation costs, with the numbers cel-go counts.

use cel::{Activation, Env, Limits, Type};
use serde_json::json;

#[test]
fn costs_are_those_of_cel_go() {
    let env = Env::with_all_libraries()
        .extend()
        .variable("text", Type::String)
        .variable("other", Type::String)
        .variable("map", Type::map(Type::String, Type::Dyn))
        .variable("list", Type::list(Type::Int))
        .variable("x", Type::Int)
        .build()
        .expect("the names are fine");
    let data = json!({
        "text": "a".repeat(500), "other": "b".repeat(500), "map": {"key": {"field": 1}}, "list": [1], "x": 1,
    });
    let mut activation = Activation::new();
    for (name, value) in data.as_object().expect("it is an object") {
        activation.bind_json(name, value);
    }
    let check = |source: &str, expect: u64| {
        let program = env.compile(source).unwrap_or_else(|error| panic!("{error}"));
        let outcome = program.eval_with(&activation, &Limits::DEFAULT, None);
        assert!(outcome.result.is_ok(), "{source}: {:?}", outcome.result);
        assert_eq!(outcome.cost, expect, "{source}");
    };
    check("'Hello World!'", 0);
    check("x", 1);
    check("map['key']", 2);
    check("list[0]", 2);
    check("map.key.field", 3);
    check("map['ke' + 'y']", 3);
    check("list[3-3]", 3);
    check("has(map.key.field)", 2);
    check("[1, 2, 3]", 10);
    check("{'a': 1, 'b': 2, 'c': 3}", 30);
    check("[1, 2, 3].all(x, true)", 20);
    check("[].all(x, true)", 11);
    check("text.matches('[0-9]')", 103);
    check("'123'.matches('[0-9]')", 2);
    check("true || false", 0);
    check("1 < 2", 1);
    check("2 in [1, 2, 3]", 13);
    check("1 + 1", 1);
    check("true ? 1 : 2", 0);
    check("size('123')", 1);
    check("text.size()", 2);
    check("'12345678901234567890' == '123456789012345678901234567890'", 2);
    check("bytes(text)", 51);
    check("string(1)", 1);
    check("text.contains(other)", 2502);
    check("(x > 2 ? list : list).all(y, true)", 6);
    check("false ? false : 1 > 3", 1);
    check("map.all(k, map[k].field > 0)", 9);
    check("(list + list).size() > 1", 5);
    check("'abcdefg'.contains('val1' + 'val2222222')", 4);
    check("(1 > 2 ? 5 : 3) > 1", 2);
    check("(1 > 2 || 2 > 1) == true", 3);
    check("[{'k1': 1}, {'k2': 2}].all(x, true)", 77);
}
