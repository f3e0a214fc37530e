//! A rule: what it allows, and whether one rule covers another.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::identity::Attributes;

/// What may be done to what.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Rule {
    /// Verbs, or `*`.
    #[serde(deserialize_with = "null_is_empty")]
    pub verbs: Vec<String>,
    /// Groups, or `*`.
    #[serde(
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub api_groups: Vec<String>,
    /// Resources, `resource/subresource`, `*/subresource` or `*`.
    #[serde(
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub resources: Vec<String>,
    /// Names; none stands for all.
    #[serde(
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub resource_names: Vec<String>,
    /// Paths that are not about resources; a last `*` stands for all below.
    #[serde(
        rename = "nonResourceURLs",
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub paths: Vec<String>,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

fn has(words: &[String], wanted: &str) -> bool {
    words.iter().any(|word| word == wanted)
}

fn has_or_all(words: &[String], wanted: &str) -> bool {
    words.iter().any(|word| word == "*" || word == wanted)
}

impl Rule {
    /// Whether the rule allows a request.
    pub fn allows(&self, wanted: &Attributes) -> bool {
        if !has_or_all(&self.verbs, &wanted.verb) {
            return false;
        }
        if !wanted.is_resource() {
            return self
                .paths
                .iter()
                .any(|pattern| pattern == "*" || path_covers(pattern, &wanted.path));
        }
        has_or_all(&self.api_groups, &wanted.group)
            && self.names_resource(&wanted.resource, &wanted.subresource)
            && (self.resource_names.is_empty() || has(&self.resource_names, &wanted.name))
    }

    fn names_resource(&self, resource: &str, subresource: &str) -> bool {
        let full: Cow<'_, str> = if subresource.is_empty() {
            resource.into()
        } else {
            format!("{resource}/{subresource}").into()
        };
        self.resources.iter().any(|word| {
            word == "*"
                || *word == full
                || (!subresource.is_empty() && word.strip_prefix("*/") == Some(subresource))
        })
    }

    /// Whether this rule allows all that `atom`, a rule of one verb and one thing, allows.
    fn covers(&self, atom: &Rule) -> bool {
        let all = |own: &[String], wanted: &[String]| {
            has(own, "*") || wanted.iter().all(|word| has(own, word))
        };
        all(&self.verbs, &atom.verbs)
            && all(&self.api_groups, &atom.api_groups)
            && atom.resources.iter().all(|wanted| {
                has_or_all(&self.resources, wanted)
                    || wanted
                        .split_once('/')
                        .is_some_and(|(_, sub)| has(&self.resources, &format!("*/{sub}")))
            })
            && atom
                .paths
                .iter()
                .all(|wanted| self.paths.iter().any(|own| path_covers(own, wanted)))
            && if atom.resource_names.is_empty() {
                self.resource_names.is_empty()
            } else {
                self.resource_names.is_empty()
                    || atom
                        .resource_names
                        .iter()
                        .all(|name| has(&self.resource_names, name))
            }
    }

    /// The rule as rules of one verb and one thing each.
    fn atoms(&self) -> Vec<Rule> {
        let one = |word: &str| vec![word.to_owned()];
        let mut atoms = Vec::new();
        for group in &self.api_groups {
            for resource in &self.resources {
                for verb in &self.verbs {
                    let atom = Rule {
                        verbs: one(verb),
                        api_groups: one(group),
                        resources: one(resource),
                        ..Rule::default()
                    };
                    if self.resource_names.is_empty() {
                        atoms.push(atom);
                        continue;
                    }
                    atoms.extend(self.resource_names.iter().map(|name| Rule {
                        resource_names: one(name),
                        ..atom.clone()
                    }));
                }
            }
        }
        for path in &self.paths {
            atoms.extend(self.verbs.iter().map(|verb| Rule {
                verbs: one(verb),
                paths: one(path),
                ..Rule::default()
            }));
        }
        atoms
    }

    /// The rule as upstream prints it in messages.
    pub fn describe(&self) -> String {
        let parts: Vec<String> = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.paths),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ]
        .into_iter()
        .filter(|(_, words)| !words.is_empty())
        .map(|(field, words)| format!("{field}:{}", quoted(words)))
        .collect();
        format!("{{{}}}", parts.join(", "))
    }
}

/// Words as Go's `%q` prints a list.
pub fn quoted(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    format!("[{}]", words.join(" "))
}

fn path_covers(pattern: &str, path: &str) -> bool {
    pattern == path
        || pattern
            .strip_suffix('*')
            .is_some_and(|prefix| path.starts_with(prefix.trim_end_matches('*')))
}

