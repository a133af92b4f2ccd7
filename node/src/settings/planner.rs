//! How the leader plans: every knob of the planner.

use std::time::Duration;

use clap::{Args, ValueEnum};
use steading::ids::{ShardCount, ShardId, canonical_number};
use steading::placement::planner::{PinPolicy, PlanSettings, Strategy, Strength, ZoneRule};

use super::{SettingsError, refused, values};

/// The shortest limit of a move's phase: less would give up moves that only take their time.
const MOVE_LIMIT_MIN: Duration = Duration::from_secs(1);

/// How the leader plans. Every node of a cluster should say the same, since each may lead.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Settings")]
pub struct PlannerSettings {
    /// How long the leader waits for more nodes to join before it plans for them.
    #[arg(
        long,
        env = "STEADING_JOIN_DELAY",
        value_name = "DURATION",
        default_value = "300ms",
        value_parser = values::duration
    )]
    pub join_delay: Duration,

    /// How long the first of several nodes that join waits at most.
    #[arg(
        long,
        env = "STEADING_JOIN_DELAY_MAX",
        value_name = "DURATION",
        default_value = "2s",
        value_parser = values::duration
    )]
    pub join_delay_max: Duration,

    /// How long a node that has just gone keeps its shards, in case it was a restart.
    #[arg(
        long,
        env = "STEADING_RETURN_DELAY",
        value_name = "DURATION",
        default_value = "50ms",
        value_parser = values::duration
    )]
    pub return_delay: Duration,

    /// Most shards that one node gives, and that one node takes, at once.
    #[arg(
        long,
        env = "STEADING_REBALANCE_BATCH_SIZE",
        value_name = "COUNT",
        default_value = "32"
    )]
    pub rebalance_batch_size: u32,

    /// Most shards that move at once in the whole cluster.
    #[arg(
        long,
        env = "STEADING_MOVES_IN_FLIGHT",
        value_name = "COUNT",
        default_value = "128"
    )]
    pub moves_in_flight: u32,

    /// What is balanced: `load` for what shards cost beside their number, or `count`.
    #[arg(
        long,
        env = "STEADING_REBALANCE_STRATEGY",
        value_name = "WHAT",
        default_value = "load"
    )]
    pub rebalance_strategy: RebalanceStrategy,

    /// How far above its share a node's load may stay once loads are balanced, as a part of the
    /// share.
    #[arg(
        long,
        env = "STEADING_IMBALANCE_THRESHOLD",
        value_name = "PART",
        default_value = "0.05",
        value_parser = values::part
    )]
    pub imbalance_threshold: u32,

    /// How far above its share a node's load must be for loads to be balanced, as a part of the
    /// share.
    #[arg(
        long,
        env = "STEADING_LOAD_ACT",
        value_name = "PART",
        default_value = "0.15",
        value_parser = values::part
    )]
    pub load_act: u32,

    /// For how many windows in a row a node must do so much.
    #[arg(
        long,
        env = "STEADING_LOAD_WINDOWS",
        value_name = "COUNT",
        default_value = "3"
    )]
    pub load_windows: u32,

    /// How long a window of load is; a report counts for three of them.
    #[arg(
        long,
        env = "STEADING_LOAD_WINDOW",
        value_name = "DURATION",
        default_value = "10s",
        value_parser = values::duration
    )]
    pub load_window: Duration,

    /// A node that uses less than this part of its CPU and of its memory is left alone.
    #[arg(
        long,
        env = "STEADING_LOAD_FLOOR",
        value_name = "PART",
        default_value = "0.3",
        value_parser = values::part
    )]
    pub load_floor: u32,

    /// Least that a move must take off the busier node, as a part of its share of all load.
    #[arg(
        long,
        env = "STEADING_MIN_GAIN",
        value_name = "PART",
        default_value = "0.002",
        value_parser = values::part
    )]
    pub min_gain: u32,

    /// How long a shard rests that was moved for its load, or by an operator; doubled each time that
    /// it has to move again soon.
    #[arg(
        long,
        env = "STEADING_LOAD_COOLDOWN",
        value_name = "DURATION",
        default_value = "5m",
        value_parser = values::duration
    )]
    pub load_cooldown: Duration,

    /// Longest such rest.
    #[arg(
        long,
        env = "STEADING_LOAD_COOLDOWN_MAX",
        value_name = "DURATION",
        default_value = "1h",
        value_parser = values::duration
    )]
    pub load_cooldown_max: Duration,

    /// Which shards belong into which zone, comma-separated: `FIRST-LAST=ZONE` where they may be
    /// nowhere else, `FIRST-LAST~ZONE` where that is a wish. The first that fits a shard counts.
    #[arg(
        long,
        env = "STEADING_ZONE_RULES",
        value_name = "RULES",
        value_delimiter = ','
    )]
    pub zone_rules: Vec<String>,

    /// Whether to say so if the loss of one zone would leave the others without room.
    #[arg(
        long,
        env = "STEADING_ZONE_HEADROOM",
        value_name = "BOOL",
        default_value = "true",
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        action = clap::ArgAction::Set,
        value_parser = clap::builder::BoolishValueParser::new(),
        hide_possible_values = true
    )]
    pub zone_headroom: bool,

    /// From which part of the nodes' stated capacity on the plan says that it runs out. A node states
    /// it, in shards, by the label `capacity`.
    #[arg(
        long,
        env = "STEADING_CAPACITY_WATERMARK",
        value_name = "PART",
        default_value = "0.8",
        value_parser = values::part
    )]
    pub capacity_watermark: u32,

    /// What becomes of a pinned shard whose node is gone: `fail-over` to another, or `wait`.
    #[arg(
        long,
        env = "STEADING_PIN_POLICY",
        value_name = "WHAT",
        default_value = "fail-over"
    )]
    pub pin_policy: PinPolicySetting,

    /// Quarantine: owners that a shard must crash, at least 2; 0: never.
    #[arg(
        long,
        env = "STEADING_QUARANTINE_DEATHS",
        value_name = "COUNT",
        default_value = "3"
    )]
    pub quarantine_deaths: u32,

    /// Quarantine: how long a shard is watched after its owner crashed, from its first work on.
    #[arg(
        long,
        env = "STEADING_QUARANTINE_WITHIN",
        value_name = "DURATION",
        default_value = "30s",
        value_parser = values::duration
    )]
    pub quarantine_within: Duration,

    /// Quarantine: length of a shard's first one; each further one in a row is twice as long.
    #[arg(
        long,
        env = "STEADING_QUARANTINE_MIN",
        value_name = "DURATION",
        default_value = "1m",
        value_parser = values::duration
    )]
    pub quarantine_min: Duration,

    /// Quarantine: greatest length.
    #[arg(
        long,
        env = "STEADING_QUARANTINE_MAX",
        value_name = "DURATION",
        default_value = "1h",
        value_parser = values::duration
    )]
    pub quarantine_max: Duration,

    /// Quarantine: largest part of all shards in it.
    #[arg(
        long,
        env = "STEADING_QUARANTINE_SHARE",
        value_name = "PART",
        default_value = "0.05",
        value_parser = values::part
    )]
    pub quarantine_share: u32,

    /// How long an owner may take to hand a shard over before the move is given up and reported, and
    /// the shard left where it is for a while.
    #[arg(
        long,
        env = "STEADING_LEAVING_LIMIT",
        value_name = "DURATION",
        default_value = "1m",
        value_parser = values::duration
    )]
    pub leaving_limit: Duration,

    /// How long a node may take to claim a shard that nobody owns before the shard goes to another.
    #[arg(
        long,
        env = "STEADING_CLAIMING_LIMIT",
        value_name = "DURATION",
        default_value = "15s",
        value_parser = values::duration
    )]
    pub claiming_limit: Duration,
}

