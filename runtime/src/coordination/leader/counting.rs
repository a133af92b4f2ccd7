//! Plans that have ended, until the objects that moved are counted. Pure.
//!
//! A plan has ended when its targets own its shards, as the store says. Whether they have the
//! objects only they can say, a moment later: so their reports are asked for, and the plan's record
//! is written once more. What is not reported in time stays unknown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Moment;
use crate::coordination::plans::{MovePhase, PlanRecord};
use crate::ids::{PlanId, Revision, ShardId};
use crate::placement::{Arrival, ClusterView};

/// How long after its end a plan's objects are counted at most.
const COUNT_LIMIT: Duration = Duration::from_secs(30);

/// How long to wait before reports are asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Most plans whose objects are counted at a time; of more, the oldest stay uncounted.
const PLANS_MAX: usize = 16;

/// The plans whose objects are not counted yet, or whose count is not written.
#[derive(Debug, Default)]
pub(super) struct Counting {
    plans: BTreeMap<PlanId, Uncounted>,
    /// When to ask for reports; `None`: nothing is missing.
    ask_at: Option<Moment>,
}

#[derive(Debug)]
struct Uncounted {
    record: Arc<PlanRecord>,
    /// When the owner keys were written of shards that came with state, and what was reported.
    came: BTreeMap<ShardId, (Revision, Option<Arrival>)>,
    until: Moment,
}

impl Counting {
    /// Begins to count for a plan that has ended, if its check wants that.
    pub(super) fn begin(&mut self, record: &Arc<PlanRecord>, view: &ClusterView, now: Moment) {
        let is_counted = record
            .check
            .is_none_or(|check| check.objects_before.is_some());
        if is_counted {
            return;
        }
        let came = handed_over(record, view).map(|(shard, at)| (shard, (at, None)));
        let uncounted = Uncounted {
            record: record.clone(),
            came: came.collect(),
            until: now.plus(COUNT_LIMIT),
        };
        self.plans.insert(record.id, uncounted);
        while self.plans.len() > PLANS_MAX {
            self.plans.pop_first();
        }
        self.ask_at = Some(now);
    }

    /// Takes in what was reported, and returns whether to ask for more.
    pub(super) fn see(
        &mut self,
        view: &ClusterView,
        arrivals: &BTreeMap<ShardId, Arrival>,
        now: Moment,
    ) -> bool {
        self.plans.retain(|_, plan| plan.until > now);
        for plan in self.plans.values_mut() {
            plan.see(view, arrivals);
        }
        let is_missing = self.plans.values().any(|plan| !plan.is_counted());
        let asks = is_missing && self.ask_at.is_none_or(|at| at <= now);
        match (is_missing, asks) {
            (false, _) => self.ask_at = None,
            (true, true) => self.ask_at = Some(now.plus(ASK_AGAIN)),
            (true, false) => {}
        }
        asks
    }

    /// When to look again though nothing happens.
    pub(super) fn next_at(&self) -> Option<Moment> {
        self.ask_at
    }

    /// Returns the records of the plans that are counted.
    pub(super) fn counted(&self) -> Vec<Arc<PlanRecord>> {
        let counted = self.plans.values().filter(|plan| plan.is_counted());
        counted.map(|plan| plan.record.clone()).collect()
    }

    /// Forgets a plan whose count is written; returns whether it was one of those.
    pub(super) fn written(&mut self, plan: PlanId) -> bool {
        self.plans.remove(&plan).is_some()
    }
}

impl Uncounted {
    fn is_counted(&self) -> bool {
        let check = self.record.check.as_ref();
        check.is_some_and(|check| check.objects_before.is_some())
    }

    fn see(&mut self, view: &ClusterView, arrivals: &BTreeMap<ShardId, Arrival>) {
        if self.is_counted() {
            return;
        }
        // One that has moved again is another plan's.
        self.came
            .retain(|shard, (at, known)| known.is_some() || is_of(*shard, *at, view));
        for (shard, (at, known)) in &mut self.came {
            let arrival = arrivals.get(shard);
            *known = known.or(arrival.filter(|came| came.revision == *at).copied());
        }
        let all: Option<Vec<Arrival>> = self.came.values().map(|(_, known)| *known).collect();
        if let Some(all) = all {
            let record = Arc::make_mut(&mut self.record);
            if let Some(check) = &mut record.check {
                check.count(&all);
            }
        }
    }
}

fn is_of(shard: ShardId, at: Revision, view: &ClusterView) -> bool {
    view.owners.get(shard).revision == at
}

