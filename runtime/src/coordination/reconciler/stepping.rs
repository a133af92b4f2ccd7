//! One pass: looks at every shard for which something may have changed, and starts its next step.

use std::mem;
use std::time::SystemTime;

use futures::FutureExt;
use rand::RngExt;
use tokio::time::Instant;
use tracing::{info, warn};

use super::batch::{Batch, batches};
use super::shards::Left;
use super::traced::Times;
use super::work::WORK_MAX;
use super::{Landing, RETRY_MAX, RETRY_MIN, Reconciler, SENT_LIMIT};
use crate::ids::{Incarnation, Revision, ShardId, Token};
use crate::placement::ownership::{Facts, Stance, Step};
use crate::placement::{NodeState, Owner, Parcel};

/// Most transactions under way at once.
const BATCHES_IN_FLIGHT_MAX: usize = 16;

impl Reconciler {
    /// Looks at every dirty shard and starts its next step.
    pub(super) fn pass(&mut self) {
        let now = Instant::now();
        self.see_news();
        self.dirty.extend(self.shards.rested(now));
        for _ in 0..self.shards.room(now) {
            self.dirty.extend(self.crowded.pop_first());
        }
        let dirty = mem::take(&mut self.dirty);
        let Some(me) = self.life.clone() else {
            return self.publish(now);
        };
        let may_write = self.may_write(&me);
        let stance = self.stance(&me);
        let mut wanted = Vec::new();
        for shard in dirty {
            // Owner news can run ahead of the view: look again when that has caught up.
            if self.seen.owners.get(shard).revision > self.seen.revision {
                self.dirty.insert(shard);
            }
            match self.step_here(shard, &me, stance, now) {
                Some(step) if may_write => wanted.push((shard, step)),
                Some(_) => self.shards.rest(shard, now, RETRY_MIN, RETRY_MAX),
                None => {}
            }
        }
        self.start(wanted, &me, now);
        self.publish(now);
    }

    /// Takes in the newest view, and marks the shards that it may concern.
    fn see_news(&mut self) {
        let seen = mem::replace(&mut self.seen, self.news.borrow_and_update().clone());
        let changed: Vec<ShardId> = self
            .seen
            .owners
            .changed_since(&seen.owners)
            .chain(self.seen.targets.changed_since(&seen.targets))
            .collect();
        for shard in changed {
            self.shards.forgive(shard);
            self.dirty.insert(shard);
        }
        if self.seen.nodes != seen.nodes {
            let now = &self.seen;
            self.shards.forgive_others(|shard| {
                let target = now.targets.get(shard).node.as_ref();
                target.is_some_and(|node| now.nodes.get(node) != seen.nodes.get(node))
            });
            self.look_at_all();
        }
    }

    pub(super) fn look_at_all(&mut self) {
        self.dirty.extend(self.seen.meta.shard_count.shards());
    }

    /// Runs the steps of a shard that need no right to write, and returns the one that does.
    fn step_here(
        &mut self,
        shard: ShardId,
        me: &Owner,
        stance: Stance,
        now: Instant,
    ) -> Option<Step> {
        let target = self.seen.targets.get(shard);
        // Nobody claims a quarantined shard, so nobody is behind with it either.
        let targeted = target.node.as_ref() == Some(&me.node) && !target.quarantined;
        loop {
            let facts = self.facts(shard, me, stance);
            self.shards.count(shard, facts.newest, targeted);
            let step = self.shards.next_step(shard, facts, now)?;
            match step {
                Step::Open(at) => self.open(shard, at, now),
                Step::LetGo => self.let_go(shard, now),
                Step::Discard => {
                    warn!(%shard, "another owner is known: discarding the shard");
                    self.parts.host.discard(shard);
                    self.shards.begin(shard, Step::Discard, now);
                }
                Step::HandOver(_, _) if self.shards.is_stale(shard, now, SENT_LIMIT) => {
                    warn!(%shard, "could not be handed over in time");
                    self.shards.expire(shard, now);
                    self.rest_undelivered(shard, now);
                }
                Step::Claim
                | Step::TakeOver(_)
                | Step::Close(_)
                | Step::SendAhead(_, _)
                | Step::HandOver(_, _)
                | Step::End(_)
                | Step::Release(_)
                | Step::Restamp(_) => return Some(step),
            }
        }
    }

    fn facts(&self, shard: ShardId, me: &Owner, stance: Stance) -> Facts {
        // There is no time to try again.
        let gives_up = stance == Stance::Leaves && self.shards.is_undelivered(shard);
        let stance = if gives_up { Stance::Abandons } else { stance };
        Facts::of(&self.seen, shard, me, stance)
    }

