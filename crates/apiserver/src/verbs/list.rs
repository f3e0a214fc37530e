//! `list`: selectors, pages, and the rules of `resourceVersion`.

use std::collections::VecDeque;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Response;
use model::{FieldError, FieldPath, Reason, Status, StatusCause, StatusDetails};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{Entry, Error, ListOptions, Revision};

use super::get::metadata_only;
use crate::body::Body;
use crate::context::Context;
use crate::envelope::{self, Envelope};
use crate::media::{Encoding, Shape};
use crate::selection::Selection;
use crate::{respond, table};

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

/// `GET` of a collection.
pub fn list(context: &Context) -> Result<Response<Body>, Status> {
    let selection = Selection::of(context)?;
    let page = page(context, &selection)?;
    let accept = context.accept;
    match (accept.shape, accept.encoding) {
        (Shape::Object | Shape::AggregatedDiscovery(_), Encoding::Json) => {
            Ok(encode_objects(context, &page))
        }
        (shape, encoding) => {
            let mut items = Vec::with_capacity(page.entries.len());
            for entry in &page.entries {
                let mut value = envelope::decode(entry)?;
                context.definition.present(&mut value);
                items.push(value);
            }
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
        Shape::Metadata(version) | Shape::MetadataList(version) => {
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

/// The list as pieces that share the stored bytes.
fn encode_objects(context: &Context, page: &Page) -> Response<Body> {
    let definition = &context.definition;
    let custom = definition.custom.is_some();
    let stored = definition.storage_version == definition.kind.api_version();
    let mut metadata = list_metadata(page);
    if custom && page.next.is_empty() {
        // Lists of custom resources always name the token.
        metadata["continue"] = json!("");
    }
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
    let version = query.get("resourceVersion");
    let rule = query.get("resourceVersionMatch");
    let refuse =
        |error: FieldError| Err(Status::invalid("meta.k8s.io", "ListOptions", "", &[error]));
    let path = FieldPath::new("resourceVersionMatch");
    if query
        .raw("sendInitialEvents")
        .is_some_and(|value| !value.is_empty())
    {
        let why = "sendInitialEvents is forbidden for list";
        return refuse(FieldError::forbidden(
            &FieldPath::new("sendInitialEvents"),
            why,
        ));
    }
    match (rule, version) {
        (None, None) => Ok(When::Now),
        (None, Some(text)) => {
            let wanted = parse_version(text)?;
            check_not_ahead(wanted, context.state.store.revision())?;
            // The old rule: a page of a named revision is exact, a whole list not older.
            if limit.is_some() && wanted.0 > 0 {
                Ok(When::Exactly(wanted))
            } else {
                Ok(When::Now)
            }
        }
        (Some(_), None) => refuse(FieldError::forbidden(
            &path,
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        )),
        (Some("Exact"), Some("0")) => refuse(FieldError::forbidden(
            &path,
            "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        )),
        (Some("Exact"), Some(text)) => {
            let wanted = parse_version(text)?;
            check_not_ahead(wanted, context.state.store.revision())?;
            Ok(When::Exactly(wanted))
        }
        (Some("NotOlderThan"), Some(text)) => {
            check_not_ahead(parse_version(text)?, context.state.store.revision())?;
            Ok(When::Now)
        }
        (Some(other), Some(_)) => refuse(FieldError::not_supported(
            &path,
            other,
            &["Exact", "NotOlderThan", ""],
        )),
    }
}

/// Collects the entries of a list.
pub fn page(context: &Context, selection: &Selection) -> Result<Page, Status> {
    let limit = context
        .query
        .number("limit")?
        .filter(|limit| *limit > 0)
        .map(|l| l as usize);
    let prefix = context.definition.prefix(context.path.namespace.as_deref());
    let mut options = ListOptions::default();
    let token = context.query.get("continue");
    match token {
        Some(text) => {
            if context
                .query
                .get("resourceVersion")
                .is_some_and(|version| version != "0")
            {
                return Err(Status::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
            let token = read_token(text)?;
            options.after = Some(format!("{prefix}{}", token.start));
            options.at = u64::try_from(token.rv).ok().map(Revision);
        }
        None => {
            if let When::Exactly(revision) = when(context, limit)? {
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
    let mut entries = listing.entries;
    let mut remaining = everything.then_some(listing.remaining);
    let mut more = listing.remaining > 0;
    if !everything {
        entries.retain(|entry| selection.selects(entry));
        if let Some(limit) = limit
            && entries.len() > limit
        {
            entries.truncate(limit);
            more = true;
        }
        remaining = None;
    }
    let next = match entries.last() {
        Some(last) if more => write_token(listing.revision.0 as i64, &last.key()[prefix.len()..]),
        _ => String::new(),
    };
    Ok(Page {
        revision: listing.revision,
        entries,
        next,
        remaining,
    })
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
    let bad = |why: &str| Status::bad_request(format!("continue key is not valid: {why}"));
    let bytes = URL_SAFE_NO_PAD
        .decode(text.trim_end_matches('='))
        .map_err(|_| bad("illegal base64 data at input byte 0"))?;
    let mut token: Token =
        serde_json::from_slice(&bytes).map_err(|error| bad(&error.to_string()))?;
    if token.v != "meta.k8s.io/v1" {
        return Err(bad(&format!(
            "server does not recognize this encoded version \"{}\"",
            token.v
        )));
    }
    if token.start.is_empty() {
        return Err(bad("no starting key"));
    }
    if token.rv == 0 {
        return Err(bad("no resourceVersion"));
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
