//! What every engine promises, as one suite: each engine's tests call [`run`] with a way to open a
//! fresh store.
//!
//! Public so that engines of other crates can run it. The functions panic where a promise is broken.

use std::sync::Arc;

use crate::{Change, Document, Error, EventKind, Expect, ListOptions, Revision, Store, Write};

/// Runs the whole suite; `fresh` opens an empty store.
pub async fn run<S: Store>(fresh: impl Fn() -> S) {
    writes_are_conditional(&fresh()).await;
    revisions_grow_by_one_and_stand_in_the_document(&fresh()).await;
    lists_are_ordered_and_paged(&fresh()).await;
    lists_answer_for_the_past(&fresh()).await;
    watches_see_every_change_once_and_in_order(&fresh()).await;
    compaction_forgets(&fresh()).await;
    concurrent_writers_never_lose_an_update(Arc::new(fresh())).await;
}

fn put(key: &str, expect: Expect, text: &str) -> Write {
    let bytes = format!("{text}@").into_bytes();
    let gap = bytes.len();
    Write {
        key: key.into(),
        expect,
        change: Change::Put(Document::with_gap(bytes, gap)),
    }
}

fn delete(key: &str, at: Revision) -> Write {
    let change = Change::Delete(Document::plain(b"last".to_vec()));
    Write {
        key: key.into(),
        expect: Expect::Revision(at),
        change,
    }
}

async fn must_put(store: &impl Store, key: &str, expect: Expect, text: &str) -> Revision {
    store
        .commit(put(key, expect, text))
        .await
        .expect("the condition holds")
        .revision()
}

async fn writes_are_conditional(store: &impl Store) {
    let first = must_put(store, "//pods/a", Expect::Absent, "1").await;
    let taken = store.commit(put("//pods/a", Expect::Absent, "2")).await;
    match taken {
        Err(Error::Conflict {
            current: Some(current),
            ..
        }) => {
            assert_eq!(current.revision(), first, "a conflict shows what is there");
        }
        other => panic!("creating twice must conflict, got {other:?}"),
    }
    let second = must_put(store, "//pods/a", Expect::Revision(first), "2").await;
    let stale = store
        .commit(put("//pods/a", Expect::Revision(first), "3"))
        .await;
    assert!(
        matches!(stale, Err(Error::Conflict { .. })),
        "a stale update must conflict"
    );
    let stale = store.commit(delete("//pods/a", first)).await;
    assert!(
        matches!(stale, Err(Error::Conflict { .. })),
        "a stale delete must conflict"
    );
    let gone = store
        .commit(delete("//pods/a", second))
        .await
        .expect("current");
    assert_eq!(gone.bytes().as_ref(), b"last");
    assert!(store.get("//pods/a").is_none());
    let missing = store.commit(delete("//pods/a", second)).await;
    assert!(matches!(
        missing,
        Err(Error::Conflict { current: None, .. })
    ));
}

async fn revisions_grow_by_one_and_stand_in_the_document(store: &impl Store) {
    let first = must_put(store, "//pods/a", Expect::Absent, "x").await;
    let second = must_put(store, "/apps/deployments/b", Expect::Absent, "y").await;
    assert_eq!(second, first.next());
    assert_eq!(store.revision(), second);
    let entry = store.get("//pods/a").expect("there");
    assert_eq!(entry.bytes().as_ref(), format!("x@{first}").as_bytes());
    let third = must_put(store, "//pods/a", Expect::Revision(first), "x").await;
    let entry = store.get("//pods/a").expect("there");
    assert_eq!((entry.created(), entry.revision()), (first, third));
}

async fn lists_are_ordered_and_paged(store: &impl Store) {
    for name in ["c", "a", "b"] {
        must_put(store, &format!("//pods/x/{name}"), Expect::Absent, name).await;
    }
    must_put(store, "//pods/y/a", Expect::Absent, "other namespace").await;
    must_put(
        store,
        "//podtemplates/x/a",
        Expect::Absent,
        "other resource",
    )
    .await;
    let keys = |options: &ListOptions, prefix: &str| {
        let listing = store.list(prefix, options).expect("current");
        let keys: Vec<String> = listing
            .entries
            .iter()
            .map(|e| e.key().to_string())
            .collect();
        (keys, listing.remaining)
    };
    let all = ListOptions::default();
    assert_eq!(keys(&all, "//pods/").0.len(), 4);
    assert_eq!(
        keys(&all, "//pods/x/").0,
        ["//pods/x/a", "//pods/x/b", "//pods/x/c"]
    );
    assert_eq!(store.count("//pods/"), 4);
    assert_eq!(store.count("//pods/x/"), 3);
    let page = ListOptions {
        limit: Some(2),
        ..ListOptions::default()
    };
    assert_eq!(
        keys(&page, "//pods/x/"),
        (vec!["//pods/x/a".into(), "//pods/x/b".into()], 1)
    );
    let rest = ListOptions {
        after: Some("//pods/x/b".into()),
        ..ListOptions::default()
    };
    assert_eq!(keys(&rest, "//pods/x/"), (vec!["//pods/x/c".into()], 0));
    assert_eq!(keys(&all, "//nothing/").0.len(), 0);
}

