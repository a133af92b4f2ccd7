//! One limit for the bytes that requests of others take in a process: bodies, batches, state on its
//! way, replies that wait.
//!
//! A limit for each of them is not enough: four hundred bodies within their limit are more memory
//! than a container has. Bytes are reserved before they are buffered, and a reservation that does
//! not fit fails; nothing waits for long, so nothing can deadlock.

mod detect;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

pub use detect::{
    MEMORY_BUDGET_MAX_DEFAULT, MEMORY_BUDGET_MIN, default_memory_budget, memory_limit,
};

use crate::telemetry::{BudgetLabels, BudgetMetrics};

/// The most tasks that wait for bytes at a time; one more is woken too often, which is harmless.
const WAITERS_MAX: usize = 4096;

/// What bytes are reserved for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BytesFor {
    /// The bodies of requests of clients, over HTTP and gRPC. They get three quarters at most: the
    /// rest is for other nodes, whose calls are in progress already.
    Request,
    /// Batches of calls of other nodes, until the last call of a batch has ended.
    Batch,
    /// State of objects on its way here. It gets half at most.
    Staging,
    /// Replies that wait until their connection takes them.
    Reply,
}

impl BytesFor {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Request, Self::Batch, Self::Staging, Self::Reply];

    /// Returns its name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Batch => "batch",
            Self::Staging => "staging",
            Self::Reply => "reply",
        }
    }

    /// Returns how much of the budget may be in use in all once this kind has got its bytes.
    fn ceiling(self, limit: usize) -> usize {
        match self {
            Self::Request => limit - limit / 4,
            Self::Staging => limit / 2,
            Self::Batch | Self::Reply => limit,
        }
    }
}

/// There is not enough left of the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{wanted} bytes for a {} do not fit: {used} of {limit} are in use (memory_budget)", kind.as_str())]
pub struct BudgetExceeded {
    /// What they were for.
    pub kind: BytesFor,
    /// How many.
    pub wanted: usize,
    /// How many are in use.
    pub used: usize,
    /// How many there are.
    pub limit: usize,
}

/// The bytes that may be in flight in a process. A cheap handle; clones share them.
#[derive(Clone)]
pub struct MemoryBudget(Arc<Inner>);

struct Inner {
    limit: usize,
    used: AtomicUsize,
    by_kind: [AtomicUsize; BytesFor::ALL.len()],
    waiting: Mutex<Vec<Waker>>,
    metrics: ArcSwap<BudgetMetrics>,
}

impl MemoryBudget {
    /// Makes a budget of this many bytes.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Inner {
            limit,
            used: AtomicUsize::new(0),
            by_kind: Default::default(),
            waiting: Mutex::default(),
            metrics: ArcSwap::default(),
        }))
    }

    /// Counts in these metrics from now on. Nodes that share a process share the budget, and the
    /// last of them shows it.
    pub fn report_to(&self, metrics: &BudgetMetrics) {
        metrics
            .limit
            .set(i64::try_from(self.0.limit).unwrap_or(i64::MAX));
        self.0.metrics.store(Arc::new(metrics.clone()));
    }

    /// Returns how many bytes there are.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// Returns how many bytes are in use.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Begins with nothing reserved.
    pub fn empty(&self, kind: BytesFor) -> Reservation {
        Reservation {
            budget: self.clone(),
            kind,
            bytes: 0,
        }
    }

    /// Reserves bytes.
    ///
    /// # Errors
    ///
    /// [`BudgetExceeded`] if they do not fit; it is counted.
    pub fn reserve(&self, kind: BytesFor, bytes: usize) -> Result<Reservation, BudgetExceeded> {
        let mut reservation = self.empty(kind);
        reservation.grow(bytes)?;
        Ok(reservation)
    }

    /// Reserves bytes, or has the task woken when some are free again. Sets no time limit.
    pub fn poll_reserve(
        &self,
        kind: BytesFor,
        bytes: usize,
        cx: &Context<'_>,
    ) -> Poll<Reservation> {
        let mut reservation = self.empty(kind);
        for _ in 0..2 {
            if self.take(kind, bytes).is_ok() {
                reservation.bytes = bytes;
                return Poll::Ready(reservation);
            }
            // Tried again after this: some may have become free in between.
            let mut waiting = self.0.waiting.lock();
            if waiting.len() >= WAITERS_MAX {
                waiting.drain(..).for_each(Waker::wake);
            }
            if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
        }
        Poll::Pending
    }

    fn take(&self, kind: BytesFor, bytes: usize) -> Result<(), BudgetExceeded> {
        let limit = kind.ceiling(self.0.limit);
        let add = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= limit);
        let of_kind = &self.0.by_kind[kind as usize];
        match self
            .0
            .used
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, add)
        {
            Ok(_) => {
                of_kind.fetch_add(bytes, Ordering::Relaxed);
                self.show();
                Ok(())
            }
            Err(used) => Err(BudgetExceeded {
                kind,
                wanted: bytes,
                used,
                limit: self.0.limit,
            }),
        }
    }

    fn give_back(&self, kind: BytesFor, bytes: usize) {
        self.0.by_kind[kind as usize].fetch_sub(bytes, Ordering::Relaxed);
        self.0.used.fetch_sub(bytes, Ordering::AcqRel);
        self.show();
        let waiting = std::mem::take(&mut *self.0.waiting.lock());
        waiting.into_iter().for_each(Waker::wake);
    }

    fn show(&self) {
        let used = i64::try_from(self.used()).unwrap_or(i64::MAX);
        self.0.metrics.load().used.set(used);
    }

    /// Counts a reservation that was waited for in vain, and returns the error.
    pub(crate) fn exceeded(&self, kind: BytesFor, wanted: usize) -> BudgetExceeded {
        self.count(kind);
        BudgetExceeded {
            kind,
            wanted,
            used: self.used(),
            limit: self.0.limit,
        }
    }

    fn count(&self, kind: BytesFor) {
        let labels = BudgetLabels {
            kind: kind.as_str(),
        };
        let metrics = self.0.metrics.load();
        metrics.rejected.get_or_create(&labels).inc();
    }
}

