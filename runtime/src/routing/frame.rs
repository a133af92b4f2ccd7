//! The frames that go between two nodes inside `Batch.frames`.
//!
//! A frame is its length (4 bytes, little endian, of what follows), its kind (1 byte) and a
//! `MessagePack` map with short names. Unknown kinds and unknown names are skipped, so that a
//! newer node can send more during a rolling update. Nothing here trusts what it reads.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer};
use tokio::time::Instant;

use super::news::Ownership;
use crate::error::CallError;
use crate::ids::{Incarnation, InvalidObjectKey, NodeId, ObjectKey, Revision, Token};
use crate::object::{CallPath, EncodedCall, Format};
use crate::placement::{Owner, Parcel};
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
    pub(super) news: Option<Ownership>,
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
    /// Who owns the shard, as the sender knows.
    pub(super) news: Option<Box<Ownership>>,
    /// Its sender has it from a third node.
    pub(super) forwarded: bool,
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

#[derive(Serialize, Deserialize)]
struct CallBody<'a> {
    #[serde(rename = "i")]
    id: u64,
    #[serde(rename = "t")]
    object_type: &'a str,
    #[serde(rename = "o")]
    object_id: &'a str,
    #[serde(rename = "m")]
    method: &'a str,
    #[serde(rename = "a", serialize_with = "as_bytes")]
    args: &'a [u8],
    #[serde(rename = "f")]
    format: u8,
    /// Milliseconds that the caller still waits.
    #[serde(rename = "d")]
    deadline_ms: u64,
    #[serde(rename = "r")]
    known: u64,
    /// Types and IDs of the objects that wait for this call, outermost first.
    #[serde(rename = "p", default, skip_serializing_if = "Vec::is_empty")]
    path: Vec<(&'a str, &'a str)>,
    #[serde(borrow, rename = "n", default, skip_serializing_if = "Option::is_none")]
    news: Option<OwnershipBody<'a>>,
    #[serde(rename = "w", default, skip_serializing_if = "is_false")]
    forwarded: bool,
    /// W3C `traceparent` of a call that is sampled …
    #[serde(borrow, rename = "x", default, skip_serializing_if = "Option::is_none")]
    trace: Option<&'a str>,
    /// … and its `tracestate`, unless that is empty.
    #[serde(borrow, rename = "y", default, skip_serializing_if = "Option::is_none")]
    trace_state: Option<&'a str>,
}

/// Who owns the shard of the call in question.
#[derive(Serialize, Deserialize)]
struct OwnershipBody<'a> {
    #[serde(rename = "c")]
    shard: u32,
    #[serde(rename = "n")]
    node: &'a str,
    #[serde(rename = "l")]
    incarnation: u64,
    #[serde(rename = "k")]
    token: u64,
    /// Revision and attempt.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    parcel: Option<(u64, u64)>,
}

#[derive(Serialize, Deserialize)]
struct ReplyBody<'a> {
    #[serde(rename = "i")]
    id: u64,
    #[serde(rename = "v", serialize_with = "as_bytes")]
    value: &'a [u8],
}

#[derive(Serialize, Deserialize)]
struct FailedBody<'a> {
    #[serde(rename = "i")]
    id: u64,
    #[serde(rename = "c")]
    code: &'a str,
    #[serde(rename = "e")]
    detail: &'a str,
}

/// `Moved` is a `NotOwner` that names the owner, so that a node which does not know it still knows
/// that the call did not run.
#[derive(Serialize, Deserialize)]
struct NotOwnerBody<'a> {
    #[serde(rename = "i")]
    id: u64,
    #[serde(rename = "r")]
    revision: u64,
    #[serde(borrow, rename = "n", default, skip_serializing_if = "Option::is_none")]
    news: Option<OwnershipBody<'a>>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(value: &bool) -> bool {
    !value
}

impl<'a> From<&'a Ownership> for OwnershipBody<'a> {
    fn from(news: &'a Ownership) -> Self {
        Self {
            shard: news.shard,
            node: news.owner.node.as_str(),
            incarnation: news.owner.incarnation.get(),
            token: news.token.get(),
            parcel: news.parcel.map(|p| (p.revision.get(), p.attempt)),
        }
    }
}

