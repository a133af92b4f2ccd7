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
//! - **Open**, **let go** and **discard** are local and cannot fail. A shard that is mine is opened
//!   even if it shall go elsewhere at once: what came with it must be taken in first. A shard is
//!   discarded, without saving, when news shows it owned by somebody else while it is open here:
//!   whatever it would save now bears an old token. One that I have closed is let go when news
//!   is newer than my closing, be it the news of my own hand-over: its objects are now elsewhere,
//!   or older than what another owner made of them. There is one exception, the restamp's.
//! - **Close** waits for running turns. If they do not end in time the shard opens again, at the
//!   same revision, because nothing was sent.
//! - **Send ahead** carries the closed shard's state to the life that is the target now, which
//!   stages it. Guard: the shard is closed, else the state would be old before it arrives. What
//!   is staged changes nothing by itself: the receiver takes it in only if the owner key names its
//!   [`Parcel`], and that it does only if a hand-over lands. So an attempt may end anywhere. If it
//!   fails the shard is **undeliverable** and opens at once, at the same revision; the caller
//!   lets it rest before it is closed again. So too if what was sent is too old by the time
//!   that it could be handed over. A node that leaves, and need not try again, ends it instead.
//! - **Hand over** writes the target over me. Guards: the key stands at the revision at which I
//!   closed, else a late hand-over would overwrite a later ownership, be it mine; my node key is
//!   of my incarnation, so that a life which is over changes nothing any more; the target's node
//!   key is of the very life that the state was sent to, else the owner would be a life that is
//!   over, or one that has not the state. It names the parcel, which is
//!   empty if there was nothing to send. It is sent only when closed and sent, because the target may serve from the moment of
//!   its landing. Refused, or surely not sent: still sent, and nothing is under way; decide again.
//!   If the target still fits it is tried again, else the shard opens at the same revision: its
//!   objects are here, so that costs little. Unknown: **unresolved**, because it may yet happen.
//!   Then neither time nor a read that shows my revision reopens the shard: a read cancels nothing
//!   that is still under way.
//! - **End** runs what objects do at their end, saves them and drops them: before a release, which
//!   hands nothing over. It cannot fail; what it could not save is reported by the host. A shard
//!   that was ended can still open at the same revision, with objects that are made anew.
//! - **Release** deletes the owner key, if there is nobody to hand it over to. Guards: it stands
//!   at the revision at which I closed; my node key is of my incarnation. Sent only when ended,
//!   since a claim elsewhere can follow it at once. Its failures are those of a hand-over.
//! - **Restamp** writes me again over my own revision, the only step out of *unresolved* but news.
//!   Once it lands, everything sent at the old revision fails its guard for good. If it is refused
//!   and the reply shows the old revision (another shard of the batch was the reason) it proves
//!   nothing, and is sent again; so too if its own outcome is unknown. It names an empty
//!   parcel of that revision, as only its owner can. So its landing, however late it is
//!   learned, proves that nobody owned the shard in between: I open it under the new token, with
//!   the objects that I closed. No other news that names me proves that. I may have handed the
//!   shard over and got it back while I was not looking, and then my objects are old.
//!
//! News newer than the revision at which something was sent resolves it, whatever its reply says:
//! its guard can never hold again. Only then, or when it was answered, is anything else sent.
//! What committed is *unresolved* too until its news is looked at: then it has been resolved.
//!
//! The loss of the lease leads to [`Phase::Idle`] from every phase: the store has deleted my node
//! key, so what is still under way fails, or names a life that is over. A hand-over that landed
//! before is the target's for good. The objects are dropped without saving.
//!
//! A list of the store can disprove a record, and then the newest revision falls. What was opened
//! or closed under that record is dropped without saving, and the shard is decided anew.
//!
//! The receiver has no step of its own: the news that names it makes the shard open by the rule.

#[cfg(test)]
mod tests;

