//! Removes node and leader keys that no living node keeps.
//!
//! Such keys hang on the lease of the incarnation that wrote them, and vanish with it. One that was
//! written by hand, or restored, hangs on no lease or on another one: it would hold its shards or
//! the lead for ever. Views take such a node key for absent (`keys`), and a leader key that names no
//! live node leads nobody; but both keep others from taking over until they are gone.
//!
//! # Why deleting is safe
//!
//! - **The leader key.** Whatever a leader writes proves its term, the key's create revision. So
//!   deleting the key stops even a leader that lives. Guard: the key is as it was seen.
//! - **A node key.** Others take over as soon as it is gone, so its incarnation must have stopped
//!   before. It may live: its key may have been written over by hand, and its watch may be broken
//!   while its keep-alives are answered. Therefore its lease is ended first, which no key hangs on any
//!   more; from then on no keep-alive is answered, and its fence closes no later than the longest time
//!   to live. Only then is the key deleted. Guards: the key is as it was seen, and my term.
//! - A node key whose lease is unknown, or also that of a registered node, is left alone: `doctor`
//!   reports it.
//!
//! After each step this node may die: the next leader begins again, and ends the same lease.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::keys::{Keys, decode_leader, decode_node};
use super::membership::{Identity, LEASE_TTL_MAX};
use super::store::{Compare, Entry, Op, Store, StoreError, Txn};
use super::{Rights, SharedView};
use crate::ids::{LeaseId, Revision};
use crate::placement::ClusterView;
use crate::telemetry::Metrics;

/// How often the keys are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long a leader key may name no live node before it is deleted: a view may be behind.
const LEADER_PATIENCE: Duration = Duration::from_secs(5);

/// What the task works with.
#[derive(Debug)]
pub struct StraysParts {
    /// Where the cluster agrees.
    pub store: Arc<dyn Store>,
    /// The cluster's keys.
    pub keys: Keys,
    /// The node's copy of the cluster.
    pub view: Arc<SharedView>,
    /// The incarnation that writes, and whether it may.
    pub rights: Rights,
    /// Where to count.
    pub metrics: Arc<Metrics>,
}

/// The task; see the [module](self).
#[derive(Debug)]
pub struct Strays {
    parts: StraysParts,
    /// By key and mod revision.
    seen: BTreeMap<(String, Revision), Seen>,
}

/// What is known of a stray key.
#[derive(Clone, Copy, Debug)]
struct Seen {
    since: Instant,
    /// When its lease was ended.
    ended: Option<Instant>,
}

/// What to do about a stray node key now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cure {
    EndLease(LeaseId),
    Delete,
    Wait,
    /// Its incarnation may live, and nothing is known that would stop it.
    LeaveAlone,
}

impl Strays {
    /// Makes the task, which begins with [`Strays::run`].
    pub fn new(parts: StraysParts) -> Self {
        Self {
            parts,
            seen: BTreeMap::new(),
        }
    }

