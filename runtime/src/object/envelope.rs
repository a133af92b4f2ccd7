//! A call that waits for its turn: shared between its caller and the mailbox.

use std::sync::Arc;
use std::task::{Poll, Waker};

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::time::timeout_at;

use super::activation::{Activation, Called};
use super::mailbox::{End, Job};
use super::turn::{Begun, CallInfo, Held, begin, is_brief};
use super::{Access, CallPath, Method};
use crate::clock::{Clock, Moment};
use crate::error::CallError;

/// Something that waits in the mailbox of a `T`.
pub(super) trait Queued<T>: Send + Sync {
    /// Whether its turn must be alone.
    fn access(&self) -> Access;
    /// The method, for reports.
    fn method(&self) -> &'static str;
    /// Whether its turn ends without waiting for anything.
    fn is_brief(&self) -> bool;
    /// The objects that wait for it.
    fn path(&self) -> CallPath;
    /// Has its turn, as far as it goes without waiting.
    fn start(self: Arc<Self>, activation: &Arc<Activation<T>>, held: Arc<Held<T>>) -> Started<T>;
    /// Will have no turn here.
    fn refuse(&self, refusal: Refusal);
}

impl<T> Job for Arc<dyn Queued<T>> {
    fn access(&self) -> Access {
        (**self).access()
    }

    fn method(&self) -> &'static str {
        (**self).method()
    }

    fn is_brief(&self) -> bool {
        (**self).is_brief()
    }
}

/// Why a waiting call will have no turn.
#[derive(Clone, Debug)]
pub(super) enum Refusal {
    /// The shard is not open here any more; another node may serve.
    NotHere,
    /// No other node would cure it.
    Failed(CallError),
}

/// How far a turn came without waiting.
pub(super) enum Started<T> {
    Ended(End<Arc<Held<T>>>),
    Suspended(BoxFuture<'static, End<Arc<Held<T>>>>),
}

/// A waiting call of one method. Its one allocation holds arguments, reply and waker.
pub(super) struct Envelope<M: Method> {
    deadline: Moment,
    stage: Mutex<Stage<M>>,
}

enum Stage<M: Method> {
    Waiting {
        method: M,
        info: CallInfo,
        waker: Option<Waker>,
    },
    Running(Option<Waker>),
    Answered(Called<M>),
    /// The caller has its answer, or has given up.
    Over,
}

impl<M: Method> Envelope<M> {
    pub(super) fn new(method: M, info: CallInfo) -> Self {
        Self {
            deadline: info.deadline,
            stage: Mutex::new(Stage::Waiting {
                method,
                info,
                waker: None,
            }),
        }
    }

    /// Waits for the answer until the call's deadline. A call that had not begun by then never
    /// will.
    pub(super) async fn answer(&self, clock: Clock) -> Called<M> {
        let answered = std::future::poll_fn(|cx| self.poll(cx.waker()));
        match timeout_at(clock.instant(self.deadline), answered).await {
            Ok(called) => called,
            Err(_) => self.give_up(),
        }
    }

    fn poll(&self, by: &Waker) -> Poll<Called<M>> {
        let mut stage = self.stage.lock();
        match &mut *stage {
            Stage::Waiting { waker, .. } | Stage::Running(waker) => {
                match waker {
                    Some(waker) => waker.clone_from(by),
                    None => *waker = Some(by.clone()),
                }
                Poll::Pending
            }
            Stage::Answered(_) | Stage::Over => match std::mem::replace(&mut *stage, Stage::Over) {
                Stage::Answered(called) => Poll::Ready(called),
                Stage::Waiting { .. } | Stage::Running(_) | Stage::Over => Poll::Pending,
            },
        }
    }

    fn give_up(&self) -> Called<M> {
        match std::mem::replace(&mut *self.stage.lock(), Stage::Over) {
            Stage::Waiting { .. } => Called::Done(Err(late_start(M::NAME))),
            Stage::Answered(called) => called,
            Stage::Running(_) | Stage::Over => Called::Done(Err(late_end(M::NAME))),
        }
    }

    fn settle(&self, called: Called<M>) {
        let mut stage = self.stage.lock();
        let waker = match &mut *stage {
            Stage::Waiting { waker, .. } | Stage::Running(waker) => waker.take(),
            Stage::Answered(_) | Stage::Over => return,
        };
        let before = std::mem::replace(&mut *stage, Stage::Answered(called));
        drop(stage);
        drop(before); // What the user wrote is never dropped under the lock.
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn take(&self) -> Option<(M, CallInfo)> {
        let mut stage = self.stage.lock();
        match std::mem::replace(&mut *stage, Stage::Over) {
            Stage::Waiting {
                method,
                info,
                waker,
            } => {
                *stage = Stage::Running(waker);
                Some((method, info))
            }
            before @ (Stage::Running(_) | Stage::Answered(_) | Stage::Over) => {
                *stage = before;
                None
            }
        }
    }
}

impl<M: Method> Queued<M::Object> for Envelope<M> {
    fn access(&self) -> Access {
        M::BODY.access()
    }

    fn method(&self) -> &'static str {
        M::NAME
    }

    fn is_brief(&self) -> bool {
        is_brief::<M>()
    }

    fn path(&self) -> CallPath {
        match &*self.stage.lock() {
            Stage::Waiting { info, .. } => info.path.clone(),
            Stage::Running(_) | Stage::Answered(_) | Stage::Over => CallPath::EMPTY,
        }
    }

    fn start(
        self: Arc<Self>,
        activation: &Arc<Activation<M::Object>>,
        held: Arc<Held<M::Object>>,
    ) -> Started<M::Object> {
        let untouched = |held| {
            Started::Ended(End {
                state: Some(held),
                deactivate: false,
            })
        };
        let Some((method, info)) = self.take() else {
            return untouched(held); // Its caller has given up.
        };
        let now = activation.now();
        if now >= self.deadline {
            self.settle(Called::Done(Err(late_start(M::NAME))));
            return untouched(held);
        }
        if !activation.may_begin(now) {
            self.settle(Called::NotHere(method));
            return untouched(held);
        }
        match begin(activation, held, info, method) {
            Begun::Ended((end, result)) => {
                self.settle(Called::Done(result));
                Started::Ended(end)
            }
            Begun::Suspended(turn) => Started::Suspended(
                turn.map(move |(end, result)| {
                    self.settle(Called::Done(result));
                    end
                })
                .boxed(),
            ),
        }
    }

    fn refuse(&self, refusal: Refusal) {
        let Some((method, _)) = self.take() else {
            return;
        };
        self.settle(match refusal {
            Refusal::NotHere => Called::NotHere(method),
            Refusal::Failed(error) => Called::Done(Err(error)),
        });
    }
}

pub(super) fn late_start(method: &str) -> CallError {
    CallError::DeadlineBeforeStart(method.to_owned())
}

pub(super) fn late_end(method: &str) -> CallError {
    CallError::Deadline(method.to_owned())
}
