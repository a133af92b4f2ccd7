//! One reign of this node: what it may write, and its plans as transactions. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::SystemTime;

use crate::coordination::keys::{self, Keys, PlanRecord};
use crate::coordination::membership::Identity;
use crate::coordination::store::{Compare, Op, Txn};
use crate::ids::{PlanId, Revision, Term};
use crate::placement::planner::{Plan, Reason};
use crate::placement::{Cause, ClusterView, Target};

/// How many plans are kept in the store for those who ask why.
pub(super) const PLANS_KEPT: usize = 100;

/// Most old plans that one transaction deletes; beside 64 blocks it has room for some more.
const DELETIONS_MAX: usize = 32;

/// A reign of this node.
#[derive(Debug)]
pub(super) struct Reign {
    pub(super) term: Term,
    /// The revision at which the leader key was last written, as far as is known. Every plan
    /// writes that key again and compares it, so that plans of one reign have one order: a plan
    /// whose outcome was unknown cannot land after a later one and bring old targets back.
    pub(super) stamp: Revision,
    /// A view must have reached this revision to be planned from: it then has the targets of the
    /// reigns before, and of every plan of this one.
    pub(super) must_see: Revision,
    /// The plans in the store, oldest first.
    plans: VecDeque<u64>,
}

impl Reign {
    /// Begins a reign in which nothing was written yet.
    pub(super) fn new(term: Term, plans: Vec<u64>) -> Self {
        let began = Revision::new(term.get());
        Self {
            term,
            stamp: began,
            must_see: began,
            plans: plans.into(),
        }
    }

    /// Returns the transaction that writes a plan made of `view`. The plan's ID is the view's
    /// revision, which grows from plan to plan and from leader to leader.
    pub(super) fn txn(
        &self,
        plan: &Plan,
        view: &ClusterView,
        me: &Identity,
        keys: &Keys,
        at: SystemTime,
    ) -> Txn {
        let id = view.revision.get();
        let mut targets = view.targets.clone();
        for (shard, target) in &plan.targets {
            targets.set(*shard, target.clone());
        }
        for step in &plan.moves {
            let cause = Some(Cause {
                plan: PlanId::new(id),
                reason: step.reason,
                at,
            });
            let target = targets.get(step.shard).clone();
            targets.set(step.shard, Target { cause, ..target });
        }
        let shards = plan.targets.keys();
        let blocks: BTreeSet<u32> = shards.map(|shard| targets.block_of(*shard)).collect();
        let leader = Op::Put {
            key: keys.leader(),
            value: keys::encode_leader(&me.node),
            lease: Some(me.lease),
        };
        let record = Op::Put {
            key: keys.plan(id),
            value: keys::encode_plan(&self.record(plan, me, at)),
            lease: None,
        };
        let blocks = blocks.into_iter().map(|block| Op::Put {
            key: keys.target(block),
            value: keys::encode_targets(targets.block(block)),
            lease: None,
        });
        let old = self.too_old().map(|id| Op::Delete(keys.plan(*id)));
        Txn {
            compares: vec![
                Compare::Created(keys.leader(), Revision::new(self.term.get())),
                Compare::Modified(keys.leader(), self.stamp),
            ],
            then: [leader, record]
                .into_iter()
                .chain(blocks)
                .chain(old)
                .collect(),
            otherwise: vec![Op::Get(keys.leader())],
        }
    }

    /// Notes that a plan made of a view of revision `id` was written at `revision`.
    pub(super) fn written(&mut self, id: u64, revision: Revision) {
        let deleted = self.too_old().count();
        self.plans.drain(..deleted);
        self.plans.push_back(id);
        self.stamp = revision;
        self.must_see = revision;
    }

    fn too_old(&self) -> impl Iterator<Item = &u64> {
        let excess = (self.plans.len() + 1).saturating_sub(PLANS_KEPT);
        self.plans.iter().take(excess.min(DELETIONS_MAX))
    }

    fn record(&self, plan: &Plan, me: &Identity, at: SystemTime) -> PlanRecord {
        let mut moves = BTreeMap::new();
        for step in &plan.moves {
            *moves.entry(step.reason.as_str().to_owned()).or_default() += 1;
        }
        PlanRecord {
            leader: me.node.clone(),
            term: self.term,
            reason: reason(plan).to_owned(),
            moves,
            at,
        }
    }
}

/// Returns the name of the weightiest reason of a plan.
pub(super) fn reason(plan: &Plan) -> &'static str {
    let reasons = plan.moves.iter().map(|step| step.reason);
    Reason::weightiest(reasons).map_or("none", Reason::as_str)
}
