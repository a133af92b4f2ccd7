//! Clusters of real `steading` processes over a real etcd.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use steading::coordination::{EtcdSettings, EtcdStore};
use steading::ids::ShardCount;

use crate::certificates::Files;
use crate::client::{Client, NoAnswer};
use crate::etcd::Etcd;
use crate::history::History;
use crate::process::Process;
use crate::until;

pub use crate::client::Answer;

/// How long an answer of a node may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A cluster's place in etcd, and how its nodes are started. The nodes are the test's.
#[derive(Clone, Debug)]
pub struct Cluster {
    etcd: String,
    prefix: String,
    shard_count: u32,
    lease_ttl: Duration,
    /// What nodes run; `None`: the stock program, which is built when it is first needed.
    program: Option<PathBuf>,
    variables: Vec<(String, String)>,
    client: Client,
}

/// One running `steading` process.
#[derive(Debug)]
pub struct Node {
    id: String,
    process: Process,
    /// `host:port` of its HTTP server, once it listens.
    http: String,
    /// `host:port` of its gRPC server, once it listens.
    grpc: String,
    client: Client,
}

impl Cluster {
    /// A cluster of 64 shards and leases of 2 s, under a prefix that no other test has.
    pub fn new(etcd: &Etcd, name: &str) -> Self {
        Self::at(etcd.endpoint(), name)
    }

    /// The same, with any endpoints of etcd.
    pub fn at(etcd: String, name: &str) -> Self {
        Self {
            etcd,
            prefix: format!("/{name}/"),
            shard_count: 64,
            lease_ttl: Duration::from_secs(2),
            program: None,
            variables: Vec::new(),
            client: Client::plain(PATIENCE),
        }
    }

    /// Sets the number of shards.
    #[must_use]
    pub fn shard_count(self, shard_count: u32) -> Self {
        Self {
            shard_count,
            ..self
        }
    }

    /// Sets how long a lease lasts.
    #[must_use]
    pub fn with_lease_ttl(self, lease_ttl: Duration) -> Self {
        Self { lease_ttl, ..self }
    }

    /// Sets the program that nodes run, instead of the stock one.
    #[must_use]
    pub fn program(self, program: impl Into<PathBuf>) -> Self {
        Self {
            program: Some(program.into()),
            ..self
        }
    }

    /// Has nodes asked over TLS, with what these files hold at the time. What nodes themselves use is for
    /// their flags to say.
    #[must_use]
    pub fn certified(self, files: &Files) -> Self {
        Self {
            client: Client::certified(files, PATIENCE),
            ..self
        }
    }

