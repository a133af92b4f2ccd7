//! This node's life in the store: its lease, its key, and the fence that follows from them.
//!
//! A **life** is one lease and the node key under it. It begins when the key is created, whose
//! create revision is the incarnation, and ends with the lease. Others take a node's shards over
//! only after its key is gone; so all depends on the node knowing, without asking anybody, when
//! that might be. One task ([`Membership::run`]) does everything here, step by step; nothing else
//! moves the fence.
//!
//! # What can fail after each step, and the guard
//!
//! | step | what can go wrong then | guard |
//! |---|---|---|
//! | grant the lease | the reply is lost, or we die | a lease without keys ends by itself; the next try grants another |
//! | put the node key | a process of the same node ID lives | only if absent: a key over another's would hide one of two live owners |
//! | | the outcome is unknown | the same transaction again: it puts or shows the key, which is ours if and only if it names our lease, since a lease belongs to one life. A late first try finds the key there, or its lease gone |
//! | | the store is away until the lease may be over | the try is given up: its lease is revoked, and a late put under it fails or dies with it |
//! | end a predecessor | it is alive after all | only with proof (see `predecessor`); never our own lease |
//! | open the fence | the grant took long | the deadline counts from before the *send* of the grant, not from its reply |
//! | keep alive | the reply is slow, so the lease ends sooner than "now + TTL" | the deadline counts from before the send of the ping it answers |
//! | | a late reply is taken for the answer to a later ping | one ping at a time; a stream whose ping failed or timed out is dropped, late replies with it |
//! | | the machine sleeps, and its clocks with it | the fence's clock counts suspend |
//! | | no reply until the deadline | the fence closes by itself: at each use by the clock, and by the watchdog's thread |
//! | a reply after the deadline | the lease is alive, the key perhaps not; others may have acted | suspended until one read *sent after the reply* shows our key with our create revision |
//! | resume | a shard changed hands by a transaction that we never saw the end of | the same read brings the owner keys, learned by the one rule for owner news; then nothing is moved |
//! | lease gone, or key not ours | others own our shards by now, and our objects are stale | the fence closes for good, every activation is dropped unsaved, `Lost` is published, and only then the next life begins |
//! | join again | the key is there, of a process that replaced us | we are the predecessor now: never revoke it without the lock; if it lives this process ends |
//! | rewrite the key | the outcome is unknown, and the write arrives after a later one, or in another life | guarded by create *and* mod revision |
//! | leave | we still serve | the fence closes before the lease is revoked |
//! | | the store is away | the lease ends by itself |
//!
//! Only its lease deletes a node key that hangs on it. If it is deleted by hand, or written anew
//! without that lease, the view shows it and the incarnation is lost at once, though its lease is
//! alive. A key that hangs on no lease of its own is deleted by the node whose name it has
//! (`predecessor`) or by the leader (`strays`), both only when no process can serve under it.

mod join;
mod life;
mod lock;
mod predecessor;
mod resume;
mod rewrite;
mod settings;
mod state;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use lock::default_lock_dir;
pub use settings::{LEASE_TTL_MAX, LEASE_TTL_MIN, MembershipSettings, Registration, Replace};
pub use state::{Identity, JoinError, MembershipState};

use self::life::Life;
use self::lock::LockFile;
use super::SharedView;
use super::keys::Keys;
use super::store::Store;
use crate::fence::Fence;
use crate::ids::{LeaseId, NodeId, Revision};
use crate::placement::NodeState;
use crate::telemetry::Metrics;

/// The shortest and the longest pause before trying again to join.
const JOIN_PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// How long to try to revoke an own lease; after that it is left to end by itself.
const REVOKE_LIMIT: Duration = Duration::from_secs(3);

/// The pause between two tries of a small request to the store.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// What membership asks of the node around it.
#[async_trait]
pub trait NodePort: Send + Sync {
    /// Whether a live process answers as `node` at `address` (`host:port`, gRPC). Should take no
    /// longer than a second; a wrong "no" only costs the time until the lease ends.
    async fn answers(&self, node: &NodeId, address: &str) -> bool;

    /// Drops every activation without saving: the lease is lost, others may own the shards.
    /// Called after the fence closed and before [`MembershipState::Lost`] is published, and again
    /// before the fence opens for the next life.
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
    parts: MembershipParts,
    state: watch::Sender<MembershipState>,
    wanted: watch::Sender<NodeState>,
    /// Why the node is not a full member right now.
    trouble: Mutex<Option<String>>,
    /// Why it never will be again.
    failure: Mutex<Option<JoinError>>,
    /// The lease that was granted last; the only one this process may revoke as its own.
    lease: Mutex<Option<LeaseId>>,
    /// When the node key of the last incarnation was created.
    last: Mutex<Option<Revision>>,
    /// Held from the first join to the end of the process.
    lock: Mutex<Option<LockFile>>,
    leaving: CancellationToken,
}

