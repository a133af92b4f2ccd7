//! How the parts speak to each other: small adapters, each the far side of one part's port.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::query::PeerAdmin;
use crate::coordination::membership::NodePort;
use crate::coordination::reconciler::{Closing, SendError, Sent, ShardHost};
use crate::ids::{NodeId, ShardId, Token};
use crate::object::{self, Host};
use crate::placement::{Owner, Parcel};
use crate::routing::Router;
use crate::routing::network::Network;

/// How long a predecessor with the same node ID may take to answer. A wrong "no" only costs the
/// time until its lease ends.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// What the reconciler opens and closes: the host's shards, waking the calls that wait for them.
#[derive(Debug)]
pub(super) struct HostedShards {
    pub(super) host: Arc<Host>,
    pub(super) router: Arc<Router>,
}

#[async_trait]
impl ShardHost for HostedShards {
    fn open(&self, shard: ShardId, token: Token, _: Option<Parcel>) {
        self.host.open(shard, token);
        self.router.shard_changed(shard);
    }

    async fn close(&self, shard: ShardId, limit: Duration) -> Closing {
        match self.host.close(shard, limit).await {
            object::Closing::Closed => Closing::Closed,
            object::Closing::Overdue(turns) => {
                // The shard is open again, so calls that came meanwhile can run.
                self.router.shard_changed(shard);
                Closing::Overdue(turns)
            }
        }
    }

    /// The host ends objects as it closes their shard, so none is left to travel.
    async fn send_ahead(
        &self,
        _: ShardId,
        _: &Owner,
        _: Parcel,
        _: Duration,
    ) -> Result<Sent, SendError> {
        Ok(Sent::Nothing)
    }

    async fn end(&self, _: ShardId, _: Duration) {}

    fn let_go(&self, shard: ShardId) {
        self.router.shard_changed(shard);
    }

    fn discard(&self, shard: ShardId) {
        self.host.discard(shard);
        self.router.shard_changed(shard);
    }
}

/// What membership asks of the node around it.
#[derive(Debug)]
pub(super) struct Surroundings {
    pub(super) host: Arc<Host>,
    pub(super) router: Arc<Router>,
    pub(super) network: Arc<dyn Network>,
}

#[async_trait]
impl NodePort for Surroundings {
    async fn answers(&self, node: &NodeId, address: &str) -> bool {
        let admin = PeerAdmin::new(self.network.clone(), address.to_owned());
        let report = tokio::time::timeout(PROBE_TIMEOUT, admin.report()).await;
        matches!(report, Ok(Ok(report)) if report.node == *node)
    }

    fn discard_all(&self) {
        self.host.discard_all();
        self.router.all_changed();
    }
}
