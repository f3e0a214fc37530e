//! Authentication: client certificates, front proxies, static bearer tokens, and tokens of service accounts.
//!
//! As upstream: a request with no usable credentials is anonymous (or 401 where that is switched
//! off), one with a wrong bearer token is 401 whatever else it presents.

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use jiff::Timestamp;
use model::{Reason, Status};
use sha2::{Digest, Sha256};
use store::Store;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::service_accounts::Believed;
use super::{RequestHeader, ServiceAccounts, User};

/// What is said of a token nobody knows.
const INVALID_TOKEN: &str = "invalid bearer token";

/// Bearer tokens known from the start, by digest: looking one up takes no longer for a near miss.
#[derive(Debug, Clone, Default)]
pub struct Tokens(HashMap<[u8; 32], User>);

impl Tokens {
    /// Adds a token.
    pub fn insert(&mut self, token: &str, user: User) {
        self.0.insert(Sha256::digest(token.as_bytes()).into(), user);
    }

    /// Adds the tokens of a file as `--token-auth-file` takes one: lines of token, user, uid and,
    /// where there are some, groups in quotes.
    pub fn read(&mut self, text: &str) -> Result<(), String> {
        for (number, line) in text.lines().enumerate() {
            let fields = comma_separated(line);
            let [token, name, uid, rest @ ..] = fields.as_slice() else {
                if line.trim().is_empty() {
                    continue;
                }
                return Err(format!(
                    "line {}: at least token, user name and uid are needed",
                    number + 1
                ));
            };
            if token.is_empty() || name.is_empty() {
                return Err(format!(
                    "line {}: token and user name must not be empty",
                    number + 1
                ));
            }
            let groups = rest.first().map(String::as_str).unwrap_or_default();
            let groups: Vec<&str> = groups
                .split(',')
                .filter(|group| !group.is_empty())
                .collect();
            let mut user = User::new(name, &groups);
            uid.clone_into(&mut user.uid);
            self.insert(token, user);
        }
        Ok(())
    }

    fn get(&self, token: &str) -> Option<&User> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        self.0.get(&digest)
    }
}

/// The fields of a line; commas within double quotes do not separate.
fn comma_separated(line: &str) -> Vec<String> {
    let (mut fields, mut quoted) = (vec![String::new()], false);
    for c in line.trim().chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            ' ' if !quoted && fields.last().is_some_and(String::is_empty) => {}
            c => {
                if let Some(field) = fields.last_mut() {
                    field.push(c);
                }
            }
        }
    }
    fields
}

/// What a verified client certificate says.
#[derive(Debug, Clone)]
pub enum Certified {
    /// Who asks.
    User(Arc<User>),
    /// A front proxy asks for somebody else.
    Proxy {
        /// Its common name.
        name: Arc<str>,
        /// Who it is itself, where the authority of clients has signed the certificate as well: who asks if it names nobody.
        user: Option<Arc<User>>,
    },
}

/// How requests are authenticated.
#[derive(Debug, Clone)]
pub struct Authentication {
    /// Static bearer tokens.
    pub tokens: Tokens,
    /// Whether a request without credentials is let in as `system:anonymous`.
    pub anonymous: bool,
    /// Tokens of service accounts.
    pub service_accounts: Arc<ServiceAccounts>,
    /// Front proxies; none are believed without it.
    pub request_header: Option<Arc<RequestHeader>>,
}

impl Default for Authentication {
    fn default() -> Self {
        Self {
            tokens: Tokens::default(),
            anonymous: true,
            service_accounts: Arc::default(),
            request_header: None,
        }
    }
}

impl Authentication {
    /// Who sends a request, given its verified client certificate.
    pub fn authenticate(
        &self,
        store: &dyn Store,
        now: Timestamp,
        headers: &HeaderMap,
        certificate: Option<&Certified>,
    ) -> Result<User, Status> {
        match certificate {
            Some(Certified::User(user)) => return Ok(User::clone(user)),
            Some(Certified::Proxy { name, user }) => {
                let settings = self.request_header.as_ref();
                if let Some(user) = settings.and_then(|settings| settings.user(name, headers)) {
                    return Ok(user);
                }
                if let Some(user) = user {
                    return Ok(User::clone(user));
                }
                tracing::debug!(proxy = %name, "a front proxy names nobody, or is not believed");
            }
            None => {}
        }
        if let Some(token) = bearer(headers) {
            return match self.token(store, now, token, None) {
                Ok(believed) => Ok(believed.user),
                Err(why) => {
                    tracing::debug!(why, "a bearer token is refused");
                    Err(unauthorized())
                }
            };
        }
        // Whoever presents a certificate that is worth nothing is not let in as nobody.
        if self.anonymous && certificate.is_none() {
            Ok(User::anonymous())
        } else {
            Err(unauthorized())
        }
    }

