//! The keys, leases and history of the memory store. Pure: `now` is an argument.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::coordination::store::{
    Compare, Entry, Event, Listing, Op, StoreError, Txn, TxnReply, WatchBatch,
};
use crate::ids::{LeaseId, Revision};

/// How many changed revisions are kept for watches; older ones are compacted away.
const HISTORY_LEN_MAX: usize = 100_000;

/// The shortest time to live of a lease, as in etcd with its default timings.
const LEASE_TTL_MIN: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
pub(super) struct Database {
    revision: Revision,
    /// Changes before this revision are forgotten.
    compacted: Revision,
    keys: BTreeMap<String, Record>,
    leases: BTreeMap<LeaseId, Lease>,
    leases_granted: i64,
    /// The changes of each revision that changed something, oldest first.
    history: VecDeque<(Revision, Vec<Event>)>,
    /// Transactions that come late, by the moment they come and their order.
    late: BTreeMap<(Instant, usize), Txn>,
    late_count: usize,
}

#[derive(Clone, Debug)]
struct Record {
    entry: Entry,
    lease: Option<LeaseId>,
}

#[derive(Clone, Debug)]
struct Lease {
    ttl: Duration,
    ends: Instant,
    keys: BTreeSet<String>,
}

impl Database {
    /// Makes an empty one at revision 1, as etcd begins.
    pub(super) fn new() -> Self {
        Self {
            revision: Revision::new(1),
            compacted: Revision::default(),
            keys: BTreeMap::new(),
            leases: BTreeMap::new(),
            leases_granted: 0,
            history: VecDeque::new(),
            late: BTreeMap::new(),
            late_count: 0,
        }
    }

    /// Returns the newest revision.
    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    /// Begins again with the same data: leases have all their time, and what was under way is lost.
    pub(super) fn restarted(mut self, now: Instant) -> Self {
        for lease in self.leases.values_mut() {
            lease.ends = now + lease.ttl;
        }
        self.late.clear();
        self
    }

    /// Returns what changes whenever a watcher should look again.
    pub(super) fn stamp(&self) -> (Revision, Revision, Option<Instant>) {
        (self.revision, self.compacted, self.next_due())
    }

