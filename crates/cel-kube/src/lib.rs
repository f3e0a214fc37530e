//! Kubernetes' and kro's CEL libraries, and CEL types from OpenAPI schemas.
