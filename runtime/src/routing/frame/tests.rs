//! Frames come through whole, and what is no frame does no harm.

use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::ids::{Incarnation, NodeId, Token};
use crate::placement::Owner;

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
        claim: None,
        forwarded: false,
    }
}

fn ownership() -> Ownership {
    Ownership {
        shard: 3,
        owner: Owner {
            node: NodeId::new("b").unwrap(),
            incarnation: Incarnation::new(8),
        },
        token: Token::of(2, Revision::new(11)),
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
        claim,
        forwarded,
        batch: _,
    } = inbound;
    assert_eq!((claim, *forwarded), (&None, false));
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
fn n1_a_forwarded_call_names_the_new_ownership() {
    let (now, mut batch) = (Instant::now(), Vec::new());
    let call = call(now);
    let forwarded = OutboundCall {
        claim: Some(ownership()),
        forwarded: true,
        ..outbound(&call, 11)
    };
    put_call(&mut batch, 7, &forwarded, now);
    let frames = read_all(batch, now);
    let [Ok(Frame::Call(7, Ok(inbound)))] = &frames[..] else {
        panic!("{frames:?}");
    };
    assert!(inbound.forwarded);
    assert_eq!(inbound.claim.as_deref(), Some(&ownership()));
}

#[test]
fn claims_about_impossible_nodes_are_none() {
    let claim = ownership();
    let body = NotOwnerBody {
        id: 5,
        revision: 11,
        claim: Some(OwnershipBody {
            node: "no node/",
            ..(&claim).into()
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
        Answer::Moved(Box::new(ownership())),
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
        claim: None,
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
