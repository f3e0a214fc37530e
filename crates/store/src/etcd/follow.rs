//! Following etcd: everything once, then change by change, and again where the thread is lost.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::gateway::{Event as Seen, Gateway, Message};
use super::{PREFIX, Shared, entry, unpack};
use crate::entry::{Entry, Revision};
use crate::index::{Event, EventKind, Index};
use crate::{Error, Result};

/// How long to wait before asking again after a failure.
const RETRY: Duration = Duration::from_millis(200);

/// Reads everything as of one revision.
pub async fn load(gateway: &Gateway) -> Result<Index> {
    let mut page = gateway.page(PREFIX, None, Revision(0)).await?;
    let at = page.revision();
    let mut index = Index::at(at);
    loop {
        let last = page.kvs.last().map(|found| found.key.clone());
        for found in &page.kvs {
            match entry(found) {
                Some(entry) => index.load(entry),
                None => tracing::warn!(key = found.key, "etcd has something that is not ours"),
            }
        }
        match last {
            Some(last) if page.more => page = gateway.page(PREFIX, Some(&last), at).await?,
            _ => return Ok(index),
        }
    }
}

/// Keeps the index up to date until the store is closed.
pub async fn run(shared: Arc<Shared>) {
    let closed = shared.closed.clone();
    loop {
        let outcome = tokio::select! {
            outcome = follow(&shared) => outcome,
            () = closed.cancelled() => return,
        };
        match outcome {
            Ok(()) => tracing::debug!("etcd has ended the watch"),
            Err(Error::Compacted { .. }) => match load(&shared.gateway).await {
                Ok(index) => replace(&shared, index),
                Err(error) => tracing::warn!(%error, "reading etcd anew"),
            },
            Err(error) => tracing::warn!(%error, "following etcd"),
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = closed.cancelled() => return,
        }
    }
}

/// Takes what was read anew; whoever watches is told that it has missed something.
fn replace(shared: &Shared, index: Index) {
    let revision = index.revision();
    shared.index.write().replace(index);
    shared.applied.send_replace(revision);
}

async fn follow(shared: &Shared) -> Result<()> {
    let from = shared.index.read().revision().next();
    let mut messages = shared.gateway.watch(from).await?;
    while let Some(message) = messages.next().await? {
        let Message {
            canceled,
            compact_revision,
            events,
            ..
        } = message;
        if compact_revision > Revision(0) {
            return Err(Error::Compacted {
                requested: from,
                oldest: compact_revision,
            });
        }
        if canceled {
            return Ok(());
        }
        let Some(revision) = events.last().map(|event| event.kv.modified) else {
            continue;
        };
        let mut index = shared.index.write();
        for seen in events {
            apply(shared, &mut index, seen);
        }
        index.advance(revision);
        drop(index);
        shared.applied.send_replace(revision);
    }
    Ok(())
}

fn apply(shared: &Shared, index: &mut Index, seen: Seen) {
    let revision = seen.kv.modified;
    let Some(key) = seen.kv.key.strip_prefix(PREFIX) else {
        return;
    };
    if revision <= index.revision() {
        tracing::error!(key, %revision, "etcd changed two keys at once; Corvus never does");
        return;
    }
    let previous = index.get(key).cloned();
    let (kind, entry) = if seen.kind == "DELETE" {
        let before = seen.prev_kv.unwrap_or_default();
        let Some(bytes) = last_state(shared, key, before.modified, revision)
            .or_else(|| unpack(&before.value, revision))
        else {
            return;
        };
        let gone = Entry::new(key.into(), before.created, revision, bytes);
        (EventKind::Deleted, gone)
    } else {
        let Some(entry) = entry(&seen.kv) else {
            return;
        };
        let kind = match previous {
            Some(_) => EventKind::Updated,
            None => EventKind::Created,
        };
        (kind, entry)
    };
    index.apply(Arc::new(Event {
        kind,
        entry: Arc::new(entry),
        previous,
    }));
}

/// The last state of what this process deletes itself.
fn last_state(shared: &Shared, key: &str, before: Revision, at: Revision) -> Option<Bytes> {
    let states = shared.last_states.lock();
    let (_, _, document) = states
        .iter()
        .find(|(own, revision, _)| &**own == key && *revision == before)?;
    Some(document.clone().finish(at))
}
