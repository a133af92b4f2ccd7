//! One connection to another node: dialled when there is a call to send, kept until it breaks.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use parking_lot::Mutex;
use steading_proto::v1::Batch;
use steading_proto::v1::peer_client::PeerClient;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Streaming};
use tracing::{debug, warn};

use super::channel;
use super::ending::{Ending, LAST_ANSWERS};
use super::frame::{self, Frame, OutboundCall};
use super::handshake::{self, Greeting};
use super::network::Network;
use super::parking::{Baton, Parking};
use super::queue::{CallId, Fate, OUTGOING_BYTES_MAX, Queue, Unsent};
use crate::Tasks;
use crate::telemetry::{LinkMetrics, ParkingMetrics};

/// How long opening a connection may take, to the other node's greeting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause after a first failure; doubled by each further one …
const RETRY_MIN: Duration = Duration::from_millis(10);

/// … up to this.
const RETRY_MAX: Duration = Duration::from_secs(1);

/// Room for what stands around a payload in a frame: keys, the path of the call, its trace.
pub(super) const BATCH_OVERHEAD: usize = 1 << 20;

/// Returns the largest batch of calls that a node sends whose arguments have at most `payload_max`
/// bytes: the queue's limit, and one frame.
pub(super) fn call_batch_max(payload_max: usize) -> usize {
    OUTGOING_BYTES_MAX + payload_max + BATCH_OVERHEAD
}

/// What connections to another node are made of.
#[derive(Clone, Debug)]
pub(super) struct Way {
    /// The way to it.
    pub(super) network: Arc<dyn Network>,
    /// Where it listens, written `host:port`.
    pub(super) address: String,
    /// Who wants whom.
    pub(super) greeting: Greeting,
    /// Where the connection's task runs.
    pub(super) tasks: Tasks,
    /// What it counts.
    pub(super) metrics: LinkMetrics,
    /// The largest batch of answers that is read.
    pub(super) answers_max: usize,
}

/// One connection to another node.
#[derive(Debug)]
pub(super) struct Connection {
    way: Way,
    state: Mutex<State>,
    /// Told when a call came that ends before all others.
    sooner: Notify,
    /// Told when no call is under way any more.
    idle: Notify,
    /// Cancelled when the node is not in the view any more.
    gone: CancellationToken,
    /// Where calls wait for room in the queue: a single line.
    room: Arc<Parking>,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    phase: Phase,
    /// Failures since the last answer.
    failures: u32,
    /// How often it was dialled: an old stream must not send new calls.
    dials: u64,
    writer: Option<Waker>,
    /// How the other node's life ended, once that is over.
    ending: Ending,
}

#[derive(Clone, Debug)]
enum Phase {
    /// Not connected: never tried, or failed for this reason and not to be tried before.
    Down(Option<(String, Instant)>),
    /// Being opened; calls wait in the queue.
    Dialling,
    /// Calls are sent as they come.
    Open,
    /// The other node takes no more calls but answers those it has.
    Closing,
    /// Never to be used again.
    Gone,
}

const LINE: usize = 0;

impl Connection {
    /// Makes a connection that is opened when it is first used.
    pub(super) fn new(way: Way) -> Arc<Self> {
        Arc::new(Self {
            way,
            state: Mutex::new(State {
                queue: Queue::default(),
                phase: Phase::Down(None),
                failures: 0,
                dials: 0,
                writer: None,
                ending: Ending::Left,
            }),
            sooner: Notify::new(),
            gone: CancellationToken::new(),
            idle: Notify::new(),
            room: Parking::new(1, ParkingMetrics::default()),
        })
    }

    /// Returns how many calls were given to it so far.
    pub(super) fn sent(&self) -> u64 {
        self.state.lock().queue.added()
    }

