//! How calls get their turns: at once in the calling task, or in the order in which they came.
//!
//! What decides is the mailbox; this does what it says. No lock is held while a turn runs.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::{Activation, Live, State, Todo};
use crate::clock::{Clock, Moment};
use crate::error::CallError;
use crate::object::envelope::{Envelope, Queued, Refusal, Started, late_end};
use crate::object::mailbox::{End, Entry, Gate, Hold, Next};
use crate::object::turn::{Begun, CallInfo, Ended, begin, is_brief};
use crate::object::{Access, Method, Object};

/// How often a call tries again to have its turn at once, where the running turns are brief ones.
const SPINS_MAX: u32 = 4;

/// The pauses of the processor before each such try: one to three microseconds. Who tries more
/// often takes the object's lines of cache away from whoever has the turn. So one core makes many
/// calls before another takes over, which costs more than any of them.
const PAUSES_PER_SPIN: u32 = 64;

/// How many waiting turns a caller runs at most, after its own, before it goes on.
const PASSING_TURNS_MAX: u32 = 32;

/// How long a caller runs waiting turns at most, its own included: after one that took longer the
/// object is not so brief after all. The turn that runs when this is over comes on top.
const PASSING_TIME_MAX: Duration = Duration::from_micros(20);

/// Turns that a task takes from a mailbox before it asks whether other tasks should run.
const DRAINED_TURNS_MIN: u32 = 32;

/// How long such a task goes on before others run. Until then brief turns that come meanwhile
/// spin, and find the object at rest when all who waited have been served; so a crowd at one
/// object disperses instead of standing in line for ever.
const DRAINED_TIME_MIN: Duration = Duration::from_micros(50);

/// How a call to an activation ended.
pub(in crate::object) enum Called<M: Method> {
    Done(Result<M::Reply, CallError>),
    /// The shard is not open here, or the node is fenced. It did not run.
    NotHere(M),
    /// This activation is over; the object may have another. It did not run.
    Stale(M),
}

/// How far a call came without waiting.
pub(in crate::object) enum Tried<M: Method> {
    Called(Called<M>),
    /// It is in the mailbox.
    Waits(Arc<Envelope<M>>, Clock),
    /// Its turn goes on by itself; the caller waits until then.
    Runs(JoinHandle<Result<M::Reply, CallError>>, Instant),
}

impl<M: Method> Tried<M> {
    /// Waits for the end of a call.
    pub(in crate::object) async fn called(self) -> Called<M> {
        match self {
            Self::Called(called) => called,
            Self::Waits(envelope, clock) => envelope.answer(clock).await,
            Self::Runs(rest, deadline) => Called::Done(match timeout_at(deadline, rest).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => Err(CallError::Fenced(format!("{}: the process ends", M::NAME))),
                Err(_) => Err(late_end(M::NAME)),
            }),
        }
    }
}

/// What is left of a turn that has to wait.
type Rest<T> = BoxFuture<'static, End<State<T>>>;

enum Turn<M: Method> {
    Now(State<M::Object>, M, CallInfo),
    Waits(Arc<Envelope<M>>),
    None(Called<M>),
}

impl<T: Object> Activation<T> {
    /// Runs a method when its turn comes, at once if the object is at rest.
    ///
    /// Cancel safety: a call that waits stays in the mailbox and has its turn, and a turn that has
    /// begun runs to its end, though nobody waits for them any more.
    pub(in crate::object) async fn call<M>(self: &Arc<Self>, method: M, info: CallInfo) -> Called<M>
    where
        M: Method<Object = T>,
    {
        let now = self.now();
        if !self.hosted.common.fence.is_open_at(now) {
            return Called::NotHere(method);
        }
        self.begin(method, info, now).called().await
    }

