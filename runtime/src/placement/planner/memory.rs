//! What a leader remembers between plans, as a value.
//!
//! No view can tell it, and nothing breaks if it is lost with its leader: a new one waits a little
//! longer before it acts.

use std::collections::BTreeMap;
use std::time::Duration;

use super::load::busy;
use super::{Loads, Plan, PlanSettings, Reason};
use crate::clock::Moment;
use crate::ids::{Incarnation, NodeId, ShardId};
use crate::placement::{ClusterView, Owner, OwnerRecord, ShardTable};

/// What a leader remembers. Every candidate keeps one, so that a new leader knows what its predecessor
/// saw. It holds entries only for what happened lately.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Shards that were moved for their load, or by hand, and when they may be again.
    rests: BTreeMap<ShardId, Rest>,
    /// For how many windows in a row each node did too much.
    overloaded: BTreeMap<NodeId, u32>,
    /// Owners that claimed lately.
    claims: BTreeMap<ShardId, Claim>,
    /// How many owners in a row each shard lost soon after they claimed it.
    deaths: BTreeMap<ShardId, Deaths>,
    /// The owner keys, as last seen.
    owners: Option<ShardTable<OwnerRecord>>,
    /// The nodes, as last seen.
    lives: BTreeMap<NodeId, Incarnation>,
    /// When loads were last looked at.
    looked_at: Moment,
}

/// A shard that moved for its load, or by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rest {
    until: Moment,
    /// How long the rest is. A load move within as much time after it makes the next twice as long.
    length: Duration,
}

/// An ownership as it was first seen.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Claim {
    owner: Owner,
    at: Moment,
}

/// Owners that died soon, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Deaths {
    count: u32,
    last: Owner,
}

impl Memory {
    /// Takes in how the cluster is now.
    ///
    /// To be called with every view, in their order. Owners and nodes of the first one count as having
    /// been there for long. Costs time in proportion to what changed, and once a window to the
    /// shards.
    pub fn see(&mut self, view: &ClusterView, loads: &Loads, settings: &PlanSettings, now: Moment) {
        self.see_claims(view, now);
        self.see_deaths(view, settings, now);
        if now.since(self.looked_at) >= settings.load_window {
            self.looked_at = now;
            self.look_at_loads(view, loads, settings, now);
            self.forget_old(settings, now);
        }
    }

    /// Notes a plan that was written.
    pub fn note(&mut self, plan: &Plan, settings: &PlanSettings, now: Moment) {
        for step in &plan.moves {
            let length = match step.reason {
                Reason::Load => self.next_rest(step.shard, settings, now),
                Reason::Manual => settings.load_cooldown,
                Reason::Failure
                | Reason::Unplaced
                | Reason::Pin
                | Reason::Drain
                | Reason::Zone
                | Reason::Join => continue,
            };
            let until = now.plus(length);
            self.rests.insert(step.shard, Rest { until, length });
        }
    }

    /// Whether a shard rests, having been moved for its load or by hand.
    pub fn rests(&self, shard: ShardId, now: Moment) -> bool {
        self.rests.get(&shard).is_some_and(|rest| now < rest.until)
    }

    /// Returns for how many windows in a row a node did too much.
    pub fn windows_overloaded(&self, node: &NodeId) -> u32 {
        self.overloaded.get(node).copied().unwrap_or(0)
    }

    /// Returns the shards that lost owners soon after these had claimed them, with how many in a row.
    pub fn deaths(&self) -> impl Iterator<Item = (ShardId, u32)> {
        self.deaths
            .iter()
            .map(|(shard, deaths)| (*shard, deaths.count))
    }

    fn next_rest(&self, shard: ShardId, settings: &PlanSettings, now: Moment) -> Duration {
        match self.rests.get(&shard) {
            Some(rest) if now < rest.until.plus(rest.length) => {
                (rest.length * 2).min(settings.load_cooldown_max)
            }
            Some(_) | None => settings.load_cooldown,
        }
    }

    /// A claim is an owner key that names another life than before.
    fn see_claims(&mut self, view: &ClusterView, now: Moment) {
        let seen = self.owners.replace(view.owners.clone());
        let Some(seen) = seen.filter(|seen| seen.count() == view.owners.count()) else {
            return;
        };
        for shard in view.owners.changed_since(&seen) {
            let owner = view.owners.get(shard).owner.as_ref();
            match owner {
                Some(owner) if seen.get(shard).owner.as_ref() == Some(owner) => {}
                Some(owner) if !view.is_live(owner) => self.died(shard, owner.clone()),
                Some(owner) => {
                    let owner = owner.clone();
                    self.claims.insert(shard, Claim { owner, at: now });
                }
                // Given up in good order.
                None => self.survived(shard),
            }
        }
    }

