//! A plan as the store keeps it. Nodes and reasons stand once, and each move refers to them.

use std::collections::BTreeSet;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{BadEntry, Keys, bad, decode, encode, moment, node_id, unix_ms};
use crate::coordination::plans::{
    MoveCounts, MovePhase, PlanCheck, PlanEvent, PlanEventKind, PlanOutcome, PlanRecord,
    PlannedMove,
};
use crate::coordination::store::Entry;
use crate::ids::{NodeId, PlanId, Revision, ShardCount, ShardId, Term};
use crate::placement::planner::Reason;

#[derive(Serialize, Deserialize)]
struct PlanValue {
    reason: String,
    trigger: String,
    leader: String,
    term: u64,
    created_ms: u64,
    updated_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended_ms: Option<u64>,
    outcome: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    superseded_by: Option<u64>,
    waves: u32,
    least: u32,
    nodes: Vec<String>,
    moves: Vec<MoveValue>,
    #[serde(default, skip_serializing_if = "CountsValue::is_zero")]
    unlisted: CountsValue,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    events: Vec<EventValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    check: Option<CheckValue>,
}

/// Shard, 1 + the index of the node it leaves or 0 for none, the index of the node it goes to,
/// reason, phase, milliseconds from the plan's beginning to the order and to the end, and the
/// owner's revision at the order. Few characters, since there are hundreds.
type MoveValue = (
    u32,
    usize,
    usize,
    String,
    String,
    Option<u64>,
    Option<u64>,
    u64,
);

/// When, what kind of thing, and what in words.
type EventValue = (u64, String, String);

#[derive(Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct CountsValue {
    pending: u32,
    ordered: u32,
    done: u32,
    failed: u32,
    cancelled: u32,
}

impl CountsValue {
    fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
struct CheckValue {
    checked: u32,
    not_owned: u32,
    old_token: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    objects_before: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    objects_after: Option<u64>,
    parcels_missing: u32,
}

/// Writes a plan, no longer than the store should hold.
pub fn encode_plan(plan: &PlanRecord) -> Vec<u8> {
    let plan = plan.bounded();
    let froms = plan.moves.iter().filter_map(|step| step.from.as_ref());
    let nodes: BTreeSet<&NodeId> = froms
        .chain(plan.moves.iter().map(|step| &step.to))
        .collect();
    let nodes: Vec<&NodeId> = nodes.into_iter().collect();
    let index = |node: &NodeId| {
        let place = nodes.binary_search_by(|known| (*known).cmp(node));
        place.expect("every node is in the list")
    };
    let offset = |at: SystemTime| unix_ms(at).saturating_sub(unix_ms(plan.created_at));
    let step = |step: &PlannedMove| {
        (
            step.shard.get(),
            step.from.as_ref().map_or(0, |from| 1 + index(from)),
            index(&step.to),
            step.reason.as_str().to_owned(),
            step.phase.as_str().to_owned(),
            step.ordered_at.map(offset),
            step.ended_at.map(offset),
            step.before.get(),
        )
    };
    encode(&PlanValue {
        reason: plan.reason.as_str().into(),
        trigger: plan.trigger.clone(),
        leader: plan.leader.to_string(),
        term: plan.term.get(),
        created_ms: unix_ms(plan.created_at),
        updated_ms: unix_ms(plan.updated_at),
        ended_ms: plan.ended_at.map(unix_ms),
        outcome: plan.outcome.as_str().into(),
        superseded_by: match plan.outcome {
            PlanOutcome::Superseded(by) => Some(by.get()),
            PlanOutcome::Running
            | PlanOutcome::Done
            | PlanOutcome::Aborted
            | PlanOutcome::Failed => None,
        },
        waves: plan.waves,
        least: plan.least,
        nodes: nodes.iter().map(ToString::to_string).collect(),
        moves: plan.moves.iter().map(step).collect(),
        unlisted: plan.unlisted.into(),
        events: plan.events.iter().map(event_value).collect(),
        check: plan.check.map(Into::into),
    })
}

fn event_value(event: &PlanEvent) -> EventValue {
    (
        unix_ms(event.at),
        event.kind.as_str().into(),
        event.text.clone(),
    )
}

/// Reads a plan; its ID is the end of its key. Events of kinds that this version does not know
/// are left out.
///
/// # Errors
///
/// [`BadEntry`] if the key is no plan's or the value cannot be read.
pub fn decode_plan(entry: &Entry, keys: &Keys, count: ShardCount) -> Result<PlanRecord, BadEntry> {
    let id = keys.plan_id(&entry.key);
    let id = id.ok_or_else(|| bad(entry, "its key names no plan"))?;
    let value: PlanValue = decode(entry)?;
    let nodes = value.nodes.iter().map(|node| node_id(entry, node));
    let nodes: Vec<NodeId> = nodes.collect::<Result<_, _>>()?;
    let read = MovesReader {
        entry,
        count,
        nodes: &nodes,
        created_ms: value.created_ms,
    };
    let moves = value.moves.iter().map(|step| read.step(step));
    let events = value.events.iter().filter_map(|(at, kind, text)| {
        Some(PlanEvent {
            at: moment(*at),
            kind: PlanEventKind::named(kind)?,
            text: text.clone(),
        })
    });
    Ok(PlanRecord {
        id,
        reason: reason(entry, &value.reason)?,
        trigger: value.trigger,
        leader: node_id(entry, &value.leader)?,
        term: Term::new(value.term),
        created_at: moment(value.created_ms),
        updated_at: moment(value.updated_ms),
        ended_at: value.ended_ms.map(moment),
        outcome: outcome(entry, &value.outcome, value.superseded_by)?,
        waves: value.waves,
        least: value.least,
        moves: moves.collect::<Result<_, _>>()?,
        unlisted: value.unlisted.into(),
        events: events.collect(),
        check: value.check.map(Into::into),
    })
}

/// Reads the moves of one plan.
struct MovesReader<'a> {
    entry: &'a Entry,
    count: ShardCount,
    nodes: &'a [NodeId],
    created_ms: u64,
}

