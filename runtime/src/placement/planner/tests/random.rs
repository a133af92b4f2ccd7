//! Large worlds at random, with everything in them at once.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::{ProptestConfig, any, prop_assert_eq, proptest};

use super::super::*;
use super::world::{World, at, id};
use crate::ids::{Incarnation, NodeId, Revision, ShardId};
use crate::placement::{NodeRecord, NodeState, Owner, OwnerRecord, Target, Weight};

/// Numbers that look random, and are the same for the same seed.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    fn size(&mut self, bound: u64) -> usize {
        usize::try_from(self.below(bound)).expect("small")
    }
}

/// Returns a world with zones, rules, capacities, cordons, pins, commands, owners and loads.
fn world(seed: u64) -> World {
    let mut random = Random(seed | 1);
    let bits = 3 + random.below(5);
    let count = 1 + random.size(12);
    let mut world = World::large(count, 1 << bits);
    let shards: Vec<_> = world.view.meta.shard_count.shards().collect();
    let is_zoned = random.one_in(2);
    differ(&mut world, count, is_zoned, &mut random);
    world.view.orders.paused = random.one_in(6);
    if is_zoned {
        add_rules(&mut world, &shards, &mut random);
    }
    if random.one_in(3) {
        world.settings.pin_policy = PinPolicy::Wait;
    }
    let any_node = |random: &mut Random| id(random.size(count as u64 + 2));
    place(&mut world, &shards, any_node, &mut random);
    for _ in 0..random.below(4) {
        let command = match random.below(4) {
            0 => Command::Move(any_node(&mut random)),
            1 => Command::Pin(any_node(&mut random)),
            2 => Command::Unpin,
            _ => Command::Release,
        };
        let shard = shards[random.size(shards.len() as u64)];
        world.commands.insert(shard, command);
    }
    if random.one_in(2) {
        report(&mut world, count, &shards, &mut random);
    }
    world
}

/// Gives nodes zones, capacities, weights, states and cordons.
fn differ(world: &mut World, count: usize, is_zoned: bool, random: &mut Random) {
    let (is_limited, has_cordons) = (random.one_in(2), random.one_in(2));
    let shards = u64::from(world.view.meta.shard_count.get());
    for number in 0..count {
        let record = world.view.nodes.get_mut(&id(number)).expect("it is there");
        if is_zoned && !random.one_in(6) {
            record.zone = Some(["x", "y", "z"][random.size(3)].into());
        }
        if is_limited && !random.one_in(3) {
            let most = 1 + random.below(3 * shards / count as u64 + 1);
            record
                .labels
                .insert(CAPACITY_LABEL.into(), most.to_string());
        }
        if random.one_in(5) {
            let thousandths = u32::try_from(random.below(4000)).expect("small");
            record.weight = Weight::from_thousandths(thousandths);
        }
        if random.one_in(6) {
            record.state = NodeState::Draining;
        }
        if has_cordons && random.one_in(4) {
            world.view.orders.cordoned.insert(id(number));
        }
    }
}

/// Binds ranges of shards to zones, one of which no node is in.
fn add_rules(world: &mut World, shards: &[ShardId], random: &mut Random) {
    for _ in 0..random.below(3) {
        let one = random.size(shards.len() as u64);
        let other = random.size(shards.len() as u64);
        world.settings.zone_rules.push(ZoneRule {
            first: shards[one.min(other)],
            last: shards[one.max(other)],
            zone: ["x", "y", "w"][random.size(3)].into(),
            strength: if random.one_in(2) {
                Strength::Hard
            } else {
                Strength::Soft
            },
        });
    }
}

/// Gives shards targets, flags and owners, some of which are gone.
fn place(
    world: &mut World,
    shards: &[ShardId],
    any_node: impl Fn(&mut Random) -> NodeId,
    random: &mut Random,
) {
    for shard in shards {
        let node = (!random.one_in(8)).then(|| any_node(random));
        let owner = match random.below(4) {
            0 => None,
            1 => Some(any_node(random)),
            _ => node.clone(),
        };
        own(world, *shard, owner, 2);
        let target = Target {
            pinned: node.is_some() && random.one_in(12),
            quarantined: random.one_in(30),
            node,
            suspicion: None,
            cause: None,
        };
        world.view.targets.set(*shard, target);
    }
}

/// Writes a shard's owner, in the one life that each node has here.
fn own(world: &mut World, shard: ShardId, node: Option<NodeId>, revision: u64) {
    let incarnation = Incarnation::new(1);
    let record = OwnerRecord {
        revision: Revision::new(revision),
        owner: node.map(|node| Owner { node, incarnation }),
        parcel: None,
    };
    world.view.owners.set(shard, record);
}

/// Lets most nodes report loads that differ more or less.
fn report(world: &mut World, count: usize, shards: &[ShardId], random: &mut Random) {
    let hot = random.below(40);
    for number in 0..count {
        if random.one_in(8) {
            continue;
        }
        let mut rates = |shard: &ShardId| {
            let order = random.below(hot.max(1));
            let rates = ShardRates {
                calls_per_s: random.below(1 << order),
                ..ShardRates::default()
            };
            (*shard, rates)
        };
        let report = LoadReport {
            node: id(number),
            load: NodeUse {
                cpu_permille: 700,
                memory_permille: 0,
            },
            shards: shards.iter().map(&mut rates).collect(),
        };
        world.loads.absorb(&report, at(super::LATER));
    }
}

