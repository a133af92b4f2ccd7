//! Which nodes others reach at their advertised addresses, and what follows for placement. Pure.
//!
//! A registered node has a lease, so it reaches the store; that says nothing about whether callers
//! reach the node. Each node probes all others and tells what it found with its own answers, so that
//! each knows who reaches whom.
//!
//! What follows is only a wish: a node that is not reached counts as joining or draining when the
//! leader plans. Who owns shards stays for leases and hand-overs to decide (ADR-0038).
//!
//! - A node without shards gets none before the leader, or most of those that tell, have reached it.
//! - A node with shards loses them only if most of all other nodes do not reach it, so that a leader
//!   that is cut off empties nobody. If it was reached before, one witness is not enough.
//! - The leader is judged by the others too, and needs more than half of their voices and its own against it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{ClusterView, NodeRecord, NodeState};
use crate::ids::{Incarnation, NodeId};

/// How one node reaches a life of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReachState {
    /// It answers, or has not failed to for long.
    Reached,
    /// It has answered no probe of this life.
    Never,
    /// It has answered, but no probe for a while.
    Lost,
}

/// How one node reaches others; a node that is missing has not been probed yet.
pub type ReachStates = BTreeMap<NodeId, (Incarnation, ReachState)>;

/// Who reaches whom, as one node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    me: NodeId,
    /// By witness, this node included.
    told: BTreeMap<NodeId, ReachStates>,
}

/// Whether a node is reached well enough to have shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reachability {
    /// Yes.
    Fine,
    /// Not yet: it is to get no shards.
    NotYet,
    /// No more: it is to give its shards up.
    Gone,
}

/// What the other nodes tell of one.
#[derive(Clone, Copy, Debug, Default)]
struct Voices {
    reached: usize,
    never: usize,
    lost: usize,
}

impl Reach {
    /// Begins without knowing anything.
    pub fn new(me: NodeId) -> Self {
        let told = BTreeMap::new();
        Self { me, told }
    }

    /// Notes what this node found itself.
    pub fn found(&mut self, states: ReachStates) {
        self.told.insert(self.me.clone(), states);
    }

    /// Notes what another node told; an empty table means that it reaches nobody it was asked about.
    pub fn told(&mut self, witness: NodeId, states: ReachStates) {
        if witness != self.me {
            self.told.insert(witness, states);
        }
    }

    /// Whether this node reaches another, as far as it has noted.
    pub fn is_reached(&self, node: &NodeId) -> bool {
        let mine = self.told.get(&self.me).and_then(|mine| mine.get(node));
        mine.is_some_and(|(_, state)| *state == ReachState::Reached)
    }

    /// Forgets what a node told that is gone, or does not answer any more.
    pub fn forget(&mut self, witness: &NodeId) {
        self.told.remove(witness);
    }

    /// Returns the live nodes other than itself that do not reach this life of a node.
    pub fn unreachable_from(&self, node: &NodeId, view: &ClusterView) -> BTreeSet<NodeId> {
        let witnesses = self.witnesses(node, view);
        let without =
            witnesses.filter(|(witness, state)| *state != ReachState::Reached && *witness != node);
        without.map(|(witness, _)| witness.clone()).collect()
    }

    /// Returns the live nodes other than itself that reach this life of a node.
    pub fn reached_by(&self, node: &NodeId, view: &ClusterView) -> BTreeSet<NodeId> {
        let witnesses = self.witnesses(node, view);
        let with =
            witnesses.filter(|(witness, state)| *state == ReachState::Reached && *witness != node);
        with.map(|(witness, _)| witness.clone()).collect()
    }

    /// Returns how well a live node is reached. `placed`: it has shards, or they are targeted at it.
    pub fn of(&self, node: &NodeId, placed: bool, view: &ClusterView) -> Reachability {
        let others = view.nodes.keys().filter(|other| *other != node).count();
        let mut voices = Voices::default();
        for (_, state) in self.witnesses(node, view) {
            match state {
                ReachState::Reached => voices.reached += 1,
                ReachState::Never => voices.never += 1,
                ReachState::Lost => voices.lost += 1,
            }
        }
        let against = voices.never + voices.lost;
        if *node == self.me {
            // Its own voice is one more. Alone, it needs nobody to reach it.
            let gone = others > 0 && against * 2 > others + 1;
            return if gone {
                Reachability::Gone
            } else {
                Reachability::Fine
            };
        }
        let mine = self
            .told
            .get(&self.me)
            .and_then(|mine| state_of(mine, node, view));
        if mine == Some(ReachState::Reached) || voices.reached > against {
            return Reachability::Fine;
        }
        if !placed {
            return Reachability::NotYet;
        }
        let enough = if voices.lost > 0 { 2 } else { 1 };
        if against >= enough && against * 2 > others && self.reaches_most(node, view) {
            Reachability::Gone
        } else {
            Reachability::Fine
        }
    }

