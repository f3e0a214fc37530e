//! Keys that sign and check JSON web tokens, as service accounts have them.
//!
//! RS256 alone, as upstream's default. A key is known by the digest of its public half, so a token
//! names the key that signed it, and keys can be replaced while older tokens are still about.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::Error;

/// Longest token that is looked at.
const TOKEN_LENGTH_MAX: usize = 16 << 10;
/// Characters in a line of a PEM text.
const PEM_LINE: usize = 64;

/// A private key with its public half.
pub struct TokenKey {
    pair: RsaKeyPair,
    public: PublicTokenKey,
}

/// The public half: enough to check tokens, and to tell others how to.
#[derive(Clone)]
pub struct PublicTokenKey {
    /// `RSAPublicKey` in DER.
    der: Vec<u8>,
    id: String,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey")
            .field("id", &self.public.id)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for PublicTokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicTokenKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl TokenKey {
    /// A new key. Takes a tenth of a second or more.
    pub fn generate() -> Result<Self, Error> {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048)
            .map_err(|_| Error::TokenKey("making a key for tokens"))?;
        Self::of(pair)
    }

    /// The key in a PEM text.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes())
            .map_err(|_| Error::Pem("the key for tokens"))?;
        let pair = match &key {
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            _ => return Err(Error::TokenKey("the key for tokens")),
        };
        Self::of(pair.map_err(|_| Error::TokenKey("the key for tokens"))?)
    }

    fn of(pair: RsaKeyPair) -> Result<Self, Error> {
        let spki: PublicKeyX509Der<'_> = pair
            .public_key()
            .as_der()
            .map_err(|_| Error::TokenKey("the public key for tokens"))?;
        let public = PublicTokenKey {
            der: pair.public_key().as_ref().to_vec(),
            id: key_id(spki.as_ref()),
        };
        Ok(Self { pair, public })
    }

    /// The key as a PEM text.
    pub fn to_pem(&self) -> Result<String, Error> {
        let der: Pkcs8V1Der<'_> = self
            .pair
            .as_der()
            .map_err(|_| Error::TokenKey("writing the key for tokens"))?;
        let text = STANDARD.encode(der.as_ref());
        let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
        for line in text.as_bytes().chunks(PEM_LINE) {
            pem.push_str(&String::from_utf8_lossy(line));
            pem.push('\n');
        }
        pem.push_str("-----END PRIVATE KEY-----\n");
        Ok(pem)
    }

    /// The public half.
    pub fn public(&self) -> &PublicTokenKey {
        &self.public
    }

    /// A token that says `claims`.
    pub fn sign(&self, claims: &Value) -> Result<String, Error> {
        let header = json!({"alg": "RS256", "kid": self.public.id});
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", encode(&header), encode(claims));
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                message.as_bytes(),
                &mut signature,
            )
            .map_err(|_| Error::TokenKey("signing a token"))?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

impl PublicTokenKey {
    /// The public key in a PEM text, which may be a private key's too.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        if let Ok(key) = TokenKey::from_pem(text) {
            return Ok(key.public);
        }
        let spki = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes())
            .map_err(|_| Error::Pem("the public key for tokens"))?;
        let der = aws_lc_rs::rsa::PublicEncryptingKey::from_der(spki.as_ref())
            .map_err(|_| Error::TokenKey("the public key for tokens"))?;
        drop(der);
        Ok(Self {
            der: rsa_of_spki(spki.as_ref()).ok_or(Error::TokenKey("the public key for tokens"))?,
            id: key_id(spki.as_ref()),
        })
    }

    /// What tokens call this key.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The key as a JSON web key.
    pub fn jwk(&self) -> Value {
        let (modulus, exponent) = numbers(&self.der).unwrap_or_default();
        json!({
            "use": "sig",
            "kty": "RSA",
            "kid": self.id,
            "alg": "RS256",
            "n": URL_SAFE_NO_PAD.encode(modulus),
            "e": URL_SAFE_NO_PAD.encode(exponent),
        })
    }

    /// What a token says, if this key has signed it.
    pub fn verify(&self, token: &str) -> Result<Value, Error> {
        let malformed = Error::Token("the token is malformed");
        let Some((message, signature)) = token.rsplit_once('.') else {
            return Err(malformed);
        };
        if token.len() > TOKEN_LENGTH_MAX
            || token_part(token, 0).is_none_or(|h| h["alg"] != "RS256")
        {
            return Err(malformed);
        }
        let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else {
            return Err(malformed);
        };
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.der)
            .verify(message.as_bytes(), &signature)
            .map_err(|_| Error::Token("the token's signature is wrong"))?;
        token_part(token, 1).ok_or(malformed)
    }
}

