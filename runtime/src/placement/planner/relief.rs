//! Takes load off nodes that do too much: single moves where counts give way to loads or allow
//! it, then swaps.
//!
//! Every exchange leaves both nodes less busy than the busier one was, and as far as it can be none
//! above the band that was not; each shard goes once a plan. So it ends, and the same loads ask for
//! nothing twice.

use std::collections::BTreeSet;

use super::board::Board;
use super::weighing::{Weighing, of_share};
use super::{Planning, Reason};
use crate::ids::ShardId;

/// So many of the least busy takers are looked at for a swap.
const RECEIVERS_TRIED_MAX: usize = 8;

/// So many partners of the right cost are looked at, if rules keep the first ones where they are.
const PARTNERS_TRIED_MAX: usize = 4;

/// Who gives, and who takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pair {
    from: usize,
    to: usize,
}

/// What to move, what for in return, and what that takes off the giver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Exchange {
    gain: u64,
    pair: Pair,
    give: ShardId,
    back: Option<ShardId>,
}

/// Loads being balanced.
#[derive(Debug)]
pub(super) struct Relief<'b, 'a> {
    board: &'b mut Board<'a>,
    weighing: Weighing,
    /// By taker, the shards that can go, cheapest first; `None` until asked for.
    by_cost: Vec<Option<Vec<(u64, ShardId)>>>,
    /// Takers of fresh loads, the least busy beside its share first.
    idle: BTreeSet<(u64, usize)>,
}

impl<'b, 'a> Relief<'b, 'a> {
    /// Begins, if any taker did too much for long enough.
    pub(super) fn begin(board: &'b mut Board<'a>, weighing: Weighing) -> Option<Self> {
        let Planning {
            memory, settings, ..
        } = board.planning;
        let mut windows = board
            .takers
            .iter()
            .map(|t| memory.windows_overloaded(t.node));
        if !windows.any(|windows| windows >= settings.load_windows.max(1)) {
            return None;
        }
        let takers = 0..board.takers.len();
        let takers = takers.filter(|taker| !board.takers[*taker].cordoned);
        let idle = takers.filter_map(|taker| Some((weighing.permille(taker)?, taker)));
        Some(Self {
            idle: idle.collect(),
            by_cost: vec![None; board.takers.len()],
            board,
            weighing,
        })
    }

    /// Takes single shards off the nodes that one other shard dominates, though that leaves them
    /// with fewer than others.
    pub(super) fn relieve_dominated(&mut self) {
        for from in self.givers() {
            if self.weighing.is_dominated(self.board, from) {
                while let Some(exchange) = self.single(from) {
                    self.carry_out(exchange);
                }
            }
        }
    }

    /// Exchanges shards so that counts stay as even as they are, until nobody is above the band or
    /// nothing helps.
    pub(super) fn swap(&mut self) {
        loop {
            let mut any = false;
            for from in self.givers() {
                while let Some(exchange) = self.exchange(from) {
                    self.carry_out(exchange);
                    any = true;
                }
            }
            if !any {
                break;
            }
        }
    }

    /// Gives the loads back as they are now.
    pub(super) fn end(self) -> Weighing {
        self.weighing
    }

    /// Returns who is above the band, the busiest first.
    fn givers(&self) -> Vec<usize> {
        let busiest = self.idle.iter().rev().map(|(_, taker)| *taker);
        busiest
            .filter(|taker| self.weighing.excess(*taker).is_some())
            .collect()
    }

    /// Returns the least that a move must take off this taker.
    fn min_gain(&self, from: usize) -> u64 {
        let permille = self.board.planning.settings.min_gain_permille;
        let gain = u128::from(self.weighing.share(from)) * u128::from(permille) / 1000;
        u64::try_from(gain).unwrap_or(u64::MAX).max(1)
    }

    fn sort(&mut self, taker: usize) {
        if self.by_cost[taker].is_none() {
            let (memory, now) = (self.board.planning.memory, self.board.planning.now);
            let movable = self.board.takers[taker].movable();
            let movable = movable.filter(|shard| !memory.rests(*shard, now));
            let mut shards: Vec<_> = movable.map(|s| (self.weighing.cost(s), s)).collect();
            shards.sort_unstable();
            self.by_cost[taker] = Some(shards);
        }
    }

    fn sorted(&self, taker: usize) -> &[(u64, ShardId)] {
        self.by_cost[taker].as_deref().unwrap_or_default()
    }

    fn may_go(&self, shard: ShardId, pair: Pair) -> bool {
        let zone = |taker: usize| self.board.takers[taker].zone;
        self.board
            .zones
            .allow(shard, zone(pair.from), zone(pair.to))
    }

    /// Returns the costliest shard that brings the giver nearer to its share and fits somewhere,
    /// with the taker that has the fewest shards for its weight.
    fn single(&mut self, from: usize) -> Option<Exchange> {
        let over = self.weighing.excess(from)?;
        self.sort(from);
        let min_gain = self.min_gain(from);
        let shards = self.sorted(from);
        let fitting = shards.partition_point(|(cost, _)| *cost <= over);
        let shards = shards[..fitting].iter().rev();
        let mut shards = shards.take_while(|(cost, _)| *cost >= min_gain);
        shards.find_map(|(cost, shard)| {
            let takers = self
                .idle
                .iter()
                .map(|(busy, to)| (*busy, Pair { from, to: *to }));
            let fits = takers.filter(|(_, pair)| {
                let taker = &self.board.takers[pair.to];
                pair.to != from
                    && self.weighing.room(pair.to) >= *cost
                    && taker.part().room() > 0
                    && self.may_go(*shard, *pair)
            });
            let (_, _, pair) = fits
                .map(|(busy, pair)| (self.count_for_weight(pair.to), busy, pair))
                .min_by_key(|(count, busy, pair)| (*count, *busy, pair.to))?;
            Some(Exchange {
                gain: *cost,
                pair,
                give: *shard,
                back: None,
            })
        })
    }

