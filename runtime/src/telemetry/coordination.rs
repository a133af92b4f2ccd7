//! The metrics of watcher, leader and reconciler.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// What watcher, leader and reconciler count.
#[derive(Clone, Debug)]
pub struct CoordinationMetrics {
    /// Seconds from a list's reply until the view had reached its revision, at the last check.
    pub watch_lag_seconds: Gauge<f64, AtomicU64>,
    /// Watches opened again after one had ended.
    pub watch_reconnects: Counter,
    /// Lists after the first: the wanted revisions were compacted, or the view was wrong.
    pub watch_relists: Counter,
    /// Checks that found the view to differ from the store at the same revision. Must stay 0.
    pub view_mismatches: Counter,
    /// Keys under the cluster's prefix that could not be read and were skipped, each once.
    pub bad_entries: Counter,
    /// Owners that other nodes claimed, by what the store said of them.
    pub owner_claims: Family<ClaimLabels, Counter>,
    /// Keys under the cluster's prefix that have no effect now.
    pub ignored_keys: Gauge,

    /// Node and leader keys that no living node kept, deleted by this node.
    pub stray_keys_deleted: Counter,
    /// 1 once the store was proven not to be the one that this process joined.
    pub store_replaced: Gauge,
    /// 1 while `meta/cluster` is not the description that this process joined.
    pub description_altered: Gauge,

    /// 1 while this node leads.
    pub leading: Gauge,
    /// Plans written, or tried, by reason and outcome.
    pub plans: Family<PlanLabels, Counter>,
    /// Plans that ended, by reason and outcome.
    pub plans_ended: Family<PlanEndLabels, Counter>,
    /// Moves of plans that ended, by reason and last phase.
    pub moves_ended: Family<MoveLabels, Counter>,
    /// Seconds from the order of a move until its target owned the shard.
    pub move_seconds: Histogram,
    /// Wakes at which the leader wrote no plan, by reason.
    pub plan_skips: Family<SkipLabels, Counter>,
    /// Moves of shards that had a live owner, as planned.
    pub plan_moves: Counter,
    /// The fewest such moves that would have led to as even a spread.
    pub plan_moves_least: Counter,

    /// Seconds from the first try to own a shard until it is owned.
    pub claim_seconds: Histogram,
    /// Seconds from the beginning of a shard's closing until its release to nobody.
    pub release_seconds: Histogram,
    /// Seconds that each phase of handing a shard over took at the node that gave it.
    pub handover_seconds: Family<HandoverLabels, Histogram, fn() -> Histogram>,
    /// Shards whose state could not be sent ahead to their target, by reason.
    pub sends_failed: Family<SendFailureLabels, Counter>,
    /// Transactions of the reconciler, by step and outcome.
    pub batches: Family<BatchLabels, Counter>,
    /// Transactions of the reconciler under way.
    pub batches_in_flight: Gauge,
    /// Shards that this node owns.
    pub shards_owned: Gauge,
    /// Shards that are targeted at this node.
    pub shards_targeted: Gauge,
    /// Shards that are closing, or closed and not yet handed over or released.
    pub shards_closing: Gauge,
    /// How long the oldest of those has been, in seconds; 0 without any.
    pub oldest_closing_seconds: Gauge<f64, AtomicU64>,
    /// Closings that were abandoned because turns did not end in time.
    pub closings_overdue: Counter,
    /// Shards that took longer than they may in a phase of being owned or given up, by phase.
    pub moves_stuck: Family<StuckLabels, Counter>,
    /// Moves that the leader gave up because somebody did not act, by phase.
    pub moves_given_up: Family<GivenUpLabels, Counter>,
}

/// The labels of [`CoordinationMetrics::moves_given_up`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct GivenUpLabels {
    /// Who did not act: the owner (`leaving`) or the target (`claiming`).
    pub phase: &'static str,
}

/// The labels of [`CoordinationMetrics::owner_claims`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ClaimLabels {
    /// `confirmed`, `watched` (the watch brought it first), `false` or `failed` (the store did not
    /// answer).
    pub outcome: &'static str,
}

/// The labels of [`CoordinationMetrics::plans`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PlanLabels {
    /// The weightiest reason of its moves: `unplaced`, `failure`, `drain` or `join`.
    pub reason: &'static str,
    /// `written`, `deposed` (another leads), `overtaken` (by an earlier one), `broken` (an
    /// invariant), `transient` or `unknown`.
    pub outcome: &'static str,
}

/// The labels of [`CoordinationMetrics::plans_ended`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PlanEndLabels {
    /// As in [`PlanLabels`].
    pub reason: &'static str,
    /// `done`, `aborted`, `superseded` or `failed`.
    pub outcome: &'static str,
}

