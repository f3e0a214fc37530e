//! What `propagateWhen` can say: whether objects are ready and up to date, and rollouts in steps.
//!
//! After kro's proposal KREP-006. An object in such an expression has `ready()` (its `readyWhen` holds) and `updated()` (it was last
//! written as it should be now). Two functions make steps of that, for an item of a collection:
//!
//! ```text
//! linearlyUpdated(each, zones, 2)      two items, then two more once those are updated and ready, ...
//! exponentiallyUpdated(each, zones)    1, 2, 4, 8, ... items
//! ```
//!
//! Whoever evaluates lays a mark with the two facts into each object; what has none is ready and up to date. The first
//! argument of the functions only says which item is meant, and its place is a hidden variable.

use cel::{
    Context, EvalError, Expander, ExprId, ExprKind, Function, Issue, Library, Macro, Type,
    Value as CelValue,
};
use serde_json::{Map, Value, json};

/// The hidden variable: the place of the item in its collection.
pub(crate) const INDEX: &str = "__kro_index";
/// The hidden field of an object.
const MARK: &str = "\u{0}kro";

/// Marks an object with what the functions tell of it.
pub(crate) fn mark(object: &mut Value, is_ready: bool, is_updated: bool) {
    if let Some(fields) = object.as_object_mut() {
        let mark = json!({"ready": is_ready, "updated": is_updated});
        fields.insert(MARK.to_owned(), mark);
    }
}

/// The functions and macros.
pub(crate) fn library() -> Library {
    let method = |name: &'static str| {
        let id = format!("propagation_{name}");
        Function::new(name).member(&id, [Type::Dyn], Type::Bool, move |_, arguments| {
            Ok(CelValue::Bool(holds(&arguments[0], name)))
        })
    };
    let list = || Type::list(Type::Dyn);
    let linear = Function::new(LINEAR).global(
        "propagation_linear",
        [Type::Int, list(), Type::Int],
        Type::Bool,
        |context, arguments| {
            let CelValue::Int(step) = arguments[2] else {
                return Err(EvalError::no_such_overload());
            };
            if step < 1 {
                let message = format!("linearlyUpdated: the step must be at least 1, got {step}");
                return Err(EvalError::invalid(message));
            }
            reached(context, arguments, |done| {
                (done / step + 1).saturating_mul(step)
            })
        },
    );
    let exponential = Function::new(EXPONENTIAL).global(
        "propagation_exponential",
        [Type::Int, list()],
        Type::Bool,
        |context, arguments| {
            reached(context, arguments, |done| {
                let next = u64::try_from(done).unwrap_or_default().saturating_add(1);
                i64::try_from(next.checked_next_power_of_two().unwrap_or(u64::MAX))
                    .unwrap_or(i64::MAX)
            })
        },
    );
    Library::new("kro.propagation")
        .function(method("ready"))
        .function(method("updated"))
        .function(linear)
        .function(exponential)
        .macro_rule(Macro::global(
            "linearlyUpdated",
            3,
            |expander, _, arguments| expand(expander, LINEAR, arguments),
        ))
        .macro_rule(Macro::global(
            "exponentiallyUpdated",
            2,
            |expander, _, arguments| expand(expander, EXPONENTIAL, arguments),
        ))
}

const LINEAR: &str = "propagation.linear";
const EXPONENTIAL: &str = "propagation.exponential";

/// `function(item, list, ...)` becomes a call with the place of the item.
fn expand(
    expander: &mut Expander<'_>,
    function: &str,
    arguments: &[ExprId],
) -> Result<Option<ExprId>, Issue> {
    let item = expander.node(arguments[0]);
    if !matches!(item.kind, ExprKind::Ident { .. }) {
        let message = "the first argument must be the item itself: each, or an iterator";
        return Err(Issue::new(item.span, message));
    }
    let mut all = vec![expander.ident(INDEX)];
    all.extend(&arguments[1..]);
    Ok(Some(expander.call(function, None, &all)))
}

fn fields<'a>(value: &CelValue<'a>) -> Option<&'a Map<String, Value>> {
    match value {
        CelValue::Object(object) => object.as_json(),
        CelValue::Map(map) => map.source_json(),
        _ => None,
    }
}

fn holds(value: &CelValue<'_>, name: &str) -> bool {
    let mark = fields(value).and_then(|fields| fields.get(MARK));
    mark.is_none_or(|mark| mark[name] == true)
}

