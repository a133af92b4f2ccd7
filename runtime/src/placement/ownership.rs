//! One shard as one node owns it, or not: where it stands, and the next step.
//!
//! Pure: looks at what is known of the shard (the newest owner news, the target, who lives) and at
//! the local [`Phase`], and says the one [`Step`] to start now. It asks "where are we?", never
//! "what changed?", so that a missed or repeated event cannot leave a shard stuck.
//! `coordination::reconciler` runs the steps; nothing here sends, waits or reads a clock.
//!
//! # The rule
//!
//! A shard is open here iff its newest known owner is (me, my incarnation) and I have not closed
//! it at that revision. News counts only if it is strictly newer ([`ClusterView::apply`]).
//!
//! # The steps, their guards, and what can fail after each
//!
//! - **Claim** creates the owner key. Guards: the key does not exist, else two nodes could both
//!   write themselves; my node key is of my incarnation, else a dead life could claim. If it is
//!   refused, the reply shows who was faster. If its outcome is unknown nothing is lost: wherever
//!   it lands, its news makes the shard open by the rule, under the token of that landing. So it
//!   may be sent again; the two have one guard, so at most one of them holds.
//! - **Take over** replaces an owner whose life is over. Guards: the key stands at the revision
//!   seen, else a newer owner would be overwritten; the old owner's node key is still as gone as
//!   it was seen, because only that proves that its fence has closed; mine lives. Failures are
//!   those of a claim.
//! - **Open** and **discard** are local and cannot fail. A shard is discarded, without saving,
//!   when news shows it owned by somebody else while it is open here: whatever it would save now
//!   bears an old token.
//! - **Close** waits for running turns. If they do not end in time the shard opens again, at the
//!   same revision, because nothing was sent.
//! - **Release** deletes the owner key. Guard: it stands at the revision at which I closed, else
//!   a late release would delete a later ownership, be it mine. It is sent only when closed, since
//!   a claim elsewhere can follow it at once. Refused, or surely not sent: still closed, and
//!   nothing is under way; decide again, which may reopen it. Unknown: **unresolved**, because
//!   the deletion may yet happen. Then neither time nor a read that shows my revision reopens the
//!   shard: a read cancels nothing that is still under way.
//! - **Restamp** writes me again over my own revision, the only step out of *unresolved* but news.
//!   Once it lands, everything sent at the old revision fails its guard for good. If it is refused
//!   and the reply shows the old revision (another shard of the batch was the reason) it proves
//!   nothing, and is sent again; so too if its own outcome is unknown. Its landing is news like
//!   any other: I own the shard under a new token, and have not closed it at that one.
//!
//! News newer than the revision at which something was sent resolves it, whatever its reply says:
//! its guard can never hold again. Only then, or when it was answered, is anything else sent.
//!
//! The loss of the lease leads to [`Phase::Idle`] from every phase: the store has deleted my node
//! key, so what is still under way fails, or names a life that is over.
//!
//! The direct hand-over will be one more step, out of [`Phase::Closed`] beside the release (see
//! [`Phase::next_step`]): same guard, same unknown outcome, and a put of the target's life where
//! the release deletes.

#[cfg(test)]
mod tests;

use super::{ClusterView, NodeState, Owner};
use crate::ids::{NodeId, Revision, ShardId};

/// Where one shard stands on this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Not open here, and nothing is under way.
    #[default]
    Idle,
    /// A claim or take-over is under way.
    Claiming,
    /// Open under the token of this revision.
    Open(Revision),
    /// Running turns are ending; nothing was sent yet.
    Closing(Revision),
    /// Closed by me at this revision, and nothing sent at it is unresolved.
    Closed(Revision),
    /// A release is under way.
    Releasing(Revision),
    /// A release at this revision may or may not happen yet.
    Unresolved(Revision),
    /// A restamp is under way, beside whatever is unresolved.
    Restamping(Revision),
}

