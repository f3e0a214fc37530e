//! Which writes a policy, a binding or a webhook is about: rules and selectors.

use std::sync::Arc;

use model::{LabelSelector, Status, object};
use serde_json::Value;

use super::{Operation, Request};
use crate::catalog::Definition;

/// What a policy, a binding or a webhook is about.
pub struct Criteria {
    namespaces: LabelSelector,
    objects: LabelSelector,
    rules: Vec<Rule>,
    excluded: Vec<Rule>,
    /// Whether a rule for another version of the resource counts too.
    equivalent: bool,
    /// Whether having no rules means everything, as for bindings.
    open: bool,
}

struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    /// Resources, each with its subresource or none.
    resources: Vec<(String, String)>,
    scope: String,
    /// Names of objects; any where there are none.
    names: Vec<String>,
}

impl Rule {
    fn parse(rule: &Value) -> Self {
        let texts = |field| -> Vec<String> {
            object::list(rule, &[field])
                .iter()
                .filter_map(|text| text.as_str().map(str::to_owned))
                .collect()
        };
        let resources = texts("resources");
        Self {
            operations: texts("operations"),
            groups: texts("apiGroups"),
            versions: texts("apiVersions"),
            resources: resources
                .iter()
                .map(|text| text.split_once('/').unwrap_or((text, "")))
                .map(|(resource, part)| (resource.to_owned(), part.to_owned()))
                .collect(),
            scope: object::text(rule, &["scope"]).to_owned(),
            names: texts("resourceNames"),
        }
    }

    fn matches(&self, request: &Request<'_>, definition: &Definition) -> bool {
        let any = |list: &[String], wanted: &str| list.iter().any(|w| w == "*" || w == wanted);
        let one = |word: &str, wanted: &str| word == "*" || word == wanted;
        let gvr = &definition.gvr;
        let placed = !request.namespace().is_empty() && !request.is("", "namespaces");
        let in_scope = match self.scope.as_str() {
            "Namespaced" => placed,
            "Cluster" => !placed,
            _ => true,
        };
        in_scope
            && any(&self.operations, request.operation.as_str())
            && any(&self.groups, &gvr.group)
            && any(&self.versions, &gvr.version)
            && self.resources.iter().any(|(resource, part)| {
                one(resource, &gvr.resource) && one(part, request.subresource)
            })
    }

    fn names_match(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|own| own == name)
    }
}

impl Criteria {
    /// Of a policy's `matchConstraints` or a binding's `matchResources`.
    pub fn of_policy(value: &Value, open: bool) -> Result<Self, String> {
        Self::parse(value, "resourceRules", open)
    }

    /// Of a webhook.
    pub fn of_webhook(value: &Value) -> Result<Self, String> {
        Self::parse(value, "rules", false)
    }

    fn parse(value: &Value, rules: &str, open: bool) -> Result<Self, String> {
        let selector = |field: &str| match value.get(field) {
            Some(selector) if selector.is_object() => {
                LabelSelector::from_object(Some(selector)).map_err(|error| error.to_string())
            }
            _ => Ok(LabelSelector::everything()),
        };
        let list = |field| object::list(value, &[field]).iter().map(Rule::parse);
        Ok(Self {
            namespaces: selector("namespaceSelector")?,
            objects: selector("objectSelector")?,
            rules: list(rules).collect(),
            excluded: list("excludeResourceRules").collect(),
            equivalent: object::text(value, &["matchPolicy"]) != "Exact",
            open,
        })
    }

    /// The resource under which a write matches, which may be another version of it; `None` where the
    /// write is none of these.
    pub fn matches(
        &self,
        request: &Request<'_>,
        new: &Value,
    ) -> Result<Option<Arc<Definition>>, Status> {
        let own = &request.context.definition;
        let selected = self.selects_namespace(request, new);
        if matches!(selected, Ok(false)) || !self.selects_object(request, new) {
            return Ok(None);
        }
        if self.find(&self.excluded, request).is_some() {
            return Ok(None);
        }
        let found = if self.rules.is_empty() && self.open {
            Some(own.clone())
        } else {
            self.find(&self.rules, request)
        };
        // An error of the selector counts only for who would be concerned.
        if found.is_some() {
            selected?;
        }
        Ok(found)
    }

    fn find(&self, rules: &[Rule], request: &Request<'_>) -> Option<Arc<Definition>> {
        let own = &request.context.definition;
        let fits = |definition: &Definition| {
            rules
                .iter()
                .any(|rule| rule.matches(request, definition) && rule.names_match(&request.name))
        };
        if fits(own) {
            return Some(own.clone());
        }
        if !self.equivalent || rules.is_empty() {
            return None;
        }
        let others = request.context.catalog.all().filter(|other| {
            other.storage == own.storage
                && other.gvr != own.gvr
                && (request.subresource.is_empty()
                    || other.subresource(request.subresource).is_some())
        });
        others.into_iter().find(|other| fits(other)).cloned()
    }

    fn selects_object(&self, request: &Request<'_>, new: &Value) -> bool {
        let selects =
            |value: &Value| value.is_object() && self.objects.matches(object::labels(value));
        self.objects.is_everything() || selects(new) || request.old.is_some_and(selects)
    }

    fn selects_namespace(&self, request: &Request<'_>, new: &Value) -> Result<bool, Status> {
        let is_namespace = request.is("", "namespaces");
        let name = request.namespace();
        if self.namespaces.is_everything() || (name.is_empty() && !is_namespace) {
            return Ok(true);
        }
        let written = matches!(request.operation, Operation::Create | Operation::Update);
        if is_namespace && request.subresource.is_empty() && written {
            return Ok(self.namespaces.matches(object::labels(new)));
        }
        let name = if is_namespace { &request.name } else { name };
        match request.find("", "namespaces", None, name) {
            Some(namespace) => Ok(self.namespaces.matches(object::labels(&namespace))),
            None => Err(Status::not_found("", "namespaces", name)),
        }
    }
}

/// Whether a write is to admission's own objects, which nothing may keep from being repaired.
pub fn is_exempt(request: &Request<'_>) -> bool {
    request.context.definition.gvr.group == "admissionregistration.k8s.io"
}
