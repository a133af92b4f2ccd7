//! When this node must not serve.
//!
//! A lease runs out in the store by the store's clock; the fence is its owner's half: the moment
//! by the owner's own clock when it must have stopped. Others take over no earlier than the time
//! to live after the renewal that the owner *sent*, so the deadline counts from the send, minus a
//! margin, on a clock that counts suspend.
//!
//! Three things close a fence, and each has its own way back:
//! - the deadline passes: it is **suspended**. A later keep-alive only moves the promised
//!   deadline; the fence opens again by [`Fence::resume`] alone, because the lease keeper must
//!   first see in the store that this life of the node still stands;
//! - the lease is lost or given up: it is **closed**, until [`Fence::open`] begins another life;
//! - nobody opened it yet.
//!
//! [`Fence::is_open`] compares with the clock at each use, so it needs no timer to be right. The
//! watchdog of [`Fence::watch_over`] is for everything that does not ask: it raises the suspension
//! from a plain OS thread, so that a stalled executor cannot skip it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::clock::{Clock, Moment};

/// The longest the watchdog sleeps: how late it may be after the machine was suspended, since
/// its sleep does not count that time.
const WATCHDOG_NAP_MAX: Duration = Duration::from_millis(100);

/// The moment by its own clock until which a node may start turns, write and reply.
///
/// Shared by the lease keeper, which moves the deadline, and everything that serves, which only
/// asks. Asking costs one atomic read and one reading of the clock: about 20 ns.
#[derive(Debug)]
pub struct Fence {
    clock: Clock,
    /// The deadline while open, else [`Moment::START`], which is before every reading of a clock.
    deadline: AtomicU64,
    /// The deadline that the last acknowledged keep-alive allows. Also the lock under which
    /// `deadline` and `state` change.
    promised: Mutex<Moment>,
    /// Whether no incarnation of this process may serve any more. Changes under the lock too.
    ended: AtomicBool,
    state: watch::Sender<FenceState>,
}

/// What a fence was last told; only [`Fence::is_open`] compares with the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FenceState {
    /// There is no life to serve in.
    Closed,
    /// The node serves until the deadline.
    Open,
    /// The deadline passed; nothing is served until the life is proven to stand.
    Suspended,
}

