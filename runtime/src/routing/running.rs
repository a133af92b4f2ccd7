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

use super::frame::{self, Answer, InboundCall};
use super::router::Inner;

/// The most calls of one connection that run at once; more are left unread.
const RUNNING_MAX: usize = 16_384;

/// The most bytes of answers that wait to be sent on one connection, but for the last one.
const ANSWERS_BYTES_MAX: usize = 8 << 20;

/// What a connection's stream and its calls share.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) inner: Arc<Inner>,
    state: Mutex<State>,
    /// Told when answers were taken, for those that wait for room.
    taken: Notify,
}

#[derive(Debug, Default)]
struct State {
    answers: Vec<u8>,
    running: usize,
    /// Nobody will send answers any more.
    ended: bool,
    waker: Option<Waker>,
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
        Arc::new(Self {
            inner,
            state: Mutex::default(),
            taken: Notify::new(),
        })
    }

    /// Whether no more calls should be read now.
    pub(super) fn is_full(&self) -> bool {
        let state = self.state.lock();
        state.running >= RUNNING_MAX || state.answers.len() >= ANSWERS_BYTES_MAX
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
        loop {
            let taken = self.taken.notified();
            if self.try_answer(id, answer) {
                break;
            }
            taken.await;
        }
        self.inner.inbound.end();
    }

    fn try_answer(&self, id: u64, answer: &Answer) -> bool {
        let mut state = self.state.lock();
        if !state.ended {
            if state.answers.len() >= ANSWERS_BYTES_MAX {
                return false;
            }
            frame::put_answer(&mut state.answers, id, answer);
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
    pub(super) fn add(&self, mut frames: Vec<u8>) {
        self.state.lock().answers.append(&mut frames);
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
        if state.answers.is_empty() {
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
        let capacity = state.answers.len();
        let answers = std::mem::replace(&mut state.answers, Vec::with_capacity(capacity));
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
