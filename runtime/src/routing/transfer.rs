//! The state of a shard's objects on its way to the node that will own the shard: the sending side.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use parking_lot::Mutex;
use steading_proto::v1::piece::Piece as Content;
use steading_proto::v1::receipt::Receipt as Said;
use steading_proto::v1::transfer_client::TransferClient;
use steading_proto::v1::{self as wire, ObjectState, ParcelName, Piece, States, TimerState};
use tokio::sync::{Mutex as AsyncMutex, OnceCell};
use tokio::time::{Instant, timeout};
use tonic::Request;
use tonic::transport::Channel;
use tracing::warn;

use super::Router;
use super::channel;
use super::handshake::Greeting;
use crate::ids::{NodeId, ObjectKey, ShardId};
use crate::object::{Packed, PackedTimer, Packing, ParcelSum, StateError, Summing, micros};
use crate::placement::{Owner, Parcel};

/// State goes in pieces of about this many bytes; a larger state has one of its own.
const PIECE_BYTES: usize = 256 << 10;

/// Room for what stands around the state in a message, the timers of its object included.
pub(super) const PIECE_OVERHEAD: usize = 512 << 10;

/// For how long a node counts as taking shards after it has said so: moves come in waves, and one
/// question a wave is enough.
const READY_FOR: Duration = Duration::from_secs(1);

/// How long a node may take to say so. Short, because calls to the closed shard wait meanwhile.
const READY_TIMEOUT: Duration = Duration::from_secs(1);

/// What was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transferred {
    /// All of it is staged.
    Staged(ParcelSum),
    /// There was nothing that travels. The receiver said that it takes shards.
    Nothing,
}

/// Why a shard's state is not staged where it was sent to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The view has no such life of a node.
    #[error("{0} is not there")]
    Gone(NodeId),
    /// The other node cannot be reached, or the connection broke.
    #[error("cannot reach {0}: {1}")]
    Unreachable(NodeId, String),
    /// The other node does not take it.
    #[error("{0} does not take it: {1}")]
    Refused(NodeId, String),
    /// The state of an object cannot be written here, or not be read there.
    #[error(transparent)]
    State(#[from] StateError),
}

/// One connection to each life of a node, for transfers alone: calls have their own. Whoever waits
/// until one is open waits for that node only.
#[derive(Debug, Default)]
pub(super) struct Transfers(Mutex<BTreeMap<Owner, Arc<Line>>>);

/// The connection to one life.
#[derive(Debug, Default)]
struct Line {
    channel: OnceCell<Channel>,
    /// When the life last said that it takes shards. Whoever asks holds it, and the others wait for
    /// that answer.
    ready_at: AsyncMutex<Option<Instant>>,
}

impl Router {
    /// Sends the state of a closed shard's objects to the life `to`, to be staged as `parcel`.
    ///
    /// Holds a piece of 256 KiB and one state at a time, beside what the connection buffers.
    /// Dropped early, it leaves nothing staged.
    ///
    /// # Errors
    ///
    /// [`TransferError`]; then nothing is staged there, or what is will be dropped in time. That
    /// life's end is one at once: a paused process keeps its connections open, and the calls of
    /// the shard wait meanwhile.
    pub async fn transfer(
        &self,
        shard: ShardId,
        to: &Owner,
        parcel: Parcel,
        packing: Packing,
    ) -> Result<Transferred, TransferError> {
        let mut views = self.inner.settings.view.clone();
        tokio::select! {
            biased;
            sent = self.send_parcel(shard, to, parcel, packing) => sent,
            _ = views.wait_for(|view| !view.is_live(to)) => {
                Err(TransferError::Gone(to.node.clone()))
            }
        }
    }

