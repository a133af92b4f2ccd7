//! Worlds that differ only in how their revisions are numbered are one.
//!
//! Revisions are only ever compared, and a new one is greater than all there were. So a world may
//! number those that it still mentions from one on, and the store may write for ever: what is
//! visited is every world that some number of writes leads to, not only those of a few.

use steading::ids::{Incarnation, Revision};
use steading::placement::Parcel;
use steading::placement::ownership::{Phase, Shipment};

/// A part of a world that mentions revisions. Zero is none, and stays.
pub(crate) trait Renumber {
    /// Tells every revision that is mentioned.
    fn numbers(&self, seen: &mut dyn FnMut(u64));

    /// Replaces each by another.
    fn renumber(&mut self, new: &dyn Fn(u64) -> u64);
}

/// Numbers the revisions of a world from one on, in the same order.
pub(crate) fn from_one_on(world: &mut impl Renumber) {
    let mut numbers = Vec::with_capacity(32);
    world.numbers(&mut |number| {
        if number != 0 {
            numbers.push(number);
        }
    });
    numbers.sort_unstable();
    numbers.dedup();
    if numbers.last().copied().unwrap_or_default() == numbers.len() as u64 {
        return;
    }
    world.renumber(&|number| match numbers.binary_search(&number) {
        Ok(index) => index as u64 + 1,
        Err(_) => 0,
    });
}

impl Renumber for u64 {
    fn numbers(&self, seen: &mut dyn FnMut(u64)) {
        seen(*self);
    }

    fn renumber(&mut self, new: &dyn Fn(u64) -> u64) {
        *self = new(*self);
    }
}

impl<T: Renumber> Renumber for Option<T> {
    fn numbers(&self, seen: &mut dyn FnMut(u64)) {
        if let Some(part) = self {
            part.numbers(seen);
        }
    }

    fn renumber(&mut self, new: &dyn Fn(u64) -> u64) {
        if let Some(part) = self {
            part.renumber(new);
        }
    }
}

impl<T: Renumber> Renumber for Vec<T> {
    fn numbers(&self, seen: &mut dyn FnMut(u64)) {
        for part in self {
            part.numbers(seen);
        }
    }

    fn renumber(&mut self, new: &dyn Fn(u64) -> u64) {
        for part in self {
            part.renumber(new);
        }
    }
}

/// A node, or whether something is so, beside what mentions revisions.
impl<T: Renumber> Renumber for (usize, T) {
    fn numbers(&self, seen: &mut dyn FnMut(u64)) {
        self.1.numbers(seen);
    }

    fn renumber(&mut self, new: &dyn Fn(u64) -> u64) {
        self.1.renumber(new);
    }
}

impl Renumber for Parcel {
    fn numbers(&self, seen: &mut dyn FnMut(u64)) {
        seen(self.revision.get());
    }

    fn renumber(&mut self, new: &dyn Fn(u64) -> u64) {
        self.revision = Revision::new(new(self.revision.get()));
    }
}

impl Renumber for Phase {
    fn numbers(&self, seen: &mut dyn FnMut(u64)) {
        match self {
            Self::Idle | Self::Claiming => {}
            Self::Open(at)
            | Self::Closing(at)
            | Self::Closed(at)
            | Self::Undeliverable(at)
            | Self::Ending(at)
            | Self::Ended(at)
            | Self::Releasing(at)
            | Self::Unresolved(at)
            | Self::Restamping(at) => seen(at.get()),
            Self::Sending(at, to) => {
                seen(at.get());
                seen(to.get());
            }
            Self::Sent(at, shipment) | Self::HandingOver(at, shipment) => {
                seen(at.get());
                seen(shipment.to.get());
                shipment.parcel.numbers(seen);
            }
        }
    }

    fn renumber(&mut self, new: &dyn Fn(u64) -> u64) {
        let at = |at: Revision| Revision::new(new(at.get()));
        let to = |to: Incarnation| Incarnation::new(new(to.get()));
        let sent = |Shipment { to: life, parcel }| Shipment {
            to: to(life),
            parcel: Parcel {
                revision: at(parcel.revision),
                ..parcel
            },
        };
        *self = match *self {
            Self::Idle => Self::Idle,
            Self::Claiming => Self::Claiming,
            Self::Open(old) => Self::Open(at(old)),
            Self::Closing(old) => Self::Closing(at(old)),
            Self::Closed(old) => Self::Closed(at(old)),
            Self::Sending(old, life) => Self::Sending(at(old), to(life)),
            Self::Sent(old, shipment) => Self::Sent(at(old), sent(shipment)),
            Self::HandingOver(old, shipment) => Self::HandingOver(at(old), sent(shipment)),
            Self::Undeliverable(old) => Self::Undeliverable(at(old)),
            Self::Ending(old) => Self::Ending(at(old)),
            Self::Ended(old) => Self::Ended(at(old)),
            Self::Releasing(old) => Self::Releasing(at(old)),
            Self::Unresolved(old) => Self::Unresolved(at(old)),
            Self::Restamping(old) => Self::Restamping(at(old)),
        };
    }
}
