//! Decides for each call where it goes, and goes on until it got there. (Skeleton.)

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;

use super::network::Network;
use crate::Tasks;
use crate::error::CallError;
use crate::ids::{InvalidObjectKey, NodeId, ObjectKey, ShardId, Token};
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
    settings: RouterSettings,
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
        Arc::new(Self { settings })
    }

    /// Tells where an object lives, without activating it.
    ///
    /// # Errors
    ///
    /// [`InvalidObjectKey`] if the ID names a shard or node that cannot exist.
    pub fn locate(&self, _key: &ObjectKey) -> Result<Location, InvalidObjectKey> {
        unimplemented!("skeleton {:?}", self.settings)
    }

    /// Tries the calls again that wait for this shard: the host opened or closed it.
    pub fn shard_changed(&self, _shard: ShardId) {}

    /// Tries all waiting calls again: the fence opened, or the host changed as a whole.
    pub fn all_changed(&self) {}
}

impl RemoteCalls for Router {
    fn call(&self, _call: EncodedCall) -> BoxFuture<'static, Result<Bytes, CallError>> {
        async { unimplemented!("skeleton") }.boxed()
    }
}
