//! Calls between two processes, beside plain unary gRPC between the same two.

use std::io::Write;

use anyhow::Context;
use steading::Node;
use steading::ids::NodeId;
use steading::object::Object;
use steading::placement::Weight;
use steading_proto::v1::objects_client::ObjectsClient;
use steading_proto::v1::objects_server::{Objects, ObjectsServer};
use steading_proto::v1::{CallReply, CallRequest, LocateReply, LocateRequest};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};

use super::BenchArgs;
use super::callers::{Caller, Load, load};
use super::children::{Child, Etcd, NodeProcess};
use super::objects::Tally;
use super::report::{Figure, Goal};
use crate::exit::Exit;

/// So many callers, and how many times the baseline to reach.
const CASES: [(usize, f64); 3] = [(1, 1.1), (64, 6.0), (512, 12.0)];

/// What the echo carries: as many bytes as our arguments.
const PAYLOAD: &[u8] = br#"{"n":1}"#;

/// The baseline: a server that answers what it was sent.
struct Echo;

#[tonic::async_trait]
impl Objects for Echo {
    async fn call(&self, request: Request<CallRequest>) -> Result<Response<CallReply>, Status> {
        Ok(Response::new(CallReply {
            json: request.into_inner().json,
        }))
    }

    async fn locate(&self, _: Request<LocateRequest>) -> Result<Response<LocateReply>, Status> {
        Err(Status::unimplemented("it only echoes"))
    }
}

/// Serves the baseline until it is killed; prints its address.
pub(super) async fn echo() -> anyhow::Result<Exit> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "http://{}", listener.local_addr()?)?;
    let server = Server::builder()
        .tcp_nodelay(true)
        .add_service(ObjectsServer::new(Echo));
    server
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await?;
    Ok(Exit::Done)
}

struct EchoCaller(ObjectsClient<Channel>);

impl Caller for EchoCaller {
    async fn call(&mut self, _: u64) {
        let request = CallRequest {
            json: PAYLOAD.into(),
            ..CallRequest::default()
        };
        self.0.call(request).await.expect("the echo answers");
    }
}

/// Calls objects that live on the other node, one after the other.
struct ObjectCaller {
    objects: Vec<<Tally as Object>::Handle>,
}

impl Caller for ObjectCaller {
    async fn call(&mut self, n: u64) {
        let index = usize::try_from(n).expect("64 bits") % self.objects.len();
        self.objects[index]
            .add(1)
            .await
            .expect("a remote call succeeds");
    }
}

/// Measures each number of callers.
pub(super) async fn measure(args: &BenchArgs) -> anyhow::Result<Vec<Figure>> {
    let etcd = Etcd::start(&args.etcd_program).await?;
    let other = NodeProcess::start(&etcd, "/remote/", "other").await?;
    other.ready().await?;
    let gate = Node::builder()
        .id(NodeId::new("caller")?)
        .etcd([etcd.endpoint()])
        .prefix("/remote/")
        .weight(Weight::GATE)
        .start()
        .await?;
    let mut echo = Child::part(&["echo"])?;
    let echo = ObjectsClient::connect(echo.next_line().await?)
        .await
        .context("no echo");
    let echo = echo?;

    let mut figures = Vec::new();
    for (callers, times) in CASES {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..args.rounds {
            // The other node owns every shard: the caller is a gate.
            let object = |i: usize| gate.object::<Tally>(format!("object-{i:09}"));
            let each = |i: usize| ObjectCaller {
                objects: (0..10).map(|k| object(i * 10 + k)).collect(),
            };
            ours.push(load((0..callers).map(each).collect(), args.time).await);
            let each = |_| EchoCaller(echo.clone());
            theirs.push(load((0..callers).map(each).collect(), args.time).await);
        }
        figures.extend(figures_of(callers, times, &ours, &theirs));
    }
    gate.stop().await;
    Ok(figures)
}

fn figures_of(callers: usize, times: f64, ours: &[Load], theirs: &[Load]) -> [Figure; 3] {
    let figure = |what: &str, unit, value: fn(&Load) -> f64| {
        Figure::new(
            format!("remote {what}, callers: {callers}"),
            unit,
            ours.iter().map(value).collect(),
        )
        .beside("tonic unary echo", theirs.iter().map(value).collect())
    };
    [
        figure("calls", "calls/s", |load| load.per_second).goal(Goal::TimesBaseline(times)),
        figure("call p50", "µs", |load| load.p50_us),
        figure("call p99", "µs", |load| load.p99_us).goal(Goal::NoWorse),
    ]
}
