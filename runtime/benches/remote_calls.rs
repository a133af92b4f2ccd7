//! Calls per second between two processes over loopback TCP, beside a plain tonic unary echo of
//! the same payload.
//!
//! `cargo bench --bench remote_calls [-- SECONDS ROUNDS]` starts itself again as the process that
//! hosts the objects. The two ways take turns, since machines have moods; medians are printed.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use steading::clock::Clock;
use steading::connections::Connections;
use steading::coordination::{OwnerChecks, SharedView};
use steading::fence::Fence;
use steading::ids::{Incarnation, NodeId, ObjectKey, Revision, ShardCount, Token};
use steading::object::{
    CallPath, EncodedCall, Format, Host, HostSettings, PAYLOAD_LEN_MAX, Registry, RemoteCalls,
};
use steading::placement::{ClusterMeta, ClusterView, News, NodeRecord, Owner, OwnerRecord};
use steading::routing::network::{Network, TcpNetwork};
use steading::routing::{Router, RouterSettings, serve};
use steading::storage::MemoryStorage;
use steading::telemetry::{Metrics, Trace};
use steading::{Object, Tasks, methods};
use steading_proto::v1::objects_client::ObjectsClient;
use steading_proto::v1::objects_server::{Objects, ObjectsServer};
use steading_proto::v1::{CallReply, CallRequest, LocateReply, LocateRequest};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

/// How many objects the calls go to.
const OBJECTS: usize = 1000;

const PAYLOAD: &str = "0123456789abcdef0123456789abcdef";

#[derive(Default, Object)]
struct Echo;

#[methods]
impl Echo {
    async fn echo(&self, text: String) -> String {
        text
    }
}

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let args: Vec<_> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    let runtime = tokio::runtime::Runtime::new()?;
    if args.first().is_some_and(|first| first == "serve") {
        return runtime.block_on(host());
    }
    let number =
        |at: usize, default: u64| args.get(at).and_then(|a| a.parse().ok()).unwrap_or(default);
    let (seconds, rounds) = (number(0, 2), number(1, 3));
    let mut child = Command::new(std::env::current_exe()?)
        .arg("serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let measured = runtime.block_on(measure(&mut child, Duration::from_secs(seconds), rounds));
    drop(child.stdin.take()); // The host ends when its input does.
    child.wait()?;
    measured
}

/// Hosts the objects, and the unary echo, until the input ends.
async fn host() -> Result<(), Failure> {
    let connections = Connections::for_tests();
    let listener = TcpNetwork.listen("127.0.0.1:0", &connections).await?;
    let tasks = Tasks::new();
    let address = listener.address.to_string();
    let (router, host) = node("b", &view(&address), &tasks);
    for shard in ShardCount::DEFAULT.shards() {
        host.open(shard, Token::from_raw(1));
    }
    tasks.spawn_work(serve(
        router,
        listener,
        Routes::default(),
        Duration::from_secs(20),
        std::future::pending(),
    ));
    let plain = TcpNetwork.listen("127.0.0.1:0", &connections).await?;
    let plain_address = plain.address;
    let server = Server::builder().add_service(ObjectsServer::new(Unary));
    tasks.spawn_work(server.serve_with_incoming(plain.incoming));
    let mut out = std::io::stdout();
    writeln!(out, "{address} {plain_address}")?;
    tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await??;
    Ok(())
}

async fn measure(child: &mut Child, time: Duration, rounds: u64) -> Result<(), Failure> {
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    let (address, plain_address) = line.trim().split_once(' ').ok_or("no addresses")?;
    let (router, _host) = node("a", &view(address), &Tasks::new());
    let channel = Endpoint::from_shared(format!("http://{plain_address}"))?
        .tcp_nodelay(true)
        .connect()
        .await?;
    let mut out = std::io::stdout();
    writeln!(
        out,
        "callers | ours/s | p50 us | p99 us | unary/s | p50 us | p99 us | ratio"
    )?;
    for callers in [1, 64, 512] {
        let (mut ours, mut unary) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let (channel, router) = (channel.clone(), router.clone());
            unary.push(run(callers, time, move |_| plain_call(channel.clone())).await?);
            ours.push(run(callers, time, move |i| object_call(router.clone(), i)).await?);
        }
        let (ours, unary) = (Figures::median(ours), Figures::median(unary));
        let ratio = ours.rate / unary.rate;
        writeln!(out, "{callers} | {ours} | {unary} | {ratio:.2}")?;
    }
    Ok(())
}

async fn object_call(router: Arc<Router>, i: usize) -> Result<(), Failure> {
    #[derive(serde::Serialize)]
    struct Args<'a> {
        text: &'a str,
    }
    let call = EncodedCall {
        key: ObjectKey::new("Echo", format!("object-{}", i % OBJECTS))?,
        method: "echo".into(),
        args: rmp_serde::to_vec_named(&Args { text: PAYLOAD })?.into(),
        format: Format::MessagePack,
        deadline: Instant::now() + Duration::from_secs(10),
        path: CallPath::default(),
        trace: Trace::NONE,
    };
    let reply = router.call(call).await?;
    let reply: String = rmp_serde::from_slice(&reply)?;
    if reply == PAYLOAD {
        Ok(())
    } else {
        Err("another reply".into())
    }
}

