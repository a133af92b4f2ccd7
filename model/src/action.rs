//! What can happen next in a world.

use std::collections::BTreeSet;

use steading::placement::ownership::{Ending, Step};

use crate::known::Event;
use crate::node::is_sent;
use crate::rules::Broken;
use crate::world::{Bounds, World};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A process's watch brings the next event.
    Watch(usize),
    /// A process takes the next step of a shard.
    Step(usize, usize, Step),
    /// A process takes a step of every shard, in one transaction.
    Together(usize, Vec<Step>),
    /// The host's work ends, or what was sent gets too old.
    End(usize, usize, Ending),
    /// A process's fence closes.
    Suspend(usize),
    /// A process finds its life to stand, and opens its fence.
    Resume(usize),
    /// A machine that was suspended wakes, and its clock does not know that time has passed. Only
    /// where that rule is broken: the real clock makes it find its fence closed.
    Wake(usize),
    /// A process crashes, or learns that its lease is lost.
    Die(usize),
    /// A process begins another life.
    Join(usize),
    /// A process joins under the name of another.
    JoinAs(usize, usize),
    /// The store ends a lease.
    Expire(usize),
    /// The store runs a transaction.
    Apply(usize),
    /// A transaction surely does not happen, and its sender hears of it.
    Decline(usize),
    /// Its sender gives up waiting.
    GiveUp(usize),
    /// It never happens, and nobody hears of it.
    Drop(usize),
    Deliver(usize),
    LoseReply(usize),
    DeliverForward(usize),
    LoseForward(usize),
    /// A turn begins to save.
    Write(usize, usize),
    /// A write reaches storage.
    Land(usize),
}

impl World {
    pub(crate) fn actions(&self, bounds: Bounds, actions: &mut Vec<Action>) {
        if self.wrong.is_some() {
            return;
        }
        for process in 0..self.processes.len() {
            self.actions_of(process, bounds, actions);
        }
        for node in 0..bounds.nodes {
            if self.may_expire(node, bounds) {
                actions.push(Action::Expire(node));
            }
        }
        for (index, txn) in self.txns.iter().enumerate() {
            if self.replies.len() < bounds.txns && !self.lags(bounds) {
                actions.push(Action::Apply(index));
            }
            if txn.items.iter().any(|item| item.awaited) {
                actions.extend([Action::Decline(index), Action::GiveUp(index)]);
            } else {
                actions.push(Action::Drop(index));
            }
        }
        let replies = 0..self.replies.len();
        actions
            .extend(replies.flat_map(|reply| [Action::Deliver(reply), Action::LoseReply(reply)]));
        let forwards = 0..self.forwards.len();
        actions.extend(forwards.flat_map(|forward| {
            [
                Action::DeliverForward(forward),
                Action::LoseForward(forward),
            ]
        }));
        actions.extend((0..self.writes.len()).map(Action::Land));
    }

    fn actions_of(&self, index: usize, bounds: Bounds, actions: &mut Vec<Action>) {
        let process = &self.processes[index];
        let has_trouble_left = self.troubles < bounds.troubles;
        if self.next_event(index).is_some() {
            actions.push(Action::Watch(index));
        }
        if process.life.is_none() {
            if self.store.lives[process.name].is_none() && !self.lags(bounds) {
                actions.push(Action::Join(index));
            }
            if bounds.broken == Broken::NodeKeyPutOver {
                let others = (0..bounds.nodes).filter(|node| self.store.lives[*node].is_some());
                actions.extend(others.map(|node| Action::JoinAs(index, node)));
            }
            return;
        }
        if has_trouble_left {
            actions.push(Action::Die(index));
        }
        if process.fence_open && has_trouble_left {
            actions.push(Action::Suspend(index));
        }
        if !process.fence_open && self.store.lives[process.name] == process.life {
            actions.push(Action::Resume(index));
        }
        if !process.fence_open && bounds.broken == Broken::ClockStopsInSuspend {
            actions.push(Action::Wake(index));
        }
        if !process.fence_open && self.store.lives[process.name] != process.life {
            actions.push(Action::Die(index)); // It learns what happened.
        }
        for shard in 0..bounds.shards {
            let endings = self.endings(index, shard).into_iter();
            actions.extend(endings.map(|ending| Action::End(index, shard, ending)));
            if self.writes.len() < bounds.writes && self.serves(index, shard).is_some() {
                actions.push(Action::Write(index, shard));
            }
            let has_room = self.txns.len() < bounds.txns;
            for step in self.next_steps(index, shard, bounds) {
                if process.fence_open && (has_room || !is_sent(step)) {
                    actions.push(Action::Step(index, shard, step));
                }
            }
        }
        self.steps_together(index, bounds, actions);
    }

    /// Adds the steps that all shards can take in one transaction.
    fn steps_together(&self, index: usize, bounds: Bounds, actions: &mut Vec<Action>) {
        let may_send = self.processes[index].fence_open && self.txns.len() < bounds.txns;
        if bounds.shards < 2 || !may_send {
            return;
        }
        let of_shards = (0..bounds.shards).map(|shard| self.steps(index, shard, bounds));
        let of_shards: Vec<Vec<Option<Step>>> = of_shards.collect();
        for plan in 0..of_shards[0].len() {
            let steps = of_shards.iter().map(|steps| steps[plan]);
            let Some(steps) = steps.collect::<Option<Vec<Step>>>() else {
                continue;
            };
            let proofs = steps.iter().enumerate();
            let txns: BTreeSet<_> = proofs
                .map(|(shard, step)| is_sent(*step).then(|| self.kind_of(index, shard, *step)))
                .collect();
            if txns.len() == 1 && !txns.contains(&None) {
                let together = Action::Together(index, steps);
                if !actions.contains(&together) {
                    actions.push(together);
                }
            }
        }
    }

    /// Whether the store may end the lease of a node: only if whoever holds it does not serve.
    fn may_expire(&self, node: usize, bounds: Bounds) -> bool {
        let life = self.store.lives[node];
        let mut processes = self.processes.iter();
        let holder = processes.find(|process| process.name == node && process.life == life);
        let is_rash = matches!(bounds.broken, Broken::Fence | Broken::LeaderDeletesNode);
        let trusts_nobody = is_rash && self.troubles < bounds.troubles;
        let serves = holder.is_some_and(|process| process.fence_open);
        life.is_some() && (!serves || trusts_nobody) && !self.lags(bounds)
    }

    /// Whether some watch is as far behind as it may be. Nothing happens then that it must bring.
    fn lags(&self, bounds: Bounds) -> bool {
        let revisions = self.events.iter().map(|event| event.revision());
        revisions.collect::<BTreeSet<_>>().len() >= bounds.lag
    }

    pub(crate) fn next_event(&self, index: usize) -> Option<Event> {
        let seen = self.processes[index].known.revision();
        let mut events = self.events.iter();
        events.find(|event| event.revision() > seen).copied()
    }
}
