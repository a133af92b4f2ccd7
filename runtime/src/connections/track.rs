//! Reports to a connection's slot when its requests begin, are complete and end; limits how long
//! their bodies may take, and reserves their bytes in the memory budget.

mod messages;

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::future::Either;
use http::{Extensions, Request, Response};
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tower::{Layer, Service};

pub use messages::Received;

use super::{CutReason, Slot};
use crate::memory_budget::{BudgetExceeded, BytesFor, MemoryBudget, Reservation};
use messages::Messages;

/// Replies up to this size need no room in the memory budget: a connection buffers as much.
const SMALL_REPLY_BYTES: u64 = 64 << 10;

/// How the body of a request is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyRule {
    /// All of it within the time limit; its bytes count until the response is sent.
    Whole,
    /// Each part of it within the time limit after the one before; its bytes count as long.
    Progress,
    /// The same, but it is a gRPC stream of state: each message counts while it is handled.
    Pieces,
    /// It is a gRPC stream of batches that lasts as long as its connection; each message counts
    /// while calls of it are in progress.
    Link,
}

/// Why a request is refused without the service, or its response dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Every connection of clients is in use, and the request is no node's and no probe.
    #[error("every connection of the server is in use: try another node")]
    Reserve,
    /// Its body does not fit into the memory budget.
    #[error("the body of the request does not fit: {0}")]
    Body(BudgetExceeded),
    /// The response does not fit into the memory budget.
    #[error("the response does not fit: {0}")]
    Reply(BudgetExceeded),
}

/// How one listener treats its requests.
#[derive(Debug)]
pub struct Rules<R> {
    /// The place of a request's connection, by what its listener noted; without one there are no time
    /// limits.
    pub slot: fn(&Extensions) -> Option<Slot>,
    /// How a body is limited, by the path of its request.
    pub body: fn(&str) -> BodyRule,
    /// Whether the request is served while every connection of clients is in use, by its path.
    pub reserved: fn(&str) -> bool,
    /// The response to requests that are refused.
    pub refuse: fn(Refused) -> Response<R>,
    /// The error that a service sees of a body that was given up.
    pub error: fn(BodyError) -> Box<dyn Error + Send + Sync>,
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
    /// It does not fit into the memory budget.
    #[error("the body of the request does not fit: {0}")]
    Overloaded(BudgetExceeded),
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

/// Tracks the requests of a service, which finds an [`InFlight`] as an extension, and for streams of
/// messages a [`Received`].
#[derive(Debug)]
pub struct TrackLayer<R> {
    /// How requests are treated.
    pub rules: Rules<R>,
    /// The time limit of bodies.
    pub body_timeout: Duration,
    /// Where their bytes are reserved.
    pub budget: MemoryBudget,
}

impl<R> Clone for TrackLayer<R> {
    fn clone(&self) -> Self {
        Self {
            budget: self.budget.clone(),
            ..*self
        }
    }
}

impl<S, R> Layer<S> for TrackLayer<R> {
    type Service = Tracked<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        Tracked {
            inner,
            layer: self.clone(),
        }
    }
}

/// A service whose requests are tracked.
#[derive(Debug)]
pub struct Tracked<S, R> {
    inner: S,
    layer: TrackLayer<R>,
}

impl<S: Clone, R> Clone for Tracked<S, R> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            layer: self.layer.clone(),
        }
    }
}

type Refusal<R, E> = std::future::Ready<Result<Response<SentBody<R>>, E>>;

impl<S, B, R> Service<Request<B>> for Tracked<S, R>
where
    S: Service<Request<ReceivedBody<B>>, Response = Response<R>>,
    B: Body,
    R: Body,
{
    type Response = Response<SentBody<R>>;
    type Error = S::Error;
    type Future = Either<Responding<S::Future, R>, Refusal<R, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let TrackLayer {
            rules,
            body_timeout,
            budget,
        } = &self.layer;
        let slot = (rules.slot)(request.extensions());
        let path = request.uri().path();
        if slot.as_ref().is_some_and(Slot::is_reserve) && !(rules.reserved)(path) {
            return refusal(rules, Refused::Reserve);
        }
        let rule = (rules.body)(path);
        if let Some(error) = cannot_fit(budget, request.body()) {
            return refusal(rules, Refused::Body(error));
        }
        let in_flight = InFlight::begin(slot, budget, request.body().is_end_stream());
        let charge = match rule {
            BodyRule::Whole | BodyRule::Progress => Charge::Bytes,
            BodyRule::Pieces => Charge::Messages(Messages::new(budget, BytesFor::Staging)),
            BodyRule::Link => Charge::Messages(Messages::new(budget, BytesFor::Batch)),
        };
        if let Charge::Messages(messages) = &charge {
            let received = messages.received().clone();
            request.extensions_mut().insert(received);
        }
        request.extensions_mut().insert(in_flight.clone());
        let limit = Limit::new(&in_flight, rule, *body_timeout);
        let arriving = Some(in_flight.clone());
        let error = rules.error;
        let request = request.map(|inner| ReceivedBody {
            inner,
            arriving,
            limit,
            charge,
            error,
        });
        Either::Left(Responding {
            inner: self.inner.call(request),
            request: Some(in_flight),
            refuse: rules.refuse,
        })
    }
}

fn refusal<F, R, E>(rules: &Rules<R>, refused: Refused) -> Either<F, Refusal<R, E>> {
    let response = (rules.refuse)(refused).map(|inner| SentBody {
        inner,
        request: None,
    });
    Either::Right(std::future::ready(Ok(response)))
}

/// Returns why a body of known length cannot fit now: it is refused before any of it is read. Its
/// bytes are reserved as they come, so that a client needs more than a header to hold them.
fn cannot_fit(budget: &MemoryBudget, body: &impl Body) -> Option<BudgetExceeded> {
    let len = usize::try_from(body.size_hint().exact()?).unwrap_or(usize::MAX);
    budget.reserve(BytesFor::Request, len).err()
}

