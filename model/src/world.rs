//! A few nodes, a few shards, and a store whose transactions come late or never.
//!
//! What a node decides is the real code of `placement`: the view with its rule for owner news, the
//! facts, the next step, the phases. The rest is as little as it needs: what the reconciler
//! sends, what the store makes of it, and a host that knows where the newest state of each
//! shard's objects is. The target of a shard is anything at any time and differs from node to
//! node, so that no wrong plan is left out.
//!
//! Left out is time. A fence closes at any moment, and the lease of whoever does not serve ends at
//! any moment; that no lease ends before is what the tests of membership show.

use steading::placement::ownership::{Ending, Phase};

use crate::action::Action;
use crate::known::{Event, Known, Value};
use crate::node::{Local, Process};
use crate::renumber;
use crate::rules::Broken;
use crate::store::{Reply, Stored, Txn};

/// How far worlds go, and which rule they do without.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) nodes: usize,
    pub(crate) shards: usize,
    /// Transactions under way, and as many replies.
    pub(crate) txns: usize,
    /// Revisions that a watch may be behind.
    pub(crate) lag: usize,
    /// How often a life ends or a node is suspended.
    pub(crate) troubles: u8,
    /// Forwarded calls under way.
    pub(crate) forwards: usize,
    /// Writes under way to storage.
    pub(crate) writes: usize,
    /// Whether every world is also left alone, to see that it settles; else one of so many.
    pub(crate) calms_of: u64,
    pub(crate) broken: Broken,
}

#[derive(Clone, Debug, PartialEq, Hash)]
pub(crate) struct World {
    pub(crate) store: Stored,
    /// What some watch has yet to bring, oldest first.
    pub(crate) events: Vec<Event>,
    pub(crate) processes: Vec<Process>,
    /// Under way to the store, in no order.
    pub(crate) txns: Vec<Txn>,
    /// Under way from the store.
    pub(crate) replies: Vec<Reply>,
    pub(crate) forwards: Vec<Forward>,
    pub(crate) writes: Vec<Write>,
    /// The greatest token by which each shard's objects were loaded.
    pub(crate) loaded: Vec<u64>,
    pub(crate) troubles: u8,
    pub(crate) wrong: Option<Wrong>,
}

/// What has gone wrong by an action; a world that has come to this goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Wrong {
    /// The newest objects do not go on, and how.
    Objects(&'static str),
    StaleWrite,
}

/// A call that the old owner forwards, with the news of the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Forward {
    pub(crate) to: usize,
    pub(crate) shard: usize,
    pub(crate) value: Value,
}

/// A write to storage under a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Write {
    pub(crate) shard: usize,
    pub(crate) token: u64,
}

impl World {
    /// Begins with every node registered, nobody owning anything, and everybody knowing that.
    pub(crate) fn new(bounds: Bounds) -> Self {
        let lives: Vec<Option<u64>> = (1..).take(bounds.nodes).map(Some).collect();
        let revision = bounds.nodes as u64;
        let known = Known::new(&lives, bounds.shards, revision);
        let process = |name| Process {
            name,
            life: lives[name],
            fence_open: true,
            known: known.clone(),
            shards: vec![Local::default(); bounds.shards],
        };
        Self {
            processes: (0..bounds.nodes).map(process).collect(),
            store: Stored {
                revision,
                lives: lives.clone(),
                values: vec![Value::default(); bounds.shards],
            },
            events: Vec::new(),
            txns: Vec::new(),
            replies: Vec::new(),
            forwards: Vec::new(),
            writes: Vec::new(),
            loaded: vec![0; bounds.shards],
            troubles: 0,
            wrong: None,
        }
    }

