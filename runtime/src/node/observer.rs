//! A process that looks at a cluster without being part of it.
//!
//! Keeps a view and the plans by watches of its own, asks nodes about themselves, and passes
//! operators' commands on. It registers nothing, so the cluster does not know of it, and nothing
//! ever waits for it.

mod plans;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use tonic::transport::Channel;

use super::Cluster;
use super::cluster::Way;
use super::query::{PeerAdmin, QueryError, TypeInfo, channel_to};
use crate::coordination::keys::{BadEntry, Keys, decode_meta};
use crate::coordination::plans::PlanRecord;
use crate::coordination::store::{Store, StoreError};
use crate::coordination::watcher::{WatchState, Watcher, WatcherParts};
use crate::coordination::{EtcdSettings, EtcdStore, Evidence, History, SharedView, Verified};
use crate::ids::{NodeId, PlanId};
use crate::object::{ObjectInfo, ObjectQuery};
use crate::placement::ClusterView;
use crate::routing::NodeReport;
use crate::routing::network::{Network, TcpNetwork, TlsNetwork};
use crate::tasks::Tasks;
use crate::telemetry::Metrics;
use crate::tls::{self, Tls};

/// How long an orderly end of the watches may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Where the cluster to be looked at agrees.
#[derive(Clone, Debug)]
pub enum ObservedStore {
    /// In etcd.
    Etcd(EtcdSettings),
    /// In a store of this process.
    Given(Arc<dyn Store>),
}

/// What to look at.
#[derive(Clone, Debug)]
pub struct ObserverSettings {
    /// Where the cluster agrees.
    pub store: ObservedStore,
    /// The prefix of its keys.
    pub prefix: String,
    /// The certificates that the cluster's nodes want, if they do.
    pub tls: Option<Tls>,
    /// Under which name commands are passed on.
    pub name: NodeId,
}

