//! Small worlds exhaustively, large ones at random.
//!
//! Nodes are single letters, with a mark for their state: `a` takes shards, `a!` drains, `a?` is
//! joining, `a~` has just begun to, `a0` is a gate and `a3` has three times the weight. A layout has one letter a shard:
//! `ab-` puts shard 0 on `a`, 1 on `b`, 2 nowhere; `A` is pinned to `a`, `*` is in quarantine.

use proptest::prelude::*;

use super::*;
use crate::ids::{Incarnation, LeaseId, Revision, ShardCount};
use crate::placement::checker::{Broken, check as broken};
use crate::placement::{ClusterMeta, NodeRecord, NodeState, Owner, Weight};

#[test]
fn p12_new_shards_are_spread_evenly() {
    check("a b", "----", "abab");
    check("a b c d", "--------", "abcdabcd");
}

#[test]
fn p12_a_single_shard_does_not_always_go_to_the_first_name() {
    let owners = (0..20).map(|cluster| {
        let mut world = World::new("a b c", "-");
        world.view.meta.cluster_id = format!("cluster {cluster}");
        world.planned()
    });
    let mut owners: Vec<_> = owners.collect();
    owners.sort();
    owners.dedup();
    assert_eq!(owners, ["a", "b", "c"]);
}

#[test]
fn a_dead_nodes_shards_go_to_the_others_and_nothing_else_moves() {
    check("a b c", "adbdcdad", "aabbccab");
}

#[test]
fn a_joining_node_gets_nothing_and_a_joined_one_its_share() {
    check("a b?", "aaaa", "aaaa");
    check("a b", "aaaa", "aabb");
}

#[test]
fn a_draining_node_is_emptied() {
    check("a! b c", "aaaabbcc", "bcbcbbcc");
    check("a!", "aaaa", "aaaa");
}

#[test]
fn gates_get_nothing_and_change_nothing() {
    check("a b g0", "abab", "abab");
    check("g0", "----", "----");
}

#[test]
fn s2_46_s2_47_weights_count_from_the_first_placement_on() {
    check("a3 b", "--------", "ababaaaa");
}

#[test]
fn p11_a_shard_with_a_live_owner_and_no_target_stays_where_it_is() {
    check_owned("a b", "----", "bbaa", "bbaa");
    check_owned("a b", "cc--", "bbaa", "bbaa");
    check_owned("a b c!", "cc--", "bbaa", "bbaa");
}

#[test]
fn a_shard_that_would_return_to_a_full_owner_goes_on_at_once() {
    check_owned("a b", "----", "aaaa", "aabb");
}

#[test]
fn shards_that_are_not_owned_yet_are_given_up_first() {
    check_owned("a b", "aaaa", "-aaa", "baab");
    check_owned("a b", "aaaa", "--aa", "bbaa");
}

#[test]
fn p14_pinned_shards_are_never_taken() {
    check("a b", "AAAA", "AAAA");
    check("a b", "AAAa", "AAAb");
    check("a b c", "aaAAAAbc", "bcAAAAbc");
}

#[test]
fn a_pinned_shard_fails_over_and_keeps_its_pin() {
    check("b", "AAbb", "BBbb");
}

#[test]
fn shards_in_quarantine_are_left_alone_and_do_not_count() {
    check("a b", "**aaaa--", "**aaabbb");
}

#[test]
fn a_node_that_is_registered_again_keeps_its_shards_while_it_joins() {
    let mut world = World::new("a b? c", "aabbcc--");
    world.change("b", 1000);
    let plan = world.plan_at(1500);
    assert_eq!(plan.again_at, Some(at(3000)));
    assert_eq!(world.after(&plan), "aabbccac");
    assert_eq!(world.after(&world.plan_at(3000)), "aaacccac");
}

#[test]
fn a_node_that_has_just_gone_keeps_its_shards_for_a_moment() {
    let mut world = World::new("a c", "aabbcc--");
    world.own("aabbcc--");
    world.change("b", 1000);
    let plan = world.plan_at(1049);
    assert_eq!(plan.again_at, Some(at(1050)));
    assert_eq!(world.after(&plan), "aabbccac");
    assert_eq!(world.after(&world.plan_at(1050)), "aaacccac");
}

#[test]
fn joins_wait_for_each_other_but_orphans_do_not() {
    let mut world = World::new("a b", "aaaaaadd");
    world.own("aaaaaadd");
    world.change("b", 1000);
    let plan = world.plan_at(1200);
    assert_eq!(world.after(&plan), "aaaaaabb");
    assert_eq!(plan.again_at, Some(at(1300)));
    assert_eq!(world.after(&world.plan_at(1300)), "aaaabbbb");
}

