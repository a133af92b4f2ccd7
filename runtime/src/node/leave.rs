//! Leaving a cluster: drain while serving, release the rest, revoke the lease, close.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::join::Taking;
use super::{Node, Stopping};
use crate::coordination::membership::MembershipState;
use crate::ids::NodeId;
use crate::placement::{ClusterView, NodeState};

/// How long the last closings may take once the drain timeout has passed or the stop is hurried.
const LAST_CLOSINGS: Duration = Duration::from_secs(1);

/// How long the answers to calls that other nodes sent here are waited for, once no shard is left.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// How long the node's tasks may take to end.
const TASKS_GRACE: Duration = Duration::from_secs(2);

impl Node {
    /// Stops the node in order: others take its shards over while it still serves, what is left
    /// when the drain timeout has passed is released, then it leaves the cluster.
    ///
    /// Takes no longer than the drain timeout and a few seconds. Called again, by any clone, it
    /// waits for the same end. Dropping the future leaves the node half stopped: its lease then
    /// ends by itself once the process does.
    pub async fn stop(&self) {
        self.stop_after(std::future::ready(())).await;
    }

    /// The same, and waits for `doors` before it leaves, once it has no shard left: whoever lets
    /// calls in beside the node's own server, as an HTTP server does, sees them answered there while
    /// the node can still pass them on. They get what is left of the drain timeout, a second at
    /// least, and nothing if the stop is hurried.
    pub async fn stop_after(&self, doors: impl Future<Output = ()>) {
        let first = self.shared.stopping.send_if_modified(|stage| {
            let first = *stage == Stopping::No;
            if first {
                *stage = Stopping::Began;
            }
            first
        });
        if !first {
            return self.stopped().await;
        }
        if let Some(taking) = self.shared.taking.get() {
            self.leave(taking, doors).await;
        }
        if !self.shared.tasks.stop(TASKS_GRACE).await {
            warn!(node = %self.id(), "some tasks did not end in time");
        }
        self.shared.stopping.send_replace(Stopping::Done);
    }

    /// Makes a stop that is under way, or a later one, drain no longer: shards whose turns do
    /// not end within a second are left to the end of the lease.
    pub fn hurry(&self) {
        self.shared.hurry.cancel();
    }

    /// Ends the node without a goodbye, as a crash would: nothing is saved, released or revoked.
    #[cfg(feature = "testing")]
    pub async fn crash(&self) {
        self.shared.stopping.send_replace(Stopping::Done);
        self.shared.host.discard_all();
        self.shared.tasks.stop(TASKS_GRACE).await;
        self.shared.fence.close();
    }

    async fn leave(&self, taking: &Taking, doors: impl Future<Output = ()>) {
        // A drain that an operator began has used up some of the time.
        let began = self.shared.draining.borrow().unwrap_or_else(Instant::now);
        let deadline = began + self.shared.drain_timeout;
        taking.membership.set_state(NodeState::Draining);
        tokio::select! {
            () = self.give_shards_up(taking, deadline) => {}
            never = self.tell_while_suspended(taking, deadline) => match never {},
        }
        self.last_calls(deadline, doors).await;
        taking.membership.leave().await;
        self.shared.lease.send_replace(None);
        info!(node = %self.id(), "left the cluster");
    }

    async fn give_shards_up(&self, taking: &Taking, deadline: Instant) {
        // Whoever stays should plan: a leader that leaves would be succeeded in the middle of it.
        taking.leading.resign().await;
        if somebody_can_take_over(&self.view(), self.id()) {
            self.hand_over(taking, deadline).await;
        }
        let hurried = async {
            self.shared.hurry.cancelled().await;
            self.release_rest(taking, LAST_CLOSINGS).await
        };
        let left = tokio::select! {
            left = self.release_rest(taking, self.limit(deadline)) => left,
            left = hurried => left,
        };
        if left > 0 {
            warn!(node = %self.id(), shards = left, "left with shards that could not be given up");
        }
    }

    /// Gives up what was not handed over, and returns how many shards are left all the same.
    async fn release_rest(&self, taking: &Taking, limit: Duration) -> u32 {
        let released = taking.reconciler.release_all(limit);
        let (left, _) = tokio::join!(released, self.shared.host.close_node_bound(limit));
        left
    }

