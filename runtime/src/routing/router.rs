//! The router of a node: what it knows of the cluster, and its doors to the other parts.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::watch;

use super::connection::Way;
use super::handshake::{Greeting, Identity};
use super::heavy::Heavy;
use super::network::Network;
use super::news::OwnerClaims;
use super::parking::{Line, Parking};
use super::peer::Peer;
use super::report::Reports;
use super::running::{Inbound, answer_batch_max};
use super::table::Table;
use super::transfer::Transfers;
use crate::Tasks;
use crate::error::CallError;
use crate::ids::{Incarnation, InvalidObjectKey, NodeId, ObjectKey, Place, ShardId, Token};
use crate::object::{EncodedCall, Host, RemoteCalls};
use crate::placement::ClusterView;
use crate::telemetry::Metrics;

/// What a router is made of.
#[derive(Debug)]
pub struct RouterSettings {
    /// The node it is part of.
    pub node: NodeId,
    /// The objects of this process; a gate has a host with nothing in it.
    pub host: Arc<Host>,
    /// The cluster, as far as this process knows.
    pub view: watch::Receiver<Arc<ClusterView>>,
    /// Checks what other nodes claim about owners; what the store has comes back through the view.
    pub claims: Arc<dyn OwnerClaims>,
    /// The way to the other nodes.
    pub network: Arc<dyn Network>,
    /// Where its background tasks run.
    pub tasks: Tasks,
    /// What it counts.
    pub metrics: Arc<Metrics>,
    /// The most bytes of a call's arguments or of a reply.
    pub payload_max: usize,
}

/// Brings calls to their objects, wherever these are.
#[derive(Debug)]
pub struct Router {
    pub(super) inner: Arc<Inner>,
}

/// What the calls under way share.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) settings: RouterSettings,
    pub(super) table: Table<Arc<Peer>>,
    pub(super) parking: Arc<Parking>,
    pub(super) heavy: Heavy,
    pub(super) transfers: Transfers,
    pub(super) reports: OnceLock<Arc<dyn Reports>>,
    pub(super) inbound: Inbound,
}

/// Where an object lives now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Its shard; `None` for an object that is bound to a node.
    pub shard: Option<ShardId>,
    /// The live node that owns it; `None` while nobody does.
    pub owner: Option<NodeId>,
    /// The fencing token of that ownership; `None` for an object that is bound to a node.
    pub token: Option<Token>,
}

impl Router {
    /// Starts a router that follows the view until the tasks are stopped.
    pub fn start(settings: RouterSettings) -> Arc<Self> {
        let mut views = settings.view.clone();
        let view = views.borrow_and_update().clone();
        let count = view.meta.shard_count;
        let lines = count.get() as usize + 1; // One for the calls that are bound to a node.
        let inner = Arc::new(Inner {
            table: Table::new(settings.node.clone(), count),
            parking: Parking::new(lines, settings.metrics.routing.parking.clone()),
            heavy: Heavy::default(),
            transfers: Transfers::default(),
            reports: OnceLock::new(),
            inbound: Inbound::default(),
            settings,
        });
        inner.follow(&view, None);
        let tasks = inner.settings.tasks.clone();
        let following = inner.clone();
        tasks.spawn("routing table", |shutdown| async move {
            let ended = shutdown
                .run_until_cancelled(follow_all(following, view, views))
                .await;
            ended.unwrap_or(Ok(()))
        });
        Arc::new(Self { inner })
    }

    /// Names who answers other nodes that ask about this one. Only the first counts; nobody is
    /// answered before.
    pub fn report_from(&self, reports: Arc<dyn Reports>) {
        let _ = self.inner.reports.set(reports);
    }

    /// Returns how many calls went to each other node since this one began to know that life of it.
    pub fn sent(&self) -> BTreeMap<NodeId, u64> {
        let peers = self.inner.table.peers().into_iter();
        peers
            .map(|peer| (peer.node().clone(), peer.sent()))
            .collect()
    }

    /// Returns how many connections for calls are open to each other node.
    pub fn connections(&self) -> BTreeMap<NodeId, usize> {
        let peers = self.inner.table.peers().into_iter();
        peers
            .map(|peer| (peer.node().clone(), peer.open()))
            .collect()
    }

