//! The store: transactions that come late, twice over or never, and what their senders hear.

use steading::placement::Parcel;
use steading::placement::ownership::Ending;

use crate::known::{Event, Life, Value};
use crate::node::{Process, after_end};
use crate::rules::Broken;
use crate::world::{Bounds, World, Wrong};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Stored {
    pub(crate) revision: u64,
    pub(crate) lives: Vec<Option<u64>>,
    pub(crate) values: Vec<Value>,
}

/// A transaction on the owner keys of some shards.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Txn {
    pub(crate) from: (usize, Life),
    /// This node must be in this life, or in none.
    pub(crate) proof: Option<(usize, Option<u64>)>,
    pub(crate) items: Vec<Item>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Item {
    pub(crate) shard: usize,
    pub(crate) kind: Kind,
    /// At which revision the key must stand; zero: it must not exist.
    pub(crate) guard: u64,
    pub(crate) owner: Option<Life>,
    pub(crate) parcel: Option<Parcel>,
    /// Whether the sender still waits for what becomes of it.
    pub(crate) awaited: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Claim,
    TakeOver,
    HandOver,
    Restamp,
    Release,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Reply {
    pub(crate) to: (usize, Life),
    pub(crate) committed: bool,
    pub(crate) items: Vec<(Item, Value)>,
}

impl World {
    pub(crate) fn expire(&mut self, node: usize) {
        let mut processes = self.processes.iter();
        let serves = |process: &Process| process.fence_open && process.name == node;
        self.troubles += u8::from(processes.any(serves));
        self.store.revision += 1;
        self.store.lives[node] = None;
        self.events
            .push(Event::Node(node, None, self.store.revision));
    }

    pub(crate) fn apply(&mut self, index: usize, bounds: Bounds) {
        let Txn { from, proof, items } = self.txns.remove(index);
        let (name, life) = from.1;
        let alive = self.store.lives[name] == Some(life);
        let proven = proof.is_none_or(|(node, life)| {
            let unproven = match items[0].kind {
                Kind::TakeOver => bounds.broken == Broken::ProofOfDeath,
                Kind::HandOver => bounds.broken == Broken::LifeOfTarget,
                Kind::Claim | Kind::Restamp | Kind::Release => false,
            };
            self.store.lives[node] == life || unproven
        });
        let mut all = items.iter();
        let committed = alive && proven && all.all(|item| self.holds(item, bounds.broken));
        if committed {
            self.store.revision += 1;
            for item in &items {
                self.pass_on(from.0, item);
                let value = Value {
                    revision: self.store.revision,
                    owner: item.owner,
                    parcel: item.parcel,
                };
                self.events.push(Event::Owner(item.shard, value));
                self.store.values[item.shard] = match item.owner {
                    Some(_) => value,
                    None => Value::default(),
                };
            }
        }
        let shown = items.into_iter().map(|item| {
            let value = self.store.values[item.shard];
            // A key that does not exist is known to be absent as of the reply's revision.
            let revision = match value.owner {
                Some(_) => value.revision,
                None => self.store.revision,
            };
            (item, Value { revision, ..value })
        });
        let items = shown.collect();
        self.replies.push(Reply {
            to: from,
            committed,
            items,
        });
    }

    /// Notes where the newest objects are once a hand-over commits: where they were sent to.
    fn pass_on(&mut self, from: usize, item: &Item) {
        if item.kind != Kind::HandOver {
            return;
        }
        let (node, life) = item.owner.expect("the target");
        if self.store.lives[node] != Some(life) {
            self.wrong = Some(Wrong::Objects("they go to a life that is over"));
        }
        let came = self.store.values[item.shard].parcel;
        let local = &mut self.processes[from].shards[item.shard];
        let is_staged = |(parcel, _)| Some(parcel) == came;
        if local.staged.is_some_and(is_staged) {
            self.wrong = Some(Wrong::Objects("what came with the shard is passed by"));
        }
        local.objects = local.objects.map(|_| false);
    }

    /// Whether the guard of a shard's owner key holds.
    fn holds(&self, item: &Item, broken: Broken) -> bool {
        let value = self.store.values[item.shard];
        let exists = value.owner.is_some();
        let unguarded = match item.kind {
            Kind::Release => broken == Broken::GuardOfRelease && exists,
            Kind::HandOver => broken == Broken::GuardOfHandOver,
            Kind::TakeOver => broken == Broken::GuardOfTakeOver,
            Kind::Claim | Kind::Restamp => false,
        };
        let stands_at = if exists { value.revision } else { 0 };
        stands_at == item.guard || unguarded
    }

    pub(crate) fn deliver(&mut self, index: usize, bounds: Bounds) {
        let Reply {
            to: (to, life),
            committed,
            items,
        } = self.replies.remove(index);
        let process = &mut self.processes[to];
        let Some(present) = process.life.map(|life| (process.name, life)) else {
            return;
        };
        let is_unchecked = bounds.broken == Broken::ReplyOfEarlierLife;
        if present != life && !is_unchecked {
            return; // What an earlier life was told counts for nothing.
        }
        for (item, value) in &items {
            let mut value = *value;
            if committed && is_unchecked && value.owner == Some(life) {
                value.owner = Some(present);
            }
            let known = process.known.owner(item.shard);
            let is_news = committed || value.owner.or(known.owner).is_some();
            if is_news {
                process.known.learn(item.shard, value, bounds.broken);
            }
        }
        let items = items.into_iter().map(|(item, _)| item).collect();
        let ending = if committed {
            Ending::Committed
        } else {
            Ending::Refused
        };
        self.end_all((to, life), items, ending, bounds);
    }

    pub(crate) fn end_all(
        &mut self,
        (index, (name, life)): (usize, Life),
        items: Vec<Item>,
        ending: Ending,
        bounds: Bounds,
    ) {
        let process = &mut self.processes[index];
        if (process.name, process.life) != (name, Some(life)) {
            return;
        }
        for item in items.into_iter().filter(|item| item.awaited) {
            let local = &mut process.shards[item.shard];
            local.phase = after_end(local.phase, ending, self.store.values[item.shard], bounds);
        }
    }
}

impl Reply {
    pub(crate) fn is_awaited(&self) -> bool {
        self.items.iter().any(|(item, _)| item.awaited)
    }
}
