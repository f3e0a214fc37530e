//! Certificate authorities and what they sign.

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::{Duration, OffsetDateTime};

use crate::Error;

/// How long an authority is valid.
const AUTHORITY_DAYS: i64 = 3_650;
/// How long what it signs is valid.
const LEAF_DAYS: i64 = 365;
/// How far back validity begins: clocks differ.
const SKEW_MINUTES: i64 = 5;

/// A certificate with its key, both as PEM.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

/// A certificate authority.
pub struct Authority {
    identity: Identity,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new authority of a name.
    pub fn new(name: &str) -> Result<Self, Error> {
        let key = KeyPair::generate().map_err(Error::Make)?;
        let mut params = params(name, &[], AUTHORITY_DAYS);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let certificate = params.self_signed(&key).map_err(Error::Make)?;
        let identity = Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        };
        Ok(Self {
            identity,
            issuer: Issuer::new(params, key),
        })
    }

    /// The authority of an earlier [`Authority::identity`].
    pub fn load(identity: Identity) -> Result<Self, Error> {
        let read = |what| move |source| Error::Read { what, source };
        let key = KeyPair::from_pem(&identity.key).map_err(read("the authority's key"))?;
        let issuer = Issuer::from_ca_cert_pem(&identity.certificate, key)
            .map_err(read("the authority's certificate"))?;
        Ok(Self { identity, issuer })
    }

    /// The authority's own certificate and key.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Signs a serving certificate for names and addresses.
    pub fn server(&self, name: &str, names: &[String]) -> Result<Identity, Error> {
        let mut params = params(name, &[], LEAF_DAYS);
        for name in names {
            params.subject_alt_names.push(match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(
                    Ia5String::try_from(name.clone())
                        .map_err(|_| Error::Name { name: name.clone() })?,
                ),
            });
        }
        self.sign(params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// Signs a client certificate for a user in groups.
    pub fn client(&self, user: &str, groups: &[&str]) -> Result<Identity, Error> {
        self.sign(
            params(user, groups, LEAF_DAYS),
            ExtendedKeyUsagePurpose::ClientAuth,
        )
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Identity, Error> {
        params.extended_key_usages = vec![usage];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(Error::Make)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(Error::Make)?;
        Ok(Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

impl Identity {
    /// The certificate in binary form.
    pub fn certificate_der(&self) -> Result<CertificateDer<'static>, Error> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes())
            .map_err(|_| Error::Pem("the certificate"))
    }

    /// The key in binary form.
    pub fn key_der(&self) -> Result<PrivateKeyDer<'static>, Error> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(|_| Error::Pem("the key"))
    }
}

fn params(name: &str, groups: &[&str], days: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    for group in groups {
        subject.push(DnType::OrganizationName, *group);
    }
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::minutes(SKEW_MINUTES);
    params.not_after = now + Duration::days(days);
    params.serial_number = Some(SerialNumber::from(rand::random::<u64>() >> 1));
    params
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::prelude::{FromDer, X509Certificate};

    #[test]
    fn an_authority_signs_and_comes_back() {
        let authority = Authority::new("corvus-ca").expect("made");
        let again = Authority::load(authority.identity().clone()).expect("its own text");
        let client = again.client("admin", &["system:masters"]).expect("signed");
        let (leaf, root) = (
            client.certificate_der().expect("PEM"),
            authority.identity().certificate_der().expect("PEM"),
        );
        let (_, leaf) = X509Certificate::from_der(&leaf).expect("DER");
        let (_, root) = X509Certificate::from_der(&root).expect("DER");
        assert_eq!(leaf.issuer(), root.subject());
        leaf.verify_signature(Some(root.public_key()))
            .expect("signed by the authority");
        let organisation = leaf.subject().iter_organization().next().expect("a group");
        assert_eq!(organisation.as_str(), Ok("system:masters"));
    }

    #[test]
    fn server_certificates_name_hosts_and_addresses() {
        let authority = Authority::new("corvus-ca").expect("made");
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        assert!(authority.server("apiserver", &names).is_ok());
        assert!(
            authority
                .server("apiserver", &["h\u{f6}st".to_owned()])
                .is_err()
        );
    }
}
