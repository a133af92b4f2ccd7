//! What callers notice when shards move: one by one, as nodes join, drain and restart, and when the
//! leader dies.
//!
//! The load comes from a gate in this process, which hosts nothing and is never restarted: 64
//! callers at a fixed rate, over one counter in every shard. A call has failed if its caller sees an
//! error; nothing here tries again. In the end every counter must show what was acknowledged.
//!
//! How long a shard has no owner that serves it is measured from outside: a caller calls one of its
//! objects again as soon as it is answered, and the gap is its longest pause between two answers.

mod calls;
mod cluster;
mod drain;
mod join;
mod leader;
mod probe;
mod rolling;
mod single;
mod steady;

use std::time::Duration;

use super::children::Etcd;
use super::report::{Figure, Goal};
use super::{BenchArgs, Progress};
use cluster::Cluster;
use steady::Outcome;

/// Measures moves in clusters of our own, or in the one that is named.
pub(super) async fn measure(args: &BenchArgs, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    if args.etcd.is_empty() {
        of_our_own(args, progress).await
    } else {
        in_a_cluster(args, progress).await
    }
}

/// Moves single shards of a cluster that exists; nothing of it is started or killed.
async fn in_a_cluster(args: &BenchArgs, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let gate = cluster::enter(&args.etcd, &args.prefix).await?;
    let mut rounds = Vec::new();
    for round in 0..args.rounds {
        progress.tell(&format_args!("single moves, round {}", round + 1));
        rounds.push(single::round(&gate, args.moves).await?);
    }
    gate.stop().await;
    Ok(single::figures(&rounds))
}

/// Measures each way in which shards move, every round in a new cluster.
async fn of_our_own(args: &BenchArgs, progress: &Progress) -> anyhow::Result<Vec<Figure>> {
    let etcd = Etcd::start(&args.etcd_program).await?;
    let (mut singles, mut joins, mut drains) = (Vec::new(), Vec::new(), Vec::new());
    let (mut rollings, mut leaders) = (Vec::new(), Vec::new());
    for round in 0..args.rounds {
        let prefix = |what: &str| {
            progress.tell(&format_args!("{what}, round {}", round + 1));
            format!("/{what}-{round}/").replace(' ', "-")
        };
        let cluster = Cluster::start(&etcd, &prefix("single moves"), 3).await?;
        singles.push(single::round(&cluster.gate, args.moves).await?);
        cluster.stop().await;
        joins.push(join::round(&etcd, &prefix("join")).await?);
        drains.push(drain::round(&etcd, &prefix("drain")).await?);
        rollings.push(rolling::round(&etcd, &prefix("rolling restart")).await?);
        leaders.push(leader::round(&etcd, &prefix("death of the leader")).await?);
    }
    let mut figures = single::figures(&singles);
    figures.extend(join::figures(&joins));
    figures.extend(drain::figures(&drains));
    figures.extend(rolling::figures(&rollings));
    figures.extend(leader::figures(&leaders));
    Ok(figures)
}

/// Tells whether calls failed, and whether counters lost or doubled something.
fn outcome_figures<'a>(what: &str, outcomes: impl IntoIterator<Item = &'a Outcome>) -> [Figure; 2] {
    let outcomes: Vec<_> = outcomes.into_iter().collect();
    let none = |what: String, unit, count: fn(&Outcome) -> u64| {
        let counts = outcomes.iter().map(|outcome| as_f64(count(outcome)));
        Figure::new(what, unit, counts.collect()).goal(Goal::Exactly(0.0))
    };
    let why = outcomes.iter().find_map(|outcome| outcome.first_error());
    let failed = format!("{what}: failed calls");
    let wrong = format!("{what}: counters with a wrong total");
    [
        none(failed, "calls", Outcome::failed).note(why.map(ToString::to_string)),
        none(wrong, "counters", |outcome| outcome.wrong),
    ]
}

/// Returns the longest call of each outcome.
fn longest_ms<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> Vec<f64> {
    let longest = |outcome: &Outcome| outcome.quiet.longest_ms().max(outcome.moving.longest_ms());
    outcomes.map(longest).collect()
}

/// Returns the time, in milliseconds, that this share of some stayed within; 0 of none.
fn quantile_ms(times: impl Iterator<Item = Duration>, quantile: f64) -> f64 {
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank among some hundreds"
    )]
    let rank = (times.len() as f64 * quantile).ceil() as usize;
    let time = times.get(rank.saturating_sub(1)).copied();
    time.unwrap_or_default().as_secs_f64() * 1e3
}

#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_time_that_this_share_stayed_within() {
        let times = || (1..=200).rev().map(Duration::from_millis);
        assert!((quantile_ms(times(), 0.5) - 100.0).abs() < 1e-9);
        assert!((quantile_ms(times(), 0.99) - 198.0).abs() < 1e-9);
        assert!((quantile_ms(times(), 1.0) - 200.0).abs() < 1e-9);
        assert!(quantile_ms(std::iter::empty(), 0.5).abs() < 1e-9);
    }
}
