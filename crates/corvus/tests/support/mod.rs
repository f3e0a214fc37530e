//! A `corvus up` of one test, and unmodified clients of it.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The program under test.
pub const CORVUS: &str = env!("CARGO_BIN_EXE_corvus");

/// How long anything may take; far more than it does.
const LIMIT: Duration = Duration::from_mins(1);

/// Runs a command to its end; gives its exit code and what it printed.
pub fn corvus(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(CORVUS)
        .args(arguments)
        .output()
        .expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    (output.status.code(), stdout, stderr)
}

/// A running `corvus up`.
pub struct Running {
    child: Child,
    folder: PathBuf,
}

impl Running {
    /// Starts one on a free port, with its data in `folder`, and waits until it is ready.
    pub fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(CORVUS)
            .args(["up", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(folder)
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let first = lines
            .next()
            .expect("it says when it is ready")
            .expect("text");
        assert!(
            first.starts_with("ready in ") && first.ends_with(" ms"),
            "{first}"
        );
        Self {
            child,
            folder: folder.to_owned(),
        }
    }

    /// The kubeconfig it wrote.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it at once, as `kill -9` does.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ended");
    }

    /// Asks it to end, and gives its exit code.
    pub fn terminate(mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        let asked = Command::new("kill")
            .args(["-TERM", &id])
            .status()
            .expect("kill");
        assert!(asked.success());
        self.child.wait().expect("it ended").code()
    }

    /// Runs kubectl on it.
    pub fn kubectl(&self, arguments: &[&str]) -> Output {
        self.kubectl_with(arguments, "")
    }

    /// Runs kubectl on it with text on stdin.
    pub fn kubectl_with(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new("kubectl")
            .env("KUBECONFIG", self.kubeconfig())
            // Discovery is cached by address, and addresses are used again.
            .env("KUBECACHEDIR", self.folder.join("kube-cache"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl is installed (see .ci/run)");
        child
            .stdin
            .take()
            .expect("piped")
            .write_all(input.as_bytes())
            .expect("it reads");
        child.wait_with_output().expect("kubectl ends")
    }

    /// Runs kubectl, which must succeed; gives what it printed.
    pub fn must(&self, arguments: &[&str]) -> String {
        let output = self.kubectl(arguments);
        assert!(
            output.status.success(),
            "kubectl {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Applies a manifest that is text.
    pub fn apply(&self, manifest: &str) {
        let output = self.kubectl_with(&["apply", "-f", "-"], manifest);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Repeats a kubectl command until what it prints is as wanted; gives that.
    pub fn until(&self, arguments: &[&str], wanted: impl Fn(&str) -> bool) -> String {
        self.until_within(LIMIT, arguments, wanted)
    }

    /// The same for what takes long by itself.
    pub fn until_within(
        &self,
        limit: Duration,
        arguments: &[&str],
        wanted: impl Fn(&str) -> bool,
    ) -> String {
        let started = Instant::now();
        loop {
            let output = self.kubectl(arguments);
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if output.status.success() && wanted(&text) {
                return text;
            }
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(
                started.elapsed() < limit,
                "waited in vain for kubectl {}: {text}{said}",
                arguments.join(" ")
            );
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Repeats `probe` until it gives a value.
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(started.elapsed() < LIMIT, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a program is there; says by name what is skipped where it is not.
pub fn has(program: &str, test: &str) -> bool {
    let found = Command::new(program).arg("version").output().is_ok();
    if !found {
        println!("SKIPPED {test}: {program} is not installed");
    }
    found
}

/// A folder of the recorded cases; says by name what is skipped where they are not there.
pub fn cases(name: &str, test: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/cases")
        .join(name);
    if !folder.is_dir() {
        println!("SKIPPED {test}: shared/cases/{name} is not beside this checkout");
        return None;
    }
    Some(folder)
}
