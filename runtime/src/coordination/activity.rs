//! Writes this node's activity note: which watched shards are doing something new right now.
//!
//! The key `activity/<incarnation>` hangs on no lease: it must outlive the node, since it is the
//! evidence of what the node died of (`placement::blame`). It exists only while it says something,
//! so a cluster that had no crash lately has none.
//!
//! Guards of each write: the node key is of this incarnation, so that nothing is written once the
//! leader may have judged the note; and the note was last written by this task's last write, so
//! that a write of unknown outcome cannot land after a later one. Refused: the reply shows which of
//! the two did not hold. Unknown or not sent: written again under the same guards, and the windows
//! wait meanwhile.
//!
//! What can fail after a write: the node, before the work begins: its shards are blamed for a death
//! that they did not cause. That needs two such coincidences in a row to matter.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::keys::{self, ABSENT, Keys};
use super::membership::Identity;
use super::store::{Compare, Op, Store, StoreError, Txn};
use super::{Rights, SharedView};
use crate::ids::Revision;
use crate::placement::ActivityNote;
use crate::probation::{Probation, Wanted};

/// How long to wait before writing again after a failure.
const RETRY: Duration = Duration::from_millis(100);

/// How long a note that only has to lose shards waits for new ones: the first turn of an object
/// follows its activation at once, and needs no write of its own then.
const CLEAR_DELAY: Duration = Duration::from_millis(2);

/// How often the note is looked at while it clears suspects, which the leader has to see.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What the task is made of.
#[derive(Debug)]
pub struct ActivityParts {
    /// Where the cluster agrees.
    pub store: Arc<dyn Store>,
    /// The cluster's keys.
    pub keys: Keys,
    /// The node's copy of the cluster.
    pub view: Arc<SharedView>,
    /// The incarnation that writes, and whether it may.
    pub rights: Rights,
    /// What the note should say.
    pub probation: Arc<Probation>,
}

/// Keeps the note equal to what is wanted, until `shutdown`.
///
/// # Errors
///
/// Never; the type is what [`Tasks::spawn`](crate::Tasks::spawn) wants.
pub async fn run(parts: ActivityParts, shutdown: CancellationToken) -> Result<(), Infallible> {
    let mut writer = Writer {
        parts,
        life: None,
        note: None,
        stamp: ABSENT,
    };
    loop {
        let again_at = writer.settle().await;
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            () = writer.parts.rights.changed() => {}
            () = writer.parts.probation.changed() => {}
            () = sleep_until(again_at.unwrap_or_else(Instant::now)), if again_at.is_some() => {}
        }
    }
}

struct Writer {
    parts: ActivityParts,
    /// The incarnation that the rest belongs to.
    life: Option<Identity>,
    /// What the note says; `None`: unknown.
    note: Option<Wanted>,
    /// When the note was last written, as far as is known.
    stamp: Revision,
}

/// How a write ended.
enum Ended {
    Written(Revision),
    /// The note was last written at this revision, by a write whose outcome was unknown.
    Overtaken(Revision),
    /// The incarnation has expired.
    Expired,
}

impl Writer {
    /// Writes until the note says what it should, and returns when to look again.
    async fn settle(&mut self) -> Option<Instant> {
        let mut has_waited = false;
        loop {
            let Some(me) = self.parts.rights.to_write() else {
                // The fence opens again without a word of its own.
                return self.parts.rights.life().map(|_| Instant::now() + RETRY);
            };
            if self.life.as_ref() != Some(&me) {
                (self.life, self.note, self.stamp) =
                    (Some(me.clone()), Some(Wanted::default()), ABSENT);
            }
            let wanted = self.wanted(&me);
            if self.note.as_ref() == Some(&wanted) {
                self.parts.probation.written(wanted.running.clone());
                let look_again = (!wanted.survived.is_empty()).then(|| Instant::now() + LOOK_AGAIN);
                let next = self.parts.probation.next_at();
                return next.into_iter().chain(look_again).min();
            }
            let adds = |note: &Wanted| {
                !note.running.is_superset(&wanted.running)
                    || !note.survived.is_superset(&wanted.survived)
            };
            if !has_waited && !self.note.as_ref().is_none_or(adds) {
                has_waited = true;
                sleep(CLEAR_DELAY).await;
                continue;
            }
            has_waited = false;
            if let Some(again_at) = self.write(&me, wanted).await {
                return Some(again_at);
            }
        }
    }

    /// Returns what the note should say; suspects that the leader has cleared need no word more.
    fn wanted(&self, me: &Identity) -> Wanted {
        let mut wanted = self.parts.probation.wanted();
        if !wanted.survived.is_empty() {
            let view = self.parts.view.current();
            wanted.survived.retain(|shard| {
                let owner = view.live_owner(*shard);
                let is_suspect = view.targets.get(*shard).suspicion.is_some();
                is_suspect && owner.is_some_and(|owner| owner.incarnation == me.incarnation)
            });
        }
        wanted
    }

    /// Writes the note; returns when to try again if that failed.
    async fn write(&mut self, me: &Identity, wanted: Wanted) -> Option<Instant> {
        self.parts.probation.writing(&wanted.running);
        match self.commit(me, &wanted).await {
            Ok(Ended::Written(revision)) => {
                self.stamp = revision;
                self.parts.probation.written(wanted.running.clone());
                self.note = Some(wanted);
                None
            }
            Ok(Ended::Overtaken(stamp)) => {
                self.parts.probation.not_written();
                (self.stamp, self.note) = (stamp, None);
                None
            }
            Ok(Ended::Expired) => {
                self.parts.probation.not_written();
                self.note = None;
                Some(Instant::now() + RETRY)
            }
            Err(error) => {
                warn!(%error, "cannot write the activity note, retrying");
                self.parts.probation.not_written();
                self.note = None;
                Some(Instant::now() + RETRY)
            }
        }
    }

    async fn commit(&self, me: &Identity, wanted: &Wanted) -> Result<Ended, StoreError> {
        let (key, node_key) = (
            self.parts.keys.activity(me.incarnation),
            self.parts.keys.node(&me.node),
        );
        let is_empty = wanted.running.is_empty() && wanted.survived.is_empty();
        let note = ActivityNote {
            node: me.node.clone(),
            running: wanted.running.clone(),
            survived: wanted.survived.clone(),
        };
        let write = if is_empty {
            Op::Delete(key.clone())
        } else {
            Op::Put {
                key: key.clone(),
                value: keys::encode_activity(&note),
                lease: None,
            }
        };
        let created = Revision::new(me.incarnation.get());
        let txn = Txn {
            compares: vec![
                Compare::Created(node_key.clone(), created),
                Compare::Modified(key.clone(), self.stamp),
            ],
            then: vec![write],
            otherwise: vec![Op::Get(node_key), Op::Get(key)],
        };
        let reply = self.parts.store.commit(txn).await?;
        if reply.succeeded {
            let stamp = if is_empty { ABSENT } else { reply.revision };
            return Ok(Ended::Written(stamp));
        }
        let mut reads = reply.reads.into_iter();
        let node = reads.next().flatten();
        if node.is_none_or(|node| node.create_revision != created) {
            return Ok(Ended::Expired);
        }
        let note = reads.next().flatten();
        Ok(Ended::Overtaken(
            note.map_or(ABSENT, |note| note.mod_revision),
        ))
    }
}
