//! Asks `propagateWhen` before objects are written.
//!
//! What an object should be is known by a hash that is written on it, so that it is known after a restart too which objects
//! are up to date. Everything that would write to an object is asked about: making it, changing it, correcting it.

use controller::Object;
use serde_json::Value;

use super::InstanceError;
use super::apply::{self, Item};
use super::external_fields;
use super::memory::Applied;
use super::wavefront::Run;
use crate::hash::fnv1a_64;
use crate::keys;
use crate::lifecycle::Update;
use crate::runtime::Member;

/// Objects nest no deeper than this.
const DEPTH_LIMIT: usize = 128;

/// Writes on an object what it should be; `object` is what its template says.
pub(super) fn stamp(object: &Value, decorated: &mut Value) {
    let hash = format!("{:016x}", fnv1a_64(object.to_string().as_bytes()));
    decorated["metadata"]["annotations"][keys::DESIRED_HASH] = hash.into();
}

impl Run<'_> {
    /// Decides which of the objects of a resource may be written.
    pub(super) async fn ask_gates(
        &self,
        node: usize,
        items: &mut [Item],
    ) -> Result<(), InstanceError> {
        let this = &self.graph.nodes[node];
        if this.handling.propagate_when.is_empty() {
            return Ok(());
        }
        let watches = &self.instance.context.watches;
        let children = watches.children(&this.resource).await?;
        let mut members = Vec::with_capacity(items.len());
        for item in items.iter_mut() {
            external_fields::leave_out(self.instance, this, &children, item).await?;
            let live = apply::live(self.instance, this, &children, item).await?;
            members.push(self.member(node, item, live.as_deref()));
        }
        let gates = self.pass.gates(node, members);
        for (item, gate) in items.iter_mut().zip(gates) {
            item.gate = gate;
        }
        Ok(())
    }

    fn member(&self, node: usize, item: &mut Item, live: Option<&Object>) -> Member {
        let Some(live) = live else {
            return Member {
                object: item.desired.clone(),
                is_ready: false,
                is_updated: false,
                is_due: true,
            };
        };
        let wanted = &item.desired["metadata"]["annotations"][keys::DESIRED_HASH];
        let is_updated = live.annotation(keys::DESIRED_HASH) == wanted.as_str();
        if is_updated && is_within(&item.desired, live.value(), 0) {
            // We wrote it, in an earlier life perhaps; what others wrote since is theirs.
            let id = &self.graph.nodes[node].id;
            item.known = Some(Applied::new(id, &item.desired, live, &item.released));
        }
        let known = item.known.as_ref();
        let holds = known.is_some_and(|known| known.still_holds(&item.desired, live));
        Member {
            object: live.value().clone(),
            is_ready: self.pass.is_member_ready(node, live),
            is_updated,
            is_due: !holds && item.policy.update == Update::Always,
        }
    }
}

/// Whether everything that is wanted is there; lists must be as long as wanted.
fn is_within(wanted: &Value, found: &Value, depth: usize) -> bool {
    match (wanted, found) {
        _ if depth > DEPTH_LIMIT => false,
        (Value::Object(wanted), Value::Object(found)) => wanted.iter().all(|(key, value)| {
            let found = found.get(key);
            value.is_null() || found.is_some_and(|found| is_within(value, found, depth + 1))
        }),
        (Value::Array(wanted), Value::Array(found)) => {
            let mut pairs = wanted.iter().zip(found);
            wanted.len() == found.len() && pairs.all(|(a, b)| is_within(a, b, depth + 1))
        }
        (wanted, found) => wanted == found,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_others_added_is_within() {
        let found = json!({"a": {"b": 1, "c": 2}, "list": [{"x": 1, "y": 2}]});
        let check = |wanted: Value, expect: bool| {
            assert_eq!(is_within(&wanted, &found, 0), expect, "{wanted}");
        };
        check(json!({"a": {"b": 1}}), true);
        check(json!({"a": {"b": 2}}), false);
        check(json!({"a": {"d": null}}), true);
        check(json!({"list": [{"x": 1}]}), true);
        check(json!({"list": []}), false);
        check(json!({"list": {}}), false);
    }
}
