//! Elects the node that plans, and plans while this node is it.
//!
//! Which shards go where is decided by [`placement::planner`](crate::placement::planner); here is
//! who may decide, when, and how it is written.
//!
//! # The steps, their guards, and what can fail after each
//!
//! - **Stand** creates the leader key under this life's lease. Guards: the key does not exist,
//!   else there would be two; my node key is of my incarnation, so that nobody leads who is not
//!   registered. Whether it worked is read off the view, not the reply, so a lost reply costs
//!   nothing: this node leads while the view says (me, term) and the term is younger than this
//!   life. The key ends with the lease, so a dead leader needs no verdict by others.
//! - **Plan** writes every changed block of targets and the plan's record. Guards: the leader key
//!   is of my term, else somebody else plans; and it was last written by my last plan, else a plan
//!   of unknown outcome may land late and bring old targets back. Refused: the reply shows the
//!   leader key, so either my earlier plan landed after all, or my reign is over. Unknown, or not
//!   sent: plan again from what is then known, under the same guards, so only one of them lands.
//!   A leader plans only from a view that has everything which was planned before.
//! - **Resign** deletes the leader key. Guard: my term. If it fails, the end of the lease does it.
//!
//! A plan is only a wish. Nothing here can make two nodes own a shard.
//!
//! Gates and nodes that are joining or draining do not stand: gates come and go without effect.

mod changes;
mod reign;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::changes::Changes;
use self::reign::{Reign, reason};
use super::keys::{self, ABSENT, Keys};
use super::membership::Identity;
use super::store::{Compare, Entry, Op, Store, StoreError, Txn, TxnReply};
use super::{Rights, SharedView};
use crate::clock::{Clock, Moment};
use crate::ids::{Revision, Term};
use crate::placement::checker;
use crate::placement::planner::{self, Loads, Plan, PlanSettings, Planning, Reason};
use crate::placement::{ClusterView, NodeState};
use crate::telemetry::{Metrics, PlanLabels, SkipLabels};

/// How long to wait before trying something again that failed, or that the view does not show.
const RETRY: Duration = Duration::from_millis(200);

/// Most broken invariants of a refused plan that are logged.
const BROKEN_LOGGED_MAX: usize = 10;

/// What a leader is made of.
#[derive(Debug)]
pub struct LeaderParts {
    /// Where the cluster agrees.
    pub store: Arc<dyn Store>,
    /// The cluster's keys.
    pub keys: Keys,
    /// The node's copy of the cluster.
    pub view: Arc<SharedView>,
    /// The life that leads, and whether it may.
    pub rights: Rights,
    /// What the planner's times are measured on.
    pub clock: Clock,
    /// How to plan.
    pub settings: PlanSettings,
    /// Where to count.
    pub metrics: Arc<Metrics>,
}

/// The task; see the [module](self).
#[derive(Debug)]
pub struct Leader {
    parts: LeaderParts,
    news: watch::Receiver<Arc<ClusterView>>,
    changes: Changes,
    reign: Option<Reign>,
    /// The view that the last plan was made of, if that left nothing to be written.
    settled: Option<Arc<ClusterView>>,
    /// Nothing is written before the view has reached this revision, or this moment has passed.
    rest: Option<(Revision, Instant)>,
    /// When to plan again even if nothing happens.
    again_at: Option<Moment>,
}

impl Leader {
    /// Makes a candidate, which begins with [`Leader::run`].
    pub fn new(parts: LeaderParts) -> Self {
        Self {
            news: parts.view.subscribe(),
            parts,
            changes: Changes::default(),
            reign: None,
            settled: None,
            rest: None,
            again_at: None,
        }
    }

