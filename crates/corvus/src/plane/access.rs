//! From the flags about access to the server's options.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use apiserver::FlowLimits;
use apiserver::audit::{AuditLog, LogFile, LogFileOptions, Policy};
use apiserver::identity::{
    Authentication, RequestHeader, ServiceAccounts, TokenSettings, Tokens, User,
};
use pki::{PublicTokenKey, TokenKey};

use super::files::{self, DataDir};
use crate::commands::AccessArguments;

/// How long a request may wait for its turn, at most: a quarter of what it may take, as upstream.
const WAIT_SECONDS_MAX: u64 = 15;

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

/// Who may come in. The administrator's token is always one of them. Where other servers may share the store (`shared`), the key of
/// service accounts is there when this returns: it is copied to them.
pub fn authentication(
    arguments: &AccessArguments,
    data: &DataDir,
    admin_token: &str,
    proxies: String,
    shared: bool,
) -> anyhow::Result<Authentication> {
    let mut tokens = Tokens::default();
    if let Some(path) = &arguments.token_auth_file {
        tokens
            .read(&read(path)?)
            .map_err(|why| anyhow!("{}: {why}", path.display()))?;
    }
    let admin = User {
        uid: "admin".to_owned(),
        ..User::admin()
    };
    tokens.insert(admin_token, admin);
    let service_accounts = Arc::new(service_accounts(arguments, data)?);
    if shared {
        service_accounts.prepare();
    } else {
        // The key is wanted soon, but the start need not wait for it.
        let early = service_accounts.clone();
        std::thread::spawn(move || early.prepare());
    }
    Ok(Authentication {
        tokens,
        anonymous: arguments.anonymous_auth,
        service_accounts,
        request_header: Some(Arc::new(request_header(arguments, proxies))),
    })
}

/// The certificate (PEM) of the authority of front proxies: the one that is named, or `own`.
pub fn proxy_authority(arguments: &AccessArguments, own: &str) -> anyhow::Result<String> {
    let named = arguments.requestheader_client_ca_file.as_deref();
    named.map_or_else(|| Ok(own.to_owned()), read)
}

/// Which front proxies are believed.
fn request_header(arguments: &AccessArguments, authority: String) -> RequestHeader {
    let mut allowed_names = arguments.requestheader_allowed_names.clone();
    allowed_names.retain(|name| !name.is_empty());
    RequestHeader {
        authority,
        allowed_names,
        username_headers: arguments.requestheader_username_headers.clone(),
        uid_headers: arguments.requestheader_uid_headers.clone(),
        group_headers: arguments.requestheader_group_headers.clone(),
        extra_headers_prefix: arguments.requestheader_extra_headers_prefix.clone(),
    }
}

fn service_accounts(
    arguments: &AccessArguments,
    data: &DataDir,
) -> anyhow::Result<ServiceAccounts> {
    let issuer = arguments.service_account_issuer.clone();
    let audiences = match arguments.api_audiences.as_slice() {
        [] => vec![issuer.clone()],
        given => given.to_vec(),
    };
    let limit = arguments.service_account_max_token_expiration;
    let settings = TokenSettings {
        issuer,
        audiences,
        max_expiration_seconds: (limit > 0).then_some(limit),
        jwks_uri: None,
    };
    let keys = arguments.service_account_key_file.iter();
    let others = keys
        .map(|path| {
            PublicTokenKey::from_pem(&read(path)?)
                .with_context(|| format!("the key in {}", path.display()))
        })
        .collect::<anyhow::Result<Vec<PublicTokenKey>>>()?;
    let own = data.path().join("service-account.key");
    let path = arguments
        .service_account_signing_key_file
        .clone()
        .unwrap_or_else(|| own.clone());
    if path != own || path.exists() {
        let key = TokenKey::from_pem(&read(&path)?)
            .with_context(|| format!("the key in {}", path.display()))?;
        return Ok(ServiceAccounts::new(move || key, others, settings));
    }
    Ok(ServiceAccounts::new(
        move || new_key(&path),
        others,
        settings,
    ))
}

/// Makes the key and keeps it.
fn new_key(path: &Path) -> TokenKey {
    let key = TokenKey::generate().expect("the system has randomness and memory for a key");
    let kept = key
        .to_pem()
        .map_err(anyhow::Error::from)
        .and_then(|pem| files::write_private(path, &pem));
    if let Err(error) = kept {
        tracing::error!("tokens of service accounts will not outlive this process: {error:#}");
    }
    key
}

/// How much is done at once.
pub fn flow(arguments: &AccessArguments) -> FlowLimits {
    let concurrency = if arguments.enable_priority_and_fairness {
        arguments.max_requests_inflight + arguments.max_mutating_requests_inflight
    } else {
        0
    };
    FlowLimits {
        concurrency,
        wait: Duration::from_secs(WAIT_SECONDS_MAX.min(arguments.request_timeout / 4)),
    }
}

/// Where requests are recorded.
pub fn audit(arguments: &AccessArguments) -> anyhow::Result<Option<Arc<AuditLog>>> {
    let (Some(policy), Some(path)) = (&arguments.audit_policy_file, &arguments.audit_log_path)
    else {
        return Ok(None);
    };
    let parsed = Policy::parse(&read(policy)?)
        .map_err(|why| anyhow!("the audit policy in {}: {why}", policy.display()))?;
    if path.as_os_str() == "-" {
        return Ok(Some(Arc::new(AuditLog::new(parsed, std::io::stdout()))));
    }
    let options = LogFileOptions {
        size_max_megabytes: arguments.audit_log_maxsize,
        backups_max: arguments.audit_log_maxbackup,
        age_max_days: arguments.audit_log_maxage,
    };
    let file = LogFile::open(path, options)
        .with_context(|| format!("opening the audit log {}", path.display()))?;
    Ok(Some(Arc::new(AuditLog::new(parsed, file))))
}
