//! The audit policy: how much is written of which request.

use serde::Deserialize;

use crate::identity::{Attributes, User};

/// How much is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize)]
pub enum Level {
    /// Nothing.
    #[default]
    None,
    /// Who, what and when.
    Metadata,
    /// What was sent too.
    Request,
    /// And what was answered.
    RequestResponse,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }
}

const STAGES: [&str; 4] = [
    "RequestReceived",
    "ResponseStarted",
    "ResponseComplete",
    "Panic",
];

/// A policy, read from its file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    api_version: String,
    kind: String,
    /// A name, which nothing looks at.
    #[serde(rename = "metadata")]
    _metadata: serde_json::Value,
    rules: Vec<Rule>,
    omit_stages: Vec<String>,
    omit_managed_fields: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<Resources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    paths: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<String>,
    omit_managed_fields: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Resources {
    group: String,
    resources: Vec<String>,
    resource_names: Vec<String>,
}

/// What the policy says of one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    pub level: Level,
    pub omit_stages: Vec<String>,
    pub omit_managed_fields: bool,
}

impl Policy {
    /// Reads a policy; fails with what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let value =
            crate::write::yaml_to_value(text.as_bytes()).map_err(|status| status.message)?;
        if !value.is_object() {
            return Err("an audit.k8s.io/v1 Policy is wanted".to_owned());
        }
        let policy: Self = serde_json::from_value(value).map_err(|error| error.to_string())?;
        if policy.kind != "Policy" || policy.api_version != "audit.k8s.io/v1" {
            return Err(format!(
                "apiVersion {:?}, kind {:?}: an audit.k8s.io/v1 Policy is wanted",
                policy.api_version, policy.kind
            ));
        }
        if policy.rules.is_empty() {
            return Err("loaded illegal policy with 0 rules".to_owned());
        }
        policy.check()?;
        Ok(policy)
    }

    fn check(&self) -> Result<(), String> {
        let stages = |path: &str, stages: &[String]| {
            let unknown = stages
                .iter()
                .find(|stage| !STAGES.contains(&stage.as_str()));
            unknown.map_or(Ok(()), |stage| {
                let known = STAGES.join(",");
                Err(format!(
                    "{path}: Invalid value: {stage:?}: allowed stages are {known}"
                ))
            })
        };
        stages("omitStages", &self.omit_stages)?;
        for (index, rule) in self.rules.iter().enumerate() {
            let path = format!("rules[{index}]");
            stages(&format!("{path}.omitStages"), &rule.omit_stages)?;
            for url in rule.paths.iter().filter(|url| *url != "*") {
                let why = if !url.starts_with('/') {
                    "non-resource URL rules must begin with a '/' character"
                } else if url[..url.len() - 1].contains('*') {
                    "non-resource URL wildcards '*' must be the final character of the rule"
                } else {
                    continue;
                };
                return Err(format!(
                    "{path}.nonResourceURLs: Invalid value: {url:?}: {why}"
                ));
            }
            let of_resources = !rule.resources.is_empty() || !rule.namespaces.is_empty();
            if of_resources && !rule.paths.is_empty() {
                return Err(format!(
                    "{path}.nonResourceURLs: Invalid value: {:?}: rules cannot apply to both regular resources and non-resource URLs",
                    rule.paths
                ));
            }
        }
        Ok(())
    }

    /// What is to be written of a request: what the first rule that matches says.
    pub fn of(&self, user: &User, wanted: &Attributes) -> Asked {
        let Some(rule) = self.rules.iter().find(|rule| rule.matches(user, wanted)) else {
            return Asked::default();
        };
        let mut omit_stages = self.omit_stages.clone();
        omit_stages.extend(rule.omit_stages.iter().cloned());
        Asked {
            level: rule.level,
            omit_stages,
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
        }
    }
}

/// No words stand for all.
fn any_or(words: &[String], wanted: impl Fn(&str) -> bool) -> bool {
    words.is_empty() || words.iter().any(|word| wanted(word))
}

