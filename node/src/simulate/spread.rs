//! How evenly something is divided over many: the figures that people compare.

use serde::Serialize;

use super::numbers::{as_f64, short};

/// How evenly something is divided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Evenness {
    /// What each has on average.
    pub(crate) mean: f64,
    /// What the one with most has.
    pub(crate) max: f64,
    /// What 99 in 100 have at most.
    pub(crate) p99: f64,
    /// The greatest in parts of the mean: 1 if all have the same.
    pub(crate) max_over_mean: f64,
    /// Standard deviation in parts of the mean: 0 if all have the same.
    pub(crate) variation: f64,
    /// How many have nothing.
    pub(crate) empty: usize,
}

impl Evenness {
    /// Summarises what each of some has; of nothing, all is zero.
    pub(crate) fn of(each: impl IntoIterator<Item = f64>) -> Self {
        let mut each: Vec<f64> = each.into_iter().collect();
        each.sort_by(f64::total_cmp);
        let (Some(&max), count) = (each.last(), as_f64(each.len() as u64)) else {
            return Self::default();
        };
        let mean = each.iter().sum::<f64>() / count;
        let squares = each.iter().map(|one| (one - mean).powi(2)).sum::<f64>();
        let of_mean = |value: f64| if mean > 0.0 { value / mean } else { 0.0 };
        // The nearest rank: of a hundred, the ninety-ninth.
        let rank = (each.len() * 99).div_ceil(100).max(1);
        Self {
            mean: short(mean),
            max: short(max),
            p99: short(each[rank - 1]),
            max_over_mean: short(of_mean(max)),
            variation: short(of_mean((squares / count).sqrt())),
            empty: each.iter().filter(|one| **one <= 0.0).count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s0_12_evenness_has_extremes_p99_variation_and_the_empty() {
        let spread = Evenness::of((0..=99).map(f64::from));
        assert_eq!((spread.mean, spread.max, spread.p99), (49.5, 99.0, 98.0));
        assert_eq!((spread.max_over_mean, spread.empty), (2.0, 1));
        let two = Evenness::of([30.0, 10.0]);
        assert_eq!((two.variation, two.max_over_mean), (0.5, 1.5));
    }

    #[test]
    fn nothing_and_all_zero_are_even() {
        assert_eq!(Evenness::of([]), Evenness::default());
        let zero = Evenness::of([0.0, 0.0]);
        assert_eq!(
            (zero.variation, zero.max_over_mean, zero.empty),
            (0.0, 0.0, 2)
        );
    }
}
