//! One run of one method: the body, what must be stored, and the reply.
//!
//! A plain body runs at once, as a function. One that waits is polled at once, and whoever began
//! it spawns what is left if it suspends; so a turn never depends on its caller's patience.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, Waker};

use futures::FutureExt;
use futures::future::BoxFuture;
use opentelemetry::context::FutureExt as _;
use tokio::task::coop::unconstrained;

use super::activation::Activation;
use super::context::Context;
use super::envelope::late_start;
use super::mailbox::End;
use super::meter::Timed;
use super::{Access, Body, CallPath, Method, Object};
use crate::clock::Moment;
use crate::error::CallError;
use crate::probation::Window;
use crate::telemetry::{Trace, code};

/// Turns of methods that wait are nested on one stack at most this deep; deeper ones are spawned.
const INLINE_DEPTH_MAX: usize = 8;

/// The state of an activation and what storage has of it.
#[derive(Debug)]
pub(super) struct Held<T> {
    pub(super) state: T,
    /// Only of stored types.
    pub(super) saved: Option<Box<Saved>>,
}

/// What storage has.
#[derive(Debug)]
pub(super) struct Saved {
    pub(super) version: u64,
    pub(super) bytes: Option<Vec<u8>>,
    /// Waits for the next save at an interval.
    pub(super) dirty: bool,
}

/// What a turn needs to know of its call.
#[derive(Clone, Debug)]
pub(super) struct CallInfo {
    /// When the caller stops waiting, by the clock of the host's fence: what its checks read
    /// anyway, so that a call which never waits needs no other clock.
    pub(super) deadline: Moment,
    pub(super) path: CallPath,
    /// The span that it is part of; in the context of a turn, that of the turn.
    pub(super) trace: Trace,
}

pub(super) type Ended<T, R> = (End<Arc<Held<T>>>, Result<R, CallError>);

