//! `list`: selectors, pages, and the rules of `resourceVersion`.

mod rendered;

use std::collections::VecDeque;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Response;
use model::{FieldError, FieldPath, Reason, Status, StatusCause, StatusDetails};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{Entry, Error, ListOptions, Listing, Revision};

use super::get::metadata_only;
use crate::body::Body;
use crate::context::Context;
use crate::envelope::{self, Envelope};
use crate::media::{Encoding, Shape};
use crate::query::Query;
use crate::selection::Selection;
use crate::{go_json, respond, table};

/// What a `continue` token says: where to go on, and as of when (-1: as of now).
#[derive(Debug, Serialize, Deserialize)]
struct Token {
    v: String,
    rv: i64,
    #[serde(default)]
    start: String,
}

/// A list before it is encoded.
pub struct Page {
    /// The revision the list is of.
    pub revision: Revision,
    /// Its entries.
    pub entries: Vec<Arc<Entry>>,
    /// The token for the next page, empty for the last.
    pub next: String,
    /// How many there are beyond, where that is known.
    pub remaining: Option<usize>,
}

/// The version of lists of metadata that have a protobuf form.
const PARTIAL_VERSION: &str = "meta.k8s.io/v1";

/// `GET` of a collection.
pub async fn list(context: &Context) -> Result<Response<Body>, Status> {
    let selection = Selection::of(context)?;
    let page = page(context, &selection)?;
    let accept = context.accept;
    // A webhook converts a list as a whole.
    let shares_bytes = context.definition.is_stored_version()
        || context
            .definition
            .custom
            .as_ref()
            .is_none_or(|custom| custom.conversion.is_none());
    match (accept.shape, accept.encoding) {
        (Shape::Object | Shape::AggregatedDiscovery(_), Encoding::Json) if shares_bytes => {
            Ok(encode_objects(context, &page))
        }
        (Shape::Object | Shape::AggregatedDiscovery(_), Encoding::PrettyJson) if shares_bytes => {
            Ok(encode_pretty(context, page))
        }
        (Shape::Object, Encoding::Protobuf) if context.definition.custom.is_none() => {
            encode_protobuf(context, page, false)
        }
        (Shape::MetadataList("v1"), Encoding::Protobuf) if shares_bytes => {
            encode_protobuf(context, page, true)
        }
        (Shape::MetadataList(version), Encoding::Json) if shares_bytes => {
            Ok(encode_metadata(context, page, version))
        }
        (shape, encoding) => {
            let mut items = Vec::with_capacity(page.entries.len());
            for entry in &page.entries {
                items.push(envelope::decode(entry)?);
            }
            let definition = &context.definition;
            definition.read_all(&context.state, &mut items).await?;
            let value = shape_items(context, shape, &page, items)?;
            Ok(respond::value(200, &value, encoding))
        }
    }
}

fn shape_items(
    context: &Context,
    shape: Shape,
    page: &Page,
    items: Vec<Value>,
) -> Result<Value, Status> {
    let metadata = list_metadata(page);
    Ok(match shape {
        Shape::Table(version) => table::many(context, version, metadata, items)?,
        Shape::Metadata(_) => {
            return Err(Status::new(
                Reason::NotAcceptable,
                format!(
                    "you requested PartialObjectMetadata, but the requested object is a list ({})",
                    context.definition.go_type(true)
                ),
            ));
        }
        Shape::MetadataList(version) => {
            let items: Vec<Value> = items
                .iter()
                .map(|item| {
                    let mut item = metadata_only(item, version);
                    item["kind"] = json!("PartialObjectMetadata");
                    item
                })
                .collect();
            json!({
                "kind": "PartialObjectMetadataList",
                "apiVersion": format!("meta.k8s.io/{version}"),
                "metadata": metadata,
                "items": items,
            })
        }
        Shape::Object | Shape::AggregatedDiscovery(_) => {
            let custom = context.definition.custom.is_some();
            let items: Vec<Value> = items
                .into_iter()
                .map(|mut item| {
                    if !custom && let Some(members) = item.as_object_mut() {
                        members.remove("kind");
                        members.remove("apiVersion");
                    }
                    item
                })
                .collect();
            json!({
                "kind": context.definition.list_kind,
                "apiVersion": context.definition.kind.api_version(),
                "metadata": metadata,
                "items": items,
            })
        }
    })
}

