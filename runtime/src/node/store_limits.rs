//! Finds out whether the limits of the store are why a node waits for a plan.
//!
//! Only the leader sees that the store rejects a plan; each node that waits for one probes the
//! limits itself, so that its own readiness names the cause.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::readiness::{Condition, Readiness};
use super::{Node, Taking};
use crate::coordination::store::StoreError;

/// How long a node waits for its plan before it probes the store. A plan takes well under a second.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often a node looks whether it waits.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The pause after a probe. It writes 1 MiB to the store's log.
const PROBE_PAUSE: Duration = Duration::from_secs(30);

/// Probes the store as long as the node waits for a plan, until `shutdown`.
pub(super) async fn probe_while_unplanned(
    node: Node,
    shutdown: CancellationToken,
) -> Result<(), Infallible> {
    loop {
        let pause = match node.shared.taking.get() {
            Some(taking) if waits_for_plan(&node.readiness()) => {
                let found = probe(taking).await;
                let is_new = *node.shared.limits.lock() != found;
                if let (Some(limits), true) = (&found, is_new) {
                    warn!(limits, "no plan can be written");
                }
                *node.shared.limits.lock() = found;
                PROBE_PAUSE
            }
            Some(_) => {
                *node.shared.limits.lock() = None;
                LOOK_INTERVAL
            }
            None => LOOK_INTERVAL,
        };
        if shutdown.run_until_cancelled(sleep(pause)).await.is_none() {
            return Ok(());
        }
    }
}

async fn probe(taking: &Taking) -> Option<String> {
    match taking.store.check_limits(taking.keys.prefix()).await {
        Err(error @ StoreError::Limits(_)) => Some(error.to_string()),
        Ok(()) | Err(_) => None,
    }
}

/// Whether a plan is all that a node lacks, and has lacked for some time.
fn waits_for_plan(readiness: &Readiness) -> bool {
    let mut unmet = readiness.conditions.iter().filter(|state| !state.met);
    let is_plan = |condition| matches!(condition, Condition::Planned | Condition::ShardsClaimed);
    unmet
        .next()
        .is_some_and(|state| is_plan(state.condition) && state.since >= PATIENCE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::readiness::ConditionState;

    #[track_caller]
    fn check(unmet: &[Condition], since: u64, expected: bool) {
        let conditions = Condition::ALL.iter().map(|condition| ConditionState {
            condition: *condition,
            met: !unmet.contains(condition),
            since: Duration::from_secs(since),
            waiting_for: None,
        });
        let readiness = Readiness {
            conditions: conditions.collect(),
            claimed: 0,
            targeted: 0,
            waiting_for: None,
            warnings: Vec::new(),
        };
        assert_eq!(waits_for_plan(&readiness), expected, "{unmet:?}");
    }

    #[test]
    fn only_a_plan_that_stays_out_is_probed_for() {
        check(&[], 60, false);
        check(&[Condition::Planned], 2, false);
        check(&[Condition::Planned], 3, true);
        check(&[Condition::ShardsClaimed], 3, true);
        check(&[Condition::LeaseAlive, Condition::Planned], 60, false);
        check(&[Condition::NotDraining], 60, false);
    }
}
