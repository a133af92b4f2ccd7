//! How often single objects are called: the turns between two looks at them.
//!
//! Nodes count the turns of each object but keep no rates, so whoever wants one looks twice. What
//! was seen last is kept for objects that somebody looks at, and for no longer than they do.

use std::collections::HashMap;
use std::time::Duration;

use steading::ids::{NodeId, ObjectKey};
use tokio::time::Instant;

/// Looks closer together than this say little: the rate before is told again.
const APART_MIN: Duration = Duration::from_secs(1);

/// A look this old is forgotten: the time since then is not what anybody calls "now".
const APART_MAX: Duration = Duration::from_secs(30);

/// How many objects are remembered at most.
const OBJECTS_MAX: usize = 10_000;

/// What was seen of the objects that somebody looks at.
#[derive(Debug, Default)]
pub(crate) struct Rates(HashMap<ObjectKey, Seen>);

#[derive(Clone, Debug)]
struct Seen {
    node: NodeId,
    turns: u32,
    at: Instant,
    rate: Option<f64>,
}

impl Rates {
    /// Takes in how many turns an object has had on a node, and returns how many a second it has
    /// had since the look before. None at the first look, and once it counts from zero again: it
    /// was activated anew, moved, or its count came round.
    pub(crate) fn look(
        &mut self,
        key: &ObjectKey,
        node: &NodeId,
        turns: u32,
        now: Instant,
    ) -> Option<f64> {
        let before = self.0.get(key).filter(|seen| seen.node == *node);
        let apart = before.map_or(Duration::MAX, |seen| now - seen.at);
        if let Some(seen) = before.filter(|_| apart < APART_MIN) {
            return seen.rate;
        }
        let more = before.and_then(|seen| turns.checked_sub(seen.turns));
        let more = more.filter(|_| apart <= APART_MAX);
        let rate = more.map(|more| f64::from(more) / apart.as_secs_f64());
        self.make_room(now);
        let node = node.clone();
        let seen = Seen {
            node,
            turns,
            at: now,
            rate,
        };
        self.0.insert(key.clone(), seen);
        rate
    }

    fn make_room(&mut self, now: Instant) {
        if self.0.len() >= OBJECTS_MAX {
            self.0.retain(|_, seen| now - seen.at <= APART_MAX);
        }
        if self.0.len() >= OBJECTS_MAX {
            self.0.clear(); // More is looked at than fits: rates begin anew.
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::id;

    fn key(number: usize) -> ObjectKey {
        ObjectKey::new("Counter", format!("c{number}")).expect("a good key")
    }

    #[test]
    fn a_rate_is_what_came_between_two_looks() {
        let mut rates = Rates::default();
        let start = Instant::now();
        let mut look = |name: &str, turns, ms| {
            let at = start + Duration::from_millis(ms);
            rates.look(&key(1), &id(name), turns, at)
        };
        assert_eq!(look("a", 100, 0), None);
        assert_eq!(look("a", 150, 500), None, "too soon to say");
        assert_eq!(look("a", 300, 2000), Some(100.0));
        assert_eq!(look("a", 900, 2100), Some(100.0), "too soon to say anew");
        assert_eq!(look("b", 900, 4000), None, "it moved");
        assert_eq!(look("b", 100, 6000), None, "it was activated anew");
        assert_eq!(look("b", 100, 8000), Some(0.0));
        assert_eq!(look("b", 200, 60_000), None, "that was long ago");
    }

    #[test]
    fn only_so_many_objects_are_remembered() {
        let (mut rates, now) = (Rates::default(), Instant::now());
        for number in 0..=OBJECTS_MAX {
            rates.look(&key(number), &id("a"), 0, now);
            assert!(rates.0.len() <= OBJECTS_MAX);
        }
    }
}
