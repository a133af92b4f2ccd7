//! Small worlds: a few nodes, one shard, and a store whose answers get lost and come late.
//!
//! The wish of a node is anything at any time, so that no wrong plan is left out. What is checked
//! after every action is stronger than one owner at a time: a shard that is open on a living node
//! is owned by that life at that very revision. And its objects there are the newest: nobody else
//! had the shard open since.

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

/// Rounds in which a world must calm down: unresolved, restamped, opened, closed, sent, handed
/// over, and the same at the next node.
const CALM_ROUNDS: usize = 20;

const LARGE: Bounds = Bounds {
    nodes: 3,
    revisions: 40,
    deaths: 3,
    txns: 4,
};

const WISHES: [Wish; 4] = [
    Wish::Here,
    Wish::There(Incarnation::new(3)),
    Wish::Anywhere,
    Wish::Nowhere,
];

const NEWEST: [Newest; 6] = [
    Newest::Nobody,
    Newest::Me,
    Newest::MeOver(Revision::new(7)),
    Newest::MeOver(Revision::new(6)),
    Newest::Gone,
    Newest::Other,
];

const NOTHING: Parcel = Parcel::empty(Revision::new(7));

/// A rule that is broken on purpose, to show that the worlds are wild enough to notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutation {
    None,
    NoGuardInRelease,
    NoGuardInHandOver,
    NoGuardInTakeOver,
    NoProofOfDeath,
    OldNewsCounts,
    UnknownReleaseIsFailure,
    UnknownHandOverIsFailure,
    UnknownHandOverIsSuccess,
    UnknownClaimIsSuccess,
    ReadReopens,
    OpenAfterDeath,
    ReleaseBeforeClosing,
    HandOverBeforeClosing,
    AnyNewsOfMeKeepsObjects,
}