/// What `wanted` allows beyond `held`, in few rules: those about one resource are told together.
pub fn uncovered(held: &[&Rule], wanted: &[Rule]) -> Vec<Rule> {
    let missing = wanted
        .iter()
        .flat_map(Rule::atoms)
        .filter(|atom| !held.iter().any(|rule| rule.covers(atom)));
    let mut together: BTreeMap<[Vec<String>; 3], Rule> = BTreeMap::new();
    let mut compact = Vec::new();
    for atom in missing {
        if !atom.paths.is_empty() {
            compact.push(atom);
            continue;
        }
        let key = [
            atom.api_groups.clone(),
            atom.resources.clone(),
            atom.resource_names.clone(),
        ];
        match together.get_mut(&key) {
            Some(rule) => rule.verbs.extend(atom.verbs),
            None => drop(together.insert(key, atom)),
        }
    }
    compact.extend(together.into_values());
    compact
}

/// Rules in words, each once, sorted.
pub fn describe_all(rules: &[Rule]) -> String {
    let words: BTreeSet<String> = rules.iter().map(Rule::describe).collect();
    words.into_iter().collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rule(value: serde_json::Value) -> Rule {
        serde_json::from_value(value).expect("a rule")
    }

    fn check(given: &serde_json::Value, verb: &str, what: &str, expect: bool) {
        let mut wanted = Attributes {
            verb: verb.to_owned(),
            ..Attributes::default()
        };
        if what.starts_with('/') {
            what.clone_into(&mut wanted.path);
        } else {
            // group:resource/subresource#name
            let (what, name) = what.split_once('#').unwrap_or((what, ""));
            let (group, what) = what.split_once(':').unwrap_or(("", what));
            let (resource, subresource) = what.split_once('/').unwrap_or((what, ""));
            wanted.group = group.to_owned();
            wanted.resource = resource.to_owned();
            wanted.subresource = subresource.to_owned();
            wanted.name = name.to_owned();
        }
        assert_eq!(
            rule(given.clone()).allows(&wanted),
            expect,
            "{given} {verb} {what}"
        );
    }

    #[test]
    fn rules_allow_what_they_name() {
        let of = |resources: &[&str]| json!({"apiGroups": [""], "verbs": ["get"], "resources": resources});
        check(&of(&["pods"]), "get", "pods", true);
        check(&of(&["pods"]), "list", "pods", false);
        check(&of(&["pods"]), "get", "apps:pods", false);
        check(&of(&["pods"]), "get", "pods/log", false);
        check(&of(&["pods/log"]), "get", "pods/log", true);
        check(&of(&["pods/*"]), "get", "pods/log", false);
        check(&of(&["*/log"]), "get", "pods/log", true);
        check(&of(&["*/log"]), "get", "pods", false);
        check(&of(&["*"]), "get", "pods/log", true);
        check(&of(&["*"]), "get", "/pods", false);
        let mut named = of(&["pods"]);
        named["resourceNames"] = json!(["b"]);
        check(&named, "get", "pods#b", true);
        check(&named, "get", "pods#a", false);
        check(&named, "get", "pods", false);
        let paths = json!({"nonResourceURLs": ["/metrics", "/healthz*", "/a/*"], "verbs": ["get"]});
        check(&paths, "get", "/metrics", true);
        check(&paths, "get", "/metrics/slis", false);
        check(&paths, "get", "/healthz/etcd", true);
        check(&paths, "get", "/a", false);
        check(&paths, "get", "/a/b", true);
        check(&paths, "post", "/metrics", false);
        check(
            &json!({"nonResourceURLs": ["*"], "verbs": ["*"]}),
            "put",
            "/x",
            true,
        );
        check(
            &json!({"verbs": null, "resources": null}),
            "get",
            "pods",
            false,
        );
    }

    #[test]
    fn what_is_not_covered_is_told_in_few_rules() {
        let held = [
            rule(
                json!({"apiGroups": [""], "resources": ["pods", "*/scale"], "verbs": ["get", "list"]}),
            ),
            rule(json!({"apiGroups": ["apps"], "resources": ["*"], "verbs": ["*"]})),
            rule(
                json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": ["a"]}),
            ),
            rule(json!({"nonResourceURLs": ["/a/*"], "verbs": ["get"]})),
        ];
        let held: Vec<&Rule> = held.iter().collect();
        let tell = |wanted| describe_all(&uncovered(&held, &[rule(wanted)]));
        assert_eq!(
            tell(
                json!({"apiGroups": ["", "apps"], "resources": ["pods", "pods/scale"], "verbs": ["get"]})
            ),
            ""
        );
        assert_eq!(
            tell(
                json!({"apiGroups": [""], "resources": ["pods", "nodes"], "verbs": ["get", "delete", "watch"]})
            ),
            "{APIGroups:[\"\"], Resources:[\"nodes\"], Verbs:[\"get\" \"delete\" \"watch\"]}\n\
             {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\" \"watch\"]}"
        );
        assert_eq!(
            tell(
                json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": ["a", "b"]})
            ),
            "{APIGroups:[\"\"], Resources:[\"secrets\"], ResourceNames:[\"b\"], Verbs:[\"get\"]}"
        );
        assert_eq!(
            tell(json!({"nonResourceURLs": ["/a/b", "/c"], "verbs": ["get"]})),
            "{NonResourceURLs:[\"/c\"], Verbs:[\"get\"]}"
        );
    }
}
