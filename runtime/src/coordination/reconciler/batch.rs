//! Steps of many shards as transactions, and replies as news. Pure.

use std::collections::BTreeMap;

use crate::coordination::keys::{self, ABSENT, BadEntry, Keys};
use crate::coordination::store::{Compare, Op, StoreError, TXN_OPS_MAX, Txn, TxnReply};
use crate::ids::{Incarnation, NodeId, Revision, ShardId};
use crate::placement::ownership::{Ending, Step};
use crate::placement::{ClusterView, News, Owner, OwnerRecord, Parcel};

/// Most shards in one transaction: each needs a compare, and two compares of node keys go with
/// all of them.
pub(super) const BATCH_LEN_MAX: usize = TXN_OPS_MAX - 2;

/// Steps of one kind that succeed or fail together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) kind: Kind,
    pub(super) shards: Vec<(ShardId, Step)>,
    pub(super) txn: Txn,
    /// Tells this batch from every other of the reconciler; set when it is sent.
    pub(super) number: u64,
}

/// What the steps of a batch have in common. In order of urgency.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Closed shards for this life, which has their state.
    HandOver(Owner),
    /// Shards of nobody.
    Claim,
    /// Shards of this node, of a life that is over.
    TakeOver(NodeId),
    /// Shards of which a hand-over or release has an unknown outcome.
    Restamp,
    /// Shards to give up, to nobody.
    Release,
}

/// What a reply, or none, tells about the shards of a batch.
pub(super) struct Outcome {
    pub(super) ending: Ending,
    /// Only what is news to the view that it was read with.
    pub(super) news: Vec<News>,
    pub(super) bad: Vec<BadEntry>,
}

impl Kind {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::HandOver(_) => "hand_over",
            Self::Claim => "claim",
            Self::TakeOver(_) => "take_over",
            Self::Restamp => "restamp",
            Self::Release => "release",
        }
    }

    /// Returns what a step of this kind makes of the owner key, if the life `me` runs it.
    fn writes<'a>(&'a self, step: Step, me: &'a Owner) -> (Option<&'a Owner>, Option<Parcel>) {
        match (self, step) {
            (Self::HandOver(target), Step::HandOver(_, shipment)) => {
                (Some(target), Some(shipment.parcel))
            }
            (Self::Restamp, Step::Restamp(at)) => (Some(me), Some(Parcel::empty(at))),
            (Self::Claim, Step::Claim) | (Self::TakeOver(_), Step::TakeOver(_)) => (Some(me), None),
            (Self::Release, Step::Release(_)) => (None, None),
            (
                Self::HandOver(_) | Self::Claim | Self::TakeOver(_) | Self::Restamp | Self::Release,
                Step::Claim
                | Step::TakeOver(_)
                | Step::Open(_)
                | Step::Close(_)
                | Step::SendAhead(_, _)
                | Step::HandOver(_, _)
                | Step::End(_)
                | Step::Release(_)
                | Step::Restamp(_)
                | Step::LetGo
                | Step::Discard,
            ) => unreachable!("{step:?} is none of {self:?}"),
        }
    }

    fn of(shard: ShardId, step: Step, view: &ClusterView) -> Self {
        match step {
            Step::HandOver(_, shipment) => {
                let target = view.targets.get(shard).node.clone();
                Self::HandOver(Owner {
                    node: target.expect("whom to hand over to"),
                    incarnation: shipment.to,
                })
            }
            Step::Claim => Self::Claim,
            Step::TakeOver(_) => {
                let owner = view.owners.get(shard).owner.as_ref();
                Self::TakeOver(owner.expect("whom to take over from").node.clone())
            }
            Step::Restamp(_) => Self::Restamp,
            Step::Release(_) => Self::Release,
            Step::Open(_)
            | Step::Close(_)
            | Step::SendAhead(_, _)
            | Step::End(_)
            | Step::LetGo
            | Step::Discard => {
                unreachable!("{step:?} is no transaction")
            }
        }
    }
}

/// Makes transactions of steps on owner keys, the urgent ones first. One old owner to a
/// take-over and one target to a hand-over, so that its node key is compared once.
pub(super) fn batches(
    steps: Vec<(ShardId, Step)>,
    view: &ClusterView,
    me: &Owner,
    keys: &Keys,
) -> Vec<Batch> {
    let mut kinds: BTreeMap<Kind, Vec<(ShardId, Step)>> = BTreeMap::new();
    for (shard, step) in steps {
        kinds
            .entry(Kind::of(shard, step, view))
            .or_default()
            .push((shard, step));
    }
    let chunks = kinds.iter().flat_map(|(kind, steps)| {
        steps
            .chunks(BATCH_LEN_MAX)
            .map(move |shards| (kind.clone(), shards.to_vec()))
    });
    chunks
        .map(|(kind, shards)| Batch {
            txn: txn(&kind, &shards, view, me, keys),
            kind,
            shards,
            number: 0,
        })
        .collect()
}

