//! What every object can be told besides its type's methods: to save, to deactivate, to delete.

use std::sync::Arc;

use futures::FutureExt;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::activation::{Activation, SaveError};
use super::envelope::{Queued, Refusal, Started, late_end, late_start};
use super::mailbox::End;
use super::turn::{CallInfo, Held, discarded};
use super::{Access, CallPath, DEACTIVATE, DELETE, Object};
use crate::error::CallError;
use crate::storage::StorageError;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Save what has changed since the last save.
    Save,
    /// End the activation in order.
    Deactivate,
    /// Delete the stored state and end the activation.
    Delete,
}

/// How a chore ended; `None`: the shard is not open here, and it did not run.
pub(super) type Answer = Option<Result<(), CallError>>;

/// A task that waits for its exclusive turn.
pub(super) struct Chore {
    task: Task,
    info: CallInfo,
    answer: Mutex<Option<oneshot::Sender<Answer>>>,
}

impl Chore {
    /// Returns the chore and where its end is told.
    pub(super) fn new(task: Task, info: CallInfo) -> (Arc<Self>, oneshot::Receiver<Answer>) {
        let (sender, receiver) = oneshot::channel();
        let chore = Self {
            task,
            info,
            answer: Mutex::new(Some(sender)),
        };
        (Arc::new(chore), receiver)
    }

    fn settle(&self, answer: Answer) {
        if let Some(sender) = self.answer.lock().take() {
            let _ = sender.send(answer); // Nobody may wait any more.
        }
    }

    async fn run<T: Object>(
        &self,
        activation: &Arc<Activation<T>>,
        mut held: Arc<Held<T>>,
    ) -> (End<Arc<Held<T>>>, Answer) {
        match self.task {
            Task::Save => match activation.save(&mut held).await {
                Ok(()) => (untouched(held), Some(Ok(()))),
                Err(error) if is_harmless(&error) => {
                    activation.note_unsaved(&mut held);
                    (untouched(held), Some(Err(activation.not_stored(error))))
                }
                Err(error) => (discarded(), Some(Err(activation.not_stored(error)))),
            },
            Task::Deactivate => {
                activation.end_in_order(held).await;
                activation.over(None);
                (discarded(), Some(Ok(())))
            }
            Task::Delete => match activation.unsave(&mut held).await {
                Ok(()) => {
                    activation.say_goodbye(&mut held).await;
                    drop(held);
                    activation.over(None);
                    (discarded(), Some(Ok(())))
                }
                Err(error) if is_harmless(&error) => {
                    (untouched(held), Some(Err(activation.not_stored(error))))
                }
                Err(error) => (discarded(), Some(Err(activation.not_stored(error)))),
            },
        }
    }
}

/// Waits for a chore's end until its deadline.
pub(super) async fn finished(answer: oneshot::Receiver<Answer>, deadline: Instant) -> Answer {
    match timeout_at(deadline, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Some(Err(CallError::Panicked("at its end".into()))),
        Err(_) => Some(Err(late_end("its end"))),
    }
}

/// Whether storage surely has what it had before.
fn is_harmless(error: &SaveError) -> bool {
    matches!(error, SaveError::Storage(StorageError::Unavailable(_)))
}

fn untouched<T>(held: Arc<Held<T>>) -> End<Arc<Held<T>>> {
    End {
        state: Some(held),
        deactivate: false,
    }
}

impl<T: Object> Queued<T> for Chore {
    fn access(&self) -> Access {
        Access::Exclusive
    }

    fn method(&self) -> &'static str {
        match self.task {
            Task::Save => "$save",
            Task::Deactivate => DEACTIVATE,
            Task::Delete => DELETE,
        }
    }

    fn is_brief(&self) -> bool {
        false
    }

    fn path(&self) -> CallPath {
        self.info.path.clone()
    }

    fn start(self: Arc<Self>, activation: &Arc<Activation<T>>, held: Arc<Held<T>>) -> Started<T> {
        let now = activation.now();
        if now >= self.info.deadline {
            let method = Queued::<T>::method(&*self);
            self.settle(Some(Err(late_start(method))));
            return Started::Ended(untouched(held));
        }
        if !activation.may_begin(now) {
            self.settle(None);
            return Started::Ended(untouched(held));
        }
        let activation = activation.clone();
        let rest = async move {
            let run = std::panic::AssertUnwindSafe(self.run(&activation, held));
            let (end, answer) = run.catch_unwind().await.unwrap_or_else(|panic| {
                let why = super::turn::panic_text(&*panic);
                activation.note_panic(Queued::<T>::method(&*self), &why);
                (discarded(), Some(Err(CallError::Panicked(why))))
            });
            self.settle(answer);
            end
        };
        Started::Suspended(rest.boxed())
    }

    fn refuse(&self, refusal: Refusal) {
        self.settle(match refusal {
            Refusal::NotHere => None,
            Refusal::Failed(error) => Some(Err(error)),
        });
    }
}
