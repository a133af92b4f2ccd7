//! Figures, and how they are shown.

use std::fmt::Write;
use std::time::SystemTime;

use serde::Serialize;

use super::BenchArgs;
use crate::output::{self, Mood, painted};

/// Several rounds of one measurement.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Rounds {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Rounds {
    /// Sums up at least one measurement.
    pub(super) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Self {
            median,
            min: values[0],
            max: values[values.len() - 1],
        }
    }

    /// Whether every round came to this; for counts, which are whole.
    fn are_all(&self, value: f64) -> bool {
        let is_it = |other: f64| (other - value).abs() < f64::EPSILON;
        is_it(self.min) && is_it(self.max)
    }
}

/// What a figure must reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Goal {
    /// At most this much.
    AtMost(f64),
    /// At least this many times the baseline.
    TimesBaseline(f64),
    /// At most the baseline.
    NoWorse,
    /// This much in every round.
    Exactly(f64),
}

/// A measured figure beside its baseline.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Figure {
    pub(super) name: String,
    pub(super) unit: &'static str,
    pub(super) ours: Rounds,
    pub(super) baseline: Option<Baseline>,
    pub(super) goal: Option<Goal>,
    /// Ours divided by the baseline.
    pub(super) ratio: Option<f64>,
    pub(super) met: Option<bool>,
    /// What explains it, such as the first error of a call that failed.
    pub(super) note: Option<String>,
}

/// What a figure is compared with.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Baseline {
    pub(super) name: &'static str,
    #[serde(flatten)]
    pub(super) rounds: Rounds,
}

impl Figure {
    /// Makes a figure without baseline or goal.
    pub(super) fn new(name: impl Into<String>, unit: &'static str, ours: Vec<f64>) -> Self {
        let ours = Rounds::of(ours);
        Self {
            name: name.into(),
            unit,
            ours,
            baseline: None,
            goal: None,
            ratio: None,
            met: None,
            note: None,
        }
    }

    /// Adds what explains it, if there is something to be explained.
    pub(super) fn note(self, note: Option<String>) -> Self {
        Self { note, ..self }
    }

    /// Puts a baseline beside it, measured in the same rounds.
    pub(super) fn beside(self, name: &'static str, values: Vec<f64>) -> Self {
        let rounds = Rounds::of(values);
        let ratio = Some(self.ours.median / rounds.median);
        Self {
            baseline: Some(Baseline { name, rounds }),
            ratio,
            ..self
        }
    }

    /// Sets what it must reach.
    pub(super) fn goal(self, goal: Goal) -> Self {
        let met = match goal {
            Goal::AtMost(most) => self.ours.median <= most,
            Goal::TimesBaseline(times) => self.ratio.is_some_and(|ratio| ratio >= times),
            Goal::NoWorse => self.ratio.is_some_and(|ratio| ratio <= 1.0),
            Goal::Exactly(value) => self.ours.are_all(value),
        };
        Self {
            goal: Some(goal),
            met: Some(met),
            ..self
        }
    }

    fn cells(&self) -> [String; 5] {
        let ratio = self.ratio.map(|ratio| format!("{ratio:.2} ×"));
        let goal = self.goal.map(|goal| match goal {
            Goal::AtMost(most) => format!("≤ {} {}", number(most), self.unit),
            Goal::TimesBaseline(times) => format!("≥ {times} ×"),
            Goal::NoWorse => "≤ 1 ×".to_owned(),
            Goal::Exactly(value) => format!("= {} {}", number(value), self.unit),
        });
        let baseline = self.baseline.as_ref();
        [
            format!("{} ({})", self.name, self.unit),
            spread(&self.ours),
            output::or_dash(baseline.map(|b| format!("{}: {}", b.name, spread(&b.rounds)))),
            output::or_dash(ratio),
            output::or_dash(goal),
        ]
    }
}

fn spread(rounds: &Rounds) -> String {
    format!(
        "{} ({}–{})",
        number(rounds.median),
        number(rounds.min),
        number(rounds.max)
    )
}

/// Writes a number with three or so digits that matter, thousands apart.
fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    if value < 10.0 {
        return format!("{value:.2}");
    }
    if value < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// How moves are measured, for the page.
const MOVES: &str = "\
Moves are measured from outside, by a gate that hosts nothing and is never restarted: 64 callers, each \
100 calls a second, over one counter in each of the 8192 shards. A call has failed if its caller sees an \
error; the load tries nothing again. The ownerless gap of a shard is the longest pause between two answers \
that a caller sees which calls one of its objects again as soon as it is answered: from the last call \
served before the closing to the first one after it, and so the time of a call more than the shard was \
closed. Added latency is the longest call of such a caller in each move, less what its calls take \
otherwise. Stalls are the longest call of all.";

