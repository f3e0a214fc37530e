//! Why a reconcile fails.

use controller::Outcome;

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

/// What a look at an object comes to: a conflict is looked at again, and what has gone in the meantime
/// needs nothing more.
pub fn looked_at(outcome: Result<(), Error>) -> Result<Outcome, Error> {
    match outcome {
        Err(Error::Api(error)) if error.is_conflict() => Ok(Outcome::Requeue),
        Err(Error::Api(error)) if error.is_not_found() => Ok(Outcome::Done),
        outcome => outcome.map(|()| Outcome::Done),
    }
}
