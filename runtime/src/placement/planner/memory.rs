//! What a leader remembers between plans, as a value.
//!
//! No view can tell it, and nothing breaks if it is lost with its leader: a new one waits a little
//! longer before it acts.

use std::collections::BTreeMap;
use std::time::Duration;

use super::load::busy;
use super::{Loads, Plan, PlanSettings, Reason};
use crate::clock::Moment;
use crate::ids::{NodeId, ShardId};
use crate::placement::ClusterView;

/// What a leader remembers. Every candidate keeps one, so that a new leader knows what its predecessor
/// saw. It holds entries only for what happened lately.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Shards that were moved for their load, or by hand, and when they may be again.
    rests: BTreeMap<ShardId, Rest>,
    /// For how many windows in a row each node did too much.
    overloaded: BTreeMap<NodeId, u32>,
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

impl Memory {
    /// Takes in how the cluster is now.
    ///
    /// To be called with every view, in their order. Costs time once a window, in proportion to the
    /// shards.
    pub fn see(&mut self, view: &ClusterView, loads: &Loads, settings: &PlanSettings, now: Moment) {
        if now.since(self.looked_at) >= settings.load_window {
            self.looked_at = now;
            self.look_at_loads(view, loads, settings, now);
            self.rests
                .retain(|_, rest| now < rest.until.plus(rest.length));
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

    fn next_rest(&self, shard: ShardId, settings: &PlanSettings, now: Moment) -> Duration {
        match self.rests.get(&shard) {
            Some(rest) if now < rest.until.plus(rest.length) => {
                (rest.length * 2).min(settings.load_cooldown_max)
            }
            Some(_) | None => settings.load_cooldown,
        }
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
    use crate::ids::ShardCount;
    use crate::placement::planner::Move;

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