    /// Runs a method as far as it goes without waiting. The fence was open at `now`, which was
    /// just read; this looks at the mailbox first, so that its line of cache comes at once as one
    /// to be written.
    pub(in crate::object) fn begin<M>(
        self: &Arc<Self>,
        method: M,
        info: CallInfo,
        now: Moment,
    ) -> Tried<M>
    where
        M: Method<Object = T>,
    {
        let deadline = info.deadline;
        match self.enter(method, info) {
            Turn::None(called) => Tried::Called(called),
            Turn::Waits(envelope) => Tried::Waits(envelope, self.clock()),
            Turn::Now(held, method, info) => match begin(self, held, info, method) {
                Begun::Ended((end, result)) => {
                    let next = self.left(M::BODY.access(), end);
                    self.go_on(next, now);
                    Tried::Called(Called::Done(result))
                }
                Begun::Suspended(turn) => {
                    Tried::Runs(self.finish::<M>(turn), self.clock().instant(deadline))
                }
            },
        }
    }

    fn enter<M: Method<Object = T>>(&self, method: M, info: CallInfo) -> Turn<M> {
        if info.path.contains(&self.key) {
            let cycle = format!("{} -> {}", info.path, self.key);
            return Turn::None(Called::Done(Err(CallError::Cycle(cycle))));
        }
        let mut spins = 0;
        loop {
            let mut mailbox = self.mailbox.lock();
            let hold = || self.hosted.common.hold(&self.slot, &info.path);
            match mailbox.enter(M::BODY.access(), M::NAME, is_brief::<M>(), hold) {
                Entry::Run(held) => return Turn::Now(held, method, info),
                Entry::Shut(Gate::Gone) => return Turn::None(Called::Stale(method)),
                Entry::Shut(Gate::Open | Gate::Paused | Gate::Sealed) => {
                    return Turn::None(Called::NotHere(method));
                }
                Entry::Busy { brief: true } if spins < SPINS_MAX => {
                    drop(mailbox);
                    for _ in 0..PAUSES_PER_SPIN {
                        std::hint::spin_loop();
                    }
                    spins += 1;
                }
                Entry::Busy { .. } => {
                    let envelope = Arc::new(Envelope::new(method, info));
                    let len_max = self.hosted.settings.mailbox_len_max;
                    return match mailbox.push(envelope.clone(), len_max) {
                        Ok(()) => {
                            self.slot.meter.count_wait();
                            Turn::Waits(envelope)
                        }
                        Err(_) => Turn::None(Called::Done(Err(self.overloaded()))),
                    };
                }
            }
        }
    }

    fn overloaded(&self) -> CallError {
        self.slot.meter.count_refusal();
        let len_max = self.hosted.settings.mailbox_len_max;
        CallError::Overloaded(format!("{len_max} calls wait for {}", self.key))
    }

    /// Lets a turn that has begun run to its end, whoever waits for it.
    fn finish<M: Method<Object = T>>(
        self: &Arc<Self>,
        turn: BoxFuture<'static, Ended<T, M::Reply>>,
    ) -> JoinHandle<Result<M::Reply, CallError>> {
        let activation = self.clone();
        self.hosted.common.tasks.spawn_work(async move {
            let (end, result) = turn.await;
            activation.leave(M::BODY.access(), end);
            result
        })
    }

    /// Lets a chore wait for its turn, which runs in the background.
    pub(in crate::object) fn submit(self: &Arc<Self>, job: Arc<dyn Queued<T>>) -> Result<(), Gate> {
        let mut mailbox = self.mailbox.lock();
        match mailbox.enter(job.access(), job.method(), false, || self.hold(&job)) {
            Entry::Run(held) => {
                drop(mailbox);
                self.act(match job.access() {
                    Access::Exclusive => Next::Exclusive(job, held),
                    Access::Shared => Next::Shared(job, held),
                });
            }
            Entry::Shut(gate) => return Err(gate),
            Entry::Busy { .. } => {
                let pushed = mailbox.push(job, self.hosted.settings.mailbox_len_max);
                drop(mailbox);
                if let Err(job) = pushed {
                    job.refuse(Refusal::Failed(self.overloaded()));
                }
            }
        }
        Ok(())
    }

    pub(super) fn hold(&self, job: &Arc<dyn Queued<T>>) -> Hold {
        self.hosted.common.hold(&self.slot, &job.path())
    }

