//! Informers, work queues, backoff, events: what every controller is made of.
//!
//! ```text
//!  API server --list, watch--> Informer --keys--> WorkQueue --key--> Reconciler --writes--> API server
//!                                  ^------------reads its cache-----------'
//! ```
//!
//! Kubernetes is reached through `kube::Client` alone, which may lead into the same process or to a real cluster.
//! Objects are JSON documents: kinds are met at run time and nothing unknown is lost. No controller lives here.

mod api;
mod cache;
mod clock;
pub mod condition;
mod controller;
mod discovery;
mod document;
pub mod enqueue;
mod error;
mod events;
mod expectations;
mod faults;
pub mod finalizer;
pub mod index;
mod informer;
mod lease;
mod line;
mod lines;
mod metrics;
mod object;
pub mod owner;
mod query;
mod queue;
mod reflector;
mod resource;

pub use api::{Api, ApplyOptions, DeleteOptions, ListOptions, ObjectList, Subresource};
pub use cache::{Event, IndexFunction};
pub use clock::{Clock, FixedClock, SystemClock, format_micro_time, format_time};
pub use controller::{Controller, ControllerStats, Outcome, Reconciler};
pub use discovery::Discovery;
pub use document::Document;
pub use error::Error;
pub use events::EventRecorder;
pub use expectations::Expectations;
pub use faults::{FaultPlan, Faults, RequestLog};
pub use informer::{HandlerGuard, Informer, InformerOptions, Informers};
pub use lease::{LeaderElector, Leadership};
pub use line::{CutPlan, Line, Loss};
pub use metrics::metrics;
pub use object::{Object, ObjectKey, OwnerReference};
pub use queue::{Backoff, QueueKey, WorkQueue};
pub use resource::{Resource, escape};
