//! The query parameters of lists and watches.

use std::fmt::Write as _;

use crate::api::ListOptions;
use crate::resource::{Resource, escape};

/// Objects per page of a list, as in client-go's reflector.
const PAGE_SIZE: u32 = 500;

/// The query parameters of a list or a watch beyond the selectors.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Query<'a> {
    pub watch: bool,
    pub resource_version: Option<&'a str>,
    pub send_initial_events: bool,
    pub limit: Option<u32>,
    pub continue_token: Option<&'a str>,
    pub timeout_seconds: Option<u32>,
}

pub(crate) fn list_path(resource: &Resource, options: &ListOptions, token: &str) -> String {
    let query = Query {
        limit: Some(PAGE_SIZE),
        continue_token: Some(token).filter(|token| !token.is_empty()),
        ..Query::default()
    };
    query_path(resource, options, query)
}

pub(crate) fn query_path(resource: &Resource, options: &ListOptions, query: Query<'_>) -> String {
    let mut path = resource.collection_path(options.namespace.as_deref());
    let mut separator = '?';
    let mut push = |key: &str, value: &str| {
        let _ = write!(path, "{separator}{key}={}", escape(value));
        separator = '&';
    };
    if let Some(selector) = options
        .label_selector
        .as_deref()
        .filter(|text| !text.is_empty())
    {
        push("labelSelector", selector);
    }
    if let Some(selector) = options
        .field_selector
        .as_deref()
        .filter(|text| !text.is_empty())
    {
        push("fieldSelector", selector);
    }
    if query.watch {
        push("watch", "true");
        push("allowWatchBookmarks", "true");
    }
    if query.send_initial_events {
        push("sendInitialEvents", "true");
        push("resourceVersionMatch", "NotOlderThan");
    }
    if let Some(version) = query.resource_version {
        push("resourceVersion", version);
    }
    if let Some(limit) = query.limit {
        push("limit", &limit.to_string());
    }
    if let Some(token) = query.continue_token {
        push("continue", token);
    }
    if let Some(seconds) = query.timeout_seconds {
        push("timeoutSeconds", &seconds.to_string());
    }
    path
}
