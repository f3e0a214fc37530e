//! The crash test: a writer process is killed at random points, and what it had acknowledged must be
//! there when the store is opened again.
//!
//! The test starts itself as the writer (`crash writer FILE SEED`). The writer runs several tasks, each
//! on keys of its own; it prints `start` before and `done` after each write, so the parent knows for
//! every key the last acknowledged value and the one value that may or may not have made it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::StdRng};
use store::{
    Change, Document, EmbeddedOptions, Expect, LocalStore, Revision, Store, Write, open_embedded,
};

const KILLS: u64 = 200;
const TASKS: usize = 8;
const KEYS_PER_TASK: usize = 5;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("writer") => writer(
            Path::new(&arguments[2]),
            arguments[3].parse().expect("a seed"),
        ),
        // `cargo test -- --list` and friends ask every test binary.
        Some("--list") => println!("crash: test"),
        _ => parent(),
    }
}

fn open(path: &Path) -> LocalStore {
    open_embedded(&EmbeddedOptions {
        path: path.to_owned(),
    })
    .expect("opens after a kill")
}

/// What is at a key: `None` is "not there".
type Content = Option<String>;

/// What the parent knows of a key.
#[derive(Default, Clone)]
struct Known {
    acknowledged: Content,
    /// A write that was started and never acknowledged.
    attempted: Option<Attempt>,
}

#[derive(Clone, Debug, PartialEq)]
struct Attempt(Content);

fn parent() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.redb");
    let seed: u64 = rand::rng().random();
    println!("crash: {KILLS} kills, seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut known: BTreeMap<String, Known> = BTreeMap::new();
    let (mut revision, mut acknowledged) = (Revision(0), 0);
    for round in 0..KILLS {
        let mut numbers = BTreeSet::new();
        acknowledged += kill_a_writer(
            &path,
            random.random(),
            &mut random,
            &mut known,
            &mut numbers,
        );
        assert!(
            numbers.first().is_none_or(|first| *first > revision.0),
            "round {round}: revision {:?} was used before, up to {revision}",
            numbers.first()
        );
        let store = open(&path);
        assert!(
            numbers
                .last()
                .is_none_or(|last| store.revision().0 >= *last),
            "round {round}: an acknowledged revision is gone"
        );
        assert!(
            store.revision() >= revision,
            "round {round}: revisions went back"
        );
        revision = store.revision();
        for (key, known) in &mut known {
            let found = store
                .get(key)
                .map(|e| String::from_utf8_lossy(e.bytes()).into_owned());
            let attempted = known.attempted.take();
            assert!(
                found == known.acknowledged || Some(Attempt(found.clone())) == attempted,
                "round {round}, {key}: found {found:?}, acknowledged {:?}, attempted {attempted:?}",
                known.acknowledged,
            );
            known.acknowledged = found;
        }
    }
    assert!(
        acknowledged > KILLS,
        "the writers hardly wrote: {acknowledged}"
    );
    println!("crash: ok, {acknowledged} acknowledged writes survived {KILLS} kills");
}

/// Starts a writer, kills it after a random number of acknowledgements, and notes what it said.
fn kill_a_writer(
    path: &Path,
    seed: u64,
    random: &mut StdRng,
    known: &mut BTreeMap<String, Known>,
    numbers: &mut BTreeSet<u64>,
) -> u64 {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["writer", &path.display().to_string(), &seed.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the writer starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let limit = random.random_range(1..400);
    let delay = Duration::from_micros(random.random_range(0..700));
    let mut acknowledged = 0;
    for line in lines.map_while(Result::ok) {
        note(&line, known, numbers, &mut acknowledged);
        if acknowledged == limit {
            // Somewhere within the next commit, not always at its start.
            std::thread::sleep(delay);
            child.kill().expect("it runs");
        }
    }
    child.wait().expect("it ended");
    acknowledged
}

fn note(
    line: &str,
    known: &mut BTreeMap<String, Known>,
    numbers: &mut BTreeSet<u64>,
    acknowledged: &mut u64,
) {
    let words: Vec<&str> = line.split(' ').collect();
    // A line cut off by the kill is no acknowledgement.
    let [what, key, value, number, "."] = words.as_slice() else {
        return;
    };
    let (what, key, value) = (*what, *key, *value);
    let value = (value != "-").then(|| value.to_owned());
    let entry = known.entry(key.to_owned()).or_default();
    match what {
        "start" => entry.attempted = Some(Attempt(value)),
        "done" => {
            entry.attempted = None;
            entry.acknowledged = value;
            *acknowledged += 1;
            let number = number.parse().expect("a revision");
            assert!(numbers.insert(number), "revision {number} was given twice");
        }
        other => panic!("the writer said {other}"),
    }
}

fn say(what: &str, key: &str, value: Option<&str>, revision: Revision) {
    let mut out = std::io::stdout().lock();
    // One write per line, flushed: what the parent reads is what happened before the kill.
    let line = format!("{what} {key} {} {revision} .\n", value.unwrap_or("-"));
    if out
        .write_all(line.as_bytes())
        .and_then(|()| out.flush())
        .is_err()
    {
        std::process::exit(0);
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn writer(path: &Path, seed: u64) {
    let store = Arc::new(open(path));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| tokio::spawn(write_forever(store.clone(), task, seed ^ task as u64)))
        .collect();
    for task in tasks {
        task.await.expect("the writer never ends by itself");
    }
}

async fn write_forever(store: Arc<LocalStore>, task: usize, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    loop {
        let key: Arc<str> = format!("//t{task}/{}", random.random_range(0..KEYS_PER_TASK)).into();
        let current = store.get(&key).map(|entry| entry.revision());
        let value = format!(
            "{:x}{}",
            random.random::<u64>(),
            "x".repeat(random.random_range(0..900))
        );
        let expect = current.map_or(Expect::Absent, Expect::Revision);
        let (change, value) = if current.is_some() && random.random_bool(0.2) {
            (Change::Delete(Document::plain(Vec::new())), None)
        } else {
            (
                Change::Put(Document::plain(value.clone().into_bytes())),
                Some(value),
            )
        };
        say("start", &key, value.as_deref(), Revision(0));
        let written = store
            .commit(Write {
                key: key.clone(),
                expect,
                change,
            })
            .await
            .expect("only I write it");
        say("done", &key, value.as_deref(), written.revision());
    }
}
