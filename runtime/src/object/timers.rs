//! Timers of objects: turns that nobody calls for, at a time that the object has set.
//!
//! One book and one task for a whole host, beside the objects: who sets no timer pays nothing.
//! A timer belongs to its activation and ends with it; on a planned move it travels with the
//! object's state (ADR-0017).
//!
//! # What must hold
//!
//! - A tick is a turn like any other: it waits in the object's mailbox, and obeys the fence and the
//!   closing of its shard. What keeps it from having its turn puts it off, and never drops it.
//! - Of one timer at most one tick waits or runs, so ticks never pile up.
//! - A timer that was cancelled or replaced never ticks again, also if its tick waited already.
//! - The book's lock is held while nothing else is locked after it, and no code of users runs.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::activation::Live;
use crate::telemetry::{ObjectMetrics, TickLabels};

mod book;
mod run;
mod tick;

use book::Book;
pub(super) use book::{Due, Kept, Spec};
pub(super) use run::run;
pub(super) use tick::tick;

/// The most timers of one object.
pub const TIMERS_PER_OBJECT_MAX: usize = 32;

/// The longest name of a timer, in bytes.
pub const TIMER_NAME_LEN_MAX: usize = 128;

/// The largest arguments of a timer, in bytes: they are kept as long as it is, and travel with it.
pub const TIMER_ARGS_LEN_MAX: usize = 4 << 10;

/// The shortest period.
pub const TIMER_PERIOD_MIN: Duration = Duration::from_millis(10);

/// The longest period, and the longest time to the first tick: 366 days.
pub const TIMER_WAIT_MAX: Duration = Duration::from_hours(24 * 366);

/// How long a tick that could not have its turn now (the shard closes, the mailbox is full) waits
/// before it tries again.
const PUT_OFF: Duration = Duration::from_millis(50);

/// When a timer ticks: once, or again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    first: Duration,
    period: Option<Duration>,
}

impl Timer {
    /// Ticks once, after this time.
    pub const fn after(first: Duration) -> Self {
        Self {
            first,
            period: None,
        }
    }

    /// Ticks again and again: the first time after one period, and each next time one period after
    /// the turn of the last tick has ended. So a slow turn makes the ticks rarer, and they never
    /// pile up.
    pub const fn every(period: Duration) -> Self {
        Self {
            first: period,
            period: Some(period),
        }
    }

    /// Sets how long it is until the first tick.
    #[must_use]
    pub const fn first_after(self, first: Duration) -> Self {
        Self { first, ..self }
    }

    fn check(self) -> Result<Self, TimerError> {
        let longest = self
            .period
            .map_or(self.first, |every| every.max(self.first));
        if longest > TIMER_WAIT_MAX {
            return Err(TimerError::TooLong(longest));
        }
        match self.period {
            Some(period) if period < TIMER_PERIOD_MIN => Err(TimerError::TooShort(period)),
            Some(_) | None => Ok(self),
        }
    }
}

/// A timer as [`Context::timers`](super::Context::timers) shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimerInfo {
    /// Its name.
    pub name: String,
    /// The method that it calls.
    pub method: String,
    /// The time to its next tick; zero if that is due and waits for its turn.
    pub remaining: Duration,
    /// The time between two ticks; `None`: it ticks once.
    pub period: Option<Duration>,
}

/// Why a timer was not set. The object's other timers are as they were.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TimerError {
    /// The name is empty, or longer than [`TIMER_NAME_LEN_MAX`].
    #[error("a timer's name has 1 to {TIMER_NAME_LEN_MAX} bytes, not {0}")]
    Name(usize),
    /// The period is shorter than [`TIMER_PERIOD_MIN`].
    #[error("the period {0:?} is shorter than {TIMER_PERIOD_MIN:?}")]
    TooShort(Duration),
    /// The period, or the time to the first tick, is longer than [`TIMER_WAIT_MAX`].
    #[error("{0:?} is longer than a timer may wait")]
    TooLong(Duration),
    /// The object has [`TIMERS_PER_OBJECT_MAX`] others.
    #[error("the object has {TIMERS_PER_OBJECT_MAX} timers already")]
    TooMany,
    /// The type has no such method.
    #[error("there is no method {0}")]
    UnknownMethod(String),
    /// The method cannot read these arguments.
    #[error("bad arguments: {0}")]
    BadArguments(String),
    /// The arguments are larger than [`TIMER_ARGS_LEN_MAX`].
    #[error("the arguments have {0} bytes; at most {TIMER_ARGS_LEN_MAX} are allowed")]
    ArgumentsTooLarge(usize),
    /// The activation is over: its lease is lost, or it was ended meanwhile.
    #[error("the activation is over")]
    Over,
}

