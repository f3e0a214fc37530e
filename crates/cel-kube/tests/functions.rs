//! What the functions of Kubernetes and kro give, as tables.

use cel::{Activation, Env};
use cel_kube::{Converted, kro_env, kubernetes_env, to_json};
use serde_json::{Value as Json, json};

fn eval(env: &Env, source: &str) -> Result<Json, String> {
    let program = env.compile(source).map_err(|error| error.to_string())?;
    let activation = Activation::new();
    let value = program
        .eval(&activation)
        .map_err(|error| error.to_string())?;
    match to_json(&value).map_err(|error| error.to_string())? {
        Converted::Value(json) => Ok(json),
        Converted::Omit => Ok(json!("(omit)")),
    }
}

fn check_all(env: &Env, table: &[(&str, Json)]) {
    for (source, expect) in table {
        assert_eq!(eval(env, source).as_ref(), Ok(expect), "{source}");
    }
}

fn check_errors(env: &Env, table: &[(&str, &str)]) {
    for (source, expect) in table {
        let error = eval(env, source).expect_err(source);
        assert!(error.contains(expect), "{source}: {error}");
    }
}

#[test]
fn lists() {
    check_all(
        &kubernetes_env(),
        &[
            ("[1, 2, 3].isSorted()", json!(true)),
            ("['b', 'a'].isSorted()", json!(false)),
            ("[].isSorted()", json!(true)),
            ("[1, 3].sum()", json!(4)),
            ("[1.0, 3.0].sum()", json!(4.0)),
            ("[duration('1m'), duration('1s')].sum()", json!("1m1s")),
            ("[3, 1, 2].min()", json!(1)),
            ("['a', 'c', 'b'].max()", json!("c")),
            ("[1, 2, 2].indexOf(2)", json!(1)),
            ("[1, 2, 2].lastIndexOf(2)", json!(2)),
            ("['a'].indexOf('b')", json!(-1)),
            ("'abcabc'.indexOf('c')", json!(2)),
        ],
    );
    check_errors(
        &kubernetes_env(),
        &[("[].min() == 1", "min called on empty list")],
    );
}

#[test]
fn quantities() {
    check_all(
        &kubernetes_env(),
        &[
            ("isQuantity('1.3Gi')", json!(true)),
            ("isQuantity('1.3GiB')", json!(false)),
            (
                "quantity('50k').add(quantity('20k')) == quantity('70k')",
                json!(true),
            ),
            ("quantity('50k').sub(20000).asInteger()", json!(30000)),
            ("quantity('200M').compareTo(quantity('0.2G'))", json!(0)),
            (
                "quantity('150Mi').isGreaterThan(quantity('100Mi'))",
                json!(true),
            ),
            ("quantity('50.5').isInteger()", json!(false)),
            ("quantity('-5').sign()", json!(-1)),
            ("quantity('100m').asApproximateFloat()", json!(0.1)),
        ],
    );
    check_errors(
        &kubernetes_env(),
        &[(
            "quantity('50.5').asInteger()",
            "cannot convert value to integer",
        )],
    );
}

#[test]
fn urls() {
    check_all(
        &kubernetes_env(),
        &[
            ("isURL('https://a:b/')", json!(false)),
            ("isURL('../relative')", json!(false)),
            (
                "url('https://u:p@example.com:8080/a%20b/c?k=1&k=2&l=x+y').getHost()",
                json!("example.com:8080"),
            ),
            ("url('https://example.com:8080/').getPort()", json!("8080")),
            ("url('https://[::1]:80/').getHostname()", json!("::1")),
            (
                "url('HTTPS://example.com/a b').getEscapedPath()",
                json!("/a%20b"),
            ),
            (
                "url('https://example.com/?k=1&k=2&l=x+y').getQuery()",
                json!({"k": ["1", "2"], "l": ["x y"]}),
            ),
            ("url('/path').getScheme()", json!("")),
        ],
    );
    check_errors(
        &kubernetes_env(),
        &[(
            "url(':::')",
            "URL parse error during conversion from string",
        )],
    );
}

