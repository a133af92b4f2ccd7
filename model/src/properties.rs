//! What must hold in every world, and what must come about in some.

use stateright::{Model, Property};
use steading::placement::ownership::Phase;

use crate::action::Action;
use crate::calm;
use crate::store::Kind;
use crate::world::{Bounds, World, Wrong};

/// Of those that serve the same shard there is one.
pub(crate) const ONE_OWNER: &str = "one owner serves at a time";

/// It is the very life, and serves at the very revision, that the owner key names.
pub(crate) const OWNER_SERVES: &str = "who serves owns";

/// Whoever serves has the newest state that is left.
pub(crate) const OBJECTS: &str = "the newest objects go on";

/// Storage accepts nothing from an owner that has been followed by another.
pub(crate) const NO_STALE_WRITE: &str = "no stale write is accepted";

/// No shard is closed for ever: once nothing goes wrong any more it is served at its target.
pub(crate) const SETTLES: &str = "every world settles";

impl Model for Bounds {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(*self)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        world.actions(*self, actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        next.act(*self, action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_OWNER, |_, world: &World| world.serves_alone()),
            Property::always(OWNER_SERVES, |_, world: &World| world.who_serves_owns()),
            Property::always(OBJECTS, |_, world: &World| {
                !matches!(world.wrong, Some(Wrong::Objects(_)))
            }),
            Property::always(NO_STALE_WRITE, |_, world: &World| {
                world.wrong != Some(Wrong::StaleWrite)
            }),
            Property::always(SETTLES, |bounds: &Bounds, world: &World| {
                calm::settles(*bounds, world)
            }),
            Property::sometimes("a claim commits", |_, world: &World| {
                world.ends(Kind::Claim, true)
            }),
            Property::sometimes("a claim is refused", |_, world: &World| {
                world.ends(Kind::Claim, false)
            }),
            Property::sometimes("a take-over commits", |_, world: &World| {
                world.ends(Kind::TakeOver, true)
            }),
            Property::sometimes("a hand-over commits", |_, world: &World| {
                world.ends(Kind::HandOver, true)
            }),
            Property::sometimes("a release commits", |_, world: &World| {
                world.ends(Kind::Release, true)
            }),
            Property::sometimes("what was in doubt is restamped", |_, world: &World| {
                world.ends(Kind::Restamp, true)
            }),
            Property::sometimes("what was in doubt has happened", |_, world: &World| {
                world.ends(Kind::Restamp, false)
            }),
            Property::sometimes("a hand-over comes too late", |_, world: &World| {
                world.comes_too_late()
            }),
            Property::sometimes("state that travelled serves", |_, world: &World| {
                world.serves_what_travelled()
            }),
        ]
    }
}

impl World {
    /// Returns the token under which a process serves a shard, if it does.
    pub(crate) fn serves(&self, index: usize, shard: usize) -> Option<u64> {
        let process = &self.processes[index];
        let is_allowed = process.life.is_some() && process.fence_open;
        match process.shards[shard].phase {
            Phase::Open(at) | Phase::Closing(at) if is_allowed => Some(at.get()),
            Phase::Idle
            | Phase::Claiming
            | Phase::Open(_)
            | Phase::Closing(_)
            | Phase::Closed(_)
            | Phase::Sending(_, _)
            | Phase::Sent(_, _)
            | Phase::HandingOver(_, _)
            | Phase::Undeliverable(_)
            | Phase::Ending(_)
            | Phase::Ended(_)
            | Phase::Releasing(_)
            | Phase::Unresolved(_)
            | Phase::Restamping(_) => None,
        }
    }

    fn serves_alone(&self) -> bool {
        let shards = 0..self.store.values.len();
        shards.into_iter().all(|shard| {
            let processes = 0..self.processes.len();
            processes
                .filter(|process| self.serves(*process, shard).is_some())
                .count()
                <= 1
        })
    }

    fn who_serves_owns(&self) -> bool {
        let processes = self.processes.iter().enumerate();
        processes.into_iter().all(|(index, process)| {
            let mut values = self.store.values.iter().enumerate();
            values.all(|(shard, value)| {
                let owns = value.owner == process.life.map(|life| (process.name, life))
                    && self.store.lives[process.name] == process.life;
                let token = self.serves(index, shard);
                token.is_none_or(|token| owns && token == value.revision)
            })
        })
    }

    /// Whether a transaction of this kind has ended so, and its sender is about to hear it.
    fn ends(&self, kind: Kind, committed: bool) -> bool {
        let mut replies = self.replies.iter();
        replies.any(|reply| {
            let mut items = reply.items.iter();
            reply.committed == committed && items.any(|(item, _)| item.kind == kind)
        })
    }

    /// Whether a hand-over is still under way of which its sender, serving again, has made sure
    /// that it does not happen.
    fn comes_too_late(&self) -> bool {
        self.txns.iter().any(|txn| {
            let mut items = txn.items.iter();
            let is_handed_over = |shard| self.serves(txn.from.0, shard).is_some();
            items.any(|item| item.kind == Kind::HandOver && is_handed_over(item.shard))
        })
    }

    fn serves_what_travelled(&self) -> bool {
        let mut values = self.store.values.iter().enumerate();
        values.any(|(shard, value)| {
            let mut processes = 0..self.processes.len();
            let travelled = value.parcel.is_some_and(|parcel| !parcel.is_empty());
            travelled && processes.any(|index| self.serves(index, shard) == Some(value.revision))
        })
    }
}