impl Rule {
    fn matches(&self, user: &User, wanted: &Attributes) -> bool {
        if !any_or(&self.users, |name| name == user.name)
            || !any_or(&self.user_groups, |group| user.is_in(group))
            || !any_or(&self.verbs, |verb| verb == wanted.verb)
        {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return wanted.is_resource()
                && any_or(&self.namespaces, |namespace| namespace == wanted.namespace)
                && (self.resources.is_empty()
                    || self.resources.iter().any(|resources| resources.has(wanted)));
        }
        if self.paths.is_empty() {
            return true;
        }
        !wanted.is_resource()
            && self.paths.iter().any(|pattern| {
                pattern == &wanted.path
                    || pattern
                        .strip_suffix('*')
                        .is_some_and(|prefix| wanted.path.starts_with(prefix))
            })
    }
}

impl Resources {
    fn has(&self, wanted: &Attributes) -> bool {
        if self.group != "*" && self.group != wanted.group {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        any_or(&self.resource_names, |name| name == wanted.name)
            && self.resources.iter().any(|pattern| {
                pattern == "*"
                    || *pattern == wanted.full_resource()
                    || pattern.strip_suffix("/*") == Some(&wanted.resource)
                    || !wanted.subresource.is_empty()
                        && pattern.strip_prefix("*/") == Some(&wanted.subresource)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n";

    #[test]
    fn a_field_that_does_not_exist_is_named() {
        let refused = Policy::parse(&format!("{HEAD}- {{level: None, user: [quiet]}}\n"));
        let message = refused.expect_err("a policy has no such field");
        assert!(message.contains("unknown field `user`"), "{message}");
    }

    #[test]
    fn the_first_rule_that_matches_says_how_much() {
        let policy = Policy::parse(&format!(
            "{HEAD}\
             - {{level: None, users: [quiet]}}\n\
             - {{level: Request, verbs: [create], resources: [{{group: \"\", resources: [pods]}}]}}\n\
             - {{level: RequestResponse, resources: [{{group: \"\", resources: [pods/*]}}], omitStages: [Panic]}}\n\
             - {{level: None, nonResourceURLs: [/healthz*]}}\n\
             - {{level: Metadata, namespaces: [a]}}\n"
        ))
        .expect("a policy");
        let check = |user: &str, verb: &str, what: &str, expect: Level| {
            let mut wanted = Attributes {
                verb: verb.to_owned(),
                ..Attributes::default()
            };
            if what.starts_with('/') {
                what.clone_into(&mut wanted.path);
            } else {
                let (resource, subresource) = what.split_once('/').unwrap_or((what, ""));
                resource.clone_into(&mut wanted.resource);
                subresource.clone_into(&mut wanted.subresource);
                "a".clone_into(&mut wanted.namespace);
            }
            let asked = policy.of(&User::new(user, &[]), &wanted);
            assert_eq!(asked.level, expect, "{user} {verb} {what}");
        };
        check("quiet", "create", "pods", Level::None);
        check("jane", "create", "pods", Level::Request);
        check("jane", "get", "pods", Level::RequestResponse);
        check("jane", "get", "pods/log", Level::RequestResponse);
        check("jane", "get", "secrets", Level::Metadata);
        check("jane", "get", "/healthz/etcd", Level::None);
        check("jane", "get", "/metrics", Level::None);
    }

    #[test]
    fn a_policy_that_makes_no_sense_is_refused() {
        for (rules, why) in [
            ("- {level: All}", "unknown variant"),
            ("- {level: None, omitStages: [Never]}", "allowed stages"),
            ("- {level: None, nonResourceURLs: [x]}", "begin with"),
            (
                "- {level: None, nonResourceURLs: [/x], namespaces: [a]}",
                "cannot apply",
            ),
        ] {
            let error = Policy::parse(&format!("{HEAD}{rules}")).expect_err(rules);
            assert!(error.contains(why), "{error}");
        }
        assert!(Policy::parse("apiVersion: v1\nkind: Pod").is_err());
        assert!(Policy::parse("apiVersion: audit.k8s.io/v1\nkind: Policy").is_err());
    }
}
