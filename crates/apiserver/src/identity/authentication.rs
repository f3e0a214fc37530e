//! Authentication: client certificates and static bearer tokens.
//!
//! As upstream: a request with no usable credentials is anonymous (or 401 where that is switched
//! off), one with a wrong bearer token is 401 whatever else it presents.

use std::collections::HashMap;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use model::{Reason, Status};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::User;

/// Bearer tokens known from the start, by digest: looking one up takes no longer for a near miss.
#[derive(Debug, Clone, Default)]
pub struct Tokens(HashMap<[u8; 32], User>);

impl Tokens {
    /// Adds a token.
    pub fn insert(&mut self, token: &str, user: User) {
        self.0.insert(Sha256::digest(token.as_bytes()).into(), user);
    }

    fn get(&self, token: &str) -> Option<&User> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        self.0.get(&digest)
    }
}

/// How requests are authenticated.
#[derive(Debug, Clone)]
pub struct Authentication {
    /// Static bearer tokens.
    pub tokens: Tokens,
    /// Whether a request without credentials is let in as `system:anonymous`.
    pub anonymous: bool,
}

impl Authentication {
    /// Who sends a request, given the user of its verified client certificate.
    pub fn authenticate(
        &self,
        headers: &HeaderMap,
        certificate: Option<&User>,
    ) -> Result<User, Status> {
        if let Some(user) = certificate {
            return Ok(user.clone());
        }
        if let Some(token) = bearer(headers) {
            return match self.tokens.get(token) {
                Some(user) => Ok(user.clone()),
                None => Err(unauthorized()),
            };
        }
        if self.anonymous {
            Ok(User::anonymous())
        } else {
            Err(unauthorized())
        }
    }
}

fn unauthorized() -> Status {
    Status::new(Reason::Unauthorized, "Unauthorized")
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The user a verified client certificate stands for: its common name, in the groups its
/// organisations name.
pub fn user_of_certificate(der: &[u8]) -> Option<User> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?;
    let groups: Vec<&str> = subject
        .iter_organization()
        .filter_map(|organization| organization.as_str().ok())
        .collect();
    Some(User::new(name, &groups))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn with(value: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_static(value));
        headers
    }

    #[test]
    fn credentials_decide_who_asks() {
        let mut tokens = Tokens::default();
        tokens.insert("secret", User::admin());
        let open = Authentication {
            tokens,
            anonymous: true,
        };
        let name = |headers: &HeaderMap| open.authenticate(headers, None).map(|user| user.name);
        assert_eq!(name(&with("Bearer secret")), Ok("admin".to_owned()));
        assert_eq!(name(&with("Bearer wrong")), Err(unauthorized()));
        assert_eq!(name(&with("Basic YTpi")), Ok("system:anonymous".to_owned()));
        assert_eq!(name(&with("Bearer ")), Ok("system:anonymous".to_owned()));
        let closed = Authentication {
            anonymous: false,
            ..open
        };
        assert!(closed.authenticate(&HeaderMap::new(), None).is_err());
    }
}
