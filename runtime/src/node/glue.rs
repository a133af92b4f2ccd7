//! How the parts speak to each other: small adapters, each the far side of one part's port.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::query::PeerAdmin;
use crate::coordination::membership::NodePort;
use crate::coordination::reconciler::{Closing, SendError, Sent, ShardHost};
use crate::coordination::{OwnerChecks, SharedView};
use crate::ids::{NodeId, Revision, ShardId, Token};
use crate::object::{self, Host, StateError};
use crate::placement::planner::PlanSettings;
use crate::placement::{Owner, Parcel, Suspicion};
use crate::probation::Watch;
use crate::routing::network::Network;
use crate::routing::{OwnerClaims, Router, TransferError, Transferred};

/// How long a predecessor with the same node ID may take to answer. A wrong "no" only costs the
/// time until its lease ends.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// What the reconciler opens and closes: the host's shards, waking the calls that wait for them.
#[derive(Debug)]
pub(super) struct HostedShards {
    pub(super) host: Arc<Host>,
    pub(super) router: Arc<Router>,
    pub(super) view: Arc<SharedView>,
    pub(super) plan_settings: PlanSettings,
}

#[async_trait]
impl ShardHost for HostedShards {
    fn watch(&self, shard: ShardId) {
        let settings = &self.plan_settings;
        if settings.quarantine_deaths == 0 {
            return;
        }
        let watch = match self.view.current().targets.get(shard).suspicion {
            Some(suspicion) if suspicion.is_prime(settings) => Watch::Prime,
            Some(_) => Watch::Suspect,
            None if Suspicion::of_taken_over().is_prime(settings) => Watch::Prime,
            None => Watch::TakenOver,
        };
        self.host.watch(shard, watch, settings.quarantine_within);
    }

    fn open(&self, shard: ShardId, token: Token, parcel: Option<Parcel>) {
        self.host.open_with(shard, token, parcel);
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

    async fn send_ahead(
        &self,
        shard: ShardId,
        to: &Owner,
        parcel: Parcel,
        limit: Duration,
    ) -> Result<Sent, SendError> {
        let packing = self.host.pack(shard);
        let transfer = self.router.transfer(shard, to, parcel, packing);
        match tokio::time::timeout(limit, transfer).await {
            Ok(Ok(Transferred::Staged(_))) => Ok(Sent::Staged),
            Ok(Ok(Transferred::Nothing)) => Ok(Sent::Nothing),
            Ok(Err(error)) => Err(send_error(error)),
            Err(_) => Err(SendError::Late),
        }
    }

    async fn end(&self, shard: ShardId, limit: Duration) {
        self.host.end(shard, limit).await;
    }

    fn let_go(&self, shard: ShardId) {
        self.host.let_go(shard);
        self.router.shard_changed(shard);
    }

    fn discard(&self, shard: ShardId) {
        self.host.discard(shard);
        self.router.shard_changed(shard);
    }
}

fn send_error(error: TransferError) -> SendError {
    let gone = "its life is over".to_owned();
    match error {
        TransferError::Gone(node) => SendError::Unreachable(node, gone),
        TransferError::Unreachable(node, why) => SendError::Unreachable(node, why),
        TransferError::Refused(node, why) => SendError::Refused(node, why),
        TransferError::State(StateError { object, reason }) => {
            SendError::Unreadable { object, reason }
        }
    }
}

/// What other nodes claim about owners is checked in the store.
impl OwnerClaims for OwnerChecks {
    fn claimed(&self, shard: ShardId, revision: Revision) {
        self.claim(shard, revision);
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
        let count = self.host.layout().count();
        let report = tokio::time::timeout(PROBE_TIMEOUT, admin.report(count)).await;
        matches!(report, Ok(Ok(report)) if report.node == *node)
    }

    fn discard_all(&self) {
        self.host.discard_all();
        self.router.all_changed();
    }
}
