//! State that travels with its shard: packed by the old owner, staged and taken in by the new one.
//!
//! # What must hold
//!
//! - The giver keeps its objects, sealed, until it knows that the shard is another's. So a move
//!   that comes to nothing costs nothing.
//! - The receiver reads each state as it comes, so that one which it cannot read is found before
//!   the shard changes hands, and the object stays where it can be read.
//! - What is staged is taken in only under the parcel that the owner key names. Anything else of
//!   that shard is older, of an attempt that failed, or of a stranger, and is dropped when the shard
//!   opens. Nothing that is staged replaces anything else.
//! - Everything is bounded: what is under way by the stream's window, what is staged by
//!   [`STAGED_BYTES_MAX`] and [`STAGED_FOR_MAX`].

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::hash::Hasher;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fnv::FnvHasher;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::activation::Live;
use super::host::Host;
use super::timers::{Kept, PackedTimer};
use crate::ids::{ObjectKey, Revision, ShardId};
use crate::memory_budget::{BudgetExceeded, BytesFor, Reservation};
use crate::placement::Parcel;

/// The most bytes that a node keeps staged: states, keys and timers, and [`STAGED_OBJECT_BYTES`] for
/// each object. They count in the process's memory budget too, of which they get half at most.
pub const STAGED_BYTES_MAX: usize = 256 << 20;

/// The largest state of one object that travels, in bytes.
pub const STATE_BYTES_MAX: usize = 64 << 20;

/// Most attempts of one ownership of a shard that are staged. The owner pauses after each, so that
/// more can only be a stranger's.
const STAGED_ATTEMPTS_MAX: usize = 8;

/// What a staged object takes besides its state and key.
pub const STAGED_OBJECT_BYTES: usize = 512;

/// How long state stays staged if its shard does not come.
pub const STAGED_FOR_MAX: Duration = Duration::from_mins(1);

/// Objects of one shard that are packed at a time: their hooks and saves run together.
const PACKED_AT_ONCE: usize = 64;

/// The state of one object on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Whose state.
    pub key: ObjectKey,
    /// `MessagePack` with names.
    pub state: Bytes,
    /// Time since its last turn ended.
    pub idle: Duration,
    /// Its timers.
    pub timers: Vec<PackedTimer>,
}

impl Packed {
    /// Returns about how many bytes it takes, beside its key.
    pub(crate) fn len(&self) -> usize {
        self.state.len() + self.timers.iter().map(PackedTimer::len).sum::<usize>()
    }

    /// Returns about how many bytes it takes while it is staged.
    fn staged_len(&self) -> usize {
        self.len() + self.key.object_type().len() + self.key.id().len() + STAGED_OBJECT_BYTES
    }
}

/// What sender and receiver must have counted alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParcelSum {
    /// How many objects.
    pub objects: u64,
    /// Bytes of state.
    pub bytes: u64,
    /// FNV-1a 64 of each key and state, one after the other.
    pub checksum: u64,
    /// How many timers.
    pub timers: u64,
    /// FNV-1a 64 of each timer, one after the other; 0 if there is none. Nodes of a version without
    /// timers neither send nor check these two.
    pub timers_checksum: u64,
}

/// Adds up a parcel as it comes by.
#[derive(Default)]
pub struct Summing {
    objects: u64,
    bytes: u64,
    hasher: FnvHasher,
    timers: u64,
    timers_hasher: FnvHasher,
}

impl Summing {
    /// Adds one object.
    pub fn add(&mut self, packed: &Packed) {
        self.objects += 1;
        self.bytes += packed.state.len() as u64;
        for part in [packed.key.object_type(), "/", packed.key.id()] {
            self.hasher.write(part.as_bytes());
        }
        self.hasher.write(&packed.state);
        for timer in &packed.timers {
            self.add_timer(timer);
        }
    }

    fn add_timer(&mut self, timer: &PackedTimer) {
        self.timers += 1;
        let hasher = &mut self.timers_hasher;
        for part in [timer.name.as_bytes(), timer.method.as_bytes(), &timer.args] {
            hasher.write(part);
            hasher.write(&[0xff]);
        }
        hasher.write(&micros(timer.remaining).to_le_bytes());
        hasher.write(&timer.period.map_or(0, micros).to_le_bytes());
    }

    /// Returns the sum so far.
    pub fn sum(&self) -> ParcelSum {
        ParcelSum {
            objects: self.objects,
            bytes: self.bytes,
            checksum: self.hasher.finish(),
            timers: self.timers,
            timers_checksum: match self.timers {
                0 => 0,
                _ => self.timers_hasher.finish(),
            },
        }
    }
}

