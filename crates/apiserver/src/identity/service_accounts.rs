//! Tokens of service accounts: signing them, and believing them.
//!
//! A token names the account, and the Pod, Secret or Node it is bound to, each by name and uid. It is
//! believed as long as all of these are still there, which is looked up anew with every request; only
//! the signature, which never changes, is remembered.

mod claims;
mod issue;
mod legacy;

pub(crate) use issue::request_token;
pub(crate) use legacy::{note_used, populate_secrets};

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

use jiff::Timestamp;
use model::names;
use parking_lot::Mutex;
use pki::{PublicTokenKey, TokenKey};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use store::Store;

use super::User;

/// Verified signatures that are remembered.
const VERIFIED_MAX: usize = 4_096;

/// Makes the key when it is first needed: making one takes a tenth of a second that most tests, and
/// the start of a server, need not wait for.
type MakeKey = Box<dyn FnOnce() -> TokenKey + Send>;

/// What signs and checks the tokens of service accounts.
pub struct ServiceAccounts {
    signing: LazyLock<TokenKey, MakeKey>,
    /// Further keys whose tokens are believed.
    others: Vec<PublicTokenKey>,
    settings: TokenSettings,
    verified: Mutex<HashMap<[u8; 32], Value>>,
    used: legacy::Used,
}

/// What tokens say, and how long they last.
#[derive(Debug, Clone)]
pub struct TokenSettings {
    /// Who issues them: the base of the discovery documents.
    pub issuer: String,
    /// The audiences of the API server, the first of which tokens are for by default.
    pub audiences: Vec<String>,
    /// Longest a requested token lasts, in seconds.
    pub max_expiration_seconds: Option<i64>,
    /// Where the public keys are served, if not below the issuer.
    pub jwks_uri: Option<String>,
}

impl Default for TokenSettings {
    fn default() -> Self {
        let issuer = "https://kubernetes.default.svc";
        Self {
            issuer: issuer.to_owned(),
            audiences: vec![issuer.to_owned()],
            max_expiration_seconds: None,
            jwks_uri: None,
        }
    }
}

impl fmt::Debug for ServiceAccounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceAccounts")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Default for ServiceAccounts {
    /// Tokens signed with a key that is forgotten at the end.
    fn default() -> Self {
        let make = || TokenKey::generate().expect("the system has randomness and memory for a key");
        Self::new(make, Vec::new(), TokenSettings::default())
    }
}

/// A token that is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Believed {
    /// Whose it is.
    pub user: User,
    /// For which of the wanted audiences.
    pub audiences: Vec<String>,
}

impl ServiceAccounts {
    /// Tokens signed with the key that `make` makes or reads when it is first needed.
    pub fn new(
        make: impl FnOnce() -> TokenKey + Send + 'static,
        others: Vec<PublicTokenKey>,
        settings: TokenSettings,
    ) -> Self {
        Self {
            signing: LazyLock::new(Box::new(make)),
            others,
            settings,
            verified: Mutex::default(),
            used: legacy::Used::default(),
        }
    }

    /// Makes the key now.
    pub fn prepare(&self) {
        LazyLock::force(&self.signing);
    }

    /// The settings.
    pub fn settings(&self) -> &TokenSettings {
        &self.settings
    }

    /// A token that says `claims`.
    pub(crate) fn sign(&self, claims: &Value) -> Result<String, pki::Error> {
        self.signing.sign(claims)
    }

    /// `/.well-known/openid-configuration`.
    pub(crate) fn configuration(&self, server: &str) -> Value {
        let jwks = self.settings.jwks_uri.clone();
        json!({
            "issuer": self.settings.issuer,
            "jwks_uri": jwks.unwrap_or_else(|| format!("https://{server}/openid/v1/jwks")),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        })
    }

    /// `/openid/v1/jwks`.
    pub(crate) fn key_set(&self) -> Value {
        let keys = std::iter::once(self.signing.public()).chain(&self.others);
        json!({"keys": keys.map(PublicTokenKey::jwk).collect::<Vec<_>>()})
    }

    /// Whose a token is: `None` where it is no token of this server, else why it is not believed.
    ///
    /// `wanted` are the audiences it must be for one of; by default those of the server.
    pub(crate) fn authenticate(
        &self,
        store: &dyn Store,
        now: Timestamp,
        token: &str,
        wanted: Option<&[String]>,
    ) -> Option<Result<Believed, String>> {
        let issuer = PublicTokenKey::unchecked_claims(token)?;
        let issuer = issuer["iss"].as_str()?.to_owned();
        let is_legacy = issuer == legacy::ISSUER;
        if issuer != self.settings.issuer && !is_legacy {
            return None;
        }
        let own = &self.settings.audiences;
        let outcome = self.verified_claims(token).and_then(|claims| {
            let (audiences, for_whom) = claims::audiences(&claims, wanted.unwrap_or(own), own)?;
            let user = if is_legacy {
                legacy::user_of(store, &claims, token, now, &self.used)?
            } else {
                claims::user_of(store, now, &claims)?
            };
            debug_assert!(
                !audiences.is_empty(),
                "a token without audience is for the server"
            );
            Ok(Believed {
                user,
                audiences: for_whom,
            })
        });
        Some(outcome)
    }

    fn verified_claims(&self, token: &str) -> Result<Value, String> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(claims) = self.verified.lock().get(&digest) {
            return Ok(claims.clone());
        }
        let header = PublicTokenKey::header(token).unwrap_or_default();
        let key_id = header["kid"].as_str();
        let key = std::iter::once(self.signing.public())
            .chain(&self.others)
            .filter(|key| key_id.is_none_or(|id| id == key.id()));
        let mut outcome = Err("invalid signature, no keys found".to_owned());
        for key in key {
            match key.verify(token) {
                Ok(claims) => {
                    let mut verified = self.verified.lock();
                    if verified.len() >= VERIFIED_MAX {
                        verified.clear();
                    }
                    verified.insert(digest, claims.clone());
                    return Ok(claims);
                }
                Err(error) => {
                    tracing::debug!(%error, "a token");
                    // As upstream words it, after the library it uses.
                    let words = "go-jose/go-jose: error in cryptographic primitive";
                    outcome = Err(words.to_owned());
                }
            }
        }
        outcome
    }
}

/// The namespace and name in a service account's user name.
pub fn service_account_name(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user
        .strip_prefix("system:serviceaccount:")?
        .split_once(':')?;
    (names::dns1123_label(namespace).is_empty() && names::dns1123_subdomain(name).is_empty())
        .then_some((namespace, name))
}

/// The user a service account is.
pub(crate) fn account_user(namespace: &str, name: &str, uid: &str) -> User {
    let mut user = User::new(
        &format!("system:serviceaccount:{namespace}:{name}"),
        &[
            "system:serviceaccounts",
            &format!("system:serviceaccounts:{namespace}"),
        ],
    );
    uid.clone_into(&mut user.uid);
    user
}
