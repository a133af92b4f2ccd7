//! A cluster in a few letters.

use std::time::Duration;

use super::super::*;
use crate::ids::{Incarnation, Revision, ShardCount};
use crate::placement::checker::{Broken, check as broken};
use crate::placement::{ClusterMeta, NodeRecord, NodeState, Owner, OwnerRecord, Target, Weight};

/// A cluster, when its nodes came, changed or went, and what else a plan rests on.
#[derive(Clone, Debug)]
pub(in crate::placement) struct World {
    pub(in crate::placement) view: ClusterView,
    pub(super) changed: BTreeMap<NodeId, Moment>,
    pub(in crate::placement) commands: BTreeMap<ShardId, Command>,
    pub(super) loads: Loads,
    pub(in crate::placement) memory: Memory,
    pub(in crate::placement) settings: PlanSettings,
}

impl World {
    pub(in crate::placement) fn new(nodes: &str, layout: &str) -> Self {
        let mut world = Self::empty(u32::try_from(layout.len()).expect("small"));
        for node in nodes.split_whitespace() {
            world.add(node);
        }
        world.target(layout);
        world
    }

    fn add(&mut self, node: &str) {
        let (name, marks) = node.split_at(1);
        let name = NodeId::new(name).expect("a letter");
        let mut record = record(NodeState::Active, 1000);
        let mut marks = marks.chars();
        while let Some(mark) = marks.next() {
            match mark {
                '!' => record.state = NodeState::Draining,
                '?' => record.state = NodeState::Joining,
                '~' => {
                    record.state = NodeState::Joining;
                    self.changed.insert(name.clone(), at(LATER));
                }
                '^' => {
                    self.view.orders.cordoned.insert(name.clone());
                }
                '@' => record.zone = marks.next().map(Into::into),
                '#' => {
                    let capacity = marks.next().expect("a digit").into();
                    record.labels.insert(CAPACITY_LABEL.into(), capacity);
                }
                weight => {
                    let weight = weight.to_digit(10).expect("a digit");
                    record.weight = Weight::from_thousandths(1000 * weight);
                }
            }
        }
        self.view.nodes.insert(name, record);
    }

    pub(super) fn empty(shards: u32) -> Self {
        let meta = ClusterMeta::new("test", ShardCount::new(shards).expect("a power of two"));
        Self {
            view: ClusterView::empty(meta),
            changed: BTreeMap::new(),
            commands: BTreeMap::new(),
            loads: Loads::default(),
            memory: Memory::default(),
            settings: PlanSettings::default(),
        }
    }

    pub(super) fn large(nodes: usize, shards: u32) -> Self {
        let mut world = Self::empty(shards);
        world.with_nodes(nodes);
        world
    }

    pub(super) fn with_nodes(&mut self, nodes: usize) -> &mut Self {
        for number in 0..nodes {
            let record = record(NodeState::Active, 1000);
            self.view.nodes.entry(id(number)).or_insert(record);
        }
        self
    }

    /// Puts every shard on a node of this world, a dead one or none.
    pub(super) fn scatter(&mut self, seed: u64) {
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
                suspicion: None,
                cause: None,
            };
            self.view.targets.set(shard, target);
        }
    }

    pub(in crate::placement) fn target(&mut self, layout: &str) {
        for (shard, letter) in self.view.meta.shard_count.shards().zip(layout.chars()) {
            let node = letter.to_ascii_lowercase().to_string();
            let target = Target {
                node: NodeId::new(&node).ok(),
                pinned: letter.is_ascii_uppercase(),
                quarantined: letter == '*',
                suspicion: None,
                cause: None,
            };
            self.view.targets.set(shard, target);
        }
    }

    pub(in crate::placement) fn own(&mut self, layout: &str) {
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

    pub(super) fn change(&mut self, node: &str, ms: u64) {
        self.changed
            .insert(NodeId::new(node).expect("a letter"), at(ms));
    }

    pub(super) fn plan_at(&self, ms: u64) -> Plan {
        self.with_planning(ms, |planning| plan(*planning))
    }

    pub(super) fn with_planning<T>(&self, ms: u64, f: impl FnOnce(&Planning<'_>) -> T) -> T {
        f(&Planning {
            view: &self.view,
            changed: &self.changed,
            loads: &self.loads,
            in_flight: &InFlight::all_of(&self.view),
            commands: &self.commands,
            memory: &self.memory,
            settings: &self.settings,
            now: at(ms),
        })
    }

    /// Returns a plan that leads to this layout.
    pub(in crate::placement) fn plan_to(&self, layout: &str) -> Plan {
        let mut after = self.clone();
        after.target(layout);
        let targets = &after.view.targets;
        let changed = targets.changed_since(&self.view.targets);
        let targets: Vec<_> = changed.map(|s| (s, targets.get(s).clone())).collect();
        let step = |(shard, target): &(ShardId, Target)| {
            Some(Move {
                shard: *shard,
                from: self.view.targets.get(*shard).node.clone(),
                to: target.node.clone()?,
                reason: Reason::Unplaced,
                gain_permille: 0,
            })
        };
        let moves = targets.iter().filter_map(step).collect();
        Plan {
            targets,
            moves,
            ..Plan::default()
        }
    }

    pub(in crate::placement) fn broken(&self, plan: &Plan) -> Vec<Broken> {
        self.with_planning(LATER, |planning| broken(planning, plan))
    }

    pub(super) fn moves(&self) -> Vec<Move> {
        self.plan_at(LATER).moves
    }

    /// Plans, carries the plan out, and returns how many shards moved.
    pub(super) fn settle(&mut self) -> usize {
        let plan = self.plan_at(LATER);
        self.carry_out(&plan);
        plan.moves.len()
    }

    pub(super) fn carry_out(&mut self, plan: &Plan) {
        for (shard, target) in &plan.targets {
            self.view.targets.set(*shard, target.clone());
        }
    }

    pub(super) fn planned(&self) -> String {
        self.after(&self.plan_at(LATER))
    }

    pub(super) fn after(&self, plan: &Plan) -> String {
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
    pub(super) fn check_invariants(&mut self) {
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
    pub(super) fn describe(&self) -> String {
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
pub(super) const LATER: u64 = 100_000;

pub(super) fn at(ms: u64) -> Moment {
    Moment::START.plus(Duration::from_millis(ms))
}

pub(super) fn id(number: usize) -> NodeId {
    NodeId::new(&format!("node-{number}")).expect("a good name")
}

pub(super) fn record(state: NodeState, weight: u32) -> NodeRecord {
    NodeRecord {
        weight: Weight::from_thousandths(weight),
        state,
        ..NodeRecord::of(Incarnation::new(1))
    }
}
