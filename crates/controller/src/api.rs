//! REST over `kube::Client` for kinds that are only known at run time.
//!
//! Objects go in and come out as JSON: nothing a newer server added is lost on the way. Every error carries what was
//! tried. Writes that start from something read use [`Api::modify`], which retries on conflict and does not write when
//! nothing changes.

use std::fmt::Write as _;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::BodyExt as _;
use kube::client::Body;
use kube::core::response::Status;
use serde_json::{Value, json};

use crate::error::Error;
use crate::object::{Object, ObjectKey};
use crate::query::{Query, list_path, query_path};
use crate::resource::{Resource, escape};

/// Answers over this size are refused (etcd's own limit of an object is 1.5 MiB; a page of a list is larger).
const RESPONSE_SIZE_LIMIT: usize = 512 << 20;
/// How often [`Api::modify`] starts over after a conflict.
const CONFLICT_ATTEMPTS: u32 = 10;

const METADATA_OBJECT: &str =
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
pub(crate) const METADATA_LIST: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

/// Which part of an object a write addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subresource {
    /// The object itself.
    None,
    /// Its `status`.
    Status,
    /// Its `scale`.
    Scale,
    /// Any other, by name.
    Named(&'static str),
}

impl Subresource {
    /// The path segment, if any.
    pub fn segment(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Status => Some("status"),
            Self::Scale => Some("scale"),
            Self::Named(name) => Some(name),
        }
    }
}

/// What to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ListOptions {
    /// One namespace, or all of them.
    pub namespace: Option<String>,
    /// Only objects with these labels.
    pub label_selector: Option<String>,
    /// Only objects with these fields.
    pub field_selector: Option<String>,
    /// Ask for metadata only.
    pub metadata_only: bool,
}

/// The answer to a list.
#[derive(Clone, Debug, Default)]
pub struct ObjectList {
    /// The objects, each with `apiVersion` and `kind` filled in.
    pub items: Vec<Object>,
    /// The revision the list is of.
    pub resource_version: String,
}

/// How to apply.
#[derive(Clone, Debug)]
pub struct ApplyOptions {
    /// Who owns the fields applied.
    pub field_manager: String,
    /// Take fields from other owners instead of failing with a conflict.
    pub force: bool,
    /// Which part is applied.
    pub subresource: Subresource,
    /// Only say what would happen.
    pub dry_run: bool,
}

impl ApplyOptions {
    /// Applies the object itself as `field_manager`, taking conflicting fields over.
    pub fn force(field_manager: impl Into<String>) -> Self {
        Self {
            field_manager: field_manager.into(),
            force: true,
            subresource: Subresource::None,
            dry_run: false,
        }
    }
}

/// How to delete.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// Only if the object still has this uid.
    pub uid: Option<String>,
    /// Only if the object still has this resource version.
    pub resource_version: Option<String>,
    /// `Background`, `Foreground` or `Orphan`; the server's default otherwise.
    pub propagation_policy: Option<&'static str>,
    /// How long the object may take to stop.
    pub grace_period_seconds: Option<i64>,
}

impl DeleteOptions {
    /// Deletes exactly the object with this uid.
    pub fn of_uid(uid: impl Into<String>) -> Self {
        Self {
            uid: Some(uid.into()),
            ..Self::default()
        }
    }

    fn body(&self) -> Value {
        let mut body = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
        if let Some(policy) = self.propagation_policy {
            body["propagationPolicy"] = policy.into();
        }
        if let Some(seconds) = self.grace_period_seconds {
            body["gracePeriodSeconds"] = seconds.into();
        }
        if let Some(uid) = &self.uid {
            body["preconditions"]["uid"] = uid.as_str().into();
        }
        if let Some(version) = &self.resource_version {
            body["preconditions"]["resourceVersion"] = version.as_str().into();
        }
        body
    }
}

/// REST over a `kube::Client`.
#[derive(Clone)]
pub struct Api {
    client: kube::Client,
}

impl Api {
    /// Speaks through `client`.
    pub fn new(client: kube::Client) -> Self {
        Self { client }
    }

    /// The client underneath.
    pub fn client(&self) -> &kube::Client {
        &self.client
    }

