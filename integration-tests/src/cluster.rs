//! Clusters of real `steading` processes over a real etcd.

mod node;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use steading::coordination::{EtcdSettings, EtcdStore};
use steading::ids::ShardCount;

use crate::certificates::Files;
use crate::client::Client;
use crate::etcd::Etcd;
use crate::history::History;
use crate::process::Process;
use crate::programs::steading;

pub use self::node::{Node, node_ids};
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
    /// How many files a node may open; `None`: as many as this process.
    descriptors: Option<u32>,
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
            descriptors: None,
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

    /// Sets how many files each node may open, as its hard limit too.
    #[must_use]
    pub fn descriptors(self, descriptors: u32) -> Self {
        Self {
            descriptors: Some(descriptors),
            ..self
        }
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
        let process = match self.descriptors {
            None => Process::start_with(id, program, args, &self.variables),
            Some(descriptors) => {
                let limit = format!("--nofile={descriptors}:{descriptors}");
                let limited = [OsStr::new(&limit), program.as_os_str()];
                let args = limited.into_iter().chain(args.iter().map(OsStr::new));
                Process::start_with(id, "prlimit", args, &self.variables)
            }
        };
        Node::new(id, process, self.client.clone())
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