/// All figures of one run, with where and when.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    machine: String,
    date: String,
    version: &'static str,
    rounds: u32,
    figures: Vec<Figure>,
}

impl Report {
    pub(super) fn new(figures: Vec<Figure>, args: &BenchArgs) -> Self {
        Self {
            machine: machine(),
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            version: env!("CARGO_PKG_VERSION"),
            rounds: args.rounds,
            figures,
        }
    }

    /// Prints it for people.
    pub(super) fn print(&self) {
        let rows = self.figures.iter().map(|figure| {
            let [name, ours, baseline, ratio, goal] = figure.cells();
            let goal = match figure.met {
                Some(true) => painted(format!("{goal} reached"), Mood::Good),
                Some(false) => painted(format!("{goal} MISSED"), Mood::Bad),
                None => goal.into(),
            };
            vec![
                name.into(),
                ours.into(),
                baseline.into(),
                ratio.into(),
                goal,
            ]
        });
        output::table(&["figure", "ours", "baseline", "ratio", "goal"], rows);
        for figure in &self.figures {
            if let Some(note) = &figure.note {
                output::line(format_args!("{}: {note}", figure.name));
            }
        }
        output::line(format_args!(
            "median (least–greatest) of {} rounds; {}; {}",
            self.rounds, self.machine, self.date
        ));
    }

    /// Writes it as the page `docs/benchmarks.md`.
    pub(super) fn markdown(&self) -> String {
        let mut page = format!(
            "# Benchmarks\n\n\
             <!-- Generated by `make bench`; do not edit. -->\n\n\
             Measured by `steading bench` {} on {}, {}. Each figure is the median of {} rounds \
             with its least and greatest; figure and baseline took turns in the same run.\n\n\
             {MOVES}\n\n\
             | figure | ours | baseline | ratio | goal | |\n|---|---|---|---|---|---|\n",
            self.version, self.machine, self.date, self.rounds
        );
        for figure in &self.figures {
            let met = match figure.met {
                Some(true) => "reached",
                Some(false) => "**missed**",
                None => "",
            };
            let cells = figure.cells().join(" | ");
            writeln!(page, "| {cells} | {met} |").expect("writing to a string succeeds");
        }
        page
    }
}

/// Describes the machine: processor, cores, memory, kernel.
fn machine() -> String {
    let field = |file: &str, name: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = text
            .lines()
            .find(|line| line.starts_with(name))
            .map(str::to_owned);
        let value = line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()));
        value.unwrap_or_else(|| "unknown".into())
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kilobytes: u64 = field("/proc/meminfo", "MemTotal")
        .split_whitespace()
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or_default();
    let system = rustix::system::uname();
    format!(
        "{cores} cores of {}, {} GiB memory, {} {}",
        field("/proc/cpuinfo", "model name"),
        kilobytes >> 20,
        system.sysname().to_string_lossy(),
        system.release().to_string_lossy(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_the_median_with_least_and_greatest() {
        let rounds = Rounds::of(vec![3.0, 1.0, 2.0]);
        assert_eq!(
            rounds,
            Rounds {
                median: 2.0,
                min: 1.0,
                max: 3.0
            }
        );
        assert!((Rounds::of(vec![1.0, 2.0]).median - 1.5).abs() < f64::EPSILON);
    }

    #[test]
    fn a_goal_may_be_a_bound_or_a_multiple_of_the_baseline() {
        let met = |goal, ours: f64| {
            Figure::new("f", "u", vec![ours])
                .beside("b", vec![10.0])
                .goal(goal)
                .met
        };
        assert_eq!(met(Goal::AtMost(5.0), 4.0), Some(true));
        assert_eq!(met(Goal::TimesBaseline(1.1), 10.5), Some(false));
        assert_eq!(met(Goal::TimesBaseline(1.1), 11.5), Some(true));
        assert_eq!(met(Goal::NoWorse, 10.5), Some(false));
    }

    #[test]
    fn a_goal_may_be_one_number_that_no_round_misses() {
        let met = |rounds: &[f64]| {
            let figure = Figure::new("f", "u", rounds.to_vec());
            figure.goal(Goal::Exactly(0.0)).met
        };
        assert_eq!(met(&[0.0, 0.0, 0.0]), Some(true));
        assert_eq!(met(&[0.0, 0.0, 1.0]), Some(false));
        let moves = Figure::new("f", "u", vec![2048.0]).goal(Goal::Exactly(2049.0));
        assert_eq!(moves.met, Some(false));
    }

    #[test]
    fn numbers_show_what_matters() {
        let texts = [0.1234, 12.34, 123.4, 1_234_567.0].map(number);
        assert_eq!(texts, ["0.12", "12.3", "123", "1 234 567"]);
    }
}