    /// Returns the view to plan on: nodes that are not reached count as joining or draining.
    pub fn seen(&self, view: &Arc<ClusterView>) -> Arc<ClusterView> {
        let active = view.nodes.iter().filter(|(_, record)| counts(record));
        let mut states = Vec::new();
        let mut placed = None;
        for (node, _) in active {
            if self.of(node, true, view) == Reachability::Fine
                && self.of(node, false, view) == Reachability::Fine
            {
                continue; // Whether it has shards makes no difference.
            }
            let placed = placed.get_or_insert_with(|| placed_nodes(view));
            match self.of(node, placed.contains(node), view) {
                Reachability::Fine => {}
                Reachability::NotYet => states.push((node.clone(), NodeState::Joining)),
                Reachability::Gone => states.push((node.clone(), NodeState::Draining)),
            }
        }
        if states.is_empty() {
            return view.clone();
        }
        let mut seen = ClusterView::clone(view);
        for (node, state) in states {
            if let Some(record) = seen.nodes.get_mut(&node) {
                record.state = state;
            }
        }
        Arc::new(seen)
    }

    /// Whether this node reaches most of the others, `but` one; true if there are none.
    fn reaches_most(&self, but: &NodeId, view: &ClusterView) -> bool {
        let others = view
            .nodes
            .keys()
            .filter(|node| **node != self.me && *node != but);
        let mine = self.told.get(&self.me);
        let reached = |node: &&NodeId| {
            let state = mine.and_then(|mine| state_of(mine, node, view));
            state == Some(ReachState::Reached)
        };
        let (all, reached) = (others.clone().count(), others.filter(reached).count());
        reached * 2 >= all
    }

    /// Returns what each live witness knows of this life of a node. Only this node is its own.
    fn witnesses<'a>(
        &'a self,
        node: &'a NodeId,
        view: &'a ClusterView,
    ) -> impl Iterator<Item = (&'a NodeId, ReachState)> {
        let live = self.told.iter().filter(move |(witness, _)| {
            view.nodes.contains_key(*witness) && (*witness != node || *node == self.me)
        });
        live.filter_map(move |(witness, states)| Some((witness, state_of(states, node, view)?)))
    }
}

/// Returns what a witness found of a node, unless that was of another incarnation.
fn state_of(states: &ReachStates, node: &NodeId, view: &ClusterView) -> Option<ReachState> {
    let (incarnation, state) = states.get(node)?;
    (view.nodes.get(node)?.incarnation == *incarnation).then_some(*state)
}

/// Whether it matters that others reach a node: nobody calls what a gate hosts.
fn counts(record: &NodeRecord) -> bool {
    record.state == NodeState::Active && !record.weight.is_gate()
}

