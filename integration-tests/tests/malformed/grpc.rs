//! Messages that are no protobuf, or not the wanted one, to every method; and frames that are no HTTP/2.

use std::time::Duration;

use axum::http::uri::PathAndQuery;
use bytes::{Buf, BufMut, Bytes};
use futures::{StreamExt, stream};
use prost::Message;
use steading_proto::v1 as proto;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::bytes::Chance;

/// Requests at once.
const REQUESTS_MAX: usize = 12;

/// How long one request may take; streams that stay open are left then.
const LIMIT: Duration = Duration::from_millis(500);

/// What opens a link: the metadata that the node checks first.
#[derive(Clone, Debug)]
pub(crate) struct Greeting {
    pub(crate) cluster: String,
    pub(crate) node: String,
    pub(crate) incarnation: String,
}

/// Every method, and messages that it takes.
fn methods() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let mut methods = vec![
        ("/grpc.health.v1.Health/Check", vec![b"\x0a\x01x".to_vec()]),
        ("/grpc.health.v1.Health/Watch", vec![b"\x0a\x01x".to_vec()]),
        (
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            vec![
                b"\x22\x14steading.v1.Objects".to_vec(),
                b"\x3a\x00".to_vec(),
            ],
        ),
        ("/steading.v1.Admin/Report", vec![Vec::new()]),
        ("/steading.v1.Admin/Metrics", vec![Vec::new()]),
        ("/steading.v1.Admin/ListTypes", vec![Vec::new()]),
        ("/steading.v1.Admin/Probe", vec![Vec::new()]),
        ("/steading.v1.Nothing/Here", vec![Vec::new()]),
    ];
    let call = proto::CallRequest {
        r#type: "Counter".into(),
        id: "m".into(),
        method: "add".into(),
        json: br#"{"n":1}"#.to_vec().into(),
    };
    let nasty_call = proto::CallRequest {
        r#type: "Coun\u{1b}[2Jter\n".into(),
        id: "a\nb\u{202e}".into(),
        ..call.clone()
    };
    methods.push((
        "/steading.v1.Objects/Call",
        vec![call.encode_to_vec(), nasty_call.encode_to_vec()],
    ));
    let locate = proto::LocateRequest {
        r#type: "Counter".into(),
        id: "shard#9999999999/\u{1b}".into(),
    };
    methods.push(("/steading.v1.Objects/Locate", vec![locate.encode_to_vec()]));
    let list = proto::ListObjectsRequest {
        r#type: Some("Counter".into()),
        shard: Some(u32::MAX),
        limit: u32::MAX,
        after: Some("Counter/\n".into()),
        prefix: Some("\u{1b}".into()),
        busiest: true,
    };
    methods.push(("/steading.v1.Admin/ListObjects", vec![list.encode_to_vec()]));
    let ask = proto::AskRequest {
        shard: Some(u32::MAX),
    };
    methods.push(("/steading.v1.Operator/Ask", vec![ask.encode_to_vec()]));
    methods.push(("/steading.v1.Operator/Order", orders()));
    // Never a name: a good one would drain the node.
    let drain = proto::DrainRequest {
        via: "\u{1b}".repeat(20),
        undo: false,
    };
    methods.push(("/steading.v1.Operator/Drain", vec![drain.encode_to_vec()]));
    methods.push(("/steading.v1.Transfer/Send", pieces()));
    methods.push(("/steading.v1.Peer/Link", batches()));
    methods
}

fn orders() -> Vec<Vec<u8>> {
    use proto::order_request::Command;
    let moves = vec![proto::MoveShard {
        shard: u32::MAX,
        node: "gone\n".into(),
    }];
    let commands = [
        Command::Unpin(u32::MAX),
        Command::Move(proto::MoveShards { moves }),
        Command::Cordon("\u{1b}[2J".into()),
        Command::Release(7),
        Command::Abort(proto::AbortPlan {
            plan: u64::MAX,
            reverse: true,
        }),
    ];
    let order = |command| proto::OrderRequest {
        via: "x".repeat(4000),
        timeout_ms: u64::MAX,
        command: Some(command),
    };
    commands
        .map(|command| order(command).encode_to_vec())
        .into()
}

fn pieces() -> Vec<Vec<u8>> {
    use proto::piece::Piece;
    let state = proto::ObjectState {
        r#type: "Counter".into(),
        id: "\u{1b}".into(),
        state: vec![0xff; 64].into(),
        idle_ms: u64::MAX,
        timers: vec![proto::TimerState {
            name: "\n".into(),
            remaining_us: u64::MAX,
            period_us: u64::MAX,
            ..proto::TimerState::default()
        }],
    };
    let pieces = [
        Piece::Name(proto::ParcelName {
            shard: 3,
            revision: u64::MAX,
            attempt: vec![0xff; 64].into(),
        }),
        Piece::States(proto::States {
            objects: vec![state],
        }),
        Piece::Sum(proto::ParcelSum {
            objects: u64::MAX,
            bytes: u64::MAX,
            ..proto::ParcelSum::default()
        }),
    ];
    pieces
        .map(|piece| proto::Piece { piece: Some(piece) }.encode_to_vec())
        .into()
}

