//! The API server under load, whichever it is: writes, reads, lists and watches of ConfigMaps.
//!
//! Every phase sends the same requests to any Kubernetes server over as many connections as there are
//! clients, and says how many a second were answered and how long they took. Nothing is parsed here, so
//! that what is measured is the server.

mod client;
pub mod crowd;
mod load;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use crate::machine::{ms, weight};
use client::Target;
use load::{Load, Report, Step};

/// The arguments of `corvus-bench api`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The server, such as `https://127.0.0.1:6443`.
    #[arg(long)]
    server: String,
    /// The bearer token of an administrator.
    #[arg(long)]
    token: String,
    /// How many ConfigMaps.
    #[arg(long, default_value_t = 5_000)]
    objects: usize,
    /// Bytes of data in each.
    #[arg(long, default_value_t = 1_024)]
    bytes: usize,
    /// How many clients, each with a connection of its own.
    #[arg(long, default_value_t = 32)]
    clients: usize,
    /// How many full lists, and ten times as many by label.
    #[arg(long, default_value_t = 60)]
    lists: usize,
    /// How many watchers the fan-out has.
    #[arg(long, default_value_t = 20)]
    watchers: usize,
    /// The namespace, made where it is missing and emptied at the end.
    #[arg(long, default_value = "corvus-bench")]
    namespace: String,
    /// The processes to weigh: the server's, and etcd's where it has one.
    #[arg(long)]
    pid: Vec<u32>,
    /// Leave the objects there.
    #[arg(long)]
    keep: bool,
}

/// Objects carry one of so many labels.
const GROUPS: usize = 50;
const LIST_CLIENTS: usize = 4;
const JSON: &str = "application/json";

struct Bench<'a> {
    arguments: &'a Arguments,
    target: Target,
    collection: String,
    phases: BTreeMap<&'static str, Value>,
}

/// Runs all phases.
pub async fn run(arguments: &Arguments) -> anyhow::Result<Value> {
    let target = Target::new(&arguments.server, &arguments.token)?;
    let namespace = &arguments.namespace;
    let mut bench = Bench {
        arguments,
        target,
        collection: format!("/api/v1/namespaces/{namespace}/configmaps"),
        phases: BTreeMap::new(),
    };
    bench.prepare().await?;
    bench.writes_and_reads().await?;
    bench.lists().await?;
    bench.fan_out().await?;
    let (mut resident, mut used) = (0.0, Duration::ZERO);
    for process in &arguments.pid {
        let (own, cpu) = weight(*process)?;
        resident += own;
        used += cpu;
    }
    if !arguments.keep {
        bench.deletes().await?;
    }
    let mut line = json!({
        "bench": "api",
        "server": arguments.server,
        "objects": arguments.objects,
        "bytes": arguments.bytes,
        "clients": arguments.clients,
        "phases": bench.phases,
    });
    if !arguments.pid.is_empty() {
        line["resident_mib"] = json!(resident);
        line["cpu_seconds"] = json!(used.as_secs_f64());
    }
    Ok(line)
}

