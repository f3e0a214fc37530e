//! Files of one volume that would lie upon each other.
//!
//! A volume is made of items, each a file at a path. Two items at one path, or one inside the other,
//! leave the container with one of them at most.

use crate::at::At;

/// A file of a volume, and the source it comes from where a volume has several.
#[derive(Clone, PartialEq)]
struct File {
    path: String,
    source: String,
}

impl File {
    fn new(path: &At<'_>, source: &str) -> Self {
        Self {
            path: path.text().trim_end_matches('/').to_owned(),
            source: source.to_owned(),
        }
    }

    fn collides_with(&self, other: &Self) -> bool {
        let inside = |inner: &str, outer: &str| {
            inner
                .strip_prefix(outer)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        !self.path.is_empty()
            && !other.path.is_empty()
            && (inside(&self.path, &other.path) || inside(&other.path, &self.path))
    }

    fn shown(&self) -> String {
        if self.source.is_empty() {
            format!("{:?}", self.path)
        } else {
            format!("{:?} ({})", self.path, self.source)
        }
    }
}

/// What is worth a warning in the files of a volume.
pub fn check(volume: &At<'_>, found: &mut Vec<String>) {
    let name = volume.get("name").text();
    for (field, kind, named) in [
        ("configMap", "ConfigMap", "name"),
        ("secret", "Secret", "secretName"),
        ("downwardAPI", "DownwardAPI", ""),
    ] {
        let source = volume.get(field);
        report(
            name,
            &described(&source, kind, named),
            items(&source, ""),
            found,
        );
    }
    let mut files = Vec::new();
    for source in volume.at("projected.sources").items() {
        if source.is_empty() {
            found.push(format!(
                "volume {name:?} (Projected) has no sources provided"
            ));
        }
        files.extend(projected(&source));
    }
    report(name, "Projected", files, found);
}

fn described(source: &At<'_>, kind: &str, named: &str) -> String {
    if named.is_empty() {
        kind.to_owned()
    } else {
        format!("{kind} {:?}", source.get(named).text())
    }
}

fn items(source: &At<'_>, described: &str) -> Vec<File> {
    let items = source.get("items");
    items
        .items()
        .map(|item| File::new(&item.get("path"), described))
        .collect()
}

/// The files of one source of a projected volume.
fn projected(source: &At<'_>) -> Vec<File> {
    for (field, kind, named) in [
        ("configMap", "ConfigMap", "name"),
        ("secret", "Secret", "name"),
        ("downwardAPI", "DownwardAPI", ""),
    ] {
        let at = source.get(field);
        if at.get("items").is_set() {
            return items(&at, &described(&at, kind, named));
        }
    }
    let token = source.get("serviceAccountToken");
    if token.is_set() {
        return vec![File::new(&token.get("path"), "ServiceAccountToken")];
    }
    let bundle = source.get("clusterTrustBundle");
    if bundle.is_set() {
        let named = ["name", "signerName"];
        let name = named.map(|field| bundle.get(field)).into_iter();
        let name = name.filter(At::is_set).map(|name| name.text()).next();
        let described = format!("ClusterTrustBundle {:?}", name.unwrap_or_default());
        return vec![File::new(&bundle.get("path"), &described)];
    }
    let certificate = source.get("podCertificate");
    [
        ("certificateChainPath", "PodCertificate chain"),
        ("keyPath", "PodCertificate key"),
        ("credentialBundlePath", "PodCertificate credential bundle"),
    ]
    .into_iter()
    .map(|(field, described)| File::new(&certificate.get(field), described))
    .filter(|file| !file.path.is_empty())
    .collect()
}

fn report(volume: &str, described: &str, files: Vec<File>, found: &mut Vec<String>) {
    let mut before: Vec<File> = Vec::new();
    for file in files {
        for other in before.iter().filter(|other| file.collides_with(other)) {
            let (file, other) = (file.shown(), other.shown());
            found.push(format!(
                "volume {volume:?} ({described}): overlapping paths: {file} with {other}"
            ));
        }
        before.push(file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn warn(volume: &Value) -> String {
        let mut found = Vec::new();
        check(&At::root(volume), &mut found);
        found.join("\n")
    }

    #[test]
    fn files_upon_each_other_are_named_with_their_sources() {
        assert_eq!(
            warn(&json!({"name": "v", "configMap": {"name": "c", "items": [
                {"key": "a", "path": "p"}, {"key": "b", "path": "p/q"}, {"key": "c", "path": "pq"}]}})),
            r#"volume "v" (ConfigMap "c"): overlapping paths: "p/q" with "p""#
        );
        assert_eq!(
            warn(&json!({"name": "v", "projected": {"sources": [
                {"secret": {"name": "s", "items": [{"key": "a", "path": "token/"}]}},
                {"serviceAccountToken": {"path": "token"}}, {}]}})),
            "volume \"v\" (Projected) has no sources provided\n\
             volume \"v\" (Projected): overlapping paths: \"token\" (ServiceAccountToken) with \"token\" (Secret \"s\")"
        );
        assert_eq!(warn(&json!({"name": "v", "emptyDir": {}})), "");
    }
}