/// How far a turn came without waiting.
pub(super) enum Begun<T, R> {
    Ended(Ended<T, R>),
    Suspended(BoxFuture<'static, Ended<T, R>>),
}

/// Whether turns of a method end without waiting for anything: neither the body nor storage.
pub(super) const fn is_brief<M: Method>() -> bool {
    let stores = M::Object::STATE.is_some() && matches!(M::BODY.access(), Access::Exclusive);
    M::BODY.is_plain() && !stores
}

/// Runs a method as far as it goes without waiting. The activation has granted the turn, and
/// `held` is its only copy of the state if the method is exclusive.
pub(super) fn begin<M: Method>(
    activation: &Arc<Activation<M::Object>>,
    held: Arc<Held<M::Object>>,
    info: CallInfo,
    method: M,
) -> Begun<M::Object, M::Reply> {
    match activation.window(M::NAME) {
        None => begin_now(activation, held, info, method),
        Some(window) => {
            let activation = activation.clone();
            Begun::Suspended(begin_in(window, activation, held, info, method).boxed())
        }
    }
}

/// Runs a method to its end in a window of its watched shard, which may take a while to open.
async fn begin_in<M: Method>(
    window: impl Future<Output = Option<Window>> + Send,
    activation: Arc<Activation<M::Object>>,
    held: Arc<Held<M::Object>>,
    info: CallInfo,
    method: M,
) -> Ended<M::Object, M::Reply> {
    let untouched = |held, error| {
        let state = Some(held);
        let deactivate = false;
        (End { state, deactivate }, Err(error))
    };
    let window = window.await;
    let now = activation.now();
    if window.is_none() || !activation.may_begin(now) {
        return untouched(held, fenced(&activation, M::NAME));
    }
    if now >= info.deadline {
        return untouched(held, late_start(M::NAME));
    }
    match begin_now(&activation, held, info, method) {
        Begun::Ended(ended) => ended,
        Begun::Suspended(rest) => rest.await,
    }
}

fn begin_now<M: Method>(
    activation: &Arc<Activation<M::Object>>,
    held: Arc<Held<M::Object>>,
    mut info: CallInfo,
    method: M,
) -> Begun<M::Object, M::Reply> {
    if info.trace.is_sampled() {
        info.trace = activation.span_of_turn(&info.trace, M::NAME);
    }
    let trace = info.trace.clone();
    let depth = info.path.len() + 1;
    let context = if M::TAKES_CONTEXT {
        Context::new(activation.clone(), info)
    } else {
        Context::unused(info)
    };
    let mut sample = activation.sample(M::NAME);
    if is_brief::<M>() {
        let _stretch = sample.as_mut().map(|sample| sample.stretch());
        let _attached = trace.context().map(|context| context.clone().attach());
        let ended = plain(activation, held, &context, method);
        trace.end(code(&ended.1));
        return Begun::Ended(ended);
    }
    let mut turn = turn(activation.clone(), held, context, method).boxed();
    if let Some(context) = trace.context() {
        turn = turn
            .with_context(context.clone())
            .inspect(move |ended| trace.end(code(&ended.1)))
            .boxed();
    }
    if let Some(sample) = sample {
        turn = Timed { turn, sample }.boxed();
    }
    if depth.is_multiple_of(INLINE_DEPTH_MAX) {
        return Begun::Suspended(turn);
    }
    // Whoever polls next brings a waker of their own, so this first one may be deaf.
    let mut cx = std::task::Context::from_waker(Waker::noop());
    match Pin::new(&mut unconstrained(turn.as_mut())).poll(&mut cx) {
        Poll::Ready(ended) => Begun::Ended(ended),
        Poll::Pending => Begun::Suspended(turn),
    }
}

fn plain<M: Method>(
    activation: &Activation<M::Object>,
    mut held: Arc<Held<M::Object>>,
    context: &Context,
    method: M,
) -> Ended<M::Object, M::Reply> {
    let run = || match M::BODY {
        Body::Exclusive(body) => body(alone(&mut held), context, method),
        Body::Shared(body) => body(&held.state, context, method),
        Body::ExclusiveAsync(_) | Body::SharedAsync(_) => unreachable!("the body is plain"),
    };
    let caught = catch_unwind(AssertUnwindSafe(run));
    finish(activation, held, context, M::NAME, caught)
}

fn alone<T>(held: &mut Arc<Held<T>>) -> &mut T {
    let held = Arc::get_mut(held).expect("an exclusive turn has the only reference");
    &mut held.state
}

async fn turn<M: Method>(
    activation: Arc<Activation<M::Object>>,
    mut held: Arc<Held<M::Object>>,
    context: Context,
    method: M,
) -> Ended<M::Object, M::Reply> {
    let run = async {
        match M::BODY {
            Body::Exclusive(body) => body(alone(&mut held), &context, method),
            Body::Shared(body) => body(&held.state, &context, method),
            Body::ExclusiveAsync(body) => body(alone(&mut held), &context, method).await,
            Body::SharedAsync(body) => body(&held.state, &context, method).await,
        }
    };
    let mut caught = AssertUnwindSafe(run).catch_unwind().await;
    if M::BODY.access() == Access::Exclusive && caught.is_ok() {
        let commit = AssertUnwindSafe(activation.commit(&mut held)).catch_unwind();
        match commit.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return (discarded(), Err(error)),
            Err(panic) => caught = Err(panic),
        }
    }
    finish(&activation, held, &context, M::NAME, caught)
}

fn finish<T: Object, R>(
    activation: &Activation<T>,
    held: Arc<Held<T>>,
    context: &Context,
    method: &'static str,
    caught: std::thread::Result<R>,
) -> Ended<T, R> {
    let reply = match caught {
        Ok(reply) => reply,
        Err(panic) => {
            let why = panic_text(&*panic);
            activation.note_panic(method, &why);
            let error = CallError::Panicked(format!("{}.{method}: {why}", activation.key()));
            return (discarded(), Err(error));
        }
    };
    let end = End {
        state: Some(held),
        deactivate: context.wants_deactivation(),
    };
    if activation.may_take_effect() {
        (end, Ok(reply))
    } else {
        (end, Err(fenced(activation, method)))
    }
}

pub(super) fn fenced<T: Object>(activation: &Activation<T>, method: &str) -> CallError {
    CallError::Fenced(format!("{}.{method}", activation.key()))
}

pub(super) fn discarded<S>() -> End<S> {
    End {
        state: None,
        deactivate: false,
    }
}

/// Returns what a panic said, shortened to something a log line can hold.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (None, Some(text)) => text.as_str(),
        (None, None) => "(no text)",
    };
    text.chars().take(256).collect()
}
