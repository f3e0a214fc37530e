//! OpenAPI documents, made from the catalog when they are first asked for and kept until it changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, ETAG, IF_NONE_MATCH, LOCATION};
use http::{HeaderMap, HeaderValue, Response};
use parking_lot::Mutex;
use schema::openapi::{self, Resource, Subresource};
use sha2::{Digest, Sha256};

use crate::body::Body;
use crate::catalog::{Catalog, Definition};
use crate::query::Query;
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
        let digest = hash(&bytes);
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
        selectable: definition
            .custom
            .as_ref()
            .map(|custom| custom.selectable.clone())
            .unwrap_or_default(),
        custom_schema: definition.custom.as_ref().map(|custom| custom.document()),
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

/// The documents that only tell what is served.
fn is_discovery(path: &str, catalog: &Catalog) -> bool {
    match path {
        "api" | "apis" | "version" => true,
        _ => path.strip_prefix("apis/").is_some_and(|group| {
            let mut groups = catalog.groups().into_iter();
            !group.is_empty() && groups.any(|(known, _)| known == group)
        }),
    }
}

/// `/openapi/v3`: the paths of the documents, each with its hash so that clients may cache it.
pub fn v3_index(state: &State, catalog: &Arc<Catalog>) -> Response<Body> {
    let fixed = |name: &str| hash(format!("{name}/{}", env!("CARGO_PKG_VERSION")).as_bytes());
    let mut documents: Vec<(String, String)> = ["api", "apis", "version"]
        .map(|name| (name.to_owned(), fixed(name)))
        .to_vec();
    for (group, versions) in catalog.groups() {
        if catalog.has_built_in(group) && !group.is_empty() {
            let name = format!("apis/{group}");
            documents.push((name.clone(), fixed(&name)));
        }
        for version in versions {
            let path = path_of(group, version);
            let digest = digest(state, catalog, group, version);
            documents.push((path, digest));
        }
    }
    // As upstream: JSON that is said to be text.
    respond::bytes(
        200,
        "text/plain; charset=utf-8",
        openapi::v3_index(&documents).to_string(),
    )
}

/// The hash of a document. It only has to change with the document; for built-in groups it never does.
fn digest(state: &State, catalog: &Catalog, group: &str, version: &str) -> String {
    let has_custom = catalog
        .resources(group, version)
        .iter()
        .any(|definition| definition.custom.is_some());
    if has_custom {
        document(state, catalog, group, version).1
    } else {
        hash(format!("{group}/{version}/{}", env!("CARGO_PKG_VERSION")).as_bytes())
    }
}

fn hash(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// `/openapi/v3/PATH`. A hash that is not the document's leads to where the document is.
pub fn v3(
    state: &State,
    catalog: &Arc<Catalog>,
    path: &str,
    headers: &HeaderMap,
    query: &Query,
) -> Response<Body> {
    let parts: Vec<&str> = path.split('/').collect();
    let (bytes, digest) = match parts.as_slice() {
        _ if is_discovery(path, catalog) => {
            let made = || {
                openapi::v3_discovery_document(path)
                    .to_string()
                    .into_bytes()
            };
            let (bytes, _) = state.documents.get(catalog.generation, path, made);
            (
                bytes,
                hash(format!("{path}/{}", env!("CARGO_PKG_VERSION")).as_bytes()),
            )
        }
        ["api", version] if catalog.serves("", version) => {
            let digest = digest(state, catalog, "", version);
            (document(state, catalog, "", version).0, digest)
        }
        ["apis", group, version] if catalog.serves(group, version) => {
            let digest = digest(state, catalog, group, version);
            (document(state, catalog, group, version).0, digest)
        }
        _ => return respond::empty(404),
    };
    if query.get("hash").is_some_and(|wanted| wanted != digest) {
        let mut response = respond::bytes(301, "application/json", "");
        let place = format!("/openapi/v3/{path}?hash={digest}");
        if let Ok(place) = HeaderValue::from_str(&place) {
            response.headers_mut().insert(LOCATION, place);
        }
        return response;
    }
    cacheable(bytes, &digest, headers)
}

/// `/openapi/v2`: JSON, or protobuf, whichever the client names first.
pub fn v2(state: &State, catalog: &Arc<Catalog>, headers: &HeaderMap) -> Response<Body> {
    let Some(media_type) = v2_media_type(headers) else {
        return respond::empty(406);
    };
    let document = || {
        let mut resources: Vec<Resource> = catalog.all().map(|d| resource(d)).collect();
        resources.sort_by(|a, b| {
            (&a.group, &a.version, &a.plural).cmp(&(&b.group, &b.version, &b.plural))
        });
        openapi::v2_document(&resources)
    };
    let documents = &state.documents;
    let (bytes, digest) = if media_type == JSON {
        documents.get(catalog.generation, "v2", || {
            document().to_string().into_bytes()
        })
    } else {
        documents.get(catalog.generation, "v2-protobuf", || {
            protobuf::encode_openapi_v2(&document())
        })
    };
    cacheable_as(media_type, bytes, &digest, headers)
}

const JSON: &str = "application/json";
/// What clients call the protobuf form: under its own name and under an older one.
const PROTOBUF_NAMES: [&str; 2] = [
    protobuf::OPENAPI_V2_MEDIA_TYPE,
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
];

/// In which form a client wants the older document; none that there is is `None`.
fn v2_media_type(headers: &HeaderMap) -> Option<&'static str> {
    let mut ranges = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|range| range.split(';').next().unwrap_or_default().trim())
        .peekable();
    if ranges.peek().is_none() {
        return Some(JSON);
    }
    ranges.find_map(|range| match range {
        JSON | "application/*" | "*/*" | "*" => Some(JSON),
        range if PROTOBUF_NAMES.contains(&range) => Some(protobuf::OPENAPI_V2_MEDIA_TYPE),
        _ => None,
    })
}

fn cacheable(bytes: Bytes, digest: &str, headers: &HeaderMap) -> Response<Body> {
    cacheable_as(JSON, bytes, digest, headers)
}

fn cacheable_as(
    media_type: &str,
    bytes: Bytes,
    digest: &str,
    headers: &HeaderMap,
) -> Response<Body> {
    let etag = format!("\"{digest}\"");
    let seen = headers
        .get(IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok());
    let mut response = if seen == Some(etag.as_str()) {
        respond::bytes(304, media_type, "")
    } else {
        respond::bytes(200, media_type, bytes)
    };
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(ETAG, etag);
    }
    response
}
