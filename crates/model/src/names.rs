//! Which strings may be names, label keys and label values.
//!
//! Each check returns the API server's messages (none: the string is fine), so that a `FieldError`
//! can carry them word for word.

/// Longest DNS label.
pub const DNS1123_LABEL_LENGTH_MAX: usize = 63;
/// Longest DNS subdomain.
pub const DNS1123_SUBDOMAIN_LENGTH_MAX: usize = 253;

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const DNS1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const QUALIFIED_SHAPE: &str = "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_MAP_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const PORT_NAME_SHAPE: &str =
    "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)";

fn too_long(limit: usize) -> String {
    format!("must be no more than {limit} characters")
}

/// The message for bytes.
pub fn must_be_no_more_than_bytes(limit: usize) -> String {
    format!("must be no more than {limit} bytes")
}

fn lower_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn label_shape(value: &str) -> bool {
    let bytes = value.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(&first), Some(&last)) => {
            lower_alphanumeric(first)
                && lower_alphanumeric(last)
                && bytes.iter().all(|&b| lower_alphanumeric(b) || b == b'-')
        }
        _ => false,
    }
}

fn qualified_shape(value: &str) -> bool {
    let bytes = value.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            first.is_ascii_alphanumeric()
                && last.is_ascii_alphanumeric()
                && bytes
                    .iter()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
        }
        _ => false,
    }
}

/// A DNS label as RFC 1123 defines it: the name of a namespace, a port, a container.
pub fn dns1123_label(value: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if value.len() > DNS1123_LABEL_LENGTH_MAX {
        messages.push(too_long(DNS1123_LABEL_LENGTH_MAX));
    }
    if !label_shape(value) {
        // As upstream: whoever wrote dots probably mixed up labels with subdomains.
        if value.split('.').all(label_shape) && value.contains('.') {
            messages.push("must not contain dots".to_owned());
        } else {
            messages.push(LABEL.to_owned());
        }
    }
    messages
}

/// A DNS subdomain as RFC 1123 defines it: the name of most objects.
pub fn dns1123_subdomain(value: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if value.len() > DNS1123_SUBDOMAIN_LENGTH_MAX {
        messages.push(too_long(DNS1123_SUBDOMAIN_LENGTH_MAX));
    }
    if !value.split('.').all(label_shape) {
        messages.push(SUBDOMAIN.to_owned());
    }
    messages
}

/// A DNS label as RFC 1035 defines it, which may not start with a digit: the name of a Service.
pub fn dns1035_label(value: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if value.len() > DNS1123_LABEL_LENGTH_MAX {
        messages.push(too_long(DNS1123_LABEL_LENGTH_MAX));
    }
    if !label_shape(value) || value.as_bytes()[0].is_ascii_digit() {
        messages.push(DNS1035.to_owned());
    }
    messages
}

/// What may be a segment of a URL path: the name of RBAC objects.
pub fn path_segment(value: &str) -> Vec<String> {
    match value {
        "." => vec!["may not be '.'".to_owned()],
        ".." => vec!["may not be '..'".to_owned()],
        _ => ['/', '%']
            .into_iter()
            .filter(|c| value.contains(*c))
            .map(|c| format!("may not contain '{c}'"))
            .collect(),
    }
}

/// The key of a label or annotation, or the name of a finalizer: `[prefix/]name`.
pub fn qualified_name(value: &str) -> Vec<String> {
    let mut messages = Vec::new();
    let mut parts = value.split('/');
    let (name, prefix) = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, _) => (name, None),
        (Some(prefix), Some(name), None) => (name, Some(prefix)),
        _ => return vec![QUALIFIED_SHAPE.to_owned()],
    };
    if let Some(prefix) = prefix {
        if prefix.is_empty() {
            messages.push("prefix part must be non-empty".to_owned());
        } else {
            messages.extend(
                dns1123_subdomain(prefix)
                    .iter()
                    .map(|m| format!("prefix part {m}")),
            );
        }
    }
    if name.is_empty() {
        messages.push("name part must be non-empty".to_owned());
    } else if name.len() > DNS1123_LABEL_LENGTH_MAX {
        messages.push(format!("name part {}", too_long(DNS1123_LABEL_LENGTH_MAX)));
    }
    if !qualified_shape(name) {
        messages.push(QUALIFIED.to_owned());
    }
    messages
}

