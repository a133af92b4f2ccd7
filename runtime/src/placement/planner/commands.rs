//! What operators ask for: carried out, or refused with the reason.

use std::collections::BTreeMap;

use super::board::{Board, Flags};
use super::{Command, Reason, Refusal};
use crate::ids::{NodeId, ShardId};

/// What a shard's command comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ordered {
    pub(super) to: usize,
    pub(super) reason: Reason,
}

/// Every command, judged.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// Where shards have to go, or to stay.
    pub(super) ordered: BTreeMap<ShardId, Ordered>,
    pub(super) refused: BTreeMap<ShardId, Refusal>,
}

/// Judges every command, and notes the flags that change.
pub(super) fn judge(board: &mut Board<'_>) -> Judged {
    let mut judged = Judged::default();
    let mut fixed = fixed_counts(board);
    for (shard, command) in board.planning.commands {
        let target = board.planning.view.targets.get(*shard);
        let flags = Flags {
            pinned: target.pinned,
            quarantined: target.quarantined,
        };
        match command {
            Command::Unpin => set(
                board,
                *shard,
                Flags {
                    pinned: false,
                    ..flags
                },
            ),
            Command::Release => {
                let quarantined = false;
                set(
                    board,
                    *shard,
                    Flags {
                        quarantined,
                        ..flags
                    },
                );
            }
            Command::Move(node) => match place(board, *shard, node, false, &fixed) {
                Ok(to) => {
                    let reason = Reason::Manual;
                    judged.ordered.insert(*shard, Ordered { to, reason });
                }
                Err(refusal) => {
                    judged.refused.insert(*shard, refusal);
                }
            },
            Command::Pin(node) => match place(board, *shard, node, true, &fixed) {
                Ok(to) => {
                    let reason = Reason::Pin;
                    judged.ordered.insert(*shard, Ordered { to, reason });
                    fixed[to] += u32::from(!is_pinned_to(board, *shard, node));
                    set(
                        board,
                        *shard,
                        Flags {
                            pinned: true,
                            ..flags
                        },
                    );
                }
                Err(refusal) => {
                    judged.refused.insert(*shard, refusal);
                }
            },
        }
    }
    judged
}

fn set(board: &mut Board<'_>, shard: ShardId, flags: Flags) {
    let target = board.planning.view.targets.get(shard);
    if (target.pinned, target.quarantined) != (flags.pinned, flags.quarantined) {
        board.flags.insert(shard, flags);
    }
}

/// Returns how many shards are pinned to each taker, if any command makes that matter.
fn fixed_counts(board: &Board<'_>) -> Vec<u32> {
    let mut fixed = vec![0; board.takers.len()];
    let is_capacity_stated = board.takers.iter().any(|taker| taker.capacity.is_some());
    if !is_capacity_stated || board.planning.commands.is_empty() {
        return fixed;
    }
    let targets = board.planning.view.targets.iter();
    for (_, target) in targets.filter(|(_, target)| target.pinned && !target.quarantined) {
        let place = target
            .node
            .as_ref()
            .and_then(|node| board.standings.place(node));
        if let Some(place) = place {
            fixed[place] += 1;
        }
    }
    fixed
}

fn is_pinned_to(board: &Board<'_>, shard: ShardId, node: &NodeId) -> bool {
    let target = board.planning.view.targets.get(shard);
    target.pinned && target.node.as_ref() == Some(node)
}

/// Returns the taker that a command names, or why it cannot be.
fn place(
    board: &Board<'_>,
    shard: ShardId,
    node: &NodeId,
    pins: bool,
    fixed: &[u32],
) -> Result<usize, Refusal> {
    let target = board.planning.view.targets.get(shard);
    let is_there = target.node.as_ref() == Some(node);
    if target.quarantined {
        return Err(Refusal::Quarantined);
    }
    match &target.node {
        Some(pinned_to) if target.pinned && !pins && !is_there => {
            return Err(Refusal::Pinned(pinned_to.clone()));
        }
        Some(_) | None => {}
    }
    if !board.planning.view.nodes.contains_key(node) {
        return Err(Refusal::UnknownNode(node.clone()));
    }
    let place = board.standings.place(node);
    let place = place.ok_or_else(|| Refusal::NotATaker(node.clone()))?;
    let taker = &board.takers[place];
    if taker.cordoned && !is_there {
        return Err(Refusal::Cordoned(node.clone()));
    }
    if let Some(zone) = board.zones.hard(shard).filter(|zone| *zone != taker.zone) {
        return Err(Refusal::ZoneRule(board.zones.name(zone).into()));
    }
    let is_full = taker
        .capacity
        .is_some_and(|capacity| fixed[place] >= capacity);
    if is_full && !is_there {
        return Err(Refusal::Full(node.clone()));
    }
    Ok(place)
}
