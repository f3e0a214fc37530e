//! OpenAPI documents, made from the catalog when they are first asked for and kept until it changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Response};
use parking_lot::Mutex;
use schema::openapi::{self, Resource, Subresource};
use sha2::{Digest, Sha256};

use crate::body::Body;
use crate::catalog::{Catalog, Definition};
use crate::respond;
use crate::server::State;

/// Documents by path, with their digests, of one generation of the catalog.
#[derive(Default)]
pub struct Documents {
    cache: Mutex<Cache>,
}

/// The generation, and by path the document and its digest.
type Cache = (u64, BTreeMap<String, (Bytes, String)>);

impl Documents {
    fn get(&self, generation: u64, path: &str, make: impl FnOnce() -> Vec<u8>) -> (Bytes, String) {
        if let Some(found) = self.cached(generation, path) {
            return found;
        }
        let bytes = Bytes::from(make());
        let digest: String = Sha256::digest(&bytes)
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        let mut cache = self.cache.lock();
        if cache.0 == generation {
            cache
                .1
                .insert(path.to_owned(), (bytes.clone(), digest.clone()));
        }
        (bytes, digest)
    }

    fn cached(&self, generation: u64, path: &str) -> Option<(Bytes, String)> {
        let mut cache = self.cache.lock();
        if cache.0 != generation {
            *cache = (generation, BTreeMap::new());
        }
        cache.1.get(path).cloned()
    }
}

fn resource(definition: &Definition) -> Resource {
    Resource {
        group: definition.gvr.group.clone(),
        version: definition.gvr.version.clone(),
        kind: definition.kind.kind.clone(),
        plural: definition.gvr.resource.clone(),
        namespaced: definition.namespaced(),
        verbs: definition.verbs.clone(),
        subresources: definition
            .subresources
            .iter()
            .map(|sub| Subresource {
                name: sub.name.clone(),
                group: sub.kind.group.clone(),
                version: sub.kind.version.clone(),
                kind: sub.kind.kind.clone(),
                verbs: sub.verbs.clone(),
            })
            .collect(),
        custom_schema: definition
            .custom
            .as_ref()
            .map(|custom| custom.document.clone()),
    }
}

fn of_version(catalog: &Catalog, group: &str, version: &str) -> Vec<Resource> {
    catalog
        .resources(group, version)
        .into_iter()
        .map(|d| resource(d))
        .collect()
}

fn path_of(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("api/{version}")
    } else {
        format!("apis/{group}/{version}")
    }
}

fn document(state: &State, catalog: &Catalog, group: &str, version: &str) -> (Bytes, String) {
    state
        .documents
        .get(catalog.generation, &path_of(group, version), || {
            openapi::v3_document(group, version, &of_version(catalog, group, version))
                .to_string()
                .into_bytes()
        })
}

/// `/openapi/v3`: the paths of the documents, each with its hash so that clients may cache it.
pub fn v3_index(state: &State, catalog: &Arc<Catalog>) -> Response<Body> {
    let mut documents = Vec::new();
    for (group, versions) in catalog.groups() {
        for version in versions {
            // The hash only has to change with the document; for built-in groups it never does.
            let custom = catalog
                .resources(group, version)
                .iter()
                .any(|d| d.custom.is_some());
            let hash = if custom {
                document(state, catalog, group, version).1
            } else {
                let text = format!("{group}/{version}/{}", env!("CARGO_PKG_VERSION"));
                Sha256::digest(text.as_bytes())
                    .iter()
                    .map(|byte| format!("{byte:02X}"))
                    .collect()
            };
            documents.push((path_of(group, version), hash));
        }
    }
    respond::bytes(
        200,
        "application/json",
        openapi::v3_index(&documents).to_string(),
    )
}

/// `/openapi/v3/PATH`.
pub fn v3(
    state: &State,
    catalog: &Arc<Catalog>,
    path: &str,
    headers: &HeaderMap,
) -> Response<Body> {
    let parts: Vec<&str> = path.split('/').collect();
    let (group, version) = match parts.as_slice() {
        ["api", version] => ("", *version),
        ["apis", group, version] => (*group, *version),
        _ => return respond::text(404, "404 page not found\n"),
    };
    if !catalog.serves(group, version) {
        return respond::text(404, "404 page not found\n");
    }
    let (bytes, digest) = document(state, catalog, group, version);
    cacheable(bytes, &digest, headers)
}

/// `/openapi/v2`.
pub fn v2(state: &State, catalog: &Arc<Catalog>, headers: &HeaderMap) -> Response<Body> {
    let (bytes, digest) = state.documents.get(catalog.generation, "v2", || {
        let mut resources: Vec<Resource> = catalog.all().map(|d| resource(d)).collect();
        resources.sort_by(|a, b| {
            (&a.group, &a.version, &a.plural).cmp(&(&b.group, &b.version, &b.plural))
        });
        openapi::v2_document(&resources).to_string().into_bytes()
    });
    cacheable(bytes, &digest, headers)
}

fn cacheable(bytes: Bytes, digest: &str, headers: &HeaderMap) -> Response<Body> {
    let etag = format!("\"{digest}\"");
    let seen = headers
        .get(IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok());
    let mut response = if seen == Some(etag.as_str()) {
        respond::bytes(304, "application/json", "")
    } else {
        respond::bytes(200, "application/json", bytes)
    };
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(ETAG, etag);
    }
    response
}