use super::blame::awaits_verdict;
use super::{ClusterView, NodeState, Owner, OwnerRecord, Parcel};
use crate::ids::{Incarnation, NodeId, Revision, ShardId};

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
    /// Closed, and its state is on its way to this life.
    Sending(Revision, Incarnation),
    /// Closed, and its state is where the shard may be handed over to. Nothing is unresolved.
    Sent(Revision, Shipment),
    /// A hand-over is under way.
    HandingOver(Revision, Shipment),
    /// Closed, and its state is not, or no longer, where it was sent.
    Undeliverable(Revision),
    /// Closed, and its objects are ending.
    Ending(Revision),
    /// Closed without objects, and nothing sent at this revision is unresolved.
    Ended(Revision),
    /// A release is under way.
    Releasing(Revision),
    /// What was sent at this revision may or may not happen yet, or has happened.
    Unresolved(Revision),
    /// A restamp is under way, beside whatever is unresolved.
    Restamping(Revision),
}

/// A [`Phase`] as it concerns everything but its next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not open here, and nothing is under way.
    Idle,
    /// A claim or take-over is under way.
    Claiming,
    /// Open, and nothing is under way.
    Open,
    /// Still open, while running turns end.
    Closing,
    /// Closed, whatever is under way since.
    Closed,
}

/// What was sent ahead of a shard, and to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shipment {
    /// The life that it was sent to. No two lives share an incarnation, be they of two nodes.
    pub to: Incarnation,
    /// What that life has staged; empty if there was nothing to send.
    pub parcel: Parcel,
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
    /// Send the state of a closed shard to this life, which is the target now.
    SendAhead(Revision, Incarnation),
    /// Write the life that the state was sent to over me, at this revision.
    HandOver(Revision, Shipment),
    /// End the objects of a closed shard in order.
    End(Revision),
    /// Delete the owner key, which must stand at this revision.
    Release(Revision),
    /// Write me again over this revision.
    Restamp(Revision),
    /// Drop the objects of a closed shard without saving: newer news says whose it is.
    LetGo,
    /// Drop everything of an open shard without saving: somebody else owns it.
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
    /// The target has staged this, unless it is empty.
    Sent(Parcel),
    /// The target does not have the state, or has had it for too long.
    Undelivered,
    /// The objects have ended.
    Ended,
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
    /// This life of this node, and the owner of this revision wrote it without sending anything.
    MeOver(Revision),
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
    /// At another node, which can take it and is in this life.
    There(Incarnation),
    /// Nowhere in particular: what is open here stays, and nothing is taken.
    Anywhere,
    /// Not here, though there is nobody to hand it over to.
    Nowhere,
}

/// How ready a node is to hold shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stance {
    /// It takes what is targeted at it.
    Takes,
    /// It takes nothing, and keeps what it has until another node can take it.
    Keeps,
    /// It gives up everything, to the targets if they can take it.
    Leaves,
    /// It gives up everything, to nobody.
    Abandons,
}

