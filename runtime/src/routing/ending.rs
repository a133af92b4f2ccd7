//! How a life of another node ended, and how long its last answers are then waited for.
//!
//! Pure. What must hold: a call is never held up by a node that cannot answer it any more, and an
//! answer that a node gave before it left in order is not missed.

use std::time::Duration;

use crate::placement::{ClusterView, Owner};

/// How long the last answers of a node that leaves in order are waited for, be it this one: it
/// leaves before they arrive.
pub(super) const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// How long the answers of a node that died with its shards are still read. Shorter than it takes
/// until its shards have another owner, so that nobody waits for this.
const ARRIVED_ANSWERS: Duration = Duration::from_millis(50);

/// How a life of another node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It had given up every shard, so it left in order, after its last answer.
    Left,
    /// It still had shards. Be it killed, paused or cut off: its fence has closed half a second
    /// or more before its lease ended, and nothing is answered behind a fence. What it answered
    /// before has arrived, and at most waits to be read.
    Died,
}

impl Ending {
    /// Returns how a life ended that this view shows no more.
    ///
    /// A view may show at once that it died and that others took over all it had. It then seems to
    /// have left, which costs time and nothing else.
    pub(super) fn of(life: &Owner, view: &ClusterView) -> Self {
        let is_its = |owner: &Option<Owner>| owner.as_ref() == Some(life);
        if view.owners.iter().any(|(_, record)| is_its(&record.owner)) {
            Self::Died
        } else {
            Self::Left
        }
    }

    /// How long answers to what was sent to it may still come.
    pub(super) fn patience(self) -> Duration {
        match self {
            Self::Left => LAST_ANSWERS,
            Self::Died => ARRIVED_ANSWERS,
        }
    }

    /// Says so, of the node.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Left => "it left the cluster",
            Self::Died => "its lease ended",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ViewBuilder, node};
    use super::*;
    use crate::ids::Incarnation;

    fn ending(view: &ViewBuilder, life: u64) -> Ending {
        let life = Owner {
            node: node("b"),
            incarnation: Incarnation::new(life),
        };
        Ending::of(&life, view.view())
    }

    #[test]
    fn who_had_a_shard_until_the_end_died_and_who_gave_all_up_left() {
        let mut view = ViewBuilder::new(8);
        view.node("b", 1).owner(3, "b", 1).owner(5, "b", 1);
        view.owner(3, "c", 1).gone("b");
        assert_eq!(ending(&view, 1), Ending::Died);
        view.nobody(5);
        assert_eq!(ending(&view, 1), Ending::Left);
    }

    #[test]
    fn what_another_life_of_the_node_has_does_not_count() {
        let mut view = ViewBuilder::new(8);
        view.node("b", 1).gone("b").node("b", 4).owner(3, "b", 4);
        assert_eq!(ending(&view, 1), Ending::Left);
    }
}