impl Membership {
    /// Makes a membership that begins with [`Membership::run`].
    pub fn new(parts: MembershipParts) -> Self {
        Self {
            shared: Arc::new(Shared {
                parts,
                state: watch::Sender::new(MembershipState::Joining),
                wanted: watch::Sender::new(NodeState::Joining),
                trouble: Mutex::new(None),
                failure: Mutex::new(None),
                lease: Mutex::new(None),
                last: Mutex::new(None),
                lock: Mutex::new(None),
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

    /// Returns what keeps the node from being a full member right now, in words for operators.
    pub fn trouble(&self) -> Option<String> {
        self.shared.trouble.lock().clone()
    }

    /// Waits until the node has joined for the first time. Cancel safe.
    ///
    /// # Errors
    ///
    /// Why it never will, as [`Membership::run`] returned it.
    pub async fn joined(&self) -> Result<Identity, JoinError> {
        let mut states = self.subscribe();
        loop {
            match states.borrow_and_update().clone() {
                MembershipState::Active(identity) | MembershipState::Suspended(identity) => {
                    return Ok(identity);
                }
                MembershipState::Stopped => {
                    let failure = self.shared.failure.lock().clone();
                    return Err(failure.unwrap_or(JoinError::Stopped));
                }
                MembershipState::Joining | MembershipState::Lost => {}
            }
            states.changed().await.expect("this handle has the sender");
        }
    }

    /// Sets what the node says of its own life. It is written to the node key soon, and again in
    /// each later life.
    pub fn set_state(&self, state: NodeState) {
        self.shared.wanted.send_replace(state);
    }

    /// Ends the membership: closes the fence, revokes the own lease, and returns when the state is
    /// [`MembershipState::Stopped`], at the latest after the time to live of the lease. If the
    /// store cannot be reached the lease ends by itself. Cancel safe.
    pub async fn leave(&self) {
        self.shared.leaving.cancel();
        let mut states = self.subscribe();
        let stopped = states.wait_for(|state| *state == MembershipState::Stopped);
        if timeout(self.shared.parts.settings.lease_ttl, stopped)
            .await
            .is_err()
        {
            warn!("could not leave in time; the lease ends by itself");
        }
    }

    /// Joins, keeps the lease alive, and joins again when it is lost, until [`Membership::leave`]
    /// or `shutdown`; both revoke the lease. Call it once.
    ///
    /// # Errors
    ///
    /// [`JoinError`] if the node cannot be a member and trying again will not help.
    pub async fn run(
        &self,
        node: Arc<dyn NodePort>,
        shutdown: CancellationToken,
    ) -> Result<(), JoinError> {
        let shared = &*self.shared;
        let ended = tokio::select! {
            biased; // Leaving wins over more work.
            () = shared.leaving.cancelled() => Ok(()),
            () = shutdown.cancelled() => Ok(()),
            error = shared.lives(&*node) => Err(error),
        };
        // Before the revocation: nothing may be served once others can take over.
        shared.parts.fence.close();
        shared.revoke_own().await;
        if let Err(error) = &ended {
            shared.failure.lock().replace(error.clone());
        }
        shared.publish(MembershipState::Stopped);
        ended
    }
}

impl Shared {
    /// One life after the other, until one cannot begin.
    async fn lives(&self, node: &dyn NodePort) -> JoinError {
        if let Err(error) = self.parts.settings.check() {
            return error;
        }
        let mut pauses = pauses();
        let mut first = true;
        loop {
            let life = match self.join(node, first).await {
                Ok(life) => life,
                Err(error) => return error,
            };
            let began = Instant::now();
            if !first {
                self.parts.metrics.membership.rejoins.inc();
                // Whoever was slow to learn of the loss may have opened a shard meanwhile.
                node.discard_all();
            }
            first = false;
            let lost = self.live(&life).await;
            warn!(identity = ?life.identity, %lost, "lost this life; dropping every activation");
            self.lose(&lost, node).await;
            // Lives that end at once must not become a busy loop.
            if began.elapsed() > self.parts.settings.lease_ttl {
                pauses = self::pauses();
            } else {
                sleep(next(&mut pauses)).await;
            }
        }
    }

    /// Serves one life until it is lost.
    async fn live(&self, life: &Life<'_>) -> String {
        let created = Revision::new(life.identity.incarnation.get());
        self.last.lock().replace(created);
        self.parts.fence.open(life.opened_until);
        self.clear_trouble();
        self.publish(MembershipState::Active(life.identity.clone()));
        info!(identity = ?life.identity, "joined");
        life.run().await.to_string()
    }

    async fn lose(&self, lost: &str, node: &dyn NodePort) {
        self.parts.fence.close();
        node.discard_all();
        self.parts.metrics.membership.lives_lost.inc();
        self.set_trouble(format!("lost the last life: {lost}"));
        self.publish(MembershipState::Lost);
        // It may be alive, if only the key went; nothing should hang on it any more.
        self.revoke_own().await;
    }

    /// Revokes the lease that this process was granted last, if it has one. If that fails the
    /// lease ends by itself.
    async fn revoke_own(&self) {
        let Some(lease) = *self.lease.lock() else {
            return;
        };
        let revoke = async {
            while let Err(error) = self.parts.store.revoke(lease).await {
                if !error.is_transient() {
                    return Err(error);
                }
                sleep(RETRY_PAUSE).await;
            }
            Ok(())
        };
        match timeout(REVOKE_LIMIT, revoke).await {
            Ok(Ok(())) => drop(self.lease.lock().take()),
            Ok(Err(error)) => warn!(%lease, %error, "cannot revoke the own lease"),
            Err(_) => warn!(%lease, "cannot revoke the own lease in time"),
        }
    }

    fn node_key(&self) -> String {
        self.parts.keys.node(&self.parts.registration.node)
    }

    fn publish(&self, state: MembershipState) {
        self.state.send_if_modified(|old| {
            let changed = *old != state;
            *old = state;
            changed
        });
    }

    fn set_trouble(&self, trouble: String) {
        self.trouble.lock().replace(trouble);
    }

    fn clear_trouble(&self) {
        self.trouble.lock().take();
    }
}

fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(JOIN_PAUSE.0)
        .with_max_delay(JOIN_PAUSE.1)
        .without_max_times()
        .with_jitter()
        .build()
}

fn next(pauses: &mut ExponentialBackoff) -> Duration {
    pauses.next().unwrap_or(JOIN_PAUSE.1)
}

#[cfg(test)]
mod tests;