impl fmt::Debug for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBudget")
            .field("limit", &self.0.limit)
            .field("used", &self.used())
            .finish_non_exhaustive()
    }
}

/// Reserved bytes, until it is dropped.
#[derive(Debug)]
#[must_use = "dropping it gives the bytes back"]
pub struct Reservation {
    budget: MemoryBudget,
    kind: BytesFor,
    bytes: usize,
}

impl Reservation {
    /// Reserves more.
    ///
    /// # Errors
    ///
    /// [`BudgetExceeded`] if they do not fit; what is reserved stays so.
    pub fn grow(&mut self, bytes: usize) -> Result<(), BudgetExceeded> {
        let taken = self.budget.take(self.kind, bytes);
        match taken {
            Ok(()) => self.bytes += bytes,
            Err(_) => self.budget.count(self.kind),
        }
        taken
    }

    /// Returns what the bytes are for.
    pub fn kind(&self) -> BytesFor {
        self.kind
    }

    /// Takes over what another one holds.
    pub fn absorb(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Returns how many bytes it holds.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.give_back(self.kind, self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_and_counted() {
        let (budget, metrics) = (MemoryBudget::new(100), BudgetMetrics::default());
        budget.report_to(&metrics);
        let mut held = budget.reserve(BytesFor::Batch, 60).unwrap();
        let error = held.grow(41).unwrap_err();
        assert_eq!((error.used, error.limit, held.bytes()), (60, 100, 60));
        held.grow(40).unwrap();
        assert_eq!((budget.used(), metrics.used.get()), (100, 100));
        drop(held);
        assert_eq!((budget.used(), metrics.used.get()), (0, 0));
        let labels = BudgetLabels { kind: "batch" };
        assert_eq!(metrics.rejected.get_or_create(&labels).get(), 1);
    }

    #[test]
    fn clients_leave_room_for_other_nodes() {
        let budget = MemoryBudget::new(100);
        let _staged = budget.reserve(BytesFor::Staging, 50).unwrap();
        assert!(budget.reserve(BytesFor::Staging, 1).is_err());
        let _requests = budget.reserve(BytesFor::Request, 25).unwrap();
        assert!(budget.reserve(BytesFor::Request, 1).is_err());
        assert!(budget.reserve(BytesFor::Batch, 25).is_ok());
        assert!(budget.reserve(BytesFor::Reply, usize::MAX).is_err());
    }

    #[test]
    fn absorbed_bytes_are_given_back_once() {
        let budget = MemoryBudget::new(100);
        let mut held = budget.reserve(BytesFor::Reply, 10).unwrap();
        held.absorb(budget.reserve(BytesFor::Reply, 20).unwrap());
        assert_eq!((held.bytes(), budget.used()), (30, 30));
        drop(held);
        assert_eq!(budget.used(), 0);
    }
}