    /// Returns when the next thing happens by itself.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let lease = self.leases.values().map(|lease| lease.ends).min();
        let late = self.late.first_key_value().map(|((due, _), _)| *due);
        [lease, late].into_iter().flatten().min()
    }

    /// Lets happen what is due: leases end and late transactions come, in order of time.
    pub(super) fn advance(&mut self, now: Instant) {
        while let Some(due) = self.next_due().filter(|due| *due <= now) {
            let ended = self.leases.iter().find(|(_, lease)| lease.ends == due);
            if let Some((&lease, _)) = ended {
                self.end_lease(lease);
            } else if let Some((_, txn)) = self.late.pop_first() {
                drop(self.commit(&txn)); // Nobody waits for the answer any more.
            }
        }
    }

    /// Returns all keys with this prefix.
    pub(super) fn list(&self, prefix: &str) -> Listing {
        let entries = self
            .keys
            .range(prefix.to_owned()..)
            .take_while(|(key, _)| key.starts_with(prefix));
        Listing {
            revision: self.revision,
            entries: entries.map(|(_, record)| record.entry.clone()).collect(),
        }
    }

    /// Returns the changes of keys with this prefix since revision `from`; `None` if that is yet
    /// to come.
    pub(super) fn changes(
        &self,
        prefix: &str,
        from: Revision,
    ) -> Result<Option<WatchBatch>, StoreError> {
        if from < self.compacted {
            return Err(StoreError::Compacted(self.compacted));
        }
        if from > self.revision {
            return Ok(None);
        }
        let start = self
            .history
            .partition_point(|(revision, _)| *revision < from);
        let events = self
            .history
            .range(start..)
            .flat_map(|(_, events)| events)
            .filter(|event| key_of(event).starts_with(prefix));
        Ok(Some(WatchBatch {
            revision: self.revision,
            events: events.cloned().collect(),
        }))
    }

    /// Runs a transaction.
    pub(super) fn commit(&mut self, txn: &Txn) -> Result<TxnReply, StoreError> {
        let succeeded = txn.compares.iter().all(|compare| self.holds(compare));
        for ops in [&txn.then, &txn.otherwise] {
            refuse_doubled_writes(ops)?;
        }
        let ops = if succeeded { &txn.then } else { &txn.otherwise };
        self.refuse_lost_leases(ops)?;
        let mut change = Change::new(self.revision);
        let mut reads = Vec::new();
        for op in ops {
            match op {
                Op::Put { key, value, lease } => self.put(key, value, *lease, &mut change),
                Op::Delete(key) => self.delete(key, &mut change),
                Op::Get(key) => reads.push(self.keys.get(key).map(|record| record.entry.clone())),
            }
        }
        self.record(change);
        Ok(TxnReply {
            succeeded,
            revision: self.revision,
            reads,
        })
    }

    /// Lets a transaction come at the moment `due`.
    pub(super) fn commit_at(&mut self, due: Instant, txn: Txn) {
        self.late_count += 1;
        self.late.insert((due, self.late_count), txn);
    }

    /// Grants a lease.
    pub(super) fn grant(&mut self, ttl: Duration, now: Instant) -> LeaseId {
        let whole = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        let ttl = Duration::from_secs(whole).max(LEASE_TTL_MIN);
        self.leases_granted += 1;
        let id = LeaseId::new(self.leases_granted);
        let lease = Lease {
            ttl,
            ends: now + ttl,
            keys: BTreeSet::new(),
        };
        self.leases.insert(id, lease);
        id
    }

    /// Keeps a lease alive for its time to live from now.
    pub(super) fn renew(&mut self, id: LeaseId, now: Instant) -> Result<(), StoreError> {
        let lease = self.leases.get_mut(&id).ok_or(StoreError::LeaseGone(id))?;
        lease.ends = now + lease.ttl;
        Ok(())
    }

    /// Ends a lease, if it lives, and deletes its keys in one revision.
    pub(super) fn end_lease(&mut self, id: LeaseId) {
        let Some(lease) = self.leases.remove(&id) else {
            return;
        };
        let mut change = Change::new(self.revision);
        for key in &lease.keys {
            self.delete(key, &mut change);
        }
        self.record(change);
    }

    /// Forgets the changes before `revision`.
    pub(super) fn compact(&mut self, revision: Revision) {
        self.compacted = revision.min(self.revision).max(self.compacted);
        while let Some((oldest, _)) = self.history.front()
            && *oldest < self.compacted
        {
            self.history.pop_front();
        }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let entry = |key| self.keys.get(key).map(|record: &Record| &record.entry);
        match compare {
            Compare::Created(key, revision) => {
                entry(key).map_or(Revision::default(), |entry| entry.create_revision) == *revision
            }
            Compare::Modified(key, revision) => {
                entry(key).map_or(Revision::default(), |entry| entry.mod_revision) == *revision
            }
        }
    }

    fn refuse_lost_leases(&self, ops: &[Op]) -> Result<(), StoreError> {
        let lost = ops.iter().find_map(|op| match op {
            Op::Put { lease, .. } => lease.filter(|lease| !self.leases.contains_key(lease)),
            Op::Delete(_) | Op::Get(_) => None,
        });
        lost.map_or(Ok(()), |lease| Err(StoreError::LeaseGone(lease)))
    }

    fn put(&mut self, key: &str, value: &[u8], lease: Option<LeaseId>, change: &mut Change) {
        let before = self.keys.get(key);
        let entry = Entry {
            key: key.into(),
            value: value.into(),
            create_revision: before.map_or(change.revision, |record| record.entry.create_revision),
            mod_revision: change.revision,
            lease,
        };
        self.detach(key);
        if let Some(lease) = lease.and_then(|lease| self.leases.get_mut(&lease)) {
            lease.keys.insert(key.into());
        }
        change.events.push(Event::Put(entry.clone()));
        self.keys.insert(key.into(), Record { entry, lease });
    }

    fn delete(&mut self, key: &str, change: &mut Change) {
        self.detach(key);
        if self.keys.remove(key).is_some() {
            change.events.push(Event::Delete {
                key: key.into(),
                revision: change.revision,
            });
        }
    }

    /// Takes a key off the lease it hangs on.
    fn detach(&mut self, key: &str) {
        let lease = self.keys.get(key).and_then(|record| record.lease);
        if let Some(lease) = lease.and_then(|lease| self.leases.get_mut(&lease)) {
            lease.keys.remove(key);
        }
    }

    fn record(&mut self, change: Change) {
        if change.events.is_empty() {
            return; // As in etcd: what changes nothing makes no revision.
        }
        self.revision = change.revision;
        self.history.push_back((change.revision, change.events));
        if self.history.len() > HISTORY_LEN_MAX {
            let second = self.history[1].0;
            self.compact(second);
        }
    }
}

/// The events of a revision in the making.
struct Change {
    revision: Revision,
    events: Vec<Event>,
}

impl Change {
    fn new(after: Revision) -> Self {
        Self {
            revision: Revision::new(after.get() + 1),
            events: Vec::new(),
        }
    }
}

fn refuse_doubled_writes(ops: &[Op]) -> Result<(), StoreError> {
    let mut written = BTreeSet::new();
    for op in ops {
        match op {
            Op::Put { key, .. } | Op::Delete(key) => {
                if !written.insert(key) {
                    return Err(StoreError::Protocol(format!("`{key}` is written twice")));
                }
            }
            Op::Get(_) => {}
        }
    }
    Ok(())
}

fn key_of(event: &Event) -> &str {
    match event {
        Event::Put(entry) => &entry.key,
        Event::Delete { key, .. } => key,
    }
}
