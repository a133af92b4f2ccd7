//! Decides which node should own each shard.
//!
//! Pure: the same input gives the same plan, to the byte. Reads no clock and speaks to no store;
//! the leader feeds it the view and writes the result.
//!
//! Its goals, the weightiest first: place what has no home; repair what must not be (a node that
//! drains, a hard rule about zones, a capacity); divide the shards over zones, then nodes, by
//! weight; take load off nodes that do too much, without changing that division but for nodes that
//! one shard dominates; all that with as few moves as it takes. So it goes:
//!
//! 1. Commands are judged (`commands`). Quarantined shards are set aside; which those are is decided
//!    elsewhere (`placement::blame`).
//! 2. Every shard finds its home (`census`): its target if that can hold it, else the owner that
//!    its owner key names.
//! 3. Who has none, or may not stay, is let in as far as there is room (`placing`).
//! 4. The takers (active nodes that are no gates) get quotas (`division`, `quota`); shards without
//!    a home fill the rooms, and what a taker has above its quota goes to those below.
//! 5. Swaps bring shards into the zones that soft rules name (`preference`).
//! 6. If nothing else moves, and a node did too much for long, loads are balanced (`relief`).
//! 7. What fits under the budget begins, the rest waits (`finish`).
//!
//! Invariants, checked by [`super::checker`] and in every small world by the tests below:
//! - every shard's target is a taker, while there is any with room; shards in quarantine are left
//!   alone;
//! - a node that drains is emptied at once, and one that is gone as soon as it is sure that it was
//!   no restart, whatever else waits;
//! - pinned shards stay, cordoned nodes get nothing, hard rules and capacities hold for all that
//!   moves;
//! - when nothing waits, every taker has its quota, reached by the least number of moves;
//! - planning a finished plan changes nothing.
//!
//! Deliberately absent: a stability period, gates (they come and go without effect), and nodes
//! that are still joining. Objects that belong together share a placement key, so they share a
//! shard, and nothing here has to keep them together.

mod advice;
mod board;
mod census;
mod commands;
mod division;
mod finish;
mod load;
mod loads;
mod memory;
mod outcome;
mod placing;
mod preference;
mod quota;
mod rehearsal;
mod relief;
mod settings;
mod standing;
#[cfg(test)]
pub(super) mod tests;
mod waiting;
mod weighing;
mod zones;

use std::collections::BTreeMap;

use super::ClusterView;
use crate::clock::Moment;
use crate::ids::{NodeId, ShardId};
use board::Board;
use relief::Relief;
use weighing::Weighing;

pub use board::CAPACITY_LABEL;
pub use loads::{LOAD_HALF_LIFE, LOAD_STALE_WINDOWS, LoadReport, Loads, NodeUse, ShardRates};
pub use memory::Memory;
pub use outcome::{Advice, Command, InFlight, Move, Plan, Reason, Refusal};
pub use rehearsal::Rehearsal;
pub use settings::{PinPolicy, PlanSettings, Strategy, Strength, ZoneRule};

pub(super) use board::{capacity, tie};
pub(super) use division::{Part, divide};
pub(super) use finish::is_held;
pub(super) use quota::{Share, quotas};
pub(super) use standing::{Standing, Standings};
pub(super) use waiting::Waiting;
pub(super) use zones::Zones;

/// All that a decision rests on.
#[derive(Clone, Copy, Debug)]
pub struct Planning<'a> {
    /// The cluster as it is.
    pub view: &'a ClusterView,
    /// When each node was last seen to come, to change its state or to go. A node of which nothing
    /// is said has been as it is for long.
    pub changed: &'a BTreeMap<NodeId, Moment>,
    /// What each shard costs its owner.
    pub loads: &'a Loads,
    /// Moves that were ordered and have not ended; [`InFlight::all_of`] finds them.
    pub in_flight: &'a [InFlight],
    /// What operators ask for now. A command stays among them until a plan has carried it out or
    /// refused it.
    pub commands: &'a BTreeMap<ShardId, Command>,
    /// What the leader remembers of the past.
    pub memory: &'a Memory,
    /// How to decide.
    pub settings: &'a PlanSettings,
    /// The present.
    pub now: Moment,
}

/// Returns what should change now.
///
/// Takes time in proportion to the shards plus the nodes: about a millisecond for 8192 shards
/// on 100 nodes. Balancing loads adds, for each move, the shards of a node times the logarithm of
/// that.
pub fn plan(planning: Planning<'_>) -> Plan {
    let mut board = Board::new(planning);
    let mut advice = Vec::new();
    let judged = commands::judge(&mut board);
    board.settle_all(&judged);
    let waiting = Waiting::of(&planning);
    if !board.takers.is_empty() {
        board.repair(waiting);
        let weighing = Weighing::of(&board);
        if let Some(weighing) = &weighing {
            weighing.close_dominated(&mut board);
        }
        let quotas = board.quotas();
        board.even_out(&quotas, waiting);
        if waiting.until().is_none() {
            board.meet_preferences();
            if let Some(weighing) = weighing.filter(|_| board.is_settled()) {
                advice.extend(balance_loads(&mut board, weighing, waiting));
            }
        }
    }
    advice.extend(board.advice());
    advice.sort();
    let until = waiting.until().filter(|_| board.put_off);
    Plan {
        refused: judged.refused,
        advice,
        again_at: [board.kept_until, until].into_iter().flatten().min(),
        ..board.finish()
    }
}

/// Takes load off nodes that do too much, and returns whom that does not help.
fn balance_loads(board: &mut Board<'_>, weighing: Weighing, waiting: Waiting) -> Vec<Advice> {
    let Some(mut relief) = Relief::begin(board, weighing) else {
        return Vec::new();
    };
    relief.relieve_dominated();
    let weighing = relief.end();
    if !board.steps.is_empty() {
        weighing.close_dominated(board);
        let quotas = board.quotas();
        board.even_out(&quotas, waiting);
    }
    let Some(weighing) = Weighing::of(board) else {
        return Vec::new();
    };
    let Some(mut relief) = Relief::begin(board, weighing) else {
        return Vec::new();
    };
    relief.swap();
    let weighing = relief.end();
    board.advice_on_load(&weighing)
}
