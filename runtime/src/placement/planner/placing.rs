//! Repairs what must not be, places what has no home, and evens the counts out.

use std::collections::BTreeMap;

use super::board::{Board, Homeless, Taker, len};
use super::{Reason, Waiting};
use crate::ids::ShardId;

impl Board<'_> {
    /// Decides which shards have to go elsewhere, and which of them can: what is served nowhere
    /// goes first, and what finds no room stays.
    pub(super) fn repair(&mut self, waiting: Waiting) {
        let view = self.planning.view;
        let is_put_off = !self.homeless.is_empty() && waiting.puts_off_first_placement(view);
        if is_put_off {
            self.homeless.clear();
            self.put_off = true;
        }
        self.homeless
            .sort_unstable_by_key(|homeless| (homeless.reason, homeless.shard));
        if self.zones.has_rules() {
            self.admit_bound(waiting);
        }
        self.admit_all();
    }

    /// Leaves only those bound shards without a home that find room in their zone.
    fn admit_bound(&mut self, waiting: Waiting) {
        let mut rooms: BTreeMap<usize, u32> = BTreeMap::new();
        for taker in &self.takers {
            let room = rooms.entry(taker.zone).or_default();
            *room = room.saturating_add(taker.part().bound_room());
        }
        let mut takes = |zone: usize| {
            let room = rooms.entry(zone).or_default();
            let takes = *room > 0;
            *room = room.saturating_sub(1);
            takes
        };
        let mut left_out = Vec::new();
        let zones = &self.zones;
        self.homeless.retain(|homeless| {
            let zone = zones.hard(homeless.shard);
            let out = zone.filter(|zone| !takes(*zone));
            left_out.extend(out.map(|zone| (zone, homeless.shard)));
            out.is_none()
        });
        for (shard, taker) in std::mem::take(&mut self.strays) {
            let zone = self.zones.hard(shard).expect("only bound shards stray");
            let is_admitted = takes(zone);
            if is_admitted && waiting.until().is_none() {
                let reason = Reason::Zone;
                self.homeless.push(Homeless { shard, reason });
                continue;
            }
            self.takers[taker].fixed.push(shard);
            if is_admitted {
                self.put_off = true;
            } else {
                left_out.push((zone, shard));
            }
        }
        for (zone, shard) in left_out {
            self.cannot_meet(zone, shard);
        }
    }

    /// Leaves only as many shards without a home as there is room, of which strays left some
    /// behind.
    fn admit_all(&mut self) {
        let (room, above) = room_of(&self.takers);
        let needed = self.homeless.len() as u64;
        let admitted = usize::try_from(room).unwrap_or(usize::MAX);
        if self.homeless.len() > admitted {
            for homeless in self.homeless.split_off(admitted) {
                // It does not get lost: a stray goes on where it is served.
                if homeless.reason == Reason::Zone {
                    self.stay_astray(homeless.shard);
                }
            }
        }
        let missing = (needed + above).saturating_sub(room);
        self.without_room = u32::try_from(missing).unwrap_or(u32::MAX);
    }

    /// Keeps a shard at the taker that has it, if one does.
    fn stay_astray(&mut self, shard: ShardId) -> Option<usize> {
        let view = self.planning.view;
        let nodes = [
            view.targets.get(shard).node.as_ref(),
            view.owners
                .get(shard)
                .owner
                .as_ref()
                .map(|owner| &owner.node),
        ];
        let mut places = nodes
            .into_iter()
            .flatten()
            .filter_map(|n| self.standings.place(n));
        let place = places.next()?;
        self.takers[place].fixed.push(shard);
        Some(place)
    }

    /// Gives every shard on the board a home within the quotas, by the fewest moves.
    ///
    /// While joins wait, nothing is taken from anybody.
    pub(super) fn even_out(&mut self, quotas: &[u32], waiting: Waiting) {
        let waits = waiting.until().is_some();
        let is_any_above = self.takers.iter().zip(quotas).any(|(t, q)| t.count() > *q);
        self.put_off |= waits && is_any_above;
        if self.zones.has_rules() {
            self.place_bound(quotas, waits);
        }
        let (mut excess, mut rooms) = (0, 0);
        for (taker, quota) in self.takers.iter().zip(quotas) {
            excess += taker.count().saturating_sub(*quota);
            rooms += quota.saturating_sub(taker.count());
        }
        if !waits && excess > 0 {
            // Nothing is given up that nobody takes.
            let mut left = rooms.saturating_sub(len_of(&self.homeless));
            for (place, quota) in quotas.iter().enumerate() {
                let excess = self.takers[place].count().saturating_sub(*quota).min(left);
                left -= self.give_up_free(place, excess);
            }
        }
        let rooms = self.rooms(quotas);
        let homeless = std::mem::take(&mut self.homeless);
        self.homeless = self.place(homeless, rooms);
        self.keep_to_capacities();
    }

    /// Calls moves off that came into room which another shard could not leave after all.
    ///
    /// That happens only where hard rules, capacities and a lack of room meet: a shard may have to
    /// stay astray in the room that was given to another. Each round calls a move off, so it ends.
    fn keep_to_capacities(&mut self) {
        let is_full = |taker: &Taker<'_>| taker.capacity.is_some_and(|most| taker.count() > most);
        let mut place = 0;
        while place < self.takers.len() {
            let came = if is_full(&self.takers[place]) {
                let mut movable = self.takers[place].movable();
                movable.find(|shard| self.came_for_good(*shard, place))
            } else {
                None
            };
            let Some(shard) = came else {
                place += 1;
                continue;
            };
            self.call_off(shard, place);
            place = 0;
        }
    }

    /// Whether a shard comes to a taker that does not own it already.
    fn came_for_good(&self, shard: ShardId, place: usize) -> bool {
        let view = self.planning.view;
        let node = Some(self.takers[place].node);
        let owner = view.owners.get(shard).owner.as_ref();
        let is_there = view.targets.get(shard).node.as_ref() == node;
        let is_owned = owner.map(|owner| &owner.node) == node;
        self.steps.get(shard).is_some() && !is_there && !is_owned
    }

    /// Leaves a shard where it was before the plan.
    fn call_off(&mut self, shard: ShardId, place: usize) {
        let taker = &mut self.takers[place];
        taker.bound.retain(|bound| *bound != shard);
        taker.free.retain(|free| *free != shard);
        self.steps.remove(shard);
        self.without_room += 1;
        let was = self.stay_astray(shard);
        let target = self.planning.view.targets.get(shard).node.as_ref();
        if let Some(was) = was.filter(|was| target != Some(self.takers[*was].node)) {
            self.send(shard, was, Reason::Failure, 0);
        }
    }

    fn rooms(&self, quotas: &[u32]) -> Vec<u32> {
        let counts = self.takers.iter().zip(quotas);
        counts
            .map(|(taker, quota)| quota.saturating_sub(taker.count()))
            .collect()
    }

    /// Makes homeless what a taker has too much, and returns how much that is.
    fn give_up_free(&mut self, place: usize, excess: u32) -> u32 {
        if excess == 0 {
            return 0;
        }
        let free = std::mem::take(&mut self.takers[place].free);
        let (free, given) = self.give_up(place, free, excess);
        self.takers[place].free = free;
        self.homeless.extend(given.iter().copied().map(joins));
        len(&given)
    }

    /// Splits off the `excess` shards that are easiest to give up.
    fn give_up(
        &self,
        place: usize,
        shards: Vec<ShardId>,
        excess: u32,
    ) -> (Vec<ShardId>, Vec<ShardId>) {
        let mut stay = self.by_ease(place, shards);
        let given = stay.split_off(stay.len().saturating_sub(excess as usize));
        (stay, given)
    }

    /// Places the shards that hard rules bind: where there is room, and then where others make
    /// room.
    fn place_bound(&mut self, quotas: &[u32], waits: bool) {
        if !waits {
            for (place, quota) in quotas.iter().enumerate() {
                let part = self.takers[place].part();
                let excess = (part.fixed + part.bound)
                    .saturating_sub(*quota)
                    .min(part.bound);
                if excess > 0 && !part.cordoned && self.has_bound_room_beside(place, quotas) {
                    let bound = std::mem::take(&mut self.takers[place].bound);
                    let (bound, given) = self.give_up(place, bound, excess);
                    self.takers[place].bound = bound;
                    self.homeless.extend(given.into_iter().map(joins));
                }
            }
        }
        let all = std::mem::take(&mut self.homeless);
        let (bound, free) = all
            .into_iter()
            .partition(|h| self.zones.hard(h.shard).is_some());
        let left = self.place(bound, self.rooms(quotas));
        let (left, mut left_out) = self.admit_displacing(left, free.len(), waits);
        let rooms = self.bound_rooms(|place, taken| quotas[place].saturating_sub(taken));
        let left = self.place(left, rooms);
        let rooms = self.bound_rooms(|place, _| self.takers[place].part().bound_room());
        left_out.extend(self.place(left, rooms));
        self.homeless = free;
        for homeless in left_out {
            let zone = self.zones.hard(homeless.shard).expect("bound shards only");
            self.cannot_meet(zone, homeless.shard);
            if homeless.reason == Reason::Zone {
                self.stay_astray(homeless.shard);
            }
        }
    }

    /// Splits bound shards into those for which others can make room, since there is some for these
    /// elsewhere, and the rest. While joins wait, nobody makes room.
    fn admit_displacing(
        &self,
        mut bound: Vec<Homeless>,
        coming: usize,
        waits: bool,
    ) -> (Vec<Homeless>, Vec<Homeless>) {
        let rooms = self
            .takers
            .iter()
            .map(|taker| u64::from(taker.part().room()));
        let strays = bound.iter().filter(|h| h.reason == Reason::Zone).count();
        let spare = rooms.sum::<u64>().saturating_sub((coming + strays) as u64);
        let is_limited = self.takers.iter().any(|taker| taker.capacity.is_some());
        let admitted = match spare {
            _ if waits && is_limited => 0,
            spare => usize::try_from(spare).unwrap_or(usize::MAX),
        };
        let left_out = bound.split_off(admitted.min(bound.len()));
        (bound, left_out)
    }

    fn has_bound_room_beside(&self, place: usize, quotas: &[u32]) -> bool {
        let zone = self.takers[place].zone;
        let beside = self.takers.iter().zip(quotas).enumerate();
        beside
            .filter(|(other, (taker, _))| *other != place && taker.zone == zone)
            .any(|(_, (taker, quota))| {
                let part = taker.part();
                part.fixed + part.bound < *quota && !part.cordoned
            })
    }

    /// Returns how many bound shards each taker has room for, by its place and how many it has that
    /// do not make room.
    fn bound_rooms(&self, room: impl Fn(usize, u32) -> u32) -> Vec<u32> {
        let parts = self.takers.iter().map(Taker::part).enumerate();
        parts
            .map(|(place, part)| {
                if part.cordoned {
                    0
                } else {
                    room(place, part.fixed + part.bound)
                }
            })
            .collect()
    }

    /// Hands shards out, one to each taker with room in turn, so that many receivers share the work
    /// of one that left; those with a wish for a zone first. Returns what found no room.
    fn place(&mut self, mut homeless: Vec<Homeless>, mut rooms: Vec<u32>) -> Vec<Homeless> {
        homeless.sort_unstable_by_key(|homeless| homeless.shard);
        if !self.zones.has_rules() {
            return self.hand_out(homeless, &mut rooms, |_| true);
        }
        let mut wishes: BTreeMap<usize, Vec<Homeless>> = BTreeMap::new();
        let mut rest = Vec::new();
        for homeless in homeless {
            let (hard, soft) = (
                self.zones.hard(homeless.shard),
                self.zones.soft(homeless.shard),
            );
            match hard.or(soft) {
                Some(zone) => wishes.entry(zone).or_default().push(homeless),
                None => rest.push(homeless),
            }
        }
        let mut left_out = Vec::new();
        for (zone, homeless) in wishes {
            let left = self.hand_out(homeless, &mut rooms, |own| own == zone);
            let (hard, soft): (Vec<_>, Vec<_>) = left
                .into_iter()
                .partition(|h| self.zones.hard(h.shard).is_some());
            left_out.extend(hard);
            rest.extend(soft);
        }
        rest.sort_unstable_by_key(|homeless| homeless.shard);
        left_out.extend(self.hand_out(rest, &mut rooms, |_| true));
        left_out
    }

    fn hand_out(
        &mut self,
        homeless: Vec<Homeless>,
        rooms: &mut [u32],
        in_zone: impl Fn(usize) -> bool,
    ) -> Vec<Homeless> {
        let places = 0..rooms.len();
        let mut receivers: Vec<usize> = places
            .filter(|place| rooms[*place] > 0 && in_zone(self.takers[*place].zone))
            .collect();
        let (mut turn, mut left) = (0, Vec::new());
        for homeless in homeless {
            if receivers.is_empty() {
                left.push(homeless);
                continue;
            }
            turn = if turn < receivers.len() { turn } else { 0 };
            let place = receivers[turn];
            self.hold_placed(place, homeless);
            rooms[place] -= 1;
            if rooms[place] == 0 {
                receivers.remove(turn);
            } else {
                turn += 1;
            }
        }
        left
    }

    fn hold_placed(&mut self, place: usize, homeless: Homeless) {
        let Homeless { shard, reason } = homeless;
        self.hold(place, shard);
        self.send(shard, place, reason, 0);
    }
}

/// Returns how many more shards takers can have, and how many they have above their capacities.
/// Without a limit there is more room than there are shards.
pub(super) fn room_of<'t, 'a: 't>(takers: impl IntoIterator<Item = &'t Taker<'a>>) -> (u64, u64) {
    let (mut room, mut above) = (0, 0);
    for taker in takers {
        room += u64::from(taker.part().room());
        let capacity = taker.capacity.filter(|_| !taker.cordoned);
        above += u64::from(capacity.map_or(0, |most| taker.count().saturating_sub(most)));
    }
    (room, above)
}

fn joins(shard: ShardId) -> Homeless {
    let reason = Reason::Join;
    Homeless { shard, reason }
}

fn len_of(homeless: &[Homeless]) -> u32 {
    u32::try_from(homeless.len()).expect("at most as many as shards")
}
