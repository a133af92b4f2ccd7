//! Which timers there are, and which is due next. Pure: the time is an argument.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{TIMERS_PER_OBJECT_MAX, TimerError};

/// What does not change about a timer.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::object) struct Spec {
    pub(in crate::object) name: Box<str>,
    pub(in crate::object) method: &'static str,
    pub(in crate::object) args: Bytes,
    pub(in crate::object) period: Option<Duration>,
}

/// A timer outside the book: of an object without an activation, or on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::object) struct Kept {
    pub(in crate::object) spec: Arc<Spec>,
    pub(in crate::object) due: Instant,
}

/// A tick that is due.
#[derive(Debug)]
pub(in crate::object) struct Due<L> {
    pub(in crate::object) place: usize,
    pub(in crate::object) id: u64,
    pub(in crate::object) live: L,
    pub(in crate::object) spec: Arc<Spec>,
}

/// The timers of a host's activations, of which `L` is a reference.
#[derive(Debug)]
pub(super) struct Book<L> {
    owners: HashMap<usize, Owner<L>>,
    /// When each timer that waits is looked at next, and whose it is.
    queue: BTreeMap<(Instant, u64), usize>,
    last_id: u64,
    len: usize,
}

#[derive(Debug)]
struct Owner<L> {
    live: L,
    timers: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    spec: Arc<Spec>,
    due: Instant,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// In the queue, under this moment.
    Waits(Instant),
    /// Its tick is on its way to a turn.
    Asked,
    /// Its tick has its turn.
    Runs,
}

impl<L> Default for Book<L> {
    fn default() -> Self {
        Self {
            owners: HashMap::new(),
            queue: BTreeMap::new(),
            last_id: 0,
            len: 0,
        }
    }
}

impl<L: Clone> Book<L> {
    /// Counts the timers.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// When to look again.
    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    /// Adds a timer, in place of one of the same name.
    pub(super) fn set(
        &mut self,
        place: usize,
        live: impl FnOnce() -> L,
        spec: Arc<Spec>,
        due: Instant,
    ) -> Result<(), TimerError> {
        self.cancel(place, &spec.name);
        let new = || Owner {
            live: live(),
            timers: Vec::new(),
        };
        let owner = self.owners.entry(place).or_insert_with(new);
        if owner.timers.len() >= TIMERS_PER_OBJECT_MAX {
            return Err(TimerError::TooMany);
        }
        self.last_id += 1;
        owner.timers.push(Entry {
            id: self.last_id,
            spec,
            due,
            stage: Stage::Waits(due),
        });
        self.len += 1;
        self.queue.insert((due, self.last_id), place);
        Ok(())
    }

    /// Removes a timer by name; returns whether it was there.
    pub(super) fn cancel(&mut self, place: usize, name: &str) -> bool {
        let found = self.owners.get(&place).and_then(|owner| {
            let mut timers = owner.timers.iter();
            timers.find(|entry| *entry.spec.name == *name)
        });
        match found.map(|entry| entry.id) {
            Some(id) => self.drop_one(place, id),
            None => false,
        }
    }

    /// Removes a timer; returns whether it was there.
    pub(super) fn drop_one(&mut self, place: usize, id: u64) -> bool {
        let Some(owner) = self.owners.get_mut(&place) else {
            return false;
        };
        let Some(at) = owner.timers.iter().position(|entry| entry.id == id) else {
            return false;
        };
        let entry = owner.timers.remove(at);
        if owner.timers.is_empty() {
            self.owners.remove(&place);
        }
        self.len -= 1;
        self.unqueue(&entry);
        true
    }

    /// Removes all timers of an activation, and returns them.
    pub(super) fn remove(&mut self, place: usize) -> Vec<Kept> {
        let owner = self.owners.remove(&place);
        let timers = owner.map(|owner| owner.timers).unwrap_or_default();
        self.len -= timers.len();
        for entry in &timers {
            self.unqueue(entry);
        }
        timers.into_iter().map(Entry::kept).collect()
    }

    fn unqueue(&mut self, entry: &Entry) {
        if let Stage::Waits(at) = entry.stage {
            self.queue.remove(&(at, entry.id));
        }
    }

    /// Returns an activation's timers, in the order in which they were set.
    pub(super) fn of(&self, place: usize) -> Vec<Kept> {
        let timers = self.owners.get(&place).map(|owner| &owner.timers);
        let kept = |entry: &Entry| Kept {
            spec: entry.spec.clone(),
            due: entry.due,
        };
        timers.into_iter().flatten().map(kept).collect()
    }

    pub(super) fn has_any(&self, place: usize) -> bool {
        self.owners.contains_key(&place)
    }

    /// Takes at most `max` ticks that are due.
    pub(super) fn take_due(&mut self, now: Instant, max: usize) -> Vec<Due<L>> {
        let mut due = Vec::new();
        while due.len() < max
            && let Some(first) = self.queue.first_entry()
            && first.key().0 <= now
        {
            let ((_, id), place) = first.remove_entry();
            let owner = self.owners.get_mut(&place);
            let owner = owner.expect("what is in the queue is somebody's");
            let entry = owner.timers.iter_mut().find(|entry| entry.id == id);
            let entry = entry.expect("what is in the queue is a timer");
            entry.stage = Stage::Asked;
            due.push(Due {
                place,
                id,
                live: owner.live.clone(),
                spec: entry.spec.clone(),
            });
        }
        due
    }

    /// Begins the turn of a tick; returns whether its timer is still there. One that ticks once is
    /// gone from here on.
    pub(super) fn begin(&mut self, place: usize, id: u64, now: Instant) -> bool {
        let Some(entry) = self.entry(place, id) else {
            return false;
        };
        match entry.spec.period {
            Some(period) => {
                entry.stage = Stage::Runs;
                entry.due = now + period;
            }
            None => {
                self.drop_one(place, id);
            }
        }
        true
    }

