//! The objects of this process, by shard. (Skeleton.)

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{EncodedCall, Registry, RemoteCalls};
use crate::error::CallError;
use crate::fence::Fence;
use crate::ids::{NodeId, ObjectKey, ShardCount, ShardId, Token};
use crate::storage::Storage;
use crate::tasks::Tasks;
use crate::telemetry::Metrics;

/// What a host is made of.
#[derive(Debug)]
pub struct HostSettings {
    /// The node it is part of.
    pub node: NodeId,
    /// The cluster's shard count.
    pub shard_count: ShardCount,
    /// Whether the node may serve now.
    pub fence: Arc<Fence>,
    /// Where stored state lives.
    pub storage: Arc<dyn Storage>,
    /// What it can host.
    pub registry: Registry,
    /// The largest arguments and replies, in bytes. Default: [`super::PAYLOAD_LEN_MAX`].
    pub payload_max: usize,
    /// Where turns that suspend run, and the sweeper.
    pub tasks: Tasks,
    /// Where it counts.
    pub metrics: Arc<Metrics>,
}

/// The objects of this process, by shard.
#[derive(Debug)]
pub struct Host {}

/// What became of a call that was given to a host.
#[derive(Debug)]
pub enum Dispatch {
    /// It was served, or failed in a way that no other node would cure.
    Done(Result<Bytes, CallError>),
    /// The shard is not open here, or the node is fenced; the call did not run and comes back.
    NotHere(EncodedCall),
}

/// How closing a shard ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closing {
    /// No turn runs and none will; its objects are saved, deactivated and dropped.
    Closed,
    /// These turns did not end in time; the shard is open again.
    Overdue(Vec<(ObjectKey, String)>),
}

/// Which objects to list.
#[derive(Clone, Debug, Default)]
pub struct ObjectQuery {
    /// Only of this type.
    pub object_type: Option<String>,
    /// Only of this shard.
    pub shard: Option<ShardId>,
    /// At most this many.
    pub limit: usize,
    /// Only after this one, in order of type and ID.
    pub after: Option<ObjectKey>,
}

/// A live object.
#[derive(Clone, Debug)]
pub struct ObjectInfo {
    /// Its key.
    pub key: ObjectKey,
    /// Its shard, unless it is bound to its node.
    pub shard: Option<ShardId>,
    /// Calls waiting for their turn.
    pub waiting: usize,
    /// Time since its last turn ended; zero while one runs.
    pub idle: Duration,
}

impl Host {
    /// Makes a host with every shard closed. Must be called inside a tokio runtime, for it spawns
    /// the sweeper that deactivates idle objects.
    pub fn new(_settings: HostSettings) -> Arc<Self> {
        Arc::new(Self {})
    }

    /// Tells the host the way to the objects of other nodes: what `Context::object` calls. Only
    /// the first counts. The host keeps no strong reference, since the router has one to it.
    pub fn connect(&self, _remote: &Arc<dyn RemoteCalls>) {}

    /// Returns the names of the types it hosts, sorted.
    pub fn type_names(&self) -> Vec<&'static str> {
        unimplemented!("skeleton")
    }

    /// Opens the place of the objects that are bound to this node, under the token of its
    /// incarnation: when the node is registered.
    pub fn open_node_bound(&self, _token: Token) {
        unimplemented!("skeleton")
    }

    /// Closes the place of the objects that are bound to this node, as [`Host::close`] does.
    #[allow(clippy::unused_async, reason = "skeleton")]
    pub async fn close_node_bound(&self, _limit: Duration) -> Closing {
        unimplemented!("skeleton")
    }

    /// Opens a shard under a token. Opening it again under the same token changes nothing.
    pub fn open(&self, _shard: ShardId, _token: Token) {
        unimplemented!("skeleton")
    }

    /// Closes a shard: no new turn starts, running turns end within `limit`, then its objects are
    /// saved, deactivated and dropped. A shard that is not open is closed already.
    #[allow(clippy::unused_async, reason = "skeleton")]
    pub async fn close(&self, _shard: ShardId, _limit: Duration) -> Closing {
        unimplemented!("skeleton")
    }

    /// Drops every activation of every shard without saving, and closes every shard: the lease
    /// is lost. Running turns cannot store or answer any more.
    pub fn discard_all(&self) {
        unimplemented!("skeleton")
    }

    /// Drops a shard's objects without saving and closes it: another node owns it. Ends a closing
    /// of it.
    pub fn discard(&self, _shard: ShardId) {
        unimplemented!("skeleton")
    }

    /// Counts all live objects, node-bound ones too.
    #[allow(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        unimplemented!("skeleton")
    }

    /// Whether calls to objects of this shard can run here now (open, and the node not fenced).
    pub fn serves(&self, _shard: ShardId) -> bool {
        unimplemented!("skeleton")
    }

    /// Runs a call if its object lives here.
    #[allow(clippy::unused_async, reason = "skeleton")]
    pub async fn dispatch(self: &Arc<Self>, _call: EncodedCall) -> Dispatch {
        unimplemented!("skeleton")
    }

    /// Lists live objects in order of type and ID.
    pub fn objects(&self, _query: &ObjectQuery) -> Vec<ObjectInfo> {
        unimplemented!("skeleton")
    }

    /// Counts the live objects of each shard that has any.
    pub fn counts(&self) -> Vec<(ShardId, usize)> {
        unimplemented!("skeleton")
    }
}