/// Returns the shards of a plan's moves that are done that came with state, and when their owner
/// keys were written.
pub(super) fn handed_over<'a>(
    record: &'a PlanRecord,
    view: &'a ClusterView,
) -> impl Iterator<Item = (ShardId, Revision)> + 'a {
    let moves = record.moves.iter();
    let done = moves.filter(|step| step.phase == MovePhase::Done);
    done.filter_map(|step| {
        let newest = view.owners.get(step.shard);
        let owner = newest.owner.as_ref()?;
        let came = newest.parcel.filter(|parcel| !parcel.is_empty())?;
        let is_its = owner.node == step.to && came.revision >= step.before;
        is_its.then_some((step.shard, newest.revision))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordination::leader::tests::world::{World, shard};
    use crate::coordination::plans::PlanCheck;
    use crate::ids::Revision;
    use crate::placement::Parcel;

    fn at(seconds: u64) -> Moment {
        Moment::START.plus(Duration::from_secs(seconds))
    }

    fn arrival(revision: u64, sent: Option<u64>, taken: u64) -> Arrival {
        Arrival {
            revision: Revision::new(revision),
            sent,
            taken,
        }
    }

    /// A plan that has moved shards 0 and 1 with state, 2 with none, and 3 from a dead node.
    fn ended() -> (World, Arc<PlanRecord>) {
        let mut world = World::new("a b", "bbbb", "aaaa");
        world.plan(7, "0:a>b 1:a>b 2:a>b 3:a>b");
        let mut record = (*world.book.get(PlanId::new(7)).expect("it runs").record).clone();
        world.own("bbbb", 9);
        for (number, attempt) in [(0, 3), (1, 4), (2, 0)] {
            let mut owner = world.view.owners.get(shard(number)).clone();
            owner.parcel = Some(Parcel {
                revision: Revision::new(5),
                attempt,
            });
            world.view.owners.set(shard(number), owner);
        }
        for step in &mut record.moves {
            step.phase = MovePhase::Done;
        }
        record.check = Some(PlanCheck {
            checked: 4,
            ..Default::default()
        });
        (world, Arc::new(record))
    }

    fn check(counting: &Counting) -> Option<PlanCheck> {
        counting.counted().first().and_then(|record| record.check)
    }

    #[test]
    fn what_came_is_counted_once_all_who_have_it_have_said_so() {
        let (world, record) = ended();
        let mut counting = Counting::default();
        counting.begin(&record, &world.view, at(1));
        let mut told = BTreeMap::from([(shard(0), arrival(9, Some(5), 5))]);
        assert!(
            counting.see(&world.view, &BTreeMap::new(), at(1)),
            "it asks"
        );
        assert!(
            !counting.see(&world.view, &told, at(1)),
            "not at once again"
        );
        assert_eq!(check(&counting), None);
        told.insert(shard(1), arrival(8, Some(3), 3));
        assert!(counting.see(&world.view, &told, at(2)), "that is older");
        told.insert(shard(1), arrival(9, Some(30), 29));
        told.insert(shard(2), arrival(9, Some(99), 99));
        assert!(!counting.see(&world.view, &told, at(3)));
        let counted = check(&counting).expect("counted");
        let sums = (counted.objects_before, counted.objects_after);
        assert_eq!(sums, (Some(35), Some(34)));
        assert!(!counted.is_good(), "one is lost");
        assert_eq!(counting.next_at(), None);
        assert!(counting.written(record.id) && !counting.written(record.id));
    }

    #[test]
    fn state_that_never_arrived_is_bad_whatever_was_sent() {
        let (world, record) = ended();
        let mut counting = Counting::default();
        counting.begin(&record, &world.view, at(1));
        let told = [(0, Some(5), 5), (1, None, 0)];
        let told = told.map(|(number, sent, taken)| (shard(number), arrival(9, sent, taken)));
        counting.see(&world.view, &told.into(), at(1));
        let counted = check(&counting).expect("counted");
        assert_eq!(
            (counted.objects_before, counted.parcels_missing),
            (Some(5), 1)
        );
        assert!(!counted.is_good());
    }

    #[test]
    fn shards_that_moved_again_are_left_out() {
        let (mut world, record) = ended();
        let mut counting = Counting::default();
        counting.begin(&record, &world.view, at(1));
        let told = BTreeMap::from([(shard(0), arrival(9, Some(5), 5))]);
        counting.see(&world.view, &told, at(1));
        let again = crate::placement::OwnerRecord {
            revision: Revision::new(12),
            ..world.view.owners.get(shard(1)).clone()
        };
        world.view.owners.set(shard(1), again);
        counting.see(&world.view, &told, at(2));
        let counted = check(&counting).expect("counted");
        assert_eq!(counted.objects_after, Some(5));
        assert!(counted.is_good());
    }

    #[test]
    fn what_nobody_tells_stays_unknown() {
        let (world, record) = ended();
        let mut counting = Counting::default();
        counting.begin(&record, &world.view, at(1));
        assert!(counting.see(&world.view, &BTreeMap::new(), at(30)));
        assert!(!counting.see(&world.view, &BTreeMap::new(), at(31)));
        assert_eq!((check(&counting), counting.next_at()), (None, None));
    }
}
