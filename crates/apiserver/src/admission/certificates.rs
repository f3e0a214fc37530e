//! `CertificateApproval`, `CertificateSigning` and `CertificateSubjectRestriction`: who may approve
//! and sign for a signer, and what no client certificate may say.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::{Status, object};
use serde_json::Value;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

use super::{Mutate, Operation, Plugin, Request, Validate};
use crate::identity::{Attributes, MASTERS};

const GROUP: &str = "certificates.k8s.io";
const RESOURCE: &str = "certificatesigningrequests";
/// Who signs certificates of clients of this server.
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

pub const APPROVAL: Plugin = Plugin {
    name: "CertificateApproval",
    default: true,
    mutate: Mutate::Never,
    validate: Validate::Now(validate_approval),
};

pub const SIGNING: Plugin = Plugin {
    name: "CertificateSigning",
    default: true,
    mutate: Mutate::Never,
    validate: Validate::Now(validate_signing),
};

pub const SUBJECT: Plugin = Plugin {
    name: "CertificateSubjectRestriction",
    default: true,
    mutate: Mutate::Never,
    validate: Validate::Now(validate_subject),
};

fn updates(request: &Request<'_>, subresource: &str) -> bool {
    request.operation == Operation::Update
        && request.subresource == subresource
        && request.is(GROUP, RESOURCE)
}

fn validate_approval(request: &Request<'_>, new: &Value) -> Result<(), Status> {
    if !updates(request, "approval") {
        return Ok(());
    }
    check_signer(request, new, "approve")
}

fn validate_signing(request: &Request<'_>, new: &Value) -> Result<(), Status> {
    if !updates(request, "status") {
        return Ok(());
    }
    let old = request.old.unwrap_or(&Value::Null);
    let same = |field: &str| {
        let path = ["status", field];
        let empty = |value: &&Value| !value.as_array().is_some_and(Vec::is_empty);
        object::at(old, &path).filter(empty) == object::at(new, &path).filter(empty)
    };
    if same("certificate") && same("conditions") {
        return Ok(());
    }
    check_signer(request, new, "sign")
}

/// The user must have the verb for the signer, by name or by domain.
fn check_signer(request: &Request<'_>, new: &Value, verb: &str) -> Result<(), Status> {
    // As it was: nobody changes the signer by approving.
    let signer = object::text(request.old.unwrap_or(&Value::Null), &["spec", "signerName"]);
    let may = |name: String| {
        let wanted = Attributes {
            verb: verb.to_owned(),
            group: GROUP.to_owned(),
            version: "*".to_owned(),
            resource: "signers".to_owned(),
            name,
            ..Attributes::default()
        };
        let context = request.context;
        let authorizer = &context.state.authorizer;
        authorizer.authorize(&context.user, &wanted).is_allowed()
    };
    let domain = signer.split('/').next().unwrap_or_default();
    if may(signer.to_owned()) || may(format!("{domain}/*")) {
        return Ok(());
    }
    let why = format!("user not permitted to {verb} requests with signerName {signer:?}");
    Err(request.refuse(new, &why))
}

fn validate_subject(request: &Request<'_>, new: &Value) -> Result<(), Status> {
    if !request.creates(GROUP, RESOURCE)
        || object::text(new, &["spec", "signerName"]) != CLIENT_SIGNER
    {
        return Ok(());
    }
    let groups = organizations(object::text(new, &["spec", "request"]))
        .map_err(|why| request.refuse(new, &format!("failed to parse CSR: {why}")))?;
    if groups.iter().any(|group| group == MASTERS) {
        let why = format!("use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed");
        return Err(request.refuse(new, &why));
    }
    Ok(())
}

/// The organizations a request for a certificate asks for: the groups of the user.
fn organizations(request: &str) -> Result<Vec<String>, String> {
    let der = decoded(request)?;
    let (_, parsed) =
        X509CertificationRequest::from_der(&der).map_err(|error| error.to_string())?;
    let subject = &parsed.certification_request_info.subject;
    let organizations = subject.iter_organization();
    Ok(organizations
        .filter_map(|organization| organization.as_str().ok().map(str::to_owned))
        .collect())
}

/// The common name a request for a certificate asks for: the name of the user.
pub fn common_name(request: &str) -> Result<String, String> {
    let der = decoded(request)?;
    let (_, parsed) =
        X509CertificationRequest::from_der(&der).map_err(|error| error.to_string())?;
    let subject = &parsed.certification_request_info.subject;
    let name = subject.iter_common_name().next();
    let name = name.and_then(|name| name.as_str().ok());
    Ok(name.unwrap_or_default().to_owned())
}

/// A request for a certificate, which objects hold as PEM in base64.
fn decoded(request: &str) -> Result<Vec<u8>, String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE REQUEST-----";
    const END: &str = "-----END CERTIFICATE REQUEST-----";
    let wrong_type = "PEM block type must be CERTIFICATE REQUEST";
    let pem = STANDARD
        .decode(request)
        .map_err(|error| error.to_string())?;
    let pem = String::from_utf8_lossy(&pem);
    let (_, rest) = pem.split_once(BEGIN).ok_or(wrong_type)?;
    let (body, _) = rest.split_once(END).ok_or(wrong_type)?;
    let body: String = body.split_whitespace().collect();
    STANDARD.decode(body).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_request_is_refused() {
        for text in ["", "!", &STANDARD.encode("nonsense")] {
            assert!(organizations(text).is_err(), "{text}");
        }
    }
}
