//! The calls of one connection that were read and are not answered yet.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::coop::unconstrained;

use super::connection::BATCH_OVERHEAD;
use super::frame::{self, Answer, InboundCall};
use super::queue::SPARE_BYTES_MAX;
use super::router::Inner;
use crate::error::CallError;
use crate::memory_budget::{BytesFor, Reservation};

/// The most calls of one connection that run at once; more are left unread.
const RUNNING_MAX: usize = 16_384;

/// The most bytes of answers that wait to be sent on one connection, but for the last one.
const ANSWERS_BYTES_MAX: usize = 8 << 20;

/// Returns the largest batch of answers that a node sends which replies with at most `payload_max`
/// bytes: what waits, and what came of one batch of calls, each with one answer too many.
pub(super) fn answer_batch_max(payload_max: usize) -> usize {
    2 * (ANSWERS_BYTES_MAX + payload_max + BATCH_OVERHEAD)
}

/// Replies up to this size need no room in the memory budget: there are not that many of them.
const SMALL_BYTES_MAX: usize = 1 << 10;

/// How many bytes are reserved for answers at a time.
const RESERVED_AT_ONCE: usize = 64 << 10;

/// What a connection's stream and its calls share.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) inner: Arc<Inner>,
    state: Mutex<State>,
    /// Told when answers were taken, for those that wait for room.
    taken: Notify,
}

#[derive(Debug)]
struct State {
    answers: Outbox,
    /// The bytes of what was taken last: the connection may still have them.
    leaving: Option<Reservation>,
    running: usize,
    /// Nobody will send answers any more.
    ended: bool,
    waker: Option<Waker>,
}

/// Answers that wait to be sent, and their bytes in the memory budget.
#[derive(Debug)]
pub(super) struct Outbox {
    frames: Vec<u8>,
    reserved: Reservation,
}

impl Outbox {
    /// Whether it has as many bytes as may wait.
    pub(super) fn is_full(&self) -> bool {
        self.frames.len() >= ANSWERS_BYTES_MAX
    }

    /// Adds an answer. A large one that does not fit into the memory budget is replaced by an error.
    pub(super) fn put(&mut self, id: u64, answer: &Answer) {
        let len = match answer {
            Answer::Reply(reply) => reply.len(),
            Answer::Failed(_) | Answer::Moved(_) | Answer::NotOwner(_) => 0,
        };
        let missing = (self.frames.len() + len).saturating_sub(self.reserved.bytes());
        if missing > 0 && len > SMALL_BYTES_MAX {
            let grown = self.reserved.grow(missing.max(RESERVED_AT_ONCE));
            if let Err(error) = grown {
                let why = format!("the method ran, and its reply was dropped: {error}");
                let dropped = Answer::Failed(CallError::ReplyTooLarge(why));
                return frame::put_answer(&mut self.frames, id, &dropped);
            }
        }
        frame::put_answer(&mut self.frames, id, answer);
    }

    /// Adds the news that no more calls are taken.
    pub(super) fn put_closing(&mut self) {
        frame::put_closing(&mut self.frames);
    }
}

/// The calls of all connections that have to wait, and are not answered yet.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    running: AtomicUsize,
    /// Told when there is none.
    none: Notify,
}

impl Inbound {
    fn begin(&self) {
        self.running.fetch_add(1, Ordering::AcqRel);
    }

    fn end(&self) {
        if self.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.none.notify_waiters();
        }
    }

    /// Waits until there is none.
    pub(super) async fn ended(&self) {
        loop {
            let none = self.none.notified();
            if self.running.load(Ordering::Acquire) == 0 {
                return;
            }
            none.await;
        }
    }
}

/// How far a call came without waiting.
pub(super) enum Begun {
    Ended(Answer),
    Waits(BoxFuture<'static, Answer>),
}

impl Running {
    pub(super) fn new(inner: Arc<Inner>) -> Arc<Self> {
        let state = State {
            answers: Outbox {
                frames: Vec::new(),
                reserved: inner.settings.host.budget().empty(BytesFor::Reply),
            },
            leaving: None,
            running: 0,
            ended: false,
            waker: None,
        };
        Arc::new(Self {
            inner,
            state: Mutex::new(state),
            taken: Notify::new(),
        })
    }

    /// Returns a place for answers that are added together.
    pub(super) fn outbox(&self) -> Outbox {
        Outbox {
            frames: Vec::new(),
            reserved: self.inner.settings.host.budget().empty(BytesFor::Reply),
        }
    }

