//! Small worlds: a few nodes, one shard, and a store whose answers get lost and come late.
//!
//! The wish of a node is anything at any time, so that no wrong plan is left out. What is checked after every action is stronger than one owner at a time: a shard that is open
//! on a living node is owned by that life at that very revision.

use std::collections::{BTreeMap, HashSet, VecDeque};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::ids::{Incarnation, LeaseId, ShardCount};
use crate::placement::{ClusterMeta, News, NodeRecord, OwnerRecord, Target, Weight};

/// Most worlds that a test visits; more would take it too long.
const WORLDS_MAX: usize = 100_000;

/// How long a walk through a large world is.
const STEPS_OF_A_WALK: usize = 80;

/// Rounds in which a world must calm down: unresolved, restamped, closed, released, taken.
const CALM_ROUNDS: usize = 12;

const LARGE: Bounds = Bounds {
    nodes: 3,
    revisions: 40,
    deaths: 3,
    txns: 4,
};

const WISHES: [Wish; 3] = [Wish::Here, Wish::Elsewhere, Wish::Anywhere];

/// A rule that is broken on purpose, to show that the worlds are wild enough to notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutation {
    None,
    NoGuardInRelease,
    NoGuardInTakeOver,
    NoProofOfDeath,
    OldNewsCounts,
    UnknownReleaseIsFailure,
    UnknownClaimIsSuccess,
    ReadReopens,
    OpenAfterDeath,
    ReleaseBeforeClosing,
}

const MUTATIONS: [Mutation; 9] = [
    Mutation::NoGuardInRelease,
    Mutation::NoGuardInTakeOver,
    Mutation::NoProofOfDeath,
    Mutation::OldNewsCounts,
    Mutation::UnknownReleaseIsFailure,
    Mutation::UnknownClaimIsSuccess,
    Mutation::ReadReopens,
    Mutation::OpenAfterDeath,
    Mutation::ReleaseBeforeClosing,
];

/// How far a world goes.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    nodes: usize,
    revisions: usize,
    deaths: u8,
    txns: usize,
}

