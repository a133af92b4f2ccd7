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
//! - **Read the plans** that the store keeps, once the view has what was written before. Guards
//!   none: only the leader writes them, and a reign before this one can no more. Failed: again,
//!   before anything is planned.
//! - **Write** a draft (`draft`): changed blocks of targets, orders, and the records of plans, in
//!   one transaction. Guards: the leader key is of my term, else somebody else plans; and it was
//!   last written by my last draft, else a draft of unknown outcome may land late and bring old
//!   targets back. Refused: the reply shows the leader key, so either my earlier draft landed after
//!   all, or my reign is over. Unknown, or not sent: draw up again from what is then known, under
//!   the same guards, so only one of them lands. A leader draws up only on a view that has
//!   everything which was written before, and after a draft that landed unheard it reads the plans
//!   anew.
//! - **Follow** the moves that were ordered: by the view alone. A leader that dies after any step
//!   leaves targets, which nodes go on to fulfil, and records that may be half a second old. The next
//!   one reads off the view which moves they do not know to be ordered or done.
//! - **Resign** deletes the leader key. Guard: my term. If it fails it is tried again as long as the
//!   node lives and the view shows the key; else the end of the lease does it.
//!
//! A plan is only a wish. Nothing here can make two nodes own a shard.
//!
//! Gates and nodes that are joining or draining do not stand: gates come and go without effect.

mod answered;
mod book;
mod changes;
mod commanding;
mod counting;
mod deciding;
mod draft;
mod flights;
mod handle;
mod insight;
mod obeying;
mod planning;
mod reign;
mod stuck;
#[cfg(test)]
mod tests;
mod traced;
mod verdicts;
mod wall;
mod waves;
mod writing;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::book::Book;
use self::changes::Changes;
use self::handle::Asked;
use self::obeying::Asks;
use self::reign::Reign;
use self::stuck::Stuck;
use self::wall::Wall;
use super::commands::Refusal;
use super::keys::{self, ABSENT, Keys};
use super::membership::Identity;
use super::store::{Compare, Op, Store, StoreError, Txn};
use super::{Rights, SharedView};
use crate::clock::{Clock, Moment};
use crate::ids::{Revision, ShardId, Term};
use crate::placement::planner::{Advice, Loads, Memory, PlanSettings};
use crate::placement::{Arrival, ClusterView, NodeRecord, NodeState, Reach, ShardTable, Target};
use crate::telemetry::{Metrics, SkipLabels};

pub use self::handle::LeaderHandle;
pub use self::insight::{Excluded, Insight, WaitingMove};

/// How long to wait before trying something again that failed, or that the view does not show.
const RETRY: Duration = Duration::from_millis(200);

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
    /// What each shard costs its owner, as nodes report it.
    pub loads: watch::Receiver<Arc<Loads>>,
    /// What came with shards, as nodes report it.
    pub arrivals: watch::Receiver<Arc<BTreeMap<ShardId, Arrival>>>,
    /// Told when nodes should report soon.
    pub ask_nodes: Arc<Notify>,
    /// Who reaches whom. `None`: nobody finds out, and every node counts as reached.
    pub reach: Option<watch::Receiver<Arc<Reach>>>,
    /// Where to count.
    pub metrics: Arc<Metrics>,
}

/// The task; see the [module](self).
#[derive(Debug)]
pub struct Leader {
    parts: LeaderParts,
    news: watch::Receiver<Arc<ClusterView>>,
    changes: Changes,
    memory: Memory,
    /// Commands that wait, and where more of them come from.
    asks: Asks,
    asked: mpsc::Receiver<Asked>,
    /// What does not act in time.
    stuck: Stuck,
    /// What the planner last said that it cannot mend.
    advice: Vec<Advice>,
    wall: Wall,
    reign: Option<Reign>,
    /// The view that the last plan was made of, if that left nothing to be written.
    settled: Option<Arc<ClusterView>>,
    /// Nothing is written before the view has reached this revision, or this moment has passed.
    rest: Option<(Revision, Instant)>,
    /// When to plan again even if nothing happens.
    again_at: Option<Moment>,
    /// When a quarantine or a suspicion ends by itself.
    verdict_at: Option<Moment>,
    /// Targets that left nothing to be judged until then.
    judged: Option<ShardTable<Target>>,
}

