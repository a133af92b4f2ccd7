//! How something is divided over many: evenly, or as popularity is. Deterministic by a seed.

use std::str::FromStr;

use super::numbers::as_f64;

/// The steepest law of Zipf that is taken: with more, the first has everything.
const EXPONENT_MAX: f64 = 5.0;

/// How much each of many has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Distribution {
    /// All the same.
    Uniform,
    /// The one of rank k has 1/kˢ of what the first has.
    Zipf(f64),
}

impl Distribution {
    /// Returns what part of the whole each of `count` has. Ranks are dealt out at random.
    pub(super) fn shares(self, count: usize, seed: u64) -> Vec<f64> {
        let each = match self {
            Self::Uniform => return vec![1.0 / as_f64(count as u64); count],
            Self::Zipf(exponent) => {
                let of_rank = |rank| as_f64(rank).powf(-exponent);
                let mut each: Vec<f64> = (1..=count as u64).map(of_rank).collect();
                shuffle(&mut each, seed);
                each
            }
        };
        let total: f64 = each.iter().sum();
        each.into_iter().map(|part| part / total).collect()
    }
}

impl FromStr for Distribution {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let exponent = match text {
            "uniform" => return Ok(Self::Uniform),
            "zipf" => 1.0,
            _ => {
                let exponent = text.strip_prefix("zipf:").and_then(|s| s.parse().ok());
                exponent.unwrap_or(f64::NAN)
            }
        };
        if (0.0..=EXPONENT_MAX).contains(&exponent) {
            Ok(Self::Zipf(exponent))
        } else {
            Err(format!(
                "it must be `uniform`, or `zipf:S` with S from 0 to {EXPONENT_MAX}"
            ))
        }
    }
}

/// Puts values into an order that only the seed decides: Fisher and Yates, with the numbers of
/// `SplitMix64`. A library's order may change with its version, and with it every printed figure.
fn shuffle<T>(values: &mut [T], seed: u64) {
    let mut state = seed;
    for last in (1..values.len()).rev() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut random = state;
        random = (random ^ (random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        random = (random ^ (random >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        random ^= random >> 31;
        let place = random % (last as u64 + 1);
        values.swap(
            last,
            usize::try_from(place).expect("a place in a list fits"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_to_one_and_follow_the_law() {
        let mut shares = Distribution::Zipf(1.0).shares(1000, 7);
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        shares.sort_by(|a, b| b.total_cmp(a));
        assert!((shares[0] / shares[9] - 10.0).abs() < 1e-9);
        let even = Distribution::Uniform.shares(4, 7);
        assert_eq!(even, [0.25; 4]);
    }

    #[test]
    fn the_same_seed_gives_the_same_order_and_another_seed_another() {
        let shares = |seed| Distribution::Zipf(1.2).shares(100, seed);
        assert_eq!(shares(1), shares(1));
        assert_ne!(shares(1), shares(2));
    }

    #[test]
    fn garbage_is_refused() {
        for text in ["", "even", "zipf:", "zipf:-1", "zipf:9", "zipf:NaN"] {
            assert!(text.parse::<Distribution>().is_err(), "{text}");
        }
        assert_eq!("zipf".parse(), Ok(Distribution::Zipf(1.0)));
        assert_eq!("zipf:0.9".parse(), Ok(Distribution::Zipf(0.9)));
    }
}