    /// Returns the node it is part of.
    #[cfg(test)]
    pub(super) fn node(&self) -> &NodeId {
        &self.inner.settings.node
    }

    /// Tells where an object lives, without activating it. Takes no lock: tens of nanoseconds.
    ///
    /// # Errors
    ///
    /// [`InvalidObjectKey`] if the ID names a shard or node that cannot exist.
    pub fn locate(&self, key: &ObjectKey) -> Result<Location, InvalidObjectKey> {
        let table = &self.inner.table;
        Ok(match key.place(self.inner.settings.host.layout())? {
            Place::Shard(shard) => {
                let (owner, token) = table.owner(shard).unzip();
                Location {
                    shard: Some(shard),
                    owner,
                    token,
                }
            }
            Place::Node(node) => Location {
                shard: None,
                owner: table.is_live(&node).then_some(node),
                token: None,
            },
        })
    }

    /// Tries the calls again that wait for this shard: the host opened or closed it.
    pub fn shard_changed(&self, shard: ShardId) {
        self.inner.parking.wake(shard.index());
    }

    /// Waits until every call of other nodes has its answer, be it one that was forwarded from
    /// here: a node that leaves earlier takes those answers along. Ends when all their deadlines
    /// have passed and their turns have ended, so whoever waits needs a limit.
    pub async fn answered(&self) {
        self.inner.inbound.ended().await;
    }

    /// Tries all waiting calls again: the fence opened, or the host changed as a whole.
    pub fn all_changed(&self) {
        self.inner.parking.wake_all();
    }
}

impl RemoteCalls for Router {
    fn call(&self, call: EncodedCall) -> BoxFuture<'static, Result<Bytes, CallError>> {
        Box::pin(self.inner.clone().route(call))
    }
}

/// Keeps the table equal to the view, until the view has no writer any more.
async fn follow_all(
    inner: Arc<Inner>,
    mut earlier: Arc<ClusterView>,
    mut views: watch::Receiver<Arc<ClusterView>>,
) -> Result<(), std::convert::Infallible> {
    while views.changed().await.is_ok() {
        let view = views.borrow_and_update().clone();
        inner.follow(&view, Some(&earlier));
        earlier = view;
    }
    Ok(())
}

impl Inner {
    /// Returns where calls to a place wait.
    pub(super) fn line(&self, place: &Place) -> Line {
        match place {
            Place::Shard(shard) => shard.index(),
            Place::Node(_) => self.table.count().get() as usize,
        }
    }

    /// Returns who this node is, for those that dial it.
    pub(super) fn identity(&self) -> Identity {
        let node = &self.settings.node;
        let view = self.settings.view.borrow();
        Identity {
            // Not known before the node has reached the store, so it is read each time.
            cluster_id: view.meta.cluster_id.clone(),
            node: node.clone(),
            incarnation: view.nodes.get(node).map(|node| node.incarnation),
        }
    }

    fn follow(&self, view: &ClusterView, earlier: Option<&ClusterView>) {
        let cluster_id = &view.meta.cluster_id;
        let connect = |node: &NodeId, life, address: &str| {
            Peer::new(&self.way(cluster_id, node, life, address))
        };
        let changes = self.table.update(view, earlier, connect);
        for peer in changes.gone {
            peer.close(view);
        }
        for shard in changes.shards {
            self.parking.wake(shard.index());
        }
        if changes.nodes {
            self.parking.wake(self.table.count().get() as usize);
        }
    }

    fn way(&self, cluster_id: &str, node: &NodeId, incarnation: Incarnation, address: &str) -> Way {
        Way {
            answers_max: answer_batch_max(self.settings.payload_max),
            network: self.settings.network.clone(),
            address: address.into(),
            greeting: Greeting {
                cluster_id: cluster_id.into(),
                from: self.settings.node.clone(),
                to: node.clone(),
                incarnation,
            },
            tasks: self.settings.tasks.clone(),
            metrics: self.settings.metrics.routing.links.clone(),
        }
    }
}