    /// Tells the log that the stop waits for the store, whenever it begins to.
    ///
    /// It must wait. While the store is away nothing can be handed over, and behind the fence nothing
    /// saved; but nobody can tell whether it comes back in time, and then both go on. What
    /// would be lost is what objects have in memory alone, so whether that is worth the wait is for
    /// whoever stops the node to say.
    async fn tell_while_suspended(&self, taking: &Taking, deadline: Instant) -> Infallible {
        let is_suspended = |state: &MembershipState| matches!(state, MembershipState::Suspended(_));
        let mut states = taking.membership.subscribe();
        // The sender lives as long as the membership does; without it there is nothing to tell.
        while states.wait_for(is_suspended).await.is_ok() {
            let left = deadline.saturating_duration_since(Instant::now());
            warn!(node = %self.id(), ?left, "the store is away: waits for it, since unsaved state would be lost; hurry to go without");
            if states.wait_for(|state| !is_suspended(state)).await.is_err() {
                break;
            }
        }
        std::future::pending().await
    }

    /// Returns what is left until the deadline, or a last moment if it has passed.
    fn limit(&self, deadline: Instant) -> Duration {
        if self.shared.hurry.is_cancelled() {
            return LAST_CLOSINGS;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        left.max(LAST_CLOSINGS)
    }

    /// Waits until nobody has a call here any more, be it by a door of the process or from another
    /// node.
    async fn last_calls(&self, deadline: Instant, doors: impl Future<Output = ()>) {
        let limit = self.limit(deadline);
        let closed = async {
            tokio::select! {
                () = self.shared.hurry.cancelled() => false,
                closed = timeout(limit, doors) => closed.is_ok(),
            }
        };
        let (closed, ()) = tokio::join!(closed, self.last_answers(limit));
        if !closed {
            warn!(node = %self.id(), "leaving with requests that are not answered");
        }
    }

    /// Waits for the answers to calls that were passed on from here, which only this node can
    /// bring back.
    async fn last_answers(&self, limit: Duration) {
        let answered = self.shared.router.answered();
        let in_time = tokio::select! {
            () = self.shared.hurry.cancelled() => false,
            answered = timeout(limit.min(LAST_ANSWERS), answered) => answered.is_ok(),
        };
        if !in_time {
            warn!(node = %self.id(), "leaving with calls that are not answered");
        }
    }

    /// Waits until the others have taken every shard, as long as that may take.
    async fn hand_over(&self, taking: &Taking, deadline: Instant) {
        let mut progress = taking.reconciler.progress();
        let drained = async {
            // The sender lives as long as the reconciler; if that ends, so does the wait.
            let _ = progress.wait_for(|now| now.owned == 0).await;
        };
        let limit = deadline.saturating_duration_since(Instant::now());
        let mut views = self.subscribe();
        let why_not = tokio::select! {
            () = self.shared.hurry.cancelled() => "hurried",
            // The whole cluster stops: whoever could have taken them is leaving too.
            _ = views.wait_for(|view| !somebody_can_take_over(view, self.id())) => {
                info!(node = %self.id(), "nobody stays who could take its shards: releasing them");
                return;
            }
            drained = timeout(limit, drained) => match drained {
                Ok(()) => return,
                Err(_) => "the drain timeout has passed",
            },
        };
        let left = taking.reconciler.progress().borrow().owned;
        if left > 0 {
            warn!(node = %self.id(), shards = left, why_not, "not drained; releasing the rest");
        }
    }
}

/// Whether another node than `leaving` takes shards, or may be let do so.
fn somebody_can_take_over(view: &ClusterView, leaving: &NodeId) -> bool {
    can_take_over(view, leaving).next().is_some()
}

/// Returns the nodes beside `leaving` that take shards, or would if they were not cordoned.
pub(super) fn can_take_over<'v>(
    view: &'v ClusterView,
    leaving: &'v NodeId,
) -> impl Iterator<Item = &'v NodeId> {
    let others = view.nodes.iter().filter(move |(node, record)| {
        *node != leaving && record.state == NodeState::Active && !record.weight.is_gate()
    });
    others.map(|(node, _)| node)
}
