//! Leaves shards alone that lose one owner after the other.

use std::collections::BTreeSet;

use super::Advice;
use super::board::{Board, Flags};
use crate::ids::ShardId;

/// Returns the shards to leave alone from now on, and what to say of them.
///
/// Where too many lost their owners so, it is not the shards that kill them, and none is left
/// alone.
pub(super) fn judge(board: &mut Board<'_>) -> Vec<Advice> {
    let view = board.planning.view;
    let settings = board.planning.settings;
    let suspects: BTreeSet<ShardId> = board
        .planning
        .memory
        .deaths()
        .filter(|(_, deaths)| is_enough(*deaths, settings.quarantine_deaths))
        .map(|(shard, _)| shard)
        .filter(|shard| !view.targets.get(*shard).quarantined && view.live_owner(*shard).is_none())
        .collect();
    if suspects.is_empty() {
        return Vec::new();
    }
    let before = view.targets.iter().filter(|(_, t)| t.quarantined).count();
    let all = view.meta.shard_count.get() as usize;
    let most = (all * settings.quarantine_share_max_permille as usize / 1000).max(1);
    if before + suspects.len() > most {
        let shards = u32::try_from(suspects.len()).expect("at most as many as shards");
        return vec![Advice::DeathsEverywhere { shards }];
    }
    let alone = |shard: &ShardId| {
        let flags = Flags {
            pinned: view.targets.get(*shard).pinned,
            quarantined: true,
        };
        (*shard, flags)
    };
    board.flags.extend(suspects.iter().map(alone));
    let advice = suspects.into_iter();
    advice.map(|shard| Advice::Quarantined { shard }).collect()
}

fn is_enough(deaths: u32, needed: u32) -> bool {
    needed > 0 && deaths >= needed
}
