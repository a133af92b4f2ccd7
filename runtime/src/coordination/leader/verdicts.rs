//! What the leader writes about shards that crash their owners.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use tracing::{error, info, warn};

use super::Leader;
use super::deciding::Deciding;
use super::draft::Draft;
use super::writing::Written;
use crate::coordination::membership::Identity;
use crate::coordination::plans::PlanRecord;
use crate::ids::ShardId;
use crate::placement::ClusterView;
use crate::placement::blame::{self, Verdicts};
use crate::placement::planner::Reason;

impl Leader {
    /// Judges what nodes died of, and returns whether that wrote something. Comes before planning:
    /// a shard that may have crashed its owner is not to be placed before that is known.
    pub(super) async fn judge_deaths(&mut self, view: &Arc<ClusterView>, me: &Identity) -> bool {
        let is_same = self
            .judged
            .as_ref()
            .is_some_and(|judged| view.targets.changed_since(judged).next().is_none());
        if is_same && view.activity.is_empty() {
            return false;
        }
        let now = self.parts.clock.now();
        let wall = self.wall.at(now).duration_since(UNIX_EPOCH);
        let wall = wall.unwrap_or_default();
        let verdicts = blame::judge(view, &self.parts.settings, wall);
        let wait = verdicts.next_at.map(|at| at.saturating_sub(wall));
        self.verdict_at = wait.map(|wait| now.plus(wait.max(Duration::from_millis(1))));
        if verdicts.is_empty() {
            self.judged = Some(view.targets.clone());
            return false;
        }
        self.judged = None;
        let Some(reign) = &self.reign else {
            return false;
        };
        let Some(book) = &reign.book else {
            return false;
        };
        let draft = self.deciding(view, reign, book, me, now).judge(&verdicts);
        let records = draft.book.due(now);
        if self.write(draft, &records, view, me).await == Written::Yes {
            report(&verdicts);
        }
        true
    }
}

fn report(verdicts: &Verdicts) {
    for (shard, length) in &verdicts.quarantined {
        error!(%shard, ?length, "quarantined a shard: it crashed its owners");
    }
    for shard in &verdicts.released {
        info!(%shard, "the quarantine of a shard ended: it is placed again, and watched");
    }
    if verdicts.spared > 0 {
        let shards = verdicts.spared;
        warn!(
            shards,
            "not quarantined: too many shards crash their owners for it to be the shards"
        );
    }
}

impl<'v> Deciding<'v, '_> {
    /// Writes verdicts down. Quarantines and their ends leave a plan without moves as their trace.
    fn judge(&self, verdicts: &Verdicts) -> Draft<'v> {
        let mut draft = Draft::new(self.view, self.book, self.now);
        draft.judged.clone_from(&verdicts.judged);
        let traced: BTreeMap<ShardId, String> = traced(verdicts);
        for (shard, target) in &verdicts.targets {
            if traced.contains_key(shard) {
                draft.set(*shard, target.clone(), Reason::Failure);
            } else {
                draft.suspect(*shard, target.clone());
            }
        }
        if !traced.is_empty() {
            let texts: Vec<String> = traced.into_values().collect();
            let record = PlanRecord {
                trigger: texts.join("; "),
                ..self.empty(draft.plan_id(), Reason::Failure)
            };
            draft.book.add(record, None);
        }
        draft.book.end_what_is_through(self.view, self.now);
        draft
    }
}

fn traced(verdicts: &Verdicts) -> BTreeMap<ShardId, String> {
    let quarantined = verdicts.quarantined.iter().map(|(shard, length)| {
        let text = format!("shard {shard} crashed its owners: quarantined for {length:?}");
        (*shard, text)
    });
    let released = verdicts.released.iter().map(|shard| {
        let text = format!("the quarantine of shard {shard} ended");
        (*shard, text)
    });
    quarantined.chain(released).collect()
}