    /// Whose a bearer token is, for one of the wanted audiences (by default the server's own); else
    /// why it is not believed.
    pub(crate) fn token(
        &self,
        store: &dyn Store,
        now: Timestamp,
        token: &str,
        wanted: Option<&[String]>,
    ) -> Result<Believed, String> {
        if let Some(user) = self.tokens.get(token) {
            let own = &self.service_accounts.settings().audiences;
            let mut audiences = own.clone();
            audiences.retain(|audience| wanted.is_none_or(|wanted| wanted.contains(audience)));
            if audiences.is_empty() {
                return Err(INVALID_TOKEN.to_owned());
            }
            let user = user.clone();
            return Ok(Believed { user, audiences });
        }
        match self
            .service_accounts
            .authenticate(store, now, token, wanted)
        {
            Some(Ok(believed)) => Ok(believed),
            Some(Err(why)) => Err(format!("[{INVALID_TOKEN}, {why}]")),
            None => Err(INVALID_TOKEN.to_owned()),
        }
    }
}

fn unauthorized() -> Status {
    Status::new(Reason::Unauthorized, "Unauthorized")
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.trim().split_once(' ')?;
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
    let mut user = User::new(name, &groups);
    let digest: String = Sha256::digest(der)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    user.extra.insert(
        "authentication.kubernetes.io/credential-id".to_owned(),
        vec![format!("X509SHA256={digest}")],
    );
    Some(user)
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
            ..Authentication::default()
        };
        let store = store::memory();
        let name = |headers: &HeaderMap| {
            open.authenticate(&store, Timestamp::UNIX_EPOCH, headers, None)
                .map(|user| user.name)
        };
        assert_eq!(name(&with("Bearer secret")), Ok("admin".to_owned()));
        assert_eq!(name(&with("Bearer wrong")), Err(unauthorized()));
        assert_eq!(name(&with("Basic YTpi")), Ok("system:anonymous".to_owned()));
        assert_eq!(name(&with("Bearer ")), Ok("system:anonymous".to_owned()));
        let proxied = Authentication {
            request_header: Some(Arc::new(RequestHeader::usual(String::new()))),
            ..open.clone()
        };
        let through = |proxy: &str, headers: &HeaderMap| {
            let proxy = Certified::Proxy {
                name: proxy.into(),
                user: None,
            };
            let now = Timestamp::UNIX_EPOCH;
            let user = proxied.authenticate(&store, now, headers, Some(&proxy));
            user.map(|user| user.name)
        };
        let mut jane = HeaderMap::new();
        jane.insert("x-remote-user", HeaderValue::from_static("jane"));
        let known = "front-proxy-client";
        assert_eq!(through(known, &jane), Ok("jane".to_owned()));
        assert_eq!(through("other", &jane), Err(unauthorized()));
        assert_eq!(through(known, &HeaderMap::new()), Err(unauthorized()));
        let token = with("Bearer secret");
        assert_eq!(through(known, &token), Ok("admin".to_owned()));
        // Without such a certificate the headers say nothing.
        assert_eq!(name(&jane), Ok("system:anonymous".to_owned()));
        let closed = Authentication {
            anonymous: false,
            ..open
        };
        let outcome = closed.authenticate(&store, Timestamp::UNIX_EPOCH, &HeaderMap::new(), None);
        assert!(outcome.is_err());
    }

    #[test]
    fn a_file_of_tokens_is_read() {
        let mut tokens = Tokens::default();
        tokens
            .read("t1,jane,u1\n\nt2,joe,u2,\"dev,ops\"\n t3, jim ,u3, one")
            .expect("well formed");
        assert_eq!(tokens.get("t1").expect("there").uid, "u1");
        let joe = tokens.get("t2").expect("there");
        assert!(joe.is_in("dev") && joe.is_in("ops"));
        assert!(tokens.get("t3").expect("there").is_in("one"));
        assert!(tokens.read("a,b").is_err());
        assert!(tokens.read(",b,c").is_err());
    }
}
