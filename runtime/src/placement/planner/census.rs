//! Finds every shard's home: its target if that can hold it, else the owner that its owner key
//! names.

use std::collections::btree_map::Entry;

use super::board::{Board, Flags, Homeless, Troubled};
use super::commands::Judged;
use super::{PinPolicy, Reason, Standing};
use crate::ids::ShardId;
use crate::placement::{OwnerRecord, Target};

impl Board<'_> {
    /// Puts every shard on the board.
    pub(super) fn settle_all(&mut self, judged: &Judged) {
        let view = self.planning.view;
        for ((shard, target), (_, owner)) in view.targets.iter().zip(view.owners.iter()) {
            let flags = self.flags_of(shard, target);
            if flags.quarantined {
                continue;
            }
            match judged.ordered.get(&shard) {
                Some(ordered) => {
                    self.takers[ordered.to].fixed.push(shard);
                    self.send(shard, ordered.to, ordered.reason, 0);
                }
                None => self.settle(shard, target, flags.pinned, owner),
            }
        }
    }

    fn flags_of(&self, shard: ShardId, target: &Target) -> Flags {
        let as_before = Flags {
            pinned: target.pinned,
            quarantined: target.quarantined,
        };
        if self.flags.is_empty() {
            return as_before;
        }
        self.flags.get(&shard).copied().unwrap_or(as_before)
    }

    fn settle(&mut self, shard: ShardId, target: &Target, pinned: bool, owner: &OwnerRecord) {
        let standing = target.node.as_ref().map(|node| self.standings.get(node));
        let reason = match standing {
            Some(Some(Standing::Taker(taker))) => return self.keep(taker, shard, pinned),
            Some(Some(Standing::KeptUntil(until))) => {
                self.kept_until = Some(self.kept_until.map_or(until, |first| first.min(until)));
                return;
            }
            Some(Some(Standing::Leaving)) => Reason::Drain,
            Some(None) => Reason::Failure,
            None => Reason::Unplaced,
        };
        if pinned && self.waits_for_its_node(shard) {
            return;
        }
        // Any life of the node will do: the newest knows best how to get its state back.
        let owner = owner.owner.as_ref();
        match owner.and_then(|owner| self.standings.place(&owner.node)) {
            Some(taker) => {
                self.keep(taker, shard, pinned);
                self.send(shard, taker, reason, 0);
            }
            None => self.homeless.push(Homeless { shard, reason }),
        }
    }

    /// Notes that a pinned shard's node is absent, and returns whether the shard waits for it.
    fn waits_for_its_node(&mut self, shard: ShardId) -> bool {
        let Some(node) = &self.planning.view.targets.get(shard).node else {
            return false;
        };
        match self.absent.entry(node) {
            Entry::Occupied(mut entry) => entry.get_mut().shards += 1,
            Entry::Vacant(entry) => {
                entry.insert(Troubled {
                    shards: 1,
                    first: shard,
                });
            }
        }
        match self.planning.settings.pin_policy {
            PinPolicy::Wait => true,
            PinPolicy::FailOver => false,
        }
    }

    /// Gives a shard its home at a taker that serves it or should do so already.
    fn keep(&mut self, taker: usize, shard: ShardId, pinned: bool) {
        let zone = self.zones.hard(shard);
        let is_astray = zone.is_some_and(|zone| zone != self.takers[taker].zone);
        if pinned {
            self.takers[taker].fixed.push(shard);
            if let Some(zone) = zone.filter(|_| is_astray) {
                self.cannot_meet(zone, shard);
            }
        } else if is_astray {
            self.strays.push((shard, taker));
        } else {
            self.hold(taker, shard);
        }
    }

    /// Notes that a shard cannot be where a hard rule says.
    pub(super) fn cannot_meet(&mut self, zone: usize, shard: ShardId) {
        let unmet = self.unmet.entry(zone).or_insert(Troubled {
            shards: 0,
            first: shard,
        });
        unmet.shards += 1;
        unmet.first = unmet.first.min(shard);
    }
}