/// What to do next about a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Create the owner key, which must not exist.
    Claim,
    /// Write me over an owner whose life is over, as of this revision.
    TakeOver(Revision),
    /// Open the shard under the token of this revision.
    Open(Revision),
    /// Let running turns end and begin none.
    Close(Revision),
    /// Delete the owner key, which must stand at this revision.
    Release(Revision),
    /// Write me again over this revision.
    Restamp(Revision),
    /// Drop everything of the shard without saving: somebody else owns it.
    Discard,
}

/// How a step under way ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// The transaction committed; its news was learned first.
    Committed,
    /// A guard did not hold; what the reply showed was learned first.
    Refused,
    /// It surely does not happen: it was not sent, or the store declined it.
    NotSent,
    /// It may have happened, or may happen yet.
    Unknown,
    /// No turn of the shard runs and none will.
    Closed,
    /// Turns did not end in time; the shard is open again.
    Overdue,
}

/// What is known of a shard when its next step is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Facts {
    /// The revision of the newest owner news; zero: none ever.
    pub revision: Revision,
    /// Whom that news names.
    pub newest: Newest,
    /// Where the shard should be.
    pub wish: Wish,
}

/// Whom the newest owner news of a shard names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Newest {
    /// Nobody: the key does not exist.
    Nobody,
    /// This life of this node.
    Me,
    /// A life that is over, be it an earlier one of this node.
    Gone,
    /// Another life that is registered, or so new that the view cannot know it yet.
    Other,
}

/// Where a shard should be, as it concerns this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wish {
    /// Here.
    Here,
    /// On another node, which can take it.
    Elsewhere,
    /// Nowhere in particular: what is open here stays, and nothing is taken.
    Anywhere,
}

/// How ready a node is to hold shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stance {
    /// It takes what is targeted at it.
    Takes,
    /// It takes nothing, and keeps what it has until another node can take it.
    Keeps,
    /// It gives up everything.
    Leaves,
}

impl Facts {
    /// Gathers what `view` knows of a shard for the life `me`.
    pub fn of(view: &ClusterView, shard: ShardId, me: &Owner, stance: Stance) -> Self {
        let record = view.owners.get(shard);
        let newest = match &record.owner {
            None => Newest::Nobody,
            Some(owner) if owner == me => Newest::Me,
            Some(owner) if is_over(view, owner) => Newest::Gone,
            Some(_) => Newest::Other,
        };
        Self {
            revision: record.revision,
            newest,
            wish: wish(view, shard, &me.node, stance),
        }
    }
}

/// Whether a life is proven over. A life that began after the view's revision is none the view
/// can tell of: owner news may run ahead of the rest of the view.
fn is_over(view: &ClusterView, owner: &Owner) -> bool {
    owner.incarnation.get() <= view.revision.get() && !view.is_live(owner)
}

fn wish(view: &ClusterView, shard: ShardId, me: &NodeId, stance: Stance) -> Wish {
    let target = view.targets.get(shard);
    let takes = |node: &NodeId| {
        let record = view.nodes.get(node);
        record.is_some_and(|record| record.state == NodeState::Active)
    };
    match (stance, &target.node) {
        (Stance::Leaves, Some(_) | None) => Wish::Elsewhere,
        (Stance::Takes | Stance::Keeps, None) => Wish::Anywhere,
        (Stance::Takes, Some(node)) if node == me && !target.quarantined => Wish::Here,
        (Stance::Takes | Stance::Keeps, Some(node)) if node == me => Wish::Anywhere,
        // A target that cannot take it would only leave it unowned.
        (Stance::Takes | Stance::Keeps, Some(node)) if takes(node) => Wish::Elsewhere,
        (Stance::Takes | Stance::Keeps, Some(_)) => Wish::Anywhere,
    }
}