    fn see_deaths(&mut self, view: &ClusterView, settings: &PlanSettings, now: Moment) {
        let nodes = view.nodes.iter();
        let lives = nodes
            .map(|(node, record)| (node.clone(), record.incarnation))
            .collect();
        if self.lives != lives {
            self.lives = lives;
            let dead = |(_, claim): &(&ShardId, &Claim)| !view.is_live(&claim.owner);
            let dead: Vec<_> = self
                .claims
                .iter()
                .filter(dead)
                .map(|(shard, _)| *shard)
                .collect();
            for shard in dead {
                let claim = self.claims.remove(&shard).expect("it was there just now");
                if now.since(claim.at) > settings.quarantine_within {
                    self.survived(shard);
                } else {
                    self.died(shard, claim.owner);
                }
            }
        }
        self.deaths
            .retain(|shard, _| !view.targets.get(*shard).quarantined);
    }

    fn forget_old(&mut self, settings: &PlanSettings, now: Moment) {
        self.rests
            .retain(|_, rest| now < rest.until.plus(rest.length));
        let old =
            |(_, claim): &(&ShardId, &Claim)| now.since(claim.at) > settings.quarantine_within;
        let old: Vec<_> = self
            .claims
            .iter()
            .filter(old)
            .map(|(shard, _)| *shard)
            .collect();
        for shard in old {
            self.survived(shard);
        }
    }

    fn survived(&mut self, shard: ShardId) {
        self.claims.remove(&shard);
        self.deaths.remove(&shard);
    }

    /// A node that dies again under the same name speaks against the node, not against its shards.
    fn died(&mut self, shard: ShardId, owner: Owner) {
        let known = self.deaths.get(&shard);
        let count = match known {
            Some(deaths) => deaths.count + u32::from(deaths.last.node != owner.node),
            None => 1,
        };
        self.deaths.insert(shard, Deaths { count, last: owner });
    }

