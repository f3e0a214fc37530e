//! The expressions of the benchmark, the object they read, and the clock.
//!
//! Shared with the package in `compare/`, which measures another engine in the same process.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// The expressions. All read the variable `self`.
pub const EXPRESSIONS: [&str; 10] = [
    "self.spec.replicas >= 0 && self.spec.replicas <= 100",
    "self.metadata.name.startsWith('web') ? self.metadata.namespace + '/' + self.metadata.name : 'none'",
    "self.status.conditions.exists(c, c.type == 'Ready' && c.status == 'True')",
    "self.spec.containers.filter(c, c.ports.size() > 0).map(c, c.name + ':' + string(c.ports[0].containerPort))",
    "self.spec.containers.all(c, c.image.matches('^[a-z]+:[0-9.]+$'))",
    "has(self.status.readyReplicas) && self.status.readyReplicas == self.spec.replicas",
    "self.metadata.name.size() > 3 && self.metadata.name != 'default'",
    "self.spec.containers.map(c, c.name).size() == 3",
    "self.spec.replicas in [1, 2, 3, 5, 8]",
    "self.metadata.labels['app'] == 'web' || 'team' in self.metadata.labels",
];

/// The object: three containers, three conditions.
pub fn object() -> serde_json::Value {
    serde_json::json!({
        "apiVersion": "example.com/v1",
        "kind": "Web",
        "metadata": {"name": "web-1", "namespace": "shop", "labels": {"app": "web", "tier": "front"}},
        "spec": {
            "replicas": 3,
            "containers": [
                {"name": "app", "image": "nginx:1.27.0", "ports": [{"containerPort": 8080}]},
                {"name": "log", "image": "fluentbit:3.1", "ports": [{"containerPort": 2020}]},
                {"name": "proxy", "image": "envoy:1.31.2", "ports": [{"containerPort": 15001}, {"containerPort": 15090}]},
            ],
        },
        "status": {
            "readyReplicas": 3,
            "conditions": [
                {"type": "Progressing", "status": "True"},
                {"type": "Available", "status": "True"},
                {"type": "Ready", "status": "True"},
            ],
        },
    })
}

/// Time of one measurement. Several are taken and the best counts: the machine may be busy.
const MEASUREMENT: Duration = Duration::from_millis(15);
const MEASUREMENTS: usize = 7;

/// Nanoseconds one call of `work` takes.
pub fn nanoseconds<T>(mut work: impl FnMut() -> T) -> f64 {
    let mut rounds = 1_u32;
    loop {
        let elapsed = time(&mut work, rounds);
        if elapsed > MEASUREMENT / 4 {
            let wanted = MEASUREMENT.as_secs_f64() / elapsed.as_secs_f64() * f64::from(rounds);
            rounds = (wanted as u32).max(1);
            break;
        }
        rounds = rounds.saturating_mul(4);
    }
    let best = (0..MEASUREMENTS)
        .map(|_| time(&mut work, rounds))
        .min()
        .unwrap_or_default();
    best.as_secs_f64() * 1e9 / f64::from(rounds)
}

fn time<T>(work: &mut impl FnMut() -> T, rounds: u32) -> Duration {
    let start = Instant::now();
    for _ in 0..rounds {
        black_box(work());
    }
    start.elapsed()
}