impl MovesReader<'_> {
    fn step(&self, value: &MoveValue) -> Result<PlannedMove, BadEntry> {
        let (shard, from, to, reason, phase, ordered, ended, before) = value;
        let at = |offset: &Option<u64>| {
            offset.map(|offset| moment(self.created_ms.saturating_add(offset)))
        };
        let shard = ShardId::new(*shard, self.count);
        Ok(PlannedMove {
            shard: shard.map_err(|error| bad(self.entry, &error.to_string()))?,
            from: from
                .checked_sub(1)
                .map(|from| self.node(from))
                .transpose()?,
            to: self.node(*to)?,
            reason: self::reason(self.entry, reason)?,
            phase: MovePhase::named(phase).ok_or_else(|| bad(self.entry, "no such phase"))?,
            ordered_at: at(ordered),
            ended_at: at(ended),
            before: Revision::new(*before),
        })
    }

    fn node(&self, index: usize) -> Result<NodeId, BadEntry> {
        let node = self.nodes.get(index).cloned();
        node.ok_or_else(|| bad(self.entry, "a move names no node of the list"))
    }
}

fn reason(entry: &Entry, name: &str) -> Result<Reason, BadEntry> {
    Reason::named(name).ok_or_else(|| bad(entry, "no such reason"))
}

fn outcome(entry: &Entry, name: &str, by: Option<u64>) -> Result<PlanOutcome, BadEntry> {
    let by = PlanOutcome::Superseded(PlanId::new(by.unwrap_or_default()));
    let all = [
        PlanOutcome::Running,
        PlanOutcome::Done,
        PlanOutcome::Aborted,
        by,
        PlanOutcome::Failed,
    ];
    let known = all.into_iter().find(|outcome| outcome.as_str() == name);
    known.ok_or_else(|| bad(entry, "no such outcome"))
}

