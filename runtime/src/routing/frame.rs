//! The frames that go between two nodes inside `Batch.frames`.
//!
//! A frame is its length (4 bytes, little endian, of what follows), its kind (1 byte) and a
//! `MessagePack` map with short names. Unknown kinds and unknown names are skipped, so that a
//! newer node can send more during a rolling update. Nothing here trusts what it reads.

mod body;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::time::Instant;

use self::body::{CallBody, FailedBody, NotOwnerBody, OwnershipBody, ReplyBody};
use super::news::Ownership;
use crate::error::CallError;
use crate::ids::{InvalidObjectKey, ObjectKey, Revision};
use crate::memory_budget::Reservation;
use crate::object::{CallPath, EncodedCall, Format};
use crate::telemetry::{Trace, TraceContext};

/// Bytes before the body of a frame: its length and its kind.
const HEAD_LEN: usize = 5;

/// One frame, read.
#[derive(Debug)]
pub(super) enum Frame {
    /// Somebody calls an object that should be here.
    Call(u64, Result<InboundCall, CallError>),
    /// The answer to a call that was sent.
    Answer(u64, Answer),
    /// The other side will answer what it has, and takes no more.
    Closing,
    /// A call that was given up before it was sent.
    Void,
    /// A kind that this version does not know.
    Unknown,
}

/// A call as it goes to another node.
#[derive(Debug)]
pub(super) struct OutboundCall<'a> {
    /// What to run.
    pub(super) call: &'a EncodedCall,
    /// The newest revision of the shard's owner key that is known here.
    pub(super) known: Revision,
    /// Who owns the shard, for a receiver that may not know yet.
    pub(super) claim: Option<Ownership>,
    /// It came from another node, so the receiver must not pass it on.
    pub(super) forwarded: bool,
}

/// A call that came from another node.
#[derive(Debug)]
pub(super) struct InboundCall {
    /// What to run.
    pub(super) call: EncodedCall,
    /// The newest revision of the shard's owner key that the caller knows.
    pub(super) known: Revision,
    /// Who owns the shard, as the sender claims.
    pub(super) claim: Option<Box<Ownership>>,
    /// Its sender has it from a third node.
    pub(super) forwarded: bool,
    /// The bytes of the batch that its arguments are a part of.
    pub(super) batch: Option<Arc<Reservation>>,
}

/// What came back for a call that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The method's reply.
    Reply(Bytes),
    /// It failed where the object lives.
    Failed(CallError),
    /// It did not run: somebody else owns the shard.
    Moved(Box<Ownership>),
    /// It did not run: the other node does not own the shard, as of this revision of its owner
    /// key, and knows of nobody who does.
    NotOwner(Revision),
}

impl Answer {
    /// Whether the call has ended with it: nobody else is to be asked.
    pub(super) fn is_last(&self) -> bool {
        match self {
            Self::Reply(_) => true,
            Self::Failed(error) => !matches!(error, CallError::Stopping(_)),
            Self::Moved(_) | Self::NotOwner(_) => false,
        }
    }
}

/// A frame that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    /// A length that leads beyond the end of the batch.
    #[error("a frame is cut off")]
    Cut,
    /// A body that is not what its kind says.
    #[error("a frame of kind {kind} cannot be read: {reason}")]
    Malformed { kind: u8, reason: String },
}

mod kind {
    pub(super) const VOID: u8 = 0;
    pub(super) const CALL: u8 = 1;
    pub(super) const REPLY: u8 = 2;
    pub(super) const FAILED: u8 = 3;
    pub(super) const NOT_OWNER: u8 = 4;
    pub(super) const CLOSING: u8 = 5;
}

/// Appends a call to a batch.
pub(super) fn put_call(batch: &mut Vec<u8>, id: u64, outbound: &OutboundCall<'_>, now: Instant) {
    let call = outbound.call;
    let left = call.deadline.saturating_duration_since(now);
    let path = call.path.keys();
    let trace = call.trace.context().and_then(TraceContext::of);
    let trace = trace.as_ref();
    put(
        batch,
        kind::CALL,
        &CallBody {
            id,
            object_type: call.key.object_type(),
            object_id: call.key.id(),
            method: &call.method,
            args: &call.args,
            format: match call.format {
                Format::MessagePack => 0,
                Format::Json => 1,
            },
            deadline_ms: u64::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u64::MAX),
            known: outbound.known.get(),
            path: path.iter().map(|k| (k.object_type(), k.id())).collect(),
            claim: outbound.claim.as_ref().map(Into::into),
            forwarded: outbound.forwarded,
            trace: trace.map(|trace| trace.parent.as_str()),
            trace_state: trace
                .and_then(|trace| (!trace.state.is_empty()).then_some(trace.state.as_str())),
        },
    );
}

/// Appends the answer to a call to a batch.
pub(super) fn put_answer(batch: &mut Vec<u8>, id: u64, answer: &Answer) {
    match answer {
        Answer::Reply(value) => put(batch, kind::REPLY, &ReplyBody { id, value }),
        Answer::Failed(error) => {
            let (code, detail) = (error.code(), error.detail());
            put(batch, kind::FAILED, &FailedBody { id, code, detail });
        }
        Answer::Moved(claim) => put_not_owner(batch, id, claim.token.revision(), Some(&**claim)),
        Answer::NotOwner(revision) => put_not_owner(batch, id, *revision, None),
    }
}

fn put_not_owner(batch: &mut Vec<u8>, id: u64, revision: Revision, claim: Option<&Ownership>) {
    let body = NotOwnerBody {
        id,
        revision: revision.get(),
        claim: claim.map(Into::into),
    };
    put(batch, kind::NOT_OWNER, &body);
}

