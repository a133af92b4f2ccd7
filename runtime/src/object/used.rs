//! When an object's last turn ended, and how many turns have: one word, for an object at rest has
//! no room for two.

/// How many bits count turns. The others hold milliseconds, which last for 34 years.
const TURNS_BITS: u32 = 24;

/// Turns are counted modulo this.
pub const TURNS_COUNTED: u32 = 1 << TURNS_BITS;

const TURNS_MASK: u64 = TURNS_COUNTED as u64 - 1;

/// The use that was made of an object. Written as each turn ends, where the turn writes anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Used(u64);

impl Used {
    /// Begins with an object that is being activated, which ends as a turn does and counts as none.
    pub(super) fn activating(now: u64) -> Self {
        Self(now << TURNS_BITS | TURNS_MASK)
    }

    /// Counts a turn that ends `now`, in the host's milliseconds.
    #[must_use]
    pub(super) fn and_again(self, now: u64) -> Self {
        Self(now << TURNS_BITS | (self.0.wrapping_add(1) & TURNS_MASK))
    }

    /// When its last turn ended, in the host's milliseconds.
    pub(super) fn at(self) -> u64 {
        self.0 >> TURNS_BITS
    }

    /// How many turns have ended, modulo [`TURNS_COUNTED`].
    pub(super) fn turns(self) -> u32 {
        u32::try_from(self.0 & TURNS_MASK).expect("24 bits")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_counted_beside_the_time_and_come_round() {
        let mut used = Used::activating(7);
        assert_eq!(used.at(), 7);
        used = used.and_again(8);
        assert_eq!((used.at(), used.turns()), (8, 0), "activating is no turn");
        for turn in 1..=3 {
            used = used.and_again(8 + u64::from(turn));
            assert_eq!((used.at(), used.turns()), (8 + u64::from(turn), turn));
        }
        let full = (0..TURNS_COUNTED - 3).fold(used, |used, _| used.and_again(1 << 39));
        assert_eq!((full.at(), full.turns()), (1 << 39, 0));
    }
}