impl PublicTokenKey {
    /// What a token says of itself, not checked: which key is to check it.
    pub fn header(token: &str) -> Option<Value> {
        token_part(token, 0)
    }

    /// What a token claims, not checked: who says to have issued it.
    pub fn unchecked_claims(token: &str) -> Option<Value> {
        token_part(token, 1)
    }
}

/// A part of a token in compact form.
fn token_part(token: &str, index: usize) -> Option<Value> {
    if token.len() > TOKEN_LENGTH_MAX || token.matches('.').count() != 2 {
        return None;
    }
    let part = token.split('.').nth(index)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// Upstream's name of a key: the digest of its public half.
fn key_id(spki: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(spki))
}

/// One element of a DER text: its tag, its content, and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let count = usize::from(first & 0x7f);
        if count > 4 || rest.len() < count {
            return None;
        }
        let (digits, rest) = rest.split_at(count);
        let length = digits
            .iter()
            .fold(0_usize, |sum, digit| sum << 8 | usize::from(*digit));
        (length, rest)
    };
    (rest.len() >= length).then(|| (tag, &rest[..length], &rest[length..]))
}

/// The `RSAPublicKey` within a `SubjectPublicKeyInfo`.
fn rsa_of_spki(spki: &[u8]) -> Option<Vec<u8>> {
    let (_, content, _) = element(spki)?;
    let (_, _, rest) = element(content)?;
    let (_, bits, _) = element(rest)?;
    // The first byte counts unused bits: none.
    bits.get(1..).map(<[u8]>::to_vec)
}

/// Modulus and exponent of an `RSAPublicKey`, without leading zeros.
fn numbers(der: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (_, content, _) = element(der)?;
    let (_, modulus, rest) = element(content)?;
    let (_, exponent, _) = element(rest)?;
    let strip = |number: &[u8]| -> Vec<u8> {
        number
            .iter()
            .copied()
            .skip_while(|byte| *byte == 0)
            .collect()
    };
    Some((strip(modulus), strip(exponent)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_believed_only_as_it_was_signed() {
        let key = TokenKey::generate().expect("a key");
        let claims = json!({"iss": "https://here", "sub": "me"});
        let token = key.sign(&claims).expect("a token");
        assert_eq!(key.public().verify(&token).expect("its own"), claims);
        let header = PublicTokenKey::header(&token).expect("a header");
        assert_eq!(header["kid"], key.public().id());

        let other = TokenKey::generate().expect("a key");
        assert!(other.public().verify(&token).is_err());
        let mut parts: Vec<&str> = token.split('.').collect();
        let forged = URL_SAFE_NO_PAD.encode(r#"{"sub":"admin"}"#);
        parts[1] = &forged;
        assert!(key.public().verify(&parts.join(".")).is_err());
        for nonsense in ["", ".", "..", "a.b.c", "a.b.c.d", &token[1..]] {
            assert!(key.public().verify(nonsense).is_err(), "{nonsense}");
        }
        // A token without a signature is no token, whatever its header says.
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        assert!(key.public().verify(&format!("{none}.{forged}.")).is_err());
    }

    #[test]
    fn a_key_comes_back_from_its_text() {
        let key = TokenKey::generate().expect("a key");
        let again = TokenKey::from_pem(&key.to_pem().expect("PEM")).expect("its own text");
        assert_eq!(again.public().id(), key.public().id());
        let token = key.sign(&json!({"a": 1})).expect("a token");
        assert!(again.public().verify(&token).is_ok());
        let jwk = key.public().jwk();
        assert_eq!(jwk["e"], "AQAB");
        let modulus = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().expect("text"));
        assert_eq!(modulus.expect("base64").len(), 256);
        assert!(TokenKey::from_pem("nonsense").is_err());
    }
}
