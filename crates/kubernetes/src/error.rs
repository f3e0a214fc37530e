//! Why a reconcile fails.

/// What a controller could not do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request failed.
    #[error(transparent)]
    Api(#[from] controller::Error),
    /// An object does not make sense.
    #[error("{kind} {name}: {why}")]
    Object {
        /// Its kind.
        kind: &'static str,
        /// Its namespace and name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
}
