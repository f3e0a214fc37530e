//! `runtime.newCondition` and `runtime.condition`.

use std::sync::Arc;

use cel::{
    EvalError, Expander, ExprId, ExprKind, Function, Issue, Library, Literal, Macro, Object,
    ObjectType, Record, Type, Value,
};

use crate::kubernetes::{list, text};

const FIELDS: [&str; 4] = ["type", "status", "reason", "message"];
const STATUSES: [&str; 3] = ["True", "False", "Unknown"];

/// The type of a condition: `kro.run.Condition`.
#[must_use]
pub fn condition_type() -> Type {
    Type::Object(object_type())
}

fn object_type() -> Arc<ObjectType> {
    static TYPE: std::sync::LazyLock<Arc<ObjectType>> = std::sync::LazyLock::new(|| {
        let empty = ObjectType::new("kro.run.Condition");
        Arc::new(
            FIELDS
                .into_iter()
                .fold(empty, |object, field| object.field(field, Type::String)),
        )
    });
    Arc::clone(&TYPE)
}

fn condition(values: [&str; 4]) -> Value<'static> {
    let fields = FIELDS
        .iter()
        .zip(values)
        .map(|(name, value)| (Arc::from(*name), Value::string(value)))
        .collect();
    Value::Object(Object::record(Record {
        ty: object_type(),
        fields,
    }))
}

pub fn library() -> Library {
    let string = || Type::String;
    Library::new("kro.runtime")
        .named_type(condition_type())
        .macro_rule(Macro::member("newCondition", 1, expand))
        .function(Function::new("runtime.newCondition").global(
            "runtime.newCondition_string_string_string_string",
            [string(), string(), string(), string()],
            condition_type(),
            |_, arguments| {
                let values = [
                    text(arguments, 0)?,
                    text(arguments, 1)?,
                    text(arguments, 2)?,
                    text(arguments, 3)?,
                ];
                check_type(values[0])
                    .and_then(|()| check_status(values[1]))
                    .map_err(EvalError::invalid)?;
                Ok(condition(values))
            },
        ))
        .function(Function::new("runtime.condition").global(
            "runtime.condition_dyn_string",
            [Type::Dyn, Type::String],
            condition_type(),
            |context, arguments| {
                context.visit(1)?;
                find(&arguments[0], text(arguments, 1)?)
            },
        ))
}

fn check_type(value: &str) -> Result<(), String> {
    if value.is_empty() {
        return Err("runtime.newCondition: type must not be empty".to_owned());
    }
    Ok(())
}

fn check_status(value: &str) -> Result<(), String> {
    if STATUSES.contains(&value) {
        return Ok(());
    }
    Err(format!(
        "runtime.newCondition: status must be one of True, False, Unknown, got \"{value}\""
    ))
}

/// `runtime.newCondition({type: ..., status: ...})` to a call with the four values in order. The keys are bare words.
fn expand(
    expander: &mut Expander<'_>,
    target: Option<ExprId>,
    arguments: &[ExprId],
) -> Result<Option<ExprId>, Issue> {
    if !target.is_some_and(|target| expander.is_ident(target, "runtime")) {
        return Ok(None);
    }
    let node = expander.node(arguments[0]);
    let ExprKind::Map(items) = &node.kind else {
        return Err(Issue::new(
            node.span,
            "runtime.newCondition: the argument must be a map literal",
        ));
    };
    let mut values: [Option<ExprId>; 4] = [None; 4];
    for item in items {
        let key = expander.node(item.key);
        let ExprKind::Ident {
            name,
            global: false,
        } = &key.kind
        else {
            return Err(Issue::new(
                key.span,
                "runtime.newCondition: keys must be bare identifiers",
            ));
        };
        let Some(position) = FIELDS.iter().position(|field| *field == &**name) else {
            let message = format!(
                "runtime.newCondition: unknown key \"{name}\", allowed are {}",
                FIELDS.join(", ")
            );
            return Err(Issue::new(key.span, message));
        };
        if values[position].replace(item.value).is_some() {
            return Err(Issue::new(
                key.span,
                format!("runtime.newCondition: duplicate key \"{name}\""),
            ));
        }
        check_literal(expander, position, item.value)?;
    }
    for (position, field) in FIELDS.iter().enumerate().take(2) {
        if values[position].is_none() {
            return Err(Issue::new(
                node.span,
                format!("runtime.newCondition: key \"{field}\" is required"),
            ));
        }
    }
    let ordered: Vec<ExprId> = values
        .into_iter()
        .map(|value| value.unwrap_or_else(|| expander.string("")))
        .collect();
    Ok(Some(expander.call("runtime.newCondition", None, &ordered)))
}

/// What is written out is checked at once.
fn check_literal(expander: &Expander<'_>, position: usize, value: ExprId) -> Result<(), Issue> {
    let node = expander.node(value);
    let ExprKind::Literal(literal) = &node.kind else {
        return Ok(());
    };
    let Literal::String(text) = literal else {
        return Err(Issue::new(
            node.span,
            format!(
                "runtime.newCondition: {} must be a string",
                FIELDS[position]
            ),
        ));
    };
    let checked = match position {
        0 => check_type(text),
        1 => check_status(text),
        _ => Ok(()),
    };
    checked.map_err(|message| Issue::new(node.span, message))
}

/// A field of a map or an object.
fn field<'a>(value: &Value<'a>, name: &str) -> Option<Value<'a>> {
    let found = match value {
        Value::Map(map) => map.get_str(name),
        Value::Object(object) => object.get(name),
        _ => None,
    };
    found.and_then(Result::ok)
}

/// The condition of this type in `object.status.conditions`; one with empty fields if there is none.
fn find<'a>(object: &Value<'a>, wanted: &str) -> Result<Value<'a>, EvalError> {
    if !matches!(object, Value::Map(_) | Value::Object(_)) {
        return Err(EvalError::invalid(format!(
            "runtime.condition: expected an object, got {}",
            object.type_name()
        )));
    }
    let conditions = field(object, "status").and_then(|status| field(&status, "conditions"));
    let Some(conditions @ Value::List(_)) = conditions else {
        return Ok(condition([""; 4]));
    };
    for element in list(&[conditions], 0)?.iter() {
        let element = element?;
        let value_of =
            |name: &str| field(&element, name).and_then(|value| value.as_str().map(str::to_owned));
        if value_of("type").as_deref() == Some(wanted) {
            let values = FIELDS.map(|name| value_of(name).unwrap_or_default());
            return Ok(condition(values.each_ref().map(String::as_str)));
        }
    }
    Ok(condition([""; 4]))
}
