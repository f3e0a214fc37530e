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

/// Flips one bit at many places of a file: it is found, or what it has hit is not used.
#[tokio::test]
async fn damage_is_found_and_never_served() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.redb");
    let store = open(&folder, "store.redb");
    for number in 0..200 {
        let text = format!("{number} {}", "x".repeat(500));
        let key = format!("//pods/{number:04}");
        store.commit(put(&key, &text)).await.expect("fresh");
    }
    let expected = store.list("//pods/", &ListOptions::default()).expect("now");
    store.close();
    drop(store);
    let whole = std::fs::read(&path).expect("closed");
    let (mut found, mut harmless) = (0, 0);
    for place in (0..whole.len()).step_by(whole.len() / 400 + 1) {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x04;
        let path = folder.path().join("damaged.redb");
        std::fs::write(&path, &damaged).expect("written");
        match open_embedded(&EmbeddedOptions { path: path.clone() }) {
            Ok(store) => {
                let listing = store.list("//pods/", &ListOptions::default()).expect("now");
                assert_eq!(listing.entries.len(), expected.entries.len(), "at {place}");
                for (one, other) in listing.entries.iter().zip(&expected.entries) {
                    assert_eq!(one.bytes(), other.bytes(), "at {place}");
                }
                harmless += 1;
            }
            Err(error) => {
                let name = path.display().to_string();
                let told = error.to_string().contains(&name) || matches!(error, Error::Disk { .. });
                assert!(told, "at {place}: {error}");
                found += 1;
            }
        }
        let _ = std::fs::remove_file(&path);
    }
    assert!(found > 20, "{found} found, {harmless} harmless");
}

/// A file that was cut off, at its end or in the middle.
#[tokio::test]
async fn a_file_that_is_cut_off_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.redb");
    let store = open(&folder, "store.redb");
    for number in 0..50 {
        let key = format!("//pods/{number}");
        store
            .commit(put(&key, &"x".repeat(2_000)))
            .await
            .expect("fresh");
    }
    store.close();
    drop(store);
    let whole = std::fs::read(&path).expect("closed");
    for part in [1, 2, 3] {
        let cut = folder.path().join(format!("cut-{part}.redb"));
        std::fs::write(&cut, &whole[..whole.len() * part / 4]).expect("written");
        let opened = open_embedded(&EmbeddedOptions { path: cut.clone() });
        if let Ok(store) = opened {
            let listing = store.list("//pods/", &ListOptions::default()).expect("now");
            assert_eq!(listing.entries.len(), 50, "{part} quarters");
        }
    }
}

#[tokio::test]
async fn a_backup_of_a_running_store_is_restored_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder, "store.redb");
    for number in 0..100 {
        let key = format!("//pods/{number}");
        store.commit(put(&key, "before")).await.expect("fresh");
    }
    let snapshot = store.snapshot();
    let revision = store.revision();
    store
        .commit(put("//pods/later", "after"))
        .await
        .expect("it goes on");
    let mut written = Vec::new();
    store::backup::write(snapshot, &mut written).expect("to memory");
    let path = folder.path().join("restored.redb");
    let told = store::backup::restore(&mut written.as_slice(), &path).expect("whole");
    assert_eq!(told, revision);
    let restored = open(&folder, "restored.redb");
    assert_eq!(restored.revision(), revision);
    assert_eq!(restored.count("//pods/"), 100);
    assert!(restored.get("//pods/later").is_none());
    let again = store::backup::restore(&mut written.as_slice(), &path);
    assert!(again.is_err(), "nothing is overwritten");
}

#[test]
fn a_store_file_that_was_emptied_is_not_taken_for_a_new_one() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(open(&folder, "store.redb"));
    let path = folder.path().join("store.redb");
    std::fs::write(&path, b"").expect("writable");
    let refused = open_embedded(&EmbeddedOptions { path });
    assert!(matches!(refused, Err(Error::Corrupt { .. })), "{refused:?}");
}