    /// Reads one object; not existing is an error.
    pub async fn get(&self, resource: &Resource, key: &ObjectKey) -> Result<Object, Error> {
        let operation = describe("get", resource, key);
        let path = resource.path(key, None);
        Ok(Object::new(
            self.call(&operation, Method::GET, &path, None, None)
                .await?,
        ))
    }

    /// Reads one object, `None` if it does not exist.
    pub async fn get_opt(
        &self,
        resource: &Resource,
        key: &ObjectKey,
    ) -> Result<Option<Object>, Error> {
        optional(self.get(resource, key).await)
    }

    /// Reads the metadata of one object, `None` if it does not exist.
    pub async fn get_metadata_opt(
        &self,
        resource: &Resource,
        key: &ObjectKey,
    ) -> Result<Option<Object>, Error> {
        let operation = describe("get metadata of", resource, key);
        let path = resource.path(key, None);
        let request = self.request(&operation, Method::GET, &path, None, None, METADATA_OBJECT)?;
        optional(self.answer(&operation, request).await.map(Object::new))
    }

    /// Lists objects, following pages until the end.
    pub async fn list(
        &self,
        resource: &Resource,
        options: &ListOptions,
    ) -> Result<ObjectList, Error> {
        let operation = format!("list {resource}");
        let accept = if options.metadata_only {
            METADATA_LIST
        } else {
            "application/json"
        };
        let mut list = ObjectList::default();
        let mut token = String::new();
        loop {
            let path = list_path(resource, options, &token);
            let request = self.request(&operation, Method::GET, &path, None, None, accept)?;
            let mut page = self.answer(&operation, request).await?;
            list.resource_version = text_at(&page, "/metadata/resourceVersion");
            token = text_at(&page, "/metadata/continue");
            if let Value::Array(items) = page["items"].take() {
                list.items
                    .extend(items.into_iter().map(|item| named(resource, options, item)));
            }
            if token.is_empty() {
                return Ok(list);
            }
        }
    }

    /// Creates an object; its namespace is taken from the object.
    pub async fn create(&self, resource: &Resource, object: &Value) -> Result<Object, Error> {
        let key = key_of(object);
        let operation = describe("create", resource, &key);
        let path = resource.collection_path(key.namespace());
        self.call(&operation, Method::POST, &path, Some(JSON), Some(object))
            .await
            .map(Object::new)
    }

    /// Creates an object as `field_manager`; fields that its kind does not have are an error, as they are when applied.
    pub async fn create_as(
        &self,
        resource: &Resource,
        object: &Value,
        field_manager: &str,
    ) -> Result<Object, Error> {
        let key = key_of(object);
        let operation = describe("create", resource, &key);
        let mut path = resource.collection_path(key.namespace());
        let manager = escape(field_manager);
        let _ = write!(path, "?fieldManager={manager}&fieldValidation=Strict");
        self.call(&operation, Method::POST, &path, Some(JSON), Some(object))
            .await
            .map(Object::new)
    }

    /// Posts to a subresource such as `binding` or `eviction`.
    pub async fn create_subresource(
        &self,
        resource: &Resource,
        key: &ObjectKey,
        subresource: &str,
        body: &Value,
    ) -> Result<Value, Error> {
        let operation = describe(&format!("create {subresource} of"), resource, key);
        let path = resource.path(key, Some(subresource));
        self.call(&operation, Method::POST, &path, Some(JSON), Some(body))
            .await
    }

    /// Replaces an object; the resource version it carries guards against lost updates.
    pub async fn update(&self, resource: &Resource, object: &Value) -> Result<Object, Error> {
        self.put(resource, Subresource::None, object).await
    }

    /// Replaces the status of an object; the resource version it carries guards against lost updates.
    pub async fn update_status(
        &self,
        resource: &Resource,
        object: &Value,
    ) -> Result<Object, Error> {
        self.put(resource, Subresource::Status, object).await
    }

    async fn put(
        &self,
        resource: &Resource,
        subresource: Subresource,
        object: &Value,
    ) -> Result<Object, Error> {
        let key = key_of(object);
        let operation = describe("update", resource, &key);
        let path = resource.path(&key, subresource.segment());
        self.call(&operation, Method::PUT, &path, Some(JSON), Some(object))
            .await
            .map(Object::new)
    }