    pub(crate) fn act(&mut self, bounds: Bounds, action: Action) {
        match action {
            Action::Watch(process) => self.watch(process, bounds),
            Action::Step(process, shard, step) => self.step(process, &[(shard, step)], bounds),
            Action::Together(process, steps) => {
                let steps: Vec<_> = steps.into_iter().enumerate().collect();
                self.step(process, &steps, bounds);
            }
            Action::End(process, shard, ending) => self.end_work(process, shard, ending),
            Action::Suspend(process) => {
                self.troubles += 1;
                self.processes[process].fence_open = false;
            }
            Action::Resume(process) => self.resume(process, bounds),
            Action::Wake(process) => self.processes[process].fence_open = true,
            Action::Die(process) => self.die(process, bounds),
            Action::Join(process) => self.join(process),
            Action::JoinAs(process, name) => {
                let life = self.store.lives[name];
                let process = &mut self.processes[process];
                (process.name, process.life, process.fence_open) = (name, life, true);
            }
            Action::Expire(node) => self.expire(node),
            Action::Apply(index) => self.apply(index, bounds),
            Action::Decline(index) => {
                let txn = self.txns.remove(index);
                self.end_all(txn.from, txn.items, Ending::NotSent, bounds);
            }
            Action::GiveUp(index) => {
                let (from, items) = (self.txns[index].from, self.txns[index].items.clone());
                for item in &mut self.txns[index].items {
                    item.awaited = false;
                }
                self.end_all(from, items, Ending::Unknown, bounds);
            }
            Action::Drop(index) => drop(self.txns.remove(index)),
            Action::Deliver(index) => self.deliver(index, bounds),
            Action::LoseReply(index) => {
                let reply = self.replies.remove(index);
                let items = reply.items.into_iter().map(|(item, _)| item).collect();
                self.end_all(reply.to, items, Ending::Unknown, bounds);
            }
            Action::DeliverForward(index) => self.deliver_forward(index, bounds),
            Action::LoseForward(index) => drop(self.forwards.remove(index)),
            Action::Write(process, shard) => {
                let token = self.serves(process, shard).expect("only who serves saves");
                self.loaded[shard] = self.loaded[shard].max(token);
                self.writes.push(Write { shard, token });
            }
            Action::Land(index) => self.land(index, bounds),
        }
        self.take_local_steps(bounds);
        self.txns.sort_unstable();
        self.replies.sort_unstable();
        self.forwards.sort_unstable();
        self.writes.sort_unstable();
        self.forget(bounds.broken);
        renumber::from_one_on(self);
    }

    /// Forgets what nothing depends on any more.
    fn forget(&mut self, broken: Broken) {
        let views = self
            .processes
            .iter()
            .map(|process| process.known.revision());
        let seen_by_all = views.min().unwrap_or_default();
        self.events.retain(|event| event.revision() > seen_by_all);
        for (shard, loaded) in self.loaded.iter_mut().enumerate() {
            if self.writes.iter().all(|write| write.shard != shard) {
                *loaded = 0;
            }
        }
        if broken != Broken::AnyParcelCounts {
            self.forget_staged();
        }
        // All that late news of this kind tells, a watch brings too.
        self.replies.retain(Reply::is_awaited);
    }

    /// Forgets what was sent and can no longer be named by an owner key, and its numbers.
    fn forget_staged(&mut self) {
        for (shard, value) in self.store.values.iter().enumerate() {
            let may_be_named =
                |parcel| Some(parcel) == value.parcel || parcel.revision.get() == value.revision;
            let mut is_numbered = false;
            for process in &mut self.processes {
                let local = &mut process.shards[shard];
                local.staged = local.staged.filter(|(parcel, _)| may_be_named(*parcel));
                is_numbered |= local.staged.is_some();
            }
            for process in &mut self.processes {
                let local = &mut process.shards[shard];
                let is_sent = matches!(
                    local.phase,
                    Phase::Sending(_, _) | Phase::Sent(_, _) | Phase::HandingOver(_, _)
                );
                if !is_numbered && !is_sent {
                    local.attempt = 0;
                }
            }
        }
    }

    fn deliver_forward(&mut self, index: usize, bounds: Bounds) {
        let Forward {
            to,
            shard,
            mut value,
        } = self.forwards.remove(index);
        let process = &mut self.processes[to];
        match process.life {
            Some(life) if bounds.broken == Broken::UncheckedForward => {
                value.owner = Some((to, life));
                process.known.believe(shard, value);
            }
            Some(_) => process.known.learn(shard, value, bounds.broken),
            None => {}
        }
    }

    fn land(&mut self, index: usize, bounds: Bounds) {
        let Write { shard, token } = self.writes.remove(index);
        let accepted = token >= self.loaded[shard] || bounds.broken == Broken::StorageIgnoresTokens;
        if accepted && token < self.loaded[shard] {
            self.wrong = Some(Wrong::StaleWrite);
        }
    }
}
