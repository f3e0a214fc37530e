//! Impersonation: a request that asks to be taken as another user's.
//!
//! Upstream's five modes in order: four constrained ones, which allow certain verbs on certain
//! things only (`impersonate-on:MODE:VERB` beside `impersonate:MODE`), and the old `impersonate`.
//! The first that allows wins; where none does, the first refusal is the answer.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use http::{HeaderMap, HeaderName};
use model::{Status, names};

use super::{
    ANONYMOUS, AUTHENTICATED, Attributes, Authorizer, MASTERS, UNAUTHENTICATED, User,
    service_account_name,
};

const USER: &str = "impersonate-user";
const UID: &str = "impersonate-uid";
const GROUP: &str = "impersonate-group";
const EXTRA: &str = "impersonate-extra-";
/// The group of all nodes.
const NODES: &str = "system:nodes";
/// From this many checks on, the right to impersonate all of a kind is looked for first.
const MANY: usize = 4;
/// What a service account token says of the node its Pod runs on.
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";

/// The user a request wants to be taken for; `None` where it does not.
pub fn wanted_user(headers: &HeaderMap) -> Result<Option<User>, Status> {
    // Most requests carry no such header; a look at the names is all they pay.
    if !headers
        .keys()
        .any(|name| name.as_str().starts_with("impersonate-"))
    {
        return Ok(None);
    }
    let text = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in headers.keys() {
        if let Some(key) = name.as_str().strip_prefix(EXTRA) {
            extra
                .entry(unescape(key))
                .or_default()
                .extend(values(headers, name));
        }
    }
    let user = User {
        name: text(USER),
        uid: text(UID),
        groups: headers
            .get_all(GROUP)
            .iter()
            .filter_map(|value| value.to_str().ok().map(str::to_owned))
            .collect(),
        extra,
    };
    if !user.name.is_empty() {
        return Ok(Some(user));
    }
    if user.uid.is_empty() && user.groups.is_empty() && user.extra.is_empty() {
        return Ok(None);
    }
    Err(Status::bad_request(format!(
        "requested {} without impersonating a user name",
        printed(&user)
    )))
}

fn values(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let values = headers.get_all(name).iter();
    values
        .filter_map(|value| value.to_str().ok().map(str::to_owned))
        .collect()
}

/// Decodes `%xx`; a malformed escape leaves the key as it is.
fn unescape(key: &str) -> String {
    let well_formed = key.match_indices('%').all(|(at, _)| {
        key.as_bytes()
            .get(at + 1..at + 3)
            .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    if !well_formed {
        return key.to_owned();
    }
    percent_encoding::percent_decode_str(key)
        .decode_utf8_lossy()
        .into_owned()
}

/// The user as upstream's message prints one.
fn printed(user: &User) -> String {
    let list = |words: &[String]| {
        if words.is_empty() {
            return "[]string(nil)".to_owned();
        }
        let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
        format!("[]string{{{}}}", words.join(", "))
    };
    let extra = if user.extra.is_empty() {
        "map[string][]string(nil)".to_owned()
    } else {
        let members: Vec<String> = user
            .extra
            .iter()
            .map(|(key, values)| format!("{key:?}:{}", list(values)))
            .collect();
        format!("map[string][]string{{{}}}", members.join(", "))
    };
    let mut text = String::new();
    let _ = write!(
        text,
        "&user.DefaultInfo{{Name:{:?}, UID:{:?}, Groups:{}, Extra:{extra}}}",
        user.name,
        user.uid,
        list(&user.groups)
    );
    text
}

/// A constrained mode, or the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    AssociatedNode,
    ArbitraryNode,
    ServiceAccount,
    UserInfo,
    Legacy,
}

impl Mode {
    const ALL: [Self; 5] = [
        Self::AssociatedNode,
        Self::ArbitraryNode,
        Self::ServiceAccount,
        Self::UserInfo,
        Self::Legacy,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::AssociatedNode => "associated-node",
            Self::ArbitraryNode => "arbitrary-node",
            Self::ServiceAccount => "serviceaccount",
            Self::UserInfo => "user-info",
            Self::Legacy => "",
        }
    }

    /// Whether the mode is about such a request at all.
    fn applies(self, requestor: &User, wanted: &User) -> bool {
        let bare = wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty();
        let node = node_name(&wanted.name);
        match self {
            Self::AssociatedNode => {
                bare && node.is_some()
                    && service_account_name(&requestor.name).is_some()
                    && requestor.extra.get(NODE_NAME).map(Vec::as_slice)
                        == node.map(|name| vec![name.to_owned()]).as_deref()
            }
            Self::ArbitraryNode => bare && node.is_some(),
            Self::ServiceAccount => bare && service_account_name(&wanted.name).is_some(),
            Self::UserInfo => node.is_none() && service_account_name(&wanted.name).is_none(),
            Self::Legacy => true,
        }
    }

    fn verb(self) -> String {
        match self {
            Self::Legacy => "impersonate".to_owned(),
            constrained => format!("impersonate:{}", constrained.name()),
        }
    }
}

