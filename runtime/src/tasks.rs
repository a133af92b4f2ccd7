//! The one place that spawns background tasks.

use std::fmt;
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{debug, error};

/// The background tasks of one node. However one of them ends (shutdown, error or panic), all are
/// told to end: a node that lost its reconciler must not keep its shards.
#[derive(Clone, Debug)]
pub struct Tasks {
    tracker: TaskTracker,
    shutdown: CancellationToken,
}

impl Tasks {
    /// Begins with no task.
    pub fn new() -> Self {
        Self {
            tracker: TaskTracker::new(),
            shutdown: CancellationToken::new(),
        }
    }

    /// Returns the token that tells every task to end.
    pub fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// Runs a task that the node cannot do without, until it ends or [`Tasks::stop`] is called.
    /// The task gets the shutdown token and must end soon after it is cancelled.
    #[allow(clippy::disallowed_methods, reason = "this is the place that may")]
    pub fn spawn<F, E>(&self, name: &'static str, task: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display + Send,
    {
        let guard: DropGuard = self.shutdown.clone().drop_guard();
        let running = task(self.shutdown.clone());
        self.tracker.spawn(async move {
            let _guard = guard; // Dropped by a panic too.
            match running.await {
                Ok(()) => debug!(task = name, "ended"),
                Err(error) => error!(task = name, %error, "failed; the node stops"),
            }
        });
    }

    /// Runs a piece of work that may end at any time without harm to the node, such as one turn
    /// or one connection. [`Tasks::stop`] waits for it.
    #[allow(clippy::disallowed_methods, reason = "this is the place that may")]
    pub fn spawn_work<F>(&self, work: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn(work)
    }

    /// Tells every task to end and returns whether all did within `grace`.
    pub async fn stop(&self, grace: Duration) -> bool {
        self.shutdown.cancel();
        self.tracker.close();
        tokio::time::timeout(grace, self.tracker.wait())
            .await
            .is_ok()
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    #[tokio::test(start_paused = true)]
    async fn a_panic_in_one_task_ends_all() {
        let tasks = Tasks::new();
        tasks.spawn("waits", |shutdown| async move {
            shutdown.cancelled().await;
            Ok::<_, Infallible>(())
        });
        tasks.spawn("panics", |_| async {
            panic!("on purpose") as Result<(), Infallible>
        });
        tasks.shutdown().cancelled().await;
        assert!(tasks.stop(Duration::from_secs(1)).await);
    }
}
