//! This node's life in the store: its lease, its key, its fence. (Skeleton.)

mod settings;
mod state;

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use settings::{LEASE_TTL_MAX, LEASE_TTL_MIN, MembershipSettings, Registration, Replace};
pub use state::{Identity, JoinError, MembershipState};

use super::SharedView;
use super::keys::Keys;
use super::store::Store;
use crate::fence::Fence;
use crate::ids::NodeId;
use crate::placement::NodeState;
use crate::telemetry::Metrics;

/// What membership asks of the node around it.
#[async_trait]
pub trait NodePort: Send + Sync {
    /// Whether a live process answers as `node` at `address` (`host:port`, gRPC). Must take no
    /// longer than a second or so; a wrong "no" only costs the time until the lease ends.
    async fn answers(&self, node: &NodeId, address: &str) -> bool;

    /// Drops every activation without saving: the lease is lost, others may own the shards.
    /// Called before [`MembershipState::Lost`] is published, and before the next life begins.
    fn discard_all(&self);
}

/// What a membership is made of.
#[derive(Debug)]
pub struct MembershipParts {
    /// Where the cluster agrees.
    pub store: Arc<dyn Store>,
    /// The cluster's keys.
    pub keys: Keys,
    /// What to say of the node.
    pub registration: Registration,
    /// How to live.
    pub settings: MembershipSettings,
    /// What everything that serves asks.
    pub fence: Arc<Fence>,
    /// The node's copy of the cluster, which the watcher fills.
    pub view: Arc<SharedView>,
    /// Where to count.
    pub metrics: Arc<Metrics>,
}

/// The handle of a node's membership. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Membership {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: watch::Sender<MembershipState>,
    wanted: watch::Sender<NodeState>,
    trouble: Mutex<Option<String>>,
    leaving: CancellationToken,
}

impl Membership {
    /// Makes a membership that begins with [`Membership::run`].
    pub fn new(_parts: MembershipParts) -> Self {
        Self {
            shared: Arc::new(Shared {
                state: watch::Sender::new(MembershipState::Joining),
                wanted: watch::Sender::new(NodeState::Joining),
                trouble: Mutex::new(None),
                leaving: CancellationToken::new(),
            }),
        }
    }

    /// Returns the present state.
    pub fn state(&self) -> MembershipState {
        self.shared.state.borrow().clone()
    }

    /// Returns a receiver that is woken by each change of state. It may skip states that pass
    /// quickly: a new incarnation means that the one before was lost, even if `Lost` was not seen.
    pub fn subscribe(&self) -> watch::Receiver<MembershipState> {
        self.shared.state.subscribe()
    }

    /// Returns what keeps the node from being a member right now, in words for operators.
    pub fn trouble(&self) -> Option<String> {
        self.shared.trouble.lock().clone()
    }

    /// Waits until the node is a member for the first time.
    ///
    /// # Errors
    ///
    /// Why it never will be, as [`Membership::run`] returned it.
    #[allow(clippy::unused_async, reason = "skeleton")]
    pub async fn joined(&self) -> Result<Identity, JoinError> {
        unimplemented!("skeleton")
    }

    /// Sets what the node says of its own life. It is written to the node key soon, and again in
    /// each later life.
    pub fn set_state(&self, state: NodeState) {
        self.shared.wanted.send_replace(state);
    }

    /// Ends the membership: closes the fence, revokes the own lease, and returns when the state is
    /// [`MembershipState::Stopped`]. If the store cannot be reached in time the lease ends by
    /// itself.
    #[allow(clippy::unused_async, reason = "skeleton")]
    pub async fn leave(&self) {
        self.shared.leaving.cancel();
        unimplemented!("skeleton")
    }

    /// Joins, keeps the lease alive, and joins again when it is lost, until [`Membership::leave`]
    /// or `shutdown`. Call it once.
    ///
    /// # Errors
    ///
    /// [`JoinError`] if the node cannot be a member and trying again will not help.
    #[allow(clippy::unused_async, reason = "skeleton")]
    pub async fn run(
        &self,
        _node: Arc<dyn NodePort>,
        _shutdown: CancellationToken,
    ) -> Result<(), JoinError> {
        unimplemented!("skeleton")
    }
}