    /// Sets variables in the environment of nodes.
    #[must_use]
    pub fn variables<'a>(self, more: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let more = more
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()));
        let variables = self.variables.into_iter().chain(more).collect();
        Self { variables, ..self }
    }

    /// Returns how long a lease lasts.
    pub fn lease_ttl(&self) -> Duration {
        self.lease_ttl
    }

    /// Returns the endpoints of its etcd.
    pub fn etcd(&self) -> &str {
        &self.etcd
    }

    /// Returns the prefix of its keys.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Starts a node, which need not be listening yet.
    pub fn launch(&self, id: &str, more: &[&str]) -> Node {
        self.launch_as("node", id, more)
    }

    /// Starts a gate, which hosts nothing, and waits until it is ready.
    pub async fn gate(&self, id: &str) -> Node {
        self.gate_with(id, &[]).await
    }

    /// The same, with more settings.
    pub async fn gate_with(&self, id: &str, more: &[&str]) -> Node {
        let mut gate = self.launch_as("gate", id, more);
        gate.listens().await;
        gate.is_ready().await;
        gate
    }

    fn launch_as(&self, role: &str, id: &str, more: &[&str]) -> Node {
        let ttl = format!("{}s", self.lease_ttl.as_secs());
        let shards = self.shard_count.to_string();
        let mut args = vec![
            role,
            "--json",
            "--node-id",
            id,
            "--etcd",
            &self.etcd,
            "--prefix",
            &self.prefix,
            "--num-shards",
            &shards,
            "--lease-ttl",
            &ttl,
            "--grpc-listen",
            "127.0.0.1:0",
            "--log",
            "info,steading=debug",
        ];
        if !more.contains(&"--http-listen") {
            args.extend(["--http-listen", "127.0.0.1:0"]);
        }
        args.extend(more);
        let program = self.program.as_deref().unwrap_or_else(|| steading());
        Node {
            id: id.into(),
            process: Process::start_with(id, program, args, &self.variables),
            http: String::new(),
            grpc: String::new(),
            client: self.client.clone(),
        }
    }

    /// Starts to measure how shards of this cluster move.
    pub fn bench_moves(&self, more: &[&str]) -> Process {
        let (etcd, prefix) = (&self.etcd, &self.prefix);
        let mut args = vec![
            "bench", "moves", "--json", "--etcd", etcd, "--prefix", prefix,
        ];
        args.extend(more);
        Process::start("bench", steading(), args)
    }

    /// Runs a command of the program to its end, and returns its exit code and what it wrote.
    pub async fn command(&self, args: &[&str]) -> (Option<i32>, String) {
        let program = self.program.as_deref().unwrap_or_else(|| steading());
        let process = Process::start("command", program, args);
        let status = process.end().await;
        (status.code(), process.output())
    }

    /// Starts a node and waits until it listens.
    pub async fn start(&self, id: &str) -> Node {
        let mut node = self.launch(id, &[]);
        node.listens().await;
        node
    }

    /// Starts nodes all at once and waits until each is ready.
    pub async fn ready<const N: usize>(&self, ids: [&str; N]) -> [Node; N] {
        self.ready_with(ids, &[]).await
    }

    /// The same, with more settings.
    pub async fn ready_with<const N: usize>(&self, ids: [&str; N], more: &[&str]) -> [Node; N] {
        let mut nodes = ids.map(|id| self.launch(id, more));
        for node in &mut nodes {
            node.listens().await;
        }
        for node in &nodes {
            node.is_ready().await;
        }
        nodes
    }

    /// Returns the store of the cluster.
    ///
    /// # Panics
    ///
    /// If it cannot be reached.
    pub async fn store(&self) -> EtcdStore {
        let settings = EtcdSettings::new([self.etcd.clone()]);
        EtcdStore::connect(settings).await.expect("etcd runs")
    }

    /// Reads the whole history of the cluster.
    ///
    /// # Panics
    ///
    /// If the store does not answer.
    pub async fn history(&self) -> History {
        let count = ShardCount::new(self.shard_count).expect("a power of two");
        History::read(&self.store().await, &self.prefix, count).await
    }
}

impl Node {
    /// Waits until it listens.
    pub async fn listens(&mut self) {
        let goal = format!("{} listens", self.id);
        let addresses = |line: &str| {
            let event: Value = serde_json::from_str(line).ok()?;
            let address = |name| Some(event.get(name)?.as_str()?.to_owned());
            let addresses = (address("http")?, address("grpc")?);
            (event.get("event")?.as_str()? == "listening").then_some(addresses)
        };
        (self.http, self.grpc) = self.process.line(&goal, addresses).await;
    }

    /// Waits until it says that it can take traffic.
    pub async fn is_ready(&self) {
        until(&format!("{} is ready", self.id), async || {
            self.wants("/ready", |ready| ready.status == 200).await
        })
        .await;
    }

    /// Waits until it says that it cannot take traffic.
    pub async fn is_unready(&self) {
        until(&format!("{} is unready", self.id), async || {
            self.wants("/ready", |ready| ready.status == 503).await
        })
        .await;
    }

    /// Waits until its view of the cluster is as wished.
    pub async fn sees(&self, goal: &str, wished: impl Fn(&Value) -> bool) -> Value {
        until(&format!("{} sees: {goal}", self.id), async || {
            self.wants("/v1/cluster", |cluster| {
                cluster.status == 200 && wished(&cluster.body)
            })
            .await
        })
        .await
    }

