//! Tokens kept in Secrets: of type `kubernetes.io/service-account-token`, without an end.
//!
//! The server fills such Secrets in by itself, so the signing key never leaves it, and deletes them
//! when their account is gone. It labels them with the day they were last used, so that others can
//! clean up.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use model::{object, object::uid};
use parking_lot::Mutex;
use serde_json::{Value, json};
use store::{Entry, EventKind, ListOptions, Store};
use tokio::sync::Notify;

use super::claims::stored;
use super::{account_user, service_account_name};
use crate::dispatch;
use crate::envelope;
use crate::identity::User;
use crate::server::State;

/// Who issues tokens in Secrets.
pub const ISSUER: &str = "kubernetes/serviceaccount";
const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
/// Most Secrets that wait to be labelled.
const USED_MAX: usize = 4_096;
const CLAIM: &str = "kubernetes.io/serviceaccount/";

fn claim<'a>(claims: &'a Value, name: &str, what: &str) -> Result<&'a str, String> {
    let value = claims[format!("{CLAIM}{name}")]
        .as_str()
        .unwrap_or_default();
    if value.is_empty() {
        return Err(format!("{what} claim is missing"));
    }
    Ok(value)
}

/// Secrets whose tokens have been used today for the first time.
#[derive(Default)]
pub struct Used {
    /// By namespace and name, with the day.
    days: Mutex<BTreeMap<(String, String), String>>,
    noted: Notify,
}

impl Used {
    fn note(&self, secret: &Value, now: Timestamp) {
        let today = now.strftime("%Y-%m-%d").to_string();
        if object::label(secret, LAST_USED) == Some(&today) {
            return;
        }
        let key = (
            object::namespace(secret).to_owned(),
            object::name(secret).to_owned(),
        );
        let mut days = self.days.lock();
        // What does not fit is noted with its next use.
        if days.len() < USED_MAX {
            days.insert(key, today);
            self.noted.notify_one();
        }
    }
}

/// Labels Secrets with the day their token was last used, until the server stops.
pub async fn note_used(state: Arc<State>) {
    let used = &state.options.authentication.service_accounts.used;
    loop {
        tokio::select! {
            () = used.noted.notified() => {}
            () = state.shutdown.cancelled() => return,
        }
        let days = std::mem::take(&mut *used.days.lock());
        for ((namespace, name), day) in days {
            let path = format!("/api/v1/namespaces/{namespace}/secrets/{name}");
            let patch = json!({"metadata": {"labels": {LAST_USED: day}}});
            let (code, answer) = dispatch::internal(&state, "PATCH", &path, &patch).await;
            if code >= 300 && code != 404 {
                tracing::warn!(path, code, %answer, "noting that a token was used");
            }
        }
    }
}

/// The user a token in a Secret stands for; notes that it was used.
pub fn user_of(
    store: &dyn Store,
    claims: &Value,
    token: &str,
    now: Timestamp,
    used: &Used,
) -> Result<User, String> {
    let subject = claims["sub"].as_str().unwrap_or_default();
    if subject.is_empty() {
        return Err("sub claim is missing".to_owned());
    }
    let namespace = claim(claims, "namespace", "namespace")?;
    let secret_name = claim(claims, "secret.name", "secretName")?;
    let account_name = claim(claims, "service-account.name", "serviceAccountName")?;
    let account_uid = claim(claims, "service-account.uid", "serviceAccountUID")?;
    if service_account_name(subject) != Some((namespace, account_name)) {
        return Err("sub claim is invalid".to_owned());
    }
    let secret = stored(store, "secrets", Some(namespace), secret_name)
        .filter(|secret| !object::is_deleting(secret))
        .ok_or("Token has been invalidated")?;
    if object::text(&secret, &["data", "token"]) != STANDARD.encode(token) {
        return Err("Token does not match server's copy".to_owned());
    }
    let account = stored(store, "serviceaccounts", Some(namespace), account_name)
        .ok_or_else(|| format!("serviceaccounts {account_name:?} not found"))?;
    if object::is_deleting(&account) {
        return Err(format!(
            "ServiceAccount {namespace}/{account_name} has been deleted"
        ));
    }
    if uid(&account) != account_uid {
        return Err(format!(
            "ServiceAccount UID ({}) does not match claim ({account_uid})",
            uid(&account)
        ));
    }
    if object::label(&secret, INVALID_SINCE).is_some_and(|since| !since.is_empty()) {
        return Err(format!(
            "the token in secret {namespace}/{secret_name} for service account {namespace}/{account_name} has been marked invalid. Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the '{INVALID_SINCE}' label from the secret to temporarily allow use of this token"
        ));
    }
    used.note(&secret, now);
    Ok(account_user(namespace, account_name, account_uid))
}

/// Fills in Secrets for tokens as they come, until the server stops.
pub async fn populate_secrets(state: Arc<State>) {
    let shutdown = state.shutdown.clone();
    tokio::select! {
        () = follow(&state) => {}
        () = shutdown.cancelled() => {}
    }
}