    /// Whether no more calls should be read now.
    pub(super) fn is_full(&self) -> bool {
        let state = self.state.lock();
        state.running >= RUNNING_MAX || state.answers.is_full()
    }

    /// Runs a call until it ends or has to wait.
    pub(super) fn begin(&self, call: InboundCall) -> Begun {
        let mut serving: BoxFuture<'static, Answer> = Box::pin(self.inner.clone().serve(call));
        // Unconstrained: else a large batch would use up the budget of this task, and calls that
        // could end would seem to wait. Whoever goes on polls again, so no waker is needed here.
        let mut cx = Context::from_waker(Waker::noop());
        match Pin::new(&mut unconstrained(serving.as_mut())).poll(&mut cx) {
            Poll::Ready(answer) => Begun::Ended(answer),
            Poll::Pending => Begun::Waits(serving),
        }
    }

    /// Counts a call that will end with [`Running::answer`].
    pub(super) fn count(&self) {
        self.state.lock().running += 1;
        self.inner.inbound.begin();
        self.inner
            .settings
            .metrics
            .routing
            .links
            .inbound_running
            .inc();
    }

    /// Lets a call that has to wait go on in a task of its own.
    pub(super) fn go_on(self: &Arc<Self>, id: u64, serving: BoxFuture<'static, Answer>) {
        let this = self.clone();
        self.inner.settings.tasks.spawn_work(async move {
            let answer = serving.await;
            this.answer(id, &answer).await;
        });
    }

    /// Gives back the answer to a call that was counted, as soon as there is room.
    pub(super) async fn answer(&self, id: u64, answer: &Answer) {
        self.inner
            .settings
            .metrics
            .routing
            .links
            .inbound_running
            .dec();
        let mut dropped = None;
        let mut waiting = None;
        loop {
            let taken = self.taken.notified();
            if self.try_answer(id, dropped.as_ref().unwrap_or(answer)) {
                break;
            }
            // The reply is in memory while it waits; without room for it only the error waits.
            if waiting.is_none() && dropped.is_none() {
                match self.reserve(answer) {
                    Ok(reserved) => waiting = Some(reserved),
                    Err(error) => dropped = Some(error),
                }
            }
            taken.await;
        }
        drop(waiting);
        self.inner.inbound.end();
    }

    /// Reserves room for an answer that waits, or returns the error that takes its place.
    fn reserve(&self, answer: &Answer) -> Result<Reservation, Answer> {
        let len = match answer {
            Answer::Reply(reply) => reply.len(),
            Answer::Failed(_) | Answer::Moved(_) | Answer::NotOwner(_) => 0,
        };
        let budget = self.inner.settings.host.budget();
        budget.reserve(BytesFor::Reply, len).map_err(|error| {
            let why = format!("the method ran, and its reply was dropped: {error}");
            Answer::Failed(CallError::ReplyTooLarge(why))
        })
    }

    fn try_answer(&self, id: u64, answer: &Answer) -> bool {
        let mut state = self.state.lock();
        if !state.ended {
            if state.answers.is_full() {
                return false;
            }
            state.answers.put(id, answer);
        }
        state.running -= 1;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Adds frames to what there is to send.
    pub(super) fn add(&self, mut more: Outbox) {
        let mut state = self.state.lock();
        state.answers.frames.append(&mut more.frames);
        state.answers.reserved.absorb(more.reserved);
    }

    /// Takes the answers that are there; `None`: nobody runs and, without `more_calls`, nobody
    /// will. If there are some, `hold` decides whether to look again one turn of the scheduler
    /// later.
    pub(super) fn poll_answers(
        &self,
        more_calls: bool,
        hold: impl FnOnce() -> bool,
        cx: &Context<'_>,
    ) -> Poll<Option<Bytes>> {
        let mut state = self.state.lock();
        if state.answers.frames.is_empty() {
            state.leaving = None; // The connection asks for more.
            if !more_calls && state.running == 0 {
                return Poll::Ready(None);
            }
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if hold() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let capacity = state.answers.frames.len().min(SPARE_BYTES_MAX);
        let empty = Outbox {
            frames: Vec::with_capacity(capacity),
            ..self.outbox()
        };
        let Outbox {
            frames: answers,
            reserved,
        } = std::mem::replace(&mut state.answers, empty);
        state.leaving = Some(reserved);
        drop(state);
        self.taken.notify_waiters();
        Poll::Ready(Some(answers.into()))
    }

    /// Nobody will send answers any more; calls run on all the same.
    pub(super) fn end(&self) {
        self.state.lock().ended = true;
        self.taken.notify_waiters();
    }
}