/// A life is the revision at which it began; zero is none.
type Life = u8;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    /// What the store says as of each revision that a watch has yet to bring; the last is now.
    history: VecDeque<Stored>,
    /// The revision of the first of those.
    first: usize,
    nodes: Vec<Local>,
    /// Sent and not applied yet, in no order.
    txns: Vec<Sent>,
    replies: Vec<Reply>,
    deaths: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Stored {
    owner: Option<(usize, Life)>,
    /// When the owner key was last written or deleted.
    owner_revision: u8,
    lives: Vec<Life>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Local {
    life: Life,
    /// How far the watch has come.
    view: usize,
    known: Stored,
    phase: Phase,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Sent {
    from: (usize, Life),
    /// The owner key must stand at this revision; zero: must not exist.
    guard: u8,
    /// This node must be in this life.
    proof: Option<(usize, Life)>,
    puts: bool,
    /// Whether the sender still waits for this answer.
    awaited: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Reply {
    to: (usize, Life),
    committed: bool,
    /// The owner key as of the reply: revision and owner.
    shown: (u8, Option<(usize, Life)>),
    awaited: bool,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    /// A node's watch brings the next revision.
    Watch(usize),
    /// A node takes its next step, under whatever wish.
    Step(usize, Step),
    /// A node's closing ends.
    EndClosing(usize, Ending),
    /// The store runs a transaction.
    Apply(usize),
    /// A node hears that a transaction surely does not happen.
    Decline(usize),
    /// A node gives up waiting for a transaction that may still be applied.
    GiveUp(usize),
    Deliver(usize),
    /// A reply is lost.
    Lose(usize),
    /// A node stops serving, and its key vanishes.
    Die(usize),
    Rejoin(usize),
}

impl World {
    fn new(nodes: usize) -> Self {
        // Revision 1: every node is registered and knows it.
        let stored = Stored {
            owner: None,
            owner_revision: 0,
            lives: vec![1; nodes],
        };
        let local = Local {
            life: 1,
            view: 1,
            known: stored.clone(),
            phase: Phase::Idle,
        };
        Self {
            history: VecDeque::from([stored]),
            first: 1,
            nodes: vec![local; nodes],
            txns: Vec::new(),
            replies: Vec::new(),
            deaths: 0,
        }
    }

    fn now(&self) -> &Stored {
        self.history.back().expect("it begins with one")
    }

    fn next_revision(&self) -> u8 {
        u8::try_from(self.first + self.history.len()).expect("few revisions")
    }

    fn actions(&self, bounds: Bounds, mutation: Mutation) -> Vec<Action> {
        let mut actions = Vec::new();
        let more_revisions = usize::from(self.next_revision()) <= bounds.revisions;
        for (index, node) in self.nodes.iter().enumerate() {
            if node.view + 1 < usize::from(self.next_revision()) {
                actions.push(Action::Watch(index));
            }
            if node.life == 0 {
                if more_revisions {
                    actions.push(Action::Rejoin(index));
                }
                continue;
            }
            if self.txns.len() < bounds.txns {
                let steps = WISHES.map(|wish| self.next_step(index, wish, mutation));
                let distinct = (0..3).filter(|later| !steps[..*later].contains(&steps[*later]));
                let steps = distinct.filter_map(|wish| steps[wish]);
                actions.extend(steps.map(|step| Action::Step(index, step)));
            }
            if matches!(node.phase, Phase::Closing(_)) {
                actions.push(Action::EndClosing(index, Ending::Closed));
                actions.push(Action::EndClosing(index, Ending::Overdue));
            }
            if self.deaths < bounds.deaths && more_revisions {
                actions.push(Action::Die(index));
            }
        }
        for (index, txn) in self.txns.iter().enumerate() {
            if more_revisions && self.replies.len() < bounds.txns {
                actions.push(Action::Apply(index));
            }
            if txn.awaited {
                actions.push(Action::Decline(index));
                actions.push(Action::GiveUp(index));
            }
        }
        for index in 0..self.replies.len() {
            actions.push(Action::Deliver(index));
            actions.push(Action::Lose(index));
        }
        actions
    }

    fn act(&mut self, action: Action, mutation: Mutation) {
        match action {
            Action::Watch(node) => {
                let view = self.nodes[node].view + 1;
                self.nodes[node].view = view;
                let stored = self.history[view - self.first].clone();
                let news = (stored.owner_revision, stored.owner);
                self.nodes[node].known.lives = stored.lives;
                self.learn(node, news, mutation);
            }
            Action::Step(node, step) => self.step(node, step, mutation),
            Action::EndClosing(node, ending) => {
                let phase = self.nodes[node].phase;
                self.nodes[node].phase = phase.after_end(ending);
            }
            Action::Apply(index) => self.apply(index, mutation),
            Action::Decline(index) => {
                let txn = self.txns.remove(index);
                self.end(txn.from, Ending::NotSent, mutation);
            }
            Action::GiveUp(index) => {
                self.txns[index].awaited = false;
                self.end(self.txns[index].from, Ending::Unknown, mutation);
            }
            Action::Deliver(index) => self.deliver(index, mutation),
            Action::Lose(index) => {
                let reply = self.replies.remove(index);
                if reply.awaited {
                    self.end(reply.to, Ending::Unknown, mutation);
                }
            }
            Action::Die(node) => self.die(node, mutation),
            Action::Rejoin(node) => {
                let life = self.next_revision();
                let mut stored = self.now().clone();
                stored.lives[node] = life;
                self.history.push_back(stored);
                self.nodes[node].life = life;
            }
        }
        self.txns.sort_unstable();
        self.replies.sort_unstable();
        self.forget_what_all_have_seen();
    }

    fn forget_what_all_have_seen(&mut self) {
        let seen_by_all = self.nodes.iter().map(|node| node.view).min();
        while seen_by_all.is_some_and(|view| self.first < view) {
            self.history.pop_front();
            self.first += 1;
        }
    }

    fn facts(&self, index: usize, wish: Wish) -> Facts {
        let node = &self.nodes[index];
        let newest = match node.known.owner {
            None => Newest::Nobody,
            Some(owner) if owner == (index, node.life) => Newest::Me,
            Some((owner, life))
                if usize::from(life) <= node.view && node.known.lives[owner] != life =>
            {
                Newest::Gone
            }
            Some(_) => Newest::Other,
        };
        Facts {
            revision: Revision::new(node.known.owner_revision.into()),
            newest,
            wish,
        }
    }

    fn next_step(&self, index: usize, wish: Wish, mutation: Mutation) -> Option<Step> {
        let mut facts = self.facts(index, wish);
        if mutation == Mutation::NoProofOfDeath && facts.newest == Newest::Other {
            facts.newest = Newest::Gone;
        }
        let phase = self.nodes[index].phase;
        if mutation == Mutation::ReadReopens && matches!(phase, Phase::Unresolved(_)) {
            return (facts.newest == Newest::Me).then_some(Step::Open(facts.revision));
        }
        if mutation == Mutation::ReleaseBeforeClosing && matches!(phase, Phase::Closing(_)) {
            return Some(Step::Release(facts.revision));
        }
        phase.next_step(facts)
    }

    fn step(&mut self, index: usize, step: Step, mutation: Mutation) {
        let node = &self.nodes[index];
        let me = (index, node.life);
        let old = node.known.owner;
        let proof_of = |owner: usize| (owner, node.known.lives[owner]);
        let (guard, puts, proof) = match step {
            Step::Claim => (0, true, None),
            Step::TakeOver(at) => (number(at), true, old.map(|(owner, _)| proof_of(owner))),
            Step::Restamp(at) => (number(at), true, None),
            Step::Release(at) => (number(at), false, None),
            Step::Open(_) | Step::Close(_) | Step::Discard => {
                return self.begin(index, step);
            }
        };
        self.begin(index, step);
        if let (Mutation::ReleaseBeforeClosing, Step::Release(at)) = (mutation, step) {
            self.nodes[index].phase = Phase::Closing(at); // Turns run on.
        }
        self.txns.push(Sent {
            from: me,
            guard,
            proof,
            puts,
            awaited: true,
        });
    }

    fn begin(&mut self, index: usize, step: Step) {
        self.nodes[index].phase = Phase::after_start(step);
        // What ends from now on is the end of something older.
        for txn in self.txns.iter_mut().filter(|txn| txn.from.0 == index) {
            txn.awaited = false;
        }
        for reply in self.replies.iter_mut().filter(|reply| reply.to.0 == index) {
            reply.awaited = false;
        }
    }

    fn apply(&mut self, index: usize, mutation: Mutation) {
        let txn = self.txns.remove(index);
        let mut stored = self.now().clone();
        let stands_at = stored.owner.map_or(0, |_| stored.owner_revision);
        let is_release = !txn.puts && stored.owner.is_some();
        let is_take_over = txn.puts && txn.proof.is_some();
        let unguarded = (is_release && mutation == Mutation::NoGuardInRelease)
            || (is_take_over && mutation == Mutation::NoGuardInTakeOver);
        let proven = txn
            .proof
            .is_none_or(|(node, life)| stored.lives[node] == life)
            || mutation == Mutation::NoProofOfDeath;
        let alive = stored.lives[txn.from.0] == txn.from.1;
        let committed = alive && proven && (stands_at == txn.guard || unguarded);
        if committed {
            stored.owner = txn.puts.then_some(txn.from);
            stored.owner_revision = self.next_revision();
            self.history.push_back(stored);
        }
        let now = self.now();
        let shown = match now.owner {
            // A key that does not exist is known to be absent as of the reply's revision.
            None => (self.next_revision() - 1, None),
            owner => (now.owner_revision, owner),
        };
        self.replies.push(Reply {
            to: txn.from,
            committed,
            shown,
            awaited: txn.awaited,
        });
    }

    fn deliver(&mut self, index: usize, mutation: Mutation) {
        let reply = self.replies.remove(index);
        let (node, life) = reply.to;
        if self.nodes[node].life != life {
            return; // A reply to a life that is over counts for nothing.
        }
        let is_somebody = reply.shown.1.or(self.nodes[node].known.owner).is_some();
        if reply.committed || is_somebody {
            self.learn(node, reply.shown, mutation);
        }
        if reply.awaited {
            let ending = if reply.committed {
                Ending::Committed
            } else {
                Ending::Refused
            };
            self.end(reply.to, ending, mutation);
        }
    }

    fn learn(&mut self, node: usize, news: (u8, Option<(usize, Life)>), mutation: Mutation) {
        let known = &mut self.nodes[node].known;
        if news.0 > known.owner_revision || mutation == Mutation::OldNewsCounts {
            (known.owner_revision, known.owner) = news;
        }
    }

    fn end(&mut self, (node, life): (usize, Life), ending: Ending, mutation: Mutation) {
        let claimed_at = self.now().owner_revision;
        let node = &mut self.nodes[node];
        if node.life != life {
            return;
        }
        node.phase = match (node.phase, ending, mutation) {
            (Phase::Releasing(at), Ending::Unknown, Mutation::UnknownReleaseIsFailure) => {
                Phase::Closed(at)
            }
            (Phase::Claiming, Ending::Unknown, Mutation::UnknownClaimIsSuccess) => {
                Phase::Open(Revision::new(claimed_at.into()))
            }
            (Phase::Closing(at), _, Mutation::ReleaseBeforeClosing) => Phase::Closing(at),
            (phase, ending, _) => phase.after_end(ending),
        };
    }

    fn die(&mut self, index: usize, mutation: Mutation) {
        let mut stored = self.now().clone();
        stored.lives[index] = 0;
        self.history.push_back(stored);
        self.deaths += 1;
        for txn in self.txns.iter_mut().filter(|txn| txn.from.0 == index) {
            txn.awaited = false;
        }
        for reply in self.replies.iter_mut().filter(|reply| reply.to.0 == index) {
            reply.awaited = false;
        }
        if mutation != Mutation::OpenAfterDeath {
            self.nodes[index].life = 0;
            self.nodes[index].phase = Phase::Idle;
        }
    }

    /// Returns what is wrong with this world.
    fn wrong(&self) -> Option<String> {
        let stored = self.now();
        let nodes = self.nodes.iter().enumerate();
        nodes.clone().find_map(|(index, node)| {
            let at = match node.phase {
                Phase::Open(at) | Phase::Closing(at) => at,
                Phase::Idle
                | Phase::Claiming
                | Phase::Closed(_)
                | Phase::Releasing(_)
                | Phase::Unresolved(_)
                | Phase::Restamping(_) => return None,
            };
            let owned = stored.owner == Some((index, node.life))
                && stored.owner_revision == number(at)
                && stored.lives[index] == node.life;
            (!owned).then(|| format!("node {index} has the shard open at {at}: {self:#?}"))
        })
    }
}

fn number(revision: Revision) -> u8 {
    u8::try_from(revision.get()).expect("few revisions")
}

/// Visits every world within the bounds. Returns how many, or what is wrong with one.
fn explore(bounds: Bounds, mutation: Mutation) -> Result<usize, String> {
    let start = World::new(bounds.nodes);
    let (mut seen, mut next) = (HashSet::from([start.clone()]), vec![start]);
    while let Some(world) = next.pop() {
        for action in world.actions(bounds, mutation) {
            let mut after = world.clone();
            after.act(action, mutation);
            if let Some(wrong) = after.wrong() {
                return Err(format!("after {action:?}: {wrong}"));
            }
            if !seen.contains(&after) {
                assert!(seen.len() < WORLDS_MAX, "the bounds are too wide");
                seen.insert(after.clone());
                next.push(after);
            }
        }
    }
    Ok(seen.len())
}

/// Walks at random through larger worlds. Returns what is wrong, if anything ever is.
fn wander(bounds: Bounds, mutation: Mutation, walks: u64) -> Result<(), String> {
    for seed in 0..walks {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut world = World::new(bounds.nodes);
        for _ in 0..STEPS_OF_A_WALK {
            let actions = world.actions(bounds, mutation);
            let action = actions[rng.random_range(0..actions.len())];
            world.act(action, mutation);
            if let Some(wrong) = world.wrong() {
                return Err(format!("seed {seed}, after {action:?}: {wrong}"));
            }
        }
        settles(world).map_err(|stuck| format!("seed {seed}: {stuck}"))?;
    }
    Ok(())
}

/// Lets a world calm down while everybody agrees that node 0 should have the shard.
fn settles(mut world: World) -> Result<(), String> {
    let wish = |node| {
        if node == 0 {
            Wish::Here
        } else {
            Wish::Elsewhere
        }
    };
    if world.nodes[0].life == 0 {
        world.act(Action::Rejoin(0), Mutation::None);
    }
    for _ in 0..CALM_ROUNDS {
        while !world.txns.is_empty() {
            world.act(Action::Apply(0), Mutation::None);
        }
        while !world.replies.is_empty() {
            world.act(Action::Deliver(0), Mutation::None);
        }
        for node in 0..world.nodes.len() {
            while world.nodes[node].view + 1 < usize::from(world.next_revision()) {
                world.act(Action::Watch(node), Mutation::None);
            }
            if matches!(world.nodes[node].phase, Phase::Closing(_)) {
                world.act(Action::EndClosing(node, Ending::Closed), Mutation::None);
            }
            let step = world.next_step(node, wish(node), Mutation::None);
            if let Some(step) = step.filter(|_| world.nodes[node].life > 0) {
                world.act(Action::Step(node, step), Mutation::None);
            }
        }
    }
    let phase = world.nodes[0].phase;
    if phase.is_open() {
        Ok(())
    } else {
        Err(format!("never settles, but stays {phase:?}: {world:#?}"))
    }
}

#[test]
fn in_every_small_world_a_shard_is_open_only_where_it_is_owned() {
    // Long with one transaction under way, a death within, or short with two.
    for (revisions, deaths, txns) in [(5, 0, 1), (4, 1, 1), (3, 1, 2)] {
        let nodes = 2;
        let bounds = Bounds {
            nodes,
            revisions,
            deaths,
            txns,
        };
        let worlds = explore(bounds, Mutation::None).unwrap_or_else(|wrong| panic!("{wrong}"));
        assert!(
            worlds > 1000,
            "{worlds} worlds are too few to mean anything"
        );
    }
}

#[test]
fn in_large_worlds_too_and_they_all_settle() {
    wander(LARGE, Mutation::None, 1000).unwrap_or_else(|wrong| panic!("{wrong}"));
}

#[test]
fn every_broken_rule_is_noticed() {
    for mutation in MUTATIONS {
        let found = wander(LARGE, mutation, 20_000);
        assert!(found.is_err(), "{mutation:?} goes unnoticed");
    }
}

#[test]
fn a_shard_in_doubt_is_restamped_whatever_the_wish_until_newer_news_comes() {
    let at = Revision::new(7);
    for newest in [Newest::Nobody, Newest::Me, Newest::Gone, Newest::Other] {
        for wish in WISHES {
            let facts = |revision| Facts {
                revision: Revision::new(revision),
                newest,
                wish,
            };
            let step = |phase: Phase, revision| phase.next_step(facts(revision));
            assert_eq!(step(Phase::Unresolved(at), 7), Some(Step::Restamp(at)));
            assert_eq!(step(Phase::Restamping(at), 7), None);
            assert_eq!(step(Phase::Releasing(at), 7), None);
            for phase in [
                Phase::Unresolved(at),
                Phase::Restamping(at),
                Phase::Releasing(at),
            ] {
                assert_eq!(step(phase, 8), step(Phase::Idle, 8), "{phase:?}");
            }
        }
    }
}

#[test]
fn whom_news_names_is_read_off_the_view() {
    let (view, shard) = (view_at(20), ShardId::new(0, count()).expect("in range"));
    for (owner, newest) in [
        (None, Newest::Nobody),
        (Some(("me", 5)), Newest::Me),
        (Some(("me", 3)), Newest::Gone),
        (Some(("b", 6)), Newest::Other),
        (Some(("b", 4)), Newest::Gone),
        (Some(("dead", 9)), Newest::Gone),
        // So new that the view cannot know it yet.
        (Some(("dead", 21)), Newest::Other),
    ] {
        let mut view = view.clone();
        let owner = owner.map(|(node, life)| life_of(node, life));
        let revision = Revision::new(22);
        view.apply(News::Owner(
            shard,
            OwnerRecord {
                revision,
                owner: owner.clone(),
                parcel: None,
            },
        ));
        let facts = Facts::of(&view, shard, &life_of("me", 5), Stance::Takes);
        assert_eq!(facts.newest, newest, "{owner:?}");
    }
}

#[test]
fn a_shard_should_be_elsewhere_only_if_somebody_can_take_it() {
    use Stance::{Keeps, Leaves, Takes};
    for (target, stance, wish) in [
        (Some("me"), Takes, Wish::Here),
        (Some("me"), Keeps, Wish::Anywhere),
        (Some("b"), Takes, Wish::Elsewhere),
        (Some("b"), Keeps, Wish::Elsewhere),
        (Some("joining"), Takes, Wish::Anywhere),
        (Some("dead"), Takes, Wish::Anywhere),
        (None, Takes, Wish::Anywhere),
        (None, Keeps, Wish::Anywhere),
        (Some("me"), Leaves, Wish::Elsewhere),
        (None, Leaves, Wish::Elsewhere),
    ] {
        let (mut view, shard) = (view_at(20), ShardId::new(0, count()).expect("in range"));
        let node = target.map(|name| NodeId::new(name).expect("a good name"));
        let targets = vec![Target {
            node,
            ..Target::default()
        }];
        view.apply(News::Targets { block: 0, targets });
        let facts = Facts::of(&view, shard, &life_of("me", 5), stance);
        assert_eq!(facts.wish, wish, "{target:?} {stance:?}");
    }
}

fn count() -> ShardCount {
    ShardCount::new(1).expect("a power of two")
}

fn life_of(node: &str, incarnation: u64) -> Owner {
    Owner {
        node: NodeId::new(node).expect("a good name"),
        incarnation: Incarnation::new(incarnation),
    }
}

/// Nodes `me` (life 5) and `b` (life 6) are active, `joining` (life 7) is not.
fn view_at(revision: u64) -> ClusterView {
    let mut view = ClusterView::empty(ClusterMeta {
        cluster_id: "test".into(),
        shard_count: count(),
        restore_generation: 0,
        regions: crate::ids::Regions::default(),
    });
    view.revision = Revision::new(revision);
    for (name, life, state) in [
        ("me", 5, NodeState::Active),
        ("b", 6, NodeState::Active),
        ("joining", 7, NodeState::Joining),
    ] {
        let record = NodeRecord {
            incarnation: Incarnation::new(life),
            lease: LeaseId::new(1),
            grpc: String::new(),
            http: None,
            zone: None,
            weight: Weight::ONE,
            labels: BTreeMap::new(),
            version: String::new(),
            object_types: Vec::new(),
            state,
            boot_id: String::new(),
        };
        view.apply(News::Node(
            NodeId::new(name).expect("a good name"),
            Some(record),
        ));
    }
    view
}
