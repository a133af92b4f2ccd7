//! Calls that wait for their shard to have somebody who can serve it.
//!
//! Each shard has a line of its own. News wakes the whole line, one call after the other: the
//! next is let go only when the one before has been handed on, so that calls leave in the order
//! in which they came. Lines and their sum are bounded.

use std::collections::btree_map::OccupiedEntry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use crate::telemetry::ParkingMetrics;

/// The most calls that wait in all lines together.
pub(super) const PARKED_MAX: usize = 65_536;

/// The most calls that wait in one line.
pub(super) const PARKED_LINE_MAX: usize = 16_384;

/// Every line of waiting calls.
#[derive(Debug)]
pub(super) struct Parking {
    /// How many are in each line, so that the many calls that need not wait take no lock.
    lens: Box<[AtomicU32]>,
    lines: Mutex<Lines>,
    metrics: ParkingMetrics,
}

/// Names a line: the index of a shard, or the one after the last for calls that are bound to a
/// node.
pub(super) type Line = usize;

#[derive(Debug, Default)]
struct Lines {
    by_line: HashMap<Line, Waiting>,
    total: usize,
    next_ticket: u64,
}

#[derive(Debug, Default)]
struct Waiting {
    /// By ticket, so in order of arrival.
    calls: BTreeMap<u64, oneshot::Sender<Baton>>,
    /// Calls with a smaller ticket are being let go.
    go_below: u64,
    /// The call that is on its way now.
    baton: bool,
}

/// A line or all lines together are full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// A place in a line; dropping it leaves the line.
#[derive(Debug)]
pub(super) struct Seat {
    parking: Arc<Parking>,
    line: Line,
    ticket: u64,
    called: oneshot::Receiver<Baton>,
    since: Instant,
}

/// Held by the one call of a line that is on its way; dropping it lets the next one go.
#[derive(Debug)]
pub(super) struct Baton {
    parking: Arc<Parking>,
    line: Line,
}

impl Parking {
    /// Makes empty lines.
    pub(super) fn new(lines: usize, metrics: ParkingMetrics) -> Arc<Self> {
        Arc::new(Self {
            lens: (0..lines).map(|_| AtomicU32::new(0)).collect(),
            lines: Mutex::default(),
            metrics,
        })
    }

    /// Whether somebody waits in a line, or just left it and is not handed on yet.
    pub(super) fn is_occupied(&self, line: Line) -> bool {
        self.lens[line].load(Ordering::Acquire) > 0
    }

    /// Takes a place at the end of a line.
    ///
    /// News that came just before wakes nobody, so whoever takes a place looks once more at what
    /// it waits for, and if that is there already, wakes the line itself.
    pub(super) fn sit(self: &Arc<Self>, line: Line) -> Result<Seat, Full> {
        let mut lines = self.lines.lock();
        let len = lines.by_line.get(&line).map_or(0, |w| w.calls.len());
        if lines.total >= PARKED_MAX || len >= PARKED_LINE_MAX {
            drop(lines);
            self.metrics.overflows.inc();
            return Err(Full);
        }
        let (caller, called) = oneshot::channel();
        let ticket = lines.next_ticket;
        lines.next_ticket += 1;
        lines.total += 1;
        let waiting = lines.by_line.entry(line).or_default();
        waiting.calls.insert(ticket, caller);
        self.set_len(line, waiting);
        drop(lines);
        self.metrics.parked.inc();
        self.metrics.parked_total.inc();
        Ok(Seat {
            parking: self.clone(),
            line,
            ticket,
            called,
            since: Instant::now(),
        })
    }

    /// Lets everybody go who is in a line now.
    pub(super) fn wake(self: &Arc<Self>, line: Line) {
        if !self.is_occupied(line) {
            return;
        }
        let mut lines = self.lines.lock();
        let next_ticket = lines.next_ticket;
        let Some(waiting) = lines.by_line.get_mut(&line) else {
            return;
        };
        waiting.go_below = next_ticket;
        let under_way = std::mem::replace(&mut waiting.baton, true);
        drop(lines);
        if !under_way {
            self.let_next_go(line);
        }
    }

    /// Lets everybody go who waits.
    pub(super) fn wake_all(self: &Arc<Self>) {
        for line in 0..self.lens.len() {
            self.wake(line);
        }
    }

    /// Hands the baton to the next call; the one before has been handed on.
    fn let_next_go(self: &Arc<Self>, line: Line) {
        // A call that gives up at this moment hands the baton back, and the next one gets it.
        while let Some(call) = self.next(line) {
            let baton = Baton {
                parking: self.clone(),
                line,
            };
            match call.send(baton) {
                Ok(()) => return,
                // Its drop would come back here, one level deeper each time.
                Err(mut returned) => returned.line = NO_LINE,
            }
        }
    }

    fn next(&self, line: Line) -> Option<oneshot::Sender<Baton>> {
        let mut lines = self.lines.lock();
        let waiting = lines.by_line.get_mut(&line)?;
        let go = waiting.calls.first_entry();
        let go = go.filter(|first| *first.key() < waiting.go_below);
        let call = go.map(OccupiedEntry::remove);
        waiting.baton = call.is_some();
        self.set_len(line, waiting);
        if waiting.calls.is_empty() && !waiting.baton {
            lines.by_line.remove(&line);
        }
        if call.is_some() {
            lines.total -= 1;
        }
        call
    }

