//! The state of a shard's objects on its way to the node that will own the shard: the receiving
//! side.

use std::sync::Arc;
use std::time::Duration;

use steading_proto::v1::piece::Piece as Content;
use steading_proto::v1::receipt::Receipt as Said;
use steading_proto::v1::transfer_server::Transfer;
use steading_proto::v1::{
    ObjectState, ParcelName, Piece, ReadyReply, ReadyRequest, Receipt, Refusal, TimerState,
};
use tokio::time::timeout;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::Router;
use super::handshake::Greeting;
use super::inbound::make_peer;
use super::transfer::{read_sum, wire_sum};
use crate::connections::Received;
use crate::ids::{NodeId, ObjectKey, Revision, ShardId};
use crate::memory_budget::Reservation;
use crate::object::{Arriving, Packed, PackedTimer, StageError};
use crate::placement::{NodeState, Parcel};

/// How long a sender is waited for that owns a shard by a revision which this node does not have yet.
const CATCH_UP_MAX: Duration = Duration::from_secs(1);

/// Takes in what other nodes send ahead.
#[derive(Debug)]
pub(super) struct TransferService(pub(super) Arc<Router>);

#[tonic::async_trait]
impl Transfer for TransferService {
    async fn ready(&self, request: Request<ReadyRequest>) -> Result<Response<ReadyReply>, Status> {
        self.check_greeting(request.metadata())?;
        let refused = self.refuses();
        Ok(Response::new(ReadyReply { refused }))
    }

    async fn send(&self, request: Request<Streaming<Piece>>) -> Result<Response<Receipt>, Status> {
        let greeting = self.check_greeting(request.metadata())?;
        make_peer(&request);
        if let Some(why) = self.refuses() {
            return Ok(Response::new(refusal(None, why)));
        }
        let received = request.extensions().get::<Received>().cloned();
        let received = received.unwrap_or_default();
        let mut pieces = request.into_inner();
        let name = match next(&mut pieces, &received).await?.0 {
            Content::Name(name) => name,
            Content::States(_) | Content::Sum(_) => {
                return Err(Status::invalid_argument("a parcel begins with its name"));
            }
        };
        let (shard, parcel) = self.read_name(&name)?;
        if let Err(why) = self.check_sender(&greeting.from, shard, parcel).await {
            return Ok(Response::new(refusal(None, why)));
        }
        let mut arriving = self.0.inner.settings.host.arriving(shard, parcel);
        loop {
            // The bytes of the piece count until what it holds is staged, which is counted too.
            let (content, _reserved) = next(&mut pieces, &received).await?;
            let taken = match content {
                Content::States(states) => take(&mut arriving, states.objects)?,
                Content::Sum(sum) => {
                    let staged = arriving.finish(read_sum(sum));
                    return Ok(Response::new(match staged {
                        Ok(sum) => Receipt {
                            receipt: Some(Said::Staged(wire_sum(sum))),
                        },
                        Err(error) => refused(&error),
                    }));
                }
                Content::Name(_) => {
                    return Err(Status::invalid_argument("a parcel has one name"));
                }
            };
            if let Err(error) = taken {
                return Ok(Response::new(refused(&error)));
            }
        }
    }
}

impl TransferService {
    fn check_greeting(&self, metadata: &MetadataMap) -> Result<Greeting, Status> {
        let greeting = Greeting::read(metadata)?;
        self.0.inner.identity().check(&greeting)?;
        Ok(greeting)
    }

    /// Why this node takes no shards now, if so.
    fn refuses(&self) -> Option<String> {
        let settings = &self.0.inner.settings;
        let view = settings.view.borrow();
        match view.nodes.get(&settings.node).map(|record| record.state) {
            Some(NodeState::Draining) => Some("it is draining".into()),
            // A view that lags knows less than the sender's.
            Some(NodeState::Active | NodeState::Joining) | None => None,
        }
    }

    fn read_name(&self, name: &ParcelName) -> Result<(ShardId, Parcel), Status> {
        let shard = ShardId::new(name.shard, self.0.inner.table.count())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let attempt = <[u8; 16]>::try_from(&name.attempt[..])
            .map_err(|_| Status::invalid_argument("the name of an attempt has 16 bytes"))?;
        let parcel = Parcel {
            revision: Revision::new(name.revision),
            attempt: u128::from_be_bytes(attempt),
        };
        Ok((shard, parcel))
    }

    /// Checks that the sender owns the shard at the parcel's revision, as the store has it.
    ///
    /// Only that node can write the owner key that names the parcel, so state of any other would
    /// take up room for nothing. A view that lags is waited for.
    async fn check_sender(
        &self,
        from: &NodeId,
        shard: ShardId,
        parcel: Parcel,
    ) -> Result<(), String> {
        let mut views = self.0.inner.settings.view.clone();
        let knows = views.wait_for(|view| {
            let owner = view.owners.get(shard).revision;
            view.revision.max(owner) >= parcel.revision
        });
        // Whether it is reached or not, what is known then counts.
        let _ = timeout(CATCH_UP_MAX, knows).await;
        let view = views.borrow();
        let record = view.owners.get(shard);
        let owns = view.live_owner(shard).is_some_and(|it| it.node == *from);
        if owns && record.revision == parcel.revision {
            return Ok(());
        }
        Err(format!(
            "{from} does not own shard {shard} at revision {}",
            parcel.revision
        ))
    }
}

async fn next(
    pieces: &mut Streaming<Piece>,
    received: &Received,
) -> Result<(Content, Option<Reservation>), Status> {
    let piece = pieces.message().await?;
    let content = piece.and_then(|piece| piece.piece);
    let content = content.ok_or_else(|| Status::cancelled("the parcel ends without its sum"))?;
    Ok((content, received.take()))
}

/// Takes in states; the outer error is for what is no parcel at all.
fn take(
    arriving: &mut Arriving,
    objects: Vec<ObjectState>,
) -> Result<Result<(), StageError>, Status> {
    for object in objects {
        let key = ObjectKey::new(object.r#type, object.id);
        let packed = Packed {
            key: key.map_err(|error| Status::invalid_argument(error.to_string()))?,
            state: object.state,
            idle: Duration::from_millis(object.idle_ms),
            timers: object.timers.into_iter().map(packed_timer).collect(),
        };
        if let Err(error) = arriving.take(&packed) {
            return Ok(Err(error));
        }
    }
    Ok(Ok(()))
}

fn packed_timer(timer: TimerState) -> PackedTimer {
    PackedTimer {
        name: timer.name,
        method: timer.method,
        args: timer.args,
        remaining: Duration::from_micros(timer.remaining_us),
        period: (timer.period_us > 0).then(|| Duration::from_micros(timer.period_us)),
    }
}

fn refused(error: &StageError) -> Receipt {
    match error {
        StageError::State(error) => refusal(Some(error.object.to_string()), error.reason.clone()),
        StageError::Full
        | StageError::Overloaded(_)
        | StageError::Repeated
        | StageError::TooMany
        | StageError::Differs { .. } => refusal(None, error.to_string()),
    }
}

fn refusal(object: Option<String>, reason: String) -> Receipt {
    Receipt {
        receipt: Some(Said::Refused(Refusal { object, reason })),
    }
}