impl OwnershipBody<'_> {
    /// News of a node that cannot exist is no news.
    fn read(&self) -> Option<Box<Ownership>> {
        let owner = Owner {
            node: NodeId::new(self.node).ok()?,
            incarnation: Incarnation::new(self.incarnation),
        };
        Some(Box::new(Ownership {
            shard: self.shard,
            owner,
            token: Token::from_raw(self.token),
            parcel: self.parcel.map(|(revision, attempt)| Parcel {
                revision: Revision::new(revision),
                attempt,
            }),
        }))
    }
}

/// Without this, serde would write a sequence of numbers.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn as_bytes<S: Serializer>(bytes: &&[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
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
            news: outbound.news.as_ref().map(Into::into),
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
        Answer::Moved(news) => put_not_owner(batch, id, news.token.revision(), Some(&**news)),
        Answer::NotOwner(revision) => put_not_owner(batch, id, *revision, None),
    }
}

fn put_not_owner(batch: &mut Vec<u8>, id: u64, revision: Revision, news: Option<&Ownership>) {
    let body = NotOwnerBody {
        id,
        revision: revision.get(),
        news: news.map(Into::into),
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
    let mut rest = 0..batch.len();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let frame = next_frame(batch, &mut rest).and_then(|(kind, body)| {
            read(kind, &batch[body], batch, now).map_err(|reason| FrameError::Malformed {
                kind,
                reason: reason.to_string(),
            })
        });
        if frame.is_err() {
            rest = 0..0;
        }
        Some(frame)
    })
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
            let answer = match body.news.and_then(|news| news.read()) {
                Some(news) => Answer::Moved(news),
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
        news: body.news.as_ref().and_then(OwnershipBody::read),
        forwarded: body.forwarded,
    })
}

/// The longest time a call may wait, whatever its sender says: one day.
const DEADLINE_MAX: Duration = Duration::from_hours(24);