    /// Ends the turn of a tick: the next one comes a period later.
    pub(super) fn ended(&mut self, place: usize, id: u64, now: Instant) {
        if let Some(entry) = self.entry(place, id)
            && let Some(period) = entry.spec.period
        {
            entry.due = now + period;
            let due = entry.due;
            entry.stage = Stage::Waits(due);
            self.queue.insert((due, id), place);
        }
    }

    /// Lets a tick that had no turn try again at `at`. It stays due.
    pub(super) fn put_off(&mut self, place: usize, id: u64, at: Instant) {
        if let Some(entry) = self.entry(place, id)
            && entry.stage == Stage::Asked
        {
            entry.stage = Stage::Waits(at);
            self.queue.insert((at, id), place);
        }
    }

    fn entry(&mut self, place: usize, id: u64) -> Option<&mut Entry> {
        let mut timers = self.owners.get_mut(&place)?.timers.iter_mut();
        timers.find(|entry| entry.id == id)
    }
}

impl Entry {
    fn kept(self) -> Kept {
        Kept {
            spec: self.spec,
            due: self.due,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn spec(name: &str, period: Option<Duration>) -> Arc<Spec> {
        Arc::new(Spec {
            name: name.into(),
            method: "tick",
            args: Bytes::new(),
            period,
        })
    }

    fn book(start: Instant, timers: &[(&str, Option<Duration>)]) -> Book<&'static str> {
        let mut book = Book::default();
        for (name, period) in timers {
            let set = book.set(1, || "one", spec(name, *period), start + SECOND);
            set.expect("few");
        }
        book
    }

    #[test]
    fn ticks_come_in_the_order_of_their_time_and_then_of_their_setting() {
        let start = Instant::now();
        let mut book = book(start, &[("b", None), ("a", None)]);
        book.set(2, || "two", spec("c", None), start).expect("few");
        assert_eq!(book.next(), Some(start));
        let due = book.take_due(start + SECOND, 2);
        let names = |due: &[Due<&str>]| -> Vec<String> {
            let names = due
                .iter()
                .map(|due| format!("{} {}", due.live, due.spec.name));
            names.collect()
        };
        assert_eq!(names(&due), ["two c", "one b"]);
        assert_eq!(names(&book.take_due(start + SECOND, 2)), ["one a"]);
        assert_eq!(book.next(), None, "all are on their way");
    }

    #[test]
    fn a_timer_that_ticks_once_is_gone_when_its_turn_begins() {
        let start = Instant::now();
        let mut book = book(start, &[("a", None)]);
        let due = book.take_due(start + SECOND, 9).remove(0);
        assert_eq!(book.of(1).len(), 1, "it is still there while it waits");
        assert!(book.begin(due.place, due.id, start + SECOND));
        assert_eq!((book.len(), book.has_any(1)), (0, false));
        book.ended(due.place, due.id, start + SECOND);
        assert_eq!(book.next(), None);
    }

    #[test]
    fn the_next_tick_comes_a_period_after_the_end_of_the_last() {
        let start = Instant::now();
        let mut book = book(start, &[("a", Some(SECOND))]);
        let due = book.take_due(start + SECOND, 9).remove(0);
        assert!(book.begin(due.place, due.id, start + SECOND));
        assert_eq!(book.next(), None, "no second one while it runs");
        book.ended(due.place, due.id, start + 5 * SECOND);
        assert_eq!(book.next(), Some(start + 6 * SECOND));
    }

    #[test]
    fn a_tick_that_was_put_off_stays_due() {
        let start = Instant::now();
        let mut book = book(start, &[("a", Some(SECOND))]);
        let due = book.take_due(start + SECOND, 9).remove(0);
        book.put_off(due.place, due.id, start + 2 * SECOND);
        assert_eq!(book.next(), Some(start + 2 * SECOND));
        assert_eq!(book.of(1)[0].due, start + SECOND);
    }

    #[test]
    fn a_timer_that_was_cancelled_or_replaced_does_not_tick_though_it_was_due() {
        let start = Instant::now();
        let mut book = book(start, &[("a", Some(SECOND)), ("b", None)]);
        let due = book.take_due(start + SECOND, 9);
        assert!(book.cancel(1, "a"));
        assert!(!book.cancel(1, "a"), "it is gone");
        let again = book.set(1, || "one", spec("b", None), start + 9 * SECOND);
        again.expect("few");
        for due in due {
            assert!(!book.begin(due.place, due.id, start + SECOND));
            book.put_off(due.place, due.id, start);
            book.ended(due.place, due.id, start);
        }
        assert_eq!(book.next(), Some(start + 9 * SECOND));
        assert_eq!(book.len(), 1);
    }

    #[test]
    fn an_activation_takes_all_its_timers_with_it() {
        let start = Instant::now();
        let mut book = book(start, &[("a", Some(SECOND)), ("b", None)]);
        assert_eq!(book.remove(1).len(), 2);
        assert_eq!((book.len(), book.next()), (0, None));
        assert_eq!(book.remove(1), []);
    }

    #[test]
    fn an_object_has_so_many_timers_and_no_more() {
        let start = Instant::now();
        let mut book = Book::default();
        for i in 0..TIMERS_PER_OBJECT_MAX {
            let set = book.set(1, || (), spec(&i.to_string(), None), start);
            set.expect("not yet too many");
        }
        let one_more = book.set(1, || (), spec("more", None), start);
        assert_eq!(one_more, Err(TimerError::TooMany));
        book.set(1, || (), spec("7", None), start)
            .expect("it replaces one");
    }
}
