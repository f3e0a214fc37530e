//! Whether the certificate and the key of a TLS Secret belong together.
//!
//! As upstream, a pair that does not is stored with a warning: the words are those of Go's
//! `tls.X509KeyPair`, which tools know. What is no PEM at all `kinds` has told already.

use base64::Engine as _;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::server::ParsedCertificate;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer};
use serde_json::Value;

/// What is worth a warning in a Secret of type `kubernetes.io/tls`.
pub fn warning(secret: &Value) -> Option<&'static str> {
    if secret.get("type")?.as_str()? != "kubernetes.io/tls" {
        return None;
    }
    let certificate = CertificateDer::from_pem_slice(&data(secret, "tls.crt")?).ok()?;
    let Ok(key) = PrivateKeyDer::from_pem_slice(&data(secret, "tls.key")?) else {
        return Some("tls: failed to parse private key");
    };
    let Ok(certificate) = ParsedCertificate::try_from(&certificate) else {
        return Some("x509: malformed certificate");
    };
    let Ok(key) = any_supported_type(&key) else {
        return Some("tls: failed to parse private key");
    };
    let (certified, own) = (certificate.subject_public_key_info(), key.public_key()?);
    if certified == own {
        return None;
    }
    Some(if algorithm(&certified) == algorithm(&own) {
        "tls: private key does not match public key"
    } else {
        "tls: private key type does not match public key type"
    })
}

/// The decoded value of a Secret's key.
fn data(secret: &Value, key: &str) -> Option<Vec<u8>> {
    let text = secret.get("data")?.get(key)?.as_str()?;
    base64::prelude::BASE64_STANDARD.decode(text).ok()
}

/// The object identifier of a public key's algorithm: the first member of the first member.
fn algorithm<'a>(key: &'a SubjectPublicKeyInfoDer<'_>) -> Option<&'a [u8]> {
    let (outer, _) = member(key.as_ref())?;
    let (identifier, _) = member(outer)?;
    Some(member(identifier)?.0)
}

/// The contents of the DER value a text begins with, and what follows it.
fn member(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = der.get(1..)?.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        let length = digits.iter().try_fold(0_usize, |length, digit| {
            length.checked_mul(256)?.checked_add(usize::from(*digit))
        })?;
        (length, rest)
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn secret(certificate: &str, key: &str) -> Value {
        let encode = |text: &str| base64::prelude::BASE64_STANDARD.encode(text);
        json!({"type": "kubernetes.io/tls", "data": {"tls.crt": encode(certificate), "tls.key": encode(key)}})
    }

    #[test]
    fn a_pair_belongs_together() {
        let authority = pki::Authority::new("test").expect("an authority");
        let pair = || authority.server("a", &["a".to_owned()]).expect("signed");
        let (one, other) = (pair(), pair());
        assert_eq!(warning(&secret(&one.certificate, &one.key)), None);
        assert_eq!(
            warning(&secret(&one.certificate, &other.key)),
            Some("tls: private key does not match public key")
        );
        assert_eq!(
            warning(&secret(
                &one.certificate,
                "-----BEGIN X-----\n-----END X-----"
            )),
            Some("tls: failed to parse private key")
        );
    }
}
