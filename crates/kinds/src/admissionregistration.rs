//! Kinds of the group `admissionregistration.k8s.io`.
//!
//! CEL expressions are compiled by the API server, which has the language; here is everything else.

mod matching;
pub mod policy;
pub mod webhook;