/// Whether the item's turn has come: as many are let through as `admitted` says for those that are done, those first that
/// have begun, then the others in order.
fn reached<'a>(
    _: &mut Context<'_>,
    arguments: &[CelValue<'a>],
    admitted: impl Fn(i64) -> i64,
) -> Result<CelValue<'a>, EvalError> {
    let (CelValue::Int(index), CelValue::List(items)) = (&arguments[0], &arguments[1]) else {
        return Err(EvalError::no_such_overload());
    };
    let (mut done, mut begun, mut others_before) = (0, 0, 0);
    for (at, item) in (0..).zip(items.iter()) {
        let item = item?;
        let has_begun = holds(&item, "updated");
        if at == *index && has_begun {
            return Ok(CelValue::Bool(true));
        }
        done += i64::from(has_begun && holds(&item, "ready"));
        begun += i64::from(has_begun);
        others_before += i64::from(!has_begun && at < *index);
    }
    Ok(CelValue::Bool(begun + others_before < admitted(done)))
}

#[cfg(test)]
mod tests {
    use cel::{Activation, Env};

    use super::*;

    /// Which of these may be written: `.` neither, `u` updated, `r` updated and ready.
    fn open(expression: &str, states: &str) -> String {
        let env = cel_kube::kro_env()
            .extend()
            .library(library())
            .variable(INDEX, Type::Int)
            .variable("each", Type::Dyn)
            .variable("all", Type::list(Type::Dyn))
            .build()
            .expect("an environment");
        let mut all: Vec<Value> = Vec::new();
        for state in states.chars() {
            let mut object = json!({"n": 1});
            mark(&mut object, state == 'r', state != '.');
            all.push(object);
        }
        let all = Value::Array(all);
        let evaluate = |env: &Env, index: usize| {
            let program = env
                .compile(expression)
                .unwrap_or_else(|error| panic!("{error}"));
            let mut variables = Activation::new();
            variables.bind(INDEX, CelValue::Int(index as i64));
            variables.bind_json("all", &all);
            variables.bind_json("each", &all[index]);
            match program.eval(&variables) {
                Ok(CelValue::Bool(true)) => '+',
                Ok(_) => '-',
                Err(_) => '!',
            }
        };
        (0..states.len())
            .map(|index| evaluate(&env, index))
            .collect()
    }

    #[test]
    fn steps_open_as_those_before_are_done() {
        let check = |expression: &str, states: &str, expect: &str| {
            assert_eq!(
                open(expression, states),
                expect,
                "{expression} of {states:?}"
            );
        };
        let linear = "linearlyUpdated(each, all, 2)";
        check(linear, ".....", "++---");
        check(linear, "uu...", "++---");
        check(linear, "ru...", "++---");
        check(linear, "rr...", "++++-");
        check(linear, "rrrrr", "+++++");
        check(linear, "..r..", "+-+--");
        check(linear, "..rr.", "++++-");
        check("linearlyUpdated(each, all, 0)", "..", "!!");
        let exponential = "exponentiallyUpdated(each, all)";
        check(exponential, ".........", "+--------");
        check(exponential, "r........", "++-------");
        check(exponential, "rr.......", "++++-----");
        check(exponential, "rrr......", "++++-----");
        check(exponential, "rrrr.....", "++++++++-");
        check("each.updated() && !each.ready()", ".ur", "-+-");
        check(
            "all.filter(it, it.updated() && !it.ready()).size() < 2",
            "u..",
            "+++",
        );
        check(
            "all.filter(it, it.updated() && !it.ready()).size() < 2",
            "uu.",
            "---",
        );
    }

    #[test]
    fn only_an_item_has_a_place() {
        let env = cel_kube::kro_env().extend().library(library());
        let env = env
            .variable(INDEX, Type::Int)
            .build()
            .expect("an environment");
        let error = env
            .compile("linearlyUpdated([1][0], [1], 1)")
            .expect_err("no item");
        assert!(
            error.to_string().contains("must be the item itself"),
            "{error}"
        );
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(48))]

        /// Whatever was done before in whatever order: no step is larger than it may be, and rollouts end.
        #[test]
        fn rollouts_keep_their_steps_and_end(
            start in "[.r]{1,8}",
            step in 1_usize..4,
            picks in proptest::collection::vec(0_usize..8, 0..8),
        ) {
            let expression = format!("linearlyUpdated(each, all, {step})");
            let mut states: Vec<char> = start.chars().collect();
            for round in 0.. {
                let text: String = states.iter().collect();
                let may: Vec<char> = open(&expression, &text).chars().collect();
                for (state, may) in states.iter_mut().zip(&may) {
                    if *state == '.' && *may == '+' {
                        *state = 'u';
                    }
                }
                let in_flight = states.iter().filter(|state| **state == 'u').count();
                proptest::prop_assert!(in_flight <= step, "{text} {states:?}");
                if states.iter().all(|state| *state == 'r') {
                    break;
                }
                proptest::prop_assert!(in_flight > 0, "nothing goes on: {states:?}");
                proptest::prop_assert!(round < 64, "it does not end");
                // One of those on their way arrives.
                let pick = picks.get(round).copied().unwrap_or_default() % in_flight;
                let mut on_their_way = states.iter_mut().filter(|state| **state == 'u');
                if let Some(state) = on_their_way.nth(pick) {
                    *state = 'r';
                }
            }
        }
    }
}