    fn leave(&self, line: Line, ticket: u64) {
        let mut lines = self.lines.lock();
        let Some(waiting) = lines.by_line.get_mut(&line) else {
            return;
        };
        if waiting.calls.remove(&ticket).is_none() {
            return; // It was let go already.
        }
        self.set_len(line, waiting);
        if waiting.calls.is_empty() && !waiting.baton {
            lines.by_line.remove(&line);
        }
        lines.total -= 1;
    }

    fn set_len(&self, line: Line, waiting: &Waiting) {
        let len = waiting.calls.len() + usize::from(waiting.baton);
        let len = u32::try_from(len).expect("bounded by PARKED_LINE_MAX");
        self.lens[line].store(len, Ordering::Release);
    }
}

/// The line of a baton that nobody holds.
const NO_LINE: Line = Line::MAX;

impl Drop for Baton {
    fn drop(&mut self) {
        if self.line != NO_LINE {
            self.parking.let_next_go(self.line);
        }
    }
}

impl Seat {
    /// Waits to be let go, until `deadline`; `None`: it passed. At `wake_at`, if that is given,
    /// the whole line is woken, whether there is news or not.
    pub(super) async fn wait(
        mut self,
        wake_at: Option<Instant>,
        deadline: Instant,
    ) -> Option<Baton> {
        if let Some(wake_at) = wake_at.filter(|at| *at < deadline) {
            tokio::select! {
                biased;
                called = &mut self.called => return called.ok(),
                () = sleep_until(wake_at) => self.parking.wake(self.line),
            }
        }
        tokio::select! {
            biased;
            called = &mut self.called => called.ok(),
            () = sleep_until(deadline) => None,
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.parking.leave(self.line, self.ticket);
        self.parking.metrics.parked.dec();
        let waited = self.since.elapsed();
        self.parking.metrics.wait.observe(waited.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::time::Duration;

    const LINE: Line = 3;

    fn parking() -> Arc<Parking> {
        Parking::new(8, ParkingMetrics::default())
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_mins(1)
    }

    #[tokio::test(start_paused = true)]
    async fn calls_leave_in_order_each_after_the_one_before_was_handed_on() {
        let parking = parking();
        let mut first = Box::pin(parking.sit(LINE).unwrap().wait(None, later()));
        let mut second = Box::pin(parking.sit(LINE).unwrap().wait(None, later()));
        assert!(first.as_mut().now_or_never().is_none());
        parking.wake(LINE);
        assert!(second.as_mut().now_or_never().is_none(), "not its turn yet");
        let baton = first.now_or_never().flatten().unwrap();
        assert!(
            second.as_mut().now_or_never().is_none(),
            "not handed on yet"
        );
        drop(baton);
        let baton = second.now_or_never().flatten().unwrap();
        assert!(parking.is_occupied(LINE), "newcomers must not overtake");
        drop(baton);
        assert!(!parking.is_occupied(LINE));
        assert_eq!(parking.metrics.parked.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_back_waits_for_the_next_news() {
        let parking = parking();
        let seat = parking.sit(LINE).unwrap();
        parking.wake(LINE);
        let baton = seat.wait(None, later()).await.unwrap();
        let again = parking.sit(LINE).unwrap();
        drop(baton);
        let soon = Instant::now() + Duration::from_secs(1);
        assert!(again.wait(None, soon).await.is_none());
        assert!(!parking.is_occupied(LINE), "leaving frees the place");
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_holds_up_nobody() {
        let parking = parking();
        let seats: Vec<_> = (0..3).map(|_| parking.sit(LINE).unwrap()).collect();
        parking.wake(LINE);
        let mut seats = seats.into_iter();
        drop(seats.next()); // Holds the baton by now.
        drop(seats.next());
        assert!(seats.next().unwrap().wait(None, later()).await.is_some());
        assert!(!parking.is_occupied(LINE));
    }

    #[tokio::test(start_paused = true)]
    async fn news_of_one_line_wakes_no_other() {
        let parking = parking();
        let mut other = Box::pin(parking.sit(5).unwrap().wait(None, later()));
        parking.wake(LINE);
        assert!(other.as_mut().now_or_never().is_none());
        parking.wake_all();
        assert!(other.now_or_never().flatten().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_to_try_again_wakes_the_whole_line_in_order() {
        let parking = parking();
        let first = parking.sit(LINE).unwrap();
        let second = parking.sit(LINE).unwrap();
        let soon = Instant::now() + Duration::from_millis(50);
        let second = second.wait(Some(soon), later());
        let (first, second) = tokio::join!(
            async { drop(first.wait(None, later()).await.unwrap()) },
            second
        );
        assert!(second.is_some());
        let () = first;
        assert_eq!(Instant::now(), soon);
    }

    #[test]
    fn a_full_line_refuses() {
        let parking = parking();
        let seats: Vec<_> = (0..PARKED_LINE_MAX)
            .map(|_| parking.sit(LINE).unwrap())
            .collect();
        assert_eq!(parking.sit(LINE).unwrap_err(), Full);
        assert!(parking.sit(LINE + 1).is_ok());
        assert_eq!(parking.metrics.overflows.get(), 1);
        drop(seats);
        assert!(parking.sit(LINE).is_ok());
    }
}
