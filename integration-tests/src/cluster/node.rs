//! One running `steading` process: what it must come to, and its end.

mod asking;

use std::process::ExitStatus;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::client::{Answer, Client};
use crate::process::Process;
use crate::{signals, until};

pub use asking::node_ids;

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

impl Node {
    /// Takes a process that need not be listening yet, and is asked by this client.
    pub(super) fn new(id: &str, process: Process, client: Client) -> Self {
        Self {
            id: id.into(),
            process,
            http: String::new(),
            grpc: String::new(),
            client,
        }
    }

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

    /// Whether its process has ended.
    pub fn has_ended(&self) -> bool {
        self.process.ended().is_some()
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

    /// Sends it a signal.
    pub fn signal_number(&self, number: i32) {
        self.process.signal_number(number, None);
    }

    /// Sends a signal to it and to the process that it supervises.
    pub fn signal_number_to_both(&self, number: i32) {
        self.process.signal_number(number, self.supervised());
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
            signals::has_ended(supervised).await;
        }
        None
    }

    /// Waits until it ends by itself.
    pub async fn end(&self) -> ExitStatus {
        self.process.end().await
    }

    /// Stops it, and returns once it has stopped. Connections stay open and silent.
    pub async fn freeze(&self) {
        signals::freeze(self.process.pid()).await;
    }

    /// Continues it, and returns once it runs.
    pub async fn thaw(&self) {
        signals::thaw(self.process.pid()).await;
    }
}
