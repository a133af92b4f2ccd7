//! A small cluster as a view, for the pure parts of the leader.

use std::time::SystemTime;

use super::super::book::Book;
use super::super::draft::waiting;
use super::super::flights::{Flights, Touched};
use super::super::waves::Budget;
use crate::clock::Moment;
use crate::coordination::plans::{MoveCounts, PlanOutcome, PlanRecord};
use crate::ids::{Incarnation, NodeId, PlanId, Revision, ShardCount, ShardId, Term};
use crate::placement::planner::{Move, Reason};
use crate::placement::{
    ClusterMeta, ClusterView, NodeRecord, NodeState, Owner, OwnerRecord, Target,
};

pub(in crate::coordination::leader) fn id(name: &str) -> NodeId {
    NodeId::new(name).expect("a letter")
}

pub(in crate::coordination::leader) fn shard(number: u32) -> ShardId {
    ShardId::new(number, ShardCount::DEFAULT).expect("in range")
}

/// Eight shards on nodes named by letters: a capital stands for a pinned target, `*` for a shard in
/// quarantine, `-` for none.
#[derive(Clone, Debug)]
pub(in crate::coordination::leader) struct World {
    pub(in crate::coordination::leader) view: ClusterView,
    pub(in crate::coordination::leader) book: Book,
}

impl World {
    /// `nodes` that live, in order of letters; `!` after one: it drains.
    pub(in crate::coordination::leader) fn new(nodes: &str, targets: &str, owners: &str) -> Self {
        let mut view = ClusterView::empty(meta());
        for name in nodes.split_whitespace() {
            let state = match name.strip_suffix('!') {
                Some(_) => NodeState::Draining,
                None => NodeState::Active,
            };
            view.nodes
                .insert(id(name.trim_end_matches('!')), record(state));
        }
        view.revision = Revision::new(100);
        let mut world = Self {
            view,
            book: Book::default(),
        };
        world.target(targets);
        world.own(owners, 5);
        world
    }

    pub(in crate::coordination::leader) fn target(&mut self, layout: &str) {
        for (number, letter) in (0..).zip(layout.chars()) {
            let target = Target {
                node: NodeId::new(&letter.to_ascii_lowercase().to_string()).ok(),
                pinned: letter.is_ascii_uppercase(),
                quarantined: letter == '*',
                suspicion: None,
                cause: None,
            };
            self.view.targets.set(shard(number), target);
        }
    }

    /// Lets the nodes own the shards, since this revision.
    pub(in crate::coordination::leader) fn own(&mut self, layout: &str, revision: u64) {
        for (number, letter) in (0..).zip(layout.chars()) {
            let owner = NodeId::new(&letter.to_string()).ok().map(|node| Owner {
                node,
                incarnation: Incarnation::new(1),
            });
            let known = self.view.owners.get(shard(number));
            if known.owner != owner {
                let revision = Revision::new(revision);
                let parcel = None;
                let record = OwnerRecord {
                    revision,
                    owner,
                    parcel,
                };
                self.view.owners.set(shard(number), record);
            }
        }
    }

    pub(in crate::coordination::leader) fn flights(&self) -> Flights {
        let mut flights = Flights::default();
        flights.see(&self.view, &Touched::All, Moment::START);
        flights
    }

    /// Adds a plan whose moves all wait, written `SHARD:FROM>TO`.
    pub(in crate::coordination::leader) fn plan(&mut self, plan: u64, moves: &str) {
        let record = PlanRecord {
            id: PlanId::new(plan),
            reason: Reason::Join,
            trigger: "test".into(),
            leader: id("a"),
            term: Term::new(1),
            created_at: SystemTime::UNIX_EPOCH,
            updated_at: SystemTime::UNIX_EPOCH,
            ended_at: None,
            outcome: PlanOutcome::Running,
            waves: 0,
            least: 0,
            moves: waiting(&moves.split_whitespace().map(step).collect::<Vec<_>>()),
            unlisted: MoveCounts::default(),
            events: Vec::new(),
            check: None,
        };
        self.book.add(record, None);
    }
}

/// Reads a move, written `SHARD:FROM>TO`.
pub(in crate::coordination::leader) fn step(text: &str) -> Move {
    let (number, way) = text.split_once(':').expect("SHARD:FROM>TO");
    let (from, to) = way.split_once('>').expect("FROM>TO");
    Move {
        shard: shard(number.parse().expect("a number")),
        from: NodeId::new(from).ok(),
        to: id(to),
        reason: Reason::Join,
        gain_permille: 0,
    }
}

/// A budget of so many moves in all and for each node.
pub(in crate::coordination::leader) fn budget(all: usize, node: usize) -> Budget {
    Budget {
        in_flight_max: all,
        per_node_max: node,
    }
}

fn meta() -> ClusterMeta {
    ClusterMeta::new("test", ShardCount::new(8).expect("a power of two"))
}

fn record(state: NodeState) -> NodeRecord {
    NodeRecord {
        state,
        ..NodeRecord::of(Incarnation::new(1))
    }
}
