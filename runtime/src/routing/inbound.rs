//! The calls that other nodes send here.
//!
//! One stream does all: it reads a batch, runs each call as far as it gets without waiting, and
//! gives the answers back as one batch. What has to wait goes on in a task of its own, and what
//! computes for long runs aside. While the caller does not read answers, or too many calls run,
//! nothing more is read.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use steading_proto::v1::Batch;
use steading_proto::v1::peer_server::Peer;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Request, Response, Status, Streaming};
use tracing::warn;

use super::frame::{self, Answer, Frame, Frames};
use super::handshake::Greeting;
use super::heavy;
use super::lanes::Lanes;
use super::network::Origin;
use super::router::Inner;
use super::running::{Begun, Running};
use crate::connections::Received;
use crate::memory_budget::Reservation;

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
        make_peer(&request);
        let received = request.extensions().get::<Received>().cloned();
        let mut response = Response::new(Answers {
            from: greeting.from.to_string(),
            calls: Some(request.into_inner()),
            received: received.unwrap_or_default(),
            reading: None,
            running: Running::new(self.inner.clone()),
            lanes: Lanes::default(),
            closing: Some(Box::pin(self.closing.clone().cancelled_owned())),
            yielded: false,
        });
        identity.write(response.metadata_mut());
        Ok(response)
    }
}

/// Counts the connection of a request as another node's.
pub(super) fn make_peer<T>(request: &Request<T>) {
    let origin = request.extensions().get::<Origin>();
    if let Some(slot) = origin.and_then(|origin| origin.slot.as_ref()) {
        slot.make_peer();
    }
}

/// The answers to the calls of one connection. Polling it is what reads and runs them.
pub(super) struct Answers {
    from: String,
    /// `None` once the caller sends no more.
    calls: Option<Streaming<Batch>>,
    /// The bytes of batches in the memory budget.
    received: Received,
    /// A batch of which some calls did not begin: too many answers wait.
    reading: Option<Reading>,
    running: Arc<Running>,
    lanes: Lanes,
    /// `None` once the caller was told to send no more.
    closing: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    yielded: bool,
}

/// A batch that is being read.
struct Reading {
    frames: Frames,
    reserved: Option<Arc<Reservation>>,
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
            let mut closing = self.running.outbox();
            closing.put_closing();
            self.running.add(closing);
        }
    }

    /// Reads and runs one batch, if there is one and not too much is under way; returns whether
    /// it did.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<bool, Status> {
        if self.running.is_full() {
            return Ok(false);
        }
        if let Some(reading) = self.reading.take() {
            return self.run(reading).map(|()| true);
        }
        let Some(calls) = &mut self.calls else {
            return Ok(false);
        };
        match Pin::new(calls).poll_next(cx) {
            Poll::Pending => Ok(false),
            Poll::Ready(Some(Ok(batch))) => {
                let reading = Reading {
                    frames: Frames::new(batch.frames),
                    reserved: self.received.take().map(Arc::new),
                };
                self.run(reading).map(|()| true)
            }
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
        let (may_hold, mut held) = (!read && !self.yielded, false);
        let hold = || {
            held = may_hold;
            may_hold
        };
        let more_calls = self.calls.is_some() || self.reading.is_some();
        let taken = self.running.poll_answers(more_calls, hold, cx);
        self.yielded = held;
        if read && taken.is_pending() {
            cx.waker().wake_by_ref(); // There may be more to read.
        }
        taken
    }

    /// Runs every call of a batch as far as it gets without waiting; stops early if too many bytes
    /// of answers came together.
    fn run(&mut self, mut reading: Reading) -> Result<(), Status> {
        let running = self.running.clone();
        let metrics = &running.inner.settings.metrics.routing.links;
        let mut answers = running.outbox();
        let mut now = Instant::now();
        let arrived = now;
        loop {
            if answers.is_full() {
                self.reading = Some(reading);
                break;
            }
            let Some(frame) = reading.frames.next(arrived) else {
                break;
            };
            match frame {
                Ok(Frame::Call(id, Ok(mut call))) => {
                    call.batch.clone_from(&reading.reserved);
                    metrics.inbound_calls.inc();
                    if self.lanes.must_take(&call.call, &running) {
                        self.lanes.put(id, call, &running);
                        continue;
                    }
                    let measure = running.inner.heavy.begin(&call.call, now);
                    match running.begin(call) {
                        Begun::Ended(answer) => answers.put(id, &answer),
                        Begun::Waits(serving) => {
                            running.count();
                            running.go_on(id, serving);
                        }
                    }
                    now = Instant::now();
                    running
                        .inner
                        .heavy
                        .end(measure, now, || method_of(reading.frames.batch(), id));
                }
                Ok(Frame::Call(id, Err(error))) => {
                    answers.put(id, &Answer::Failed(error));
                }
                Ok(Frame::Void) => {}
                Ok(Frame::Answer(..) | Frame::Closing | Frame::Unknown) => {
                    metrics.unknown_frames.inc();
                }
                Err(error) => {
                    metrics.malformed.inc();
                    warn!(from = self.from, %error, "gives up a connection");
                    self.calls = None;
                    return Err(Status::invalid_argument(error.to_string()));
                }
            }
        }
        running.add(answers);
        Ok(())
    }
}

/// Names the method of a call that ran already. Seldom needed, so it is read once more.
fn method_of(batch: &Bytes, id: u64) -> heavy::Name {
    let mut frames = frame::frames(batch, Instant::now());
    let name = frames.find_map(|frame| match frame {
        Ok(Frame::Call(found, Ok(call))) if found == id => Some(heavy::name(&call.call)),
        Ok(_) | Err(_) => None,
    });
    name.expect("the call was read from this batch")
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.running.end();
    }
}
