//! A connection to the server that is cut in the middle of what goes over it, and mended. For tests.
//!
//! Unlike [`crate::Faults`], which strike here and there, a [`Line`] takes one process off the network for a while: from a
//! given request on nothing gets through, answers to what is on its way are lost, and watches fall silent.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use kube::client::Body;
use parking_lot::Mutex;
use tokio::sync::watch;
use tower::BoxError;

/// What becomes of requests on a line that is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// They fail at once.
    Fail,
    /// They hang until the line is mended and go on then, as those of a process that was asleep.
    Hang,
}

/// How a line is cut.
#[derive(Clone, Copy, Debug)]
pub struct CutPlan {
    /// The request it is cut at, counted from now; the first one is 1.
    pub at: u64,
    /// Whether that request still arrives. Its answer is lost in any case.
    pub arrives: bool,
    /// What becomes of all others.
    pub loss: Loss,
}

/// A connection that can be cut. Clones are the same one.
#[derive(Clone)]
pub struct Line {
    planned: Arc<Mutex<Option<CutPlan>>>,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// How often it has been cut.
    cuts: u64,
    /// What is lost while it is.
    loss: Option<Loss>,
}

impl State {
    /// Whether an answer gets back to who asked when it had been cut so often.
    fn is_whole_since(&self, cuts: u64) -> bool {
        self.cuts == cuts && self.loss.is_none()
    }
}

impl Default for Line {
    fn default() -> Self {
        Self {
            planned: Arc::default(),
            state: watch::Sender::new(State::default()),
        }
    }
}

const LOST: &str = "injected: the line is cut";

impl Line {
    /// A line that is whole.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cuts it by plan.
    pub fn plan(&self, plan: CutPlan) {
        *self.planned.lock() = Some(plan);
    }

    /// Waits until it is cut.
    pub async fn cut(&self) {
        self.until(|state| state.loss.is_some()).await;
    }

    /// Makes it whole again.
    pub fn mend(&self) {
        self.state.send_modify(|state| state.loss = None);
    }

    async fn until(&self, wanted: impl FnMut(&State) -> bool) {
        comes(&mut self.state.subscribe(), wanted).await;
    }

    /// A client whose requests go over this line.
    pub fn wrap(&self, client: kube::Client) -> kube::Client {
        let line = self.clone();
        let namespace = client.default_namespace().to_owned();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (client, line) = (client.clone(), line.clone());
            async move { line.carry(client, request).await }
        });
        kube::Client::new(service, namespace)
    }

    async fn carry(
        &self,
        client: kube::Client,
        request: Request<Body>,
    ) -> Result<Response<UnsyncBoxBody<Bytes, BoxError>>, BoxError> {
        if !self.admit() {
            self.lose().await?;
        }
        let state = self.state.subscribe();
        let cuts = state.borrow().cuts;
        let answer = client.send(request).await?;
        if !state.borrow().is_whole_since(cuts) {
            self.lose().await?;
            return Err(LOST.into());
        }
        Ok(answer.map(move |body| {
            let parts = Box::pin(body.into_data_stream());
            let parts = futures::stream::unfold(Some((parts, state)), move |left| async move {
                let (mut parts, mut state) = left?;
                let part = tokio::select! {
                    biased;
                    () = comes(&mut state, |state| !state.is_whole_since(cuts)) => {
                        // Nobody hears that it is cut; once it is whole again it turns out that nothing comes any more.
                        comes(&mut state, |state| state.loss.is_none()).await;
                        return Some((Err(BoxError::from(LOST)), None));
                    }
                    part = parts.next() => part?,
                };
                let part = part.map(http_body::Frame::data).map_err(BoxError::from);
                Some((part, Some((parts, state))))
            });
            StreamBody::new(parts).boxed_unsync()
        }))
    }

    /// Counts a request; whether it gets through.
    fn admit(&self) -> bool {
        let mut planned = self.planned.lock();
        let Some(plan) = planned.as_mut() else {
            return self.state.borrow().loss.is_none();
        };
        plan.at = plan.at.saturating_sub(1);
        if plan.at > 0 {
            return true;
        }
        let plan = *plan;
        *planned = None;
        self.state.send_modify(|state| {
            state.cuts += 1;
            state.loss = Some(plan.loss);
        });
        plan.arrives
    }

    /// What becomes of a request or an answer that the cut has hit.
    async fn lose(&self) -> Result<(), BoxError> {
        let loss = self.state.borrow().loss;
        match loss {
            Some(Loss::Fail) => Err(LOST.into()),
            Some(Loss::Hang) => {
                self.until(|state| state.loss.is_none()).await;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// Waits for a state.
async fn comes(state: &mut watch::Receiver<State>, wanted: impl FnMut(&State) -> bool) {
    // It fails when the line is gone: nothing is cut or mended any more.
    if state.wait_for(wanted).await.is_err() {
        std::future::pending::<()>().await;
    }
}