fn node_name(user: &str) -> Option<&str> {
    let name = user.strip_prefix("system:node:")?;
    names::dns1123_subdomain(name).is_empty().then_some(name)
}

/// The user a request is taken for, if `requestor` may send it in their name; `request` is what it
/// wants to do.
pub fn impersonate(
    authorizer: &Authorizer,
    requestor: &User,
    wanted: &User,
    request: &Attributes,
) -> Result<User, Status> {
    let mut first = None;
    for mode in Mode::ALL {
        if !mode.applies(requestor, wanted) {
            continue;
        }
        let check = Check {
            authorizer,
            requestor,
            mode,
        };
        match check.all(wanted, request) {
            Ok(user) => return Ok(user),
            Err(refusal) => drop(first.get_or_insert(refusal)),
        }
    }
    Err(first.unwrap_or_else(|| Status::internal("all impersonation modes failed")))
}

struct Check<'a> {
    authorizer: &'a Authorizer,
    requestor: &'a User,
    mode: Mode,
}

impl Check<'_> {
    fn all(&self, wanted: &User, request: &Attributes) -> Result<User, Status> {
        if self.mode != Mode::Legacy {
            let verb = format!("impersonate-on:{}:{}", self.mode.name(), request.verb);
            self.allowed(&Attributes {
                verb,
                ..request.clone()
            })?;
        }
        let mut user = wanted.clone();
        self.name(wanted, &mut user)?;
        if !wanted.uid.is_empty() {
            self.allowed(&self.of("authentication.k8s.io", "uids", &wanted.uid))?;
        }
        self.groups(&wanted.groups)?;
        self.extra(&wanted.extra)?;
        if user.name == ANONYMOUS {
            ensure_group(&mut user, UNAUTHENTICATED);
        } else if !user.is_in(UNAUTHENTICATED) {
            ensure_group(&mut user, AUTHENTICATED);
        }
        Ok(user)
    }

    fn of(&self, group: &str, resource: &str, name: &str) -> Attributes {
        Attributes {
            verb: self.mode.verb(),
            group: group.to_owned(),
            version: "v1".to_owned(),
            resource: resource.to_owned(),
            name: name.to_owned(),
            ..Attributes::default()
        }
    }

    /// The group of users and groups: the old mode knows them as core resources.
    fn user_group(&self) -> &'static str {
        match self.mode {
            Mode::Legacy => "",
            _ => "authentication.k8s.io",
        }
    }

    fn allowed(&self, wanted: &Attributes) -> Result<(), Status> {
        let decision = if self.mode == Mode::AssociatedNode {
            // A right to one's own node holds on all nodes, so what differs by node is left out.
            let keys = self.requestor.extra.keys().cloned().collect();
            let key = "authentication.kubernetes.io/associated-node-keys".to_owned();
            let requestor = User {
                extra: BTreeMap::from([(key, keys)]),
                ..self.requestor.clone()
            };
            self.authorizer.authorize(&requestor, wanted)
        } else {
            self.authorizer.authorize(self.requestor, wanted)
        };
        if decision.is_allowed() {
            return Ok(());
        }
        Err(wanted.forbidden(self.requestor, decision.reason()))
    }

    fn name(&self, wanted: &User, user: &mut User) -> Result<(), Status> {
        let mut request = self.of(self.user_group(), "users", &wanted.name);
        if self.mode != Mode::Legacy
            && let Some(node) = node_name(&wanted.name)
        {
            "nodes".clone_into(&mut request.resource);
            let node = if self.mode == Mode::AssociatedNode {
                "*"
            } else {
                node
            };
            node.clone_into(&mut request.name);
            user.groups = vec![NODES.to_owned()];
        }
        if let Some((namespace, name)) = service_account_name(&wanted.name) {
            "serviceaccounts".clone_into(&mut request.resource);
            namespace.clone_into(&mut request.namespace);
            name.clone_into(&mut request.name);
            if wanted.groups.is_empty() {
                user.groups = vec![
                    "system:serviceaccounts".to_owned(),
                    format!("system:serviceaccounts:{namespace}"),
                ];
            }
        }
        self.allowed(&request)
    }

    fn groups(&self, groups: &[String]) -> Result<(), Status> {
        if groups.is_empty() {
            return Ok(());
        }
        let of = |name: &str| self.of(self.user_group(), "groups", name);
        if self.mode != Mode::Legacy {
            let refuse = |name: &str, why| Err(of(name).forbidden(self.requestor, why));
            if groups.iter().any(String::is_empty) {
                return refuse("", "impersonating the empty string group is not allowed");
            }
            if groups.iter().any(|group| group == MASTERS) {
                return refuse(
                    MASTERS,
                    "impersonating the system:masters group is not allowed",
                );
            }
            if groups.len() >= MANY && self.allowed(&of("*")).is_ok() {
                return Ok(());
            }
        }
        groups.iter().try_for_each(|group| self.allowed(&of(group)))
    }

    fn extra(&self, extra: &BTreeMap<String, Vec<String>>) -> Result<(), Status> {
        if extra.is_empty() {
            return Ok(());
        }
        let of = |key: &str, value: &str| Attributes {
            subresource: key.to_owned(),
            ..self.of("authentication.k8s.io", "userextras", value)
        };
        if self.mode != Mode::Legacy {
            if let Some(why) = bad_extra(extra) {
                return Err(of("", "").forbidden(self.requestor, &why));
            }
            let count: usize = extra.values().map(Vec::len).sum();
            if count.max(extra.len()) >= MANY && self.allowed(&of("*", "*")).is_ok() {
                return Ok(());
            }
        }
        extra.iter().try_for_each(|(key, values)| {
            values
                .iter()
                .try_for_each(|value| self.allowed(&of(key, value)))
        })
    }
}

