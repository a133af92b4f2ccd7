//! What operators do with a cluster, by way of any of its nodes or of an observer.
//!
//! Commands are carried out by the leader; the asked node passes them on. A command that finds no
//! leader, or one that has just lost the lead, is tried again until its time is up: each says what
//! should be, so trying again does no harm.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::time::{Instant, sleep};

use super::join::Taking;
use super::operator::OperatorClient;
use super::{Node, Observer};
use crate::coordination::commands::{Command, Done, Refusal, RefusalCode};
use crate::coordination::keys::{self, Keys};
use crate::coordination::leader::Insight;
use crate::coordination::plans::PlanRecord;
use crate::coordination::store::{Store, StoreError};
use crate::ids::{NodeId, PlanId, ShardId};
use crate::placement::ClusterView;
use crate::placement::planner::Strategy;
use crate::routing::network::Network;

/// How long a command may take, from the moment it was given.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the leader may take to answer one question.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(2);

/// The first and the longest pause before a command is passed on again.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// A cluster, as operators see it. A cheap handle; made by [`Node::cluster`] or
/// [`Observer::cluster`].
///
/// Every command is idempotent, takes at most ten seconds, and is answered with what is so now or a
/// typed [`Refusal`]. After [`RefusalCode::NoAnswer`], and if the future is dropped, it may have
/// been carried out, or may yet be.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub(super) way: Way,
}

/// Through whom a cluster is seen, and told what to do.
#[derive(Clone, Debug)]
pub(super) enum Way {
    Node(Node),
    Observer(Observer),
}

impl Way {
    /// The name under which commands are passed on.
    fn name(&self) -> &NodeId {
        match self {
            Self::Node(node) => node.id(),
            Self::Observer(observer) => observer.name(),
        }
    }

    fn view(&self) -> Arc<ClusterView> {
        match self {
            Self::Node(node) => node.view(),
            Self::Observer(observer) => observer.view(),
        }
    }

    fn network(&self) -> &Arc<dyn Network> {
        match self {
            Self::Node(node) => &node.shared.network,
            Self::Observer(observer) => observer.network(),
        }
    }

    /// What takes part in the cluster here, if this node is the one that is meant.
    fn is_node(&self, meant: &NodeId) -> Option<&Node> {
        match self {
            Self::Node(node) if node.id() == meant => Some(node),
            Self::Node(_) | Self::Observer(_) => None,
        }
    }

    fn store(&self) -> Option<(&Arc<dyn Store>, &Keys)> {
        match self {
            Self::Node(node) => {
                let taking = node.shared.taking.get()?;
                Some((&taking.store, &taking.keys))
            }
            Self::Observer(observer) => Some(observer.store()),
        }
    }
}