    /// Runs until `shutdown`, then resigns if this node leads.
    ///
    /// # Errors
    ///
    /// Never; the type is what [`Tasks::spawn`](crate::Tasks::spawn) wants.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), Infallible> {
        self.news.mark_changed();
        loop {
            let wake_at = self.wake_at();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = self.parts.rights.changed() => self.settled = None,
                Ok(()) = self.news.changed() => {}
                () = sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => {}
            }
            let view = self.news.borrow_and_update().clone();
            self.changes.see(&view, self.parts.clock.now());
            self.act(view).await;
        }
        self.resign().await;
        Ok(())
    }

    fn wake_at(&self) -> Option<Instant> {
        let rested = self.rest.map(|(_, until)| until);
        let now = self.parts.clock.now();
        let again = self.again_at.map(|at| Instant::now() + at.since(now));
        rested.into_iter().chain(again).min()
    }

    /// Takes the next step, if there is one.
    async fn act(&mut self, view: Arc<ClusterView>) {
        let now = self.parts.clock.now();
        if self.again_at.is_some_and(|at| at <= now) {
            // Taken out, whatever comes of it, so that it cannot wake the task again and again.
            self.again_at = None;
            self.settled = None;
        }
        // So too a rest that is over, or a suspended node would spin on it.
        self.rest = self.rest.filter(|(_, until)| *until > Instant::now());
        if self.parts.rights.life().is_none() {
            self.end_reign();
        }
        let Some(me) = self.parts.rights.to_write() else {
            return self.skip("suspended");
        };
        if self.rests(&view) {
            return self.skip("view_behind");
        }
        match (&view.leader, reigning(&view, &me)) {
            (_, Some(term)) => {
                if self.reign.as_ref().is_none_or(|reign| reign.term != term) {
                    self.begin_reign(term).await;
                }
                self.plan(view, &me).await;
            }
            (Some(_), None) => self.end_reign(),
            (None, None) => {
                self.end_reign();
                if may_stand(&view, &me) {
                    self.stand(&me).await;
                }
            }
        }
    }

    fn rests(&mut self, view: &ClusterView) -> bool {
        let now = Instant::now();
        let resting =
            |(revision, until): (Revision, Instant)| view.revision < revision && now < until;
        self.rest = self.rest.filter(|rest| resting(*rest));
        self.rest.is_some()
    }

    async fn stand(&mut self, me: &Identity) {
        let txn = Txn {
            compares: vec![
                Compare::Created(self.parts.keys.leader(), ABSENT),
                Compare::Created(
                    self.parts.keys.node(&me.node),
                    Revision::new(me.incarnation.get()),
                ),
            ],
            then: vec![Op::Put {
                key: self.parts.keys.leader(),
                value: keys::encode_leader(&me.node),
                lease: Some(me.lease),
            }],
            otherwise: Vec::new(),
        };
        match self.parts.store.commit(txn).await {
            // Either way the view will tell who leads.
            Ok(reply) => self.rest = Some((reply.revision, Instant::now() + RETRY)),
            Err(error) => {
                warn!(%error, "cannot stand for leader: trying again");
                self.rest_for(RETRY);
            }
        }
    }

    /// Learns what earlier leaders left, so that the history of plans stays bounded.
    async fn begin_reign(&mut self, term: Term) {
        let plans = self.parts.store.list(&self.parts.keys.plans()).await;
        let plans = plans.inspect_err(|error| warn!(%error, "cannot list old plans: they stay"));
        let entries = plans.map(|listing| listing.entries).unwrap_or_default();
        let ids = entries
            .iter()
            .filter_map(|entry| self.parts.keys.plan_id(&entry.key));
        self.reign = Some(Reign::new(term, ids.collect()));
        self.settled = None;
        self.parts.metrics.coordination.leading.set(1);
        info!(%term, "this node leads");
    }

    fn end_reign(&mut self) {
        if let Some(reign) = self.reign.take() {
            self.parts.metrics.coordination.leading.set(0);
            self.again_at = None;
            info!(term = %reign.term, "this node leads no more");
        }
    }

    async fn plan(&mut self, view: Arc<ClusterView>, me: &Identity) {
        let Some(reign) = &self.reign else { return };
        if view.revision < reign.must_see {
            return self.skip("view_behind");
        }
        if self.is_settled(&view) {
            return;
        }
        let now = self.parts.clock.now();
        let planning = Planning {
            view: &view,
            changed: self.changes.times(),
            loads: &Loads::default(),
            in_flight: &[],
            settings: &self.parts.settings,
            now,
        };
        let plan = planner::plan(planning);
        let broken = checker::check(&planning, &plan);
        let least = checker::least_moves(&planning, &plan);
        // An answer in the past would only spin.
        self.again_at = plan
            .again_at
            .map(|at| at.max(now.plus(Duration::from_millis(1))));
        if !broken.is_empty() {
            error!(
                broken = broken.len(),
                "refusing to write a plan that breaks invariants"
            );
            for broken in broken.iter().take(BROKEN_LOGGED_MAX) {
                error!(%broken, "the plan breaks an invariant");
            }
            self.settled = Some(view);
            return self.count(&plan, "broken");
        }
        if plan.is_empty() {
            self.settled = Some(view);
            return self.skip(if plan.again_at.is_some() {
                "waiting"
            } else {
                "settled"
            });
        }
        self.write(plan, &view, me, least).await;
    }

    /// Whether nothing that a plan depends on changed since one left nothing to be written.
    /// Owners count only for shards without a usable target, and a settled plan left none.
    fn is_settled(&self, view: &ClusterView) -> bool {
        self.settled.as_ref().is_some_and(|settled| {
            settled.nodes == view.nodes
                && settled.meta == view.meta
                && view
                    .targets
                    .changed_since(&settled.targets)
                    .next()
                    .is_none()
        })
    }

    async fn write(&mut self, plan: Plan, view: &ClusterView, me: &Identity, least: usize) {
        let (Some(reign), true) = (
            &self.reign,
            self.parts.rights.to_write().as_ref() == Some(me),
        ) else {
            return self.skip("suspended");
        };
        let txn = reign.txn(&plan, view, me, &self.parts.keys, SystemTime::now());
        let result = self.parts.store.commit(txn).await;
        self.settled = None;
        let outcome = match result {
            Ok(reply) if reply.succeeded => {
                self.note_written(&plan, view, &reply, least);
                "written"
            }
            Ok(reply) => self.note_refused(&reply, me),
            Err(StoreError::Unknown(error)) => {
                warn!(%error, "whether the plan was written is unknown: planning again");
                self.rest_for(RETRY);
                "unknown"
            }
            Err(error) => {
                warn!(%error, "cannot write the plan: planning again");
                self.rest_for(RETRY);
                "transient"
            }
        };
        self.count(&plan, outcome);
    }

    fn note_written(&mut self, plan: &Plan, view: &ClusterView, reply: &TxnReply, least: usize) {
        let reign = self.reign.as_mut().expect("only a leader writes plans");
        reign.written(view.revision.get(), reply.revision);
        let moves = plan
            .moves
            .iter()
            .filter(|step| step.reason == Reason::Join)
            .count();
        let metrics = &self.parts.metrics.coordination;
        metrics.plan_moves.inc_by(moves as u64);
        metrics.plan_moves_least.inc_by(least as u64);
        let (reason, placed) = (reason(plan), plan.moves.len());
        info!(plan = %view.revision, reason, placed, moves, least, "wrote a plan");
    }

    /// Finds out why a plan was refused.
    fn note_refused(&mut self, reply: &TxnReply, me: &Identity) -> &'static str {
        let reign = self.reign.as_mut().expect("only a leader writes plans");
        let leader = reply.reads.first().and_then(Option::as_ref);
        let mine = |entry: &&Entry| {
            entry.create_revision.get() == reign.term.get()
                && keys::decode_leader(entry).is_ok_and(|leader| leader.node == me.node)
        };
        if let Some(entry) = leader.filter(mine) {
            warn!("an earlier plan of unknown outcome was written after all");
            reign.stamp = entry.mod_revision;
            reign.must_see = entry.mod_revision;
            self.rest = Some((entry.mod_revision, Instant::now())); // Wakes the task at once.
            return "overtaken";
        }
        warn!(term = %reign.term, "the plan is refused: another node leads");
        self.rest = Some((reply.revision, Instant::now() + RETRY));
        self.end_reign();
        "deposed"
    }

    async fn resign(&mut self) {
        let Some(term) = self.reign.as_ref().map(|reign| reign.term) else {
            return;
        };
        let txn = Txn {
            compares: vec![Compare::Created(
                self.parts.keys.leader(),
                Revision::new(term.get()),
            )],
            then: vec![Op::Delete(self.parts.keys.leader())],
            otherwise: Vec::new(),
        };
        match self.parts.store.commit(txn).await {
            Ok(_) => info!(%term, "resigned"),
            Err(error) => warn!(%error, %term, "cannot resign: the lease will end the reign"),
        }
        self.end_reign();
    }

    fn rest_for(&mut self, rest: Duration) {
        self.rest = Some((Revision::new(u64::MAX), Instant::now() + rest));
    }

    fn skip(&self, reason: &'static str) {
        if self.reign.is_some() {
            let skips = &self.parts.metrics.coordination.plan_skips;
            skips.get_or_create(&SkipLabels { reason }).inc();
        }
    }

    fn count(&self, plan: &Plan, outcome: &'static str) {
        let labels = PlanLabels {
            reason: reason(plan),
            outcome,
        };
        self.parts
            .metrics
            .coordination
            .plans
            .get_or_create(&labels)
            .inc();
    }
}

/// Returns the term of this life of this node, if it leads.
fn reigning(view: &ClusterView, me: &Identity) -> Option<Term> {
    let leader = view.leader.as_ref()?;
    let mine = leader.node == me.node && leader.term.get() > me.incarnation.get();
    mine.then_some(leader.term)
}

fn may_stand(view: &ClusterView, me: &Identity) -> bool {
    view.nodes.get(&me.node).is_some_and(|record| {
        record.incarnation == me.incarnation
            && record.state == NodeState::Active
            && !record.weight.is_gate()
    })
}
