//! What calls and answers claim about owners, ahead of the watch.
//!
//! A claim is never knowledge: without TLS anybody can send one. It makes the process read the owner
//! key in the store, and what the store has reaches routing as any other change of the view. Only
//! the call that was answered with a claim may follow it, once; nothing here remembers claims
//! (ADR-0033).

use std::fmt;

use super::frame::Answer;
use super::router::Inner;
use crate::ids::{Place, Revision, ShardId, Token};
use crate::placement::{ClusterView, Owner};

/// Where routing reports what other nodes claim about owners.
pub trait OwnerClaims: fmt::Debug + Send + Sync + 'static {
    /// Another node claims that a shard's owner key was written or deleted at `revision`, which the
    /// view does not have. It may be false. Must not block.
    fn claimed(&self, shard: ShardId, revision: Revision);
}

/// Who owns a shard, as one node claims to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ownership {
    /// The number of the shard, as the sender counts.
    pub(super) shard: u32,
    /// The life that owns it.
    pub(super) owner: Owner,
    /// The token of the ownership.
    pub(super) token: Token,
}

impl Ownership {
    /// Returns what the view knows of a shard; `None`: it has no owner.
    fn of(view: &ClusterView, shard: ShardId) -> Option<Self> {
        let record = view.owners.get(shard);
        Some(Self {
            shard: shard.get(),
            owner: record.owner.clone()?,
            token: view.token(shard),
        })
    }
}

impl Inner {
    /// Returns the newest ownership of the shard at a place; `None`: it has no owner, or the place
    /// is no shard.
    pub(super) fn ownership(&self, place: &Place) -> Option<Ownership> {
        match place {
            Place::Shard(shard) => Ownership::of(&self.settings.view.borrow(), *shard),
            Place::Node(_) => None,
        }
    }

    /// Whether this life of this node owns the shard at a place, as of the newest view: the table
    /// may not have followed yet.
    pub(super) fn owns(&self, place: &Place) -> bool {
        match place {
            Place::Shard(shard) => {
                let view = self.settings.view.borrow();
                let owner = view.live_owner(*shard);
                owner.is_some_and(|owner| owner.node == self.settings.node)
            }
            Place::Node(node) => *node == self.settings.node,
        }
    }

    /// Has the store asked about what another node claims of the shard at a place. Returns whether
    /// the claim may be true: it is about that shard, and newer than the view.
    pub(super) fn check(&self, place: &Place, claim: &Ownership) -> bool {
        let Place::Shard(shard) = place else {
            return false;
        };
        let generation = self.settings.view.borrow().meta.restore_generation;
        let comparable = claim.shard == shard.get() && claim.token.generation() == generation;
        comparable && self.check_revision(place, claim.token.revision())
    }

    /// Has the store asked about the shard at a place if the view does not have this revision of its
    /// owner key; returns whether that is so.
    pub(super) fn check_revision(&self, place: &Place, claimed: Revision) -> bool {
        let Place::Shard(shard) = place else {
            return false;
        };
        let known = self.settings.view.borrow().owners.get(*shard).revision;
        let newer = claimed > known;
        if newer {
            self.settings.claims.claimed(*shard, claimed);
        }
        newer
    }

    /// Has the store asked about what an answer claims. Returns the claim if a call may follow it.
    pub(super) fn check_answer<'a>(
        &self,
        place: &Place,
        answer: &'a Answer,
    ) -> Option<&'a Ownership> {
        match answer {
            Answer::Moved(claim) => self.check(place, claim).then_some(&**claim),
            Answer::NotOwner(revision) => {
                self.check_revision(place, *revision);
                None
            }
            Answer::Reply(_) | Answer::Failed(_) => None,
        }
    }
}
