//! Levels, versions, and the labels that ask for them.

use std::fmt;

use model::{FieldError, FieldPath};
use serde_json::{Map, Value};

/// How much a Pod may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything.
    Privileged,
    /// What is no known way to more rights.
    Baseline,
    /// As little as is good practice.
    Restricted,
}

/// A level as of a minor version of Kubernetes; without one, as of the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standard {
    pub level: Level,
    pub version: Option<u32>,
}

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        })?;
        match self.version {
            None => f.write_str(":latest"),
            Some(minor) => write!(f, ":v1.{minor}"),
        }
    }
}

/// What a namespace asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    pub enforce: Standard,
    pub audit: Standard,
    pub warn: Standard,
    /// What is wrong with its labels.
    pub errors: Vec<FieldError>,
}

const PREFIX: &str = "pod-security.kubernetes.io/";

impl Policy {
    /// The policy in a namespace's labels.
    pub fn of(labels: Option<&Map<String, Value>>) -> Self {
        let mut errors = Vec::new();
        let mut read = |mode: &str, open: Level| {
            let text = |suffix: &str| {
                let key = format!("{PREFIX}{mode}{suffix}");
                let value = labels?.get(&key)?.as_str()?;
                Some((key, value))
            };
            let mut wrong = |key: &str, value: &str, why: &str| {
                let path = FieldPath::new("metadata.labels").key(key);
                errors.push(FieldError::invalid(&path, value, why));
            };
            let mut standard = Standard {
                level: Level::Privileged,
                version: None,
            };
            let level = text("");
            let mut known = false;
            if let Some((key, value)) = &level {
                match parse_level(value) {
                    Some(level) => (standard.level, known) = (level, true),
                    None => {
                        standard.level = open;
                        let why = "must be one of privileged, baseline, restricted";
                        wrong(key, value, why);
                    }
                }
            }
            let version = text("-version");
            if let Some((key, value)) = &version {
                standard.version = parse_minor(value);
                if standard.version.is_none() && *value != "latest" {
                    wrong(key, value, "must be \"latest\" or \"v1.x\"");
                }
            }
            (standard, known, level.is_some(), version.is_some())
        };
        // What makes no sense is enforced strictly, and neither audited nor warned of.
        let (enforce, enforce_known, ..) = read("enforce", Level::Restricted);
        let (audit, ..) = read("audit", Level::Privileged);
        let (mut warn, _, warn_set, warn_version_set) = read("warn", Level::Privileged);
        if !warn_set && enforce_known && enforce.level > warn.level {
            warn.level = enforce.level;
            if !warn_version_set {
                warn.version = enforce.version;
            }
        }
        Self {
            enforce,
            audit,
            warn,
            errors,
        }
    }

    /// Whether nothing is asked of anybody.
    pub fn is_privileged(&self) -> bool {
        self.errors.is_empty()
            && [self.enforce, self.audit, self.warn]
                .iter()
                .all(|standard| standard.level == Level::Privileged)
    }
}

fn parse_level(text: &str) -> Option<Level> {
    match text {
        "privileged" => Some(Level::Privileged),
        "baseline" => Some(Level::Baseline),
        "restricted" => Some(Level::Restricted),
        _ => None,
    }
}

/// `v1.` and a number without leading zeros.
fn parse_minor(text: &str) -> Option<u32> {
    let minor = text.strip_prefix("v1.")?;
    let plain = minor.bytes().all(|byte| byte.is_ascii_digit())
        && (minor == "0" || !minor.starts_with('0'));
    plain.then(|| minor.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(labels: Value, expect: &str) {
        let labels: Map<String, Value> = labels
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| (format!("{PREFIX}{key}"), value.clone()))
            .collect();
        let policy = Policy::of(Some(&labels));
        let mut found: Vec<String> = [policy.enforce, policy.audit, policy.warn]
            .map(|standard| standard.to_string())
            .to_vec();
        found.extend(policy.errors.iter().map(ToString::to_string));
        assert_eq!(found.join(" "), expect);
    }

    #[test]
    fn labels_make_a_policy() {
        check(
            json!({}),
            "privileged:latest privileged:latest privileged:latest",
        );
        check(
            json!({"enforce": "restricted", "enforce-version": "v1.25"}),
            "restricted:v1.25 privileged:latest restricted:v1.25",
        );
        check(
            json!({"enforce": "baseline", "warn": "privileged", "audit": "restricted"}),
            "baseline:latest restricted:latest privileged:latest",
        );
        check(
            json!({"enforce": "tight"}),
            "restricted:latest privileged:latest privileged:latest metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"tight\": must be one of privileged, baseline, restricted",
        );
        check(
            json!({"warn-version": "v1.05"}),
            "privileged:latest privileged:latest privileged:latest metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"v1.05\": must be \"latest\" or \"v1.x\"",
        );
    }
}
