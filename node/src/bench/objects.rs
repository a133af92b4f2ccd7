//! The objects of the benchmarks; they are not stored.

use serde::{Deserialize, Serialize};
use steading::{Object, methods};

/// Counts, as the sample `Counter` does.
#[derive(Debug, Default, Serialize, Deserialize, Object)]
pub(super) struct Tally {
    total: i64,
}

#[methods]
impl Tally {
    /// Adds `n` and returns the new total.
    pub(super) async fn add(&mut self, n: i64) -> i64 {
        self.total = self.total.wrapping_add(n);
        self.total
    }
}