impl From<MoveCounts> for CountsValue {
    fn from(counts: MoveCounts) -> Self {
        let MoveCounts {
            pending,
            ordered,
            done,
            failed,
            cancelled,
        } = counts;
        Self {
            pending,
            ordered,
            done,
            failed,
            cancelled,
        }
    }
}

impl From<CountsValue> for MoveCounts {
    fn from(counts: CountsValue) -> Self {
        let CountsValue {
            pending,
            ordered,
            done,
            failed,
            cancelled,
        } = counts;
        Self {
            pending,
            ordered,
            done,
            failed,
            cancelled,
        }
    }
}

impl From<PlanCheck> for CheckValue {
    fn from(check: PlanCheck) -> Self {
        let PlanCheck {
            checked,
            not_owned,
            old_token,
            objects_before,
            objects_after,
            parcels_missing,
        } = check;
        Self {
            checked,
            not_owned,
            old_token,
            objects_before,
            objects_after,
            parcels_missing,
        }
    }
}

impl From<CheckValue> for PlanCheck {
    fn from(check: CheckValue) -> Self {
        let CheckValue {
            checked,
            not_owned,
            old_token,
            objects_before,
            objects_after,
            parcels_missing,
        } = check;
        Self {
            checked,
            not_owned,
            old_token,
            objects_before,
            objects_after,
            parcels_missing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordination::plans::tests::{at, node, plan};
    use crate::coordination::plans::{EVENTS_MAX, MOVES_LISTED_MAX};

    fn read(plan: &PlanRecord) -> Result<PlanRecord, BadEntry> {
        let count = ShardCount::new(65_536).expect("a power of two");
        decode_plan(&entry(plan), &Keys::new("/t/"), count)
    }

    fn entry(plan: &PlanRecord) -> Entry {
        Entry {
            key: Keys::new("/t/").plan(plan.id),
            value: encode_plan(plan),
            create_revision: Revision::new(1),
            mod_revision: Revision::new(1),
            lease: None,
        }
    }

    #[test]
    fn a_plan_survives_the_round_trip() {
        let mut plan = plan("podfc");
        plan.moves[0].from = None;
        plan.outcome = PlanOutcome::Superseded(PlanId::new(9));
        plan.ended_at = Some(at(120));
        plan.note(at(111), PlanEventKind::Stuck, "b does not claim");
        plan.unlisted.done = 4;
        plan.check = Some(PlanCheck {
            checked: 1,
            objects_before: Some(3),
            parcels_missing: 2,
            ..Default::default()
        });
        assert_eq!(read(&plan), Ok(plan));
    }

    #[test]
    fn a_check_of_an_older_version_is_read() {
        let old = r#"{"checked":3,"not_owned":1,"old_token":0,"objects_before":7}"#;
        let check: CheckValue = serde_json::from_str(old).expect("readable");
        assert_eq!(
            PlanCheck::from(check),
            PlanCheck {
                checked: 3,
                not_owned: 1,
                objects_before: Some(7),
                ..Default::default()
            }
        );
    }

    #[test]
    fn the_largest_plan_stays_far_below_what_the_store_takes() {
        let mut plan = plan(&"f".repeat(20_000));
        for (i, step) in plan.moves.iter_mut().enumerate() {
            step.from = Some(node(&format!("{}-{i}", "x".repeat(120))));
            step.to = node(&format!("{}-{i}", "y".repeat(120)));
            step.before = Revision::new(u64::MAX);
        }
        for _ in 0..2 * EVENTS_MAX {
            plan.note(at(1), PlanEventKind::Stuck, &"€".repeat(1000));
        }
        assert!(encode_plan(&plan).len() < 256 << 10);
        let read = read(&plan).expect("readable");
        assert_eq!(
            (read.moves.len(), read.counts()),
            (MOVES_LISTED_MAX, plan.counts())
        );
        let ordinary = self::plan(&"d".repeat(8192));
        assert!(
            encode_plan(&ordinary).len() < 32 << 10,
            "{}",
            encode_plan(&ordinary).len()
        );
    }
}