async fn follow(state: &Arc<State>) {
    let (secrets, accounts) = (
        envelope::key_prefix("", "secrets", None),
        envelope::key_prefix("", "serviceaccounts", None),
    );
    loop {
        let Ok(listing) = state.store.list(&secrets, &ListOptions::default()) else {
            return;
        };
        for entry in &listing.entries {
            look_at(state, entry).await;
        }
        let (Ok(mut secret_changes), Ok(mut account_changes)) = (
            state.store.watch(&secrets, listing.revision),
            state.store.watch(&accounts, listing.revision),
        ) else {
            return;
        };
        // Until one falls out of the history; then everything is looked at anew.
        loop {
            let (events, of_account) = tokio::select! {
                events = secret_changes.next() => (events, false),
                events = account_changes.next() => (events, true),
            };
            let events = match events {
                Ok(events) => events,
                Err(store::Error::Closed) => return,
                Err(_) => break,
            };
            for event in events {
                if of_account {
                    account_changed(state, event.entry.key()).await;
                } else if event.kind != EventKind::Deleted {
                    look_at(state, &event.entry).await;
                }
            }
        }
    }
}

/// The Secrets of an account that came, changed or went.
async fn account_changed(state: &Arc<State>, key: &str) {
    let (namespace, name) = envelope::name_of(key);
    let prefix = envelope::key_prefix("", "secrets", namespace);
    let Ok(listing) = state.store.list(&prefix, &ListOptions::default()) else {
        return;
    };
    for entry in &listing.entries {
        if mentions(entry, TYPE) && mentions(entry, name) {
            look_at(state, entry).await;
        }
    }
}

/// A cheap look before parsing: most Secrets are of other types.
fn mentions(entry: &Entry, text: &str) -> bool {
    let (bytes, text) = (entry.bytes(), text.as_bytes());
    bytes
        .windows(text.len().max(1))
        .any(|window| window == text)
}

async fn look_at(state: &Arc<State>, entry: &Entry) {
    if !mentions(entry, TYPE) {
        return;
    }
    let Ok(secret) = envelope::decode(entry) else {
        return;
    };
    if object::text(&secret, &["type"]) != TYPE || object::is_deleting(&secret) {
        return;
    }
    let namespace = object::namespace(&secret);
    let path = format!(
        "/api/v1/namespaces/{namespace}/secrets/{}",
        object::name(&secret)
    );
    let account = object::annotation(&secret, ACCOUNT_NAME).unwrap_or_default();
    let account = stored(
        state.store.as_ref(),
        "serviceaccounts",
        Some(namespace),
        account,
    );
    let owned_by = object::annotation(&secret, ACCOUNT_UID).unwrap_or_default();
    let (method, body) = match account {
        Some(account) if owned_by.is_empty() || owned_by == uid(&account) => {
            match filled_in(state, &secret, &account) {
                Some(patch) => ("PATCH", patch),
                None => return,
            }
        }
        // Its account is gone, or another one of the same name has come.
        _ => {
            let only_this = json!({"preconditions": {"uid": uid(&secret)}});
            ("DELETE", only_this)
        }
    };
    let (code, answer) = dispatch::internal(state, method, &path, &body).await;
    if code >= 300 && code != 404 && code != 409 {
        tracing::warn!(path, code, %answer, "a Secret for a token");
    }
}

/// What a Secret lacks; `None` where it has everything.
fn filled_in(state: &State, secret: &Value, account: &Value) -> Option<Value> {
    let (mut data, mut annotations) = (json!({}), json!({}));
    let has = |field: &str| !object::text(secret, &["data", field]).is_empty();
    let namespace = object::namespace(secret);
    if !has("namespace") {
        data["namespace"] = json!(STANDARD.encode(namespace));
    }
    if let Some(authority) = &state.options.authority
        && object::text(secret, &["data", "ca.crt"]) != STANDARD.encode(authority)
    {
        data["ca.crt"] = json!(STANDARD.encode(authority));
    }
    if !has("token") {
        let name = object::name(account);
        let claims = json!({
            "iss": ISSUER,
            "sub": format!("system:serviceaccount:{namespace}:{name}"),
            format!("{CLAIM}namespace"): namespace,
            format!("{CLAIM}secret.name"): object::name(secret),
            format!("{CLAIM}service-account.name"): name,
            format!("{CLAIM}service-account.uid"): uid(account),
        });
        let tokens = &state.options.authentication.service_accounts;
        match tokens.sign(&claims) {
            Ok(token) => data["token"] = json!(STANDARD.encode(token)),
            Err(error) => tracing::error!(%error, "signing a token for a Secret"),
        }
    }
    if object::annotation(secret, ACCOUNT_UID).is_none() {
        annotations[ACCOUNT_UID] = json!(uid(account));
    }
    let empty = json!({});
    (data != empty || annotations != empty).then(|| {
        json!({"data": data, "metadata": {
            "annotations": annotations,
            "resourceVersion": object::resource_version(secret),
        }})
    })
}
