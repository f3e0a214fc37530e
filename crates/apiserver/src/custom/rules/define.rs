//! Judging the rules of a definition: do they compile, and what may they cost?
//!
//! The cost of a rule is what one call may cost at most, by the sizes the schema allows, times how
//! often its place can occur in an object: the limits of the lists and maps around it, or, where one of
//! them has none, how often the smallest value fits into a request.

use cel_kube::{STATIC_RULE_LIMIT, STATIC_TOTAL_LIMIT, SchemaSizes};
use model::{FieldError, FieldPath, object};
use serde_json::Value;

use super::compile::{Expressions, Programs, checked, uses_old};
use super::{DEPTH_MAX, RULES, members};

/// How many of the rules that make a definition too expensive are named.
const EXPENSIVE_MAX: usize = 4;

/// What has been accepted before.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known {
    /// The schema has not changed: what a rule of it costs has been accepted.
    pub costs_are_accepted: bool,
}

/// Everything wrong with the rules of a structural schema at `path`. Rules at a place with an error in
/// the schema itself, there or below, are not looked at.
pub fn check_definition(
    document: &Value,
    path: &FieldPath,
    schema_errors: &[FieldError],
    known: Known,
) -> Vec<FieldError> {
    let mut judge = Judge {
        schema_errors,
        known,
        errors: Vec::new(),
        total: 0,
        expensive: Vec::new(),
    };
    let place = Place {
        path,
        occurrences: Some(1),
        uncorrelatable: None,
        is_root: true,
        depth: 0,
    };
    judge.schema(document, &place);
    judge.finish(path)
}

/// Where in the schema a rule stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    path: &'a FieldPath,
    /// How often it occurs at most; nothing where a list or map around it has no limit.
    occurrences: Option<u64>,
    /// The outermost place around it whose values have no counterpart in the old object.
    uncorrelatable: Option<&'a FieldPath>,
    is_root: bool,
    depth: usize,
}

struct Judge<'a> {
    schema_errors: &'a [FieldError],
    known: Known,
    errors: Vec<FieldError>,
    total: u64,
    expensive: Vec<(FieldPath, u64)>,
}

