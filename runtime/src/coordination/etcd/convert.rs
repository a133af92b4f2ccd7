//! Between the port's types and those of etcd's client.

use std::time::Duration;

use etcd_client::{
    Compare as EtcdCompare, CompareOp, Event as EtcdEvent, EventType, GetResponse, KeyValue,
    PutOptions, ResponseHeader, Txn as EtcdTxn, TxnOp, TxnOpResponse, TxnResponse,
};

use crate::coordination::store::{
    Compare, Entry, Event, Listing, Op, StoreError, Txn, TxnReply, WatchBatch,
};
use crate::ids::{LeaseId, Revision};

pub(super) fn listing(reply: &GetResponse) -> Result<Listing, StoreError> {
    Ok(Listing {
        revision: header_revision(reply.header())?,
        entries: reply.kvs().iter().map(entry).collect(),
    })
}

pub(super) fn txn(txn: Txn) -> EtcdTxn {
    let ops = |ops: Vec<Op>| ops.into_iter().map(op).collect::<Vec<_>>();
    EtcdTxn::new()
        .when(txn.compares.into_iter().map(compare).collect::<Vec<_>>())
        .and_then(ops(txn.then))
        .or_else(ops(txn.otherwise))
}

pub(super) fn txn_reply(reply: &TxnResponse) -> Result<TxnReply, StoreError> {
    let read = |response| match response {
        TxnOpResponse::Get(reply) => Some(reply.kvs().first().map(entry)),
        TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => None,
    };
    Ok(TxnReply {
        succeeded: reply.succeeded(),
        revision: header_revision(reply.header())?,
        reads: reply.op_responses().into_iter().filter_map(read).collect(),
    })
}

/// Returns the lease that a transaction names; all its puts have the same.
pub(super) fn lease_of(txn: &Txn) -> Option<LeaseId> {
    txn.then
        .iter()
        .chain(&txn.otherwise)
        .find_map(|op| match op {
            Op::Put { lease, .. } => *lease,
            Op::Delete(_) | Op::Get(_) => None,
        })
}

/// Rounds up to what etcd counts in.
pub(super) fn whole_seconds(ttl: Duration) -> i64 {
    let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

/// Returns the changes that an answer of a watch brings. Without any it tells that all of the
/// watch's changes up to the header's revision have been sent.
pub(super) fn batch(
    events: &[EtcdEvent],
    header: Option<&ResponseHeader>,
) -> Result<WatchBatch, StoreError> {
    let events: Vec<_> = events.iter().map(event).collect::<Result<_, _>>()?;
    let revision = match events.last() {
        // The header of a watch that is catching up is ahead of its events.
        Some(Event::Put(entry)) => entry.mod_revision,
        Some(Event::Delete { revision, .. }) => *revision,
        None => header_revision(header)?,
    };
    Ok(WatchBatch { revision, events })
}

pub(super) fn revision(raw: i64) -> Revision {
    Revision::new(u64::try_from(raw).expect("etcd's revisions are not negative"))
}

pub(super) fn raw(revision: Revision) -> i64 {
    i64::try_from(revision.get()).expect("etcd's revisions fit into an i64")
}

fn header_revision(header: Option<&ResponseHeader>) -> Result<Revision, StoreError> {
    header
        .map(|header| revision(header.revision()))
        .ok_or_else(|| StoreError::Protocol("an answer without a header".into()))
}

fn compare(compare: Compare) -> EtcdCompare {
    match compare {
        Compare::Created(key, at) => EtcdCompare::create_revision(key, CompareOp::Equal, raw(at)),
        Compare::Modified(key, at) => EtcdCompare::mod_revision(key, CompareOp::Equal, raw(at)),
    }
}

fn op(op: Op) -> TxnOp {
    match op {
        Op::Put { key, value, lease } => {
            let options = lease.map(|lease| PutOptions::new().with_lease(lease.get()));
            TxnOp::put(key, value, options)
        }
        Op::Delete(key) => TxnOp::delete(key, None),
        Op::Get(key) => TxnOp::get(key, None),
    }
}

fn entry(pair: &KeyValue) -> Entry {
    Entry {
        key: key(pair),
        value: pair.value().to_vec(),
        create_revision: revision(pair.create_revision()),
        mod_revision: revision(pair.mod_revision()),
        lease: (pair.lease() != 0).then(|| LeaseId::new(pair.lease())),
    }
}

/// Reads a key. One that is not UTF-8 is not ours; whoever reads keys will say so.
fn key(pair: &KeyValue) -> String {
    String::from_utf8_lossy(pair.key()).into_owned()
}

fn event(event: &EtcdEvent) -> Result<Event, StoreError> {
    let pair = event
        .kv()
        .ok_or_else(|| StoreError::Protocol("an event without a key".into()))?;
    Ok(match event.event_type() {
        EventType::Put => Event::Put(entry(pair)),
        EventType::Delete => Event::Delete {
            key: key(pair),
            revision: revision(pair.mod_revision()),
        },
    })
}
