//! Every engine of this crate passes the conformance suite, and the embedded one remembers.

use store::{
    Change, Document, EmbeddedOptions, Error, Expect, ListOptions, LocalStore, Store, Write,
    conformance, memory, open_embedded,
};

fn open(folder: &tempfile::TempDir, name: &str) -> LocalStore {
    open_embedded(&EmbeddedOptions {
        path: folder.path().join(name),
    })
    .expect("opens")
}

fn put(key: &str, text: &str) -> Write {
    let change = Change::Put(Document::plain(text.as_bytes().to_vec()));
    Write {
        key: key.into(),
        expect: Expect::Absent,
        change,
    }
}

#[tokio::test]
async fn the_memory_engine_conforms() {
    conformance::run(memory).await;
}

#[tokio::test]
async fn the_embedded_engine_conforms() {
    let folder = tempfile::tempdir().expect("a folder");
    let count = std::cell::Cell::new(0);
    conformance::run(|| {
        count.set(count.get() + 1);
        open(&folder, &format!("{}.redb", count.get()))
    })
    .await;
}

#[tokio::test]
async fn the_embedded_engine_remembers_entries_and_the_revision() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder, "store.redb");
    let entry = store.commit(put("//pods/a", "1")).await.expect("fresh");
    let gone = store.commit(put("//pods/b", "2")).await.expect("fresh");
    let change = Change::Delete(Document::plain(Vec::new()));
    let expect = Expect::Revision(gone.revision());
    store
        .commit(Write {
            key: "//pods/b".into(),
            expect,
            change,
        })
        .await
        .expect("current");
    let revision = store.revision();
    drop(store);

    let store = open(&folder, "store.redb");
    assert_eq!(
        store.revision(),
        revision,
        "a deletion's revision is not reused"
    );
    let again = store.get("//pods/a").expect("kept");
    assert_eq!(again.revision(), entry.revision());
    assert_eq!(again.bytes(), entry.bytes());
    assert_eq!(
        store
            .list("//pods/", &ListOptions::default())
            .expect("now")
            .entries
            .len(),
        1
    );
    assert!(matches!(
        store.watch("//pods/", entry.revision()),
        Err(Error::Compacted { .. })
    ));
}

#[tokio::test]
async fn a_closed_store_refuses_writes() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder, "store.redb");
    store.close();
    assert!(matches!(
        store.commit(put("//pods/a", "1")).await,
        Err(Error::Closed)
    ));
}

#[test]
fn a_store_that_is_open_cannot_be_opened_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let _store = open(&folder, "store.redb");
    let again = open_embedded(&EmbeddedOptions {
        path: folder.path().join("store.redb"),
    });
    assert!(matches!(again, Err(Error::InUse(_))), "{:?}", again.err());
}
