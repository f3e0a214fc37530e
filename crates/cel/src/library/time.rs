//! Accessors of timestamps and durations.

use super::text;
use crate::env::Function;
use crate::error::EvalError;
use crate::types::Type;
use crate::value::{Value, Zone};

/// `getFullYear` and its siblings.
pub fn accessors() -> Vec<Function> {
    type Part = fn(&crate::value::Civil) -> i64;
    let calendar: [(&str, &str, Part); 6] = [
        ("getFullYear", "timestamp_to_year", |civil| civil.year),
        ("getMonth", "timestamp_to_month", |civil| civil.month - 1),
        ("getDayOfYear", "timestamp_to_day_of_year", |civil| {
            civil.day_of_year
        }),
        ("getDayOfMonth", "timestamp_to_day_of_month", |civil| {
            civil.day - 1
        }),
        ("getDate", "timestamp_to_day_of_month_1_based", |civil| {
            civil.day
        }),
        ("getDayOfWeek", "timestamp_to_day_of_week", |civil| {
            civil.day_of_week
        }),
    ];
    let clock: [(&str, &str, Part, i64, bool); 4] = [
        (
            "getHours",
            "hours",
            |civil| civil.hour,
            3_600_000_000_000,
            false,
        ),
        (
            "getMinutes",
            "minutes",
            |civil| civil.minute,
            60_000_000_000,
            false,
        ),
        (
            "getSeconds",
            "seconds",
            |civil| civil.second,
            1_000_000_000,
            false,
        ),
        (
            "getMilliseconds",
            "milliseconds",
            |civil| civil.nanosecond / 1_000_000,
            1_000_000,
            true,
        ),
    ];
    let mut functions = Vec::new();
    for (name, id, part) in calendar {
        functions.push(of_timestamp(Function::new(name), id, part));
    }
    for (name, unit, part, nanoseconds, within_second) in clock {
        let function = of_timestamp(Function::new(name), &format!("timestamp_to_{unit}"), part);
        functions.push(function.member(
            &format!("duration_to_{unit}"),
            [Type::Duration],
            Type::Int,
            move |_, arguments| {
                let Value::Duration(duration) = &arguments[0] else {
                    return Err(EvalError::no_such_overload());
                };
                let total = duration.nanoseconds();
                let counted = if within_second {
                    total % 1_000_000_000
                } else {
                    total
                };
                Ok(Value::Int(counted / nanoseconds))
            },
        ));
    }
    functions
}

fn of_timestamp(function: Function, id: &str, part: fn(&crate::value::Civil) -> i64) -> Function {
    let read = move |value: &Value<'_>, zone: &Zone| match value {
        Value::Timestamp(timestamp) => Ok(Value::Int(part(&timestamp.civil(zone)))),
        _ => Err(EvalError::no_such_overload()),
    };
    function
        .member(id, [Type::Timestamp], Type::Int, move |_, arguments| {
            read(&arguments[0], &Zone::Utc)
        })
        .member(
            &format!("{id}_with_tz"),
            [Type::Timestamp, Type::String],
            Type::Int,
            move |_, arguments| read(&arguments[0], &Zone::parse(text(arguments, 1)?)?),
        )
}