/// The timers of a host's objects.
pub(super) struct Timers {
    book: Mutex<Book<Weak<dyn Live>>>,
    /// Told when the next tick may come earlier than was known, and when the host is gone.
    changed: Arc<Notify>,
    metrics: ObjectMetrics,
}

impl Timers {
    pub(super) fn new(metrics: ObjectMetrics) -> Self {
        Self {
            book: Mutex::new(Book::default()),
            changed: Arc::default(),
            metrics,
        }
    }

    pub(super) fn changed(&self) -> Arc<Notify> {
        self.changed.clone()
    }

    /// Changes the book, and tells what of that others want to know.
    fn change<R>(&self, change: impl FnOnce(&mut Book<Weak<dyn Live>>) -> R) -> R {
        let mut book = self.book.lock();
        let before = (book.len(), book.next());
        let result = change(&mut book);
        let after = (book.len(), book.next());
        if after.0 != before.0 {
            let len = i64::try_from(after.0).unwrap_or(i64::MAX);
            self.metrics.timers.set(len);
        }
        drop(book);
        if after
            .1
            .is_some_and(|next| before.1.is_none_or(|before| next < before))
        {
            self.changed.notify_one();
        }
        result
    }

    /// Lets an activation have the timers that came with its state.
    pub(super) fn install(&self, live: &Arc<dyn Live>, timers: Vec<Kept>) {
        if timers.is_empty() {
            return;
        }
        live.note_timed();
        self.change(|book| {
            for Kept { spec, due } in timers {
                let set = book.set(place(&**live), || Arc::downgrade(live), spec, due);
                debug_assert_eq!(set, Ok(()), "as many as were allowed where they were set");
            }
        });
    }

    /// Returns an activation's timers, in the order in which they were set.
    pub(super) fn of(&self, live: &dyn Live) -> Vec<Kept> {
        self.book.lock().of(place(live))
    }

    pub(super) fn has_any(&self, live: &dyn Live) -> bool {
        self.book.lock().has_any(place(live))
    }

    /// Ends all timers of an activation, and returns them.
    pub(super) fn end(&self, live: &dyn Live) -> Vec<Kept> {
        self.change(|book| book.remove(place(live)))
    }

    fn take_due(&self, now: Instant, max: usize) -> Vec<Due<Weak<dyn Live>>> {
        self.change(|book| book.take_due(now, max))
    }

    fn next(&self) -> Option<Instant> {
        self.book.lock().next()
    }

    /// Forgets an activation that is gone.
    fn forget(&self, place: usize) {
        self.change(|book| book.remove(place));
    }

    /// Whether a tick may have its turn now: the timer was neither cancelled nor replaced.
    fn begin(&self, place: usize, id: u64) -> bool {
        self.change(|book| book.begin(place, id, Instant::now()))
    }

    fn ended(&self, place: usize, id: u64, outcome: &'static str) {
        self.count(outcome);
        self.change(|book| book.ended(place, id, Instant::now()));
    }

    fn put_off(&self, place: usize, id: u64) {
        self.count(PUT_OFF_OUTCOME);
        self.change(|book| book.put_off(place, id, Instant::now() + PUT_OFF));
    }

    fn count(&self, outcome: &'static str) {
        let ticks = &self.metrics.timer_ticks;
        ticks.get_or_create(&TickLabels { outcome }).inc();
    }
}

/// How ticks end, as metrics name it.
pub(crate) const TICK_OUTCOMES: [&str; 3] = [RAN_OUTCOME, FAILED_OUTCOME, PUT_OFF_OUTCOME];
const RAN_OUTCOME: &str = "ran";
const FAILED_OUTCOME: &str = "failed";
const PUT_OFF_OUTCOME: &str = "put_off";

impl Drop for Timers {
    fn drop(&mut self) {
        self.changed.notify_one(); // Lets the task see that the host is gone.
    }
}

impl std::fmt::Debug for Timers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timers")
            .field("len", &self.book.lock().len())
            .finish_non_exhaustive()
    }
}

