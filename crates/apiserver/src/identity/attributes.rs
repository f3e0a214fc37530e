//! What a request wants to do, as authorization sees it.

use http::Method;
use model::{LabelRequirement, Operator, Status, StatusDetails};

use super::User;
use crate::query::Query;
use crate::route::{ResourcePath, Route};

/// What a request wants to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// The verb: `get`, `list`... for resources, the lower-case method for other paths.
    pub verb: String,
    /// The group.
    pub group: String,
    /// The version.
    pub version: String,
    /// The resource, empty for other paths.
    pub resource: String,
    /// The subresource.
    pub subresource: String,
    /// The namespace, empty for all or none.
    pub namespace: String,
    /// The name, empty for collections.
    pub name: String,
    /// The path, for requests that are not about resources.
    pub path: String,
    /// What fields must be, where a list or watch is narrowed so.
    pub field_selector: Vec<LabelRequirement>,
    /// What labels must be.
    pub label_selector: Vec<LabelRequirement>,
}

impl Attributes {
    /// What a request wants.
    pub(crate) fn of(route: &Route, method: &Method, query: &Query, path: &str) -> Self {
        let Route::Resource(parts) = route else {
            return Self {
                verb: method.as_str().to_lowercase(),
                path: percent_encoding::percent_decode_str(path)
                    .decode_utf8_lossy()
                    .into_owned(),
                ..Self::default()
            };
        };
        let itself = parts.resource == "namespaces" && parts.group.is_empty();
        let namespace = if itself {
            &parts.name
        } else {
            &parts.namespace
        };
        let mut attributes = Self {
            verb: verb(method, parts, query).to_owned(),
            group: parts.group.clone(),
            version: parts.version.clone(),
            resource: parts.resource.clone(),
            subresource: parts.subresource.clone().unwrap_or_default(),
            namespace: namespace.clone().unwrap_or_default(),
            name: parts.name.clone().unwrap_or_default(),
            path: path.to_owned(),
            ..Self::default()
        };
        attributes.select(parts, query);
        attributes
    }

    /// Selectors narrow what a request about a collection wants; one object named in the field
    /// selector is as good as its name in the path.
    fn select(&mut self, parts: &ResourcePath, query: &Query) {
        if !matches!(self.verb.as_str(), "list" | "watch" | "deletecollection") {
            return;
        }
        if query.get("fieldSelector").is_some()
            && let Ok(selector) = query.field_selector()
        {
            let exact = selector
                .requirements
                .iter()
                .find(|requirement| requirement.equal && requirement.field == "metadata.name");
            if self.verb != "deletecollection"
                && let Some(name) = exact.map(|requirement| requirement.value.as_str())
                && !name.contains(['/', '%'])
                && !matches!(name, "." | "..")
            {
                name.clone_into(&mut self.name);
            }
            // The deprecated watch paths do not heed selectors consistently.
            if !parts.watch {
                let requirements = selector.requirements.into_iter();
                self.field_selector = requirements
                    .map(|requirement| LabelRequirement {
                        key: requirement.field,
                        operator: if requirement.equal {
                            Operator::In
                        } else {
                            Operator::NotIn
                        },
                        values: vec![requirement.value],
                    })
                    .collect();
            }
        }
        if query.get("labelSelector").is_some()
            && !parts.watch
            && let Ok(selector) = query.label_selector()
        {
            self.label_selector = selector.requirements().to_vec();
        }
    }

    /// Whether this is about a resource.
    pub fn is_resource(&self) -> bool {
        !self.resource.is_empty()
    }

    /// 403 for a user who may not.
    pub fn forbidden(&self, user: &User, reason: &str) -> Status {
        let because = if reason.is_empty() {
            String::new()
        } else {
            format!(": {reason}")
        };
        let (name, verb) = (&user.name, &self.verb);
        if !self.is_resource() {
            let why = format!(
                "User \"{name}\" cannot {verb} path \"{}\"{because}",
                self.path
            );
            let mut status = Status::forbidden("", "", "", &why);
            status.details = Some(Box::new(StatusDetails::default()));
            return status;
        }
        let resource = self.full_resource();
        let place = if self.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace \"{}\"", self.namespace)
        };
        let why = format!(
            "User \"{name}\" cannot {verb} resource \"{resource}\" in API group \"{}\" {place}{because}",
            self.group
        );
        Status::forbidden(&self.group, &self.resource, &self.name, &why)
    }

    /// The resource with its subresource.
    pub fn full_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }
}

/// The verb of a request for objects.
pub(crate) fn verb(method: &Method, path: &ResourcePath, query: &Query) -> &'static str {
    match (method.as_str(), path.name.is_some()) {
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", true) => "delete",
        ("DELETE", false) => "deletecollection",
        _ if path.watch || (query.flag("watch") && path.name.is_none()) => "watch",
        (_, true) => "get",
        (_, false) => "list",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route;

    fn check(method: &str, uri: &str, expect: &str) {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let method: Method = method.parse().expect("a method");
        let query = Query::parse(Some(query));
        let a = Attributes::of(&route::parse(path), &method, &query, path);
        let selectors: Vec<String> = a
            .field_selector
            .iter()
            .chain(&a.label_selector)
            .map(|r| format!("{} {:?} {}", r.key, r.operator, r.values.join(",")))
            .collect();
        let status = a.forbidden(&User::new("jane", &[]), "");
        let text = format!("{} [{}]", status.message, selectors.join("; "));
        assert_eq!(text, expect, "{method} {uri}");
    }

    #[test]
    fn requests_are_refused_in_upstreams_words() {
        check(
            "GET",
            "/api/v1/namespaces/a/pods/p/log",
            "pods \"p\" is forbidden: User \"jane\" cannot get resource \"pods/log\" in API group \"\" in the namespace \"a\" []",
        );
        check(
            "GET",
            "/apis/apps/v1/deployments",
            "deployments.apps is forbidden: User \"jane\" cannot list resource \"deployments\" in API group \"apps\" at the cluster scope []",
        );
        check(
            "GET",
            "/api/v1/nodes?watch=1&fieldSelector=metadata.name%3Dn,spec.unschedulable!%3Dtrue&labelSelector=a+in+(b),c",
            "nodes \"n\" is forbidden: User \"jane\" cannot watch resource \"nodes\" in API group \"\" at the cluster scope [metadata.name In n; spec.unschedulable NotIn true; a In b; c Exists ]",
        );
        check(
            "DELETE",
            "/api/v1/namespaces/a",
            "namespaces \"a\" is forbidden: User \"jane\" cannot delete resource \"namespaces\" in API group \"\" in the namespace \"a\" []",
        );
        check(
            "POST",
            "/metrics",
            "forbidden: User \"jane\" cannot post path \"/metrics\" []",
        );
    }
}
