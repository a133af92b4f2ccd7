//! What each taker's shards cost, beside its share of all costs.

use super::board::Board;
use super::load::stale_after;
use super::{Planning, Strategy};
use crate::ids::ShardId;

/// No shard counts as more than this, so that sums cannot overflow.
const COST_MAX: u64 = 1 << 44;

/// A shard that costs so much of its node's share, in thousandths, dominates it.
const DOMINANT_PERMILLE: u64 = 500;

/// A dominated node that does so much of its share, in thousandths, is not filled up.
const CLOSED_PERMILLE: u64 = 800;

/// The load of every taker whose reports are fresh.
#[derive(Debug)]
pub(super) struct Weighing {
    /// By shard.
    costs: Vec<u64>,
    /// By taker; `None` where reports are stale.
    loads: Vec<Option<u64>>,
    /// What each taker would do if all were even; at least one.
    shares: Vec<u64>,
    /// How far above its share a taker may stay.
    band_permille: u64,
}

impl Weighing {
    /// Weighs what is on the board; `None` if loads are not to be balanced, or nothing is known of
    /// them.
    pub(super) fn of(board: &Board<'_>) -> Option<Self> {
        let Planning {
            view,
            loads,
            settings,
            now,
            ..
        } = board.planning;
        if settings.strategy != Strategy::Load || loads.is_empty() {
            return None;
        }
        let stale_after = stale_after(settings);
        let cost = |shard| {
            let rates = loads.shard(shard, stale_after, now);
            rates.map_or(0, |rates| rates.cost().min(COST_MAX))
        };
        let costs: Vec<u64> = view.meta.shard_count.shards().map(cost).collect();
        let load = |shards: &mut dyn Iterator<Item = ShardId>| -> u64 {
            shards.map(|shard| costs[shard.index()]).sum()
        };
        let known = board.takers.iter().map(|taker| {
            let fresh = loads.node(taker.node, stale_after, now).is_some();
            fresh.then(|| load(&mut taker.shards()))
        });
        let known: Vec<Option<u64>> = known.collect();
        let pairs = || {
            known
                .iter()
                .zip(&board.takers)
                .filter(|(load, _)| load.is_some())
        };
        let weights: u128 = pairs().map(|(_, taker)| u128::from(taker.weight)).sum();
        let total: u128 = pairs().map(|(load, _)| u128::from(load.unwrap_or(0))).sum();
        let share = |weight: u64| {
            let share = total * u128::from(weight) / weights.max(1);
            u64::try_from(share).unwrap_or(u64::MAX / 4000).max(1)
        };
        Some(Self {
            shares: board
                .takers
                .iter()
                .map(|taker| share(taker.weight))
                .collect(),
            loads: known,
            costs,
            band_permille: 1000 + u64::from(settings.imbalance_threshold_permille),
        })
    }

    pub(super) fn cost(&self, shard: ShardId) -> u64 {
        self.costs[shard.index()]
    }

    /// Returns a taker's share of all loads.
    pub(super) fn share(&self, taker: usize) -> u64 {
        self.shares[taker]
    }

    /// Returns a taker's load in thousandths of its share; nothing if its reports are stale.
    pub(super) fn permille(&self, taker: usize) -> Option<u64> {
        self.loads[taker].map(|load| of_share(load, self.shares[taker]))
    }

    /// Returns what is above a taker's share, if it is further above than the band allows.
    pub(super) fn excess(&self, taker: usize) -> Option<u64> {
        let load = self.loads[taker].filter(|load| *load > self.limit(taker))?;
        Some(load - self.shares[taker])
    }

    /// Returns how much a taker can take before it is above the band.
    pub(super) fn room(&self, taker: usize) -> u64 {
        let limit = self.limit(taker);
        self.loads[taker].map_or(0, |load| limit.saturating_sub(load))
    }

    /// Returns what one taker would have to give another for both to be equally busy.
    pub(super) fn evens(&self, from: usize, to: usize) -> u64 {
        let (Some(giver), Some(taker)) = (self.loads[from], self.loads[to]) else {
            return 0;
        };
        let [own, other] = [from, to].map(|taker| u128::from(self.shares[taker]));
        let (giver, taker) = (u128::from(giver) * other, u128::from(taker) * own);
        u64::try_from(giver.saturating_sub(taker) / (own + other)).unwrap_or(u64::MAX)
    }

    fn limit(&self, taker: usize) -> u64 {
        let limit = u128::from(self.shares[taker]) * u128::from(self.band_permille) / 1000;
        u64::try_from(limit).unwrap_or(u64::MAX)
    }

    /// Notes that load went from one taker to another.
    pub(super) fn shift(&mut self, cost: u64, from: usize, to: usize) {
        if let Some(load) = &mut self.loads[from] {
            *load = load.saturating_sub(cost);
        }
        if let Some(load) = &mut self.loads[to] {
            *load = load.saturating_add(cost);
        }
    }

    /// Returns the costliest of a taker's shards.
    pub(super) fn hottest(&self, board: &Board<'_>, taker: usize) -> Option<(u64, ShardId)> {
        let shards = board.takers[taker].shards();
        shards.map(|shard| (self.cost(shard), shard)).max()
    }

    /// Whether one shard alone is a great part of a taker's share.
    pub(super) fn is_dominated(&self, board: &Board<'_>, taker: usize) -> bool {
        let hottest = self.hottest(board, taker).map_or(0, |(cost, _)| cost);
        of_share(hottest, self.shares[taker]) >= DOMINANT_PERMILLE
    }

    /// Closes the takers that one shard keeps so busy that they should not be filled up with
    /// others.
    ///
    /// Half of the floor under which loads do not matter is enough, and much less than the share:
    /// else whoever is near either would be closed and opened in turn.
    pub(super) fn close_dominated(&self, board: &mut Board<'_>) {
        let Planning {
            loads,
            settings,
            now,
            ..
        } = board.planning;
        for place in 0..board.takers.len() {
            let used = loads.node(board.takers[place].node, stale_after(settings), now);
            let used = used.map_or(0, |used| used.cpu_permille.max(used.memory_permille));
            let does_enough = self.permille(place).is_some_and(|p| p >= CLOSED_PERMILLE);
            board.takers[place].closed = does_enough
                && used >= settings.load_floor_permille / 2
                && self.is_dominated(board, place);
        }
    }
}

/// Returns thousandths of a share, at most as many as there are.
pub(super) fn of_share(load: u64, share: u64) -> u64 {
    let permille = u128::from(load) * 1000 / u128::from(share);
    u64::try_from(permille).unwrap_or(u64::MAX)
}
