//! Putting tolerations together; plugins that add some share this.

use model::object;
use serde_json::Value;

/// Two lists as one, without what another toleration covers.
pub fn merge(first: &[Value], second: &[Value]) -> Vec<Value> {
    let all: Vec<&Value> = first.iter().chain(second).collect();
    let mut merged: Vec<Value> = Vec::new();
    for (index, toleration) in all.iter().enumerate() {
        let covered = merged.iter().any(|other| covers(other, toleration))
            || all[index + 1..]
                .iter()
                .any(|other| other != toleration && covers(other, toleration));
        if !covered {
            merged.push((*toleration).clone());
        }
    }
    merged
}

/// Whether every toleration is covered by one that is allowed; an empty list allows all.
pub fn allowed(tolerations: &[Value], list: &[Value]) -> bool {
    list.is_empty()
        || tolerations
            .iter()
            .all(|toleration| list.iter().any(|wide| covers(wide, toleration)))
}

/// Whether `wide` tolerates at least what `narrow` tolerates.
fn covers(wide: &Value, narrow: &Value) -> bool {
    if wide == narrow {
        return true;
    }
    let text = |value, field| object::text(value, &[field]);
    let (key, operator) = (text(wide, "key"), text(wide, "operator"));
    if text(narrow, "key") != key && !(key.is_empty() && operator == "Exists") {
        return false;
    }
    let effect = text(wide, "effect");
    if text(narrow, "effect") != effect && !effect.is_empty() {
        return false;
    }
    if effect == "NoExecute"
        && let Some(seconds) = object::number(wide, &["tolerationSeconds"])
        && object::number(narrow, &["tolerationSeconds"]).is_none_or(|own| own > seconds)
    {
        return false;
    }
    match operator {
        "Exists" => true,
        "Equal" | "" => {
            text(narrow, "operator") == "Equal" && text(narrow, "value") == text(wide, "value")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_another_covers_is_left_out() {
        let narrow = json!({"key": "a", "operator": "Equal", "value": "1", "effect": "NoSchedule"});
        let wide = json!({"key": "a", "operator": "Exists"});
        let other = json!({"key": "b", "operator": "Exists"});
        let (narrow, wide, other) = ([narrow], [wide], [other]);
        let both = [wide[0].clone(), other[0].clone()];
        assert_eq!(merge(&narrow, &both), both);
        assert_eq!(merge(&wide, &narrow), wide);
        assert!(allowed(&narrow, &wide) && !allowed(&narrow, &other));
    }
}