/// A request in progress: its body, its handler and its response have a clone each.
#[derive(Clone)]
pub struct InFlight(Arc<Progress>);

struct Progress {
    slot: Option<Slot>,
    complete: AtomicBool,
    budget: MemoryBudget,
    reserved: Mutex<Vec<Reservation>>,
}

impl InFlight {
    fn begin(slot: Option<Slot>, budget: &MemoryBudget, is_complete: bool) -> Self {
        if let Some(slot) = &slot {
            slot.begin();
        }
        let this = Self(Arc::new(Progress {
            slot,
            complete: false.into(),
            budget: budget.clone(),
            reserved: Mutex::default(),
        }));
        if is_complete {
            this.complete();
        }
        this
    }

    /// Reserves bytes until the response to the request is sent.
    ///
    /// # Errors
    ///
    /// [`BudgetExceeded`] if they do not fit.
    pub fn hold(&self, kind: BytesFor, bytes: usize) -> Result<(), BudgetExceeded> {
        let mut reserved = self.0.reserved.lock();
        match reserved.iter_mut().find(|held| held.kind() == kind) {
            Some(held) => held.grow(bytes)?,
            None => reserved.push(self.0.budget.reserve(kind, bytes)?),
        }
        Ok(())
    }

    fn complete(&self) {
        if !self.0.complete.swap(true, Ordering::Relaxed)
            && let Some(slot) = &self.0.slot
        {
            slot.complete();
        }
    }

    fn is_complete(&self) -> bool {
        self.0.complete.load(Ordering::Relaxed)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(slot) = &self.slot {
            slot.end(*self.complete.get_mut());
        }
    }
}

/// The wait for a response.
#[pin_project::pin_project]
pub struct Responding<F, R> {
    #[pin]
    inner: F,
    request: Option<InFlight>,
    refuse: fn(Refused) -> Response<R>,
}

impl<F, R, E> Future for Responding<F, R>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body,
{
    type Output = Result<Response<SentBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(cx))?;
        let request = this.request.take();
        let len = response.body().size_hint().exact();
        if let (Some(request), Some(len)) = (&request, len)
            && len > SMALL_REPLY_BYTES
        {
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            if let Err(error) = request.hold(BytesFor::Reply, len) {
                response = (this.refuse)(Refused::Reply(error));
            }
        }
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

/// The body of a request, with its limits.
#[pin_project::pin_project]
pub struct ReceivedBody<B> {
    #[pin]
    inner: B,
    /// `None` once it is complete.
    arriving: Option<InFlight>,
    limit: Option<Limit>,
    charge: Charge,
    error: fn(BodyError) -> Box<dyn Error + Send + Sync>,
}

/// How the bytes of a body are reserved.
enum Charge {
    /// All of them, for as long as the request is in progress.
    Bytes,
    Messages(Messages),
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
    fn new(request: &InFlight, rule: BodyRule, timeout: Duration) -> Option<Self> {
        if rule == BodyRule::Link || request.is_complete() {
            return None;
        }
        let closing = request.0.slot.as_ref()?.0.shared.closing.clone();
        Some(Self {
            rule,
            timeout,
            deadline: Instant::now() + timeout,
            sleep: None,
            closing: Box::pin(closing.cancelled_owned()),
        })
    }

    fn came(&mut self) {
        match self.rule {
            BodyRule::Progress | BodyRule::Pieces => self.deadline = Instant::now() + self.timeout,
            BodyRule::Whole | BodyRule::Link => {}
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
        let give_up = *this.error;
        if let Charge::Messages(messages) = this.charge
            && let Some(released) = ready!(messages.poll_held(cx))
        {
            return Poll::Ready(Some(released.map(Frame::data).map_err(give_up)));
        }
        match this.inner.as_mut().poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(limit) = this.limit {
                    limit.came();
                }
                let frame = match this.charge.take(this.arriving.as_ref(), frame, cx) {
                    Poll::Ready(Ok(frame)) => frame,
                    Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(give_up(error)))),
                    Poll::Pending => return Poll::Pending,
                };
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
                if let Some(slot) = this.arriving.as_ref().and_then(|of| of.0.slot.as_ref())
                    && error == BodyError::TooSlow
                {
                    let shared = &slot.0.shared;
                    shared.count_closed(CutReason::BodyTimeout.as_str());
                }
                Poll::Ready(Some(Err(give_up(error))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let holds = matches!(&self.charge, Charge::Messages(messages) if messages.holds());
        !holds && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Charge {
    /// Reserves the bytes of a frame before it is passed on.
    fn take(
        &mut self,
        request: Option<&InFlight>,
        frame: Frame<Bytes>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Frame<Bytes>, BodyError>> {
        match self {
            Self::Bytes => {
                let len = frame.data_ref().map_or(0, Bytes::len);
                let held = request.map_or(Ok(()), |of| of.hold(BytesFor::Request, len));
                Poll::Ready(held.map(|()| frame).map_err(BodyError::Overloaded))
            }
            Self::Messages(messages) => match frame.into_data() {
                Err(trailers) => Poll::Ready(Ok(trailers)),
                Ok(data) => {
                    messages.put(data);
                    let released = ready!(messages.poll_held(cx));
                    let data = released.expect("it was put there");
                    Poll::Ready(data.map(Frame::data))
                }
            },
        }
    }
}

fn complete(arriving: &mut Option<InFlight>) {
    if let Some(request) = arriving.take() {
        request.complete();
    }
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlight").finish_non_exhaustive()
    }
}

impl<F, R> fmt::Debug for Responding<F, R> {
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