/// Appends the news that the sender takes no more calls on this connection.
pub(super) fn put_closing(batch: &mut Vec<u8>) {
    put(batch, kind::CLOSING, &());
}

/// Makes a frame in a batch mean nothing; `start` is where it begins.
pub(super) fn make_void(batch: &mut [u8], start: usize) {
    batch[start + HEAD_LEN - 1] = kind::VOID;
}

fn put(batch: &mut Vec<u8>, kind: u8, body: &impl Serialize) {
    let start = batch.len();
    batch.extend_from_slice(&[0, 0, 0, 0, kind]);
    rmp_serde::encode::write_named(batch, body).expect("a vector takes what serde can write");
    let len = u32::try_from(batch.len() - start - 4).expect("payload limits are far below 4 GiB");
    batch[start..start + 4].copy_from_slice(&len.to_le_bytes());
}

/// Reads the frames of a batch that arrived at `now`; ends after the first that cannot be read.
pub(super) fn frames(
    batch: &Bytes,
    now: Instant,
) -> impl Iterator<Item = Result<Frame, FrameError>> {
    let mut frames = Frames::new(batch.clone());
    std::iter::from_fn(move || frames.next(now))
}

/// The frames of one batch, which need not be read at once.
#[derive(Debug)]
pub(super) struct Frames {
    batch: Bytes,
    rest: Range<usize>,
}

impl Frames {
    /// Begins with the first.
    pub(super) fn new(batch: Bytes) -> Self {
        let rest = 0..batch.len();
        Self { batch, rest }
    }

    /// Returns the whole batch.
    pub(super) fn batch(&self) -> &Bytes {
        &self.batch
    }

    /// Reads the next frame of a batch that arrived at `now`; none follows one that cannot be read.
    pub(super) fn next(&mut self, now: Instant) -> Option<Result<Frame, FrameError>> {
        if self.rest.is_empty() {
            return None;
        }
        let batch = &self.batch;
        let frame = next_frame(batch, &mut self.rest).and_then(|(kind, body)| {
            read(kind, &batch[body], batch, now).map_err(|reason| FrameError::Malformed {
                kind,
                reason: reason.to_string(),
            })
        });
        if frame.is_err() {
            self.rest = 0..0;
        }
        Some(frame)
    }
}

/// Takes the next frame off the rest of a batch: its kind, and where its body is.
fn next_frame(batch: &[u8], rest: &mut Range<usize>) -> Result<(u8, Range<usize>), FrameError> {
    let (head, body) = batch[rest.clone()]
        .split_first_chunk::<4>()
        .ok_or(FrameError::Cut)?;
    let len = u32::from_le_bytes(*head) as usize;
    if len == 0 || len > body.len() {
        return Err(FrameError::Cut);
    }
    let start = rest.start + 4;
    rest.start = start + len;
    Ok((batch[start], start + 1..start + len))
}

fn read(
    kind: u8,
    body: &[u8],
    batch: &Bytes,
    now: Instant,
) -> Result<Frame, rmp_serde::decode::Error> {
    Ok(match kind {
        kind::CALL => {
            let body: CallBody<'_> = rmp_serde::from_slice(body)?;
            Frame::Call(body.id, inbound_call(&body, batch, now))
        }
        kind::REPLY => {
            let body: ReplyBody<'_> = rmp_serde::from_slice(body)?;
            Frame::Answer(body.id, Answer::Reply(batch.slice_ref(body.value)))
        }
        kind::FAILED => {
            let body: FailedBody<'_> = rmp_serde::from_slice(body)?;
            let error = CallError::from_parts(body.code, body.detail.to_owned());
            Frame::Answer(body.id, Answer::Failed(error))
        }
        kind::NOT_OWNER => {
            let body: NotOwnerBody<'_> = rmp_serde::from_slice(body)?;
            let answer = match body.claim.and_then(|claim| claim.read()) {
                Some(claim) => Answer::Moved(claim),
                None => Answer::NotOwner(Revision::new(body.revision)),
            };
            Frame::Answer(body.id, answer)
        }
        kind::CLOSING => Frame::Closing,
        kind::VOID => Frame::Void,
        _ => Frame::Unknown,
    })
}

fn inbound_call(
    body: &CallBody<'_>,
    batch: &Bytes,
    now: Instant,
) -> Result<InboundCall, CallError> {
    let invalid = |error: InvalidObjectKey| CallError::InvalidId(error.to_string());
    let key = |object_type: &str, id: &str| ObjectKey::new(object_type, id).map_err(invalid);
    let format = match body.format {
        0 => Format::MessagePack,
        1 => Format::Json,
        other => return Err(CallError::BadArguments(format!("of format {other}"))),
    };
    let path = body.path.iter().map(|(of, id)| key(of, id));
    let path = path.collect::<Result<Vec<_>, _>>()?;
    Ok(InboundCall {
        batch: None,
        call: EncodedCall {
            key: key(body.object_type, body.object_id)?,
            method: body.method.to_owned().into(),
            args: batch.slice_ref(body.args),
            format,
            deadline: deadline(now, body.deadline_ms),
            path: CallPath::from_keys(path).map_err(|e| CallError::Cycle(e.to_string()))?,
            trace: body.trace.map_or(Trace::NONE, |parent| {
                let caller = TraceContext::read(parent, body.trace_state.unwrap_or_default());
                caller.map_or(Trace::NONE, Trace::of)
            }),
        },
        known: Revision::new(body.known),
        claim: body.claim.as_ref().and_then(OwnershipBody::read),
        forwarded: body.forwarded,
    })
}

/// The longest time a call may wait, whatever its sender says: one day.
const DEADLINE_MAX: Duration = Duration::from_hours(24);

fn deadline(now: Instant, left_ms: u64) -> Instant {
    now + Duration::from_millis(left_ms).min(DEADLINE_MAX)
}
