//! How to decide: every knob of the planner.

use std::time::Duration;

use crate::ids::ShardId;

/// How to decide. Shares and loads are compared in thousandths, without floating point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanSettings {
    /// How long a join waits for further joins, to be planned with them. Default: 300 ms.
    ///
    /// Ten nodes that join one by one cost a third more moves than ten that join together.
    pub join_delay: Duration,
    /// How long the oldest waiting join waits at most, and how long shards are kept for a node
    /// that is registered again and still joining. Default: 2 s.
    pub join_delay_max: Duration,
    /// How long a node that has just gone keeps its shards. Default: 50 ms.
    ///
    /// A restarted process ends its predecessor's lease and registers a moment later. Without this
    /// delay all of its shards would move in between.
    pub return_delay: Duration,
    /// Most moves under way at once in the whole cluster. Default: 128.
    ///
    /// Shards without a live owner are no moves, and are never put off.
    pub moves_in_flight_max: u32,
    /// Most moves under way at once that one node gives, and that one node takes. Default: 32.
    ///
    /// More makes a drain shorter and its calls slower meanwhile.
    pub moves_per_node_max: u32,
    /// What is balanced. Default: [`Strategy::Load`].
    pub strategy: Strategy,
    /// How far above its share a node's load may stay once loads are being balanced, in thousandths of
    /// the share. Default: 50.
    pub imbalance_threshold_permille: u32,
    /// How far above its share a node's load must be for loads to be balanced at all, in thousandths
    /// of the share. Default: 150.
    pub load_act_permille: u32,
    /// For how many windows in a row a node must be so far above its share. Default: 3.
    pub load_windows: u32,
    /// How long a window is. Default: 10 s.
    ///
    /// A report that is older than three windows is not believed any more.
    pub load_window: Duration,
    /// A node that uses less than this of its CPU and of its memory is left alone, in thousandths of
    /// what it has. Default: 300.
    pub load_floor_permille: u32,
    /// The least that a load move must take off the busier node, in thousandths of that node's share.
    /// Default: 2.
    pub min_gain_permille: u32,
    /// How long a shard rests that was moved for its load, or by an operator. Default: 5 min.
    ///
    /// It doubles each time that the shard has to move again soon after its rest.
    pub load_cooldown: Duration,
    /// The longest such rest. Default: 1 h.
    pub load_cooldown_max: Duration,
    /// Which shards belong into which zone; of several rules for a shard the first counts.
    /// Default: none.
    pub zone_rules: Vec<ZoneRule>,
    /// Whether to say so if the loss of one zone would leave the others without room for its shards.
    /// Default: yes. It is only said: no placement can make more room than the others' capacities.
    pub zone_headroom: bool,
    /// From which part of the nodes' stated capacity on the plan says that it runs out, in thousandths.
    /// Default: 800.
    pub capacity_watermark_permille: u32,
    /// What becomes of a pinned shard whose node is gone. Default: [`PinPolicy::FailOver`].
    pub pin_policy: PinPolicy,
    /// How many owners a shard must crash to be quarantined: the last two of them, or more, while it
    /// was watched (`placement::blame`). Default: 3, at least 2; 0: never.
    pub quarantine_deaths: u32,
    /// How long a shard is watched whose last owner crashed, counted from the first work that it
    /// does on its new owner. Default: 30 s.
    pub quarantine_within: Duration,
    /// How long a shard's first quarantine lasts; each further one in a row lasts twice as long.
    /// Default: 1 min.
    pub quarantine_min: Duration,
    /// How long a quarantine lasts at most. Default: 1 h.
    pub quarantine_max: Duration,
    /// The largest part of all shards that can be in quarantine, in thousandths, though always one
    /// shard. Default: 50.
    ///
    /// Where more shards than that crash their owners, it is not the shards.
    pub quarantine_share_max_permille: u32,
    /// How long an owner may take to hand a shard over before the move is given up and reported, and
    /// the shard left where it is for two minutes. Default: 1 min.
    ///
    /// Shorter than the drain timeout, it also ends moves that only wait for a slow turn.
    pub leaving_limit: Duration,
    /// How long a target may take to claim a shard that nobody owns before the shard goes to another
    /// node, and this one gets none for a minute. Default: 15 s.
    ///
    /// A claim takes milliseconds; a node that is silent for longer than its lease is gone anyhow.
    pub claiming_limit: Duration,
}

impl Default for PlanSettings {
    fn default() -> Self {
        Self {
            join_delay: Duration::from_millis(300),
            join_delay_max: Duration::from_secs(2),
            return_delay: Duration::from_millis(50),
            moves_in_flight_max: 128,
            moves_per_node_max: 32,
            strategy: Strategy::Load,
            imbalance_threshold_permille: 50,
            load_act_permille: 150,
            load_windows: 3,
            load_window: Duration::from_secs(10),
            load_floor_permille: 300,
            min_gain_permille: 2,
            load_cooldown: Duration::from_mins(5),
            load_cooldown_max: Duration::from_hours(1),
            zone_rules: Vec::new(),
            zone_headroom: true,
            capacity_watermark_permille: 800,
            pin_policy: PinPolicy::FailOver,
            quarantine_deaths: 3,
            quarantine_within: Duration::from_secs(30),
            quarantine_min: Duration::from_mins(1),
            quarantine_max: Duration::from_hours(1),
            quarantine_share_max_permille: 50,
            leaving_limit: Duration::from_mins(1),
            claiming_limit: Duration::from_secs(15),
        }
    }
}

/// What the planner balances, beyond what every plan keeps: that shards are divided by weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// The number of shards only.
    Count,
    /// The number of shards, and what they cost.
    #[default]
    Load,
}

impl Strategy {
    /// Returns the stable name: in settings, commands and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Load => "load",
        }
    }

    /// Returns the strategy of this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Count, Self::Load]
            .into_iter()
            .find(|strategy| strategy.as_str() == name)
    }
}

/// What becomes of a pinned shard whose node is gone or leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PinPolicy {
    /// It waits for its node, without an owner.
    Wait,
    /// Another node takes it over, and it is pinned there.
    #[default]
    FailOver,
}

/// Where a range of shards belongs.
///
/// A rule names shards since placement keys are hashed: the objects of one type, or of one
/// prefix, are spread over all shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneRule {
    /// The first shard of the range.
    pub first: ShardId,
    /// The last shard of the range.
    pub last: ShardId,
    /// The zone they belong into.
    pub zone: String,
    /// How much that counts.
    pub strength: Strength,
}

/// How much a [`ZoneRule`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strength {
    /// The shard is placed nowhere else. While its zone has no node that takes shards, it waits.
    Hard,
    /// The shard is in its zone as far as the division of the shards allows.
    Soft,
}