#[test]
fn draining_does_not_wait_for_joins() {
    let mut world = World::new("a! b", "aaaa");
    world.own("aaaa");
    world.change("b", 1000);
    assert_eq!(world.after(&world.plan_at(1001)), "bbbb");
}

#[test]
fn a_cluster_that_serves_nothing_waits_for_its_nodes_to_start() {
    let mut world = World::new("a", "----");
    world.change("a", 1000);
    let plan = world.plan_at(1000);
    assert!(plan.is_empty());
    assert_eq!(plan.again_at, Some(at(1300)));
    assert_eq!(world.after(&world.plan_at(1300)), "aaaa");
}

#[test]
fn a_settled_cluster_needs_no_further_planning() {
    let mut world = World::new("a b", "abab");
    world.change("b", 1000);
    assert_eq!(world.plan_at(1000), Plan::default());
}

#[test]
fn s2_37_an_eleventh_node_costs_exactly_744_moves() {
    let mut world = World::large(10, 8192);
    world.settle();
    assert_eq!(world.with_nodes(11).moves().len(), 744);
}

#[test]
fn ten_joins_at_once_cost_4092_moves_and_one_by_one_a_third_more() {
    let mut world = World::large(10, 8192);
    world.settle();
    let mut apart = world.clone();
    let apart: usize = (11..=20)
        .map(|nodes| apart.with_nodes(nodes).settle())
        .sum();
    assert_eq!(world.with_nodes(20).settle(), 4092);
    assert_eq!(apart, 5475);
}

#[test]
fn a_failure_moves_only_what_the_dead_node_had() {
    let mut world = World::large(100, 8192);
    world.settle();
    world.view.nodes.remove(&id(7));
    let moves = world.moves();
    assert!(
        moves
            .iter()
            .all(|step| step.from == Some(id(7)) && step.reason == Reason::Failure)
    );
    let mut receivers: Vec<_> = moves.iter().map(|step| &step.to).collect();
    receivers.sort();
    receivers.dedup();
    assert!(
        receivers.len() >= moves.len() - 1,
        "spread over many receivers"
    );
}

/// Every layout of up to 5 shards over up to 4 nodes, each active, draining, joining or dead.
#[test]
fn every_small_world_keeps_the_invariants() {
    for shards in 1..=5 {
        for states in states(4, b" !x~") {
            let mut world = World::new(&states, &spare(shards));
            for layout in layouts(shards, b"-abcd") {
                world.target(&layout);
                world.check_invariants();
            }
        }
    }
}