    fn count_for_weight(&self, taker: usize) -> u64 {
        let taker = &self.board.takers[taker];
        u64::from(taker.count()) * 1_000_000 / taker.weight.max(1)
    }

    /// Returns the exchange that takes most off this taker, as far as it is above its share: one that
    /// leaves the other within the band, else one that leaves both less busy than this one is.
    fn exchange(&mut self, from: usize) -> Option<Exchange> {
        self.weighing.excess(from)?;
        self.exchange_of(from, |weighing, pair| weighing.room(pair.to))
            .or_else(|| self.exchange_of(from, |weighing, pair| weighing.evens(pair.from, pair.to)))
    }

    fn exchange_of(
        &mut self,
        from: usize,
        most: impl Fn(&Weighing, Pair) -> u64,
    ) -> Option<Exchange> {
        let over = self.weighing.excess(from)?;
        let pairs = self.idle.iter().map(|(_, to)| Pair { from, to: *to });
        let pairs = pairs.filter(|pair| pair.to != from);
        let pairs = pairs.map(|pair| (pair, most(&self.weighing, pair).min(over)));
        let pairs: Vec<_> = pairs
            .filter(|(_, most)| *most > 0)
            .take(RECEIVERS_TRIED_MAX)
            .collect();
        self.sort(from);
        let mut best: Option<Exchange> = None;
        for (pair, most) in pairs {
            self.sort(pair.to);
            let single = self.odd_single(pair, most);
            let swap = self.best_swap(pair, most);
            let better = [single, swap].into_iter().flatten().max_by_key(|exchange| {
                // A swap costs two moves.
                let moves = 1 + u64::from(exchange.back.is_some());
                (exchange.gain / moves, exchange.back.is_none())
            });
            if let Some(better) = better.filter(|b| best.is_none_or(|best| b.gain > best.gain)) {
                best = Some(better);
            }
            if best.is_some_and(|best| best.gain >= most - most / 4) {
                break;
            }
        }
        best
    }

    /// Returns a single move, where the giver has the odd shard that the taker might have as well.
    fn odd_single(&self, pair: Pair, most: u64) -> Option<Exchange> {
        let [giver, taker] = [pair.from, pair.to].map(|place| self.board.takers[place].part());
        let is_odd = giver.weight == taker.weight && giver.count == taker.count + 1;
        let may_change = giver.zone == taker.zone && !taker.closed && !giver.closed;
        if !is_odd || !may_change || taker.room() == 0 {
            return None;
        }
        let shards = self.sorted(pair.from);
        let fitting = shards.partition_point(|(cost, _)| *cost <= most);
        let (cost, shard) = shards[..fitting].last()?;
        (*cost >= self.min_gain(pair.from)).then_some(Exchange {
            gain: *cost,
            pair,
            give: *shard,
            back: None,
        })
    }

    /// Returns the swap that takes most off the giver, and no more than `most`.
    fn best_swap(&self, pair: Pair, most: u64) -> Option<Exchange> {
        let (from, to) = (self.sorted(pair.from), self.sorted(pair.to));
        let min_gain = self.min_gain(pair.from);
        let back = Pair {
            from: pair.to,
            to: pair.from,
        };
        let mut best: Option<Exchange> = None;
        for (cost, give) in from.iter().rev().take_while(|(cost, _)| *cost >= min_gain) {
            if !self.may_go(*give, pair) {
                continue;
            }
            let first = to.partition_point(|(other, _)| *other < cost.saturating_sub(most));
            let partners = to[first..].iter().take(PARTNERS_TRIED_MAX);
            let partner = partners
                .take_while(|(other, _)| *other + min_gain <= *cost)
                .find(|(_, shard)| self.may_go(*shard, back));
            if let Some((other, shard)) = partner {
                let gain = cost - other;
                if best.is_none_or(|best| gain > best.gain) {
                    best = Some(Exchange {
                        gain,
                        pair,
                        give: *give,
                        back: Some(*shard),
                    });
                }
                if gain >= most - most / 16 {
                    break;
                }
            }
        }
        best
    }

    fn carry_out(&mut self, exchange: Exchange) {
        let Exchange {
            gain,
            pair,
            give,
            back,
        } = exchange;
        for taker in [pair.from, pair.to] {
            let busy = self.weighing.permille(taker);
            self.idle.remove(&(busy.unwrap_or(0), taker));
        }
        let permille = of_share(gain, self.weighing.share(pair.from));
        let permille = u32::try_from(permille).unwrap_or(u32::MAX);
        self.carry(give, pair, permille);
        if let Some(back) = back {
            let back_again = Pair {
                from: pair.to,
                to: pair.from,
            };
            self.carry(back, back_again, 0);
        }
        for taker in [pair.from, pair.to] {
            let busy = self.weighing.permille(taker);
            self.idle.insert((busy.unwrap_or(0), taker));
        }
    }

    fn carry(&mut self, shard: ShardId, pair: Pair, gain_permille: u32) {
        let why = (Reason::Load, gain_permille);
        self.board.carry(shard, pair.from, pair.to, why);
        let cost = self.weighing.cost(shard);
        self.weighing.shift(cost, pair.from, pair.to);
        let entry = (cost, shard);
        if let Some(shards) = &mut self.by_cost[pair.from] {
            shards.retain(|other| *other != entry);
        }
        // Each shard goes once a plan, so it is not among those that the taker can give.
    }
}