    /// A node between the two bands goes on as it is: one that is being relieved until it is below
    /// both.
    fn look_at_loads(
        &mut self,
        view: &ClusterView,
        loads: &Loads,
        settings: &PlanSettings,
        now: Moment,
    ) {
        let earlier = std::mem::take(&mut self.overloaded);
        for busy in busy(view, loads, settings, now) {
            let windows = earlier.get(busy.node).copied().unwrap_or(0);
            let above = busy.load_permille.saturating_sub(1000);
            let is_too_much = above > settings.load_act_permille && busy.is_above_floor;
            let stays =
                above > settings.imbalance_threshold_permille && windows >= settings.load_windows;
            if is_too_much || stays {
                self.overloaded
                    .insert(busy.node.clone(), windows.saturating_add(1));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Revision, ShardCount};
    use crate::placement::planner::Move;
    use crate::placement::{ClusterMeta, News, NodeRecord};

    #[test]
    fn owners_that_die_soon_are_counted_until_one_lives_on() {
        let mut world = World::new("a b c d");
        world.claim("a").at(10).die("a");
        assert_eq!(world.deaths(), 1);
        world.claim("b").at(40).die("b");
        assert_eq!(world.deaths(), 2, "after 30 s");
        world.claim("c").at(71).die("c");
        assert_eq!(world.deaths(), 0, "after 31 s");
        world.claim("d").at(72).die("d");
        assert_eq!(world.deaths(), 1);
    }

    #[test]
    fn owners_that_were_there_before_the_first_view_have_lived_for_long() {
        let mut world = World::new("a");
        world.memory = Memory::default();
        world.claim("a");
        world.at(1).die("a");
        assert_eq!(world.deaths(), 0);
    }

    #[test]
    fn a_shard_that_is_given_up_in_good_order_has_not_lost_its_owner() {
        let mut world = World::new("a b");
        world.claim("a").at(1).die("a");
        world.claim("b").at(2).release();
        assert_eq!(world.deaths(), 0);
    }

    #[test]
    fn a_node_that_dies_again_and_again_speaks_against_itself() {
        let mut world = World::new("a b");
        for second in 1..=5 {
            world.join("a").claim("a").at(second).die("a");
        }
        assert_eq!(world.deaths(), 1);
        world.claim("b").at(6).die("b");
        assert_eq!(world.deaths(), 2);
    }

    #[test]
    fn a_claim_and_a_death_seen_at_once_count() {
        let mut world = World::new("a b");
        world.view.nodes.clear();
        world.claim("b");
        assert_eq!(world.deaths(), 1);
    }

    #[test]
    fn a_restamped_owner_key_is_no_new_claim() {
        let mut world = World::new("a");
        world.claim("a").at(20).claim("a").at(31).die("a");
        assert_eq!(world.deaths(), 0);
    }

    #[test]
    fn quarantine_ends_the_count() {
        let mut world = World::new("a");
        world.claim("a").at(1).die("a");
        let mut target = world.view.targets.get(shard()).clone();
        target.quarantined = true;
        world.view.targets.set(shard(), target);
        world.see();
        assert_eq!(world.deaths(), 0);
    }

    #[test]
    fn s1_45_a_rest_doubles_for_shards_that_move_again_soon_after() {
        let settings = PlanSettings::default();
        let mut memory = Memory::default();
        let plan = moved(Reason::Load);
        memory.note(&plan, &settings, minutes(0));
        assert!(memory.rests(shard(), minutes(4)) && !memory.rests(shard(), minutes(5)));
        memory.note(&plan, &settings, minutes(9));
        assert!(memory.rests(shard(), minutes(18)) && !memory.rests(shard(), minutes(19)));
        memory.note(&plan, &settings, minutes(29));
        assert!(!memory.rests(shard(), minutes(34)), "long after the last");
    }

    #[test]
    fn a_rest_has_a_longest_length() {
        let settings = PlanSettings::default();
        let mut memory = Memory::default();
        for minute in 0..10 {
            memory.note(&moved(Reason::Load), &settings, minutes(minute));
        }
        assert!(memory.rests(shard(), minutes(68)) && !memory.rests(shard(), minutes(69)));
    }

    #[test]
    fn shards_that_operators_move_rest_too() {
        let mut memory = Memory::default();
        memory.note(&moved(Reason::Drain), &PlanSettings::default(), minutes(0));
        assert!(!memory.rests(shard(), minutes(1)));
        memory.note(&moved(Reason::Manual), &PlanSettings::default(), minutes(0));
        assert!(memory.rests(shard(), minutes(1)));
    }

    fn moved(reason: Reason) -> Plan {
        let step = Move {
            shard: shard(),
            from: None,
            to: node("a"),
            reason,
            gain_permille: 0,
        };
        Plan {
            moves: vec![step],
            ..Plan::default()
        }
    }

    /// One shard and its owners.
    struct World {
        view: ClusterView,
        memory: Memory,
        revision: u64,
        seconds: u64,
    }

    impl World {
        fn new(nodes: &str) -> Self {
            let mut world = Self {
                view: ClusterView::empty(ClusterMeta::new(
                    "test",
                    ShardCount::new(4).expect("a power of two"),
                )),
                memory: Memory::default(),
                revision: 1,
                seconds: 0,
            };
            for name in nodes.split(' ') {
                world.join(name);
            }
            world
        }

        fn at(&mut self, seconds: u64) -> &mut Self {
            self.seconds = seconds;
            self
        }

        fn join(&mut self, name: &str) -> &mut Self {
            self.revision += 1;
            let record = NodeRecord::of(Incarnation::new(self.revision));
            self.tell(News::Node(node(name), Some(record)))
        }

        fn die(&mut self, name: &str) -> &mut Self {
            self.tell(News::Node(node(name), None))
        }

        fn claim(&mut self, name: &str) -> &mut Self {
            let life = self.view.nodes.get(&node(name));
            let owner = Owner {
                node: node(name),
                incarnation: life.map_or(Incarnation::new(1), |record| record.incarnation),
            };
            self.own(Some(owner))
        }

        fn release(&mut self) -> &mut Self {
            self.own(None)
        }

        fn own(&mut self, owner: Option<Owner>) -> &mut Self {
            self.revision += 1;
            let record = OwnerRecord {
                revision: Revision::new(self.revision),
                owner,
                parcel: None,
            };
            self.tell(News::Owner(shard(), record))
        }

        fn tell(&mut self, news: News) -> &mut Self {
            self.view.apply(news);
            self.see();
            self
        }

        fn see(&mut self) {
            let now = Moment::START.plus(Duration::from_secs(self.seconds));
            let (loads, settings) = (Loads::default(), PlanSettings::default());
            self.memory.see(&self.view, &loads, &settings, now);
        }

        fn deaths(&self) -> u32 {
            self.memory.deaths().map(|(_, count)| count).sum()
        }
    }

    fn node(name: &str) -> NodeId {
        NodeId::new(name).expect("a letter")
    }

    fn shard() -> ShardId {
        ShardId::new(1, ShardCount::DEFAULT).expect("in range")
    }

    fn minutes(minutes: u64) -> Moment {
        Moment::START.plus(Duration::from_mins(minutes))
    }
}