impl std::fmt::Debug for Summing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.sum().fmt(f)
    }
}

/// Returns a time as it travels: in microseconds.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Why an object's state cannot leave, or not be taken in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the state of {object} cannot travel: {reason}")]
pub struct StateError {
    /// Whose state.
    pub object: ObjectKey,
    /// What is wrong with it.
    pub reason: String,
}

/// The state of an object that lives here but has no activation yet.
pub(super) struct Dormant {
    /// A `T` of the object's type.
    pub(super) state: Box<dyn Any + Send + Sync>,
    /// When its last turn ended, in the host's milliseconds.
    pub(super) used: u64,
    /// Its timers, which tick once it is awake.
    pub(super) timers: Vec<Kept>,
}

impl std::fmt::Debug for Dormant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dormant")
            .field("used", &self.used)
            .finish_non_exhaustive()
    }
}

/// The objects of a closed shard, packed one after the other as they are asked for.
///
/// Packing runs the deactivation hook, saves what must be saved, and writes the state. The object
/// itself stays where it is.
pub struct Packing {
    waiting: VecDeque<Arc<dyn Live>>,
    running: FuturesOrdered<BoxFuture<'static, Result<Option<Packed>, StateError>>>,
    /// State that came with the shard and was never woken.
    dormant: VecDeque<Result<Packed, StateError>>,
}

impl Packing {
    pub(super) fn new(
        objects: Vec<Arc<dyn Live>>,
        dormant: VecDeque<Result<Packed, StateError>>,
    ) -> Self {
        Self {
            waiting: objects.into(),
            running: FuturesOrdered::new(),
            dormant,
        }
    }