/// The key of a label. As a qualified name, but some messages are worded anew upstream.
pub fn label_key(value: &str) -> Vec<String> {
    if value.split('/').count() > 2 {
        return vec![QUALIFIED_SHAPE.replacen("a qualified name", "a valid label key", 1)];
    }
    let name_too_long = format!("name part {}", too_long(DNS1123_LABEL_LENGTH_MAX));
    let mut messages = qualified_name(value);
    for message in &mut messages {
        if *message == name_too_long {
            *message = format!(
                "name part {}",
                must_be_no_more_than_bytes(DNS1123_LABEL_LENGTH_MAX)
            );
        }
    }
    messages
}

/// The value of a label.
pub fn label_value(value: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if value.len() > DNS1123_LABEL_LENGTH_MAX {
        messages.push(must_be_no_more_than_bytes(DNS1123_LABEL_LENGTH_MAX));
    }
    if !value.is_empty() && !qualified_shape(value) {
        messages.push(LABEL_VALUE.to_owned());
    }
    messages
}

/// A key of a ConfigMap or Secret.
pub fn config_map_key(value: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if value.len() > DNS1123_SUBDOMAIN_LENGTH_MAX {
        messages.push(too_long(DNS1123_SUBDOMAIN_LENGTH_MAX));
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    if value.is_empty() || !value.bytes().all(allowed) {
        messages.push(CONFIG_MAP_KEY.to_owned());
    } else if value == "." {
        messages.push("must not be '.'".to_owned());
    } else if value == ".." {
        messages.push("must not be '..'".to_owned());
    } else if value.starts_with("..") {
        messages.push("must not start with '..'".to_owned());
    }
    messages
}

/// The name of a port, as IANA has it: at most 15 characters with at least one letter.
pub fn port_name(value: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if value.len() > 15 {
        messages.push(too_long(15));
    }
    if !value.bytes().all(|b| lower_alphanumeric(b) || b == b'-') {
        messages.push(PORT_NAME_SHAPE.to_owned());
    }
    if !value.bytes().any(|b| b.is_ascii_lowercase()) {
        messages.push("must contain at least one letter (a-z)".to_owned());
    }
    if value.contains("--") {
        messages.push("must not contain consecutive hyphens".to_owned());
    }
    if value.starts_with('-') || value.ends_with('-') {
        messages.push("must not begin or end with a hyphen".to_owned());
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_subdomains_follow_rfc_1123() {
        assert!(dns1123_label("web-1").is_empty());
        assert_eq!(dns1123_label("a.b"), ["must not contain dots"]);
        assert_eq!(dns1123_label("A"), [LABEL]);
        assert_eq!(
            dns1123_label(&"a".repeat(64)),
            ["must be no more than 63 characters"]
        );
        assert!(dns1123_subdomain("a.b-c.d1").is_empty());
        assert_eq!(dns1123_subdomain("a..b"), [SUBDOMAIN]);
        assert_eq!(dns1035_label("1a"), [DNS1035]);
        assert_eq!(dns1035_label(""), [DNS1035]);
    }

    #[test]
    fn qualified_names_have_an_optional_prefix() {
        assert!(qualified_name("example.com/My_Name").is_empty());
        assert_eq!(qualified_name("a/b/c"), [QUALIFIED_SHAPE]);
        assert_eq!(qualified_name("/x"), ["prefix part must be non-empty"],);
        assert_eq!(
            qualified_name("x/"),
            ["name part must be non-empty", QUALIFIED]
        );
    }

    #[test]
    fn label_values_may_be_empty() {
        assert!(label_value("").is_empty());
        assert_eq!(label_value("-a"), [LABEL_VALUE]);
    }
}
