//! Reports to a connection's slot when its requests begin, are complete and end, and limits how
//! long their bodies may take.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::future::Either;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tower::{Layer, Service};

use super::{CutReason, Slot};

/// How long the body of a request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyRule {
    /// All of it within the time limit.
    Whole,
    /// Each part of it within the time limit after the one before.
    Progress,
    /// It is a stream that lasts as long as its connection.
    Unlimited,
}

/// A request on a connection of the reserve that is not allowed there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turned;

/// How one listener treats its requests, by their paths.
#[derive(Debug)]
pub struct Rules<R> {
    /// How long a body may take.
    pub body: fn(&str) -> BodyRule,
    /// Whether the request is served while every connection of clients is in use.
    pub reserved: fn(&str) -> bool,
    /// The response to those that are not.
    pub refuse: fn(Turned) -> Response<R>,
}

impl<R> Clone for Rules<R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Rules<R> {}

/// Why the body of a request was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It took too long.
    #[error("the body of the request did not arrive in time")]
    TooSlow,
    /// The server stops, and the rest is not waited for.
    #[error("the server stops, and the body of the request is not complete")]
    Stopping,
}

impl BodyError {
    /// Returns the reason among the causes of an error, if it is one of these.
    pub fn find(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(cause) = next {
            if let Some(found) = cause.downcast_ref::<Self>() {
                return Some(*found);
            }
            next = cause.source();
        }
        None
    }
}

/// Tracks the requests of a service. The slot of their connection is expected as an extension
/// `Option<Slot>`; without one they pass as they are.
#[derive(Debug)]
pub struct TrackLayer<R> {
    /// How requests are treated.
    pub rules: Rules<R>,
    /// The time limit of bodies.
    pub body_timeout: Duration,
}

impl<R> Clone for TrackLayer<R> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<S, R> Layer<S> for TrackLayer<R> {
    type Service = Tracked<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        Tracked {
            inner,
            rules: self.rules,
            body_timeout: self.body_timeout,
        }
    }
}

/// A service whose requests are tracked.
#[derive(Debug)]
pub struct Tracked<S, R> {
    inner: S,
    rules: Rules<R>,
    body_timeout: Duration,
}

impl<S: Clone, R> Clone for Tracked<S, R> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            ..*self
        }
    }
}

impl<S, B, R> Service<Request<B>> for Tracked<S, R>
where
    S: Service<Request<ReceivedBody<B>>, Response = Response<R>>,
    B: Body,
{
    type Response = Response<SentBody<R>>;
    type Error = S::Error;
    type Future =
        Either<Responding<S::Future>, std::future::Ready<Result<Self::Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let slot = request.extensions().get::<Option<Slot>>().cloned();
        let slot = slot.flatten();
        let path = request.uri().path();
        if slot.as_ref().is_some_and(Slot::is_reserve) && !(self.rules.reserved)(path) {
            let response = (self.rules.refuse)(Turned);
            let response = response.map(|inner| SentBody {
                inner,
                request: None,
            });
            return Either::Right(std::future::ready(Ok(response)));
        }
        let rule = (self.rules.body)(path);
        let tracked = slot.map(|slot| InFlight::begin(slot, request.body().is_end_stream()));
        let limit = Limit::new(tracked.as_ref(), rule, self.body_timeout);
        let request = request.map(|inner| ReceivedBody {
            inner,
            arriving: tracked.clone(),
            limit,
        });
        Either::Left(Responding {
            inner: self.inner.call(request),
            request: tracked,
        })
    }
}

/// A request in progress: its body, its handler and its response have a clone each.
#[derive(Clone)]
struct InFlight(std::sync::Arc<Progress>);

struct Progress {
    slot: Slot,
    complete: std::sync::atomic::AtomicBool,
}

impl InFlight {
    fn begin(slot: Slot, is_complete: bool) -> Self {
        slot.begin();
        let this = Self(std::sync::Arc::new(Progress {
            slot,
            complete: false.into(),
        }));
        if is_complete {
            this.complete();
        }
        this
    }

    fn complete(&self) {
        let relaxed = std::sync::atomic::Ordering::Relaxed;
        if !self.0.complete.swap(true, relaxed) {
            self.0.slot.complete();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.slot.end(*self.complete.get_mut());
    }
}

/// The wait for a response.
#[pin_project::pin_project]
pub struct Responding<F> {
    #[pin]
    inner: F,
    request: Option<InFlight>,
}

impl<F, R, E> Future for Responding<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<SentBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(cx))?;
        let request = this.request.take();
        Poll::Ready(Ok(response.map(|inner| SentBody { inner, request })))
    }
}

/// The body of a response; the request is in progress until it is sent.
#[pin_project::pin_project]
pub struct SentBody<R> {
    #[pin]
    inner: R,
    request: Option<InFlight>,
}

impl<R: Body> Body for SentBody<R> {
    type Data = R::Data;
    type Error = R::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<R::Data>, R::Error>>> {
        self.project().inner.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The body of a request, with a time limit.
#[pin_project::pin_project]
pub struct ReceivedBody<B> {
    #[pin]
    inner: B,
    /// `None` once it is complete, or if nothing is tracked.
    arriving: Option<InFlight>,
    limit: Option<Limit>,
}

/// What ends the wait for the rest of a body. Its timer begins with the first wait.
struct Limit {
    rule: BodyRule,
    timeout: Duration,
    /// When the part that is waited for must be there.
    deadline: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Limit {
    fn new(request: Option<&InFlight>, rule: BodyRule, timeout: Duration) -> Option<Self> {
        let slot = &request?.0.slot;
        if rule == BodyRule::Unlimited
            || request?
                .0
                .complete
                .load(std::sync::atomic::Ordering::Relaxed)
        {
            return None;
        }
        let closing = slot.0.shared.closing.clone();
        Some(Self {
            rule,
            timeout,
            deadline: Instant::now() + timeout,
            sleep: None,
            closing: Box::pin(closing.cancelled_owned()),
        })
    }

    fn came(&mut self) {
        if self.rule == BodyRule::Progress {
            self.deadline = Instant::now() + self.timeout;
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        if self.closing.as_mut().poll(cx).is_ready() {
            return Poll::Ready(BodyError::Stopping);
        }
        let deadline = self.deadline;
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(BodyError::TooSlow)
    }
}

impl<B> Body for ReceivedBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let mut this = self.project();
        match this.inner.as_mut().poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(limit) = this.limit {
                    limit.came();
                }
                if this.inner.is_end_stream() {
                    complete(this.arriving);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                complete(this.arriving);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Pending => {
                let Some(limit) = this.limit else {
                    return Poll::Pending;
                };
                let error = ready!(limit.poll(cx));
                *this.limit = None;
                if let Some(request) = this.arriving.as_ref()
                    && error == BodyError::TooSlow
                {
                    let shared = &request.0.slot.0.shared;
                    shared.count_closed(CutReason::BodyTimeout.as_str());
                }
                Poll::Ready(Some(Err(error.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn complete(arriving: &mut Option<InFlight>) {
    if let Some(request) = arriving.take() {
        request.complete();
    }
}

impl<F> fmt::Debug for Responding<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responding").finish_non_exhaustive()
    }
}

impl<R> fmt::Debug for SentBody<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SentBody").finish_non_exhaustive()
    }
}

impl<B> fmt::Debug for ReceivedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceivedBody").finish_non_exhaustive()
    }
}
