//! Checks that many kinds share. Each pushes what it finds, worded as upstream words it.

mod address;
mod selector;

pub use address::{
    balancer_ips, check_canonical_cidr, check_canonical_ip, check_cidr, check_ip,
    check_non_special_ip, is_ipv6, parse_cidr, parse_ip,
};
pub use selector::{label_selector, node_selector, node_selector_term, print_selector};

use model::{FieldError, names};
use serde_json::Value;

use crate::at::{At, Errors};

/// The message for a negative number.
pub const NEGATIVE: &str = "must be greater than or equal to 0";
/// The message for a change of what may not change.
pub const IMMUTABLE: &str = "field is immutable";
/// The message for a number that must be above zero.
pub const NOT_POSITIVE: &str = "must be greater than zero";
const PORT_RANGE: &str = "must be between 1 and 65535, inclusive";
const PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
const ANNOTATIONS_BYTES_MAX: usize = 256 << 10;

/// One error per message about a string.
pub fn messages(at: &At<'_>, messages: Vec<String>, errors: &mut Errors) {
    errors.extend(messages.into_iter().map(|message| at.invalid_text(message)));
}

/// A DNS label.
pub fn dns_label(at: &At<'_>, errors: &mut Errors) {
    messages(at, names::dns1123_label(at.text()), errors);
}

/// A DNS subdomain.
pub fn subdomain(at: &At<'_>, errors: &mut Errors) {
    messages(at, names::dns1123_subdomain(at.text()), errors);
}

/// A qualified name: `[prefix/]name`.
pub fn qualified_name(at: &At<'_>, errors: &mut Errors) {
    messages(at, names::qualified_name(at.text()), errors);
}

/// The key of a label.
pub fn label_key(at: &At<'_>, errors: &mut Errors) {
    messages(at, names::label_key(at.text()), errors);
}

/// A string that must not be empty; whether it is there.
pub fn required(at: &At<'_>, errors: &mut Errors) -> bool {
    if at.text().is_empty() {
        errors.push(at.required(""));
    }
    !at.text().is_empty()
}

/// A string that must be one of a few.
pub fn one_of(at: &At<'_>, supported: &[&str], errors: &mut Errors) {
    if !supported.contains(&at.text()) {
        errors.push(at.not_supported(supported));
    }
}

/// A string that must be there and one of a few.
pub fn required_one_of(at: &At<'_>, supported: &[&str], errors: &mut Errors) {
    if required(at, errors) {
        one_of(at, supported, errors);
    }
}

/// A string that, where it is set, must be one of a few.
pub fn optional_one_of(at: &At<'_>, supported: &[&str], errors: &mut Errors) {
    if at.is_set() {
        one_of(at, supported, errors);
    }
}

/// A number that must not be negative; missing is 0.
pub fn nonnegative(at: &At<'_>, errors: &mut Errors) {
    if at.count() < 0 {
        errors.push(at.invalid(NEGATIVE));
    }
}

/// The number of a port.
pub fn port_number(at: &At<'_>, errors: &mut Errors) {
    if !(1..=65_535).contains(&at.count()) {
        errors.push(at.invalid_count(PORT_RANGE));
    }
}

/// The number or name of a port.
pub fn port(at: &At<'_>, errors: &mut Errors) {
    if at.value().is_string() {
        messages(at, names::port_name(at.text()), errors);
    } else {
        port_number(at, errors);
    }
}

/// A map of labels.
pub fn labels(at: &At<'_>, errors: &mut Errors) {
    for (key, value) in at.map().into_iter().flatten() {
        for message in names::label_key(key) {
            errors.push(FieldError::invalid(at.path(), key.as_str(), message));
        }
        let value = value.as_str().unwrap_or_default();
        for message in names::label_value(value) {
            errors.push(FieldError::invalid(at.path(), value, message));
        }
    }
}