impl Fence {
    /// Makes a fence that is closed until it is opened.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            deadline: AtomicU64::new(Moment::START.nanos()),
            promised: Mutex::new(Moment::START),
            ended: AtomicBool::new(false),
            state: watch::Sender::new(FenceState::Closed),
        }
    }

    /// Whether the node may serve at this moment.
    #[inline]
    pub fn is_open(&self) -> bool {
        // The clock after the deadline: a pause between the two can then only close the fence.
        let deadline = self.deadline();
        self.clock.now() < deadline
    }

    /// Whether the node may begin something with `now`, which the caller has just read from this
    /// fence's clock for this and other purposes.
    ///
    /// A pause after the reading is then not seen, just as [`Fence::is_open`] does not see one
    /// after its check: the margin before the end of the lease is for both. So only few and short
    /// steps may lie between the reading and what it allows, and none that waits.
    #[inline]
    pub fn is_open_at(&self, now: Moment) -> bool {
        now < self.deadline()
    }

    /// Returns the moment from which the node must not serve; [`Moment::START`] unless open.
    #[inline]
    pub fn deadline(&self) -> Moment {
        Moment::from_nanos(self.deadline.load(Ordering::Acquire))
    }

    /// Returns the time left until the deadline; zero if it passed or the fence is not open.
    pub fn margin(&self) -> Duration {
        let deadline = self.deadline();
        deadline.since(self.clock.now())
    }

    /// Returns the clock that the deadline is measured on.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Returns what the fence was last told.
    pub fn state(&self) -> FenceState {
        *self.state.borrow()
    }

    /// Returns a receiver that is woken when the fence opens, is suspended or closes.
    pub fn subscribe(&self) -> watch::Receiver<FenceState> {
        self.state.subscribe()
    }

    /// Begins a life: the node may serve until `deadline`. After [`Fence::end`] this does nothing.
    pub fn open(&self, deadline: Moment) {
        let mut promised = self.promised.lock();
        if self.ended.load(Ordering::Relaxed) {
            return;
        }
        *promised = deadline;
        self.set(FenceState::Open, deadline);
    }

    /// Moves the deadline of an open fence on to `deadline`, never back.
    ///
    /// If the present deadline has passed already the fence is suspended instead, whether or not
    /// anybody noticed before: a keep-alive alone opens nothing. A closed fence ignores this.
    pub fn extend_to(&self, deadline: Moment) {
        let mut promised = self.promised.lock();
        self.lapse_locked();
        match self.state() {
            FenceState::Closed => {}
            FenceState::Open => {
                *promised = deadline.max(*promised);
                self.deadline.store(promised.nanos(), Ordering::Release);
            }
            FenceState::Suspended => *promised = deadline.max(*promised),
        }
    }

    /// Suspends the fence if its deadline has passed, and returns its state.
    pub fn lapse(&self) -> FenceState {
        let _promised = self.promised.lock();
        self.lapse_locked();
        self.state()
    }

    /// Opens a suspended fence up to the deadline that was promised meanwhile, and returns
    /// whether the fence is open. It is not if that deadline has passed too, or the fence was
    /// closed.
    ///
    /// Call this only after the store has shown, in a read sent after an acknowledged keep-alive,
    /// that this life of the node still stands.
    pub fn resume(&self) -> bool {
        let promised = self.promised.lock();
        if self.state() == FenceState::Suspended && self.clock.now() < *promised {
            self.set(FenceState::Open, *promised);
        }
        self.is_open()
    }

    /// Ends the life: the lease is lost or given up. Only [`Fence::open`] leads back.
    pub fn close(&self) {
        let mut promised = self.promised.lock();
        *promised = Moment::START;
        self.set(FenceState::Closed, Moment::START);
    }

    /// Closes the fence for good: no later life of this process opens it.
    pub fn end(&self) {
        let mut promised = self.promised.lock();
        self.ended.store(true, Ordering::Relaxed);
        *promised = Moment::START;
        self.set(FenceState::Closed, Moment::START);
    }

    /// Starts a plain OS thread that suspends the fence when its deadline passes, and ends soon
    /// after the fence is dropped.
    ///
    /// Only with [`Clock::Boot`]. Tokio's clock stands still while the executor stalls, so a
    /// thread beside it could only see what the check at each use sees anyway: there is none.
    ///
    /// # Errors
    ///
    /// The system has no thread to give.
    pub fn watch_over(self: &Arc<Self>) -> std::io::Result<()> {
        match self.clock {
            Clock::Boot => {}
            Clock::Tokio(_) => return Ok(()),
        }
        let watched = Arc::downgrade(self);
        let watch = move || {
            while let Some(fence) = watched.upgrade() {
                fence.lapse();
                let nap = match fence.margin() {
                    Duration::ZERO => WATCHDOG_NAP_MAX,
                    margin => margin.min(WATCHDOG_NAP_MAX),
                };
                drop(fence);
                std::thread::park_timeout(nap);
            }
        };
        std::thread::Builder::new()
            .name("fence".into())
            .spawn(watch)
            .map(drop)
    }

    fn lapse_locked(&self) {
        if self.state() == FenceState::Open && !self.is_open() {
            self.set(FenceState::Suspended, Moment::START);
        }
    }

    fn set(&self, state: FenceState, deadline: Moment) {
        self.deadline.store(deadline.nanos(), Ordering::Release);
        self.state.send_if_modified(|old| {
            let changed = *old != state;
            *old = state;
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    const TTL: Duration = Duration::from_secs(5);

    fn opened() -> (Fence, Clock) {
        let clock = Clock::tokio();
        let fence = Fence::new(clock);
        fence.open(clock.now().plus(TTL));
        (fence, clock)
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_fence_is_closed_and_stays_so_until_opened() {
        let clock = Clock::tokio();
        let fence = Fence::new(clock);
        fence.extend_to(clock.now().plus(TTL));
        assert!(!fence.resume() && !fence.is_open());
        fence.open(clock.now().plus(TTL));
        assert!(fence.is_open());
        assert_eq!(fence.margin(), TTL);
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_closes_at_each_use_without_any_timer() {
        let (fence, _) = opened();
        advance(TTL.saturating_sub(Duration::from_nanos(1))).await;
        assert!(fence.is_open());
        advance(Duration::from_nanos(1)).await;
        assert!(!fence.is_open());
        assert_eq!(fence.state(), FenceState::Open, "nobody told it yet");
        assert_eq!(fence.margin(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reading_allows_something_only_before_the_deadline_and_while_open() {
        let (fence, clock) = opened();
        let now = clock.now();
        let last = now.plus(TTL.saturating_sub(Duration::from_nanos(1)));
        assert!(fence.is_open_at(now) && fence.is_open_at(last));
        assert!(!fence.is_open_at(now.plus(TTL)));
        fence.close();
        assert!(!fence.is_open_at(now));
    }

    #[tokio::test(start_paused = true)]
    async fn a_keep_alive_in_time_moves_the_deadline_on_and_never_back() {
        let (fence, clock) = opened();
        let later = clock.now().plus(TTL * 2);
        fence.extend_to(later);
        fence.extend_to(clock.now().plus(TTL));
        assert_eq!(fence.deadline(), later);
    }

    #[tokio::test(start_paused = true)]
    async fn a_keep_alive_after_the_deadline_opens_nothing_even_if_nobody_noticed() {
        let (fence, clock) = opened();
        advance(TTL).await;
        fence.extend_to(clock.now().plus(TTL));
        assert!(!fence.is_open());
        assert_eq!(fence.state(), FenceState::Suspended);
        assert!(fence.resume(), "but it allows to resume");
        assert_eq!(fence.margin(), TTL);
    }

    #[tokio::test(start_paused = true)]
    async fn resuming_needs_a_promised_deadline_ahead() {
        let (fence, clock) = opened();
        advance(TTL).await;
        assert_eq!(fence.lapse(), FenceState::Suspended);
        assert!(!fence.resume(), "nothing was promised");
        fence.extend_to(clock.now().plus(TTL));
        advance(TTL).await;
        assert!(!fence.resume(), "the promise ran out too");
        assert_eq!(fence.state(), FenceState::Suspended);
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_fence_opens_only_with_a_new_life() {
        let (fence, clock) = opened();
        fence.close();
        fence.extend_to(clock.now().plus(TTL));
        assert!(!fence.resume() && !fence.is_open());
        fence.open(clock.now().plus(TTL));
        assert!(fence.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn an_ended_fence_never_opens_again() {
        let (fence, clock) = opened();
        fence.end();
        fence.open(clock.now().plus(TTL));
        fence.extend_to(clock.now().plus(TTL));
        assert!(!fence.resume() && !fence.is_open());
        assert_eq!(fence.state(), FenceState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn changes_can_be_awaited() {
        let (fence, _) = opened();
        let mut states = fence.subscribe();
        assert_eq!(fence.lapse(), FenceState::Open);
        assert!(!states.has_changed().expect("the fence lives"));
        advance(TTL).await;
        fence.lapse();
        states.changed().await.expect("the fence lives");
        assert_eq!(*states.borrow(), FenceState::Suspended);
    }

    #[test]
    fn the_watchdog_suspends_while_no_executor_runs() {
        let fence = Arc::new(Fence::new(Clock::Boot));
        fence.watch_over().expect("a thread");
        fence.open(Clock::Boot.now().plus(Duration::from_millis(20)));
        let patience = Clock::Boot.now().plus(Duration::from_secs(10));
        while fence.state() != FenceState::Suspended {
            assert!(Clock::Boot.now() < patience, "the watchdog sleeps");
            std::thread::yield_now();
        }
        assert!(!fence.is_open());
    }

    #[test]
    fn the_watchdog_ends_with_its_fence() {
        let fence = Arc::new(Fence::new(Clock::Boot));
        fence.watch_over().expect("a thread");
        let watched = Arc::downgrade(&fence);
        drop(fence);
        let patience = Clock::Boot.now().plus(Duration::from_secs(10));
        while watched.strong_count() > 0 {
            assert!(Clock::Boot.now() < patience, "the watchdog keeps the fence");
            std::thread::yield_now();
        }
    }
}