fn list_metadata(page: &Page) -> Value {
    let mut metadata = json!({"resourceVersion": page.revision.to_string()});
    if !page.next.is_empty() {
        metadata["continue"] = json!(page.next);
        if let Some(remaining) = page.remaining {
            metadata["remainingItemCount"] = json!(remaining);
        }
    }
    metadata
}

/// The list for people, written item by item.
fn encode_pretty(context: &Context, page: Page) -> Response<Body> {
    let definition = &context.definition;
    let metadata = serde_json::to_string_pretty(&object_list_metadata(context, &page));
    let head = format!(
        "{{\n  \"kind\": {},\n  \"apiVersion\": {},\n  \"metadata\": {},\n  \"items\": [",
        Value::from(definition.list_kind.as_str()),
        Value::from(definition.kind.api_version()),
        metadata.unwrap_or_default().replace('\n', "\n  "),
    );
    let tail = if page.entries.is_empty() {
        "]\n}\n"
    } else {
        "\n  ]\n}\n"
    };
    let form = rendered::Form::Pretty;
    let body = rendered::body(definition.clone(), form, head, page.entries, tail);
    respond::with_body(200, "application/json", body)
}

/// The list of the items' metadata, written item by item.
fn encode_metadata(context: &Context, page: Page, version: &'static str) -> Response<Body> {
    let head = format!(
        "{{\"kind\":\"PartialObjectMetadataList\",\"apiVersion\":\"meta.k8s.io/{version}\",\"metadata\":{},\"items\":[",
        list_metadata(&page)
    );
    let form = rendered::Form::Metadata(version);
    let definition = context.definition.clone();
    let body = rendered::body(definition, form, head, page.entries, "]}\n");
    respond::with_body(200, "application/json", body)
}

/// The list in protobuf: each item is written and forgotten before the next.
fn encode_protobuf(context: &Context, page: Page, partial: bool) -> Result<Response<Body>, Status> {
    let definition = &context.definition;
    let own = definition.kind.api_version();
    let (api_version, kind, list_kind) = if partial {
        (
            PARTIAL_VERSION,
            "PartialObjectMetadata",
            "PartialObjectMetadataList",
        )
    } else {
        (
            own.as_str(),
            definition.kind.kind.as_str(),
            definition.list_kind.as_str(),
        )
    };
    let metadata = list_metadata(&page);
    let mut pieces = VecDeque::with_capacity(page.entries.len() + 2);
    let mut length = 0;
    for entry in page.entries {
        let mut value = envelope::decode(&entry)?;
        definition.present(&mut value);
        let item = protobuf::encode_item(api_version, kind, &value).map_err(Status::internal)?;
        length += item.len();
        pieces.push_back(Bytes::from(item));
    }
    let (head, tail) = protobuf::encode_list(api_version, list_kind, &metadata, length)
        .map_err(Status::internal)?;
    pieces.push_front(Bytes::from(head));
    pieces.push_back(Bytes::from(tail));
    let media_type = Encoding::Protobuf.media_type();
    Ok(respond::with_body(200, media_type, Body::Pieces(pieces)))
}

/// The metadata of a list of whole objects.
fn object_list_metadata(context: &Context, page: &Page) -> Value {
    let mut metadata = list_metadata(page);
    if context.definition.custom.is_some() && page.next.is_empty() {
        // Lists of custom resources always name the token.
        metadata["continue"] = json!("");
    }
    metadata
}

/// The list as pieces that share the stored bytes.
fn encode_objects(context: &Context, page: &Page) -> Response<Body> {
    let definition = &context.definition;
    let custom = definition.custom.is_some();
    let metadata = object_list_metadata(context, page);
    let head = format!(
        "{{\"kind\":{},\"apiVersion\":{},\"metadata\":{metadata},\"items\":[",
        Value::from(definition.list_kind.as_str()),
        Value::from(definition.kind.api_version()),
    );
    let mut pieces = VecDeque::with_capacity(page.entries.len() * 3 + 2);
    pieces.push_back(Bytes::from(head));
    for (index, entry) in page.entries.iter().enumerate() {
        if index > 0 {
            pieces.push_back(Bytes::from_static(b","));
        }
        let stored = definition.serves_as_stored(entry);
        if custom && stored {
            pieces.push_back(entry.bytes().clone());
        } else if stored {
            let (open, rest) = Envelope::of(entry).item(entry.bytes());
            pieces.push_back(open);
            pieces.push_back(rest);
        } else if let Ok(mut value) = envelope::decode(entry) {
            definition.present(&mut value);
            if !custom && let Some(members) = value.as_object_mut() {
                members.remove("kind");
                members.remove("apiVersion");
            }
            pieces.push_back(Bytes::from(value.to_string()));
        }
    }
    pieces.push_back(Bytes::from_static(b"]}\n"));
    respond::with_body(200, "application/json", Body::Pieces(pieces))
}