    /// Whether calls are sent over it as they come.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state.lock().phase, Phase::Open)
    }

    /// Sends a call and waits for how it ends. `baton` is dropped as soon as the call has its place
    /// in the queue.
    ///
    /// Dropped before the call is sent, it takes the call back; later, the call just runs.
    pub(super) async fn call(
        self: &Arc<Self>,
        outbound: &OutboundCall<'_>,
        baton: &mut Option<Baton>,
    ) -> Fate {
        let mut place = None;
        loop {
            match self.send(outbound, place.is_some()) {
                Ok(exchange) => {
                    drop((baton.take(), place));
                    return exchange.await;
                }
                Err(Unsent::Full) => {
                    let Ok(seat) = self.room.sit(LINE) else {
                        return Fate::Unsent(Unsent::Full);
                    };
                    self.way.metrics.full.inc();
                    drop((baton.take(), place)); // Only now: the next one must come after.
                    if self.state.lock().queue.has_room() {
                        self.room.wake(LINE);
                    }
                    place = seat.wait(None, outbound.call.deadline).await;
                    if place.is_none() {
                        return Fate::Unsent(Unsent::Full);
                    }
                }
                Err(unsent) => return Fate::Unsent(unsent),
            }
        }
    }

    /// Ends the connection for good: the node is not in the view any more.
    pub(super) fn close(&self, ending: Ending) {
        let mut state = self.state.lock();
        state.ending = ending;
        self.gone.cancel();
        // Otherwise its task ends it.
        if matches!(state.phase, Phase::Down(_)) {
            state.phase = Phase::Gone;
        }
    }

    /// Puts a call into the queue; `waited` calls may go before those that wait for room.
    fn send(
        self: &Arc<Self>,
        outbound: &OutboundCall<'_>,
        waited: bool,
    ) -> Result<Exchange, Unsent> {
        let now = Instant::now();
        let mut state = self.state.lock();
        if self.gone.is_cancelled() {
            return Err(Unsent::Gone);
        }
        let dial = match &state.phase {
            Phase::Down(Some((why, retry_at))) if *retry_at > now => {
                return Err(Unsent::Down(why.clone(), *retry_at));
            }
            Phase::Down(_) => true,
            Phase::Dialling | Phase::Open => false,
            Phase::Closing => {
                return Err(Unsent::Down("it is stopping".into(), now + RETRY_MIN));
            }
            Phase::Gone => return Err(Unsent::Gone),
        };
        if !state.queue.has_room() || (!waited && self.room.is_occupied(LINE)) {
            return Err(Unsent::Full);
        }
        let (id, earliest) = state.queue.put(outbound, now);
        let writer = state.writer.take();
        if dial {
            state.phase = Phase::Dialling;
            state.dials += 1;
        }
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
        if dial {
            self.way.tasks.spawn_work(self.clone().run());
        } else if earliest {
            self.sooner.notify_one();
        }
        Ok(Exchange {
            connection: Some(self.clone()),
            id,
        })
    }

    /// Opens the connection and takes in answers until it breaks.
    async fn run(self: Arc<Self>) {
        let why = tokio::select! {
            biased;
            ending = self.retired() => ending.text().into(),
            why = self.link() => why,
            () = self.stopped() => "this node stops".into(),
            never = self.expire() => match never {},
        };
        self.down(why);
    }

    /// Ends when the other node is not in the view any more, and has answered what was sent to it or
    /// cannot be expected to. What was not sent goes elsewhere at once.
    async fn retired(&self) -> Ending {
        self.gone.cancelled().await;
        let (ending, wakers) = {
            let mut state = self.state.lock();
            (state.ending, state.queue.fail_unsent(&Unsent::Gone))
        };
        wakers.into_iter().for_each(Waker::wake);
        self.room.wake(LINE);
        self.last_answers(ending.patience()).await;
        ending
    }

    /// Ends when this node stops and no call of its own is under way, or has been for too long.
    async fn stopped(&self) {
        self.way.tasks.shutdown().cancelled().await;
        self.last_answers(LAST_ANSWERS).await;
    }

    async fn last_answers(&self, patience: Duration) {
        let idle = async {
            while !self.state.lock().queue.is_idle() {
                self.idle.notified().await;
            }
        };
        // Either way it ends.
        let _ = timeout(patience, idle).await;
    }

    /// Returns why it could not be opened or broke.
    async fn link(self: &Arc<Self>) -> String {
        let mut answers = match timeout(CONNECT_TIMEOUT, self.dial()).await {
            Ok(Ok(answers)) => answers,
            Ok(Err(why)) => return why,
            Err(_) => return format!("no connection within {CONNECT_TIMEOUT:?}"),
        };
        self.opened();
        loop {
            match answers.message().await {
                Ok(Some(batch)) => {
                    if let Err(error) = self.take_in(&batch.frames) {
                        self.way.metrics.malformed.inc();
                        return error.to_string();
                    }
                }
                Ok(None) => return "it closed the connection".into(),
                Err(status) => return channel::why(&status),
            }
        }
    }

    async fn dial(self: &Arc<Self>) -> Result<Streaming<Batch>, String> {
        let way = &self.way;
        let channel = channel::open(&*way.network, &way.address).await?;
        let mut request = Request::new(Calls {
            connection: self.clone(),
            dial: self.state.lock().dials,
            yielded: false,
        });
        way.greeting.write(request.metadata_mut());
        let mut client = PeerClient::new(channel).max_decoding_message_size(way.answers_max);
        let response = client
            .link(request)
            .await
            .map_err(|status| channel::why(&status))?;
        handshake::check_response(&way.greeting, response.metadata())
            .map_err(|status| status.message().to_owned())?;
        Ok(response.into_inner())
    }

    fn opened(&self) {
        debug!(to = %self.way.greeting.to, "connected");
        self.way.metrics.open.inc();
        let mut state = self.state.lock();
        state.phase = Phase::Open;
        wake(state.writer.take());
    }

    /// Takes in a batch of answers.
    fn take_in(&self, batch: &Bytes) -> Result<(), frame::FrameError> {
        // Read before the lock is taken, for callers need that too.
        let frames: Vec<_> = frame::frames(batch, Instant::now()).collect();
        let mut wakers = Vec::with_capacity(frames.len());
        let mut read = Ok(());
        let mut state = self.state.lock();
        state.failures = 0;
        for frame in frames {
            match frame {
                Ok(Frame::Answer(id, answer)) => wakers.extend(state.queue.answer(id, answer)),
                Ok(Frame::Closing) => {
                    state.phase = Phase::Closing;
                    wakers.extend(state.writer.take());
                }
                Ok(Frame::Void) => {}
                Ok(Frame::Call(..) | Frame::Unknown) => {
                    self.way.metrics.unknown_frames.inc();
                }
                Err(error) => read = Err(error), // The last one, then.
            }
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        read
    }

    /// Ends calls as their deadlines pass. One timer serves all calls of the connection.
    async fn expire(&self) -> Infallible {
        loop {
            let next = self.state.lock().queue.next_deadline();
            let Some(next) = next else {
                self.sooner.notified().await;
                continue;
            };
            tokio::select! {
                () = sleep_until(next) => {
                    let wakers = self.state.lock().queue.expire(Instant::now());
                    wakers.into_iter().for_each(Waker::wake);
                }
                () = self.sooner.notified() => {}
            }
        }
    }

    fn down(&self, why: String) {
        let mut state = self.state.lock();
        let (to, gone) = (&self.way.greeting.to, self.gone.is_cancelled());
        if matches!(state.phase, Phase::Open | Phase::Closing) {
            self.way.metrics.open.dec();
            self.way.metrics.broken.inc();
            debug!(%to, why, "disconnected");
        } else if !gone {
            self.way.metrics.failed_dials.inc();
            warn!(%to, address = self.way.address, why, "cannot connect");
        }
        let retry_at = Instant::now() + pause(state.failures);
        state.failures += 1;
        let unsent = if gone {
            Unsent::Gone
        } else {
            Unsent::Down(why.clone(), retry_at)
        };
        let wakers = state.queue.fail_all(&format!("{to}: {why}"), &unsent);
        state.phase = if gone {
            Phase::Gone
        } else {
            Phase::Down(Some((why, retry_at)))
        };
        state.dials += 1;
        wake(state.writer.take());
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        self.room.wake(LINE);
    }

    fn poll_fate(&self, id: CallId, cx: &Context<'_>) -> Poll<Fate> {
        let mut state = self.state.lock();
        let Some(fate) = state.queue.poll(id, cx.waker()) else {
            return Poll::Pending;
        };
        self.tell_if_idle(&state);
        Poll::Ready(fate)
    }

    fn give_up(&self, id: CallId) {
        let mut state = self.state.lock();
        state.queue.give_up(id);
        self.tell_if_idle(&state);
    }

    fn tell_if_idle(&self, state: &State) {
        if state.queue.is_idle() {
            self.idle.notify_one();
        }
    }

    /// Gives the stream what waits to be sent. `None`: the stream ends.
    fn poll_batch(&self, dial: u64, yielded: &mut bool, cx: &Context<'_>) -> Poll<Option<Bytes>> {
        let mut state = self.state.lock();
        if state.dials != dial || matches!(state.phase, Phase::Closing) {
            return Poll::Ready(None);
        }
        if state.queue.is_flushed() || !matches!(state.phase, Phase::Open) {
            *yielded = false;
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        // Whoever is about to send does it in this moment, and shares the batch.
        if !std::mem::replace(yielded, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        *yielded = false;
        let batch = state.queue.take_batch();
        drop(state);
        self.way.metrics.batches.inc();
        self.room.wake(LINE);
        Poll::Ready(Some(batch))
    }
}

/// Returns the pause before the next attempt.
fn pause(failures: u32) -> Duration {
    RETRY_MIN
        .saturating_mul(1 << failures.min(16))
        .min(RETRY_MAX)
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// A call that is in the queue of a connection; ends with its fate.
#[derive(Debug)]
struct Exchange {
    /// `None` once the fate was taken.
    connection: Option<Arc<Connection>>,
    id: CallId,
}

impl Future for Exchange {
    type Output = Fate;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Fate> {
        let connection = self.connection.as_ref().expect("not polled after its end");
        let fate = ready!(connection.poll_fate(self.id, cx));
        self.connection = None;
        Poll::Ready(fate)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.give_up(self.id);
        }
    }
}

/// What goes out on a connection: a batch of whatever waits.
#[derive(Debug)]
struct Calls {
    connection: Arc<Connection>,
    dial: u64,
    yielded: bool,
}

impl Stream for Calls {
    type Item = Batch;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Batch>> {
        let this = &mut *self;
        let batch = this.connection.poll_batch(this.dial, &mut this.yielded, cx);
        batch.map(|batch| batch.map(|frames| Batch { frames }))
    }
}