/// Returns the nodes that shards are targeted at, or that own some.
fn placed_nodes(view: &ClusterView) -> BTreeSet<NodeId> {
    let targets = view
        .targets
        .iter()
        .filter_map(|(_, target)| target.node.as_ref());
    let owners = view
        .owners
        .iter()
        .filter_map(|(_, record)| record.owner.as_ref());
    let owners = owners
        .filter(|owner| view.is_live(owner))
        .map(|owner| &owner.node);
    targets.chain(owners).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ShardCount, ShardId};
    use crate::placement::{ClusterMeta, Target, Weight};

    fn node(name: &str) -> NodeId {
        NodeId::new(name).expect("a good name")
    }

    /// A cluster of these active nodes; those in capitals have a shard.
    fn view(names: &str) -> Arc<ClusterView> {
        let count = ShardCount::new(16).expect("a power of two");
        let mut view = ClusterView::empty(ClusterMeta::new("test", count));
        for (number, name) in (0..).zip(names.chars()) {
            let id = node(&name.to_lowercase().to_string());
            let record = NodeRecord::of(Incarnation::new(1));
            view.nodes.insert(id.clone(), record);
            if name.is_uppercase() {
                let target = Target {
                    node: Some(id),
                    ..Target::default()
                };
                view.targets
                    .set(ShardId::new(number, count).expect("in range"), target);
            }
        }
        Arc::new(view)
    }

    /// What nodes found of each other, as the leader `a` knows it: `b:c+d-e!` says that `b` reaches
    /// `c`, never reached `d`, and has lost `e`.
    fn reach(told: &str) -> Reach {
        let mut reach = Reach::new(node("a"));
        for voice in told.split_whitespace() {
            let (witness, found) = voice.split_once(':').expect("a witness");
            let found: Vec<char> = found.chars().collect();
            let states = found.chunks(2).map(|pair| {
                let state = match pair[1] {
                    '+' => ReachState::Reached,
                    '-' => ReachState::Never,
                    _ => ReachState::Lost,
                };
                (node(&pair[0].to_string()), (Incarnation::new(1), state))
            });
            let states = states.collect();
            if witness == "a" {
                reach.found(states);
            } else {
                reach.told(node(witness), states);
            }
        }
        reach
    }

    /// Checks which nodes count as joining (`?`) or draining (`!`), in the order of their names.
    #[track_caller]
    fn check(nodes: &str, told: &str, expected: &str) {
        let seen = reach(told).seen(&view(nodes));
        let changed = seen
            .nodes
            .iter()
            .filter_map(|(node, record)| match record.state {
                NodeState::Active => None,
                NodeState::Joining => Some(format!("{node}?")),
                NodeState::Draining => Some(format!("{node}!")),
            });
        assert_eq!(changed.collect::<String>(), expected, "{nodes} {told}");
    }

    #[test]
    fn newcomers_get_shards_once_they_are_reached() {
        check("A", "", "");
        check("ab", "", "b?");
        check("ab", "a:b-", "b?");
        check("ab", "a:b+", "");
    }

    #[test]
    fn others_vouch_for_a_newcomer_the_leader_misses() {
        check("ABCd", "a:b+c+d- b:d+ c:d+", "");
        check("ABCd", "a:b+c+d- b:d+", "d?");
        check("ABCd", "a:b+c+d- b:d- c:d-", "d?");
    }

    #[test]
    fn a_new_leader_leaves_nodes_alone_that_it_has_not_probed() {
        check("ABC", "", "");
        check("ABC", "a:b+", "");
    }

    #[test]
    fn nodes_with_shards_lose_them_only_by_a_majority() {
        check("ABC", "a:b+c! b:c!", "c!");
        check("ABC", "a:b+c!", "");
        check("ABC", "a:b+c! b:c+", "");
        check("ABCD", "a:b+c+d! b:d!", "d!");
        check("ABCDE", "a:b+c+d+e! b:e!", "");
    }

    #[test]
    fn a_leader_that_is_cut_off_empties_nobody() {
        check("ABC", "a:b!c!", "");
        check("ABC", "a:b!c! b:c! c:b!", "");
        check("AB", "a:b!", "");
    }

    #[test]
    fn a_restarted_node_that_was_never_reached_loses_its_shards() {
        check("AB", "a:b-", "b!");
        check("ABC", "a:b-c+ c:b-", "b!");
    }

    #[test]
    fn a_leader_that_nobody_reaches_gives_its_shards_up() {
        check("Ab", "a:a-b+ b:a-", "a!");
        check("Ab", "a:a+b+ b:a-", "");
        check("ABC", "a:a+b+c+ b:a- c:a-", "a!");
        check("ABC", "a:a-b+c+ b:a+ c:a+", "");
    }

    #[test]
    fn gates_and_other_lives_do_not_count() {
        let mut view = ClusterView::clone(&view("ab"));
        let life = Incarnation::new(2);
        view.nodes.insert(node("b"), NodeRecord::of(life));
        let reach = reach("a:b+");
        let seen = reach.seen(&Arc::new(view.clone()));
        assert_eq!(seen.nodes[&node("b")].state, NodeState::Joining);
        view.nodes.get_mut(&node("b")).expect("there").weight = Weight::GATE;
        let seen = reach.seen(&Arc::new(view));
        assert_eq!(seen.nodes[&node("b")].state, NodeState::Active);
    }
}
