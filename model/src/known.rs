//! What one process knows: the real view, with the real rule for owner news.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock};

use steading::ids::{Incarnation, NodeId, Revision, ShardCount, ShardId};
use steading::placement::ownership::{Facts, Stance};
use steading::placement::{
    ClusterMeta, ClusterView, News, NodeRecord, Owner, OwnerRecord, Parcel, Target,
};

use crate::renumber::Renumber;
use crate::rules::Broken;

/// The most nodes of a world.
const NODES_MAX: usize = 3;

/// The most shards of a world.
const SHARDS_MAX: u32 = 2;

/// A node by its number, and a life of it by the revision at which it began.
pub(crate) type Life = (usize, u64);

/// What an owner key says, or that it does not exist, since this revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Value {
    pub(crate) revision: u64,
    pub(crate) owner: Option<Life>,
    pub(crate) parcel: Option<Parcel>,
}

/// A process's copy of the cluster. Copies share everything.
#[derive(Clone)]
pub(crate) struct Known(Arc<Cached>);

struct Cached {
    view: ClusterView,
    said: Said,
    /// Of what is said: views that say the same are the same.
    digest: u64,
    /// For each node, the facts of each plan and shard for the last life of it that asked.
    facts: [OnceLock<(Life, Vec<Facts>)>; NODES_MAX],
}

/// What a view says, in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Said {
    revision: u64,
    lives: Vec<Option<u64>>,
    values: Vec<Value>,
}

/// What a process gets to know.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Change {
    Watched(u64, Vec<Event>),
    Learned(usize, Value),
    Believed(usize, Value),
}

thread_local! {
    /// Views are dear to make, and few differ.
    static VIEWS: RefCell<HashMap<Said, Known>> = RefCell::default();
    static CHANGED: RefCell<HashMap<(u64, Change, bool), Known>> = RefCell::default();
}

/// Where a process may be told that a shard should be. Any of it at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Nowhere in particular.
    Unplaced,
    At(usize),
    /// The node leaves, and nobody takes the shard.
    Leaving,
}

impl Known {
    /// Knows these lives, and that nobody owns anything, as of `revision`.
    pub(crate) fn new(lives: &[Option<u64>], shards: usize, revision: u64) -> Self {
        Self::from(Said {
            revision,
            lives: lives.to_vec(),
            values: vec![Value::default(); shards],
        })
    }

    fn from(said: Said) -> Self {
        let made = VIEWS.with_borrow(|views| views.get(&said).cloned());
        made.unwrap_or_else(|| {
            let known = Self::make(&said);
            VIEWS.with_borrow_mut(|views| views.insert(said, known.clone()));
            known
        })
    }

    fn make(said: &Said) -> Self {
        let mut view = ClusterView::empty(ClusterMeta::new("model", count()));
        for (node, life) in said.lives.iter().enumerate() {
            view.apply(node_news(node, *life));
        }
        for (shard, value) in said.values.iter().enumerate() {
            view.apply(News::Owner(shard_id(shard), record(*value)));
        }
        view.revision = Revision::new(said.revision);
        Self::of(view, said.lives.len(), said.values.len())
    }

    fn of(view: ClusterView, nodes: usize, shards: usize) -> Self {
        let lives = (0..nodes).map(|node| {
            let record = view.nodes.get(&names()[node]);
            record.map(|record| record.incarnation.get())
        });
        let values = (0..shards).map(|shard| value(view.owners.get(shard_id(shard))));
        let said = Said {
            revision: view.revision.get(),
            lives: lives.collect(),
            values: values.collect(),
        };
        let mut hasher = DefaultHasher::new();
        said.hash(&mut hasher);
        Self(Arc::new(Cached {
            view,
            said,
            digest: hasher.finish(),
            facts: Default::default(),
        }))
    }

    fn change(&mut self, change: Change, broken: Broken) {
        let key = (self.0.digest, change, broken == Broken::OldNewsCounts);
        let made = CHANGED.with_borrow(|changed| changed.get(&key).cloned());
        *self = made.unwrap_or_else(|| {
            let known = self.changed(&key.1, broken);
            CHANGED.with_borrow_mut(|changed| changed.insert(key, known.clone()));
            known
        });
    }

    fn changed(&self, change: &Change, broken: Broken) -> Self {
        let mut view = self.0.view.clone();
        match change {
            Change::Watched(revision, events) => {
                for event in events {
                    match *event {
                        Event::Node(node, life, _) => {
                            view.apply(node_news(node, life));
                        }
                        Event::Owner(shard, value) => learn(&mut view, shard, value, broken),
                    }
                }
                view.revision = Revision::new(*revision);
            }
            Change::Learned(shard, value) => learn(&mut view, *shard, *value, broken),
            Change::Believed(shard, value) => view.owners.set(shard_id(*shard), record(*value)),
        }
        Self::of(view, self.0.said.lives.len(), self.0.said.values.len())
    }

    pub(crate) fn revision(&self) -> u64 {
        self.0.said.revision
    }

    pub(crate) fn owner(&self, shard: usize) -> Value {
        self.0.said.values[shard]
    }

    pub(crate) fn life(&self, node: usize) -> Option<u64> {
        self.0.said.lives[node]
    }

    /// Takes in what a watch brings of one revision.
    pub(crate) fn watch(&mut self, revision: u64, events: Vec<Event>, broken: Broken) {
        self.change(Change::Watched(revision, events), broken);
    }

    /// Takes in owner news that came by another way.
    pub(crate) fn learn(&mut self, shard: usize, value: Value, broken: Broken) {
        self.change(Change::Learned(shard, value), broken);
    }