impl Leader {
    /// Makes a candidate, which begins with [`Leader::run`], and what it is asked by.
    pub fn new(parts: LeaderParts) -> (Self, LeaderHandle) {
        let (handle, asked) = LeaderHandle::new();
        let leader = Self {
            news: parts.view.subscribe(),
            wall: Wall::beside(parts.clock),
            stuck: Stuck::new(&parts.settings),
            parts,
            changes: Changes::default(),
            memory: Memory::default(),
            asks: Asks::default(),
            asked,
            advice: Vec::new(),
            reign: None,
            settled: None,
            rest: None,
            again_at: None,
            verdict_at: None,
            judged: None,
        };
        (leader, handle)
    }

    /// Runs until `shutdown`, then tries once to resign if this node leads.
    ///
    /// # Errors
    ///
    /// Never; the type is what [`Tasks::spawn`](crate::Tasks::spawn) wants.
    pub async fn run(&mut self, shutdown: CancellationToken) -> Result<(), Infallible> {
        self.news.mark_changed();
        loop {
            let wake_at = self.wake_at();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = self.parts.rights.changed() => self.settled = None,
                Ok(()) = self.parts.loads.changed() => self.settled = None,
                Ok(()) = self.parts.arrivals.changed() => {}
                Ok(()) = self.news.changed() => {}
                () = reach_changed(&mut self.parts.reach) => {}
                Some(asked) = self.asked.recv() => self.take_in(asked),
                () = sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => {}
            }
            let view = self.view_to_plan_on();
            let now = self.parts.clock.now();
            self.changes.see(&view, now);
            let loads = self.parts.loads.borrow().clone();
            self.memory.see(&view, &loads, &self.parts.settings, now);
            self.act(view).await;
        }
        self.asked.close();
        self.asks.refuse_all(&Refusal::not_leader(None));
        self.resign().await;
        Ok(())
    }

    /// Returns the newest view, in which nodes that others do not reach count as joining or draining.
    /// So they neither get shards nor lead, and lose shards only as any draining node does.
    fn view_to_plan_on(&mut self) -> Arc<ClusterView> {
        let view = self.news.borrow_and_update().clone();
        match &mut self.parts.reach {
            Some(reach) => reach.borrow_and_update().seen(&view),
            None => view,
        }
    }

    /// Gives the lead up whenever the view says that this node has it, until `shutdown`. To follow
    /// [`Leader::run`]: a node that drains keeps its lease, so that nobody else could lead, and
    /// plan where its shards go, while the key stands because the store did not answer.
    pub async fn stay_resigned(&mut self, shutdown: CancellationToken) {
        loop {
            let view = self.news.borrow_and_update().clone();
            let life = self.parts.rights.life();
            let term = life.and_then(|me| reigning(&view, &me));
            if let Some(term) = term
                && let Err(error) = self.give_lead_up(term).await
            {
                debug!(%error, %term, "still cannot resign");
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                Ok(()) = self.news.changed() => {}
                () = sleep(RETRY), if term.is_some() => {}
            }
        }
    }

    fn wake_at(&self) -> Option<Instant> {
        let rested = self.rest.map(|(_, until)| until);
        let book = self.reign.as_ref().and_then(|reign| reign.book.as_ref());
        let due = book.and_then(Book::due_at);
        let flights = self.reign.as_ref().map(|reign| &reign.flights);
        let overdue = flights.and_then(|flights| self.stuck.next_at(flights));
        let counting = self
            .reign
            .as_ref()
            .and_then(|reign| reign.counting.next_at());
        let now = self.parts.clock.now();
        let wakes = due.into_iter().chain(self.again_at).chain(overdue);
        let wakes = wakes.chain(counting).chain(self.verdict_at);
        let wakes = wakes.map(|at| Instant::now() + at.since(now));
        match rested {
            // Nothing is done before that, so nothing else may wake the task again and again.
            Some(rested) => Some(rested),
            None if self.parts.rights.to_write().is_some() => wakes.min(),
            // What is due stays due until the node may write again: woken for it at once, a
            // suspended leader would spin for as long as etcd is away.
            None => wakes.min().map(|at| at.max(Instant::now() + RETRY)),
        }
    }

    /// Takes the next step, if there is one.
    async fn act(&mut self, view: Arc<ClusterView>) {
        let now = self.parts.clock.now();
        if self.again_at.is_some_and(|at| at <= now) {
            // Taken out, whatever comes of it, so that it cannot wake the task again and again.
            self.again_at = None;
            self.settled = None;
        }
        if self.verdict_at.is_some_and(|at| at <= now) {
            (self.verdict_at, self.judged) = (None, None);
        }
        // So too a rest that is over, or a suspended node would spin on it.
        self.rest = self.rest.filter(|(_, until)| *until > Instant::now());
        if self.parts.rights.life().is_none() {
            self.end_reign();
        }
        let Some(me) = self.parts.rights.to_write() else {
            // A fenced leader plans nothing, and another node may lead by now.
            self.parts.metrics.coordination.leading.set(0);
            self.refuse_commands(&view);
            return self.skip("suspended");
        };
        if self.rests(&view) {
            return self.skip("view_behind");
        }
        match (&view.leader, reigning(&view, &me)) {
            (_, Some(term)) => {
                if self.reign.as_ref().is_none_or(|reign| reign.term != term) {
                    self.begin_reign(term);
                }
                self.parts.metrics.coordination.leading.set(1);
                if should_resign(&view, &me) {
                    self.resign().await;
                    return self.refuse_commands(&view);
                }
                self.lead(view, &me).await;
            }
            (Some(_), None) => {
                self.end_reign();
                self.refuse_commands(&view);
            }
            (None, None) => {
                self.end_reign();
                self.refuse_commands(&view);
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

    fn begin_reign(&mut self, term: Term) {
        self.reign = Some(Reign::new(term));
        self.settled = None;
        info!(%term, "this node leads");
    }

    fn end_reign(&mut self) {
        if let Some(reign) = self.reign.take() {
            self.parts.metrics.coordination.leading.set(0);
            (self.again_at, self.verdict_at, self.judged) = (None, None, None);
            info!(term = %reign.term, "this node leads no more");
        }
    }

    async fn resign(&mut self) {
        let Some(term) = self.reign.as_ref().map(|reign| reign.term) else {
            return;
        };
        if let Err(error) = self.give_lead_up(term).await {
            warn!(%error, %term, "cannot resign yet");
        }
        self.end_reign();
    }

    async fn give_lead_up(&self, term: Term) -> Result<(), StoreError> {
        let txn = Txn {
            compares: vec![Compare::Created(
                self.parts.keys.leader(),
                Revision::new(term.get()),
            )],
            then: vec![Op::Delete(self.parts.keys.leader())],
            otherwise: Vec::new(),
        };
        self.parts.store.commit(txn).await?;
        info!(%term, "resigned");
        Ok(())
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
}

async fn reach_changed(reach: &mut Option<watch::Receiver<Arc<Reach>>>) {
    let changed = match reach {
        Some(reach) => reach.changed().await.is_ok(),
        None => false,
    };
    if !changed {
        std::future::pending::<()>().await;
    }
}

/// Returns the term of this life of this node, if it leads.
fn reigning(view: &ClusterView, me: &Identity) -> Option<Term> {
    let leader = view.leader.as_ref()?;
    let mine = leader.node == me.node && leader.term.get() > me.incarnation.get();
    mine.then_some(leader.term)
}

/// Whether this node drains and another can lead: whoever stays should plan.
fn should_resign(view: &ClusterView, me: &Identity) -> bool {
    let drains = |record: &NodeRecord| record.state == NodeState::Draining;
    let stays = |record: &NodeRecord| record.state == NodeState::Active && !record.weight.is_gate();
    view.nodes.get(&me.node).is_some_and(drains) && view.nodes.values().any(stays)
}

fn may_stand(view: &ClusterView, me: &Identity) -> bool {
    view.nodes.get(&me.node).is_some_and(|record| {
        record.incarnation == me.incarnation
            && record.state == NodeState::Active
            && !record.weight.is_gate()
    })
}