/// Frames of every kind: a length, a kind and a map, each of them wrong in some batch.
fn batches() -> Vec<Vec<u8>> {
    let frame = |kind: u8, body: &[u8]| {
        let len = u32::try_from(body.len() + 1).expect("short");
        [&len.to_le_bytes()[..], &[kind], body].concat()
    };
    let bodies: [&[u8]; 5] = [
        b"\x80",
        b"\x81\xa1i\x01",
        b"\xdf\xff\xff\xff\xff",
        b"\x86\xa1i\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xa1t\xa7Counter\xa1o\xa1\x1b\xa1m\xa3add\xa1a\xc4\x00\xa1d\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
        &[0x91; 300], // Nested as deep as it goes.
    ];
    let frames = (0..8).flat_map(|kind| bodies.map(|body| frame(kind, body)));
    let wrong = [
        b"\xff\xff\xff\xff\x00".to_vec(),
        b"\x00\x00\x00\x00".to_vec(),
        b"\x01".to_vec(),
    ];
    let batch = |frames: Vec<u8>| {
        let frames = frames.into();
        proto::Batch { frames }.encode_to_vec()
    };
    frames.chain(wrong).map(batch).collect()
}

/// Sends inputs to every method of a gRPC server. Returns how many were sent.
pub(crate) async fn send_all(
    address: &str,
    greeting: &Greeting,
    mut chance: Chance,
    count: usize,
) -> usize {
    let channel = Endpoint::from_shared(format!("http://{address}")).expect("a URL");
    let channel = channel.connect_lazy();
    let methods = methods();
    let mut inputs = Vec::new();
    for (method, seeds) in &methods {
        inputs.extend(seeds.iter().map(|seed| (*method, vec![seed.clone()])));
    }
    while inputs.len() < count {
        let (method, seeds) = &methods[chance.below(methods.len())];
        let messages = 1 + chance.below(3);
        let messages = (0..messages).map(|_| {
            let seed = &seeds[chance.below(seeds.len())];
            chance.changed(seed)
        });
        inputs.push((*method, messages.collect()));
    }
    let sent = stream::iter(inputs).map(|(method, messages)| {
        let (channel, greeting) = (channel.clone(), greeting.clone());
        async move {
            // Whatever it answers is fine, and so is silence on a stream that stays open.
            drop(timeout(LIMIT, send(channel, method, messages, &greeting)).await);
        }
    });
    sent.buffer_unordered(REQUESTS_MAX).count().await
}

async fn send(
    channel: Channel,
    method: &'static str,
    messages: Vec<Vec<u8>>,
    greeting: &Greeting,
) -> Result<(), Status> {
    let mut grpc = Grpc::new(channel);
    grpc.ready()
        .await
        .map_err(|error| Status::unknown(error.to_string()))?;
    let messages = messages.into_iter().map(Bytes::from);
    let mut request = Request::new(stream::iter(messages.collect::<Vec<_>>()));
    greet(request.metadata_mut(), greeting);
    let answer = grpc
        .streaming(request, PathAndQuery::from_static(method), Raw)
        .await?;
    let mut answers = answer.into_inner();
    while answers.message().await?.is_some() {}
    Ok(())
}

fn greet(metadata: &mut MetadataMap, greeting: &Greeting) {
    let fields = [
        ("steading-wire", "1"),
        ("steading-cluster", &greeting.cluster),
        ("steading-node", "fuzz"),
        ("steading-to", &greeting.node),
        ("steading-incarnation", &greeting.incarnation),
    ];
    for (name, value) in fields {
        metadata.insert(name, value.parse().expect("ASCII"));
    }
}

/// Frames that no client of HTTP/2 sends.
pub(crate) fn frames() -> Vec<Vec<u8>> {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = b"\0\0\0\x04\0\0\0\0\0";
    let frame = |kind: u8, flags: u8, stream: u32, body: &[u8]| {
        let len = u32::try_from(body.len()).expect("short").to_be_bytes();
        let head = [len[1], len[2], len[3], kind, flags];
        [&head[..], &stream.to_be_bytes(), body].concat()
    };
    let mut inputs = vec![preface[..9].to_vec(), settings.to_vec()];
    for kind in 0..12 {
        for (flags, stream) in [(0, 0), (0xff, 1), (5, 0x7fff_ffff), (4, 2)] {
            for body in [&b""[..], &[0xff; 40], &[0x82, 0x86, 0x84, 0xbf, 0x00, 0x7f]] {
                let frame = frame(kind, flags, stream, body);
                inputs.push([&preface[..], settings, &frame].concat());
            }
        }
    }
    inputs
}

/// Passes messages through as bytes.
#[derive(Clone, Copy, Debug)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let len = buffer.remaining();
        Ok(Some(buffer.copy_to_bytes(len)))
    }
}