/// Sets a timer of an activation, in place of one of the same name.
pub(super) fn set(
    live: &Arc<dyn Live>,
    name: &str,
    timer: Timer,
    method: &str,
    args: &impl Serialize,
) -> Result<(), TimerError> {
    let timer = timer.check()?;
    let args = write_args(args)?;
    let spec = spec(name, timer.period, args, |args| live.readable(method, args))?;
    let due = Instant::now() + timer.first;
    live.note_timed();
    let timers = live.timers();
    timers.change(|book| book.set(place(&**live), || Arc::downgrade(live), spec, due))?;
    if live.is_over() {
        timers.end(&**live); // Its end may have looked before this was set.
        return Err(TimerError::Over);
    }
    Ok(())
}

/// Cancels a timer of an activation; returns whether there was one.
pub(super) fn cancel(live: &dyn Live, name: &str) -> bool {
    live.timers().change(|book| book.cancel(place(live), name))
}

/// Lists the timers of an activation.
pub(super) fn list(live: &dyn Live) -> Vec<TimerInfo> {
    let now = Instant::now();
    let timers = live.timers().of(live).into_iter();
    timers
        .map(|Kept { spec, due }| TimerInfo {
            name: spec.name.to_string(),
            method: spec.method.to_owned(),
            remaining: due.saturating_duration_since(now),
            period: spec.period,
        })
        .collect()
}

/// Makes a timer's unchanging part, if it is within its bounds and the method can read the
/// arguments.
fn spec(
    name: &str,
    period: Option<Duration>,
    args: Bytes,
    readable: impl FnOnce(&[u8]) -> Result<&'static str, TimerError>,
) -> Result<Arc<Spec>, TimerError> {
    if name.is_empty() || name.len() > TIMER_NAME_LEN_MAX {
        return Err(TimerError::Name(name.len()));
    }
    if args.len() > TIMER_ARGS_LEN_MAX {
        return Err(TimerError::ArgumentsTooLarge(args.len()));
    }
    let method = readable(&args)?;
    Ok(Arc::new(Spec {
        name: name.into(),
        method,
        args,
        period,
    }))
}

/// Writes arguments as methods read them. No arguments are an empty list, not `nil`.
fn write_args(args: &impl Serialize) -> Result<Bytes, TimerError> {
    const NIL: &[u8] = &[0xc0];
    const EMPTY: &[u8] = &[0x90];
    let written = rmp_serde::to_vec_named(args);
    let written = written.map_err(|error| TimerError::BadArguments(error.to_string()))?;
    Ok(if written == NIL {
        Bytes::from_static(EMPTY)
    } else {
        written.into()
    })
}

/// A timer on its way to another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedTimer {
    /// Its name.
    pub name: String,
    /// The method that it calls.
    pub method: String,
    /// `MessagePack`: the arguments by name or in order.
    pub args: Bytes,
    /// The time to its next tick.
    pub remaining: Duration,
    /// The time between two ticks; `None`: it ticks once.
    pub period: Option<Duration>,
}

impl PackedTimer {
    /// Returns about how many bytes it takes.
    pub(crate) fn len(&self) -> usize {
        self.name.len() + self.method.len() + self.args.len() + size_of::<Self>()
    }
}

/// Packs timers for their journey.
pub(super) fn pack(timers: Vec<Kept>, now: Instant) -> Vec<PackedTimer> {
    let packed = timers.into_iter().map(|Kept { spec, due }| PackedTimer {
        name: spec.name.to_string(),
        method: spec.method.to_owned(),
        args: spec.args.clone(),
        remaining: due.saturating_duration_since(now),
        period: spec.period,
    });
    packed.collect()
}

/// Unpacks timers where they arrive, if they are within their bounds and each method is there and
/// can read its arguments.
pub(super) fn unpack(
    packed: &[PackedTimer],
    now: Instant,
    readable: impl Fn(&str, &[u8]) -> Result<&'static str, TimerError>,
) -> Result<Vec<Kept>, TimerError> {
    if packed.len() > TIMERS_PER_OBJECT_MAX {
        return Err(TimerError::TooMany);
    }
    let unpack = |packed: &PackedTimer| {
        let timer = Timer {
            first: packed.remaining,
            period: packed.period,
        };
        let timer = timer.check()?;
        let readable = |args: &[u8]| readable(&packed.method, args);
        Ok(Kept {
            spec: spec(&packed.name, timer.period, packed.args.clone(), readable)?,
            due: now + timer.first,
        })
    };
    packed.iter().map(unpack).collect()
}

/// What an activation's timers are kept under: where it is in memory. The book's weak reference
/// keeps the place from being another's.
fn place(live: &dyn Live) -> usize {
    std::ptr::from_ref(live).cast::<()>().addr()
}
