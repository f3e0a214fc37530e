//! What expressions cost, before and while they are evaluated.

use cel::{Activation, Limits};
use cel_kube::{SchemaSizes, declare, estimate, kubernetes_env, no_refs};
use serde_json::json;

fn schema() -> serde_json::Value {
    json!({"type": "object", "properties": {
        "name": {"type": "string", "maxLength": 30},
        "free": {"type": "string"},
        "count": {"type": "integer"},
        "names": {"type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": 10}},
        "labels": {"type": "object", "maxProperties": 4, "additionalProperties": {"type": "string", "maxLength": 20}},
        "nested": {"type": "object", "properties": {"value": {"type": "integer"}}},
    }})
}

/// What is spent on real data lies within the estimate, and is what is expected.
#[test]
fn estimates_hold() {
    let schema = schema();
    let ty = declare("Self", &schema, &no_refs).expect("the schema is fine");
    let env = kubernetes_env()
        .extend()
        .variable("self", ty.clone())
        .build()
        .expect("the name is fine");
    let sizes = SchemaSizes::new("self", &schema, &no_refs);
    let data = json!({
        "name": "abcdefghijklmnopqrstuvwxyz0123", "free": "x", "count": 3,
        "names": ["aaaaaaaaaa", "bbbbbbbbbb", "cccccccccc"],
        "labels": {"a": "1", "b": "2"}, "nested": {"value": 7},
    });
    let mut activation = Activation::new();
    activation.bind_typed("self", &data, &ty);
    let check = |source: &str, spent: u64| {
        let program = env
            .compile(source)
            .unwrap_or_else(|error| panic!("{error}"));
        let outcome = program.eval_with(&activation, &Limits::DEFAULT, None);
        assert!(outcome.result.is_ok(), "{source}: {:?}", outcome.result);
        assert_eq!(outcome.cost, spent, "{source}");
        let checked = program.types().expect("it was checked");
        let estimated = estimate(checked, &sizes);
        assert!(
            estimated.min <= spent && spent <= estimated.max,
            "{source}: spent {spent}, estimated {estimated:?}"
        );
    };
    // Reading costs one per step, comparing scalars one.
    check("self.count > 1", 3);
    check("self.nested.value == 7", 4);
    check("has(self.nested.value)", 2);
    // Comparing text costs a tenth per character of the shorter one.
    check("self.name == 'abcdefghijklmnopqrst'", 4);
    check("self.name.startsWith('abc')", 3);
    check("self.name.contains('xyz')", 5);
    check("self.name.matches('^[a-z0-9]+$')", 2 + 4 * 3);
    check("self.name + self.free == 'y'", 4 + 4 + 1);
    // Each turn of a macro costs what cel-go's fold does.
    check("self.names.all(n, n != 'x')", 2 + 3 * (2 + 1 + 1 + 1) + 1);
    check(
        "self.names.exists(n, n == 'bbbbbbbbbb')",
        2 + 2 * (3 + 1 + 1 + 1) + 3 + 1,
    );
    check(
        "self.names.map(n, n).size() == 3",
        2 + 10 + 3 * (12 + 1) + 1 + 1 + 1,
    );
    check(
        "self.names.filter(n, n == 'x').size() == 0",
        2 + 10 + 3 * 2 + 1 + 1 + 1,
    );
    check(
        "self.labels.exists(k, k == 'a')",
        2 + (3 + 1 + 1 + 1) + 3 + 1,
    );
    check("self.names.exists_one(n, n == 'x')", 2 + 3 * 2 + 2);
    check("'a' in self.names", 2 + 3);
    check("'a' in self.labels", 2 + 1);
    check("self.names[0] == 'x'", 3 + 1);
    check("[1, 2, 3].size() == 3", 10 + 1 + 1);
    check("{'a': 1}.size() == 1", 30 + 1 + 1);
    check("self.count > 5 ? self.name == 'a' : true", 3);
    check(
        "self.name.lowerAscii() == self.name.upperAscii()",
        4 + 3 + 3 + 3,
    );
    check("self.name.replace('a', 'b') == 'x'", 2 + 6 + 1);
    check("self.names.isSorted()", 2 + 3);
    check("self.names.size() > 100 || true", 2 + 1 + 1);
    check("self.free.find('x') == 'x'", 2 + 1 + 1);
    check("quantity('1Gi').isLessThan(quantity('2Gi'))", 1 + 1 + 1);
    check("ip('10.0.0.1').family() == 4", 1 + 1 + 1);
    check("cidr('10.0.0.0/8').containsIP('10.0.0.1')", 1 + 1 + 1);
}

#[test]
fn what_a_schema_leaves_open_is_as_large_as_a_request() {
    let schema = json!({"type": "object", "properties": {"all": {"type": "array", "items": {"type": "string"}}}});
    let ty = declare("Self", &schema, &no_refs).expect("the schema is fine");
    let env = kubernetes_env()
        .extend()
        .variable("self", ty)
        .build()
        .expect("the name is fine");
    let sizes = SchemaSizes::new("self", &schema, &no_refs);
    let checked = env
        .check(
            &env.parse("self.all.all(x, self.all.all(y, x != y))")
                .expect("fine"),
        )
        .expect("fine");
    assert!(estimate(&checked, &sizes).max > cel_kube::STATIC_RULE_LIMIT);
    let checked = env
        .check(&env.parse("self.all.size() < 10").expect("fine"))
        .expect("fine");
    assert!(estimate(&checked, &sizes).max < 10);
}
