//! The side of the objects: what the reconciler asks of whoever runs turns.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use tracing::warn;

use crate::ids::{NodeId, ObjectKey, ShardId, Token};
use crate::placement::{Owner, Parcel};

/// Most overdue methods of one shard that are logged.
const OVERDUE_LOGGED_MAX: usize = 10;

/// Runs turns of shards while it is told to. Only the reconciler calls this.
#[async_trait]
pub trait ShardHost: fmt::Debug + Send + Sync + 'static {
    /// Lets turns of a shard begin, under this token. A shard that is open under it already
    /// stays as it is.
    ///
    /// If it was closed here, and its objects were since neither ended, let go nor discarded,
    /// it goes on with them: they are the newest there are, also if the token is new. Otherwise
    /// it takes in what was staged here as `parcel`; `None` if nothing came with it. Whatever else
    /// is staged for the shard is dropped. Must not block.
    fn open(&self, shard: ShardId, token: Token, parcel: Option<Parcel>);

    /// Watches the work of a shard from the next [`ShardHost::open`] on, since its last owner crashed,
    /// or it is suspected of having crashed one before. Must not block. Default: nothing.
    fn watch(&self, shard: ShardId) {
        let _ = shard;
    }

    /// Begins no more turns of a shard and lets running ones end within `limit`. New calls wait
    /// meanwhile. Its objects stay as they are until the shard is opened again, ended, let go or
    /// discarded. A shard that is not open is closed already.
    ///
    /// Must end soon after `limit`. If a turn has not ended by then the shard is open again
    /// under the same token, unless it was discarded meanwhile.
    async fn close(&self, shard: ShardId, limit: Duration) -> Closing;

    /// Sends the state of a closed shard's objects ahead to the life `to`, which stages it as
    /// `parcel`. What must be saved is saved first. The objects stay here, closed.
    ///
    /// Ends within `limit`, else it is dropped soon after, and harms nothing by that. Should the
    /// shard be let go or discarded meanwhile, what is sent goes unused. Returns whether there
    /// was anything to send; if not, the owner key will name an empty parcel.
    ///
    /// The receiver keeps what it has staged for far longer than a hand-over may take, until news
    /// of a newer owner does not name it or another attempt replaces it.
    ///
    /// # Errors
    ///
    /// Why `to` does not have all of it; what it has is dropped there in time.
    async fn send_ahead(
        &self,
        shard: ShardId,
        to: &Owner,
        parcel: Parcel,
        limit: Duration,
    ) -> Result<Sent, SendError>;

    /// Ends a closed shard's objects in order: hooks, last saves; then drops them. Before a
    /// release, which hands nothing over. The shard stays closed. Takes no longer than `limit`,
    /// which is at least a second; else it is dropped soon after.
    async fn end(&self, shard: ShardId, limit: Duration);

    /// Drops a closed shard's objects without saving: they are elsewhere now, or old, and calls
    /// go to whomever the newest news names. A shard without objects is fine. Must not block.
    fn let_go(&self, shard: ShardId);

    /// Drops a shard's objects without saving and lets no turn begin: another node owns it, or
    /// this life is over. Ends a closing of it. A shard that is not open is fine. Must not block.
    fn discard(&self, shard: ShardId);
}

/// Whether a shard's state was sent ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The receiver has staged all of it.
    Staged,
    /// There is none that travels; the receiver said that it takes the shard.
    Nothing,
}

/// Why a shard's state is not where it was sent to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The receiver cannot be reached, or the connection broke.
    #[error("cannot reach {0}: {1}")]
    Unreachable(NodeId, String),
    /// The receiver is another life by now, or takes nothing.
    #[error("{0} does not take it: {1}")]
    Refused(NodeId, String),
    /// The state of this object cannot be written here, or not be read there.
    #[error("the state of {object} cannot travel: {reason}")]
    Unreadable {
        /// Whose state.
        object: ObjectKey,
        /// What is wrong with it.
        reason: String,
    },
    /// It took too long.
    #[error("not sent in time")]
    Late,
    /// Something broke on this side.
    #[error("cannot send: {0}")]
    Failed(String),
}

impl SendError {
    /// Returns the kind of this error, as metrics name it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Unreachable(_, _) => "unreachable",
            Self::Refused(_, _) => "refused",
            Self::Unreadable { .. } => "unreadable",
            Self::Late => "late",
            Self::Failed(_) => "failed",
        }
    }
}

/// How closing a shard ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closing {
    /// No turn runs and none will until the shard is opened again.
    Closed,
    /// These methods did not end in time; the shard is open again.
    Overdue(Vec<(ObjectKey, String)>),
}

/// Says which methods kept a shard from closing, and returns that in a few words.
pub(super) fn report_overdue(shard: ShardId, methods: &[(ObjectKey, String)]) -> String {
    let running = methods.len();
    for (object, method) in methods.iter().take(OVERDUE_LOGGED_MAX) {
        warn!(%shard, running, %object, method, "a turn did not end in time: the shard stays open");
    }
    if methods.is_empty() {
        warn!(%shard, "closing failed: the shard stays open");
    }
    match methods.first() {
        Some((object, method)) => format!("{running} turns run on, first {method} of {object}"),
        None => "closing failed".to_owned(),
    }
}
