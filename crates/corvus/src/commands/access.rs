//! The flags about who may come in, what they may do, and how much at once. Upstream's names and values.

use std::path::PathBuf;

use apiserver::identity::Mode;
use clap::builder::NonEmptyStringValueParser;

/// Who may come in, and what they may do.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Access")]
#[group(id = "access")]
pub struct Arguments {
    /// How it is decided who may do what, asked in order: Node, RBAC, AlwaysAllow, AlwaysDeny.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "Node,RBAC",
        value_name = "LIST"
    )]
    pub authorization_mode: Vec<Mode>,
    /// Whether requests without credentials are let in as system:anonymous.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub anonymous_auth: bool,
    /// A file of bearer tokens: lines of token, user, uid and, in quotes, groups.
    #[arg(long, value_name = "FILE")]
    pub token_auth_file: Option<PathBuf>,
    /// The authority whose certificates front proxies have [default: DIR/front-proxy-ca.crt, which is made].
    #[arg(long, value_name = "FILE")]
    pub requestheader_client_ca_file: Option<PathBuf>,
    /// The common names of front proxies; empty for any that the authority has signed.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "front-proxy-client",
        value_name = "LIST"
    )]
    pub requestheader_allowed_names: Vec<String>,
    /// The headers in which front proxies name the user; the first that is there counts.
    #[arg(long, value_delimiter = ',', default_value = "X-Remote-User", value_name = "LIST", value_parser = header)]
    pub requestheader_username_headers: Vec<String>,
    /// The headers for the user's uid.
    #[arg(long, value_delimiter = ',', default_value = "X-Remote-Uid", value_name = "LIST", value_parser = header)]
    pub requestheader_uid_headers: Vec<String>,
    /// The headers for the user's groups.
    #[arg(long, value_delimiter = ',', default_value = "X-Remote-Group", value_name = "LIST", value_parser = header)]
    pub requestheader_group_headers: Vec<String>,
    /// What headers begin with that say what else is known of the user.
    #[arg(long, value_delimiter = ',', default_value = "X-Remote-Extra-", value_name = "LIST", value_parser = header)]
    pub requestheader_extra_headers_prefix: Vec<String>,
    /// Who issues the tokens of service accounts.
    #[arg(long, default_value = ISSUER, value_name = "URL", value_parser = NonEmptyStringValueParser::new())]
    pub service_account_issuer: String,
    /// Whom tokens of service accounts are for by default [default: the issuer].
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub api_audiences: Vec<String>,
    /// The RSA key that signs tokens of service accounts [default: DIR/service-account.key].
    #[arg(long, value_name = "FILE")]
    pub service_account_signing_key_file: Option<PathBuf>,
    /// Further keys, public or private, whose tokens are believed.
    #[arg(long, value_name = "FILE")]
    pub service_account_key_file: Vec<PathBuf>,
    /// Longest a requested token of a service account lasts, in seconds; 0 for no limit.
    #[arg(long, default_value_t = 0, value_name = "SECONDS", value_parser = seconds)]
    pub service_account_max_token_expiration: i64,
    /// Requests that read, at a time; with those that write, what priority and fairness divides.
    #[arg(long, default_value_t = 400, value_name = "N")]
    pub max_requests_inflight: usize,
    /// Requests that write, at a time.
    #[arg(long, default_value_t = 200, value_name = "N")]
    pub max_mutating_requests_inflight: usize,
    /// Whether requests are let in by FlowSchemas and PriorityLevelConfigurations.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub enable_priority_and_fairness: bool,
    /// How many seconds a request may take that is no watch.
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = some_seconds)]
    pub request_timeout: u64,
    /// What of which request is recorded: an audit.k8s.io/v1 Policy.
    #[arg(long, value_name = "FILE", requires = "audit_log_path")]
    pub audit_policy_file: Option<PathBuf>,
    /// Where requests are recorded, `-` for standard output.
    #[arg(long, value_name = "FILE", requires = "audit_policy_file")]
    pub audit_log_path: Option<PathBuf>,
    /// Megabytes after which the record is turned over; 0 for 100.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub audit_log_maxsize: u64,
    /// How many old records are kept; 0 for all.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub audit_log_maxbackup: usize,
    /// How many days old records are kept; 0 for ever.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub audit_log_maxage: u64,
}

const ISSUER: &str = "https://kubernetes.default.svc";

/// The name of a header, or its beginning.
fn header(text: &str) -> Result<String, String> {
    let name = text.trim();
    let parsed: Result<http::HeaderName, _> = name.parse();
    parsed.map_err(|_| "write names of headers".to_owned())?;
    Ok(name.to_owned())
}

/// Upstream takes durations here; who writes one learns what to write instead.
fn seconds(text: &str) -> Result<i64, String> {
    let number = text.parse().ok().filter(|seconds| *seconds >= 0);
    number.ok_or_else(|| "write a whole number of seconds, without a unit".to_owned())
}

fn some_seconds(text: &str) -> Result<u64, String> {
    match seconds(text)? {
        0 => Err("a request needs at least a second".to_owned()),
        some => Ok(some.unsigned_abs()),
    }
}

impl Default for Arguments {
    /// What the flags say by default.
    fn default() -> Self {
        Self {
            authorization_mode: vec![Mode::Node, Mode::Rbac],
            anonymous_auth: true,
            token_auth_file: None,
            requestheader_client_ca_file: None,
            requestheader_allowed_names: vec!["front-proxy-client".to_owned()],
            requestheader_username_headers: vec!["X-Remote-User".to_owned()],
            requestheader_uid_headers: vec!["X-Remote-Uid".to_owned()],
            requestheader_group_headers: vec!["X-Remote-Group".to_owned()],
            requestheader_extra_headers_prefix: vec!["X-Remote-Extra-".to_owned()],
            service_account_issuer: ISSUER.to_owned(),
            api_audiences: Vec::new(),
            service_account_signing_key_file: None,
            service_account_key_file: Vec::new(),
            service_account_max_token_expiration: 0,
            max_requests_inflight: 400,
            max_mutating_requests_inflight: 200,
            enable_priority_and_fairness: true,
            request_timeout: 60,
            audit_policy_file: None,
            audit_log_path: None,
            audit_log_maxsize: 0,
            audit_log_maxbackup: 0,
            audit_log_maxage: 0,
        }
    }
}