    /// Merges a patch into an object (RFC 7386).
    pub async fn merge_patch(
        &self,
        resource: &Resource,
        key: &ObjectKey,
        subresource: Subresource,
        patch: &Value,
    ) -> Result<Object, Error> {
        self.patch(
            resource,
            key,
            subresource,
            "application/merge-patch+json",
            patch,
        )
        .await
    }

    /// Applies a list of operations to an object (RFC 6902).
    pub async fn json_patch(
        &self,
        resource: &Resource,
        key: &ObjectKey,
        subresource: Subresource,
        patch: &Value,
    ) -> Result<Object, Error> {
        self.patch(
            resource,
            key,
            subresource,
            "application/json-patch+json",
            patch,
        )
        .await
    }

    /// Merges a patch with Kubernetes' list semantics; only for built-in kinds.
    pub async fn strategic_patch(
        &self,
        resource: &Resource,
        key: &ObjectKey,
        subresource: Subresource,
        patch: &Value,
    ) -> Result<Object, Error> {
        let content_type = "application/strategic-merge-patch+json";
        self.patch(resource, key, subresource, content_type, patch)
            .await
    }

    async fn patch(
        &self,
        resource: &Resource,
        key: &ObjectKey,
        subresource: Subresource,
        content_type: &str,
        patch: &Value,
    ) -> Result<Object, Error> {
        let operation = describe("patch", resource, key);
        let path = resource.path(key, subresource.segment());
        self.call(
            &operation,
            Method::PATCH,
            &path,
            Some(content_type),
            Some(patch),
        )
        .await
        .map(Object::new)
    }

    /// Applies the fields of `object` on the server.
    pub async fn apply(
        &self,
        resource: &Resource,
        object: &Value,
        options: &ApplyOptions,
    ) -> Result<Object, Error> {
        let key = key_of(object);
        let operation = describe("apply", resource, &key);
        let mut path = resource.path(&key, options.subresource.segment());
        let _ = write!(
            path,
            "?fieldManager={}&force={}",
            escape(&options.field_manager),
            options.force
        );
        if options.dry_run {
            path.push_str("&dryRun=All");
        }
        // The server reads the body as YAML; JSON is YAML.
        let content_type = "application/apply-patch+yaml";
        self.call(
            &operation,
            Method::PATCH,
            &path,
            Some(content_type),
            Some(object),
        )
        .await
        .map(Object::new)
    }

    /// Deletes an object; `false` if it did not exist.
    pub async fn delete(
        &self,
        resource: &Resource,
        key: &ObjectKey,
        options: &DeleteOptions,
    ) -> Result<bool, Error> {
        let operation = describe("delete", resource, key);
        let path = resource.path(key, None);
        let body = options.body();
        let answer = self
            .call(&operation, Method::DELETE, &path, Some(JSON), Some(&body))
            .await;
        Ok(optional(answer)?.is_some())
    }

    /// Deletes all objects that `options` selects.
    pub async fn delete_collection(
        &self,
        resource: &Resource,
        options: &ListOptions,
        delete: &DeleteOptions,
    ) -> Result<(), Error> {
        let operation = format!("delete collection of {resource}");
        let path = query_path(resource, options, Query::default());
        let body = delete.body();
        self.call(&operation, Method::DELETE, &path, Some(JSON), Some(&body))
            .await
            .map(drop)
    }

    /// Reads an object, lets `change` edit it, and writes it back; starts over when somebody else was faster.
    ///
    /// Nothing is written when `change` returns `false` or leaves the object as it was.
    pub async fn modify(
        &self,
        resource: &Resource,
        key: &ObjectKey,
        subresource: Subresource,
        mut change: impl FnMut(&mut Value) -> bool,
    ) -> Result<Object, Error> {
        for _ in 0..CONFLICT_ATTEMPTS {
            let current = self.get(resource, key).await?;
            let mut desired = current.value().clone();
            if !change(&mut desired) || desired == *current.value() {
                return Ok(current);
            }
            match self.put(resource, subresource, &desired).await {
                Err(error) if error.is_conflict() => {}
                answer => return answer,
            }
        }
        Err(Error::TooManyConflicts {
            operation: describe("modify", resource, key),
            attempts: CONFLICT_ATTEMPTS,
        })
    }

    /// Reads any path as JSON: discovery, OpenAPI.
    pub async fn get_path(&self, path: &str) -> Result<Value, Error> {
        self.call(&format!("get {path}"), Method::GET, path, None, None)
            .await
    }

