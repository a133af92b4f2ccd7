//! Which objects have the most turns, and what the last of those that were timed took.
//!
//! Told by the turns that are timed anyway: each stands for all turns of its shard since the last
//! one that was, so over a few of them an object gets about as many as it has (unless the callers
//! of a shard's objects take turns in step with the clock). A turn that is not timed pays nothing
//! for this, an object no byte, and a timed turn never waits: if another is being noted at that
//! moment, it is left out.
//!
//! Bounded: once twice [`KEPT_MAX`] objects are known, the less busy half is forgotten. So what is
//! said of an object that is not among the busiest of its node may begin anew at any time.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;

use super::host::is_wanted;
use super::{Host, ObjectInfo, ObjectQuery};
use crate::ids::ObjectKey;

/// How many objects are kept when room is made. Far more than anybody reads, so that those at the
/// top are never the ones that go.
const KEPT_MAX: usize = 512;

/// What was seen of an object's turns that were timed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimedTurns {
    /// Turns per second since the last window of load began, as estimated.
    pub per_second: f64,
    /// How long the last one that was timed took, waiting inside it included.
    pub took: Duration,
    /// How long ago that one ended.
    pub ago: Duration,
}

/// What was seen of the objects of a host. All moments are the host's milliseconds.
#[derive(Debug, Default)]
pub(super) struct Busiest(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    objects: BTreeMap<ObjectKey, Seen>,
    /// When the last window began that ended, and when the present one did.
    last_began: u64,
    began: u64,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Turns in the present window, and in the last one.
    turns: u64,
    turns_before: u64,
    took: Duration,
    at: u64,
}

impl Seen {
    fn lately(&self) -> u64 {
        self.turns + self.turns_before
    }
}

impl Busiest {
    /// Takes in a timed turn that ended `now`, and for how many it stands.
    pub(super) fn note(&self, key: &ObjectKey, took: Duration, stands_for: u64, now: u64) {
        let Some(mut known) = self.0.try_lock() else {
            return;
        };
        if let Some(seen) = known.objects.get_mut(key) {
            seen.turns += stands_for;
            (seen.took, seen.at) = (took, now);
            return;
        }
        if known.objects.len() >= 2 * KEPT_MAX {
            known.make_room();
        }
        let seen = Seen {
            turns: stands_for,
            turns_before: 0,
            took,
            at: now,
        };
        known.objects.insert(key.clone(), seen);
    }

    /// Ends the present window and begins the next.
    pub(super) fn end_window(&self, now: u64) {
        let mut known = self.0.lock();
        (known.last_began, known.began) = (known.began, now);
        for seen in known.objects.values_mut() {
            seen.turns_before = std::mem::take(&mut seen.turns);
        }
    }

    /// Returns what was seen of one object.
    pub(super) fn of(&self, key: &ObjectKey, now: u64) -> Option<TimedTurns> {
        let known = self.0.lock();
        let seen = known.objects.get(key)?;
        let since = Duration::from_millis(now.saturating_sub(known.last_began).max(1));
        Some(TimedTurns {
            per_second: many(seen.lately()) / since.as_secs_f64(),
            took: seen.took,
            ago: Duration::from_millis(now.saturating_sub(seen.at)),
        })
    }

    /// Returns the objects that had turns lately, the busiest first.
    fn ranking(&self) -> Vec<ObjectKey> {
        let known = self.0.lock();
        let busy = known.objects.iter().filter(|(_, seen)| seen.lately() > 0);
        let mut busy: Vec<_> = busy.map(|(key, seen)| (key.clone(), *seen)).collect();
        drop(known);
        busy.sort_by_key(|(_, seen)| Reverse(seen.lately()));
        busy.into_iter().map(|(key, _)| key).collect()
    }
}

impl Known {
    /// Keeps the busiest and, of equally busy ones, those that were seen last.
    fn make_room(&mut self) {
        let mut all: Vec<_> = std::mem::take(&mut self.objects).into_iter().collect();
        all.sort_by_key(|(_, seen)| Reverse((seen.lately(), seen.at)));
        all.truncate(KEPT_MAX);
        self.objects = all.into_iter().collect();
    }
}

impl Host {
    /// Lists live objects that were seen to be busy, the busiest first. Costs as much as some
    /// hundred calls, however many objects there are.
    pub(super) fn busiest(&self, query: &ObjectQuery) -> Vec<ObjectInfo> {
        let now = self.common.now();
        let ranking = self.common.busiest.ranking().into_iter();
        let wanted = ranking.filter(|key| is_wanted(query, key));
        let live = wanted.filter_map(|key| {
            let slot = self.slot_at(&key.place(self.layout()).ok()?)?;
            if query.shard.is_some() && slot.shard != query.shard {
                return None;
            }
            let table = slot.table.read();
            table.find(&key).map(|object| object.info(now))
        });
        live.take(query.limit).collect()
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "an estimate, which needs no 53 bits"
)]
fn many(turns: u64) -> f64 {
    turns as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str) -> ObjectKey {
        ObjectKey::new("Counter", id).expect("a good key")
    }

    const MS: Duration = Duration::from_millis(1);

    fn ids(busiest: &Busiest) -> Vec<String> {
        let ranking = busiest.ranking().into_iter();
        ranking.map(|key| key.id().to_owned()).collect()
    }

    #[test]
    fn s2_16_those_with_most_turns_in_two_windows_come_first() {
        let busiest = Busiest::default();
        busiest.note(&key("a"), MS, 100, 1_000);
        busiest.note(&key("b"), MS, 30, 2_000);
        busiest.note(&key("b"), 2 * MS, 90, 4_000);
        assert_eq!(ids(&busiest), ["b", "a"]);
        let seen = busiest.of(&key("b"), 10_000).expect("it was seen");
        assert_eq!((seen.took, seen.ago), (2 * MS, 6_000 * MS));
        assert!((seen.per_second - 12.0).abs() < 1e-9, "{seen:?}");
        busiest.end_window(10_000);
        busiest.note(&key("a"), MS, 50, 11_000);
        assert_eq!(ids(&busiest), ["a", "b"], "the last window counts too");
        busiest.end_window(20_000);
        assert_eq!(ids(&busiest), ["a"], "the one before it does not");
        let seen = busiest.of(&key("b"), 21_000).expect("it is remembered");
        assert!(seen.per_second.abs() < 1e-9, "{seen:?}");
        assert_eq!(busiest.of(&key("c"), 21_000), None);
    }

    #[test]
    fn the_busy_stay_whoever_comes_and_goes() {
        let busiest = Busiest::default();
        busiest.note(&key("busy"), MS, 1_000, 0);
        for passing in 0..10 * KEPT_MAX as u64 {
            busiest.note(&key(&format!("p{passing}")), MS, 1, passing);
            assert!(busiest.0.lock().objects.len() <= 2 * KEPT_MAX);
        }
        let ranking = ids(&busiest);
        assert_eq!(ranking.first().map(String::as_str), Some("busy"));
        let newest = format!("p{}", 10 * KEPT_MAX - 1);
        assert!(ranking.contains(&newest), "of equals the newest stay");
        assert!(!ranking.contains(&"p0".to_owned()));
    }

    #[test]
    fn who_is_timed_does_not_wait_for_another() {
        let busiest = Busiest::default();
        let noting = busiest.0.lock();
        busiest.note(&key("a"), MS, 1, 0);
        drop(noting);
        assert_eq!(busiest.of(&key("a"), 0), None);
    }
}