fn deadline(now: Instant, left_ms: u64) -> Instant {
    now + Duration::from_millis(left_ms).min(DEADLINE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn call(now: Instant) -> EncodedCall {
        EncodedCall {
            key: ObjectKey::new("Counter", "ä/ö").unwrap(),
            method: "add".into(),
            args: Bytes::from_static(&[7; 300]),
            format: Format::Json,
            deadline: now + Duration::from_millis(1500),
            path: CallPath::from_keys([ObjectKey::new("Bank", "b").unwrap()]).unwrap(),
            trace: Trace::NONE,
        }
    }

    fn outbound(call: &EncodedCall, known: u64) -> OutboundCall<'_> {
        OutboundCall {
            call,
            known: Revision::new(known),
            news: None,
            forwarded: false,
        }
    }

    fn ownership(parcel: Option<Parcel>) -> Ownership {
        Ownership {
            shard: 3,
            owner: Owner {
                node: NodeId::new("b").unwrap(),
                incarnation: Incarnation::new(8),
            },
            token: Token::of(2, Revision::new(11)),
            parcel,
        }
    }

    fn read_all(batch: Vec<u8>, now: Instant) -> Vec<Result<Frame, FrameError>> {
        frames(&Bytes::from(batch), now).collect()
    }

    /// A call as versions before traces read it.
    #[derive(Deserialize)]
    struct CallBefore<'a> {
        #[serde(rename = "i")]
        id: u64,
        #[serde(rename = "m")]
        method: &'a str,
    }

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_sampled_call_carries_its_trace_which_older_nodes_pass_over() {
        let now = Instant::now();
        for state in ["", "a=1,b=2"] {
            let trace = Trace::of(TraceContext::read(PARENT, state).unwrap());
            let sampled = EncodedCall { trace, ..call(now) };
            let mut batch = Vec::new();
            put_call(&mut batch, 7, &outbound(&sampled, 5), now);
            let before: CallBefore<'_> = rmp_serde::from_slice(&batch[HEAD_LEN..]).unwrap();
            assert_eq!((before.id, before.method), (7, "add"));
            let frames = read_all(batch, now);
            let [Ok(Frame::Call(7, Ok(inbound)))] = &frames[..] else {
                panic!("{frames:?}");
            };
            let context = inbound
                .call
                .trace
                .context()
                .and_then(TraceContext::of)
                .unwrap();
            assert_eq!(
                (context.parent.as_str(), context.state.as_str()),
                (PARENT, state)
            );
        }
    }

    #[test]
    fn a_call_that_is_not_sampled_carries_nothing_and_garbage_is_no_trace() {
        let now = Instant::now();
        let mut plain = Vec::new();
        put_call(&mut plain, 7, &outbound(&call(now), 5), now);
        let trace = Trace::of(TraceContext::read(PARENT, "").unwrap());
        let sampled = EncodedCall { trace, ..call(now) };
        let mut with_trace = Vec::new();
        put_call(&mut with_trace, 7, &outbound(&sampled, 5), now);
        // A short name, and a text of 55 bytes behind a head of two.
        assert_eq!(with_trace.len(), plain.len() + 2 + 2 + 55);
        let start = with_trace.len() - 55;
        with_trace[start..].fill(b'-');
        for batch in [plain, with_trace] {
            let frames = read_all(batch, now);
            let [Ok(Frame::Call(7, Ok(inbound)))] = &frames[..] else {
                panic!("{frames:?}");
            };
            assert!(!inbound.call.trace.is_sampled());
        }
    }

    #[test]
    fn a_call_comes_through_whole() {
        let now = Instant::now();
        let mut batch = Vec::new();
        put_call(&mut batch, 77, &outbound(&call(now), 5), now);
        let later = now + Duration::from_secs(9);
        let frames = read_all(batch, later);
        let [Ok(Frame::Call(77, Ok(inbound)))] = &frames[..] else {
            panic!("{frames:?}");
        };
        let sent = call(now);
        let InboundCall {
            call,
            known,
            news,
            forwarded,
        } = inbound;
        assert_eq!((news, *forwarded), (&None, false));
        assert_eq!(
            (&call.key, &call.method, &call.args),
            (&sent.key, &sent.method, &sent.args)
        );
        assert_eq!((call.format, *known), (Format::Json, Revision::new(5)));
        assert_eq!(call.path.to_string(), "Bank/b");
        assert_eq!(
            call.deadline,
            later + Duration::from_millis(1500),
            "time left travels"
        );
    }

    #[test]
    fn n1_a_forwarded_call_names_the_new_ownership_with_its_parcel() {
        let (now, mut batch) = (Instant::now(), Vec::new());
        let parcel = Parcel {
            revision: Revision::new(9),
            attempt: 4,
        };
        let call = call(now);
        let forwarded = OutboundCall {
            news: Some(ownership(Some(parcel))),
            forwarded: true,
            ..outbound(&call, 11)
        };
        put_call(&mut batch, 7, &forwarded, now);
        let frames = read_all(batch, now);
        let [Ok(Frame::Call(7, Ok(inbound)))] = &frames[..] else {
            panic!("{frames:?}");
        };
        assert!(inbound.forwarded);
        assert_eq!(inbound.news.as_deref(), Some(&ownership(Some(parcel))));
    }

    #[test]
    fn news_of_a_node_that_cannot_exist_is_no_news() {
        let news = ownership(None);
        let body = NotOwnerBody {
            id: 5,
            revision: 11,
            news: Some(OwnershipBody {
                node: "no node/",
                ..(&news).into()
            }),
        };
        let mut batch = Vec::new();
        put(&mut batch, kind::NOT_OWNER, &body);
        let frames = read_all(batch, Instant::now());
        assert!(
            matches!(frames[0], Ok(Frame::Answer(5, Answer::NotOwner(r))) if r.get() == 11),
            "{frames:?}"
        );
    }

    #[test]
    fn answers_of_every_kind_come_through() {
        let answers = [
            Answer::Reply(Bytes::from_static(b"12")),
            Answer::Failed(CallError::Panicked("why".into())),
            Answer::NotOwner(Revision::new(3)),
            Answer::Moved(Box::new(ownership(None))),
        ];
        let mut batch = Vec::new();
        for (id, answer) in (0..).zip(&answers) {
            put_answer(&mut batch, id, answer);
        }
        put_closing(&mut batch);
        let frames = read_all(batch, Instant::now());
        for ((id, sent), got) in (0..).zip(&answers).zip(&frames) {
            assert!(
                matches!(got, Ok(Frame::Answer(i, answer)) if *i == id && answer == sent),
                "{got:?}"
            );
        }
        assert!(matches!(frames[4], Ok(Frame::Closing)));
    }

    #[test]
    fn a_call_made_void_means_nothing_and_harms_no_neighbour() {
        let now = Instant::now();
        let mut batch = Vec::new();
        put_closing(&mut batch);
        let start = batch.len();
        put_call(&mut batch, 1, &outbound(&call(now), 0), now);
        put_closing(&mut batch);
        make_void(&mut batch, start);
        let frames = read_all(batch, now);
        assert!(
            matches!(
                frames[..],
                [Ok(Frame::Closing), Ok(Frame::Void), Ok(Frame::Closing)]
            ),
            "{frames:?}"
        );
    }

    #[test]
    fn names_and_kinds_of_a_newer_version_are_skipped() {
        #[derive(Serialize)]
        struct Newer {
            i: u64,
            trace: &'static str,
            r: u64,
        }
        let mut batch = Vec::new();
        put(&mut batch, 200, &"whatever");
        let newer = Newer {
            i: 4,
            trace: "00-af",
            r: 9,
        };
        put(&mut batch, kind::NOT_OWNER, &newer);
        let frames = read_all(batch, Instant::now());
        assert!(matches!(frames[0], Ok(Frame::Unknown)));
        assert!(
            matches!(frames[1], Ok(Frame::Answer(4, Answer::NotOwner(r))) if r.get() == 9),
            "{frames:?}"
        );
    }

    #[test]
    fn p19_a_call_with_a_bad_id_still_tells_whom_to_answer() {
        let mut body = CallBody {
            id: 6,
            object_type: "Counter",
            object_id: "",
            method: "add",
            args: &[],
            format: 0,
            deadline_ms: u64::MAX,
            known: 0,
            path: vec![],
            news: None,
            forwarded: false,
            trace: None,
            trace_state: None,
        };
        let mut batch = Vec::new();
        put(&mut batch, kind::CALL, &body);
        (body.object_id, body.format) = ("x", 9);
        put(&mut batch, kind::CALL, &body);
        let frames = read_all(batch, Instant::now());
        assert!(matches!(
            frames[0],
            Ok(Frame::Call(6, Err(CallError::InvalidId(_))))
        ));
        assert!(matches!(
            frames[1],
            Ok(Frame::Call(6, Err(CallError::BadArguments(_))))
        ));
    }

    proptest! {
        #[test]
        fn garbage_is_refused_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = read_all(bytes, Instant::now());
        }

        #[test]
        fn a_broken_body_is_refused_without_harm(
            kind in 0_u8..8,
            body in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let mut batch = u32::try_from(body.len() + 1).unwrap().to_le_bytes().to_vec();
            batch.push(kind);
            batch.extend(body);
            prop_assert_eq!(read_all(batch, Instant::now()).len(), 1);
        }

        #[test]
        fn a_flipped_byte_is_refused_or_read_without_harm(at in any::<prop::sample::Index>(), to in any::<u8>()) {
            let now = Instant::now();
            let mut batch = Vec::new();
            put_call(&mut batch, 1, &outbound(&call(now), 0), now);
            put_answer(&mut batch, 2, &Answer::Reply(Bytes::from_static(b"value")));
            let at = at.index(batch.len());
            batch[at] = to;
            let _ = read_all(batch, now);
        }
    }
}