const MUTATIONS: [Mutation; 13] = [
    Mutation::NoGuardInRelease,
    Mutation::NoGuardInHandOver,
    Mutation::NoGuardInTakeOver,
    Mutation::NoProofOfDeath,
    Mutation::OldNewsCounts,
    Mutation::UnknownReleaseIsFailure,
    Mutation::UnknownHandOverIsFailure,
    Mutation::UnknownHandOverIsSuccess,
    Mutation::UnknownClaimIsSuccess,
    Mutation::ReadReopens,
    Mutation::OpenAfterDeath,
    Mutation::ReleaseBeforeClosing,
    Mutation::HandOverBeforeClosing,
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
    /// Where the shard was open last.
    last_open: usize,
    /// A node that opened the shard with objects older than those of another.
    stale: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Stored {
    owner: Option<(usize, Life)>,
    /// When the owner key was last written or deleted.
    owner_revision: u8,
    /// The revision that a restamp was written over; zero: something else was written.
    kept: u8,
    lives: Vec<Life>,
}

impl Stored {
    fn news(&self) -> OwnerNews {
        OwnerNews {
            revision: self.owner_revision,
            owner: self.owner,
            kept: self.kept,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct OwnerNews {
    revision: u8,
    owner: Option<(usize, Life)>,
    kept: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Local {
    life: Life,
    /// How far the watch has come.
    view: usize,
    known: Stored,
    phase: Phase,
    has_objects: bool,
}

impl Local {
    /// Returns how the host's work under way may end, or what was sent get too old, the best first.
    fn endings(&self) -> &'static [Ending] {
        match self.phase {
            Phase::Closing(_) => &[Ending::Closed, Ending::Overdue],
            Phase::Sending(_, _) => &[Ending::Sent(NOTHING), Ending::Undelivered],
            Phase::Sent(_, _) => &[Ending::Undelivered],
            Phase::Ending(_) => &[Ending::Ended],
            Phase::Idle
            | Phase::Claiming
            | Phase::Open(_)
            | Phase::Closed(_)
            | Phase::HandingOver(_, _)
            | Phase::Undeliverable(_)
            | Phase::Ended(_)
            | Phase::Releasing(_)
            | Phase::Unresolved(_)
            | Phase::Restamping(_) => &[],
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Sent {
    from: (usize, Life),
    /// The owner key must stand at this revision; zero: must not exist.
    guard: u8,
    /// This node must be in this life.
    proof: Option<(usize, Life)>,
    kind: Kind,
    /// Whether the sender still waits for this answer.
    awaited: bool,
}

/// What a transaction makes of the owner key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Kind {
    Claim,
    TakeOver,
    HandOver(usize, Life),
    Restamp,
    Release,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Reply {
    to: (usize, Life),
    committed: bool,
    /// The owner key as of the reply.
    shown: OwnerNews,
    awaited: bool,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    /// A node's watch brings the next revision.
    Watch(usize),
    /// A node takes its next step, under whatever wish.
    Step(usize, Step),
    /// A node's closing, sending or ending ends, or what it sent gets too old.
    EndWork(usize, Ending),
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
        // Every node is registered, in order, and knows it.
        let lives: Vec<Life> = (1..).take(nodes).collect();
        let stored = Stored {
            owner: None,
            owner_revision: 0,
            kept: 0,
            lives: lives.clone(),
        };
        let local = |life| Local {
            life,
            view: nodes,
            known: stored.clone(),
            phase: Phase::Idle,
            has_objects: false,
        };
        Self {
            nodes: lives.into_iter().map(local).collect(),
            history: VecDeque::from([stored]),
            first: nodes,
            txns: Vec::new(),
            replies: Vec::new(),
            deaths: 0,
            last_open: 0,
            stale: None,
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
                let wishes = self.wishes(index);
                let steps = wishes.map(|wish| self.next_step(index, wish, mutation));
                let mut distinct = Vec::new();
                for step in steps.flatten() {
                    if !distinct.contains(&step) {
                        distinct.push(step);
                    }
                }
                let distinct = distinct.into_iter();
                actions.extend(distinct.map(|step| Action::Step(index, step)));
            }
            let ends = node.endings().iter();
            actions.extend(ends.map(|ending| Action::EndWork(index, *ending)));
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

    /// Returns everything that a node may be told to want.
    fn wishes(&self, index: usize) -> impl Iterator<Item = Wish> {
        let lives = self.nodes[index].known.lives.iter().enumerate();
        let others = lives.filter(move |(node, life)| *node != index && **life > 0);
        let there = others.map(|(_, life)| Wish::There(Incarnation::new((*life).into())));
        [Wish::Here, Wish::Anywhere, Wish::Nowhere]
            .into_iter()
            .chain(there)
    }

    fn act(&mut self, action: Action, mutation: Mutation) {
        match action {
            Action::Watch(node) => {
                let view = self.nodes[node].view + 1;
                self.nodes[node].view = view;
                let stored = self.history[view - self.first].clone();
                let news = stored.news();
                self.nodes[node].known.lives = stored.lives;
                self.learn(node, news, mutation);
            }
            Action::Step(node, step) => self.step(node, step, mutation),
            Action::EndWork(node, ending) => {
                let node = &mut self.nodes[node];
                node.phase = node.phase.after_end(ending);
                node.has_objects &= ending != Ending::Ended;
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
            Some(owner) if owner == (index, node.life) => match node.known.kept {
                0 => Newest::Me,
                at => Newest::MeOver(Revision::new(at.into())),
            },
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
            return facts.newest.is_me().then_some(Step::Open(facts.revision));
        }
        let keeps = mutation == Mutation::AnyNewsOfMeKeepsObjects && phase.is_closed();
        if keeps && phase.next_step(facts) == Some(Step::LetGo) && facts.newest.is_me() {
            return Some(Step::Open(facts.revision));
        }
        match (mutation, phase, wish) {
            (Mutation::ReleaseBeforeClosing, Phase::Closing(at), _) => Some(Step::Release(at)),
            (Mutation::HandOverBeforeClosing, Phase::Closing(at), Wish::There(to)) => {
                Some(Step::HandOver(
                    at,
                    Shipment {
                        to,
                        parcel: NOTHING,
                    },
                ))
            }
            (_, phase, _) => phase.next_step(facts),
        }
    }

    fn step(&mut self, index: usize, step: Step, mutation: Mutation) {
        let node = &self.nodes[index];
        let me = (index, node.life);
        let old = node.known.owner;
        let proof_of = |owner: usize| (owner, node.known.lives[owner]);
        let (guard, kind, proof) = match step {
            Step::Claim => (0, Kind::Claim, None),
            Step::TakeOver(at) => {
                let proof = old.map(|(owner, _)| proof_of(owner));
                (number(at), Kind::TakeOver, proof)
            }
            Step::HandOver(at, shipment) => {
                let mut lives = (0..).zip(&node.known.lives);
                let to = lives
                    .find(|(_, life)| u64::from(**life) == shipment.to.get())
                    .map(|(node, life)| (node, *life))
                    .expect("a life that is known");
                (number(at), Kind::HandOver(to.0, to.1), Some(to))
            }
            Step::Restamp(at) => (number(at), Kind::Restamp, None),
            Step::Release(at) => (number(at), Kind::Release, None),
            Step::Open(_)
            | Step::Close(_)
            | Step::SendAhead(_, _)
            | Step::End(_)
            | Step::LetGo
            | Step::Discard => return self.begin(index, step),
        };
        let phase = node.phase;
        self.begin(index, step);
        let runs_on = matches!(
            mutation,
            Mutation::ReleaseBeforeClosing | Mutation::HandOverBeforeClosing
        );
        if runs_on && matches!(phase, Phase::Closing(_)) {
            self.nodes[index].phase = phase;
        }
        self.txns.push(Sent {
            from: me,
            guard,
            proof,
            kind,
            awaited: true,
        });
    }

    fn begin(&mut self, index: usize, step: Step) {
        let node = &mut self.nodes[index];
        node.phase = Phase::after_start(step);
        match step {
            Step::Open(_) => {
                if node.has_objects && self.last_open != index {
                    self.stale = Some(index);
                }
                node.has_objects = true;
                self.last_open = index;
            }
            Step::LetGo | Step::Discard => node.has_objects = false,
            Step::Claim
            | Step::TakeOver(_)
            | Step::Close(_)
            | Step::SendAhead(_, _)
            | Step::HandOver(_, _)
            | Step::End(_)
            | Step::Release(_)
            | Step::Restamp(_) => {}
        }
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
        let unguarded = match txn.kind {
            Kind::Release => mutation == Mutation::NoGuardInRelease && stored.owner.is_some(),
            Kind::HandOver(_, _) => mutation == Mutation::NoGuardInHandOver,
            Kind::TakeOver => mutation == Mutation::NoGuardInTakeOver,
            Kind::Claim | Kind::Restamp => false,
        };
        let proven = txn
            .proof
            .is_none_or(|(node, life)| stored.lives[node] == life)
            || mutation == Mutation::NoProofOfDeath;
        let alive = stored.lives[txn.from.0] == txn.from.1;
        let committed = alive && proven && (stands_at == txn.guard || unguarded);
        if committed {
            (stored.owner, stored.kept) = match txn.kind {
                Kind::Claim | Kind::TakeOver => (Some(txn.from), 0),
                Kind::HandOver(node, life) => (Some((node, life)), 0),
                Kind::Restamp => (Some(txn.from), txn.guard),
                Kind::Release => (None, 0),
            };
            stored.owner_revision = self.next_revision();
            self.history.push_back(stored);
        }
        let now = self.now();
        let shown = match now.owner {
            // A key that does not exist is known to be absent as of the reply's revision.
            None => OwnerNews {
                revision: self.next_revision() - 1,
                owner: None,
                kept: 0,
            },
            Some(_) => now.news(),
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
        let is_somebody = reply.shown.owner.or(self.nodes[node].known.owner).is_some();
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

    fn learn(&mut self, node: usize, news: OwnerNews, mutation: Mutation) {
        let known = &mut self.nodes[node].known;
        if news.revision > known.owner_revision || mutation == Mutation::OldNewsCounts {
            known.owner_revision = news.revision;
            (known.owner, known.kept) = (news.owner, news.kept);
        }
    }

    fn end(&mut self, (node, life): (usize, Life), ending: Ending, mutation: Mutation) {
        let claimed_at = self.now().owner_revision;
        let node = &mut self.nodes[node];
        if node.life != life {
            return;
        }
        node.phase = match (mutation, node.phase, ending) {
            (Mutation::UnknownReleaseIsFailure, Phase::Releasing(at), Ending::Unknown) => {
                Phase::Ended(at)
            }
            (
                Mutation::UnknownHandOverIsFailure,
                Phase::HandingOver(at, shipment),
                Ending::Unknown,
            ) => Phase::Sent(at, shipment),
            (Mutation::UnknownHandOverIsSuccess, Phase::HandingOver(_, _), Ending::Unknown) => {
                Phase::Idle
            }
            (Mutation::UnknownClaimIsSuccess, Phase::Claiming, Ending::Unknown) => {
                Phase::Open(Revision::new(claimed_at.into()))
            }
            // What was sent too early ends while turns run, or have ended meanwhile.
            (
                Mutation::ReleaseBeforeClosing | Mutation::HandOverBeforeClosing,
                phase @ (Phase::Open(_) | Phase::Closing(_) | Phase::Closed(_)),
                _,
            ) => phase,
            (_, phase, ending) => phase.after_end(ending),
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
            self.nodes[index].has_objects = false;
        }
    }

    /// Returns what is wrong with this world.
    fn wrong(&self) -> Option<String> {
        if let Some(node) = self.stale {
            return Some(format!("node {node} opens old objects: {self:#?}"));
        }
        let stored = self.now();
        let nodes = self.nodes.iter().enumerate();
        nodes.clone().find_map(|(index, node)| {
            let (Phase::Open(at) | Phase::Closing(at)) = node.phase else {
                return None;
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
            if let Some(ending) = world.nodes[node].endings().first() {
                world.act(Action::EndWork(node, *ending), Mutation::None);
            }
            let wish = if node == 0 {
                Wish::Here
            } else {
                Wish::There(Incarnation::new(world.nodes[0].life.into()))
            };
            let step = world.next_step(node, wish, Mutation::None);
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

/// Too rare a story for walks at random.
#[test]
fn objects_that_another_had_since_are_let_go() {
    for mutation in [Mutation::None, Mutation::AnyNewsOfMeKeepsObjects] {
        let mut world = World::new(2);
        let at = |node: usize| Wish::There(Incarnation::new(node as u64 + 1));
        let step = |world: &mut World, node, wish| {
            let step = world.next_step(node, wish, mutation).expect("a step");
            world.act(Action::Step(node, step), mutation);
        };
        let give = |world: &mut World, from, to| {
            step(world, from, at(to));
            world.act(Action::EndWork(from, Ending::Closed), mutation);
            step(world, from, at(to));
            world.act(Action::EndWork(from, Ending::Sent(NOTHING)), mutation);
            step(world, from, at(to));
        };
        let see = |world: &mut World, node: usize| {
            while world.nodes[node].view + 1 < usize::from(world.next_revision()) {
                world.act(Action::Watch(node), mutation);
            }
        };
        step(&mut world, 0, Wish::Here);
        world.act(Action::Apply(0), mutation);
        world.act(Action::Deliver(0), mutation);
        step(&mut world, 0, Wish::Here);
        // It is handed over without an answer, and comes back before node 0 looks.
        give(&mut world, 0, 1);
        world.act(Action::GiveUp(0), mutation);
        world.act(Action::Apply(0), mutation);
        see(&mut world, 1);
        step(&mut world, 1, Wish::Here);
        give(&mut world, 1, 0);
        world.act(Action::Apply(0), mutation);
        see(&mut world, 0);
        step(&mut world, 0, Wish::Here);
        let wrong = world.wrong();
        assert_eq!(wrong.is_some(), mutation != Mutation::None, "{wrong:?}");
    }
}

#[test]
fn a_shard_in_doubt_is_restamped_whatever_the_wish_until_newer_news_comes() {
    let (at, to) = (Revision::new(7), Incarnation::new(3));
    let shipment = Shipment {
        to,
        parcel: NOTHING,
    };
    for newest in NEWEST {
        for wish in WISHES {
            let step = |phase: Phase, revision| {
                phase.next_step(Facts {
                    revision: Revision::new(revision),
                    newest,
                    wish,
                })
            };
            assert_eq!(step(Phase::Unresolved(at), 7), Some(Step::Restamp(at)));
            for phase in [
                Phase::HandingOver(at, shipment),
                Phase::Releasing(at),
                Phase::Restamping(at),
            ] {
                assert_eq!(step(phase, 7), None);
            }
        }
    }
}

#[test]
fn newer_news_lets_a_closed_shard_go_unless_it_proves_that_nobody_had_it() {
    let (at, to) = (Revision::new(7), Incarnation::new(3));
    let shipment = Shipment {
        to,
        parcel: NOTHING,
    };
    for phase in [
        Phase::Closed(at),
        Phase::Sending(at, to),
        Phase::Sent(at, shipment),
        Phase::HandingOver(at, shipment),
        Phase::Undeliverable(at),
        Phase::Ending(at),
        Phase::Ended(at),
        Phase::Releasing(at),
        Phase::Unresolved(at),
        Phase::Restamping(at),
    ] {
        for newest in NEWEST {
            for wish in WISHES {
                let revision = Revision::new(8);
                let step = phase.next_step(Facts {
                    revision,
                    newest,
                    wish,
                });
                let wanted = if newest == Newest::MeOver(at) {
                    Step::Open(revision)
                } else {
                    Step::LetGo
                };
                assert_eq!(step, Some(wanted), "{phase:?} {newest:?} {wish:?}");
            }
        }
    }
}

#[test]
fn what_was_sent_goes_to_that_very_life_or_the_shard_opens_again() {
    let (at, to) = (Revision::new(7), Incarnation::new(3));
    let shipment = Shipment {
        to,
        parcel: NOTHING,
    };
    for (wish, step) in [
        (Wish::There(to), Step::HandOver(at, shipment)),
        (Wish::There(Incarnation::new(4)), Step::Open(at)),
        (Wish::Here, Step::Open(at)),
        (Wish::Anywhere, Step::Open(at)),
        (Wish::Nowhere, Step::Open(at)),
    ] {
        let facts = Facts {
            revision: at,
            newest: Newest::Me,
            wish,
        };
        let sent = Phase::Sent(at, shipment);
        assert_eq!(sent.next_step(facts), Some(step), "{wish:?}");
        let refused = Phase::HandingOver(at, shipment).after_end(Ending::Refused);
        assert_eq!(refused, sent, "decided again");
    }
}

#[test]
fn a_shard_that_cannot_be_delivered_opens_at_once_or_ends_if_it_must_leave() {
    let (at, to) = (Revision::new(7), Incarnation::new(3));
    let undeliverable = Phase::Sending(at, to).after_end(Ending::Undelivered);
    for wish in WISHES {
        let facts = Facts {
            revision: at,
            newest: Newest::Me,
            wish,
        };
        let wanted = match wish {
            Wish::Here | Wish::There(_) | Wish::Anywhere => Step::Open(at),
            Wish::Nowhere => Step::End(at),
        };
        assert_eq!(undeliverable.next_step(facts), Some(wanted), "{wish:?}");
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
    use Stance::{Abandons, Keeps, Leaves, Takes};
    let there = Wish::There(Incarnation::new(6));
    for (target, stance, wish) in [
        (Some("me"), Takes, Wish::Here),
        (Some("me"), Keeps, Wish::Anywhere),
        (Some("b"), Takes, there),
        (Some("b"), Keeps, there),
        (Some("joining"), Takes, Wish::Anywhere),
        (Some("dead"), Takes, Wish::Anywhere),
        (None, Takes, Wish::Anywhere),
        (None, Keeps, Wish::Anywhere),
        (Some("me"), Leaves, Wish::Nowhere),
        (Some("b"), Leaves, there),
        (Some("joining"), Leaves, Wish::Nowhere),
        (None, Leaves, Wish::Nowhere),
        (Some("b"), Abandons, Wish::Nowhere),
    ] {
        assert_eq!(
            wish_for(target, false, stance),
            wish,
            "{target:?} {stance:?}"
        );
    }
}

#[test]
fn a_quarantined_shard_is_left_alone_where_it_is() {
    for target in [Some("me"), Some("b"), None] {
        for stance in [Stance::Takes, Stance::Keeps] {
            let wish = wish_for(target, true, stance);
            assert_eq!(wish, Wish::Anywhere, "{target:?} {stance:?}");
        }
    }
}

#[test]
fn only_an_empty_parcel_tells_over_what_the_owner_key_was_written() {
    for (parcel, newest) in [
        (None, Newest::Me),
        (
            Some(Parcel::empty(Revision::new(7))),
            Newest::MeOver(Revision::new(7)),
        ),
        (
            Some(Parcel {
                revision: Revision::new(7),
                attempt: 1,
            }),
            Newest::Me,
        ),
    ] {
        let (mut view, shard) = (view_at(20), ShardId::new(0, count()).expect("in range"));
        let record = OwnerRecord {
            revision: Revision::new(9),
            owner: Some(life_of("me", 5)),
            parcel,
        };
        view.apply(News::Owner(shard, record));
        let facts = Facts::of(&view, shard, &life_of("me", 5), Stance::Takes);
        assert_eq!(facts.newest, newest);
    }
}

/// Returns where `me` thinks a shard should be that has this target.
fn wish_for(target: Option<&str>, quarantined: bool, stance: Stance) -> Wish {
    let (mut view, shard) = (view_at(20), ShardId::new(0, count()).expect("in range"));
    let target = Target {
        node: target.map(|name| NodeId::new(name).expect("a good name")),
        quarantined,
        ..Target::default()
    };
    let targets = vec![target];
    view.apply(News::Targets { block: 0, targets });
    Facts::of(&view, shard, &life_of("me", 5), stance).wish
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