    /// Returns the next object's state; `None` after the last. Objects that do not travel are
    /// prepared and left out.
    ///
    /// Cancel safe: what was begun goes on with the next call.
    ///
    /// # Errors
    ///
    /// [`StateError`] if the state cannot be saved or written. The shard must then stay.
    pub async fn next(&mut self) -> Option<Result<Packed, StateError>> {
        if let Some(packed) = self.dormant.pop_front() {
            return Some(packed);
        }
        loop {
            while self.running.len() < PACKED_AT_ONCE {
                let Some(object) = self.waiting.pop_front() else {
                    break;
                };
                self.running.push_back(object.pack().boxed());
            }
            match self.running.next().await? {
                Ok(Some(packed)) => return Some(Ok(packed)),
                Ok(None) => {} // It does not travel.
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl std::fmt::Debug for Packing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packing")
            .field("waiting", &self.waiting.len())
            .finish_non_exhaustive()
    }
}

/// What is staged on a node.
#[derive(Debug, Default)]
pub(super) struct Staging(Mutex<Shelf>);

#[derive(Debug, Default)]
struct Shelf {
    parcels: BTreeMap<(ShardId, Parcel), Staged>,
    /// Of what is staged, and of what is arriving.
    bytes: usize,
}

/// The state of one shard.
#[derive(Debug)]
struct Staged {
    /// What the sender counted.
    sent: ParcelSum,
    objects: Vec<(ObjectKey, Dormant)>,
    bytes: usize,
    /// Those bytes in the memory budget.
    _reserved: Reservation,
    since: Instant,
}

impl Staging {
    /// Takes what is staged for a shard under this name, with what the sender counted, and drops
    /// whatever else is.
    pub(super) fn take(
        &self,
        shard: ShardId,
        parcel: Option<Parcel>,
    ) -> Option<(ParcelSum, Vec<(ObjectKey, Dormant)>)> {
        let mut shelf = self.0.lock();
        let all = shelf.parcels.extract_if(of_shard(shard), |_, _| true);
        let mut all: BTreeMap<_, _> = all.collect();
        shelf.bytes -= all.values().map(|staged| staged.bytes).sum::<usize>();
        drop(shelf); // Dropping state runs code of users.
        let staged = all.remove(&(shard, parcel?))?;
        Some((staged.sent, staged.objects))
    }

    /// Drops everything: the life that it was sent to is over.
    pub(super) fn clear(&self) {
        let mut shelf = self.0.lock();
        let staged = std::mem::take(&mut shelf.parcels);
        shelf.bytes -= staged.values().map(|staged| staged.bytes).sum::<usize>();
        drop(shelf);
    }

    /// Drops what has waited for its shard too long.
    fn expire(&self, now: Instant) {
        let mut shelf = self.0.lock();
        let late = shelf
            .parcels
            .extract_if(.., |_, staged| now - staged.since > STAGED_FOR_MAX);
        let late: Vec<_> = late.collect();
        shelf.bytes -= late.iter().map(|(_, staged)| staged.bytes).sum::<usize>();
        drop(shelf);
    }

    fn reserve(&self, bytes: usize) -> bool {
        let mut shelf = self.0.lock();
        let fits = shelf.bytes + bytes <= STAGED_BYTES_MAX;
        shelf.bytes += if fits { bytes } else { 0 };
        fits
    }
}

/// Every name that something of this shard can be staged under.
fn of_shard(shard: ShardId) -> RangeInclusive<(ShardId, Parcel)> {
    let all = |revision, attempt| {
        let revision = Revision::new(revision);
        (shard, Parcel { revision, attempt })
    };
    all(0, 0)..=all(u64::MAX, u128::MAX)
}

/// Why a parcel was not staged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// A state cannot be read here.
    #[error(transparent)]
    State(#[from] StateError),
    /// Too much is staged already.
    #[error("more than {STAGED_BYTES_MAX} bytes would be staged")]
    Full,
    /// Too much is in flight in this process.
    #[error(transparent)]
    Overloaded(#[from] BudgetExceeded),
    /// State of the same name is staged already.
    #[error("state of this name is staged already")]
    Repeated,
    /// Too many attempts of one ownership are staged.
    #[error("{STAGED_ATTEMPTS_MAX} attempts to send this shard are staged already")]
    TooMany,
    /// Something was lost or changed on the way.
    #[error("{sent:?} was sent, {came:?} came")]
    Differs {
        /// What the sender counted.
        sent: ParcelSum,
        /// What the receiver counted.
        came: ParcelSum,
    },
}

/// A parcel that is arriving. Dropped unfinished, it leaves nothing.
#[derive(Debug)]
pub struct Arriving {
    host: Arc<Host>,
    shard: ShardId,
    parcel: Parcel,
    objects: Vec<(ObjectKey, Dormant)>,
    bytes: usize,
    reserved: Reservation,
    summing: Summing,
}

impl Arriving {
    pub(super) fn new(host: Arc<Host>, shard: ShardId, parcel: Parcel) -> Self {
        host.staging().expire(Instant::now());
        let reserved = host.budget().empty(BytesFor::Staging);
        Self {
            reserved,
            host,
            shard,
            parcel,
            objects: Vec::new(),
            bytes: 0,
            summing: Summing::default(),
        }
    }

    /// Reads one object's state and keeps it.
    ///
    /// # Errors
    ///
    /// [`StageError`] if it cannot be read, or there is no room. The parcel must be given up.
    pub fn take(&mut self, packed: &Packed) -> Result<(), StageError> {
        let len = packed.staged_len();
        if !self.host.staging().reserve(len) {
            return Err(StageError::Full);
        }
        self.bytes += len;
        self.reserved.grow(len)?;
        self.summing.add(packed);
        let dormant = self.host.unpack(packed)?;
        self.objects.push((packed.key.clone(), dormant));
        Ok(())
    }

    /// Stages the parcel. What earlier ownerships of its shard sent is dropped.
    ///
    /// # Errors
    ///
    /// [`StageError::Differs`] unless all of it came as it was sent; [`StageError::Repeated`] and
    /// [`StageError::TooMany`] if it would have to replace what is staged.
    pub fn finish(mut self, sent: ParcelSum) -> Result<ParcelSum, StageError> {
        let came = self.summing.sum();
        if came != sent {
            return Err(StageError::Differs { sent, came });
        }
        let staging = self.host.clone();
        let mut shelf = staging.staging().0.lock();
        let mut earlier = Vec::new();
        let mut attempts = 0;
        for (name, staged) in shelf.parcels.range(of_shard(self.shard)) {
            if name.1 == self.parcel {
                return Err(StageError::Repeated);
            }
            if name.1.revision < self.parcel.revision {
                earlier.push((*name, staged.bytes));
            } else {
                attempts += 1;
            }
        }
        if attempts >= STAGED_ATTEMPTS_MAX {
            return Err(StageError::TooMany);
        }
        let staged = Staged {
            sent,
            objects: std::mem::take(&mut self.objects),
            bytes: std::mem::take(&mut self.bytes),
            _reserved: std::mem::replace(
                &mut self.reserved,
                self.host.budget().empty(BytesFor::Staging),
            ),
            since: Instant::now(),
        };
        let dropped: Vec<_> = earlier
            .iter()
            .map(|(name, _)| shelf.parcels.remove(name))
            .collect();
        shelf.bytes -= earlier.iter().map(|(_, bytes)| bytes).sum::<usize>();
        shelf.parcels.insert((self.shard, self.parcel), staged);
        drop(shelf);
        drop(dropped); // Dropping state runs code of users.
        Ok(came)
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.host.staging().0.lock().bytes -= self.bytes;
    }
}