async fn lists_answer_for_the_past(store: &impl Store) {
    let a = must_put(store, "//pods/a", Expect::Absent, "a1").await;
    let b = must_put(store, "//pods/b", Expect::Absent, "b1").await;
    must_put(store, "//pods/a", Expect::Revision(a), "a2").await;
    store.commit(delete("//pods/b", b)).await.expect("current");
    must_put(store, "//pods/c", Expect::Absent, "c1").await;
    let texts = |at: Revision| -> Vec<String> {
        let options = ListOptions {
            at: Some(at),
            ..ListOptions::default()
        };
        let listing = store.list("//pods/", &options).expect("in the window");
        assert_eq!(listing.revision, at);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        listing.entries.iter().map(|e| text(e.bytes())).collect()
    };
    assert_eq!(texts(a), [format!("a1@{a}")]);
    assert_eq!(texts(b), [format!("a1@{a}"), format!("b1@{b}")]);
    assert_eq!(texts(store.revision()).len(), 2);
    let ahead = ListOptions {
        at: Some(store.revision().next()),
        ..ListOptions::default()
    };
    assert!(matches!(
        store.list("//pods/", &ahead),
        Err(Error::Future { .. })
    ));
}

async fn watches_see_every_change_once_and_in_order(store: &impl Store) {
    let start = must_put(store, "//pods/x/a", Expect::Absent, "1").await;
    let mut all = store.watch("//pods/", start).expect("in the window");
    let mut other = store.watch("//pods/y/", start).expect("in the window");
    let second = must_put(store, "//pods/x/a", Expect::Revision(start), "2").await;
    let elsewhere = must_put(store, "//pods/y/b", Expect::Absent, "3").await;
    store
        .commit(delete("//pods/x/a", second))
        .await
        .expect("current");
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.extend(all.next().await.expect("in the window"));
    }
    let kinds: Vec<EventKind> = seen.iter().map(|event| event.kind).collect();
    assert_eq!(
        kinds,
        [EventKind::Updated, EventKind::Created, EventKind::Deleted]
    );
    assert!(
        seen.windows(2)
            .all(|pair| pair[0].revision() < pair[1].revision())
    );
    let previous = seen[2].previous.as_ref().expect("a deletion has a past");
    assert_eq!(previous.revision(), second);
    assert!(
        all.poll_now().expect("in the window").is_empty(),
        "nothing is seen twice"
    );
    assert_eq!(all.position(), store.revision());
    let events = other.next().await.expect("in the window");
    assert_eq!(events.len(), 1, "only what is below the prefix");
    assert_eq!(events[0].revision(), elsewhere);
}

async fn compaction_forgets(store: &impl Store) {
    let first = must_put(store, "//pods/a", Expect::Absent, "1").await;
    let second = must_put(store, "//pods/a", Expect::Revision(first), "2").await;
    store.compact(second);
    let past = ListOptions {
        at: Some(first),
        ..ListOptions::default()
    };
    assert!(matches!(
        store.list("//pods/", &past),
        Err(Error::Compacted { .. })
    ));
    assert!(matches!(
        store.list("//never/", &past),
        Err(Error::Compacted { .. })
    ));
    assert!(matches!(
        store.watch("//pods/", first),
        Err(Error::Compacted { .. })
    ));
    store
        .watch("//pods/", second)
        .expect("the present is never compacted");
    assert_eq!(
        store
            .list("//pods/", &ListOptions::default())
            .expect("now")
            .entries
            .len(),
        1
    );
}

async fn concurrent_writers_never_lose_an_update<S: Store>(store: Arc<S>) {
    const WRITERS: usize = 8;
    const INCREMENTS: usize = 25;
    let bytes = Document::plain(b"0".to_vec());
    let write = Write {
        key: "//counters/a".into(),
        expect: Expect::Absent,
        change: Change::Put(bytes),
    };
    store.commit(write).await.expect("fresh");
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| tokio::spawn(increment(store.clone(), INCREMENTS)))
        .collect();
    for writer in writers {
        writer.await.expect("no panic");
    }
    let entry = store.get("//counters/a").expect("there");
    let total: usize = String::from_utf8_lossy(entry.bytes())
        .parse()
        .expect("a number");
    assert_eq!(total, WRITERS * INCREMENTS);
}

async fn increment(store: Arc<impl Store>, times: usize) {
    for _ in 0..times {
        loop {
            let entry = store.get("//counters/a").expect("there");
            let count: usize = String::from_utf8_lossy(entry.bytes())
                .parse()
                .expect("a number");
            let document = Document::plain((count + 1).to_string().into_bytes());
            let write = Write {
                key: entry.key().clone(),
                expect: Expect::Revision(entry.revision()),
                change: Change::Put(document),
            };
            match store.commit(write).await {
                Ok(_) => break,
                Err(Error::Conflict { .. }) => tokio::task::yield_now().await,
                Err(other) => panic!("only conflicts may happen, got {other}"),
            }
        }
    }
}