/// What the constrained modes do not take, though the old one does.
fn bad_extra(extra: &BTreeMap<String, Vec<String>>) -> Option<String> {
    extra.iter().find_map(|(key, values)| {
        if key.is_empty() {
            return Some("impersonating the empty string key in extra is not allowed".to_owned());
        }
        let domain = key.split_once('/');
        if !domain.is_some_and(|(domain, path)| {
            names::dns1123_subdomain(domain).is_empty() && !path.is_empty()
        }) {
            let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            return Some(format!(
                "impersonating an invalid key in extra is not allowed: extra.key: Invalid value: {key:?}: {why}"
            ));
        }
        if *key != key.to_lowercase() {
            return Some(format!(
                "impersonating a non-lowercase key in extra is not allowed: {key:?}"
            ));
        }
        if values.is_empty() {
            return Some("impersonating empty values in extra is not allowed".to_owned());
        }
        if values.iter().any(String::is_empty) {
            return Some(
                "impersonating the empty string value in extra is not allowed".to_owned(),
            );
        }
        None
    })
}

fn ensure_group(user: &mut User, group: &str) {
    if !user.is_in(group) {
        user.groups.push(group.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        headers
    }

    #[test]
    fn headers_name_the_user() {
        let wanted = |pairs| wanted_user(&headers(pairs));
        assert_eq!(wanted(&[("accept", "x")]), Ok(None));
        let user = wanted(&[
            ("impersonate-user", "jane"),
            ("impersonate-uid", "u"),
            ("impersonate-group", "a"),
            ("impersonate-group", "b"),
            ("impersonate-extra-acme%2ecom%2fp", "1"),
            ("impersonate-extra-bad%zz", "2"),
        ]);
        let user = user.expect("a user").expect("a user");
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("jane", "u"));
        assert_eq!(user.groups, ["a", "b"]);
        assert_eq!(user.extra["acme.com/p"], ["1"]);
        assert_eq!(user.extra["bad%zz"], ["2"]);
        let refused = wanted(&[("impersonate-group", "dev")]).expect_err("no name");
        assert_eq!(
            refused.message,
            "requested &user.DefaultInfo{Name:\"\", UID:\"\", Groups:[]string{\"dev\"}, Extra:map[string][]string(nil)} without impersonating a user name"
        );
    }

    #[test]
    fn the_first_refusal_is_told() {
        let store = std::sync::Arc::new(store::memory());
        let authorizer = Authorizer::new(store, &[super::super::Mode::Rbac]);
        let joe = User::new("joe", &[]);
        let request = Attributes {
            verb: "get".to_owned(),
            resource: "pods".to_owned(),
            ..Attributes::default()
        };
        let check = |name: &str, groups: &[&str], expect: &str| {
            let wanted = User {
                name: name.to_owned(),
                groups: groups.iter().map(|group| (*group).to_owned()).collect(),
                ..User::default()
            };
            let refused = impersonate(&authorizer, &joe, &wanted, &request).expect_err("no rights");
            assert_eq!(refused.message, expect);
        };
        check(
            "jane",
            &[],
            "pods is forbidden: User \"joe\" cannot impersonate-on:user-info:get resource \"pods\" in API group \"\" at the cluster scope",
        );
        check(
            "system:node:n",
            &[],
            "pods is forbidden: User \"joe\" cannot impersonate-on:arbitrary-node:get resource \"pods\" in API group \"\" at the cluster scope",
        );
        check(
            "system:serviceaccount:a:b",
            &["g"],
            "serviceaccounts \"b\" is forbidden: User \"joe\" cannot impersonate resource \"serviceaccounts\" in API group \"\" in the namespace \"a\"",
        );
    }
}