    /// Takes in owner news without asking whether it is newer.
    pub(crate) fn believe(&mut self, shard: usize, value: Value) {
        self.change(Change::Believed(shard, value), Broken::Nothing);
    }

    /// Returns the facts of a shard under every plan, as the life `me` sees them.
    pub(crate) fn facts(&self, shard: usize, me: Life) -> Vec<(Plan, Facts)> {
        let nodes = self.0.said.lives.len();
        let shards = self.0.said.values.len();
        let all = || {
            let plans = plans(nodes).flat_map(|plan| (0..shards).map(move |shard| (plan, shard)));
            plans
                .map(|(plan, shard)| self.facts_under(plan, shard, me))
                .collect()
        };
        let (whose, kept) = self.0.facts[me.0].get_or_init(|| (me, all()));
        let others;
        let facts = if *whose == me {
            kept
        } else {
            others = all();
            &others
        };
        let of_shard = facts.chunks(shards).map(|facts| facts[shard]);
        plans(nodes).zip(of_shard).collect()
    }

    fn facts_under(&self, plan: Plan, shard: usize, me: Life) -> Facts {
        let mut view = self.0.view.clone();
        let (node, stance) = match plan {
            Plan::Unplaced => (None, Stance::Takes),
            Plan::At(node) => (Some(names()[node].clone()), Stance::Takes),
            Plan::Leaving => (None, Stance::Leaves),
        };
        let target = Target {
            node,
            ..Target::default()
        };
        view.targets.set(shard_id(shard), target);
        Facts::of(&view, shard_id(shard), &owner(me), stance)
    }
}

/// A change of the store, as a watch brings it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    Node(usize, Option<u64>, u64),
    Owner(usize, Value),
}

impl Event {
    pub(crate) fn revision(self) -> u64 {
        match self {
            Self::Node(_, _, revision) => revision,
            Self::Owner(_, value) => value.revision,
        }
    }
}

impl Renumber for Known {
    fn numbers(&self, seen: &mut dyn FnMut(u64)) {
        let said = &self.0.said;
        seen(said.revision);
        said.lives.numbers(seen);
        said.values.numbers(seen);
    }

    fn renumber(&mut self, new: &dyn Fn(u64) -> u64) {
        let mut said = self.0.said.clone();
        said.revision = new(said.revision);
        said.lives.renumber(new);
        said.values.renumber(new);
        if said != self.0.said {
            *self = Self::from(said);
        }
    }
}

impl Renumber for Value {
    fn numbers(&self, seen: &mut dyn FnMut(u64)) {
        seen(self.revision);
        self.owner.numbers(seen);
        self.parcel.numbers(seen);
    }

    fn renumber(&mut self, new: &dyn Fn(u64) -> u64) {
        self.revision = new(self.revision);
        self.owner.renumber(new);
        self.parcel.renumber(new);
    }
}

impl Renumber for Event {
    fn numbers(&self, seen: &mut dyn FnMut(u64)) {
        match self {
            Self::Node(_, life, revision) => {
                life.numbers(seen);
                seen(*revision);
            }
            Self::Owner(_, value) => value.numbers(seen),
        }
    }

    fn renumber(&mut self, new: &dyn Fn(u64) -> u64) {
        match self {
            Self::Node(_, life, revision) => {
                life.renumber(new);
                *revision = new(*revision);
            }
            Self::Owner(_, value) => value.renumber(new),
        }
    }
}

impl PartialEq for Known {
    fn eq(&self, other: &Self) -> bool {
        self.0.digest == other.0.digest
    }
}

impl Hash for Known {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.digest.hash(state);
    }
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.said.fmt(f)
    }
}

fn plans(nodes: usize) -> impl Iterator<Item = Plan> {
    let placed = (0..nodes).map(Plan::At);
    [Plan::Unplaced, Plan::Leaving].into_iter().chain(placed)
}

fn learn(view: &mut ClusterView, shard: usize, value: Value, broken: Broken) {
    if broken == Broken::OldNewsCounts {
        view.owners.set(shard_id(shard), record(value));
    } else {
        view.apply(News::Owner(shard_id(shard), record(value)));
    }
}

fn record(value: Value) -> OwnerRecord {
    OwnerRecord {
        revision: Revision::new(value.revision),
        owner: value.owner.map(owner),
        parcel: value.parcel,
    }
}

fn value(record: &OwnerRecord) -> Value {
    let life = |owner: &Owner| {
        let node = names().iter().position(|name| *name == owner.node);
        (node.expect("one of the world's"), owner.incarnation.get())
    };
    Value {
        revision: record.revision.get(),
        owner: record.owner.as_ref().map(life),
        parcel: record.parcel,
    }
}

fn owner((node, life): Life) -> Owner {
    Owner {
        node: names()[node].clone(),
        incarnation: Incarnation::new(life),
    }
}

fn node_news(node: usize, life: Option<u64>) -> News {
    let record = life.map(|life| NodeRecord::of(Incarnation::new(life)));
    News::Node(names()[node].clone(), record)
}

fn names() -> &'static [NodeId] {
    static NAMES: OnceLock<Vec<NodeId>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let names = (0..NODES_MAX).map(|node| NodeId::new(&node.to_string()));
        names.map(|name| name.expect("a good name")).collect()
    })
}

fn count() -> ShardCount {
    ShardCount::new(SHARDS_MAX).expect("a power of two")
}

fn shard_id(shard: usize) -> ShardId {
    let shard = u32::try_from(shard).expect("few shards");
    ShardId::new(shard, count()).expect("few shards")
}