/// Reads a `resourceVersion`.
pub fn parse_version(text: &str) -> Result<Revision, Status> {
    text.parse().map(Revision).map_err(|_| {
        let error = FieldError::invalid(
            &FieldPath::new("resourceVersion"),
            text,
            format!("strconv.ParseUint: parsing \"{text}\": invalid syntax"),
        );
        Status::bad_request(format!("resourceVersion: {}", error.body()))
    })
}

/// 504 where a revision has not happened yet, as upstream's cache answers.
pub fn check_not_ahead(wanted: Revision, current: Revision) -> Result<(), Status> {
    if wanted <= current {
        return Ok(());
    }
    let mut status = Status::new(
        Reason::Timeout,
        format!("Too large resource version: {wanted}, current: {current}"),
    );
    status.details = Some(Box::new(StatusDetails {
        causes: vec![StatusCause {
            reason: "ResourceVersionTooLarge".to_owned(),
            message: "Too large resource version".to_owned(),
            field: String::new(),
        }],
        retry_after_seconds: 1,
        ..StatusDetails::default()
    }));
    Err(status)
}

/// When a list is to be of.
enum When {
    Now,
    Exactly(Revision),
}

fn when(context: &Context, limit: Option<usize>) -> Result<When, Status> {
    let query = &context.query;
    check_options(query)?;
    let version = query.get("resourceVersion");
    let Some(text) = version else {
        return Ok(When::Now);
    };
    let wanted = parse_version(text)?;
    check_not_ahead(wanted, context.state.store.revision())?;
    Ok(match query.get("resourceVersionMatch") {
        Some("Exact") => When::Exactly(wanted),
        // The old rule: a page of a named revision is exact, a whole list not older.
        None if limit.is_some() && wanted.0 > 0 => When::Exactly(wanted),
        _ => When::Now,
    })
}