fn txn(
    kind: &Kind,
    shards: &[(ShardId, Step)],
    view: &ClusterView,
    me: &Owner,
    keys: &Keys,
) -> Txn {
    let created =
        |owner: &Owner| Compare::Created(keys.node(&owner.node), revision_of(owner.incarnation));
    let mut compares = vec![created(me)];
    match kind {
        // An earlier life of this very node is over by the compare above.
        Kind::TakeOver(node) if *node != me.node => {
            let record = view.nodes.get(node);
            let now = record.map_or(ABSENT, |record| revision_of(record.incarnation));
            compares.push(Compare::Created(keys.node(node), now));
        }
        Kind::HandOver(target) => compares.push(created(target)),
        Kind::TakeOver(_) | Kind::Claim | Kind::Restamp | Kind::Release => {}
    }
    let mut then = Vec::with_capacity(shards.len());
    for (shard, step) in shards {
        let key = keys.owner(*shard);
        let (owner, parcel) = kind.writes(*step, me);
        then.push(match owner {
            Some(owner) => Op::Put {
                key: key.clone(),
                value: keys::encode_owner(owner, parcel),
                lease: None,
            },
            None => Op::Delete(key.clone()),
        });
        compares.push(match guard(*step) {
            ABSENT => Compare::Created(key, ABSENT),
            at => Compare::Modified(key, at),
        });
    }
    let otherwise = shards
        .iter()
        .map(|(shard, _)| Op::Get(keys.owner(*shard)))
        .collect();
    Txn {
        compares,
        then,
        otherwise,
    }
}

/// Returns the revision at which the owner key must stand.
fn guard(step: Step) -> Revision {
    match step {
        Step::Claim => ABSENT,
        Step::TakeOver(at) | Step::HandOver(at, _) | Step::Restamp(at) | Step::Release(at) => at,
        Step::Open(_)
        | Step::Close(_)
        | Step::SendAhead(_, _)
        | Step::End(_)
        | Step::LetGo
        | Step::Discard => unreachable!("{step:?} is no transaction"),
    }
}

fn revision_of(incarnation: Incarnation) -> Revision {
    Revision::new(incarnation.get())
}

impl Batch {
    /// Reads what became of this batch, sent by the life `me`.
    pub(super) fn outcome(
        &self,
        result: &Result<TxnReply, StoreError>,
        me: &Owner,
        view: &ClusterView,
    ) -> Outcome {
        let (mut news, mut bad) = (Vec::new(), Vec::new());
        let ending = match result {
            Ok(reply) if reply.succeeded => {
                let shards = self.shards.iter();
                news.extend(shards.map(|(shard, step)| self.committed(*shard, *step, reply, me)));
                Ending::Committed
            }
            Ok(reply) => {
                for ((shard, _), read) in self.shards.iter().zip(&reply.reads) {
                    let known = view.owners.get(*shard);
                    match keys::owner_news(*shard, read.as_ref(), reply.revision, known) {
                        Ok(shown) => news.extend(shown),
                        Err(error) => bad.push(error),
                    }
                }
                Ending::Refused
            }
            // A transaction that another store carried out is none of ours, but closed shards must
            // stay closed: this process ends.
            Err(StoreError::Unknown(_) | StoreError::Replaced(_)) => Ending::Unknown,
            Err(
                StoreError::Unavailable(_)
                | StoreError::Compacted(_)
                | StoreError::LeaseGone(_)
                | StoreError::TooManyOperations { .. }
                | StoreError::Limits(_)
                | StoreError::Refused(_)
                | StoreError::Protocol(_),
            ) => Ending::NotSent,
        };
        Outcome { ending, news, bad }
    }

    fn committed(&self, shard: ShardId, step: Step, reply: &TxnReply, me: &Owner) -> News {
        let (owner, parcel) = self.kind.writes(step, me);
        let record = OwnerRecord {
            revision: reply.revision,
            owner: owner.cloned(),
            parcel,
        };
        News::Owner(shard, record)
    }
}
