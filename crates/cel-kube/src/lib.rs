//! Kubernetes' and kro's CEL: libraries, types from schemas, results to JSON.
//!
//! The language is in the crate `cel`; here is what Kubernetes adds to it.
//!
//! ```
//! use serde_json::json;
//! // A schema becomes a type,
//! let schema = json!({"type": "object", "properties": {
//!     "spec": {"type": "object", "properties": {
//!         "memory": {"type": "string"}, "since": {"type": "string", "format": "date-time"}}}}});
//! let ty = cel_kube::declare("Widget", &schema, &cel_kube::no_refs)?;
//! // the type declares a variable,
//! let env = cel_kube::kubernetes_env().extend().variable("self", ty.clone()).build()?;
//! let program = env.compile("quantity(self.spec.memory).compareTo(quantity('1Gi')) <= 0 && self.spec.since.getFullYear() > 2000")?;
//! // and data that follows the schema is read by it.
//! let object = json!({"spec": {"memory": "512Mi", "since": "2026-01-01T00:00:00Z"}});
//! let mut activation = cel::Activation::new();
//! activation.bind_typed("self", &object, &ty);
//! assert_eq!(program.eval(&activation)?, cel::Value::Bool(true));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! * [`declare`] makes types from schemas; [`escape`] names fields that are no identifiers.
//! * [`kubernetes_env`] and [`kro_env`] hold the libraries.
//! * [`estimate`] bounds what a rule costs, with the sizes of a schema; the limits are constants beside it.
//! * [`authorizer_library`], [`json_patch_library`] and [`ApplyConfigurationTypes`] are for admission policies.
//! * [`admission`] compiles and evaluates the expressions of admission policies and webhooks.
//! * [`check_device_selector`] checks what selects devices.
//! * [`to_json`] turns results into what a template needs.

pub mod admission;
mod convert;
mod cost;
mod declare;
mod devices;
mod environment;
mod kro;
mod kubernetes;

pub use crate::convert::{ConvertError, Converted, is_omit, to_json};
pub use crate::cost::{
    PER_CALL_LIMIT, RUNTIME_COST_BUDGET, STATIC_RULE_LIMIT, STATIC_TOTAL_LIMIT, SchemaSizes,
    estimate, occurrences_max,
};
pub use crate::declare::{Resolver, SchemaError, declare, declare_resource, escape, no_refs};
pub use crate::devices::check_device_selector;
pub use crate::environment::{kro_env, kubernetes_env};
pub use crate::kro::{Omit, condition_type};
pub use crate::kubernetes::{
    ApplyConfigurationTypes, AuthorizationAttributes, AuthorizationDecision, Authorizer,
    authorizer_library, authorizer_type, authorizer_value, json_patch_library, json_patch_type,
    resource_check_type, resource_check_value,
};
