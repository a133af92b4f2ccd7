//! Where the parts of a world mention revisions.

use crate::node::Process;
use crate::renumber::Renumber;
use crate::store::{Item, Reply, Txn};
use crate::world::{Forward, World, Write};

impl Renumber for World {
    fn numbers(&self, seen: &mut dyn FnMut(u64)) {
        seen(self.store.revision);
        self.store.lives.numbers(seen);
        self.store.values.numbers(seen);
        self.events.numbers(seen);
        self.processes.numbers(seen);
        self.txns.numbers(seen);
        self.replies.numbers(seen);
        self.forwards.numbers(seen);
        self.writes.numbers(seen);
        self.loaded.numbers(seen);
    }

    fn renumber(&mut self, new: &dyn Fn(u64) -> u64) {
        self.store.revision = new(self.store.revision);
        self.store.lives.renumber(new);
        self.store.values.renumber(new);
        self.events.renumber(new);
        self.processes.renumber(new);
        self.txns.renumber(new);
        self.replies.renumber(new);
        self.forwards.renumber(new);
        self.writes.renumber(new);
        self.loaded.renumber(new);
    }
}

impl Renumber for Process {
    fn numbers(&self, seen: &mut dyn FnMut(u64)) {
        self.life.numbers(seen);
        self.known.numbers(seen);
        for local in &self.shards {
            local.phase.numbers(seen);
            local.staged.map(|(parcel, _)| parcel).numbers(seen);
        }
    }

    fn renumber(&mut self, new: &dyn Fn(u64) -> u64) {
        self.life.renumber(new);
        self.known.renumber(new);
        for local in &mut self.shards {
            local.phase.renumber(new);
            if let Some((parcel, _)) = &mut local.staged {
                parcel.renumber(new);
            }
        }
    }
}

impl Renumber for Txn {
    fn numbers(&self, seen: &mut dyn FnMut(u64)) {
        self.from.1.numbers(seen);
        self.proof.numbers(seen);
        self.items.numbers(seen);
    }

    fn renumber(&mut self, new: &dyn Fn(u64) -> u64) {
        self.from.1.renumber(new);
        self.proof.renumber(new);
        self.items.renumber(new);
    }
}

impl Renumber for Item {
    fn numbers(&self, seen: &mut dyn FnMut(u64)) {
        seen(self.guard);
        self.owner.numbers(seen);
        self.parcel.numbers(seen);
    }

    fn renumber(&mut self, new: &dyn Fn(u64) -> u64) {
        self.guard = new(self.guard);
        self.owner.renumber(new);
        self.parcel.renumber(new);
    }
}

impl Renumber for Reply {
    fn numbers(&self, seen: &mut dyn FnMut(u64)) {
        self.to.1.numbers(seen);
        for (item, value) in &self.items {
            item.numbers(seen);
            value.numbers(seen);
        }
    }

    fn renumber(&mut self, new: &dyn Fn(u64) -> u64) {
        self.to.1.renumber(new);
        for (item, value) in &mut self.items {
            item.renumber(new);
            value.renumber(new);
        }
    }
}

impl Renumber for Forward {
    fn numbers(&self, seen: &mut dyn FnMut(u64)) {
        self.value.numbers(seen);
    }

    fn renumber(&mut self, new: &dyn Fn(u64) -> u64) {
        self.value.renumber(new);
    }
}

impl Renumber for Write {
    fn numbers(&self, seen: &mut dyn FnMut(u64)) {
        seen(self.token);
    }

    fn renumber(&mut self, new: &dyn Fn(u64) -> u64) {
        self.token = new(self.token);
    }
}