    /// Waits until every shard has the owner that it should have, among exactly these nodes.
    pub async fn is_settled<const N: usize>(&self, among: [&str; N]) {
        self.sees("every shard where it should be", |cluster| {
            let shards = &cluster["shards"];
            node_ids(cluster) == among
                && shards["owned"] == shards["total"]
                && shards["moving"] == 0
        })
        .await;
    }

    /// Waits until it has written something that contains this.
    pub async fn says(&self, what: &str) {
        let goal = format!("{} says: {what}", self.id);
        let said = |line: &str| line.contains(what).then_some(());
        self.process.line(&goal, said).await;
    }

    async fn wants(&self, path: &str, wished: impl Fn(&Answer) -> bool) -> Result<Value, String> {
        let answer = self.get(path).await.map_err(|error| {
            let ended = self.process.ended();
            assert!(ended.is_none(), "{} ended: {ended:?}", self.id);
            error.to_string()
        })?;
        if wished(&answer) {
            Ok(answer.body)
        } else {
            Err(format!("{} {:#}", answer.status, answer.body))
        }
    }

    /// Asks its HTTP server.
    ///
    /// # Errors
    ///
    /// If that cannot be reached.
    pub async fn get(&self, path: &str) -> Result<Answer, NoAnswer> {
        self.client.renewed().get(&self.url(path)).await
    }

    /// Gives its HTTP server a command.
    ///
    /// # Errors
    ///
    /// If that cannot be reached.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer, NoAnswer> {
        let client = self.client.renewed();
        client.post(&self.url(path), body, &[]).await
    }

    /// Calls a method of an object once, as part of a trace.
    ///
    /// # Errors
    ///
    /// If the HTTP server cannot be reached.
    pub async fn call_traced(
        &self,
        object: &str,
        method: &str,
        arguments: &Value,
        traceparent: &str,
    ) -> Result<Answer, NoAnswer> {
        let url = self.url(&format!("/v1/objects/{object}/{method}"));
        let headers = [("traceparent", traceparent)];
        self.client.renewed().post(&url, arguments, &headers).await
    }

    /// Calls a method of an object once.
    ///
    /// # Errors
    ///
    /// If the HTTP server cannot be reached.
    pub async fn call(
        &self,
        object: &str,
        method: &str,
        arguments: &Value,
    ) -> Result<Answer, NoAnswer> {
        self.post(&format!("/v1/objects/{object}/{method}"), arguments)
            .await
    }

    /// Adds 1 to a counter, and returns its new total.
    ///
    /// # Errors
    ///
    /// What went wrong, in words.
    pub async fn add_one(&self, id: &str) -> Result<i64, String> {
        let object = format!("Counter/{id}");
        let answer = self.call(&object, "add", &json!({"n": 1})).await;
        match answer.map_err(|error| error.to_string())? {
            Answer { status: 200, body } => body.as_i64().ok_or_else(|| body.to_string()),
            Answer { status, body } => Err(format!("{status} {body}")),
        }
    }

    /// Returns the node that owns an object's shard, as this node sees it.
    ///
    /// # Panics
    ///
    /// If the HTTP server cannot be reached.
    pub async fn owner_of(&self, object: &str) -> Option<String> {
        let answer = self.get(&format!("/v1/locate/{object}")).await;
        let owner = &answer.expect("the node runs").body["owner"];
        owner.as_str().map(str::to_owned)
    }

    /// Returns the owner of each shard, as this node sees it.
    ///
    /// # Panics
    ///
    /// If the HTTP server cannot be reached.
    pub async fn owners(&self) -> Vec<Option<String>> {
        let answer = self.get("/v1/shards").await.expect("the node runs");
        let shards = answer.body.as_array().cloned().unwrap_or_default();
        let owner = |shard: Value| shard["owner"].as_str().map(str::to_owned);
        shards.into_iter().map(owner).collect()
    }

    /// Returns its name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns `host:port` of its HTTP server.
    pub fn http(&self) -> &str {
        &self.http
    }

    /// Returns `host:port` of its gRPC server.
    pub fn grpc(&self) -> &str {
        &self.grpc
    }

    /// Returns its process.
    pub fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Returns everything it has written so far.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// Lets its log be read by nobody any more, and waits until it has noticed: it must have
    /// something to say.
    pub async fn loses_its_reader(&self) {
        self.process.hang_up();
        let goal = format!("nobody reads the log of {}", self.id);
        until(&goal, async || {
            // The other stream is silent, and stays open.
            match self.process.streams_read() {
                0 | 1 => Ok(()),
                _ => Err(self.output()),
            }
        })
        .await;
    }

    /// Kills it without goodbye.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Returns the process that it supervises.
    pub fn supervised(&self) -> Option<Pid> {
        self.process.first_child()
    }

    /// Asks it to end, as a service manager does.
    pub fn ask_to_end(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Asks it to end, and waits until it has.
    pub async fn terminate(&self) -> ExitStatus {
        self.ask_to_end();
        self.process.end().await
    }

    /// Asks it to end, and kills it if it has not once the grace is over, with the process that it supervises, as a
    /// container is stopped. Returns how it ended if it ended by itself.
    pub async fn stop(&self, grace: impl Future<Output = ()>) -> Option<ExitStatus> {
        let supervised = self.supervised();
        self.ask_to_end();
        tokio::select! {
            status = self.process.end() => return Some(status),
            () = grace => {}
        }
        self.process.kill();
        if let Some(supervised) = supervised {
            // An error means that it is gone already.
            let _ = kill_process(supervised, Signal::KILL);
        }
        None
    }

    /// Waits until it ends by itself.
    pub async fn end(&self) -> ExitStatus {
        self.process.end().await
    }

    /// Stops it in the midst of whatever it does.
    pub fn freeze(&self) {
        self.process.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.process.signal(Signal::CONT);
    }

    /// Returns how its HTTP server is asked.
    pub fn client(&self) -> &Client {
        &self.client
    }

    fn url(&self, path: &str) -> String {
        self.client.url(&self.http, path)
    }
}

