//! Reads the figures that a node tells in the `OpenMetrics` text format.

use std::collections::BTreeMap;

/// The samples of one node, by name and labels as they are written.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Samples(BTreeMap<String, f64>);

impl Samples {
    /// Reads a text. Lines that are no samples are left out.
    pub(crate) fn read(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let samples = lines.filter_map(|line| {
            // Labels may hold spaces, values do not; nodes write no timestamps.
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Self(samples.collect())
    }

    /// Returns the sample of this name that has no labels.
    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// Returns the sum of all samples of this name, whatever their labels; zero if there is none.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        self.labelled(name).map(|(_, value)| value).sum()
    }

    /// Returns the counts of a histogram's buckets, all of its series together: how many are at
    /// most so much, in ascending order. The last is infinite.
    pub(crate) fn buckets(&self, name: &str) -> Buckets {
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        let name = format!("{name}_bucket");
        for (labels, count) in self.labelled(&name) {
            let Some(bound) = label(labels, "le") else {
                continue;
            };
            let bound = bound.parse().unwrap_or(f64::INFINITY);
            match buckets.iter_mut().find(|(known, _)| same(*known, bound)) {
                Some((_, known)) => *known += count,
                None => buckets.push((bound, count)),
            }
        }
        buckets.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        Buckets(buckets)
    }

    fn labelled<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        let below = self.0.range(name.to_owned()..);
        below
            .take_while(move |(key, _)| key.starts_with(name))
            .filter_map(move |(key, value)| {
                let labels = key.strip_prefix(name)?;
                (labels.is_empty() || labels.starts_with('{')).then_some((labels, *value))
            })
    }
}

fn same(a: f64, b: f64) -> bool {
    a.total_cmp(&b).is_eq()
}

fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let inside = labels.strip_prefix('{')?.strip_suffix('}')?;
    let mut pairs = inside.split(',');
    pairs.find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key == name).then(|| value.trim_matches('"'))
    })
}

/// How many observations are at most so much.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Buckets(Vec<(f64, f64)>);

impl Buckets {
    /// Returns what came since an earlier look; all of it if the counts began anew since.
    #[must_use]
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let comparable = self.0.len() == earlier.0.len();
        let began_anew = self
            .0
            .iter()
            .zip(&earlier.0)
            .any(|(now, then)| now.1 < then.1);
        if !comparable || began_anew {
            return self.clone();
        }
        let pairs = self.0.iter().zip(&earlier.0);
        Self(pairs.map(|(now, then)| (now.0, now.1 - then.1)).collect())
    }

    /// Adds the counts of another of the same bounds.
    pub(crate) fn add(&mut self, other: &Self) {
        if self.0.is_empty() {
            *self = other.clone();
            return;
        }
        for ((_, count), (_, more)) in self.0.iter_mut().zip(&other.0) {
            *count += more;
        }
    }

    /// Returns the value below which this part of all observations lies, as estimated within its
    /// bucket; `None` if there are none.
    pub(crate) fn quantile(&self, part: f64) -> Option<f64> {
        let total = self.0.last()?.1;
        if total <= 0.0 {
            return None;
        }
        let rank = total * part;
        let (mut below, mut count_below) = (0.0, 0.0);
        for (bound, count) in &self.0 {
            if *count >= rank {
                let inside = (rank - count_below) / (count - count_below).max(f64::MIN_POSITIVE);
                let is_last = bound.is_infinite();
                return Some(if is_last {
                    below
                } else {
                    below + (bound - below) * inside
                });
            }
            (below, count_below) = (*bound, *count);
        }
        Some(below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# HELP steading_turns Turns
# TYPE steading_turns counter
steading_turns_total 40
steading_calls_failed_total{code=\"no owner\"} 2
steading_calls_failed_total{code=\"late\"} 3
steading_calls_failed_total_other 9
steading_turn_seconds_bucket{le=\"0.1\",object_type=\"A\"} 1
steading_turn_seconds_bucket{le=\"0.1\",object_type=\"B\"} 1
steading_turn_seconds_bucket{le=\"0.2\",object_type=\"A\"} 3
steading_turn_seconds_bucket{le=\"0.2\",object_type=\"B\"} 1
steading_turn_seconds_bucket{le=\"+Inf\",object_type=\"A\"} 3
steading_turn_seconds_bucket{le=\"+Inf\",object_type=\"B\"} 1
# EOF
";

    #[test]
    fn samples_are_found_by_name_and_summed_over_labels() {
        let samples = Samples::read(TEXT);
        assert_eq!(samples.get("steading_turns_total"), Some(40.0));
        assert_eq!(samples.sum("steading_calls_failed_total").to_string(), "5");
        assert_eq!(samples.get("steading_absent"), None);
    }

    #[test]
    fn quantiles_are_estimated_within_their_bucket() {
        let buckets = Samples::read(TEXT).buckets("steading_turn_seconds");
        let read = [0.25, 0.5, 0.75, 1.0].map(|part| buckets.quantile(part).unwrap_or(-1.0));
        let want = [0.05, 0.1, 0.15, 0.2];
        let near = read.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-9);
        assert!(near, "{read:?}");
        assert_eq!(Buckets::default().quantile(0.5), None);
    }

    #[test]
    fn a_restarted_node_counts_from_zero_again() {
        let now = Samples::read(TEXT).buckets("steading_turn_seconds");
        let before = Buckets(vec![(0.1, 9.0), (0.2, 9.0), (f64::INFINITY, 9.0)]);
        assert_eq!(now.since(&before), now);
        assert_eq!(now.since(&now).quantile(0.5), None);
    }
}