    fn stance(&self, me: &Owner) -> Stance {
        let registered = self.seen.nodes.get(&me.node);
        let state = registered
            .filter(|record| record.incarnation == me.incarnation)
            .map(|record| record.state);
        match (*self.leaving.borrow(), state) {
            (Some(_), _) => Stance::Leaves,
            (None, Some(NodeState::Active)) => Stance::Takes,
            (None, Some(NodeState::Joining | NodeState::Draining) | None) => Stance::Keeps,
        }
    }

    fn may_write(&self, me: &Owner) -> bool {
        let identity = self.parts.rights.to_write();
        identity.is_some_and(|identity| identity.incarnation == me.incarnation)
    }

    fn open(&mut self, shard: ShardId, at: Revision, now: Instant) {
        let token = Token::of(self.seen.meta.restore_generation, at);
        let parcel = self.seen.owners.get(shard).parcel;
        let is_new = self.shards.is_new(shard);
        let parcel = parcel.filter(|parcel| is_new && !parcel.is_empty());
        let began = SystemTime::now();
        let is_suspect = self.seen.targets.get(shard).suspicion.is_some();
        if is_new && (is_suspect || self.shards.is_taken_over(shard)) {
            self.parts.host.watch(shard);
        }
        self.parts.host.open(shard, token, parcel);
        if is_new {
            self.trace_open(shard, began);
        }
        if let Some(took) = self.shards.opened(shard, at, now) {
            let metrics = &self.parts.metrics.coordination;
            metrics.claim_seconds.observe(took.as_secs_f64());
        }
    }

    fn let_go(&mut self, shard: ShardId, now: Instant) {
        self.parts.host.let_go(shard);
        let owner = self.seen.owners.get(shard).owner.as_ref();
        let life = owner.map(|owner| owner.incarnation);
        match self.shards.let_go(shard, life, now) {
            Some(Left::HandedOver { commit, gap, total }) => {
                self.observe("commit", commit);
                self.observe("gap", gap);
                self.observe("total", total);
                self.trace_hand_over(shard, Times { gap, total });
            }
            Some(Left::Released { total }) => {
                let metrics = &self.parts.metrics.coordination;
                metrics.release_seconds.observe(total.as_secs_f64());
            }
            None => info!(%shard, ?owner, "newer news than this node's own: letting the shard go"),
        }
    }

    /// Starts what was wanted, as far as there is room; the rest stays dirty.
    fn start(&mut self, wanted: Vec<(ShardId, Step)>, me: &Owner, now: Instant) {
        let limit = self.leaving.borrow().unwrap_or(self.parts.drain_timeout);
        let mut room = self.shards.room(now).min(WORK_MAX - self.work.len());
        let mut to_send = Vec::new();
        for (shard, step) in wanted {
            match step {
                Step::Close(_) if room > 0 => {
                    room -= 1;
                    let number = self.shards.begin(shard, step, now);
                    self.work.close(shard, number, limit);
                }
                Step::Close(_) => {
                    self.crowded.insert(shard);
                }
                Step::SendAhead(at, life) => self.send_ahead(shard, at, life, now),
                Step::End(_) => {
                    let number = self.shards.begin(shard, step, now);
                    self.work.end(shard, number, limit);
                }
                Step::Claim
                | Step::TakeOver(_)
                | Step::HandOver(_, _)
                | Step::Release(_)
                | Step::Restamp(_) => to_send.push((shard, step)),
                Step::Open(_) | Step::LetGo | Step::Discard => {
                    unreachable!("it was run at once")
                }
            }
        }
        let waits = !self.crowded.is_empty();
        self.more_room = self.shards.more_room(now).filter(|_| waits);
        for batch in batches(to_send, &self.seen, me, &self.parts.keys) {
            // Asked again for each: building batches takes time, and the fence does not wait.
            if self.flights.len() < BATCHES_IN_FLIGHT_MAX && self.may_write(me) {
                self.send(batch, me.clone(), now);
            } else {
                self.dirty
                    .extend(batch.shards.iter().map(|(shard, _)| *shard));
            }
        }
    }

    fn send_ahead(&mut self, shard: ShardId, at: Revision, life: Incarnation, now: Instant) {
        let node = self.seen.targets.get(shard).node.clone();
        let to = Owner {
            node: node.expect("the target that has this life"),
            incarnation: life,
        };
        let number = self.shards.begin(shard, Step::SendAhead(at, life), now);
        let parcel = Parcel {
            revision: at,
            attempt: self.parts.rng.random_range(1..=u128::MAX),
        };
        self.work.send_ahead(shard, number, to, parcel);
    }

    fn send(&mut self, mut batch: Batch, life: Owner, now: Instant) {
        batch.number = self.shards.next_number();
        for (shard, step) in &batch.shards {
            self.shards.begin_as(*shard, *step, batch.number, now);
        }
        let store = self.parts.store.clone();
        let txn = mem::take(&mut batch.txn);
        let flight = async move {
            let result = store.commit(txn).await;
            Landing {
                batch,
                life,
                result,
            }
        };
        self.flights.push(flight.boxed());
    }
}