/// Returns the IDs of the live nodes that an answer of `/v1/cluster` lists.
pub fn node_ids(cluster: &Value) -> Vec<&str> {
    let nodes = cluster["nodes"].as_array().map_or(&[][..], Vec::as_slice);
    nodes
        .iter()
        .filter_map(|node| node["id"].as_str())
        .collect()
}

/// Returns the path of the `steading` binary, built from this very source.
pub fn steading() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| built("steading"))
}

/// The packages of the programs that tests start. Built together, as `make integration` does: each
/// alone would have other features, and build its dependencies anew.
const PACKAGES: [&str; 3] = [
    "steading-node",
    "steading-inspector",
    "steading-example-wordcount",
];

/// Builds a program of the workspace from this very source, and returns its path.
pub(crate) fn built(program: &str) -> PathBuf {
    // Tests run from target/PROFILE/deps.
    let test = std::env::current_exe().expect("a test runs");
    let profile = test.ancestors().nth(2).expect("a folder of a profile");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--locked"]);
    // What cargo tells a test of its package would be news to build scripts that ask for the like, and
    // have them, and all that depends on them, built anew.
    let told = std::env::vars_os().map(|(name, _)| name);
    for name in told.filter(|name| is_told_by_cargo(&name.to_string_lossy())) {
        build.env_remove(name);
    }
    for package in PACKAGES {
        build.args(["--package", package]);
    }
    build
        .arg("--target-dir")
        .arg(profile.parent().expect("target"));
    if profile.ends_with("release") {
        build.arg("--release");
    }
    let built = build.status().expect("cargo runs");
    assert!(built.success(), "{program} does not build");
    profile.join(program)
}

/// Whether an environment variable describes the package whose test runs.
fn is_told_by_cargo(name: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_EXE_"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}