#[test]
fn regular_expressions_and_versions() {
    check_all(
        &kubernetes_env(),
        &[
            ("'abc 123'.find('[0-9]+')", json!("123")),
            ("'abc'.find('[0-9]+')", json!("")),
            ("'1 22 333'.findAll('[0-9]+')", json!(["1", "22", "333"])),
            ("'1 22 333'.findAll('[0-9]+', 2)", json!(["1", "22"])),
            ("semver('1.2.3').isLessThan(semver('1.10.0'))", json!(true)),
            ("semver('1.0.0-rc.1').compareTo(semver('1.0.0'))", json!(-1)),
            ("isSemver('v1.0')", json!(false)),
            ("isSemver('v1.0', true)", json!(true)),
            ("semver('v01.1', true).patch()", json!(0)),
        ],
    );
}

#[test]
fn a_wrong_pattern_that_is_written_out_does_not_compile() {
    let check = |source: &str, expect: Option<&str>| {
        let compiled = kubernetes_env().compile(source);
        match (compiled, expect) {
            (Ok(_), None) => {}
            (Err(error), Some(expect)) => assert!(error.to_string().contains(expect), "{error}"),
            (compiled, _) => panic!("{source}: {}", compiled.is_ok()),
        }
    };
    check("'a'.matches('(')", Some("1:13: invalid matches argument"));
    check("matches('a', '(')", Some("1:14: invalid matches argument"));
    check("'a'.find('(')", Some("1:10: invalid find argument"));
    check(
        "'a'.findAll('(', 1)",
        Some("1:13: invalid findAll argument"),
    );
    check("'('.find('a')", None);
    // What is computed is only known when it is evaluated.
    check("'a'.find('(' + 'a')", None);
}

#[test]
fn network() {
    check_all(
        &kubernetes_env(),
        &[
            (
                "cidr('192.168.0.0/24').containsIP('192.168.0.7')",
                json!(true),
            ),
            (
                "cidr('192.168.0.0/24').containsCIDR('192.168.0.0/25')",
                json!(true),
            ),
            ("cidr('192.168.1.5/24').masked().ip().family()", json!(4)),
            ("isIP('::1')", json!(true)),
            ("ip.isCanonical('2001:db8::abcd')", json!(true)),
            ("string(ip('10.0.0.1'))", json!("10.0.0.1")),
            (
                "isIP('::ffff:c0a8:1') || isCIDR('::ffff:1.2.3.4/128')",
                json!(false),
            ),
        ],
    );
}

