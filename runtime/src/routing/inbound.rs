//! The calls that other nodes send here.
//!
//! One stream does all: it reads a batch, runs each call as far as it gets without waiting, and
//! gives the answers back as one batch. What has to wait goes on in a task of its own. While the
//! caller does not read answers, or too many calls run, nothing more is read.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures::Stream;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use steading_proto::v1::Batch;
use steading_proto::v1::peer_server::Peer;
use tokio::sync::Notify;
use tokio::task::coop::unconstrained;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Request, Response, Status, Streaming};
use tracing::warn;

use super::frame::{self, Answer, Frame, InboundCall};
use super::handshake::Greeting;
use super::router::Inner;

/// The most calls of one connection that run at once; more are left unread.
pub(super) const RUNNING_MAX: usize = 16_384;

/// The most bytes of answers that wait to be sent on one connection, but for the last one.
const ANSWERS_BYTES_MAX: usize = 8 << 20;

/// The service that other nodes connect to.
#[derive(Debug)]
pub(super) struct PeerService {
    pub(super) inner: Arc<Inner>,
    /// Cancelled when no more calls are to be taken.
    pub(super) closing: CancellationToken,
}

#[tonic::async_trait]
impl Peer for PeerService {
    type LinkStream = Answers;

    async fn link(&self, request: Request<Streaming<Batch>>) -> Result<Response<Answers>, Status> {
        let greeting = Greeting::read(request.metadata())?;
        let identity = self.inner.identity();
        identity.check(&greeting)?;
        let mut response = Response::new(Answers {
            from: greeting.from.to_string(),
            calls: Some(request.into_inner()),
            inner: self.inner.clone(),
            running: Arc::default(),
            closing: Some(Box::pin(self.closing.clone().cancelled_owned())),
            yielded: false,
        });
        identity.write(response.metadata_mut());
        Ok(response)
    }
}

/// The answers to the calls of one connection. Polling it is what reads and runs them.
pub(super) struct Answers {
    from: String,
    /// `None` once the caller sends no more.
    calls: Option<Streaming<Batch>>,
    inner: Arc<Inner>,
    running: Arc<Running>,
    /// `None` once the caller was told to send no more.
    closing: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    yielded: bool,
}

/// What a connection's stream and its waiting calls share.
#[derive(Debug, Default)]
struct Running {
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

impl Stream for Answers {
    type Item = Result<Batch, Status>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Batch, Status>>> {
        let this = &mut *self;
        this.poll_closing(cx);
        let read = match this.poll_read(cx) {
            Ok(read) => read,
            Err(status) => return Poll::Ready(Some(Err(status))),
        };
        match this.poll_answers(read, cx) {
            Poll::Ready(batch) => Poll::Ready(batch.map(|frames| Ok(Batch { frames }))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Answers {
    /// Tells the caller to send no more, once this node stops.
    fn poll_closing(&mut self, cx: &mut Context<'_>) {
        if let Some(closing) = &mut self.closing
            && closing.as_mut().poll(cx).is_ready()
        {
            self.closing = None;
            frame::put_closing(&mut self.running.state.lock().answers);
        }
    }

    /// Reads and runs one batch, if there is one and not too much is under way; returns whether
    /// it did.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<bool, Status> {
        let Some(calls) = &mut self.calls else {
            return Ok(false);
        };
        if self.running.is_full() {
            return Ok(false);
        }
        match Pin::new(calls).poll_next(cx) {
            Poll::Pending => Ok(false),
            Poll::Ready(Some(Ok(batch))) => self.run(&batch.frames).map(|()| true),
            Poll::Ready(Some(Err(status))) => {
                self.calls = None;
                Err(status)
            }
            Poll::Ready(None) => {
                self.calls = None;
                Ok(false)
            }
        }
    }

    /// Gives out the answers that are there. Answers of calls that had to wait leave one turn of
    /// the scheduler later, so that those that end in this moment share the batch.
    fn poll_answers(&mut self, read: bool, cx: &Context<'_>) -> Poll<Option<Bytes>> {
        let mut state = self.running.state.lock();
        if state.answers.is_empty() {
            self.yielded = false;
            if self.calls.is_none() && state.running == 0 {
                return Poll::Ready(None);
            }
            state.waker = Some(cx.waker().clone());
            if read {
                cx.waker().wake_by_ref(); // There may be more to read.
            }
            return Poll::Pending;
        }
        if !read && !std::mem::replace(&mut self.yielded, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.yielded = false;
        let capacity = state.answers.len();
        let answers = std::mem::replace(&mut state.answers, Vec::with_capacity(capacity));
        drop(state);
        self.running.taken.notify_waiters();
        Poll::Ready(Some(answers.into()))
    }

    /// Runs every call of a batch as far as it gets without waiting.
    fn run(&mut self, batch: &Bytes) -> Result<(), Status> {
        let metrics = &self.inner.settings.metrics.routing.links;
        let mut answers = Vec::new();
        let mut refused = None;
        for frame in frame::frames(batch, Instant::now()) {
            match frame {
                Ok(Frame::Call(id, Ok(call))) => {
                    metrics.inbound_calls.inc();
                    if let Some(answer) = self.start(id, call) {
                        frame::put_answer(&mut answers, id, &answer);
                    }
                }
                Ok(Frame::Call(id, Err(error))) => {
                    frame::put_answer(&mut answers, id, &Answer::Failed(error));
                }
                Ok(Frame::Void) => {}
                Ok(Frame::Answer(..) | Frame::Closing | Frame::Unknown) => {
                    metrics.unknown_frames.inc();
                }
                Err(error) => refused = Some(error),
            }
        }
        self.running.state.lock().answers.append(&mut answers);
        refused.map_or(Ok(()), |error| {
            metrics.malformed.inc();
            warn!(from = self.from, %error, "gives up a connection");
            self.calls = None;
            Err(Status::invalid_argument(error.to_string()))
        })
    }

    /// Runs a call until it ends or has to wait; then it goes on in a task of its own.
    fn start(&self, id: u64, call: InboundCall) -> Option<Answer> {
        let mut serving: BoxFuture<'static, Answer> = Box::pin(self.inner.clone().serve(call));
        // Unconstrained: else a large batch would use up the budget of this task, and calls that
        // could end would seem to wait. The task polls again, so no waker is needed here.
        let mut cx = Context::from_waker(Waker::noop());
        match Pin::new(&mut unconstrained(serving.as_mut())).poll(&mut cx) {
            Poll::Ready(answer) => return Some(answer),
            Poll::Pending => self.running.state.lock().running += 1,
        }
        let running = self.running.clone();
        let gauge = self
            .inner
            .settings
            .metrics
            .routing
            .links
            .inbound_running
            .clone();
        gauge.inc();
        self.inner.settings.tasks.spawn_work(async move {
            let answer = serving.await;
            running.answer(id, &answer).await;
            gauge.dec();
        });
        None
    }
}

impl Running {
    fn is_full(&self) -> bool {
        let state = self.state.lock();
        state.running >= RUNNING_MAX || state.answers.len() >= ANSWERS_BYTES_MAX
    }

    /// Gives back the answer to a call that had to wait, as soon as there is room.
    async fn answer(&self, id: u64, answer: &Answer) {
        loop {
            let taken = self.taken.notified();
            if self.try_answer(id, answer) {
                return;
            }
            taken.await;
        }
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
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.running.state.lock().ended = true;
        self.running.taken.notify_waiters();
    }
}