/// A map of annotations.
pub fn annotations(at: &At<'_>, errors: &mut Errors) {
    let mut total_bytes = 0;
    for (key, value) in at.map().into_iter().flatten() {
        for message in names::qualified_name(&key.to_lowercase()) {
            errors.push(FieldError::invalid(at.path(), key.as_str(), message));
        }
        total_bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if total_bytes > ANNOTATIONS_BYTES_MAX {
        errors.push(at.too_long(ANNOTATIONS_BYTES_MAX));
    }
}

/// A whole number or percentage that must not be negative.
pub fn number_or_percent(at: &At<'_>, errors: &mut Errors) {
    match at.value() {
        Value::String(text) if percent(text).is_none() => errors.push(at.invalid(PERCENT)),
        Value::Number(_) => nonnegative(at, errors),
        _ => {}
    }
}

/// A percentage above 100 is too much; to be called besides [`number_or_percent`].
pub fn not_above_hundred_percent(at: &At<'_>, errors: &mut Errors) {
    if percent(at.text()).is_some_and(|value| value > 100) {
        errors.push(at.invalid("must not be greater than 100%"));
    }
}

/// The number before the `%`.
pub fn percent(text: &str) -> Option<u64> {
    let digits = text.strip_suffix('%')?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

/// A value that may not change.
pub fn immutable(new: &At<'_>, old: &At<'_>, errors: &mut Errors) {
    if new.value() != old.value() {
        errors.push(new.invalid(IMMUTABLE));
    }
}

/// A path in a volume: no `..` in it.
pub fn no_backsteps(at: &At<'_>, errors: &mut Errors) {
    if at.text().split('/').any(|part| part == "..") {
        errors.push(at.invalid("must not contain '..'"));
    }
}

/// A relative path without `..`.
pub fn descending_path(at: &At<'_>, errors: &mut Errors) {
    if at.text().starts_with('/') {
        errors.push(at.invalid("must be a relative path"));
    }
    no_backsteps(at, errors);
}

/// A relative path without `..`, not even as the start of a name.
pub fn local_path(at: &At<'_>, errors: &mut Errors) {
    descending_path(at, errors);
    if at.text().starts_with("..") && !at.text().starts_with("../") {
        errors.push(at.invalid("must not start with '..'"));
    }
}

/// A path of a domain, such as `example.com/controller`.
pub fn domain_prefixed_path(at: &At<'_>, errors: &mut Errors) {
    let text = at.text();
    if text.is_empty() {
        errors.push(at.required(""));
        return;
    }
    let Some((domain, path)) = text
        .split_once('/')
        .filter(|(d, p)| !d.is_empty() && !p.is_empty())
    else {
        errors.push(at.invalid("must be a domain-prefixed path (such as \"acme.io/foo\")"));
        return;
    };
    for message in names::dns1123_subdomain(domain) {
        errors.push(FieldError::invalid(at.path(), domain, message));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:".contains(c);
    if !path.chars().all(allowed) {
        let shape =
            "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
        errors.push(FieldError::invalid(at.path(), path, shape));
    }
}

/// A mode of a file.
pub fn file_mode(at: &At<'_>, errors: &mut Errors) {
    if at.number().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        let why = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.push(at.invalid(why));
    }
}

/// The printed form of one of upstream's own structs: its fields in its order.
pub fn print_struct(fields: &[(&str, &Value)]) -> String {
    let members: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("\"{name}\":{value}"))
        .collect();
    format!("{{{}}}", members.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(run: impl Fn(&At<'_>, &mut Errors), value: Value, expect: &[&str]) {
        let object = json!({"f": value});
        let mut errors = Vec::new();
        run(&At::root(&object).get("f"), &mut errors);
        let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn shared_checks_have_upstreams_words() {
        check(
            nonnegative,
            json!(-1),
            &["f: Invalid value: -1: must be greater than or equal to 0"],
        );
        check(
            port,
            json!(0),
            &["f: Invalid value: 0: must be between 1 and 65535, inclusive"],
        );
        check(port, json!("http"), &[]);
        check(
            no_backsteps,
            json!("a/../b"),
            &["f: Invalid value: \"a/../b\": must not contain '..'"],
        );
        check(
            local_path,
            json!("..a"),
            &["f: Invalid value: \"..a\": must not start with '..'"],
        );
        check(
            not_above_hundred_percent,
            json!("120%"),
            &["f: Invalid value: \"120%\": must not be greater than 100%"],
        );
        check(
            domain_prefixed_path,
            json!("x"),
            &["f: Invalid value: \"x\": must be a domain-prefixed path (such as \"acme.io/foo\")"],
        );
        check(required, json!(""), &["f: Required value"]);
    }

    fn required(at: &At<'_>, errors: &mut Errors) {
        super::required(at, errors);
    }
}
