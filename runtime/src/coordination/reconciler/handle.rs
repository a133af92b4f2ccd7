//! What others see of a reconciler, and how they tell it to leave.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::RETRY_MAX;
use super::stages::UnderWay;

/// Most questions that wait for the reconciler's next look; it never waits itself.
const QUESTIONS_MAX: usize = 16;

/// Most shards that one answer names.
pub const UNDER_WAY_MAX: usize = 256;

/// How far a node's shards are where they should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Shards that this life owns, as far as is known.
    pub owned: u32,
    /// Shards that are targeted at this node.
    pub targeted: u32,
    /// Shards that are closing, or closed and not yet handed over or released.
    pub closing: u32,
    /// Shards that have been in one stage of being owned or given up for longer than that may
    /// take.
    pub stuck: u32,
}

/// Where the reconciler sends the answer to a question for what is under way.
pub(super) type Question = oneshot::Sender<Vec<UnderWay>>;

/// Watches a reconciler and tells it to leave. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ReconcilerHandle {
    progress: watch::Receiver<Progress>,
    leaving: watch::Sender<Option<Duration>>,
    questions: mpsc::Sender<Question>,
}

/// The reconciler's ends of its handles.
pub(super) struct Ends {
    pub(super) progress: watch::Sender<Progress>,
    pub(super) leaving: watch::Receiver<Option<Duration>>,
    pub(super) questions: mpsc::Receiver<Question>,
}

impl ReconcilerHandle {
    /// Makes a handle and the reconciler's ends of it.
    pub(super) fn new() -> (Self, Ends) {
        let (progress, progress_seen) = watch::channel(Progress::default());
        let (leaving, leaving_seen) = watch::channel(None);
        let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
        let handle = Self {
            progress: progress_seen,
            leaving,
            questions,
        };
        let ends = Ends {
            progress,
            leaving: leaving_seen,
            questions: asked,
        };
        (handle, ends)
    }

    /// Returns a receiver that is woken by each change of the counts.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Returns the shards that are on their way here or away, the oldest first, at most
    /// [`UNDER_WAY_MAX`]: those that this node claims, closes, sends, hands over, ends or
    /// releases, and those that it keeps only because it could not give them up.
    ///
    /// The reconciler is asked, which takes no longer than its next look; nothing is kept for
    /// this while nobody asks. Empty if it has ended. Cancel safe.
    pub async fn under_way(&self) -> Vec<UnderWay> {
        let (question, answer) = oneshot::channel();
        if self.questions.send(question).await.is_err() {
            return Vec::new();
        }
        answer.await.unwrap_or_default()
    }

    /// Gives up every shard, whatever its target, and takes none any more; there is no way back.
    /// A shard whose target can take it is handed over, every other is ended and released. Running
    /// turns have `limit` to end.
    ///
    /// Returns how many shards are still owned once none is or `limit` has passed: those whose
    /// turns run on, or whose release the store did not confirm. The end of the lease frees them.
    /// Cancel safe; the shards are given up all the same.
    pub async fn release_all(&self, limit: Duration) -> u32 {
        self.leaving.send_replace(Some(limit));
        let mut progress = self.progress.clone();
        // The last release takes a moment after the last turn ended.
        let patience = limit.saturating_add(RETRY_MAX);
        let all_released = progress.wait_for(|progress| progress.owned == 0);
        match tokio::time::timeout(patience, all_released).await {
            Ok(Ok(_)) => 0,
            Ok(Err(_)) | Err(_) => self.progress.borrow().owned,
        }
    }
}