    async fn send_parcel(
        &self,
        shard: ShardId,
        to: &Owner,
        parcel: Parcel,
        mut packing: Packing,
    ) -> Result<Transferred, TransferError> {
        let Some(first) = packing.next().await else {
            self.hear_ready(to).await?;
            return Ok(Transferred::Nothing);
        };
        let outcome = Arc::new(Mutex::new(Ok(ParcelSum::default())));
        let pieces = Pieces {
            name: Some((shard, parcel)),
            next: Some(first?),
            packing,
            summing: Summing::default(),
            outcome: outcome.clone(),
            over: false,
        };
        let mut request = Request::new(pieces.into_stream());
        let (greeting, mut client) = self.transfer_client(to).await?;
        greeting.write(request.metadata_mut());
        let answer = client.send(request).await;
        let sent = outcome.lock().clone()?;
        match answer {
            Ok(receipt) => {
                let staged = read_receipt(to, receipt.into_inner())?;
                warn_of_lost_timers(shard, to, sent, staged);
                Ok(staged)
            }
            Err(status) => {
                // It does not connect again: the next transfer opens another.
                self.inner.transfers.0.lock().remove(to);
                let why = channel::why(&status);
                Err(TransferError::Unreachable(to.node.clone(), why))
            }
        }
    }

    /// Returns once a life has said, at most [`READY_FOR`] ago, that it takes shards: a shard without
    /// state is not handed over to a node that nobody reaches either.
    async fn hear_ready(&self, to: &Owner) -> Result<(), TransferError> {
        let line = self.line_to(to)?;
        let mut ready_at = line.ready_at.lock().await;
        if ready_at.is_some_and(|at| at.elapsed() < READY_FOR) {
            return Ok(());
        }
        *ready_at = None;
        let asking = async {
            let (greeting, mut client) = self.transfer_client(to).await?;
            let mut request = Request::new(wire::ReadyRequest {});
            greeting.write(request.metadata_mut());
            let answer = client.ready(request).await;
            answer.map_err(|status| {
                TransferError::Unreachable(to.node.clone(), channel::why(&status))
            })
        };
        let answer = timeout(READY_TIMEOUT, asking).await;
        let late = || {
            let why = format!("no answer within {READY_TIMEOUT:?}");
            Err(TransferError::Unreachable(to.node.clone(), why))
        };
        match answer.unwrap_or_else(|_| late()) {
            Ok(reply) => match reply.into_inner().refused {
                None => {
                    *ready_at = Some(Instant::now());
                    Ok(())
                }
                Some(why) => Err(TransferError::Refused(to.node.clone(), why)),
            },
            Err(error) => {
                // It may not connect again: the next transfer opens another.
                self.inner.transfers.0.lock().remove(to);
                Err(error)
            }
        }
    }

    /// Returns the line to a life, and forgets those to lives that are over.
    fn line_to(&self, to: &Owner) -> Result<Arc<Line>, TransferError> {
        let view = self.inner.settings.view.borrow().clone();
        if !view.is_live(to) {
            return Err(TransferError::Gone(to.node.clone()));
        }
        let mut lines = self.inner.transfers.0.lock();
        lines.retain(|life, _| view.is_live(life));
        Ok(lines.entry(to.clone()).or_default().clone())
    }

    async fn transfer_client(
        &self,
        to: &Owner,
    ) -> Result<(Greeting, TransferClient<Channel>), TransferError> {
        let gone = || TransferError::Gone(to.node.clone());
        let view = self.inner.settings.view.borrow().clone();
        let record = view.nodes.get(&to.node).ok_or_else(gone)?;
        if record.incarnation != to.incarnation {
            return Err(gone());
        }
        let greeting = Greeting {
            cluster_id: view.meta.cluster_id.clone(),
            from: self.inner.settings.node.clone(),
            to: to.node.clone(),
            incarnation: to.incarnation,
        };
        let line = self.line_to(to)?;
        let network = &*self.inner.settings.network;
        let opening = || channel::open(network, &record.grpc);
        let channel = line.channel.get_or_try_init(opening);
        let channel = channel.await;
        let channel = channel.map_err(|why| TransferError::Unreachable(to.node.clone(), why))?;
        Ok((greeting, TransferClient::new(channel.clone())))
    }
}

/// A parcel, piece by piece.
struct Pieces {
    name: Option<(ShardId, Parcel)>,
    /// Packed already, and not yet in a piece.
    next: Option<Packed>,
    packing: Packing,
    summing: Summing,
    /// Where the sum stands when the stream has ended, or the reason if that was early.
    outcome: Arc<Mutex<Result<ParcelSum, StateError>>>,
    over: bool,
}