/// Plans and carries out, with every move done at once, until there is nothing to do.
fn comes_to_rest(world: &mut World) {
    let settings = world.settings.clone();
    for round in 0..200 {
        let now = at(super::LATER);
        for window in 0..4 {
            let seen = at(super::LATER - 40_000 + 10_000 * window);
            world.memory.see(&world.view, &world.loads, &settings, seen);
        }
        let plan = world.plan_at(super::LATER);
        assert_eq!(world.broken(&plan), [], "in round {round}");
        if plan.is_empty() {
            return;
        }
        for (shard, target) in &plan.targets {
            let node = target
                .node
                .clone()
                .filter(|node| world.view.nodes.contains_key(node));
            own(world, *shard, node, 3);
        }
        world.carry_out(&plan);
        for (shard, _) in &plan.targets {
            world.commands.remove(shard);
        }
        world.memory.note(&plan, &settings, now);
    }
    panic!("never at rest: {:?}", world.plan_at(super::LATER).moves);
}

/// Returns how many shards a plan says would have no room without each zone; nothing if there is
/// other trouble already, which hides that.
fn headroom(plan: &Plan) -> Option<BTreeMap<String, u32>> {
    let mut short = BTreeMap::new();
    for advice in &plan.advice {
        if let Advice::ZoneWithoutHeadroom { zone, shards } = advice {
            short.insert(zone.clone(), *shards);
        }
        let hides_it = matches!(
            advice,
            Advice::CapacityExhausted { .. }
                | Advice::ZoneRuleUnmet { .. }
                | Advice::PinnedToAbsent { .. }
                | Advice::NoTakers { .. }
        );
        if hides_it {
            return None;
        }
    }
    Some(short)
}

/// Returns a world at rest, every shard where it should be, whose loads nobody knows.
fn at_rest(mut world: World) -> World {
    world.commands.clear();
    world.view.orders.paused = false;
    world.loads = Loads::default();
    comes_to_rest(&mut world);
    for (shard, target) in world.view.targets.clone().iter() {
        let incarnation = Incarnation::new(1);
        let owner = target.node.clone().map(|node| Owner { node, incarnation });
        let record = OwnerRecord {
            owner,
            ..world.view.owners.get(shard).clone()
        };
        world.view.owners.set(shard, record);
    }
    world
}

/// Takes from every shard what binds it to where it is, and its place too if it is `bare`. A cordon
/// binds too: it lets a node keep what it has.
fn unbind(world: &mut World, bare: bool) {
    world.view.orders.cordoned.clear();
    for shard in world.view.meta.shard_count.shards() {
        let node = world.view.targets.get(shard).node.clone();
        let target = Target {
            node: node.filter(|_| !bare),
            ..Target::default()
        };
        world.view.targets.set(shard, target);
        if bare {
            world.view.owners.set(shard, OwnerRecord::default());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn headroom_is_what_a_plan_says_once_the_zone_is_lost(seed in any::<u64>()) {
        let world = at_rest(world(seed));
        let Some(short) = headroom(&world.plan_at(super::LATER)) else {
            return Ok(());
        };
        let takes = |record: &&NodeRecord| {
            record.state == NodeState::Active && !record.weight.is_gate()
        };
        let takers = world.view.nodes.values().filter(takes);
        let zones: BTreeSet<_> = takers.map(|record| record.zone.clone()).collect();
        for zone in zones.iter().filter(|_| zones.len() > 1) {
            let mut lost = world.clone();
            lost.view.nodes.retain(|_, record| record.zone != *zone);
            let plan = lost.plan_at(super::LATER);
            let without_room = plan.advice.iter().find_map(|advice| {
                if let Advice::CapacityExhausted { shards } = advice {
                    return Some(*shards);
                }
                None
            });
            let said = short.get(zone.as_deref().unwrap_or(""));
            prop_assert_eq!(said.copied(), without_room, "{:?}", zone);
        }
    }

    #[test]
    fn headroom_does_not_depend_on_where_the_shards_are(seed in any::<u64>()) {
        let (mut one, mut other) = (world(seed), world(seed));
        unbind(&mut one, false);
        unbind(&mut other, true);
        let said = [one, other].map(|w| headroom(&at_rest(w).plan_at(super::LATER)));
        if let [Some(one), Some(other)] = said {
            prop_assert_eq!(one, other);
        }
    }

    #[test]
    fn s2_22_any_world_is_planned_without_breaking_an_invariant(seed in any::<u64>()) {
        let world = world(seed);
        let plan = world.plan_at(super::LATER);
        prop_assert_eq!(world.broken(&plan), []);
        prop_assert_eq!(&plan, &world.clone().plan_at(super::LATER), "the same again");
    }

    #[test]
    fn p13_any_world_comes_to_rest(seed in any::<u64>()) {
        comes_to_rest(&mut world(seed));
    }
}
