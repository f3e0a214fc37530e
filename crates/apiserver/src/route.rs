//! What a path asks for.
//!
//! Paths are regular and the set of resources changes while the server runs, so a path is parsed once
//! into its parts and the resource is looked up afterwards.

/// A parsed path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/`: the list of paths.
    Root,
    /// `/healthz`, `/livez`, `/readyz` with the checks below them.
    Health(String),
    /// `/version`.
    Version,
    /// `/metrics`.
    Metrics,
    /// `/corvus/backup`
    Backup,
    /// `/api`.
    LegacyVersions,
    /// `/apis`.
    Groups,
    /// `/apis/GROUP`.
    Group(String),
    /// `/api/v1`, `/apis/GROUP/VERSION`.
    Resources {
        /// The group, empty for the core group.
        group: String,
        /// The version.
        version: String,
    },
    /// `/openapi/v2`.
    OpenApiV2,
    /// `/openapi/v3`.
    OpenApiV3Index,
    /// `/openapi/v3/PATH`.
    OpenApiV3(String),
    /// `/.well-known/openid-configuration`.
    IssuerConfiguration,
    /// `/openid/v1/jwks`.
    IssuerKeys,
    /// Objects.
    Resource(ResourcePath),
    /// Nothing that is served.
    Unknown,
}

/// The parts of a path to objects.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResourcePath {
    /// The group, empty for the core group.
    pub group: String,
    /// The version.
    pub version: String,
    /// The namespace, where the path has one.
    pub namespace: Option<String>,
    /// The plural resource.
    pub resource: String,
    /// The name, where the path has one.
    pub name: Option<String>,
    /// The subresource, where the path has one.
    pub subresource: Option<String>,
    /// What follows the subresource (proxy paths).
    pub rest: Option<String>,
    /// Whether the path is one of the deprecated `/watch/` ones.
    pub watch: bool,
}

/// Parses a path, percent-encoded as it came.
pub fn parse(path: &str) -> Route {
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
    let parts: Vec<&str> = decoded.split('/').skip(1).collect();
    let parts = match parts.as_slice() {
        [init @ .., ""] if !init.is_empty() => init,
        all => all,
    };
    match parts {
        [] | [""] => Route::Root,
        ["healthz" | "livez" | "readyz", ..] => Route::Health(parts.join("/")),
        ["version"] => Route::Version,
        ["metrics"] => Route::Metrics,
        ["corvus", "backup"] => Route::Backup,
        [".well-known", "openid-configuration"] => Route::IssuerConfiguration,
        ["openid", "v1", "jwks"] => Route::IssuerKeys,
        ["openapi", "v2"] => Route::OpenApiV2,
        ["openapi", "v3"] => Route::OpenApiV3Index,
        ["openapi", "v3", rest @ ..] => Route::OpenApiV3(rest.join("/")),
        ["api"] => Route::LegacyVersions,
        ["apis"] => Route::Groups,
        ["apis", group] => Route::Group((*group).to_owned()),
        ["api", version] => Route::Resources {
            group: String::new(),
            version: (*version).to_owned(),
        },
        ["apis", group, version] => Route::Resources {
            group: (*group).to_owned(),
            version: (*version).to_owned(),
        },
        ["api", version, rest @ ..] => resource("", version, rest),
        ["apis", group, version, rest @ ..] => resource(group, version, rest),
        _ => Route::Unknown,
    }
}

fn resource(group: &str, version: &str, parts: &[&str]) -> Route {
    let (watch, parts) = match parts {
        ["watch", rest @ ..] if !rest.is_empty() => (true, rest),
        other => (false, other),
    };
    let mut path = ResourcePath {
        group: group.to_owned(),
        version: version.to_owned(),
        watch,
        ..ResourcePath::default()
    };
    let own = |text: &str| text.to_owned();
    let parts = match parts {
        // A namespace itself, and its own subresources.
        ["namespaces"] | ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => parts,
        ["namespaces", namespace, rest @ ..] => {
            path.namespace = Some(own(namespace));
            rest
        }
        other => other,
    };
    match parts {
        [resource] => path.resource = own(resource),
        [resource, name] => {
            path.resource = own(resource);
            path.name = Some(own(name));
        }
        [resource, name, subresource, rest @ ..] => {
            path.resource = own(resource);
            path.name = Some(own(name));
            path.subresource = Some(own(subresource));
            path.rest = (!rest.is_empty()).then(|| rest.join("/"));
        }
        [] => return Route::Unknown,
    }
    Route::Resource(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expect: &str) {
        let text = match parse(path) {
            Route::Resource(r) => format!(
                "{}|{}|{}|{}|{}|{}{}",
                r.group,
                r.version,
                r.namespace.unwrap_or_default(),
                r.resource,
                r.name.unwrap_or_default(),
                r.subresource.unwrap_or_default(),
                if r.watch { "|watch" } else { "" }
            ),
            other => format!("{other:?}"),
        };
        assert_eq!(text, expect, "{path}");
    }

    #[test]
    fn paths_split_into_their_parts() {
        check("/", "Root");
        check("/api", "LegacyVersions");
        check(
            "/apis/apps/v1/",
            r#"Resources { group: "apps", version: "v1" }"#,
        );
        check("/api/v1/pods", "|v1||pods||");
        check("/api/v1/namespaces", "|v1||namespaces||");
        check("/api/v1/namespaces/a", "|v1||namespaces|a|");
        check(
            "/api/v1/namespaces/a/finalize",
            "|v1||namespaces|a|finalize",
        );
        check("/api/v1/namespaces/a/pods/p/log", "|v1|a|pods|p|log");
        check(
            "/apis/apps/v1/namespaces/a/deployments/d/scale",
            "apps|v1|a|deployments|d|scale",
        );
        check("/apis/g/v1/watch/namespaces/a/xs", "g|v1|a|xs|||watch");
        check(
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
            "rbac.authorization.k8s.io|v1||clusterroles|system:node|",
        );
        check("/nothing", "Unknown");
        check("/readyz/ping", r#"Health("readyz/ping")"#);
    }
}
