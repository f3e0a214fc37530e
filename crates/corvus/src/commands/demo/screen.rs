//! How the demo is shown: a tree that fills in on a terminal, plain lines elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Prints a line. Nobody listening any more is no reason to fail: `corvus demo | head` is fine.
macro_rules! say {
    ($($text:tt)*) => {{
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

/// How far one node of a graph is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeState {
    /// Nothing is there yet.
    Waiting,
    /// Its object is there.
    Applied(String),
    /// Its object is ready.
    Ready(String),
}

/// Where the demo is shown.
pub struct Screen {
    live: Option<MultiProgress>,
    lines: Vec<ProgressBar>,
    labels: Vec<String>,
    shown: Vec<NodeState>,
    colour: bool,
}

impl Screen {
    /// A screen on stdout.
    pub fn new() -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self {
            live: terminal.then(MultiProgress::new),
            lines: Vec::new(),
            labels: Vec::new(),
            shown: Vec::new(),
            colour: terminal && std::env::var_os("NO_COLOR").is_none(),
        }
    }

    fn print(&self, line: &str) {
        match &self.live {
            // The tree is not torn by what is printed above it.
            Some(live) => live.suspend(|| say!("{line}")),
            None => say!("{line}"),
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    /// A step that is over, and how long it took.
    pub fn done(&self, what: &str, taken: Duration) {
        let time = format!("{:>7.1} ms", taken.as_secs_f64() * 1_000.0);
        self.print(&format!("{}  {what}", self.paint("32", &time)));
    }

    /// Something to know.
    pub fn note(&self, text: &str) {
        self.print(&format!("            {}", self.paint("2", text)));
    }

    /// Begins a tree: a root and its nodes with their kinds.
    pub fn tree(&mut self, root: &str, nodes: &[(&str, &str)]) {
        self.print(&format!("            {root}"));
        self.shown = vec![NodeState::Waiting; nodes.len()];
        self.labels = nodes
            .iter()
            .enumerate()
            .map(|(index, (id, kind))| {
                let branch = if index + 1 == nodes.len() {
                    "└─"
                } else {
                    "├─"
                };
                format!("{branch} {id:<8} {kind:<11}")
            })
            .collect();
        if let Some(live) = &self.live {
            let style = ProgressStyle::with_template("            {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            self.lines = self
                .labels
                .iter()
                .map(|label| {
                    let line = live.add(ProgressBar::new(1).with_style(style.clone()));
                    line.set_message(format!("{label} waiting"));
                    line
                })
                .collect();
        }
    }

    /// Shows how far the nodes are; what has not changed is not shown again.
    pub fn nodes(&mut self, states: &[NodeState]) {
        for (index, state) in states.iter().enumerate() {
            if self.shown.get(index) == Some(state) {
                continue;
            }
            let Some(label) = self.labels.get(index) else {
                continue;
            };
            let text = match state {
                NodeState::Waiting => format!("{label} waiting"),
                NodeState::Applied(detail) => {
                    format!("{label} {} {detail}", self.paint("33", "applied"))
                }
                NodeState::Ready(detail) => {
                    format!("{label} {} {detail}", self.paint("32", "ready  "))
                }
            };
            match self.lines.get(index) {
                Some(line) => line.set_message(text),
                None => say!("            {text}"),
            }
            self.shown[index] = state.clone();
        }
    }

    /// The tree stays as it is.
    pub fn end_tree(&mut self) {
        for line in self.lines.drain(..) {
            line.abandon();
        }
        self.labels.clear();
    }

    /// What to type next.
    pub fn next(kubeconfig: &Path, keeps: bool) {
        say!();
        if keeps {
            say!("The cluster goes on until Ctrl-C. In another terminal:");
            say!("  export KUBECONFIG={}", kubeconfig.display());
            say!("  kubectl get resourcegraphdefinitions");
            say!("  kubectl apply -f examples/site/instance.yaml && kubectl get site,deploy,pods");
        } else {
            say!("Next:");
            say!("  corvus up                                   # a cluster that stays");
            say!("  export KUBECONFIG=.corvus/kubeconfig");
            say!("  kubectl apply -f examples/site/rgd.yaml");
            say!("  kubectl apply -f examples/site/instance.yaml");
            say!("  kubectl get site hello -o yaml");
        }
    }
}
