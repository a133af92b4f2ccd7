//! What a node's `/metrics` said, so that checks can ask for it.

/// The samples of one scrape.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Samples(Vec<Sample>);

#[derive(Clone, Debug, PartialEq)]
struct Sample {
    name: String,
    /// As they stand in the text, between the braces.
    labels: String,
    value: f64,
}

impl Samples {
    /// Reads the text format; lines that are none are left out.
    pub(super) fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let samples = samples.filter_map(|line| {
            let (name, labels, rest) = if let Some((name, rest)) = line.split_once('{') {
                let (labels, rest) = rest.split_once('}')?;
                (name, labels, rest)
            } else {
                let (name, rest) = line.split_once(' ')?;
                (name, "", rest)
            };
            Some(Sample {
                name: name.into(),
                labels: labels.into(),
                value: rest.split_whitespace().next()?.parse().ok()?,
            })
        });
        Self(samples.collect())
    }

    /// Returns the sum of the series whose labels contain each of these texts; `None`: there are
    /// none.
    pub(super) fn sum(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let named = self.0.iter().filter(|sample| sample.name == name);
        let values =
            named.filter(|sample| labels.iter().all(|label| sample.labels.contains(label)));
        values
            .map(|sample| sample.value)
            .reduce(|one, other| one + other)
    }

    /// Returns the least value of a metric.
    pub(super) fn min(&self, name: &str) -> Option<f64> {
        let named = self.0.iter().filter(|sample| sample.name == name);
        named.map(|sample| sample.value).reduce(f64::min)
    }

    /// Returns the value of a label of each series of a metric, with the series' own value.
    pub(super) fn by<'a>(
        &'a self,
        name: &'a str,
        label: &'a str,
    ) -> impl Iterator<Item = (&'a str, f64)> {
        let named = self.0.iter().filter(move |sample| sample.name == name);
        named.filter_map(move |sample| {
            let mut pairs = sample
                .labels
                .split(',')
                .filter_map(|pair| pair.split_once('='));
            let (_, value) = pairs.find(|(name, _)| *name == label)?;
            Some((value.trim_matches('"'), sample.value))
        })
    }
}

/// Two scrapes of a node, one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Window {
    /// The first.
    pub(super) before: Samples,
    /// The second.
    pub(super) after: Samples,
}

impl Window {
    /// Returns how much a counter grew between the two; `None`: there is none such.
    pub(super) fn growth(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let after = self.after.sum(name, labels)?;
        let before = self.before.sum(name, labels).unwrap_or_default();
        // A node that started anew began at zero.
        Some(if after < before {
            after
        } else {
            after - before
        })
    }

    /// Returns how much each bucket of a histogram grew, by its upper bound, smallest first.
    pub(super) fn buckets(&self, name: &str) -> Vec<(f64, f64)> {
        let name = format!("{name}_bucket");
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for (samples, sign) in [(&self.after, 1.0), (&self.before, -1.0)] {
            for (bound, count) in samples.by(&name, "le") {
                let bound = bound.parse().unwrap_or(f64::INFINITY);
                add(&mut buckets, bound, sign * count);
            }
        }
        buckets.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        buckets
    }
}

/// Adds to the bucket of a bound.
fn add(buckets: &mut Vec<(f64, f64)>, bound: f64, count: f64) {
    let known = buckets
        .iter_mut()
        .find(|(known, _)| known.total_cmp(&bound).is_eq());
    match known {
        Some((_, sum)) => *sum += count,
        None => buckets.push((bound, count)),
    }
}

/// Returns the upper bound of the bucket in which a quantile of several histograms lies, and how many
/// were counted; `None` if nothing was.
pub(super) fn quantile(quantile: f64, histograms: &[Vec<(f64, f64)>]) -> Option<(f64, f64)> {
    let mut sums: Vec<(f64, f64)> = Vec::new();
    for (bound, count) in histograms.iter().flatten() {
        add(&mut sums, *bound, *count);
    }
    sums.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let (_, total) = *sums.last()?;
    if total <= 0.0 {
        return None;
    }
    let (bound, _) = sums.iter().find(|(_, count)| *count >= quantile * total)?;
    Some((*bound, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "# HELP a what\na_total{x=\"1\",y=\"p\"} 3\na_total{x=\"2\"} 4 # {} 1\nb 2.5\n# EOF\n";

    #[test]
    fn samples_are_summed_by_their_labels() {
        let samples = Samples::parse(TEXT);
        assert_eq!(samples.sum("a_total", &[]), Some(7.0));
        assert_eq!(samples.sum("a_total", &["x=\"1\"", "y=\"p\""]), Some(3.0));
        assert_eq!(samples.sum("b", &[]), Some(2.5));
        assert_eq!(samples.sum("c", &[]), None);
        let by: Vec<_> = samples.by("a_total", "x").collect();
        assert_eq!(by, [("1", 3.0), ("2", 4.0)]);
    }

    #[test]
    fn a_counter_that_began_anew_has_grown_from_zero() {
        let window = Window {
            before: Samples::parse("a_total 10\n"),
            after: Samples::parse("a_total 4\n"),
        };
        assert_eq!(window.growth("a_total", &[]), Some(4.0));
    }

    #[test]
    fn a_quantile_is_of_what_was_counted_between_two_scrapes() {
        let text = |low: u32, all: u32| {
            Samples::parse(&format!(
                "h_bucket{{le=\"0.5\"}} {low}\nh_bucket{{le=\"1.0\"}} {all}\nh_bucket{{le=\"+Inf\"}} {all}\n"
            ))
        };
        let window = Window {
            before: text(1000, 1000),
            after: text(1090, 1100),
        };
        let buckets = [window.buckets("h")];
        assert_eq!(quantile(0.5, &buckets), Some((0.5, 100.0)));
        assert_eq!(quantile(0.95, &buckets), Some((1.0, 100.0)));
        assert_eq!(quantile(0.95, &[]), None);
    }
}
