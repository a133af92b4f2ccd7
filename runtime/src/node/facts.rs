//! What a node knows about its own readiness, and what each unmet condition waits for.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::join::Taking;
use super::readiness::{Condition, Facts, Readiness};
use super::{Node, Progress, Stopping};
use crate::coordination::membership::MembershipState;
use crate::coordination::watcher::WatchState;
use crate::ids::{NodeId, ShardId};
use crate::placement::{ClusterView, NodeState, Reachability, Shortfall, Unclaimed};

/// The last answer about missing shards, and the view that it was made of: `/ready` is asked far
/// more often than the view of a settled cluster changes, and an answer costs a plan.
pub(super) type LastShortfall = Option<(Arc<ClusterView>, Shortfall)>;

impl Node {
    /// Returns whether the node can take traffic now, and what is missing if not.
    pub fn readiness(&self) -> Readiness {
        let waiting_for = match &*self.shared.progress.borrow() {
            Progress::Waiting(what) => Some(what.clone()),
            Progress::Joined => {
                let trouble = self.shared.taking.get().and_then(Taking::trouble);
                trouble.or_else(|| self.shared.limits.lock().clone())
            }
            Progress::Failed(error) => Some(error.to_string()),
        };
        let altered = self.shared.history.get().and_then(|of| of.altered());
        let warnings = altered.map(|what| format!("rejected a change of `meta/cluster`: {what}"));
        let facts = self.facts();
        let mut tracker = self.shared.readiness.lock();
        let readiness = tracker.observe(&facts, waiting_for, Instant::now());
        Readiness {
            warnings: warnings.into_iter().collect(),
            ..readiness
        }
    }

    /// Returns why no shard is targeted at a node; `None` if some are, or if the node is not there,
    /// not active or a gate. Judges by this node's view and settings; costs one plan.
    pub fn shortfall_of(&self, node: &NodeId) -> Option<Shortfall> {
        let view = self.view();
        let record = view.nodes.get(node)?;
        let takes = record.state == NodeState::Active && !record.weight.is_gate();
        let mut targets = view.targets.iter();
        let has_any = targets.any(|(_, target)| target.node.as_ref() == Some(node));
        let is_short = takes && !has_any;
        is_short.then(|| Shortfall::of(&view, &self.shared.plan_settings, node))
    }

    /// Returns when the quarantine of a shard ends; `None`: it is in none. Judges by this node's
    /// view and settings.
    pub fn quarantine_ends(&self, shard: ShardId) -> Option<SystemTime> {
        let view = self.view();
        let target = view.targets.get(shard);
        let suspicion = target.suspicion.filter(|_| target.quarantined)?;
        Some(UNIX_EPOCH + suspicion.released_at(&self.shared.plan_settings))
    }

    fn facts(&self) -> Facts {
        let view = self.shared.view.current();
        let record = view.nodes.get(&self.shared.id);
        let mut facts = Facts {
            gate: self.shared.gate,
            fence_open: self.shared.fence.is_open(),
            storage_works: self.shared.storage.trouble().is_none(),
            accepting: self.shared.accepting.stalled(Instant::now()).is_none(),
            draining: *self.shared.stopping.borrow() != Stopping::No
                || record.is_some_and(|record| record.state == NodeState::Draining),
            ..Facts::default()
        };
        if let Some(trouble) = self.shared.storage.trouble() {
            facts.waits(Condition::StorageWorks, trouble);
        }
        if facts.draining {
            facts.waits(Condition::NotDraining, self.why_draining());
        }
        let Some(taking) = self.shared.taking.get() else {
            return facts;
        };
        let history = self.shared.history.get();
        let replaced = history.is_some_and(|history| history.evidence().is_some());
        facts.store_connected = !replaced;
        facts.view_caught_up = *taking.watching.borrow() == WatchState::CaughtUp;
        let MembershipState::Active(identity) = taking.membership.state() else {
            return facts;
        };
        facts.lease_alive = true;
        let registered = record.filter(|record| record.incarnation == identity.incarnation);
        let is_active = registered.is_some_and(|record| record.state == NodeState::Active);
        let progress = *taking.reconciler.progress().borrow();
        facts.claimed = progress.owned as usize;
        facts.targeted = progress.targeted as usize;
        self.judge_reach(&mut facts, &view);
        self.judge_plan(&mut facts, &view, is_active);
        self.judge_claims(&mut facts, &view);
        facts
    }

    /// Decides whether others reach this node, by what they have told: it has no shards while nobody
    /// does, and loses those that it has once most do not.
    fn judge_reach(&self, facts: &mut Facts, view: &ClusterView) {
        let (id, placed) = (&self.shared.id, facts.targeted > 0);
        let reach = self.shared.reach.borrow();
        let from = reach.unreachable_from(id, view);
        let nobody = !placed && !from.is_empty() && reach.reached_by(id, view).is_empty();
        facts.reached = !nobody && reach.of(id, placed, view) != Reachability::Gone;
        if facts.reached || facts.gate {
            return;
        }
        let address = view
            .nodes
            .get(id)
            .map_or("it", |record| record.grpc.as_str());
        let names: Vec<_> = from.iter().map(NodeId::as_str).collect();
        let what = format!(
            "other nodes to reach {address}: {} cannot",
            names.join(", ")
        );
        facts.waits(Condition::Reached, what);
    }

    /// Decides whether the newest plan knows this node. One that has no shards is known if it is
    /// meant to have none: else an operator's pause or cordon would stop every rolling update.
    fn judge_plan(&self, facts: &mut Facts, view: &Arc<ClusterView>, is_active: bool) {
        facts.planned = is_active && facts.targeted > 0;
        if facts.planned || facts.gate {
            return;
        }
        if !is_active && facts.draining {
            return; // The drain says more.
        }
        if !is_active {
            let what = "the registration of this node as active";
            return facts.waits(Condition::Planned, what.into());
        }
        let shortfall = self.shortfall(view);
        facts.planned = shortfall.is_meant();
        facts.waits(Condition::Planned, shortfall.to_string());
    }

    /// Leaves out the shards that this node cannot claim whatever it does, and names the first of
    /// those that it should claim and has not.
    fn judge_claims(&self, facts: &mut Facts, view: &ClusterView) {
        if facts.met(Condition::ShardsClaimed) {
            return;
        }
        let unclaimed = Unclaimed::of(view, &self.shared.id);
        facts.targeted = facts.targeted.saturating_sub(unclaimed.held_elsewhere);
        if let Some(what) = unclaimed.first {
            facts.waits(Condition::ShardsClaimed, what);
        }
    }

    fn shortfall(&self, view: &Arc<ClusterView>) -> Shortfall {
        let mut last = self.shared.shortfall.lock();
        if let Some((seen, shortfall)) = &*last
            && Arc::ptr_eq(seen, view)
        {
            return shortfall.clone();
        }
        let shortfall = Shortfall::of(view, &self.shared.plan_settings, &self.shared.id);
        *last = Some((view.clone(), shortfall.clone()));
        shortfall
    }

    fn why_draining(&self) -> String {
        let id = &self.shared.id;
        if self.shared.draining.borrow().is_some() {
            format!("`steading undrain {id}`: an operator drains this node")
        } else {
            "nothing: this node is leaving".to_owned()
        }
    }
}