    /// Puts JSON to any path, such as a subresource that has no method of its own here.
    pub async fn put_path(&self, path: &str, body: &Value) -> Result<Value, Error> {
        self.call(
            &format!("put {path}"),
            Method::PUT,
            path,
            Some(JSON),
            Some(body),
        )
        .await
    }

    async fn call(
        &self,
        operation: &str,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Value, Error> {
        let request = self.request(
            operation,
            method,
            path,
            content_type,
            body,
            "application/json",
        )?;
        self.answer(operation, request).await
    }

    #[expect(clippy::unused_self, reason = "reads as part of the client")]
    fn request(
        &self,
        operation: &str,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: Option<&Value>,
        accept: &str,
    ) -> Result<Request<Body>, Error> {
        let body = body.map_or_else(Body::empty, |body| {
            Body::from(body.to_string().into_bytes())
        });
        let mut builder = Request::builder()
            .method(method)
            .uri(path)
            .header(header::ACCEPT, accept);
        if let Some(content_type) = content_type {
            builder = builder.header(header::CONTENT_TYPE, content_type);
        }
        builder.body(body).map_err(|error| Error::Request {
            operation: operation.to_owned(),
            message: error.to_string(),
        })
    }

    async fn answer(&self, operation: &str, request: Request<Body>) -> Result<Value, Error> {
        let response = self.send(operation, request).await?;
        let bytes = collect(operation, response.into_body()).await?;
        serde_json::from_slice(&bytes).map_err(|source| Error::Decode {
            what: format!("answer to {operation}"),
            source,
        })
    }

    /// Sends a request and turns failure answers into errors.
    async fn send(
        &self,
        operation: &str,
        request: Request<Body>,
    ) -> Result<http::Response<Body>, Error> {
        let response = self
            .client
            .send(request)
            .await
            .map_err(|error| Error::from_kube(operation, error))?;
        let code = response.status();
        if code.is_success() {
            return Ok(response);
        }
        let bytes = collect(operation, response.into_body()).await?;
        let status = serde_json::from_slice::<Status>(&bytes).unwrap_or_else(|_| {
            let text = String::from_utf8_lossy(&bytes);
            Status::failure(text.trim(), code.canonical_reason().unwrap_or("Unknown"))
        });
        let status = if status.code == 0 {
            status.with_code(code.as_u16())
        } else {
            status
        };
        Err(Error::Api {
            operation: operation.to_owned(),
            status: Box::new(status),
        })
    }

    /// Opens a watch; the body is a stream of JSON lines.
    pub(crate) async fn watch_body(
        &self,
        resource: &Resource,
        options: &ListOptions,
        query: Query<'_>,
    ) -> Result<Body, Error> {
        let operation = format!("watch {resource}");
        let path = query_path(resource, options, query);
        let accept = if options.metadata_only {
            "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
        } else {
            "application/json"
        };
        let request = self.request(&operation, Method::GET, &path, None, None, accept)?;
        Ok(self.send(&operation, request).await?.into_body())
    }
}

const JSON: &str = "application/json";

async fn collect(operation: &str, body: Body) -> Result<Bytes, Error> {
    let limited = http_body_util::Limited::new(body, RESPONSE_SIZE_LIMIT);
    match limited.collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => Err(Error::Transport {
            operation: operation.to_owned(),
            source: Box::new(kube::Error::Service(error)),
        }),
    }
}

fn optional<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Items of a list lack `apiVersion` and `kind` when the server encodes typed lists.
fn named(resource: &Resource, options: &ListOptions, mut item: Value) -> Object {
    if let Value::Object(map) = &mut item
        && !options.metadata_only
    {
        map.entry("apiVersion")
            .or_insert_with(|| resource.api_version().into());
        map.entry("kind")
            .or_insert_with(|| Value::from(&*resource.kind));
    }
    Object::new(item)
}

fn describe(verb: &str, resource: &Resource, key: &ObjectKey) -> String {
    format!("{verb} {resource} {key}")
}

fn key_of(object: &Value) -> ObjectKey {
    let text = |pointer: &str| text_at(object, pointer);
    ObjectKey::new(text("/metadata/namespace"), text("/metadata/name"))
}

fn text_at(value: &Value, pointer: &str) -> String {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}
