//! Certificates, tokens and kubeconfigs: everything by which clients and servers know each other.
//!
//! An [`Authority`] signs serving and client certificates; it is kept as two PEM texts. Keys are ECDSA
//! P-256: made in microseconds, so that a control plane with a new identity starts at once.
//!
//! Left out on purpose: where the texts are kept (that is for the program to say), and anything about
//! TLS connections.

mod authority;
mod kubeconfig;
mod token_key;

pub use authority::{Authority, Identity};
pub use kubeconfig::{Access, kubeconfig};
pub use token_key::{PublicTokenKey, TokenKey};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::Rng as _;

/// Why a key or certificate cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Making or signing failed.
    #[error("making a certificate")]
    Make(#[source] rcgen::Error),
    /// A stored key or certificate does not parse.
    #[error("reading {what}")]
    Read {
        /// Which.
        what: &'static str,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// A stored text is not PEM.
    #[error("{0} is not in PEM form")]
    Pem(&'static str),
    /// A key cannot be used for tokens.
    #[error("{0}: an RSA key of at least 2048 bits is needed")]
    TokenKey(&'static str),
    /// A token is not one this key has signed.
    #[error("{0}")]
    Token(&'static str),
    /// A name that cannot stand in a certificate.
    #[error("{name:?} is neither an IP address nor a DNS name")]
    Name {
        /// The name.
        name: String,
    },
}

/// A new bearer token: 256 random bits.
pub fn new_token() -> String {
    URL_SAFE_NO_PAD.encode(rand::rng().random::<[u8; 32]>())
}