impl Facts {
    /// Gathers what `view` knows of a shard for the life `me`.
    pub fn of(view: &ClusterView, shard: ShardId, me: &Owner, stance: Stance) -> Self {
        let record = view.owners.get(shard);
        let newest = match &record.owner {
            None => Newest::Nobody,
            Some(owner) if owner == me => mine(record),
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

impl Newest {
    /// Whether it is this life.
    pub fn is_me(self) -> bool {
        match self {
            Self::Me | Self::MeOver(_) => true,
            Self::Nobody | Self::Gone | Self::Other => false,
        }
    }
}

fn mine(record: &OwnerRecord) -> Newest {
    match record.parcel {
        Some(parcel) if parcel.is_empty() => Newest::MeOver(parcel.revision),
        Some(_) | None => Newest::Me,
    }
}

/// Whether a life is proven over. A life that began after the view's revision is none the view
/// can tell of: owner news may run ahead of the rest of the view.
fn is_over(view: &ClusterView, owner: &Owner) -> bool {
    owner.incarnation.get() <= view.revision.get() && !view.is_live(owner)
}

fn wish(view: &ClusterView, shard: ShardId, me: &NodeId, stance: Stance) -> Wish {
    let target = view.targets.get(shard);
    // What is quarantined is left alone, wherever it is; so is what may have crashed its owner, until
    // the leader has judged that: this node might be the next.
    let is_left_alone = target.quarantined || awaits_verdict(view, shard);
    let node = target.node.as_ref().filter(|_| !is_left_alone);
    // A target that cannot take it would only leave it unowned.
    let taker = node.filter(|node| *node != me).and_then(|node| {
        let record = view.nodes.get(node)?;
        (record.state == NodeState::Active).then_some(record.incarnation)
    });
    match (stance, taker) {
        (Stance::Abandons, Some(_) | None) | (Stance::Leaves, None) => Wish::Nowhere,
        (Stance::Takes | Stance::Keeps | Stance::Leaves, Some(life)) => Wish::There(life),
        (Stance::Takes, None) if node == Some(me) => Wish::Here,
        (Stance::Takes | Stance::Keeps, None) => Wish::Anywhere,
    }
}

impl Phase {
    /// Returns the step to start now, or `None` when there is nothing to do or one is under way
    /// that decides.
    pub fn next_step(self, facts: Facts) -> Option<Step> {
        match self {
            Self::Idle => follow(facts),
            // The claim's own landing may be seen before its reply.
            Self::Claiming => follow(facts).filter(|_| facts.newest.is_me()),
            // Lower: a list disproved the record that the shard was opened under.
            Self::Open(at) | Self::Closing(at) if facts.revision != at => Some(Step::Discard),
            Self::Open(at) => match facts.wish {
                Wish::Here | Wish::Anywhere => None,
                Wish::There(_) | Wish::Nowhere => Some(Step::Close(at)),
            },
            Self::Closed(at)
            | Self::Sending(at, _)
            | Self::Sent(at, _)
            | Self::HandingOver(at, _)
            | Self::Undeliverable(at)
            | Self::Ending(at)
            | Self::Ended(at)
            | Self::Releasing(at)
            | Self::Unresolved(at)
            | Self::Restamping(at)
                if facts.revision > at =>
            {
                Some(resolve(at, facts))
            }
            // A list disproved the record that the shard was closed under: no guard on it ever holds.
            Self::Closed(at)
            | Self::Sending(at, _)
            | Self::Sent(at, _)
            | Self::HandingOver(at, _)
            | Self::Undeliverable(at)
            | Self::Ending(at)
            | Self::Ended(at)
            | Self::Releasing(at)
            | Self::Unresolved(at)
            | Self::Restamping(at)
                if facts.revision < at =>
            {
                Some(Step::LetGo)
            }
            Self::Closed(at) => Some(match facts.wish {
                Wish::Here | Wish::Anywhere => Step::Open(at),
                Wish::There(life) => Step::SendAhead(at, life),
                Wish::Nowhere => Step::End(at),
            }),
            Self::Sent(at, shipment) => Some(match facts.wish {
                Wish::There(life) if life == shipment.to => Step::HandOver(at, shipment),
                Wish::Here | Wish::There(_) | Wish::Anywhere | Wish::Nowhere => Step::Open(at),
            }),
            Self::Undeliverable(at) => Some(match facts.wish {
                Wish::Here | Wish::There(_) | Wish::Anywhere => Step::Open(at),
                Wish::Nowhere => Step::End(at),
            }),
            Self::Ended(at) => Some(match facts.wish {
                Wish::Here | Wish::Anywhere => Step::Open(at),
                // Nothing is left to send, and the host will say so.
                Wish::There(life) => Step::SendAhead(at, life),
                Wish::Nowhere => Step::Release(at),
            }),
            Self::Unresolved(at) => Some(Step::Restamp(at)),
            // Decide again when it ends.
            Self::Closing(_)
            | Self::Sending(_, _)
            | Self::HandingOver(_, _)
            | Self::Ending(_)
            | Self::Releasing(_)
            | Self::Restamping(_) => None,
        }
    }

    /// Returns the phase that a shard is in once `step` was started.
    #[must_use]
    pub fn after_start(step: Step) -> Self {
        match step {
            Step::Claim | Step::TakeOver(_) => Self::Claiming,
            Step::Open(at) => Self::Open(at),
            Step::Close(at) => Self::Closing(at),
            Step::SendAhead(at, life) => Self::Sending(at, life),
            Step::HandOver(at, shipment) => Self::HandingOver(at, shipment),
            Step::End(at) => Self::Ending(at),
            Step::Release(at) => Self::Releasing(at),
            Step::Restamp(at) => Self::Restamping(at),
            Step::LetGo | Step::Discard => Self::Idle,
        }
    }

    /// Returns the phase after the step under way ended. The caller makes sure that it is the
    /// step which led to this phase, and that its news was learned. One ending needs no step: what
    /// was sent has become too old.
    #[must_use]
    pub fn after_end(self, ending: Ending) -> Self {
        match (self, ending) {
            (Self::Closing(at), Ending::Closed) => Self::Closed(at),
            (Self::Closing(at), Ending::Overdue) => Self::Open(at),
            (Self::Sending(at, to), Ending::Sent(parcel)) => {
                Self::Sent(at, Shipment { to, parcel })
            }
            (Self::Sending(at, _) | Self::Sent(at, _), Ending::Undelivered) => {
                Self::Undeliverable(at)
            }
            (Self::Ending(at), Ending::Ended) => Self::Ended(at),
            (
                Self::Claiming,
                Ending::Committed | Ending::Refused | Ending::NotSent | Ending::Unknown,
            ) => Self::Idle,
            (Self::HandingOver(at, shipment), Ending::Refused | Ending::NotSent) => {
                Self::Sent(at, shipment)
            }
            (Self::Releasing(at), Ending::Refused | Ending::NotSent) => Self::Ended(at),
            (
                Self::HandingOver(at, _) | Self::Releasing(at),
                Ending::Committed | Ending::Unknown,
            )
            | (
                Self::Restamping(at),
                Ending::Committed | Ending::Refused | Ending::NotSent | Ending::Unknown,
            ) => Self::Unresolved(at),
            (
                Self::Idle
                | Self::Claiming
                | Self::Open(_)
                | Self::Closing(_)
                | Self::Closed(_)
                | Self::Sending(_, _)
                | Self::Sent(_, _)
                | Self::HandingOver(_, _)
                | Self::Undeliverable(_)
                | Self::Ending(_)
                | Self::Ended(_)
                | Self::Releasing(_)
                | Self::Unresolved(_)
                | Self::Restamping(_),
                Ending::Committed
                | Ending::Refused
                | Ending::NotSent
                | Ending::Unknown
                | Ending::Closed
                | Ending::Overdue
                | Ending::Sent(_)
                | Ending::Undelivered
                | Ending::Ended,
            ) => unreachable!("{ending:?} ends no step of {self:?}"),
        }
    }

    /// Returns the phase without what only the next step needs to know.
    pub fn standing(self) -> Standing {
        match self {
            Self::Idle => Standing::Idle,
            Self::Claiming => Standing::Claiming,
            Self::Open(_) => Standing::Open,
            Self::Closing(_) => Standing::Closing,
            Self::Closed(_)
            | Self::Sending(_, _)
            | Self::Sent(_, _)
            | Self::HandingOver(_, _)
            | Self::Undeliverable(_)
            | Self::Ending(_)
            | Self::Ended(_)
            | Self::Releasing(_)
            | Self::Unresolved(_)
            | Self::Restamping(_) => Standing::Closed,
        }
    }

    /// Whether turns of the shard may run here, as far as its ownership goes.
    pub fn is_open(self) -> bool {
        match self.standing() {
            Standing::Open | Standing::Closing => true,
            Standing::Idle | Standing::Claiming | Standing::Closed => false,
        }
    }

    /// Whether the shard is owned here and closed, as far as is known: calls wait for what
    /// becomes of it.
    pub fn is_closed(self) -> bool {
        self.standing() == Standing::Closed
    }
}

/// The step of a shard that is not open here and of which nothing counts any more but the news.
fn follow(facts: Facts) -> Option<Step> {
    match (facts.newest, facts.wish) {
        // Even if it shall go on at once: what came with it must be taken in.
        (
            Newest::Me | Newest::MeOver(_),
            Wish::Here | Wish::There(_) | Wish::Anywhere | Wish::Nowhere,
        ) => Some(Step::Open(facts.revision)),
        (Newest::Nobody, Wish::Here) => Some(Step::Claim),
        (Newest::Gone, Wish::Here) => Some(Step::TakeOver(facts.revision)),
        (Newest::Nobody | Newest::Gone, Wish::There(_) | Wish::Anywhere | Wish::Nowhere)
        | (Newest::Other, Wish::Here | Wish::There(_) | Wish::Anywhere | Wish::Nowhere) => None,
    }
}

/// The step of a shard that I closed at `at`, now that there is newer news.
fn resolve(at: Revision, facts: Facts) -> Step {
    match facts.newest {
        // A restamp: nobody owned it in between, so its objects here are the newest.
        Newest::MeOver(over) if over == at => Step::Open(facts.revision),
        Newest::MeOver(_) | Newest::Me | Newest::Nobody | Newest::Gone | Newest::Other => {
            Step::LetGo
        }
    }
}
