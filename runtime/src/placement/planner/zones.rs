//! Which zones there are, and which shards belong into one.

use std::collections::BTreeSet;

use super::{Planning, Strength};
use crate::ids::ShardId;
use crate::placement::NodeRecord;

/// Where a shard belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wish {
    zone: usize,
    strength: Strength,
}

/// The zones of the nodes and of the rules, by number, and where shards belong.
///
/// Nodes that name no zone stand in one of their own, which no rule can name.
#[derive(Debug)]
pub(in crate::placement) struct Zones<'a> {
    /// Sorted.
    names: Vec<&'a str>,
    /// By shard; empty without rules.
    wishes: Vec<Option<Wish>>,
    has_soft_rules: bool,
}

impl<'a> Zones<'a> {
    /// Reads the view's nodes and the settings' rules.
    pub(in crate::placement) fn of(planning: &Planning<'a>) -> Self {
        let rules = &planning.settings.zone_rules;
        let nodes = planning.view.nodes.values();
        let names: BTreeSet<&str> = nodes
            .filter_map(|record| record.zone.as_deref())
            .chain(rules.iter().map(|rule| rule.zone.as_str()))
            .collect();
        let mut zones = Self {
            names: names.into_iter().collect(),
            wishes: Vec::new(),
            has_soft_rules: rules.iter().any(|rule| rule.strength == Strength::Soft),
        };
        if !rules.is_empty() {
            zones.wishes = vec![None; planning.view.meta.shard_count.get() as usize];
        }
        // Of several rules the first counts, so it is written last.
        for rule in rules.iter().rev() {
            let wish = Wish {
                zone: zones
                    .names
                    .partition_point(|name| *name < rule.zone.as_str()),
                strength: rule.strength,
            };
            let last = rule.last.index().min(zones.wishes.len() - 1);
            let range = zones.wishes.get_mut(rule.first.index()..=last);
            range.into_iter().flatten().for_each(|w| *w = Some(wish));
        }
        zones
    }

    /// Returns the number of a node's zone.
    pub(in crate::placement) fn of_node(&self, record: &NodeRecord) -> usize {
        match &record.zone {
            Some(zone) => self.names.partition_point(|name| *name < zone.as_str()),
            None => self.names.len(),
        }
    }

    /// Returns a zone's name; of the nameless one, nothing.
    pub(in crate::placement) fn name(&self, zone: usize) -> &'a str {
        self.names.get(zone).copied().unwrap_or("")
    }

    /// Returns the only zone that a shard may be placed in, if a rule says so.
    pub(in crate::placement) fn hard(&self, shard: ShardId) -> Option<usize> {
        self.wish(shard, Strength::Hard)
    }

    /// Returns the zone that a shard should be in where that costs nothing.
    pub(in crate::placement) fn soft(&self, shard: ShardId) -> Option<usize> {
        self.wish(shard, Strength::Soft)
    }

    /// Whether any rule is there.
    pub(in crate::placement) fn has_rules(&self) -> bool {
        !self.wishes.is_empty()
    }

    /// Whether any soft rule is there.
    pub(in crate::placement) fn has_soft_rules(&self) -> bool {
        self.has_soft_rules
    }

    /// Whether a shard may go from one zone to another: no hard rule is broken, and no preference
    /// that is met now.
    pub(in crate::placement) fn allow(&self, shard: ShardId, from: usize, to: usize) -> bool {
        let wish = self.wishes.get(shard.index()).copied().flatten();
        wish.is_none_or(|wish| match wish.strength {
            Strength::Hard => wish.zone == to,
            Strength::Soft => wish.zone == to || wish.zone != from,
        })
    }

    fn wish(&self, shard: ShardId, strength: Strength) -> Option<usize> {
        let wish = self.wishes.get(shard.index()).copied().flatten()?;
        (wish.strength == strength).then_some(wish.zone)
    }
}
