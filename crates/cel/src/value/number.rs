//! Numbers of different types: comparing them exactly and converting them in range.

use std::cmp::Ordering;

use super::Value;

const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
const TWO_TO_64: f64 = 18_446_744_073_709_551_616.0;

/// The integer a double holds or is truncated to, if it is in range. The ends of the range are excluded, as in
/// cel-go.
pub fn double_to_int(value: f64) -> Option<i64> {
    (value > -TWO_TO_63 && value < TWO_TO_63).then_some(value as i64)
}

/// The unsigned integer a double holds or is truncated to, if it is in range.
pub fn double_to_uint(value: f64) -> Option<u64> {
    (0.0..TWO_TO_64).contains(&value).then_some(value as u64)
}

/// Compares two numbers of any types; `None` if one is no number or NaN. Integers are compared with doubles as
/// doubles, losing what cel-go loses.
pub fn compare_numbers(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Uint(a), Value::Uint(b)) => Some(a.cmp(b)),
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Int(a), Value::Uint(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Value::Uint(a), Value::Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Value::Int(a), Value::Double(b)) => (*a as f64).partial_cmp(b),
        (Value::Uint(a), Value::Double(b)) => (*a as f64).partial_cmp(b),
        (Value::Double(a), Value::Int(b)) => a.partial_cmp(&(*b as f64)),
        (Value::Double(a), Value::Uint(b)) => a.partial_cmp(&(*b as f64)),
        _ => None,
    }
}

const SHORTEST_EXPONENT: i32 = 6;

/// A double as Go's `strconv.FormatFloat(value, 'g', -1, 64)` writes it.
pub fn format_double(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    // Go switches to scientific notation from a million on for the shortest form.
    if value != 0.0 && !(-4..SHORTEST_EXPONENT).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    format!("{value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_across_types() {
        let check = |a: Value<'_>, b: Value<'_>, expect| {
            assert_eq!(compare_numbers(&a, &b), expect, "{a:?} {b:?}");
        };
        check(Value::Int(1), Value::Double(1.5), Some(Ordering::Less));
        check(Value::Int(-1), Value::Double(-1.5), Some(Ordering::Greater));
        check(
            Value::Int(i64::MAX),
            Value::Double(TWO_TO_63),
            Some(Ordering::Equal),
        );
        check(
            Value::Uint(u64::MAX),
            Value::Double(TWO_TO_64 * 2.0),
            Some(Ordering::Less),
        );
        check(Value::Int(-1), Value::Uint(0), Some(Ordering::Less));
        check(Value::Double(f64::NAN), Value::Int(0), None);
        check(Value::Int(0), Value::Double(-0.0), Some(Ordering::Equal));
    }

    #[test]
    fn doubles_are_written_as_go_does() {
        let check = |value: f64, expect: &str| assert_eq!(format_double(value), expect);
        check(123.456, "123.456");
        check(-0.0045, "-0.0045");
        check(1_000_000.0, "1e+06");
        check(999_999.0, "999999");
        check(1.5e-7, "1.5e-07");
        check(2.0, "2");
        check(f64::INFINITY, "+Inf");
    }
}
