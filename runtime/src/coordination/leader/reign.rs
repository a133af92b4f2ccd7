//! One reign of this node: what it may write, and its drafts as transactions. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::book::{Book, Records};
use super::counting::Counting;
use super::draft::Draft;
use super::flights::Flights;
use crate::coordination::keys::{self, Keys};
use crate::coordination::membership::Identity;
use crate::coordination::store::{Compare, Op, Txn};
use crate::ids::{Revision, Term};
use crate::placement::ClusterView;

/// A reign of this node.
#[derive(Debug)]
pub(super) struct Reign {
    pub(super) term: Term,
    /// The revision at which the leader key was last written, as far as is known. Every draft
    /// writes that key again and compares it, so that the writes of one reign have one order: a
    /// write whose outcome was unknown cannot land after a later one and bring old targets back.
    pub(super) stamp: Revision,
    /// A view must have reached this revision to be planned from: it then has the targets of the
    /// reigns before, and of every write of this one.
    pub(super) must_see: Revision,
    /// The plans; `None` until they have been read from the store, as they have to be whenever a
    /// write of unknown outcome landed after all.
    pub(super) book: Option<Book>,
    pub(super) flights: Flights,
    /// Plans that have ended, whose objects are not counted yet.
    pub(super) counting: Counting,
    /// The view that plans and flights were last followed to.
    pub(super) seen: Option<Arc<ClusterView>>,
}

impl Reign {
    /// Begins a reign in which nothing was written yet.
    pub(super) fn new(term: Term) -> Self {
        let began = Revision::new(term.get());
        Self {
            term,
            stamp: began,
            must_see: began,
            book: None,
            flights: Flights::default(),
            counting: Counting::default(),
            seen: None,
        }
    }

    /// Returns the transaction that writes a draft and these records.
    pub(super) fn txn(
        &self,
        draft: &Draft<'_>,
        records: &Records,
        view: &ClusterView,
        me: &Identity,
        keys: &Keys,
    ) -> Txn {
        let mut targets = view.targets.clone();
        for (shard, target) in &draft.targets {
            targets.set(*shard, target.clone());
        }
        let shards = draft.targets.keys();
        let blocks: BTreeSet<u32> = shards.map(|shard| targets.block_of(*shard)).collect();
        let put = |key, value| Op::Put {
            key,
            value,
            lease: None,
        };
        let leader = Op::Put {
            key: keys.leader(),
            value: keys::encode_leader(&me.node),
            lease: Some(me.lease),
        };
        let blocks = blocks.into_iter().map(|block| {
            put(
                keys.target(block),
                keys::encode_targets(targets.block(block)),
            )
        });
        let written = records.written.iter();
        let written = written.map(|record| put(keys.plan(record.id), keys::encode_plan(record)));
        let orders = draft.orders.iter();
        let orders = orders.map(|orders| put(keys.orders(), keys::encode_orders(orders)));
        let deleted = records
            .deleted
            .iter()
            .map(|plan| Op::Delete(keys.plan(*plan)));
        let judged = draft.judged.iter();
        let judged = judged.map(|incarnation| Op::Delete(keys.activity(*incarnation)));
        Txn {
            compares: vec![
                Compare::Created(keys.leader(), Revision::new(self.term.get())),
                Compare::Modified(keys.leader(), self.stamp),
            ],
            then: std::iter::once(leader)
                .chain(blocks)
                .chain(orders)
                .chain(written)
                .chain(deleted)
                .chain(judged)
                .collect(),
            otherwise: vec![Op::Get(keys.leader())],
        }
    }

    /// Notes that a draft was written at `revision`.
    pub(super) fn written(&mut self, book: Book, revision: Revision) {
        self.book = Some(book);
        self.stamp = revision;
        self.must_see = revision;
    }
}