/// Every combination of 3 targets and 3 owners over 2 nodes in any state, and over 3 nodes that
/// are active, heavy or dead.
#[test]
fn every_small_world_with_owners_keeps_the_invariants() {
    for (states, owners, targets) in [
        (states(2, b" !3x~"), b"-ab".as_slice(), b"-aB".as_slice()),
        (states(3, b" 3x"), b"-abc", b"-abC"),
    ] {
        for states in states {
            let mut world = World::new(&states, &spare(3));
            for owners in layouts(3, owners) {
                world.own(&owners);
                for layout in layouts(3, targets) {
                    world.target(&layout);
                    world.check_invariants();
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn large_worlds_keep_the_invariants(
        weights in prop::collection::vec(prop_oneof![4 => 1000_u32..=1000, 4 => 1..5000_u32, 1 => 0..1_u32], 1..=100),
        states in prop::collection::vec(0..20_u8, 100),
        bits in prop::sample::select(vec![6_u32, 10, 13]),
        seed in any::<u64>(),
    ) {
        let mut world = World::large(weights.len(), 1 << bits);
        for ((record, weight), state) in world.view.nodes.values_mut().zip(weights).zip(states) {
            record.weight = Weight::from_thousandths(weight);
            record.state = match state {
                0 => NodeState::Joining,
                1 | 2 => NodeState::Draining,
                _ => NodeState::Active,
            };
        }
        world.scatter(seed);
        prop_assert_eq!(world.plan_at(LATER), world.clone().plan_at(LATER));
        world.check_invariants();
    }
}

/// Returns every way to give `nodes` nodes one of these marks (`x`: dead), except for their names.
fn states(nodes: usize, marks: &[u8]) -> Vec<String> {
    let marks = layouts(nodes, marks);
    let sorted = marks
        .into_iter()
        .filter(|marks| marks.as_bytes().is_sorted());
    let name = |(name, mark): (char, char)| match mark {
        'x' => String::new(),
        mark => format!("{name}{mark} "),
    };
    sorted
        .map(|marks| ('a'..).zip(marks.chars()).map(name).collect())
        .collect()
}

/// Returns every text of this length made of these letters.
fn layouts(len: usize, letters: &[u8]) -> Vec<String> {
    let mut layouts = vec![String::new()];
    for _ in 0..len {
        let longer = |text: String| letters.iter().map(move |l| format!("{text}{}", *l as char));
        layouts = layouts.into_iter().flat_map(longer).collect();
    }
    layouts
}

/// Returns a layout for `shards` shards, with others in quarantine up to a power of two.
fn spare(shards: usize) -> String {
    let quarantined = shards.next_power_of_two() - shards;
    "-".repeat(shards) + &"*".repeat(quarantined)
}

#[track_caller]
fn check(nodes: &str, before: &str, after: &str) {
    let mut world = World::new(nodes, before);
    assert_eq!(world.planned(), after);
    world.check_invariants();
}

#[track_caller]
fn check_owned(nodes: &str, before: &str, owners: &str, after: &str) {
    let mut world = World::new(nodes, before);
    world.own(owners);
    assert_eq!(world.planned(), after);
    world.check_invariants();
}

/// A cluster and when its nodes came, changed or went.
#[derive(Clone, Debug)]
pub(in crate::placement) struct World {
    view: ClusterView,
    changed: BTreeMap<NodeId, Moment>,
}

impl World {
    pub(in crate::placement) fn new(nodes: &str, layout: &str) -> Self {
        let mut world = Self::empty(u32::try_from(layout.len()).expect("small"));
        for node in nodes.split_whitespace() {
            let (name, mark) = node.split_at(1);
            let (state, weight) = match mark {
                "" => (NodeState::Active, 1),
                "!" => (NodeState::Draining, 1),
                "?" | "~" => (NodeState::Joining, 1),
                weight => (NodeState::Active, weight.parse().expect("a digit")),
            };
            let name = NodeId::new(name).expect("a letter");
            if mark == "~" {
                world.changed.insert(name.clone(), at(LATER));
            }
            world.view.nodes.insert(name, record(state, 1000 * weight));
        }
        world.target(layout);
        world
    }

    fn empty(shards: u32) -> Self {
        let meta = ClusterMeta {
            cluster_id: "test".into(),
            shard_count: ShardCount::new(shards).expect("a power of two"),
            restore_generation: 0,
            regions: crate::ids::Regions::default(),
        };
        Self {
            view: ClusterView::empty(meta),
            changed: BTreeMap::new(),
        }
    }

    fn large(nodes: usize, shards: u32) -> Self {
        let mut world = Self::empty(shards);
        world.with_nodes(nodes);
        world
    }

    fn with_nodes(&mut self, nodes: usize) -> &mut Self {
        for number in 0..nodes {
            let record = record(NodeState::Active, 1000);
            self.view.nodes.entry(id(number)).or_insert(record);
        }
        self
    }

    /// Puts every shard on a node of this world, a dead one or none.
    fn scatter(&mut self, seed: u64) {
        let mut random = seed | 1;
        for shard in self.view.meta.shard_count.shards() {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let number = usize::try_from(random % 110).expect("small");
            let node = (number < 105).then(|| id(number));
            let target = Target {
                node,
                pinned: random.is_multiple_of(53),
                quarantined: random.is_multiple_of(97),
                cause: None,
            };
            self.view.targets.set(shard, target);
        }
    }

    fn target(&mut self, layout: &str) {
        for (shard, letter) in self.view.meta.shard_count.shards().zip(layout.chars()) {
            let node = letter.to_ascii_lowercase().to_string();
            let target = Target {
                node: NodeId::new(&node).ok(),
                pinned: letter.is_ascii_uppercase(),
                quarantined: letter == '*',
                cause: None,
            };
            self.view.targets.set(shard, target);
        }
    }

    fn own(&mut self, layout: &str) {
        for (shard, letter) in self.view.meta.shard_count.shards().zip(layout.chars()) {
            let node = NodeId::new(&letter.to_string()).ok();
            let incarnation = Incarnation::new(1);
            let owner = node.map(|node| Owner { node, incarnation });
            self.view.owners.set(
                shard,
                OwnerRecord {
                    revision: Revision::new(2),
                    owner,
                    parcel: None,
                },
            );
        }
    }

    fn change(&mut self, node: &str, ms: u64) {
        self.changed
            .insert(NodeId::new(node).expect("a letter"), at(ms));
    }

    fn plan_at(&self, ms: u64) -> Plan {
        self.with_planning(ms, |planning| plan(*planning))
    }

    fn with_planning<T>(&self, ms: u64, f: impl FnOnce(&Planning<'_>) -> T) -> T {
        f(&Planning {
            view: &self.view,
            changed: &self.changed,
            loads: &Loads {},
            in_flight: &[],
            settings: &PlanSettings::default(),
            now: at(ms),
        })
    }

    /// Returns a plan that leads to this layout.
    pub(in crate::placement) fn plan_to(&self, layout: &str) -> Plan {
        let mut after = self.clone();
        after.target(layout);
        let targets = &after.view.targets;
        let changed = targets.changed_since(&self.view.targets);
        let targets: BTreeMap<_, _> = changed.map(|s| (s, targets.get(s).clone())).collect();
        let step = |(shard, target): (&ShardId, &Target)| {
            Some(Move {
                shard: *shard,
                from: self.view.targets.get(*shard).node.clone(),
                to: target.node.clone()?,
                reason: Reason::Unplaced,
            })
        };
        let moves = targets.iter().filter_map(step).collect();
        Plan {
            targets,
            moves,
            again_at: None,
        }
    }

    pub(in crate::placement) fn broken(&self, plan: &Plan) -> Vec<Broken> {
        self.with_planning(LATER, |planning| broken(planning, plan))
    }

    fn moves(&self) -> Vec<Move> {
        self.plan_at(LATER).moves
    }

    /// Plans, carries the plan out, and returns how many shards moved.
    fn settle(&mut self) -> usize {
        let plan = self.plan_at(LATER);
        self.carry_out(&plan);
        plan.moves.len()
    }

    fn carry_out(&mut self, plan: &Plan) {
        for (shard, target) in &plan.targets {
            self.view.targets.set(*shard, target.clone());
        }
    }

    fn planned(&self) -> String {
        self.after(&self.plan_at(LATER))
    }

    fn after(&self, plan: &Plan) -> String {
        let mut world = self.clone();
        world.carry_out(plan);
        let letter = |(_, target): (_, &Target)| match &target.node {
            _ if target.quarantined => "*".into(),
            None => "-".into(),
            Some(node) if target.pinned => node.as_str().to_uppercase(),
            Some(node) => node.to_string(),
        };
        world.view.targets.iter().map(letter).collect()
    }

    /// Plans, checks the plan, carries it out, and plans again.
    #[track_caller]
    fn check_invariants(&mut self) {
        let plan = self.plan_at(LATER);
        let broken = self.broken(&plan);
        assert_eq!(broken, [], "{}", self.describe());
        let before = self.view.targets.clone();
        self.carry_out(&plan);
        let again = self.plan_at(LATER);
        if !again.is_empty() {
            self.view.targets = before;
            panic!("{:?} again, after {}", again.moves, self.describe());
        }
    }

    /// Says what small worlds look like; proptest says it of large ones.
    fn describe(&self) -> String {
        if self.view.meta.shard_count.get() > 8 {
            return "a large world".into();
        }
        let node = |(node, record): (_, &NodeRecord)| format!("{node}: {:?}", record.state);
        let nodes: Vec<_> = self.view.nodes.iter().map(node).collect();
        let owner = |(_, record): (_, &OwnerRecord)| match &record.owner {
            Some(owner) => owner.node.to_string(),
            None => "-".into(),
        };
        let owners: String = self.view.owners.iter().map(owner).collect();
        let layout = self.after(&Plan::default());
        format!("nodes {nodes:?}, targets {layout}, owners {owners}")
    }
}

/// Long after every join.
const LATER: u64 = 100_000;

fn at(ms: u64) -> Moment {
    Moment::START.plus(Duration::from_millis(ms))
}

fn id(number: usize) -> NodeId {
    NodeId::new(&format!("node-{number}")).expect("a good name")
}

fn record(state: NodeState, weight: u32) -> NodeRecord {
    NodeRecord {
        incarnation: Incarnation::new(1),
        lease: LeaseId::new(1),
        grpc: String::new(),
        http: None,
        zone: None,
        weight: Weight::from_thousandths(weight),
        labels: BTreeMap::new(),
        version: String::new(),
        object_types: Vec::new(),
        state,
        boot_id: String::new(),
    }
}
