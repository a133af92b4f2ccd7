//! How objects are spread over the shards, in a few numbers.

use serde::Serialize;
use utoipa::ToSchema;

/// Live objects per shard, over all shards of the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct Spread {
    /// As many as each shard would have if all had the same.
    pub mean: f64,
    /// Half of the shards have at most so many.
    pub p50: u64,
    /// 99 of 100 shards have at most so many.
    pub p99: u64,
    /// The fullest has so many.
    pub most: u64,
    /// Which one that is; none if there are no objects.
    pub fullest: Option<u32>,
}

impl Spread {
    /// Sums up the numbers of objects, in order of the shards.
    pub(crate) fn of(objects: &[u64]) -> Self {
        let mut sorted = objects.to_vec();
        sorted.sort_unstable();
        let at = |permille: usize| {
            let place = (sorted.len() * permille).div_ceil(1000).max(1) - 1;
            sorted.get(place).copied().unwrap_or_default()
        };
        let most = sorted.last().copied().unwrap_or_default();
        let fullest = objects.iter().position(|count| *count == most && most > 0);
        Self {
            mean: mean(objects),
            p50: at(500),
            p99: at(990),
            most,
            fullest: fullest.and_then(|shard| u32::try_from(shard).ok()),
        }
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "shown to people, who need no 53 bits"
)]
fn mean(objects: &[u64]) -> f64 {
    objects.iter().sum::<u64>() as f64 / objects.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s2_16_the_fullest_shard_and_the_usual_ones_are_told() {
        let mut objects = vec![2; 98];
        objects.extend([50, 10]);
        let spread = Spread::of(&objects);
        let want = Spread {
            mean: 2.56,
            p50: 2,
            p99: 10,
            most: 50,
            fullest: Some(98),
        };
        assert_eq!(spread, want);
        assert_eq!(Spread::of(&[0, 0]), Spread::default());
        assert_eq!(Spread::of(&[]), Spread::default());
    }
}