impl Cluster {
    /// Pins a shard to a node; `None`: to where it is.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub async fn pin(&self, shard: ShardId, node: Option<NodeId>) -> Result<Done, Refusal> {
        self.order(Command::Pin { shard, node }).await
    }

    /// Lets a shard be moved again.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub async fn unpin(&self, shard: ShardId) -> Result<Done, Refusal> {
        self.order(Command::Unpin { shard }).await
    }

    /// Moves shards, at most [`MOVES_MAX`](crate::coordination::commands::MOVES_MAX) at once.
    /// Returns when the moves are planned; the plan tells how they go.
    ///
    /// # Errors
    ///
    /// [`Refusal`]; then none of them moves.
    pub async fn move_shards(
        &self,
        moves: impl IntoIterator<Item = (ShardId, NodeId)>,
    ) -> Result<Done, Refusal> {
        let moves = moves.into_iter().collect();
        self.order(Command::Move { moves }).await
    }

    /// Lets a node keep what it has and get nothing more.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub async fn cordon(&self, node: NodeId) -> Result<Done, Refusal> {
        self.order(Command::Cordon { node }).await
    }

    /// Lets a node get shards again.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub async fn uncordon(&self, node: NodeId) -> Result<Done, Refusal> {
        self.order(Command::Uncordon { node }).await
    }

    /// Releases a shard from quarantine.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub async fn release(&self, shard: ShardId) -> Result<Done, Refusal> {
        self.order(Command::Release { shard }).await
    }

    /// Has the planner look now; `dry_run` only tells what it would do.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub async fn rebalance(
        &self,
        dry_run: bool,
        strategy: Option<Strategy>,
    ) -> Result<Done, Refusal> {
        self.order(Command::Rebalance { dry_run, strategy }).await
    }

    /// Pauses balancing. What nobody serves is still placed, and nodes still drain.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub async fn pause(&self) -> Result<Done, Refusal> {
        self.order(Command::Pause).await
    }

    /// Goes on balancing.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub async fn resume(&self) -> Result<Done, Refusal> {
        self.order(Command::Resume).await
    }

    /// Ends a plan early: what is under way goes on, the rest is cancelled; with `reverse` what
    /// was moved moves back. A plan of the planner's own also pauses balancing, or it would begin
    /// the same again.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub async fn abort(&self, plan: PlanId, reverse: bool) -> Result<Done, Refusal> {
        self.order(Command::Abort { plan, reverse }).await
    }

    /// Lets a node hand its shards over while it serves, and then leave and, as a process, exit.
    /// Returns as soon as it has begun.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub async fn drain(&self, node: &NodeId) -> Result<Done, Refusal> {
        self.drain_or_undo(node, false).await
    }

    /// Takes [`Cluster::drain`] back, as long as the node has not begun to leave.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub async fn undrain(&self, node: &NodeId) -> Result<Done, Refusal> {
        self.drain_or_undo(node, true).await
    }

    /// Gives a command.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub async fn order(&self, command: Command) -> Result<Done, Refusal> {
        let until = Instant::now() + COMMAND_TIMEOUT;
        let backoff = ExponentialBuilder::new()
            .with_min_delay(RETRY.0)
            .with_max_delay(RETRY.1)
            .without_max_times()
            .with_jitter();
        for pause in backoff.build() {
            let left = until.saturating_duration_since(Instant::now());
            let answer = self.order_once(command.clone(), left).await;
            let is_over = Instant::now() + pause >= until;
            match answer {
                Err(refusal) if is_worth_another_try(refusal.code) && !is_over => {
                    sleep(pause).await;
                }
                answer => return answer,
            }
        }
        unreachable!("the backoff has no end")
    }

    async fn order_once(&self, command: Command, limit: Duration) -> Result<Done, Refusal> {
        let via = self.way.name().clone();
        let leader = self.leader().ok_or_else(|| Refusal::not_leader(None))?;
        match self.way.is_node(&leader) {
            Some(node) => taking(node)?.leader.order(command, via, limit).await,
            None => self.client(&leader)?.order(command, &via, limit).await,
        }
    }

    /// Asks the leader what it knows beside what everybody can see: about a shard, or about the
    /// cluster only.
    ///
    /// # Errors
    ///
    /// [`Refusal`] if nobody leads, or the leader does not answer within two seconds.
    pub async fn insight(&self, shard: Option<ShardId>) -> Result<Insight, Refusal> {
        let leader = self.leader().ok_or_else(|| Refusal::not_leader(None))?;
        match self.way.is_node(&leader) {
            Some(node) => taking(node)?.leader.insight(shard, QUESTION_TIMEOUT).await,
            None => self.client(&leader)?.ask(shard, QUESTION_TIMEOUT).await,
        }
    }

    /// Returns the plans that the store keeps, newest first. Those that cannot be read are left
    /// out. Costs one read of the store.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn plans(&self) -> Result<Vec<PlanRecord>, StoreError> {
        let Some((store, keys)) = self.way.store() else {
            return Ok(Vec::new());
        };
        let count = self.way.view().meta.shard_count;
        let listing = store.list(&keys.plans()).await?;
        let read = listing.entries.iter();
        let mut plans: Vec<_> = read
            .filter_map(|entry| keys::decode_plan(entry, keys, count).ok())
            .collect();
        plans.sort_by_key(|plan| std::cmp::Reverse(plan.id));
        Ok(plans)
    }

    async fn drain_or_undo(&self, node: &NodeId, undo: bool) -> Result<Done, Refusal> {
        match (self.way.is_node(node), undo) {
            (Some(node), true) => node.undrain(),
            (Some(node), false) => node.drain(),
            (None, _) => self.client(node)?.drain(self.way.name(), undo).await,
        }
    }

    fn leader(&self) -> Option<NodeId> {
        let view = self.way.view();
        view.leader.as_ref().map(|leader| leader.node.clone())
    }

    fn client(&self, node: &NodeId) -> Result<OperatorClient, Refusal> {
        let view = self.way.view();
        let record = view.nodes.get(node).ok_or_else(|| {
            let detail = format!("there is no live node {node}");
            Refusal::new(RefusalCode::UnknownNode, detail)
        })?;
        Ok(OperatorClient::new(
            self.way.network().clone(),
            &record.grpc,
            view.meta.shard_count,
        ))
    }
}

fn taking(node: &Node) -> Result<&Taking, Refusal> {
    let taking = node.shared.taking.get();
    taking.ok_or_else(|| Refusal::not_leader(None))
}

/// Whether another leader, or the same a little later, may answer otherwise.
fn is_worth_another_try(code: RefusalCode) -> bool {
    match code {
        RefusalCode::NoLeader | RefusalCode::NotLeader | RefusalCode::NoAnswer => true,
        RefusalCode::UnknownNode
        | RefusalCode::UnknownShard
        | RefusalCode::UnknownPlan
        | RefusalCode::NotATaker
        | RefusalCode::Cordoned
        | RefusalCode::Full
        | RefusalCode::ZoneRule
        | RefusalCode::Pinned
        | RefusalCode::Quarantined
        | RefusalCode::Nowhere
        | RefusalCode::NotAbortable
        | RefusalCode::Paused
        | RefusalCode::Malformed
        | RefusalCode::Busy
        | RefusalCode::Leaving => false,
    }
}