    /// Runs until `shutdown`.
    ///
    /// # Errors
    ///
    /// Never: what fails is tried again at the next look.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), Infallible> {
        let mut tick = interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                _ = tick.tick() => {}
            }
            let looked = shutdown.run_until_cancelled(self.look()).await;
            if let Some(Err(error)) = looked {
                debug!(%error, "cannot look for stray keys now");
            }
        }
    }

    async fn look(&mut self) -> Result<(), StoreError> {
        let Some(me) = self.parts.rights.to_write() else {
            return Ok(());
        };
        let leader_key = self.parts.keys.leader();
        let mut entries = self.parts.store.list(&leader_key).await?.entries;
        entries.retain(|entry| entry.key == leader_key);
        let view = self.parts.view.current();
        let leads = |leader: &crate::placement::Leader| leader.node == me.node;
        let term = view.leader.as_ref().filter(|leader| leads(leader));
        let term = term.map(|leader| Revision::new(leader.term.get()));
        if term.is_some() {
            let nodes = self.parts.store.list(&self.parts.keys.nodes()).await?;
            entries.extend(nodes.entries);
        }
        self.remember(&entries);
        for entry in &entries {
            if entry.key == leader_key {
                self.cure_leader(entry, &view, &me).await?;
            } else if let (Some(term), true) = (term, self.parts.keys.is_unheld(entry)) {
                self.cure_node(entry, &view, term).await?;
            }
        }
        Ok(())
    }

    /// Notes which keys are there, as they are, and forgets those that are not.
    fn remember(&mut self, entries: &[Entry]) {
        let now = Instant::now();
        let known = std::mem::take(&mut self.seen);
        let named = entries.iter().map(|entry| {
            let id = (entry.key.clone(), entry.mod_revision);
            let seen = known.get(&id).copied().unwrap_or(Seen {
                since: now,
                ended: None,
            });
            (id, seen)
        });
        self.seen = named.collect();
    }

    async fn cure_leader(
        &mut self,
        entry: &Entry,
        view: &ClusterView,
        me: &Identity,
    ) -> Result<(), StoreError> {
        let id = (entry.key.clone(), entry.mod_revision);
        let since = self
            .seen
            .get(&id)
            .map_or(Duration::ZERO, |seen| seen.since.elapsed());
        let Some(why) = leads_nobody(entry, view).filter(|_| since >= LEADER_PATIENCE) else {
            return Ok(());
        };
        let mine = Compare::Created(
            self.parts.keys.node(&me.node),
            Revision::new(me.incarnation.get()),
        );
        self.delete(entry, mine, why).await
    }

    async fn cure_node(
        &mut self,
        entry: &Entry,
        view: &ClusterView,
        term: Revision,
    ) -> Result<(), StoreError> {
        let id = (entry.key.clone(), entry.mod_revision);
        let now = Instant::now();
        let ended = self.seen.get(&id).and_then(|seen| seen.ended);
        let waited = ended.map(|at| now.saturating_duration_since(at));
        match cure(entry, view, waited) {
            Cure::EndLease(lease) => {
                warn!(key = entry.key, %lease, "ending the lease that a node key names but does not hang on");
                self.parts.store.revoke(lease).await?;
                if let Some(seen) = self.seen.get_mut(&id) {
                    // After the answer, not before: the wait must cover the whole time to live.
                    seen.ended = Some(Instant::now());
                }
                Ok(())
            }
            Cure::Delete => {
                let leading = Compare::Created(self.parts.keys.leader(), term);
                self.delete(entry, leading, "no lease keeps it").await
            }
            Cure::Wait | Cure::LeaveAlone => Ok(()),
        }
    }

    async fn delete(&self, entry: &Entry, proof: Compare, why: &str) -> Result<(), StoreError> {
        let txn = Txn {
            compares: vec![
                Compare::Modified(entry.key.clone(), entry.mod_revision),
                proof,
            ],
            then: vec![Op::Delete(entry.key.clone())],
            otherwise: Vec::new(),
        };
        if self.parts.store.commit(txn).await?.succeeded {
            warn!(key = entry.key, why, "deleted a stray key");
            self.parts.metrics.coordination.stray_keys_deleted.inc();
        }
        Ok(())
    }
}

/// Returns why a leader key leads nobody, unless a live node keeps it.
fn leads_nobody(entry: &Entry, view: &ClusterView) -> Option<&'static str> {
    if view.revision < entry.mod_revision {
        return None; // The view does not know the key yet, nor perhaps the node.
    }
    let Ok(leader) = decode_leader(entry) else {
        return Some("it cannot be read");
    };
    match (view.nodes.get(&leader.node), entry.lease) {
        (None, _) => Some("it names no registered node"),
        (Some(_), None) => Some("it hangs on no lease"),
        (Some(node), Some(lease)) if node.lease != lease => {
            Some("it hangs on another lease than the node that it names")
        }
        (Some(_), Some(_)) => None,
    }
}

/// Returns what to do about a node key that does not hang on its node's lease, whose lease was
/// ended `waited` ago.
fn cure(entry: &Entry, view: &ClusterView, waited: Option<Duration>) -> Cure {
    let Ok(record) = decode_node(entry) else {
        return Cure::LeaveAlone;
    };
    match waited {
        Some(waited) if waited > LEASE_TTL_MAX => Cure::Delete,
        Some(_) => Cure::Wait,
        None if view.nodes.values().any(|node| node.lease == record.lease) => Cure::LeaveAlone,
        None => Cure::EndLease(record.lease),
    }
}

#[cfg(test)]
mod tests;