/// Why a cluster cannot be looked at. Trying again may help in every case.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObserveError {
    /// The store does not answer.
    #[error("the store does not answer")]
    Store(#[from] StoreError),
    /// Nobody has created a cluster there.
    #[error("there is no cluster at `{0}` yet")]
    NoCluster(String),
    /// The cluster's description cannot be read.
    #[error(transparent)]
    Incompatible(#[from] BadEntry),
}

/// A look at a cluster from outside. A cheap handle: clones are the same observer.
///
/// Its watches go on until [`Observer::stop`].
#[derive(Clone, Debug)]
pub struct Observer {
    inner: Arc<Inner>,
}

/// The plans that the store keeps, by number.
pub type Plans = BTreeMap<PlanId, Arc<PlanRecord>>;

#[derive(Debug)]
struct Inner {
    name: NodeId,
    store: Arc<dyn Store>,
    history: Arc<History>,
    keys: Keys,
    network: Arc<dyn Network>,
    view: Arc<SharedView>,
    watching: watch::Receiver<WatchState>,
    plans: watch::Receiver<Arc<Plans>>,
    metrics: Arc<Metrics>,
    tasks: Tasks,
    /// Connections to nodes, by address; those of nodes that went are dropped when others come.
    channels: Mutex<BTreeMap<String, Channel>>,
}

impl Observer {
    /// Reaches the store, reads what the cluster was created as, and begins to follow it.
    ///
    /// # Errors
    ///
    /// [`ObserveError`]. Tries once; each request has the store's time limit.
    pub async fn connect(settings: &ObserverSettings) -> Result<Self, ObserveError> {
        let (store, etcd): (Arc<dyn Store>, _) = match &settings.store {
            ObservedStore::Etcd(etcd) => {
                let store = EtcdStore::new(etcd)?;
                (Arc::new(store.clone()), Some((store, etcd)))
            }
            ObservedStore::Given(store) => (store.clone(), None),
        };
        let keys = Keys::new(&settings.prefix);
        let listing = store.list(&keys.meta()).await?;
        let Some(entry) = listing.entries.first() else {
            return Err(ObserveError::NoCluster(settings.prefix.clone()));
        };
        let meta = decode_meta(entry)?;
        // Not before there is a cluster to look at: until then this is tried again and again, and the same warning
        // each time would hide the reason.
        if let Some((store, etcd)) = &etcd {
            store.check_versions(etcd.strict_version).await?;
        }
        let metrics = Arc::new(Metrics::new());
        let history = History::new(meta.clone(), keys.clone(), None, metrics.clone());
        let history = Arc::new(history);
        let store: Arc<dyn Store> = Arc::new(Verified::new(store, history.clone()));
        let certificates = etcd.and_then(|(_, etcd)| etcd.tls.clone());
        let view = Arc::new(SharedView::new(meta));
        let tasks = Tasks::new();
        let network: Arc<dyn Network> = match &settings.tls {
            None => Arc::new(TcpNetwork),
            Some(tls) => {
                let metrics = metrics.certificates.clone();
                Arc::new(TlsNetwork::new(Arc::new(TcpNetwork), tls.clone(), metrics))
            }
        };
        if settings.tls.is_some() || certificates.is_some() {
            let (tls, metrics) = (settings.tls.clone(), metrics.certificates.clone());
            tasks.spawn("certificates", |shutdown| {
                tls::follow(tls, certificates, metrics, shutdown)
            });
        }
        let (watcher, watching) = Watcher::new(WatcherParts {
            store: store.clone(),
            keys: keys.clone(),
            view: view.clone(),
            metrics: metrics.clone(),
        });
        tasks.spawn("watcher", |shutdown| watcher.run(shutdown));
        let count = view.current().meta.shard_count;
        let (follower, plans) = plans::Follower::new(store.clone(), keys.clone(), count);
        tasks.spawn("plans", |shutdown| follower.run(shutdown));
        Ok(Self {
            inner: Arc::new(Inner {
                name: settings.name.clone(),
                store,
                history,
                keys,
                network,
                view,
                watching,
                plans,
                metrics,
                tasks,
                channels: Mutex::default(),
            }),
        })
    }

    /// Returns the present copy of the cluster. Empty until the first list has been read.
    pub fn view(&self) -> Arc<ClusterView> {
        self.inner.view.current()
    }

    /// Returns a receiver that is woken by each change of the view.
    pub fn subscribe(&self) -> watch::Receiver<Arc<ClusterView>> {
        self.inner.view.subscribe()
    }

    /// Reads every key of the cluster, and returns those that have no effect or another one than they
    /// should: unreadable ones, and registrations that no lease keeps.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store does not answer.
    pub async fn irregularities(&self) -> Result<Vec<BadEntry>, StoreError> {
        let Inner { store, keys, .. } = &*self.inner;
        let listing = store.list(keys.prefix()).await?;
        Ok(keys.irregularities(&listing, self.view().meta.shard_count))
    }

    /// Waits until the store turns out not to be the one that this observer reached, as after a loss
    /// of its data. The view then stays as it was: stop this observer and connect another. Cancel
    /// safe.
    pub async fn replaced(&self) -> Evidence {
        self.inner.history.replaced().await
    }

    /// Follows whether the view follows the store.
    pub fn watching(&self) -> watch::Receiver<WatchState> {
        self.inner.watching.clone()
    }

    /// Follows the plans that the store keeps.
    pub fn plans(&self) -> watch::Receiver<Arc<Plans>> {
        self.inner.plans.clone()
    }

    /// Returns the cluster as operators see it, by way of this observer.
    pub fn cluster(&self) -> Cluster {
        Cluster {
            way: Way::Observer(self.clone()),
        }
    }

    /// Returns what the observer itself counts: its watches and their trouble.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.inner.metrics
    }

    /// Asks a node what it hosts and how busy it is.
    ///
    /// # Errors
    ///
    /// [`QueryError`] if it is not there or does not answer within two seconds.
    pub async fn report(&self, node: &NodeId) -> Result<NodeReport, QueryError> {
        let count = self.view().meta.shard_count;
        self.admin(node)?.report(count).await
    }

    /// Asks a node for its metrics, in the `OpenMetrics` text format.
    ///
    /// # Errors
    ///
    /// As [`Observer::report`].
    pub async fn node_metrics(&self, node: &NodeId) -> Result<String, QueryError> {
        self.admin(node)?.metrics().await
    }

    /// Asks a node for the types that it hosts, and their methods.
    ///
    /// # Errors
    ///
    /// As [`Observer::report`].
    pub async fn types(&self, node: &NodeId) -> Result<Vec<TypeInfo>, QueryError> {
        self.admin(node)?.types().await
    }

    /// Asks a node for live objects. Activates none.
    ///
    /// # Errors
    ///
    /// As [`Observer::report`].
    pub async fn objects(
        &self,
        node: &NodeId,
        query: &ObjectQuery,
    ) -> Result<Vec<ObjectInfo>, QueryError> {
        let count = self.view().meta.shard_count;
        self.admin(node)?.objects(query, count).await
    }

    /// Has a node call a method of an object, wherever that lives. Arguments and value are JSON.
    ///
    /// # Errors
    ///
    /// [`QueryError`]: the node is not there, does not answer in time, or the call failed.
    ///
    /// Cancel safety: a method that has begun runs to its end.
    pub async fn call(
        &self,
        node: &NodeId,
        key: &crate::ids::ObjectKey,
        method: &str,
        arguments: Bytes,
    ) -> Result<Bytes, QueryError> {
        self.admin(node)?.call(key, method, arguments).await
    }

    /// Ends the watches. Handles that remain see the cluster as it was.
    pub async fn stop(&self) {
        self.inner.tasks.stop(STOP_TIMEOUT).await;
    }

    pub(super) fn name(&self) -> &NodeId {
        &self.inner.name
    }

    pub(super) fn network(&self) -> &Arc<dyn Network> {
        &self.inner.network
    }

    pub(super) fn store(&self) -> (&Arc<dyn Store>, &Keys) {
        (&self.inner.store, &self.inner.keys)
    }

    fn admin(&self, node: &NodeId) -> Result<PeerAdmin, QueryError> {
        let view = self.view();
        let record = view.nodes.get(node);
        let record = record.ok_or_else(|| QueryError::NoSuchNode(node.clone()))?;
        let address = &record.grpc;
        let mut channels = self.inner.channels.lock();
        if !channels.contains_key(address) {
            channels.retain(|known, _| view.nodes.values().any(|record| record.grpc == *known));
            let channel = channel_to(self.inner.network.clone(), address);
            channels.insert(address.clone(), channel);
        }
        let channel = channels.get(address).expect("it was put there").clone();
        Ok(PeerAdmin::over(channel, address.clone()))
    }
}
