//! Makes a plan of what was decided: which moves begin now, and which wait.

use std::collections::BTreeMap;

use super::board::{Board, Flags, Step};
use super::{Move, Plan, Reason};
use crate::ids::{NodeId, ShardId};
use crate::placement::Target;

/// What is left of the budget for moves under way.
struct Room<'a> {
    left: usize,
    per_node_max: usize,
    leaving: BTreeMap<&'a NodeId, usize>,
    coming: BTreeMap<&'a NodeId, usize>,
}

impl<'a> Room<'a> {
    /// Takes the room for one more move, if there is any.
    fn take(&mut self, from: &'a NodeId, to: &'a NodeId) -> bool {
        let used = |counts: &BTreeMap<_, usize>, node| counts.get(node).copied().unwrap_or(0);
        let busiest = used(&self.leaving, from).max(used(&self.coming, to));
        let fits = self.left > 0 && busiest < self.per_node_max;
        if fits {
            self.count(from, to);
        }
        fits
    }

    fn count(&mut self, from: &'a NodeId, to: &'a NodeId) {
        self.left = self.left.saturating_sub(1);
        *self.leaving.entry(from).or_default() += 1;
        *self.coming.entry(to).or_default() += 1;
    }
}

impl<'a> Board<'a> {
    /// Returns the plan without its advice and refusals.
    pub(super) fn finish(&self) -> Plan {
        let steps = self.moving();
        let (mut moves, mut pending) = (Vec::with_capacity(steps.len()), Vec::new());
        let mut room = self.room();
        for (shard, step) in steps {
            let to = self.takers[step.to].node;
            let step = self.as_move(shard, step);
            if self.waits(&step, to, &mut room) {
                pending.push(step);
            } else {
                moves.push(step);
            }
        }
        moves.sort_unstable_by_key(|step| step.shard);
        Plan {
            targets: self.targets(&moves, &pending),
            moves,
            pending,
            ..Plan::default()
        }
    }

    /// Returns the targets that change with these moves while those wait, in order of the shards.
    fn targets(&self, moves: &[Move], pending: &[Move]) -> Vec<(ShardId, Target)> {
        let moved = moves.iter().map(|step| {
            let target = self.target(step.shard, Some(&step.to), self.flags(step.shard));
            (step.shard, target)
        });
        let mut targets = Vec::with_capacity(moves.len() + self.flags.len());
        targets.extend(moved);
        for (shard, flags) in &self.flags {
            // A pin waits for its move; every other flag changes at once.
            let was_pinned = self.planning.view.targets.get(*shard).pinned;
            let is_new_pin = flags.pinned && !was_pinned;
            let waits = is_new_pin && pending.iter().any(|step| step.shard == *shard);
            let moves = moves.binary_search_by_key(shard, |step| step.shard).is_ok();
            if !waits && !moves {
                targets.push((*shard, self.target(*shard, None, *flags)));
            }
        }
        targets.sort_unstable_by_key(|(shard, _)| *shard);
        targets
    }

    /// Returns the steps of shards that get another target, those with the weightiest reasons first.
    fn moving(&self) -> Vec<(ShardId, Step)> {
        let view = self.planning.view;
        let mut steps: Vec<(ShardId, Step)> = self
            .steps
            .iter()
            .filter(|(shard, step)| {
                let from = &view.targets.get(*shard).node;
                from.as_ref() != Some(self.takers[step.to].node)
            })
            .collect();
        steps.sort_unstable_by_key(|(shard, step)| (step.reason, *shard));
        steps
    }

    fn as_move(&self, shard: ShardId, step: Step) -> Move {
        Move {
            shard,
            from: self.planning.view.targets.get(shard).node.clone(),
            to: self.takers[step.to].node.clone(),
            reason: step.reason,
            gain_permille: step.gain_permille,
        }
    }

    fn flags(&self, shard: ShardId) -> Flags {
        let target = self.planning.view.targets.get(shard);
        let as_before = Flags {
            pinned: target.pinned,
            quarantined: target.quarantined,
        };
        self.flags.get(&shard).copied().unwrap_or(as_before)
    }

    fn target(&self, shard: ShardId, node: Option<&NodeId>, flags: Flags) -> Target {
        let before = self.planning.view.targets.get(shard);
        Target {
            node: node.or(before.node.as_ref()).cloned(),
            pinned: flags.pinned,
            quarantined: flags.quarantined,
            suspicion: before.suspicion,
            cause: before.cause,
        }
    }

    fn room(&self) -> Room<'a> {
        let settings = self.planning.settings;
        let mut room = Room {
            left: settings.moves_in_flight_max as usize,
            per_node_max: settings.moves_per_node_max as usize,
            leaving: BTreeMap::new(),
            coming: BTreeMap::new(),
        };
        for flight in self.planning.in_flight {
            room.count(&flight.from, &flight.to);
        }
        room
    }

    /// Whether a move waits: for an operator to resume, or for others to end. One of a shard that
    /// nobody serves, or that its owner keeps, is none.
    fn waits(&self, step: &Move, to: &'a NodeId, room: &mut Room<'a>) -> bool {
        let view = self.planning.view;
        if view.orders.paused && is_held(step.reason) {
            return true;
        }
        match view.live_owner(step.shard) {
            Some(owner) if owner.node != *to => !room.take(&owner.node, to),
            Some(_) | None => false,
        }
    }
}

/// Whether moves for this reason wait while operators have paused them.
pub(in crate::placement) fn is_held(reason: Reason) -> bool {
    match reason {
        Reason::Zone | Reason::Join | Reason::Load => true,
        Reason::Failure | Reason::Unplaced | Reason::Manual | Reason::Pin | Reason::Drain => false,
    }
}