/// The combinations of options that upstream refuses.
fn check_options(query: &Query) -> Result<(), Status> {
    let mut errors = Vec::new();
    let path = FieldPath::new("resourceVersionMatch");
    let version = query.get("resourceVersion");
    if let Some(rule) = query.get("resourceVersionMatch") {
        let mut forbid = |why: &str| errors.push(FieldError::forbidden(&path, why));
        if version.is_none() {
            forbid("resourceVersionMatch is forbidden unless resourceVersion is provided");
        }
        if query.get("continue").is_some() {
            forbid("resourceVersionMatch is forbidden when continue is provided");
        }
        if rule == "Exact" && version == Some("0") {
            forbid("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
        }
        if !["Exact", "NotOlderThan"].contains(&rule) {
            let known = ["Exact", "NotOlderThan", ""];
            errors.push(FieldError::not_supported(&path, rule, &known));
        }
    }
    if query
        .raw("sendInitialEvents")
        .is_some_and(|value| !value.is_empty())
    {
        let path = FieldPath::new("sendInitialEvents");
        let why = "sendInitialEvents is forbidden for list";
        errors.push(FieldError::forbidden(&path, why));
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid("meta.k8s.io", "ListOptions", "", &errors))
}

/// Collects the entries of a list.
pub fn page(context: &Context, selection: &Selection) -> Result<Page, Status> {
    let query = &context.query;
    // As upstream: whoever takes any revision gets all of it.
    let any = query.get("resourceVersion") == Some("0");
    let limit = query
        .number("limit")?
        .filter(|limit| *limit > 0 && !any)
        .map(|l| l as usize);
    let prefix = context.definition.prefix(context.path.namespace.as_deref());
    let mut options = ListOptions::default();
    let token = query.get("continue");
    let when = when(context, limit)?;
    match token {
        Some(text) => {
            if query.get("resourceVersion").is_some() && !any {
                return Err(Status::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
            let token = read_token(text)?;
            options.after = Some(format!("{prefix}{}", token.start));
            options.at = u64::try_from(token.rv).ok().map(Revision);
        }
        None => {
            if let When::Exactly(revision) = when {
                options.at = Some(revision);
            }
        }
    }
    // Without a selector the store itself can stop at the limit.
    let everything = selection.is_everything();
    if everything {
        options.limit = limit;
    }
    let listing = match context.state.store.list(&prefix, &options) {
        Ok(listing) => listing,
        Err(Error::Compacted { .. }) => return Err(too_old(context, &prefix, token)),
        Err(Error::Future { requested, current }) => {
            check_not_ahead(requested, current)?;
            return Err(Status::internal("a revision is ahead and is not"));
        }
        Err(other) => return Err(Status::internal(other)),
    };
    Ok(select(listing, selection, limit, &prefix))
}

/// Takes what is selected, up to the limit.
fn select(listing: Listing, selection: &Selection, limit: Option<usize>, prefix: &str) -> Page {
    let revision = listing.revision;
    if selection.is_everything() {
        let next = match listing.entries.last() {
            Some(last) if listing.remaining > 0 => next_token(revision, last, prefix),
            _ => String::new(),
        };
        return Page {
            revision,
            entries: listing.entries,
            next,
            remaining: Some(listing.remaining),
        };
    }
    let limit = limit.unwrap_or(usize::MAX);
    let (mut entries, mut next) = (Vec::new(), String::new());
    let mut seen: Option<Arc<Entry>> = None;
    for entry in listing.entries {
        // As upstream: whether what follows is selected is for the next page to find out.
        if entries.len() == limit {
            next = seen.map_or_else(String::new, |last| next_token(revision, &last, prefix));
            break;
        }
        if selection.selects(&entry) {
            entries.push(entry.clone());
        }
        seen = Some(entry);
    }
    Page {
        revision,
        entries,
        next,
        remaining: None,
    }
}

fn next_token(revision: Revision, last: &Entry, prefix: &str) -> String {
    write_token(revision.0 as i64, &last.key()[prefix.len()..])
}

fn write_token(rv: i64, start: &str) -> String {
    // Upstream's tokens name the first key that was not sent: the last one sent and a zero byte.
    let token = Token {
        v: "meta.k8s.io/v1".to_owned(),
        rv,
        start: format!("{start}\u{0}"),
    };
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
}

fn read_token(text: &str) -> Result<Token, Status> {
    let bad = |why: &str| {
        Status::bad_request(format!(
            "invalid continue token: continue key is not valid: {why}"
        ))
    };
    let bytes = URL_SAFE_NO_PAD
        .decode(text.trim_end_matches('='))
        .map_err(|_| bad("illegal base64 data at input byte 0"))?;
    let mut token: Token = serde_json::from_slice(&bytes)
        .map_err(|error| bad(&go_json::syntax_error(&bytes, &error)))?;
    let version = &token.v;
    if version != "meta.k8s.io/v1" {
        return Err(bad(&format!(
            "server does not recognize this encoded version {version}"
        )));
    }
    if token.start.is_empty() {
        return Err(bad(&format!("encoded start key empty (version {version})")));
    }
    if token.rv == 0 {
        return Err(bad(&format!(
            "incorrect encoded start resourceVersion 0 (version {version})"
        )));
    }
    if token.start.starts_with('/') || token.start.split('/').any(|part| part == "..") {
        return Err(bad(&token.start));
    }
    token.start = token.start.trim_end_matches('\u{0}').to_owned();
    Ok(token)
}

/// 410; for an expired token with a fresh one that goes on as of now.
fn too_old(context: &Context, prefix: &str, token: Option<&str>) -> Status {
    let Some(token) = token.and_then(|text| read_token(text).ok()) else {
        return Status::new(
            Reason::Expired,
            "The resourceVersion for the provided list is too old.",
        );
    };
    let mut status = Status::new(
        Reason::Expired,
        "The provided continue parameter is too old to display a consistent list result. You can \
         start a new list without the continue parameter, or use the continue token in this \
         response to retrieve the remainder of the results. Continuing with the provided token \
         results in an inconsistent list - objects that were created, modified, or deleted between \
         the time the first chunk was returned and now may show up in the list.",
    );
    tracing::debug!(
        resource = context.definition.gvr.resource,
        prefix,
        "an old token"
    );
    status.list_continue = Some(write_token(-1, &token.start));
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip() {
        let token = read_token(&write_token(7, "ns/name")).expect("own token");
        assert_eq!((token.rv, token.start.as_str()), (7, "ns/name"));
        assert!(read_token("nonsense").is_err());
    }
}