/// The labels of [`CoordinationMetrics::moves_ended`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct MoveLabels {
    /// Why: a reason as in [`PlanLabels`].
    pub reason: &'static str,
    /// `done`, `failed` or `cancelled`.
    pub phase: &'static str,
}

/// The labels of [`CoordinationMetrics::plan_skips`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SkipLabels {
    /// `settled`, `waiting`, `view_behind` or `suspended`.
    pub reason: &'static str,
}

/// The labels of [`CoordinationMetrics::handover_seconds`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HandoverLabels {
    /// `close` (until no turn ran), `send` (until the target had the state), `commit` (the
    /// transaction), `gap` (from closed to committed: nobody served), or `total`.
    pub phase: &'static str,
}

/// The labels of [`CoordinationMetrics::sends_failed`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SendFailureLabels {
    /// `unreachable`, `refused`, `unreadable`, `late` or `failed`.
    pub reason: &'static str,
}

/// The labels of [`CoordinationMetrics::moves_stuck`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StuckLabels {
    /// `claim`, `retry`, `close`, `send`, `hand_over`, `end`, `release` or `resolve`.
    pub phase: &'static str,
}

/// The labels of [`CoordinationMetrics::batches`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BatchLabels {
    /// `hand_over`, `claim`, `take_over`, `restamp` or `release`.
    pub step: &'static str,
    /// `committed`, `refused`, `not_sent` or `unknown`.
    pub outcome: &'static str,
}

impl CoordinationMetrics {
    /// Makes metrics that all begin at zero, and registers them.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.001, 2.0, 16));
        let metrics = Self {
            watch_lag_seconds: Gauge::default(),
            watch_reconnects: Counter::default(),
            watch_relists: Counter::default(),
            view_mismatches: Counter::default(),
            bad_entries: Counter::default(),
            owner_claims: Family::default(),
            ignored_keys: Gauge::default(),
            stray_keys_deleted: Counter::default(),
            store_replaced: Gauge::default(),
            description_altered: Gauge::default(),
            leading: Gauge::default(),
            plans: Family::default(),
            plans_ended: Family::default(),
            moves_ended: Family::default(),
            move_seconds: seconds(),
            plan_skips: Family::default(),
            plan_moves: Counter::default(),
            plan_moves_least: Counter::default(),
            claim_seconds: seconds(),
            release_seconds: seconds(),
            handover_seconds: Family::new_with_constructor(handover_histogram as _),
            sends_failed: Family::default(),
            batches: Family::default(),
            batches_in_flight: Gauge::default(),
            shards_owned: Gauge::default(),
            shards_targeted: Gauge::default(),
            shards_closing: Gauge::default(),
            oldest_closing_seconds: Gauge::default(),
            closings_overdue: Counter::default(),
            moves_stuck: Family::default(),
            moves_given_up: Family::default(),
        };
        macro_rules! register {
            ($($field:ident $help:literal,)*) => {
                $(registry.register(stringify!($field), $help, metrics.$field.clone());)*
            };
        }
        register! {
            watch_lag_seconds "Time the view took to reach a list's revision at the last check",
            watch_reconnects "Watches opened again after one had ended",
            watch_relists "Lists after the first",
            view_mismatches "Checks that found the view to differ from the store",
            bad_entries "Unreadable keys of the store that were skipped",
            owner_claims "Owners that other nodes claimed, by what the store said",
            ignored_keys "Keys under the cluster's prefix that have no effect now",
            stray_keys_deleted "Node and leader keys that no living node kept, deleted by this node",
            store_replaced "1 once the store is not the one that this process joined",
            description_altered "1 while the cluster's description is not the one that was joined",
            leading "1 while this node leads",
            plans "Plans by reason and outcome",
            plans_ended "Plans that ended by reason and outcome",
            moves_ended "Moves of plans that ended by reason and last phase",
            move_seconds "Time from the order of a move until its target owned the shard",
            plan_skips "Wakes without a plan by reason",
            plan_moves "Planned moves of shards that had a live owner",
            plan_moves_least "The fewest moves that would have done",
            claim_seconds "Time to own a shard",
            release_seconds "Time from a shard's closing to its release",
            handover_seconds "Time to hand a shard over by phase",
            sends_failed "Shards whose state could not be sent ahead by reason",
            batches "Transactions on owner keys by step and outcome",
            batches_in_flight "Transactions on owner keys under way",
            shards_owned "Shards that this node owns",
            shards_targeted "Shards that are targeted at this node",
            shards_closing "Shards closing, or closed and not yet given up",
            oldest_closing_seconds "Time that the shard which does so longest has been closing or closed",
            closings_overdue "Closings abandoned because turns did not end in time",
            moves_stuck "Shards that took too long in a phase by phase",
            moves_given_up "Moves that the leader gave up by who did not act",
        }
        metrics
    }
}

/// From a quarter of a millisecond to sixteen seconds.
fn handover_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.000_25, 2.0, 17))
}
