//! A block of targets: who should own each of its shards, and what made it so.
//!
//! Names and causes stand once in the block, and each shard refers to them, so that the blocks of
//! a whole cluster fit into one transaction.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{BadEntry, bad, decode, encode, node_id};
use crate::coordination::store::Entry;
use crate::ids::{NodeId, PlanId, ShardCount};
use crate::placement::planner::Reason;
use crate::placement::{Cause, Suspicion, Target};

/// Most causes in a block. Shards whose plan is older than the newest of so many have none, which
/// keeps a block that saw many small plans from growing.
pub(super) const CAUSES_MAX: usize = 64;

#[derive(Serialize, Deserialize)]
struct TargetsValue {
    nodes: Vec<String>,
    /// For each shard of the block 1 + the index of its node, or 0 for none.
    targets: Vec<u32>,
    /// Offsets in the block.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pinned: Vec<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    quarantined: Vec<u32>,
    /// Offset in the block, deaths, when in milliseconds since 1970, and quarantines in a row.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    suspects: Vec<(u32, u32, u64, u32)>,
    /// Plan, reason, and when in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    causes: Vec<(u64, String, u64)>,
    /// For each shard of the block 1 + the index of its cause, or 0 for none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    caused: Vec<u32>,
}

/// Writes a block of targets.
pub fn encode_targets(targets: &[Target]) -> Vec<u8> {
    let mut nodes: Vec<&NodeId> = targets.iter().filter_map(|t| t.node.as_ref()).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let mut causes: Vec<Cause> = targets.iter().filter_map(|t| t.cause).collect();
    causes.sort_unstable();
    causes.dedup();
    causes.drain(..causes.len().saturating_sub(CAUSES_MAX));

    let node_of = |target: &Target| reference(target.node.as_ref(), &nodes);
    let cause_of = |target: &Target| reference(target.cause, &causes);
    let offsets = |flag: fn(&Target) -> bool| {
        let flagged = (0..).zip(targets).filter(|(_, target)| flag(target));
        flagged.map(|(offset, _)| offset).collect()
    };
    encode(&TargetsValue {
        nodes: nodes.iter().map(ToString::to_string).collect(),
        targets: targets.iter().map(node_of).collect(),
        pinned: offsets(|target| target.pinned),
        quarantined: offsets(|target| target.quarantined),
        suspects: (0..).zip(targets).filter_map(suspect).collect(),
        caused: if causes.is_empty() {
            Vec::new()
        } else {
            targets.iter().map(cause_of).collect()
        },
        causes: causes
            .iter()
            .map(|cause| {
                (
                    cause.plan.get(),
                    cause.reason.as_str().into(),
                    whole_ms(cause.at),
                )
            })
            .collect(),
    })
}

/// Returns 1 + the place of an entry in a sorted list, or 0 if it is none, or not there.
fn reference<T: Ord>(entry: Option<T>, list: &[T]) -> u32 {
    let place = entry.and_then(|entry| list.binary_search(&entry).ok());
    place.map_or(0, |place| u32::try_from(place).expect("a short list") + 1)
}

/// Reads a block of targets. A cause that this version does not know is none.
///
/// # Errors
///
/// [`BadEntry`] if the value cannot be read or is of another length.
pub fn decode_targets(entry: &Entry, count: ShardCount) -> Result<Vec<Target>, BadEntry> {
    let value: TargetsValue = decode(entry)?;
    if value.targets.len() != count.block_len() as usize {
        return Err(bad(entry, "the block has another length"));
    }
    let nodes = value.nodes.iter().map(|node| node_id(entry, node));
    let nodes: Vec<NodeId> = nodes.collect::<Result<_, _>>()?;
    let causes: Vec<Option<Cause>> = value.causes.iter().map(cause).collect();
    let node_of = |reference: u32| match reference.checked_sub(1) {
        None => Ok(None),
        Some(index) => match nodes.get(index as usize) {
            Some(node) => Ok(Some(node.clone())),
            None => Err(bad(entry, "a target names no node of the list")),
        },
    };
    let cause_of = |offset: u32| {
        let index = value.caused.get(offset as usize)?.checked_sub(1)?;
        causes.get(index as usize).copied().flatten()
    };
    let suspicion_of = |offset: u32| {
        let mut suspects = value.suspects.iter();
        let (_, deaths, at, quarantines) = suspects.find(|(of, ..)| *of == offset)?;
        Some(Suspicion {
            deaths: *deaths,
            at: Duration::from_millis(*at),
            quarantines: *quarantines,
        })
    };
    (0..)
        .zip(value.targets)
        .map(|(offset, reference)| {
            Ok(Target {
                node: node_of(reference)?,
                pinned: value.pinned.contains(&offset),
                quarantined: value.quarantined.contains(&offset),
                suspicion: suspicion_of(offset),
                cause: cause_of(offset),
            })
        })
        .collect()
}

fn suspect((offset, target): (u32, &Target)) -> Option<(u32, u32, u64, u32)> {
    let Suspicion {
        deaths,
        at,
        quarantines,
    } = target.suspicion?;
    Some((offset, deaths, whole_ms(at), quarantines))
}

fn whole_ms(at: Duration) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX)
}

fn cause((plan, reason, at): &(u64, String, u64)) -> Option<Cause> {
    Some(Cause {
        plan: PlanId::new(*plan),
        reason: Reason::named(reason)?,
        at: Duration::from_millis(*at),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Revision;

    #[test]
    fn only_the_newest_causes_of_a_block_are_kept() {
        let count = ShardCount::new(65_536).expect("a power of two");
        let targets: Vec<Target> = (0..u64::from(count.block_len()))
            .map(|plan| Target {
                node: NodeId::new(&format!("node-with-a-long-name-{}", plan % 7)).ok(),
                cause: Some(Cause {
                    plan: PlanId::new(plan),
                    reason: Reason::Failure,
                    at: Duration::from_millis(1_700_000_000_000 + plan),
                }),
                ..Target::default()
            })
            .collect();
        let value = encode_targets(&targets);
        assert!(
            64 * value.len() < 1 << 20,
            "all blocks of the largest cluster"
        );
        let entry = Entry {
            key: "k".into(),
            value,
            create_revision: Revision::new(1),
            mod_revision: Revision::new(1),
            lease: None,
        };
        let read = decode_targets(&entry, count).expect("readable");
        let known: Vec<bool> = read.iter().map(|target| target.cause.is_some()).collect();
        let forgotten = targets.len() - CAUSES_MAX;
        assert!(known[..forgotten].iter().all(|known| !known));
        assert_eq!(read[forgotten..], targets[forgotten..]);
    }

    #[test]
    fn a_reason_of_a_newer_version_is_no_cause() {
        let value = br#"{"nodes":["n"],"targets":[1],"causes":[[7,"mood",1]],"caused":[1]}"#;
        let entry = Entry {
            key: "k".into(),
            value: value.to_vec(),
            create_revision: Revision::new(1),
            mod_revision: Revision::new(1),
            lease: None,
        };
        let count = ShardCount::new(1).expect("a power of two");
        let read = decode_targets(&entry, count).expect("readable");
        assert_eq!((read[0].cause, read[0].node.is_some()), (None, true));
    }
}