async fn plain_call(channel: Channel) -> Result<(), Failure> {
    let request = CallRequest {
        r#type: "Echo".into(),
        id: "object-1".into(),
        method: "echo".into(),
        json: PAYLOAD.into(),
    };
    let reply = ObjectsClient::new(channel).call(request).await?;
    if reply.into_inner().json == PAYLOAD {
        Ok(())
    } else {
        Err("another reply".into())
    }
}

/// Calls per second, and how long calls took in microseconds.
struct Figures {
    rate: f64,
    p50: f64,
    p99: f64,
}

impl Figures {
    /// Takes the median of each figure.
    fn median(mut rounds: Vec<Self>) -> Self {
        let mut median = |of: fn(&Self) -> f64| {
            rounds.sort_by(|a, b| of(a).total_cmp(&of(b)));
            of(&rounds[rounds.len() / 2])
        };
        Self {
            rate: median(|figures| figures.rate),
            p50: median(|figures| figures.p50),
            p99: median(|figures| figures.p99),
        }
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.0} | {:.0} | {:.0}", self.rate, self.p50, self.p99)
    }
}

/// Lets so many callers call, each one call after the other.
async fn run<F>(
    callers: usize,
    time: Duration,
    call: impl Fn(usize) -> F + Clone + Send + 'static,
) -> Result<Figures, Failure>
where
    F: Future<Output = Result<(), Failure>> + Send,
{
    call(0).await?;
    let (start, mut set) = (Instant::now(), JoinSet::new());
    for caller in 0..callers {
        let call = call.clone();
        set.spawn(async move {
            let mut times = Vec::new();
            let mut now = Instant::now();
            while start.elapsed() < time {
                call(caller * 7919 + times.len()).await?;
                let end = Instant::now();
                times.push((end - now).as_secs_f64() * 1e6);
                now = end;
            }
            Ok::<_, Failure>(times)
        });
    }
    let mut times = Vec::new();
    while let Some(joined) = set.join_next().await {
        times.append(&mut joined??);
    }
    let count = u32::try_from(times.len())?;
    let rate = f64::from(count) / start.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    Ok(Figures {
        rate,
        p50: times[times.len() / 2],
        p99: times[times.len() * 99 / 100],
    })
}

/// The baseline: answers what it gets.
struct Unary;

#[tonic::async_trait]
impl Objects for Unary {
    async fn call(&self, request: Request<CallRequest>) -> Result<Response<CallReply>, Status> {
        let json = request.into_inner().json;
        Ok(Response::new(CallReply { json }))
    }

    async fn locate(&self, _: Request<LocateRequest>) -> Result<Response<LocateReply>, Status> {
        Err(Status::unimplemented("not measured"))
    }
}

/// A cluster in which node `b`, at this address, owns every shard.
fn view(address: &str) -> ClusterView {
    let mut view = ClusterView::empty(ClusterMeta::new("bench", ShardCount::DEFAULT));
    let record = NodeRecord {
        grpc: address.into(),
        version: "bench".into(),
        ..NodeRecord::of(Incarnation::new(1))
    };
    let owner = Owner {
        node: NodeId::new("b").expect("a good name"),
        incarnation: record.incarnation,
    };
    view.apply(News::Node(owner.node.clone(), Some(record)));
    for shard in ShardCount::DEFAULT.shards() {
        let (revision, owner) = (Revision::new(1), Some(owner.clone()));
        view.apply(News::Owner(
            shard,
            OwnerRecord {
                revision,
                owner,
                parcel: None,
            },
        ));
    }
    view
}

fn node(name: &str, view: &ClusterView, tasks: &Tasks) -> (Arc<Router>, Arc<Host>) {
    let metrics = Arc::new(Metrics::new());
    let fence = Arc::new(Fence::new(Clock::Boot));
    fence.open(fence.clock().now().plus(Duration::from_hours(1)));
    let mut registry = Registry::default();
    registry.register::<Echo>();
    let id = NodeId::new(name).expect("a good name");
    let host = Host::new(HostSettings {
        node: id.clone(),
        layout: view.meta.layout(),
        fence,
        storage: Arc::new(MemoryStorage::new()),
        registry,
        payload_max: PAYLOAD_LEN_MAX,
        budget: steading::memory_budget::MemoryBudget::new(512 << 20),
        tasks: tasks.clone(),
        metrics: metrics.clone(),
    });
    let shared = Arc::new(SharedView::from(view.clone()));
    let router = Router::start(RouterSettings {
        node: id,
        host: host.clone(),
        view: shared.subscribe(),
        claims: Arc::new(OwnerChecks::new(shared, metrics.clone())),
        network: Arc::new(TcpNetwork),
        tasks: tasks.clone(),
        metrics,
        payload_max: PAYLOAD_LEN_MAX,
    });
    (router, host)
}