    /// Ends a turn and does what comes next.
    fn leave(self: &Arc<Self>, access: Access, end: End<State<T>>) {
        let next = self.left(access, end);
        self.act(next);
    }

    /// Ends a turn and returns what comes next.
    fn left(&self, access: Access, end: End<State<T>>) -> Todo<T> {
        let now = self.hosted.common.now();
        self.slot.count_turn(end.state.is_none());
        match access {
            Access::Exclusive => self.mailbox.lock().leave_alone(end, now),
            Access::Shared => {
                let ending = end.drop_state();
                self.mailbox.lock().leave_shared(ending, now)
            }
        }
    }

    /// Does what comes next after a turn that began at `began` and ended in its caller's task.
    /// Brief turns that wait have theirs here and now, a few of them: to wake a task for them would
    /// take longer than they do.
    fn go_on(self: &Arc<Self>, mut next: Todo<T>, began: Moment) {
        let mut turns = 0;
        while turns < PASSING_TURNS_MAX && next.is_brief_turn() {
            if self.now().since(began) > PASSING_TIME_MAX {
                break;
            }
            turns += 1;
            next = match self.start_next(next) {
                Ok(next) => next,
                // Only the first turn of its method in a watched shard waits.
                Err(rest) => {
                    let activation = self.clone();
                    self.hosted.common.tasks.spawn_work(async move {
                        activation.leave(Access::Exclusive, rest.await);
                    });
                    return;
                }
            };
        }
        self.act(next);
    }

    pub(super) fn act(self: &Arc<Self>, next: Todo<T>) {
        let tasks = &self.hosted.common.tasks;
        match next {
            Next::Rest => {}
            Next::Quiet => self.slot.quiet.notify_waiters(),
            Next::Drop(state) => drop(state),
            Next::Replace => self.over(None),
            Next::Retire(held) => {
                tasks.spawn_work(self.clone().retire(held));
            }
            next @ (Next::Exclusive(..) | Next::Shared(..)) => {
                tasks.spawn_work(self.clone().drain(next));
            }
        }
    }

    /// Gives turns to those who wait, in order, until nobody does.
    async fn drain(self: Arc<Self>, mut next: Todo<T>) {
        let (mut turns, mut since): (u32, _) = (0, self.now());
        loop {
            next = match next {
                next @ (Next::Exclusive(..) | Next::Shared(..)) => match self.start_next(next) {
                    Ok(next) => next,
                    Err(rest) => self.left(Access::Exclusive, rest.await),
                },
                end @ (Next::Rest
                | Next::Retire(_)
                | Next::Replace
                | Next::Quiet
                | Next::Drop(_)) => return self.act(end),
            };
            turns += 1;
            let may_be_long = turns.is_multiple_of(DRAINED_TURNS_MIN);
            if may_be_long && self.now().since(since) > DRAINED_TIME_MIN {
                self.mailbox.lock().rest_a_while();
                tokio::task::yield_now().await;
                since = self.now();
            }
        }
    }

    /// Begins the next turn and returns what comes after it, or the rest of an exclusive one that
    /// has to wait.
    fn start_next(self: &Arc<Self>, next: Todo<T>) -> Result<Todo<T>, Rest<T>> {
        match next {
            Next::Exclusive(job, held) => match job.start(self, held) {
                Started::Ended(end) => Ok(self.left(Access::Exclusive, end)),
                Started::Suspended(rest) => Err(rest),
            },
            Next::Shared(job, held) => match job.start(self, held) {
                Started::Ended(end) => {
                    self.slot.count_turn(end.state.is_none());
                    let ending = end.drop_state();
                    let now = self.hosted.common.now();
                    Ok(self.mailbox.lock().leave_shared_and_go_on(ending, now))
                }
                Started::Suspended(rest) => {
                    let activation = self.clone();
                    self.hosted.common.tasks.spawn_work(async move {
                        activation.leave(Access::Shared, rest.await);
                    });
                    Ok(self.mailbox.lock().settle())
                }
            },
            other
            @ (Next::Rest | Next::Retire(_) | Next::Replace | Next::Quiet | Next::Drop(_)) => {
                Ok(other)
            }
        }
    }
}