impl Bench<'_> {
    async fn prepare(&self) -> anyhow::Result<()> {
        let mut connection = self.target.connect().await?;
        let namespace = &self.arguments.namespace;
        let path = format!("/api/v1/namespaces/{namespace}");
        let there = connection.send(&Method::GET, &path, "", Bytes::new()).await;
        if there.is_err() {
            let body = json!({"metadata": {"name": namespace}}).to_string();
            connection
                .send(&Method::POST, "/api/v1/namespaces", JSON, body.into())
                .await
                .context("making the namespace")?;
        }
        connection
            .send(&Method::DELETE, &self.collection, "", Bytes::new())
            .await
            .context("emptying the namespace")?;
        Ok(())
    }

    fn note(&mut self, name: &'static str, report: &Report) {
        eprintln!("{name}: {:.0}/s", report.rate());
        self.phases.insert(
            name,
            json!({
                "per_second": report.rate().round(),
                "p50_ms": ms(report.percentile(0.5)),
                "p99_ms": ms(report.percentile(0.99)),
                "bytes": report.bytes / report.count().max(1),
            }),
        );
    }

    async fn phase(
        &mut self,
        name: &'static str,
        count: usize,
        clients: usize,
        step: impl Fn(usize) -> Step + Send + Sync,
    ) -> anyhow::Result<()> {
        let load = Load { count, clients };
        let report = load.run(&self.target, &step).await.context(name)?;
        self.note(name, &report);
        Ok(())
    }

    async fn writes_and_reads(&mut self) -> anyhow::Result<()> {
        let Arguments {
            objects,
            bytes,
            clients,
            ..
        } = *self.arguments;
        let collection = self.collection.clone();
        let item = |number: usize| format!("{collection}/bench-{number}");
        let filling = "x".repeat(bytes);
        let create = |number: usize| {
            let body = json!({
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {
                    "name": format!("bench-{number}"),
                    "labels": {"group": format!("g{}", number % GROUPS)},
                },
                "data": {"text": filling},
            });
            Step::new(Method::POST, collection.clone(), JSON, body.to_string())
        };
        self.phase("create", objects, clients, create).await?;
        let get =
            |number: usize| Step::new(Method::GET, item(number * 7 % objects), "", String::new());
        self.phase("get", objects * 2, clients, get).await?;
        let patch = |number: usize| {
            let body = json!({"data": {"count": number.to_string()}}).to_string();
            Step::new(
                Method::PATCH,
                item(number),
                "application/merge-patch+json",
                body,
            )
        };
        self.phase("merge-patch", objects, clients, patch).await?;
        let apply = |number: usize| {
            let body = json!({
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": format!("bench-{number}")},
                "data": {"applied": number.to_string()},
            });
            let path = format!(
                "{}?fieldManager=corvus-bench-apply&force=true",
                item(number)
            );
            Step::new(
                Method::PATCH,
                path,
                "application/apply-patch+yaml",
                body.to_string(),
            )
        };
        self.phase("apply", objects, clients, apply).await
    }

    async fn lists(&mut self) -> anyhow::Result<()> {
        let lists = self.arguments.lists;
        let collection = self.collection.clone();
        let full = |_| Step::new(Method::GET, collection.clone(), "", String::new());
        self.phase("list", lists, LIST_CLIENTS, full).await?;
        let labelled = |number: usize| {
            let path = format!("{collection}?labelSelector=group%3Dg{}", number % GROUPS);
            Step::new(Method::GET, path, "", String::new())
        };
        let clients = self.arguments.clients;
        self.phase("list-by-label", lists * 10, clients, labelled)
            .await
    }

    async fn fan_out(&mut self) -> anyhow::Result<()> {
        let watchers = self.arguments.watchers;
        let count = self.arguments.objects;
        // The label keeps out what the cluster itself puts into a namespace.
        let path = format!(
            "{}?watch=true&resourceVersion=0&labelSelector=group",
            self.collection
        );
        // Every watcher is first sent what is there.
        let watching = load::watch(&self.target, &path, watchers, count, count * 2).await?;
        let collection = self.collection.clone();
        let change = |number: usize| {
            let body = json!({"data": {"round": number.to_string()}}).to_string();
            let path = format!("{collection}/bench-{number}");
            Step::new(Method::PATCH, path, "application/merge-patch+json", body)
        };
        let load = Load {
            count,
            clients: self.arguments.clients,
        };
        let started = std::time::Instant::now();
        let report = load.run(&self.target, &change).await.context("fan-out")?;
        watching.wait().await?;
        let taken = started.elapsed();
        let rate = (count * watchers) as f64 / taken.as_secs_f64();
        eprintln!("fan-out: {rate:.0} events/s");
        self.phases.insert(
            "fan-out",
            json!({
                "events_per_second": rate.round(),
                "watchers": watchers,
                "writes_per_second": report.rate().round(),
            }),
        );
        Ok(())
    }

    async fn deletes(&mut self) -> anyhow::Result<()> {
        let collection = self.collection.clone();
        let delete = |number: usize| {
            let path = format!("{collection}/bench-{number}");
            Step::new(Method::DELETE, path, "", String::new())
        };
        let (objects, clients) = (self.arguments.objects, self.arguments.clients);
        self.phase("delete", objects, clients, delete).await
    }
}
