//! Service accounts: every namespace has one called `default`, and the certificate of the cluster's
//! authority where its Pods look for it.

use controller::{Backoff, ObjectKey, Outcome, Reconciler, WorkQueue, enqueue};
use serde_json::json;

use crate::cluster::Cluster;
use crate::error::Error;
use crate::resources;

/// Runs the controller.
pub async fn run(cluster: Cluster) {
    let queue: WorkQueue = WorkQueue::new("serviceaccount", Backoff::default());
    let namespaces = cluster.informer(&resources::namespaces());
    let accounts = cluster.informer(&resources::service_accounts());
    let _namespace_handler = namespaces.add_handler(enqueue::object(&queue));
    let _account_handler = accounts.add_handler(enqueue::mapped(&queue, |account| {
        // Only the account that has to be there is of interest.
        let namespace = account.namespace().filter(|_| account.name() == "default");
        namespace.map(ObjectKey::cluster).into_iter().collect()
    }));
    let reconciler = ServiceAccounts {
        cluster: cluster.clone(),
    };
    cluster
        .drive(
            "serviceaccount",
            queue,
            reconciler,
            vec![namespaces, accounts],
        )
        .await;
}

struct ServiceAccounts {
    cluster: Cluster,
}

impl Reconciler for ServiceAccounts {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let cluster = &self.cluster;
        let namespace = cluster.informer(&resources::namespaces()).get(key);
        let Some(namespace) = namespace.filter(|namespace| !namespace.is_terminating()) else {
            return Ok(Outcome::Done);
        };
        let account = ObjectKey::new(namespace.name(), "default");
        if cluster
            .informer(&resources::service_accounts())
            .get(&account)
            .is_some()
        {
            return Ok(Outcome::Done);
        }
        let wanted = json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": namespace.name()},
        });
        match cluster
            .api()
            .create(&resources::service_accounts(), &wanted)
            .await
        {
            Ok(_) => Ok(Outcome::Done),
            // Made by somebody else, or the namespace is going: both end well.
            Err(error)
                if error.is_already_exists() || error.is_not_found() || error.is_forbidden() =>
            {
                Ok(Outcome::Done)
            }
            Err(error) => Err(error.into()),
        }
    }
}
