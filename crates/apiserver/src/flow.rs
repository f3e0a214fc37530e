//! Priority and fairness: who waits when there is more to do than can be done at once.
//!
//! ```text
//! request -> FlowSchema (who, what) -> priority level (how many at a time) -> queue -> run
//! ```
//!
//! Each level has seats of its own, so a flood in one leaves the others alone; within a level each
//! flow (a user, a namespace) is dealt a few queues, and queues are served in turn by what they have
//! had, so a flood of one flow leaves the other flows alone. A level may lend seats that it does not
//! need. While a level has free seats a request pays for one short lock, and members of the exempt
//! level for nothing.
//!
//! Left out: upstream's periodic adjustment of how much each level lends. Seats are lent when they are
//! asked for and free.

mod config;
mod level;
mod schema;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Response};
use store::Store;

use crate::body::Body;
use crate::follow::Followed;
use crate::identity::{Attributes, User};
use crate::respond;
use config::Config;
pub(crate) use level::Ticket;

/// Objects of a list that are worth a seat, as upstream.
const OBJECTS_PER_SEAT: usize = 100;

/// How much may be done at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowLimits {
    /// Requests at a time in all limited levels together; 0 switches limits off.
    pub concurrency: usize,
    /// How long a request may wait in a queue.
    pub wait: Duration,
}

impl Default for FlowLimits {
    fn default() -> Self {
        Self {
            concurrency: 600,
            wait: Duration::from_secs(15),
        }
    }
}

/// Lets requests in.
pub(crate) struct Flow {
    config: Followed<Config>,
    limits: FlowLimits,
}

/// What a request was let in by, for its answer's headers.
pub(crate) struct Admitted {
    schema: Arc<str>,
    level: Arc<str>,
    /// Gives the seats back.
    _ticket: Option<Ticket>,
}

/// A request that would have to wait too long.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Flow {
    pub fn new(limits: FlowLimits) -> Self {
        Self {
            config: Followed::new(Config::new(limits.concurrency)),
            limits,
        }
    }

    /// Waits for the turn of a request. `listed` are the objects it may have to look at.
    pub async fn enter(
        &self,
        store: &dyn Store,
        user: &User,
        wanted: &Attributes,
        listed: impl FnOnce() -> usize,
    ) -> Result<Option<Admitted>, TooMany> {
        if self.limits.concurrency == 0 {
            return Ok(None);
        }
        let found = self.config.read(store).classify(user, wanted);
        let Some((schema, level)) = found else {
            return Ok(None);
        };
        let admitted = |ticket| {
            Some(Admitted {
                schema: schema.uid.clone(),
                level: level.uid(),
                _ticket: ticket,
            })
        };
        if level.is_exempt() {
            return Ok(admitted(None));
        }
        let seats = if matches!(wanted.verb.as_str(), "list" | "deletecollection") {
            listed().div_ceil(OBJECTS_PER_SEAT)
        } else {
            1
        };
        let ticket = level
            .clone()
            .enter(|| schema.flow(user, wanted), seats.max(1), self.limits.wait)
            .await?;
        Ok(admitted(Some(ticket)))
    }
}

impl Admitted {
    /// Says in an answer by what the request was let in.
    pub fn tell(&self, response: &mut Response<Body>) {
        for (name, uid) in [
            ("x-kubernetes-pf-flowschema-uid", &self.schema),
            ("x-kubernetes-pf-prioritylevel-uid", &self.level),
        ] {
            if let Ok(value) = HeaderValue::from_str(uid) {
                response.headers_mut().insert(name, value);
            }
        }
    }
}

/// 429, as upstream answers it.
pub(crate) fn too_many() -> Response<Body> {
    let mut response = respond::text(429, "Too many requests, please try again later.\n");
    let headers = response.headers_mut();
    headers.insert(http::header::RETRY_AFTER, HeaderValue::from_static("1"));
    headers.insert(
        http::header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}