impl Pieces {
    fn into_stream(self) -> impl Stream<Item = Piece> + Send + 'static {
        futures::stream::unfold(self, |mut pieces| async {
            let content = pieces.next_piece().await?;
            let piece = Piece {
                piece: Some(content),
            };
            Some((piece, pieces))
        })
    }

    async fn next_piece(&mut self) -> Option<Content> {
        if let Some((shard, parcel)) = self.name.take() {
            return Some(Content::Name(ParcelName {
                shard: shard.get(),
                revision: parcel.revision.get(),
                attempt: parcel.attempt.to_be_bytes().to_vec().into(),
            }));
        }
        if self.over {
            return None;
        }
        let Some(first) = self.next.take() else {
            self.over = true;
            let sum = self.summing.sum();
            *self.outcome.lock() = Ok(sum);
            return Some(Content::Sum(wire_sum(sum)));
        };
        let (mut objects, mut bytes) = (Vec::new(), 0);
        let mut packed = first;
        loop {
            bytes += packed.len();
            self.summing.add(&packed);
            objects.push(object_state(packed));
            match self.packing.next().await {
                None => break,
                Some(Ok(next)) if bytes + next.len() > PIECE_BYTES => {
                    self.next = Some(next);
                    break;
                }
                Some(Ok(next)) => packed = next,
                Some(Err(error)) => {
                    // Without a sum the receiver drops what came.
                    *self.outcome.lock() = Err(error);
                    self.over = true;
                    return None;
                }
            }
        }
        Some(Content::States(States { objects }))
    }
}

fn object_state(packed: Packed) -> ObjectState {
    ObjectState {
        r#type: packed.key.object_type().into(),
        id: packed.key.id().into(),
        state: packed.state,
        idle_ms: u64::try_from(packed.idle.as_millis()).unwrap_or(u64::MAX),
        timers: packed.timers.into_iter().map(timer_state).collect(),
    }
}

fn timer_state(timer: PackedTimer) -> TimerState {
    TimerState {
        name: timer.name,
        method: timer.method,
        args: timer.args,
        remaining_us: micros(timer.remaining),
        period_us: timer.period.map_or(0, micros),
    }
}

pub(super) fn wire_sum(sum: ParcelSum) -> wire::ParcelSum {
    wire::ParcelSum {
        objects: sum.objects,
        bytes: sum.bytes,
        checksum: sum.checksum,
        timers: sum.timers,
        timers_checksum: sum.timers_checksum,
    }
}

pub(super) fn read_sum(sum: wire::ParcelSum) -> ParcelSum {
    ParcelSum {
        objects: sum.objects,
        bytes: sum.bytes,
        checksum: sum.checksum,
        timers: sum.timers,
        timers_checksum: sum.timers_checksum,
    }
}

/// A node of a version without timers stages the state and drops them. That is told, but does not
/// keep the shard here: else no such node could ever be upgraded, or be gone back to.
fn warn_of_lost_timers(shard: ShardId, to: &Owner, sent: ParcelSum, staged: Transferred) {
    let took = match staged {
        Transferred::Staged(sum) => sum.timers,
        Transferred::Nothing => 0,
    };
    if took < sent.timers {
        let lost = sent.timers - took;
        warn!(%shard, to = %to.node, lost, "the new owner does not know timers: they are lost");
    }
}

fn read_receipt(to: &Owner, receipt: wire::Receipt) -> Result<Transferred, TransferError> {
    let refused = |why: String| Err(TransferError::Refused(to.node.clone(), why));
    match receipt.receipt {
        Some(Said::Staged(sum)) => Ok(Transferred::Staged(read_sum(sum))),
        Some(Said::Refused(refusal)) => match refusal.object.as_deref().map(str::parse) {
            Some(Ok::<ObjectKey, _>(object)) => Err(TransferError::State(StateError {
                object,
                reason: refusal.reason,
            })),
            Some(Err(_)) | None => refused(refusal.reason),
        },
        None => refused("it says nothing".into()),
    }
}