impl Phase {
    /// Returns the step to start now, or `None` when there is nothing to do or one is under way
    /// that decides.
    pub fn next_step(self, facts: Facts) -> Option<Step> {
        match self {
            Self::Idle => follow(facts),
            // The claim's own landing may be seen before its reply.
            Self::Claiming => match facts.newest {
                Newest::Me => follow(facts),
                Newest::Nobody | Newest::Gone | Newest::Other => None,
            },
            Self::Open(at) | Self::Closing(at) if facts.revision > at => Some(Step::Discard),
            Self::Open(at) => match facts.wish {
                Wish::Here | Wish::Anywhere => None,
                Wish::Elsewhere => Some(Step::Close(at)),
            },
            Self::Closing(_) => None, // Decide again when it ends.
            Self::Closed(at)
            | Self::Releasing(at)
            | Self::Unresolved(at)
            | Self::Restamping(at)
                if facts.revision > at =>
            {
                follow(facts)
            }
            Self::Closed(at) => match facts.wish {
                Wish::Here | Wish::Anywhere => Some(Step::Open(at)),
                // The direct hand-over to a target that is ready will stand here.
                Wish::Elsewhere => Some(Step::Release(at)),
            },
            Self::Releasing(_) | Self::Restamping(_) => None,
            Self::Unresolved(at) => Some(Step::Restamp(at)),
        }
    }

    /// Returns the phase that a shard is in once `step` was started.
    #[must_use]
    pub fn after_start(step: Step) -> Self {
        match step {
            Step::Claim | Step::TakeOver(_) => Self::Claiming,
            Step::Open(at) => Self::Open(at),
            Step::Close(at) => Self::Closing(at),
            Step::Release(at) => Self::Releasing(at),
            Step::Restamp(at) => Self::Restamping(at),
            Step::Discard => Self::Idle,
        }
    }

    /// Returns the phase after the step under way ended. The caller makes sure that it is the
    /// step which led to this phase, and that its news was learned.
    #[must_use]
    pub fn after_end(self, ending: Ending) -> Self {
        match (self, ending) {
            (Self::Closing(at), Ending::Closed) => Self::Closed(at),
            (Self::Closing(at), Ending::Overdue) => Self::Open(at),
            (
                Self::Claiming,
                Ending::Committed | Ending::Refused | Ending::NotSent | Ending::Unknown,
            )
            | (Self::Releasing(_) | Self::Restamping(_), Ending::Committed) => Self::Idle,
            (Self::Releasing(at), Ending::Refused | Ending::NotSent) => Self::Closed(at),
            (Self::Releasing(at), Ending::Unknown)
            | (Self::Restamping(at), Ending::Refused | Ending::NotSent | Ending::Unknown) => {
                Self::Unresolved(at)
            }
            (
                Self::Idle | Self::Open(_) | Self::Closed(_) | Self::Unresolved(_),
                Ending::Committed
                | Ending::Refused
                | Ending::NotSent
                | Ending::Unknown
                | Ending::Closed
                | Ending::Overdue,
            )
            | (
                Self::Closing(_),
                Ending::Committed | Ending::Refused | Ending::NotSent | Ending::Unknown,
            )
            | (
                Self::Claiming | Self::Releasing(_) | Self::Restamping(_),
                Ending::Closed | Ending::Overdue,
            ) => unreachable!("{ending:?} ends no step of {self:?}"),
        }
    }

    /// Whether turns of the shard may run here, as far as its ownership goes.
    pub fn is_open(self) -> bool {
        match self {
            Self::Open(_) | Self::Closing(_) => true,
            Self::Idle
            | Self::Claiming
            | Self::Closed(_)
            | Self::Releasing(_)
            | Self::Unresolved(_)
            | Self::Restamping(_) => false,
        }
    }
}

/// The step of a shard that is not open here and of which nothing counts any more but the news.
fn follow(facts: Facts) -> Option<Step> {
    match (facts.newest, facts.wish) {
        (Newest::Me, Wish::Here | Wish::Anywhere) => Some(Step::Open(facts.revision)),
        // It was never open at this revision, so it is as good as closed.
        (Newest::Me, Wish::Elsewhere) => Some(Step::Release(facts.revision)),
        (Newest::Nobody, Wish::Here) => Some(Step::Claim),
        (Newest::Gone, Wish::Here) => Some(Step::TakeOver(facts.revision)),
        (Newest::Nobody | Newest::Gone, Wish::Elsewhere | Wish::Anywhere)
        | (Newest::Other, Wish::Here | Wish::Elsewhere | Wish::Anywhere) => None,
    }
}
