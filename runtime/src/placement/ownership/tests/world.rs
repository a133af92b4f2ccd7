//! The world: some nodes, one shard, a store, and what is under way between them.

mod acting;
mod possible;

use std::collections::VecDeque;

use super::{Ending, Parcel, Phase, Revision, Step};

/// What is sent ahead; which parcel it is never matters here.
pub(super) const NOTHING: Parcel = Parcel::empty(Revision::new(7));

/// A rule that is broken on purpose, to show that the worlds are wild enough to notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutation {
    None,
    NoGuardInRelease,
    NoGuardInHandOver,
    NoGuardInTakeOver,
    NoProofOfDeath,
    OldNewsCounts,
    UnknownReleaseIsFailure,
    UnknownHandOverIsFailure,
    UnknownHandOverIsSuccess,
    UnknownClaimIsSuccess,
    ReadReopens,
    OpenAfterDeath,
    ReleaseBeforeClosing,
    HandOverBeforeClosing,
    AnyNewsOfMeKeepsObjects,
}

pub(super) const MUTATIONS: [Mutation; 13] = [
    Mutation::NoGuardInRelease,
    Mutation::NoGuardInHandOver,
    Mutation::NoGuardInTakeOver,
    Mutation::NoProofOfDeath,
    Mutation::OldNewsCounts,
    Mutation::UnknownReleaseIsFailure,
    Mutation::UnknownHandOverIsFailure,
    Mutation::UnknownHandOverIsSuccess,
    Mutation::UnknownClaimIsSuccess,
    Mutation::ReadReopens,
    Mutation::OpenAfterDeath,
    Mutation::ReleaseBeforeClosing,
    Mutation::HandOverBeforeClosing,
];

/// How far a world goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) nodes: usize,
    pub(super) revisions: usize,
    pub(super) deaths: u8,
    pub(super) txns: usize,
}

/// A life is the revision at which it began; zero is none.
pub(super) type Life = u8;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    /// What the store says as of each revision that a watch has yet to bring; the last is now.
    pub(super) history: VecDeque<Stored>,
    /// The revision of the first of those.
    pub(super) first: usize,
    pub(super) nodes: Vec<Local>,
    /// Sent and not applied yet, in no order.
    pub(super) txns: Vec<Sent>,
    pub(super) replies: Vec<Reply>,
    pub(super) deaths: u8,
    /// Where the shard was open last.
    pub(super) last_open: usize,
    /// A node that opened the shard with objects older than those of another.
    pub(super) stale: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Stored {
    pub(super) owner: Option<(usize, Life)>,
    /// When the owner key was last written or deleted.
    pub(super) owner_revision: u8,
    /// The revision that a restamp was written over; zero: something else was written.
    pub(super) kept: u8,
    pub(super) lives: Vec<Life>,
}

impl Stored {
    fn news(&self) -> OwnerNews {
        OwnerNews {
            revision: self.owner_revision,
            owner: self.owner,
            kept: self.kept,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct OwnerNews {
    pub(super) revision: u8,
    pub(super) owner: Option<(usize, Life)>,
    pub(super) kept: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Local {
    pub(super) life: Life,
    /// How far the watch has come.
    pub(super) view: usize,
    pub(super) known: Stored,
    pub(super) phase: Phase,
    pub(super) has_objects: bool,
}

impl Local {
    /// Returns how the host's work under way may end, or what was sent get too old, the best first.
    pub(super) fn endings(&self) -> &'static [Ending] {
        match self.phase {
            Phase::Closing(_) => &[Ending::Closed, Ending::Overdue],
            Phase::Sending(_, _) => &[Ending::Sent(NOTHING), Ending::Undelivered],
            Phase::Sent(_, _) => &[Ending::Undelivered],
            Phase::Ending(_) => &[Ending::Ended],
            Phase::Idle
            | Phase::Claiming
            | Phase::Open(_)
            | Phase::Closed(_)
            | Phase::HandingOver(_, _)
            | Phase::Undeliverable(_)
            | Phase::Ended(_)
            | Phase::Releasing(_)
            | Phase::Unresolved(_)
            | Phase::Restamping(_) => &[],
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Sent {
    pub(super) from: (usize, Life),
    /// The owner key must stand at this revision; zero: must not exist.
    pub(super) guard: u8,
    /// This node must be in this life.
    pub(super) proof: Option<(usize, Life)>,
    pub(super) kind: Kind,
    /// Whether the sender still waits for this answer.
    pub(super) awaited: bool,
}

/// What a transaction makes of the owner key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    Claim,
    TakeOver,
    HandOver(usize, Life),
    Restamp,
    Release,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Reply {
    pub(super) to: (usize, Life),
    pub(super) committed: bool,
    /// The owner key as of the reply.
    pub(super) shown: OwnerNews,
    pub(super) awaited: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    /// A node's watch brings the next revision.
    Watch(usize),
    /// A node takes its next step, under whatever wish.
    Step(usize, Step),
    /// A node's closing, sending or ending ends, or what it sent gets too old.
    EndWork(usize, Ending),
    /// The store runs a transaction.
    Apply(usize),
    /// A node hears that a transaction surely does not happen.
    Decline(usize),
    /// A node gives up waiting for a transaction that may still be applied.
    GiveUp(usize),
    Deliver(usize),
    /// A reply is lost.
    Lose(usize),
    /// A node stops serving, and its key vanishes.
    Die(usize),
    Rejoin(usize),
}

impl World {
    pub(super) fn new(nodes: usize) -> Self {
        // Every node is registered, in order, and knows it.
        let lives: Vec<Life> = (1..).take(nodes).collect();
        let stored = Stored {
            owner: None,
            owner_revision: 0,
            kept: 0,
            lives: lives.clone(),
        };
        let local = |life| Local {
            life,
            view: nodes,
            known: stored.clone(),
            phase: Phase::Idle,
            has_objects: false,
        };
        Self {
            nodes: lives.into_iter().map(local).collect(),
            history: VecDeque::from([stored]),
            first: nodes,
            txns: Vec::new(),
            replies: Vec::new(),
            deaths: 0,
            last_open: 0,
            stale: None,
        }
    }

    fn now(&self) -> &Stored {
        self.history.back().expect("it begins with one")
    }

    pub(super) fn next_revision(&self) -> u8 {
        u8::try_from(self.first + self.history.len()).expect("few revisions")
    }

    /// Returns what is wrong with this world.
    pub(super) fn wrong(&self) -> Option<String> {
        if let Some(node) = self.stale {
            return Some(format!("node {node} opens old objects: {self:#?}"));
        }
        let stored = self.now();
        let nodes = self.nodes.iter().enumerate();
        nodes.clone().find_map(|(index, node)| {
            let (Phase::Open(at) | Phase::Closing(at)) = node.phase else {
                return None;
            };
            let owned = stored.owner == Some((index, node.life))
                && stored.owner_revision == number(at)
                && stored.lives[index] == node.life;
            (!owned).then(|| format!("node {index} has the shard open at {at}: {self:#?}"))
        })
    }
}

fn number(revision: Revision) -> u8 {
    u8::try_from(revision.get()).expect("few revisions")
}