/// What is balanced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RebalanceStrategy {
    /// The number of shards.
    Count,
    /// Their number, and what they cost.
    Load,
}

/// What becomes of a pinned shard whose node is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PinPolicySetting {
    /// It waits.
    Wait,
    /// It is pinned elsewhere.
    FailOver,
}

impl PlannerSettings {
    pub(super) fn check(&self, count: ShardCount) -> Result<(), SettingsError> {
        if self.load_window.is_zero() {
            return Err(refused(
                "load_window",
                "it must be longer than nothing".into(),
            ));
        }
        for (setting, limit) in [
            ("leaving_limit", self.leaving_limit),
            ("claiming_limit", self.claiming_limit),
        ] {
            if limit < MOVE_LIMIT_MIN {
                return Err(refused(setting, "it must be at least 1s".into()));
            }
        }
        for (setting, longest, other, shortest) in [
            (
                "join_delay_max",
                self.join_delay_max,
                "join_delay",
                self.join_delay,
            ),
            (
                "load_cooldown_max",
                self.load_cooldown_max,
                "load_cooldown",
                self.load_cooldown,
            ),
        ] {
            if longest < shortest {
                return Err(refused(
                    setting,
                    format!("it must be no less than `{other}`"),
                ));
            }
        }
        if self.imbalance_threshold > self.load_act {
            let why = "it must be no more than `load_act`";
            return Err(refused("imbalance_threshold", why.into()));
        }
        for (setting, value) in [
            ("rebalance_batch_size", self.rebalance_batch_size),
            ("moves_in_flight", self.moves_in_flight),
        ] {
            if value == 0 {
                return Err(refused(setting, "it must be at least 1".into()));
            }
        }
        self.checked_zone_rules(count).map(|_| ())
    }

