//! The Kubernetes API server as a tower service.
//!
//! [`ApiServer`] is the whole server without a socket: it takes HTTP requests and gives responses.
//! [`Listener`] puts TLS in front of it; [`ApiServer::service`] gives the same thing to an in-process
//! `kube::Client`, so a test or an embedded controller needs neither port nor certificate.
//!
//! ```text
//! request -> route -> authenticate -> authorize -> verb -> (decode, default, admit, validate,
//!            track fields) -> store
//! ```
//!
//! * `route` and `query` — what the path and its parameters ask for;
//! * [`catalog`] — which resources there are, replaced as a whole when a definition changes;
//! * [`identity`] — who asks, and whether they may;
//! * `verbs` — one file a verb, over the shared write pipeline in `write`;
//! * [`admission`] — what looks at other objects before a write;
//! * [`custom`] — CustomResourceDefinitions;
//! * `discovery`, `openapi`, `table` — what clients read about resources.
//!
//! Left out on purpose: controllers (they are clients), and kind by kind knowledge (crate `kinds`).

pub mod admission;
mod allocate;
pub mod audit;
mod body;
pub mod bootstrap;
pub mod catalog;
mod compress;
mod context;
pub mod custom;
mod deadline;
mod discovery;
mod dispatch;
mod envelope;
mod flow;
mod follow;
mod go_json;
mod health;
pub mod identity;
mod jsonpath;
mod listener;
mod media;
mod metrics;
mod openapi;
mod query;
mod respond;
mod route;
mod selection;
mod server;
mod simulated;
mod subresources;
mod table;
mod verbs;
mod webhook_client;
mod write;
mod yaml_text;

pub use body::Body;
pub use flow::FlowLimits;
pub use health::KUBERNETES_VERSION;
pub use listener::{Listener, ListenerOptions};
pub use server::{ApiServer, Clock, Error, Options, Service};
