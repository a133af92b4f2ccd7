//! How a shard's objects end here, or go: closed, ended in order, let go, or dropped.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Host;
use crate::ids::{ObjectKey, ShardId};
use crate::object::closing;
use crate::object::directory::{Slot, Stage, Table};

/// How closing a shard ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closing {
    /// No turn runs and none will. Its objects are as they were.
    Closed,
    /// These turns did not end in time; the shard is open again.
    Overdue(Vec<(ObjectKey, String)>),
}

impl Host {
    /// Closes a shard: no new turn starts and running turns end within `limit`. Its objects stay as
    /// they are, until [`Host::open`] lets them go on, [`Host::end`] ends them, or
    /// [`Host::let_go`] or [`Host::discard`] drops them. A shard that is not open is closed already.
    ///
    /// Cancel safety: once begun, closing goes on though nobody waits for it.
    pub async fn close(&self, shard: ShardId, limit: Duration) -> Closing {
        self.close_slot(&self.slots[shard.index()], limit).await
    }

    /// Closes the place of the objects that are bound to this node, as [`Host::close`] does, and
    /// ends them in what is left of the time, as [`Host::end`] does.
    pub async fn close_node_bound(self: &Arc<Self>, limit: Duration) -> Closing {
        let by = Instant::now() + limit;
        let closing = self.close_slot(&self.node_bound, limit).await;
        self.end_slot(&self.node_bound, by - Instant::now()).await;
        closing
    }

    /// Ends the objects of a closed shard in order: deactivation hooks, last saves; then drops them.
    /// Takes no longer than `limit`, and at least a second if need be; what takes longer is
    /// abandoned and logged.
    ///
    /// Cancel safety: once begun, it goes on though nobody waits for it.
    pub async fn end(self: &Arc<Self>, shard: ShardId, limit: Duration) {
        self.end_slot(&self.slots[shard.index()], limit).await;
    }

    /// Drops the objects of a closed shard without hooks or saves: they were packed, and another
    /// node has them now.
    pub fn let_go(&self, shard: ShardId) {
        self.discard(shard);
    }

    /// Drops a shard's objects without saving and closes it: another node owns it. Ends a closing
    /// of it.
    pub fn discard(&self, shard: ShardId) {
        self.discard_slot(&self.slots[shard.index()]);
    }

    /// Drops every activation of every shard without saving, and closes every shard: the lease
    /// is lost. Running turns cannot store or answer any more.
    pub fn discard_all(&self) {
        self.staging.clear();
        self.common.probation.expire();
        for slot in self.all_slots() {
            self.discard_slot(slot);
        }
    }

    /// Notes that a shard's turns are held up no more.
    pub(in crate::object) fn unhold(&self, table: &mut Table) {
        if let Some(since) = table.held.take() {
            let metrics = &self.common.metrics.objects;
            metrics
                .lock_hold_seconds
                .observe(since.elapsed().as_secs_f64());
            metrics.locks_held_exclusive.dec();
        }
    }

    async fn close_slot(&self, slot: &Arc<Slot>, limit: Duration) -> Closing {
        let metrics = self.common.metrics.objects.clone();
        let closing = closing::close(slot.clone(), limit, metrics);
        let ended = self.common.tasks.spawn_work(closing).await;
        ended.unwrap_or_else(|_| Closing::Overdue(Vec::new())) // The process ends.
    }

    async fn end_slot(self: &Arc<Self>, slot: &Arc<Slot>, limit: Duration) {
        let ending = closing::end(self.clone(), slot.clone(), limit);
        // If it fails the process ends.
        let _ = self.common.tasks.spawn_work(ending).await;
    }

    fn discard_slot(&self, slot: &Slot) {
        slot.watching.end();
        if let Some(shard) = slot.shard {
            self.common.probation.end(shard);
        }
        let mut table = slot.table.write();
        table.stage = Stage::Closed;
        table.round += 1; // A closing under way sees that it is overtaken.
        self.unhold(&mut table);
        let dormant = std::mem::take(&mut table.dormant);
        let objects = table.take_all();
        drop(table);
        drop(dormant);
        for object in objects {
            object.discard();
        }
        slot.quiet.notify_waiters();
    }
}
