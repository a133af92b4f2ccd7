//! Elects the node that plans, and plans while this node is it. (Skeleton.)

use std::convert::Infallible;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::keys::Keys;
use super::store::Store;
use super::{Rights, SharedView};
use crate::clock::Clock;
use crate::placement::planner::PlanSettings;
use crate::telemetry::Metrics;

/// What a leader is made of.
#[derive(Debug)]
pub struct LeaderParts {
    /// Where the cluster agrees.
    pub store: Arc<dyn Store>,
    /// The cluster's keys.
    pub keys: Keys,
    /// The node's copy of the cluster.
    pub view: Arc<SharedView>,
    /// The life that leads, and whether it may.
    pub rights: Rights,
    /// What the planner's times are measured on.
    pub clock: Clock,
    /// How to plan.
    pub settings: PlanSettings,
    /// Where to count.
    pub metrics: Arc<Metrics>,
}

/// The task; see the [module](self).
#[derive(Debug)]
pub struct Leader {
    #[allow(dead_code, reason = "skeleton")]
    parts: LeaderParts,
}

impl Leader {
    /// Makes a candidate, which begins with [`Leader::run`].
    pub fn new(parts: LeaderParts) -> Self {
        Self { parts }
    }

    /// Runs until `shutdown`, then resigns if this node leads.
    ///
    /// # Errors
    ///
    /// Never; the type is what [`Tasks::spawn`](crate::Tasks::spawn) wants.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Infallible> {
        shutdown.cancelled().await;
        Ok(())
    }
}
