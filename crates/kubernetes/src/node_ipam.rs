//! Node IPAM: every node gets a range of addresses for its Pods, cut from the cluster's.
//!
//! [`cidrs`] knows the ranges and their blocks. What a node has been offered stays its own until the node is gone, so an
//! answer that gets lost costs nothing. All nodes are looked at before the first block is given out.
//!
//! Left out: allocators of clouds.

mod cidrs;

use std::sync::Arc;

use controller::{
    Backoff, EventRecorder, Informer, Object, ObjectKey, Outcome, Reconciler, Subresource,
    WorkQueue, enqueue,
};
use model::object;
use parking_lot::Mutex;
use serde_json::{Value, json};

use self::cidrs::{Blocks, Full};
pub use self::cidrs::{MaskSizes, NodeCidrs, NodeCidrsError};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::resources;

/// How often an assignment is written before it is told that it fails.
const ATTEMPTS: usize = 3;

/// Runs the controller.
pub async fn run(cluster: Cluster, settings: NodeCidrs) {
    let queue: WorkQueue = WorkQueue::new("nodeipam", Backoff::default());
    let nodes = cluster.informer(&resources::nodes());
    let _handler = nodes.add_handler(enqueue::object(&queue));
    let reconciler = NodeIpam {
        recorder: cluster.recorder("cidrAllocator"),
        cluster: cluster.clone(),
        nodes: nodes.clone(),
        blocks: Mutex::new(Given {
            blocks: Blocks::new(settings),
            complete: false,
        }),
    };
    cluster
        .drive("nodeipam", queue, reconciler, vec![nodes])
        .await;
}

struct Given {
    blocks: Blocks,
    /// Whether the blocks of all nodes are known.
    complete: bool,
}

struct NodeIpam {
    cluster: Cluster,
    recorder: EventRecorder,
    nodes: Informer,
    blocks: Mutex<Given>,
}

impl NodeIpam {
    /// What a node is to have: nothing where it has its blocks, or goes.
    fn wanted(&self, key: &ObjectKey, node: Option<&Arc<Object>>) -> Result<Vec<String>, Missing> {
        let mut given = self.blocks.lock();
        if !given.complete {
            for node in self.nodes.list() {
                if let Err(why) = given.blocks.occupy(node.name(), &own(&node)) {
                    tracing::warn!(node = node.name(), why, "a node's podCIDRs");
                }
            }
            given.complete = true;
        }
        let Some(node) = node else {
            given.blocks.release(&key.name);
            return Ok(Vec::new());
        };
        let own = own(node);
        if !own.is_empty() {
            let occupied = given.blocks.occupy(node.name(), &own);
            return occupied.map(|()| Vec::new()).map_err(Missing::Foreign);
        }
        if node.is_terminating() {
            return Ok(Vec::new());
        }
        given.blocks.allocate(node.name()).map_err(Missing::Full)
    }

    async fn assign(&self, node: &Object, cidrs: &[String]) -> Result<(), Error> {
        let patch = json!({
            "metadata": {"uid": node.uid()},
            "spec": {"podCIDR": cidrs.first(), "podCIDRs": cidrs},
        });
        let mut attempt = 1;
        loop {
            let written = self
                .cluster
                .api()
                .merge_patch(&resources::nodes(), &node.key(), Subresource::None, &patch)
                .await;
            match written {
                Ok(_) => return Ok(()),
                Err(error) if error.is_not_found() => return Ok(()),
                Err(error) if attempt == ATTEMPTS => {
                    self.tell(node, "CIDRAssignmentFailed");
                    return Err(error.into());
                }
                Err(_) => attempt += 1,
            }
        }
    }

    fn tell(&self, node: &Object, state: &str) {
        let text = format!("Node {} status is now: {state}", node.name());
        self.recorder.normal(node, state, text);
    }
}

/// Why a node does not get a block.
enum Missing {
    Full(Full),
    Foreign(String),
}

fn own(node: &Object) -> Vec<String> {
    let cidrs = object::list(node.spec(), &["podCIDRs"]).iter();
    cidrs.filter_map(Value::as_str).map(str::to_owned).collect()
}

impl Reconciler for NodeIpam {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let found = self.nodes.get(key);
        let why = match (self.wanted(key, found.as_ref()), &found) {
            (Ok(cidrs), Some(node)) if !cidrs.is_empty() => {
                self.assign(node, &cidrs).await?;
                return Ok(Outcome::Done);
            }
            (Ok(_), _) => return Ok(Outcome::Done),
            (Err(Missing::Full(full)), node) => {
                if let Some(node) = node {
                    self.tell(node, "CIDRNotAvailable");
                }
                full.to_string()
            }
            (Err(Missing::Foreign(why)), _) => why,
        };
        Err(Error::Object {
            kind: "Node",
            name: key.name.clone(),
            why,
        })
    }
}