impl Judge<'_> {
    fn schema(&mut self, schema: &Value, place: &Place<'_>) {
        if place.depth > DEPTH_MAX {
            return;
        }
        let path = place.path;
        let inner = |occurrences| Place {
            occurrences,
            is_root: false,
            depth: place.depth + 1,
            ..*place
        };
        let values = schema.get("additionalProperties");
        let is_map = object::text(schema, &["type"]) == "object" && values.is_some();
        let in_map = if is_map {
            multiplied(place.occurrences, schema, "maxProperties")
        } else {
            place.occurrences
        };
        if let Some(values) = values.filter(|values| values.is_object()) {
            let path = path.child("additionalProperties");
            self.schema(
                values,
                &Place {
                    path: &path,
                    ..inner(in_map)
                },
            );
        }
        for (name, property) in members(schema, "properties") {
            let path = path.child("properties").key(name);
            self.schema(
                property,
                &Place {
                    path: &path,
                    ..inner(in_map)
                },
            );
        }
        if let Some(items) = schema.get("items").filter(|items| items.is_object()) {
            let in_list = multiplied(place.occurrences, schema, "maxItems");
            let is_keyed = object::text(schema, &["x-kubernetes-list-type"]) == "map";
            let items_path = path.child("items");
            let place = Place {
                path: &items_path,
                uncorrelatable: place.uncorrelatable.or((!is_keyed).then_some(path)),
                ..inner(in_list)
            };
            self.schema(items, &place);
        }
        let rules = object::list(schema, &[RULES]);
        let is_broken = self
            .schema_errors
            .iter()
            .any(|error| error.path.as_str().starts_with(path.as_str()));
        if !rules.is_empty() && !is_broken {
            self.rules(schema, rules, place);
        }
    }

    fn rules(&mut self, schema: &Value, rules: &[Value], place: &Place<'_>) {
        let path = place.path.child(RULES);
        let expressions = match Expressions::of(schema, place.is_root) {
            Ok(expressions) => expressions,
            Err(why) => {
                let why = format!(
                    "internal error: failed to construct type information for x-kubernetes-validations rules: {why}"
                );
                self.errors.push(FieldError::internal(&path, why));
                return;
            }
        };
        let sizes = SchemaSizes::new("self", schema, &cel_kube::no_refs);
        // An optional old value has no path, so upstream knows no size of it.
        let with_old = SchemaSizes::new("self", schema, &cel_kube::no_refs).with(
            "oldSelf",
            schema,
            &cel_kube::no_refs,
        );
        let occurrences = place
            .occurrences
            .unwrap_or_else(|| cel_kube::occurrences_max(schema, &cel_kube::no_refs));
        for (index, rule) in rules.iter().enumerate() {
            let is_optional = rule.get("optionalOldSelf") == Some(&Value::Bool(true));
            let sizes = if is_optional { &sizes } else { &with_old };
            self.rule(
                rule,
                &expressions,
                sizes,
                occurrences,
                place,
                &path.index(index),
            );
        }
    }

    fn rule(
        &mut self,
        rule: &Value,
        expressions: &Expressions,
        sizes: &SchemaSizes,
        occurrences: u64,
        place: &Place<'_>,
        path: &FieldPath,
    ) {
        let programs = Programs::of(rule, expressions);
        let cost = |program: &cel::Program| {
            checked(program).map_or(0, |checked| cel_kube::estimate(checked, sizes).max)
        };
        let (rule_path, message_path) = (path.child("rule"), path.child("messageExpression"));
        let own = programs.rule.as_ref().map_or(0, cost);
        self.cost("rule", &rule_path, own.saturating_mul(occurrences));
        let bad = |path: &FieldPath, why: &str| {
            FieldError::invalid(path, rule.clone(), why).printed_as(print(rule))
        };
        if let Err(why) = &programs.rule {
            self.errors.push(bad(&rule_path, why));
        }
        match &programs.message {
            Some(Err(why)) => self.errors.push(bad(&message_path, why)),
            Some(Ok(program)) => self.cost("messageExpression", &message_path, cost(program)),
            None => {}
        }
        if programs.rule.as_ref().is_ok_and(uses_old) {
            if let Some(outer) = place.uncorrelatable {
                let why = format!(
                    "oldSelf cannot be used on the uncorrelatable portion of the schema within {outer}"
                );
                let text = object::text(rule, &["rule"]);
                self.errors.push(FieldError::invalid(&rule_path, text, why));
            }
        } else if let Some(optional) = rule.get("optionalOldSelf").filter(|found| !found.is_null())
        {
            let why = "may not be set if oldSelf is not used in rule";
            let path = path.child("optionalOldSelf");
            self.errors
                .push(FieldError::invalid(&path, optional.clone(), why));
        }
    }

    fn cost(&mut self, what: &str, path: &FieldPath, cost: u64) {
        if cost > STATIC_RULE_LIMIT && !self.known.costs_are_accepted {
            let why = too_expensive(&format!("estimated {what} cost"), cost, STATIC_RULE_LIMIT);
            self.errors.push(FieldError::forbidden(path, why));
        }
        self.total = self.total.saturating_add(cost);
        if cost >= STATIC_TOTAL_LIMIT / 100 {
            self.expensive.push((path.clone(), cost));
        }
    }

    fn finish(mut self, path: &FieldPath) -> Vec<FieldError> {
        if self.total > STATIC_TOTAL_LIMIT {
            self.expensive
                .sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
            for (path, _) in self.expensive.iter().take(EXPENSIVE_MAX) {
                let why = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
                self.errors.push(FieldError::forbidden(path, why));
            }
            let what =
                "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
            let why = too_expensive(what, self.total, STATIC_TOTAL_LIMIT);
            self.errors.push(FieldError::forbidden(path, why));
        }
        self.errors
    }
}

fn multiplied(occurrences: Option<u64>, schema: &Value, limit: &str) -> Option<u64> {
    let limit = object::number(schema, &[limit])?;
    Some(occurrences?.saturating_mul(u64::try_from(limit).unwrap_or(0)))
}

fn too_expensive(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = if factor > 100.0 {
        "more than 100x".to_owned()
    } else if factor < 1.5 {
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}

/// A rule as upstream prints it in errors: its fields in the order of the Go struct.
fn print(rule: &Value) -> String {
    let text = |name: &str| Value::from(object::text(rule, &[name])).to_string();
    let option = |name: &str| rule.get(name).cloned().unwrap_or_default().to_string();
    format!(
        "{{\"Rule\":{},\"Message\":{},\"MessageExpression\":{},\"Reason\":{},\"FieldPath\":{},\"OptionalOldSelf\":{}}}",
        text("rule"),
        text("message"),
        text("messageExpression"),
        option("reason"),
        text("fieldPath"),
        option("optionalOldSelf"),
    )
}
