//! Leaves out fields that somebody else has taken over.
//!
//! Who owns what is only read from the server when an object is not as it was last applied: caches do not hold it. What
//! was found is remembered with the object, whose handed-over fields do not count as changes any more.

use controller::Error;

use super::Instance;
use super::apply::{self, Item};
use crate::build::Node;
use crate::controllers::watches::Children;
use crate::external_fields::ExternalField;

/// Takes the fields that others own off what an object should be.
pub(super) async fn leave_out(
    instance: &Instance<'_>,
    node: &Node,
    children: &Children,
    item: &mut Item,
) -> Result<(), Error> {
    let fields = &node.handling.external_fields;
    if fields.is_empty() {
        return Ok(());
    }
    let Some(live) = apply::live(instance, node, children, item).await? else {
        return Ok(());
    };
    let whole = item.desired.clone();
    let known = item.known.as_ref();
    let remembered = known
        .map(|known| known.released.clone())
        .unwrap_or_default();
    release(item, &remembered);
    let known = item.known.as_ref();
    if known.is_some_and(|known| known.still_holds(&item.desired, &live)) {
        return Ok(());
    }
    let found = instance
        .context
        .api
        .get_opt(&node.resource, &item.key)
        .await?;
    let managed = found.map(|found| found.value()["metadata"]["managedFields"].clone());
    let managed = managed.unwrap_or_default();
    let claimed = fields.iter().filter(|field| field.is_claimed(&managed));
    let claimed: Vec<ExternalField> = claimed.cloned().collect();
    item.desired = whole;
    release(item, &claimed);
    Ok(())
}

fn release(item: &mut Item, fields: &[ExternalField]) {
    for field in fields {
        field.remove_from(&mut item.desired);
    }
    item.released = fields.to_vec();
}