#[test]
fn kro_functions() {
    check_all(
        &kro_env(),
        &[
            (
                "{'a': 1, 'b': 1}.merge({'b': 2, 'c': 3})",
                json!({"a": 1, "b": 2, "c": 3}),
            ),
            (
                "{'a': {'x': 1, 'y': [1]}}.deepMerge({'a': {'y': [2], 'z': 3}})",
                json!({"a": {"x": 1, "y": [2], "z": 3}}),
            ),
            (
                r"json.marshal({'b': '<&>', 'a': [1, 2.5, true, null]})",
                json!(r#"{"a":[1,2.5,true,null],"b":"\u003c\u0026\u003e"}"#),
            ),
            (
                r#"json.unmarshal('{"a": [1, "x"]}')"#,
                json!({"a": [1.0, "x"]}),
            ),
            (
                "'%x'.format([hash.md5('a')])",
                json!("0cc175b9c0f1b6a831c399e269772661"),
            ),
            ("'%x'.format([hash.fnv64a('a')])", json!("af63dc4c8601ec8c")),
            (
                "'%x'.format([hash.sha256('')])",
                json!("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            ),
            ("lists.setAtIndex([1, 2], 1, 5)", json!([1, 5])),
            ("lists.insertAtIndex([1, 2], 2, 5)", json!([1, 2, 5])),
            ("lists.removeAtIndex([1, 2], 0)", json!([2])),
            (
                "random.seededString(4, 's') == random.seededString(4, 's')",
                json!(true),
            ),
            ("random.seededInt(3, 4, 'x')", json!(3)),
            ("[1, omit(), {'a': omit(), 'b': 2}]", json!([1, {"b": 2}])),
            ("omit()", json!("(omit)")),
            (
                "runtime.newCondition({type: 'Ready', status: 'True'}).status",
                json!("True"),
            ),
            (
                "runtime.condition({'status': {'conditions': [{'type': 'A', 'status': 'False'}]}}, 'A').status",
                json!("False"),
            ),
            ("runtime.condition({}, 'A').status", json!("")),
            ("[3, 1, 2].sortBy(x, -x)", json!([3, 2, 1])),
            ("{'a': 1}.transformMapEntry(k, v, {v: k}).size()", json!(1)),
            ("optional.none()", json!(null)),
            ("[1, 2].last().value()", json!(2)),
        ],
    );
    check_errors(
        &kro_env(),
        &[
            (
                "lists.setAtIndex([1], 1, 5)",
                "index 1 out of bounds [0, 1)",
            ),
            (
                "runtime.newCondition({type: 'Ready'})",
                "key \"status\" is required",
            ),
            (
                "runtime.newCondition({'type': 'Ready', status: 'True'})",
                "keys must be bare identifiers",
            ),
            (
                "runtime.newCondition({type: '', status: 'True'})",
                "type must not be empty",
            ),
            (
                "runtime.newCondition({type: 'x', status: 'Maybe'})",
                "one of True, False, Unknown",
            ),
            ("omit() == 1", "omit() cannot be compared"),
            ("1.deepMerge({})", "no such overload"),
            ("random.seededInt(4, 4, 'x')", "min must be less than max"),
            ("json.unmarshal('{')", "json.unmarshal"),
            ("b'x'", "bytes cannot be written"),
            ("math.abs(-1)", "undeclared reference"),
        ],
    );
}

#[test]
fn functions_with_qualifiers_are_no_variables() {
    let env = kro_env();
    let ast = env
        .parse("json.marshal(schema.spec) + hash.nope(x.y) + base64.encode(b'')")
        .expect("it parses");
    let names: Vec<&str> = ast
        .references()
        .identifiers
        .iter()
        .map(|identifier| identifier.name.as_str())
        .collect();
    assert_eq!(names, ["schema", "hash", "x"]);
    assert_eq!(env.unknown_functions(&ast), ["nope"]);
    let reads: Vec<String> = ast
        .references()
        .reads
        .iter()
        .map(|read| format!("{}{:?}", read.root, read.path.len()))
        .collect();
    assert_eq!(reads, ["schema1", "hash0", "x1"]);
}

#[test]
fn formats() {
    check_all(
        &kubernetes_env(),
        &[
            ("format.dns1123Label().validate('a-b')", json!(null)),
            (
                "format.dns1123Label().validate('A').hasValue()",
                json!(true),
            ),
            (
                "format.named('uuid').value().validate('x').value().size()",
                json!(1),
            ),
            ("format.named('nope').hasValue()", json!(false)),
            (
                "format.dns1123LabelPrefix().validate('a-').hasValue()",
                json!(false),
            ),
            (
                "format.qualifiedName().validate('example.com/name').hasValue()",
                json!(false),
            ),
            (
                "format.datetime().validate('2026-01-01T00:00:00Z').hasValue()",
                json!(false),
            ),
            (
                "format.uri().validate('https://example.com/').hasValue()",
                json!(false),
            ),
            (
                "!format.byte().validate('aGk=').hasValue() && format.date().validate('x').hasValue()",
                json!(true),
            ),
        ],
    );
}

#[test]
fn apply_configurations() {
    let env = kubernetes_env()
        .extend()
        .type_provider(std::sync::Arc::new(cel_kube::ApplyConfigurationTypes))
        .build()
        .expect("nothing collides");
    let program = env
        .compile("Object{metadata: Object.metadata{labels: {'a': 'b'}}, spec: Object.spec{?replicas: optional.of(2)}}")
        .unwrap_or_else(|error| panic!("{error}"));
    let activation = Activation::new();
    let value = program.eval(&activation).expect("it evaluates");
    let expect = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"replicas": 2}});
    assert_eq!(value.to_json(cel::JsonOptions::default()), Ok(expect));
}