    /// Returns the settings as the planner takes them, in a cluster of so many shards.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] if a zone rule is written in another form, or names other shards.
    pub fn plan_settings(&self, count: ShardCount) -> Result<PlanSettings, SettingsError> {
        Ok(PlanSettings {
            join_delay: self.join_delay,
            join_delay_max: self.join_delay_max,
            return_delay: self.return_delay,
            moves_in_flight_max: self.moves_in_flight,
            moves_per_node_max: self.rebalance_batch_size,
            strategy: match self.rebalance_strategy {
                RebalanceStrategy::Count => Strategy::Count,
                RebalanceStrategy::Load => Strategy::Load,
            },
            imbalance_threshold_permille: self.imbalance_threshold,
            load_act_permille: self.load_act,
            load_windows: self.load_windows,
            load_window: self.load_window,
            load_floor_permille: self.load_floor,
            min_gain_permille: self.min_gain,
            load_cooldown: self.load_cooldown,
            load_cooldown_max: self.load_cooldown_max,
            zone_rules: self.checked_zone_rules(count)?,
            zone_headroom: self.zone_headroom,
            capacity_watermark_permille: self.capacity_watermark,
            pin_policy: match self.pin_policy {
                PinPolicySetting::Wait => PinPolicy::Wait,
                PinPolicySetting::FailOver => PinPolicy::FailOver,
            },
            quarantine_deaths: self.quarantine_deaths,
            quarantine_within: self.quarantine_within,
            quarantine_min: self.quarantine_min,
            quarantine_max: self.quarantine_max,
            quarantine_share_max_permille: self.quarantine_share,
            leaving_limit: self.leaving_limit,
            claiming_limit: self.claiming_limit,
        })
    }

    fn checked_zone_rules(&self, count: ShardCount) -> Result<Vec<ZoneRule>, SettingsError> {
        let rules = self.zone_rules.iter().map(|text| {
            zone_rule(text, count).ok_or_else(|| {
                let form = "write `FIRST-LAST=ZONE` or `FIRST-LAST~ZONE`, with shards below";
                let why = format!("`{text}` is no rule: {form} {count}");
                refused("zone_rules", why)
            })
        });
        rules.collect()
    }
}

/// Reads one zone rule.
fn zone_rule(text: &str, count: ShardCount) -> Option<ZoneRule> {
    let sign = text.find(['=', '~'])?;
    let (range, zone) = (text.get(..sign)?, text.get(sign + 1..)?);
    let (first, last) = range.split_once('-')?;
    let shard = |text: &str| ShardId::new(canonical_number(text.trim())?, count).ok();
    let rule = ZoneRule {
        first: shard(first)?,
        last: shard(last)?,
        zone: zone.trim().to_owned(),
        strength: if text.get(sign..=sign)? == "=" {
            Strength::Hard
        } else {
            Strength::Soft
        },
    };
    (rule.first <= rule.last && !rule.zone.is_empty()).then_some(rule)
}
