//! A real `steading-inspector` process.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::OnceLock;

use rustix::process::Pid;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::process::Process;
use crate::programs::built;

/// The token of every Inspector of the tests.
pub const TOKEN: &str = "open-sesame";

/// One running Inspector, which lets those act who have the token.
#[derive(Debug)]
pub struct Inspector {
    process: Process,
    address: String,
}

impl Inspector {
    /// Starts one that looks at a cluster, at any free port.
    pub async fn start(cluster: &Cluster) -> Self {
        Self::start_at(cluster, "127.0.0.1:0").await
    }

    /// Starts one at an address.
    pub async fn start_at(cluster: &Cluster, listen: &str) -> Self {
        Self::launch(cluster, listen, &[]).await
    }

    /// Starts one at any free port, with more settings.
    pub async fn start_with(cluster: &Cluster, more: &[String]) -> Self {
        Self::launch(cluster, "127.0.0.1:0", more).await
    }

    async fn launch(cluster: &Cluster, listen: &str, more: &[String]) -> Self {
        let args = [
            "--json",
            "--etcd",
            cluster.etcd(),
            "--prefix",
            cluster.prefix(),
            "--inspector-listen",
            listen,
            "--allow-actions",
            "--inspector-token",
            TOKEN,
        ];
        let args = args.into_iter().chain(more.iter().map(String::as_str));
        let process = Process::start("inspector", program(), args);
        let address = |line: &str| {
            let event: Value = serde_json::from_str(line).ok()?;
            let address = event.get("inspector")?.as_str()?.to_owned();
            (event.get("event")?.as_str()? == "listening").then_some(address)
        };
        let address = process.line("the Inspector listens", address).await;
        Self { process, address }
    }

    /// Returns its process.
    pub fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Returns its `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns the address of a page of it.
    pub fn page(&self, hash: &str) -> String {
        format!("http://{}/{hash}", self.address)
    }

    /// Sends it a signal, and waits until it has ended.
    pub async fn ends_on(&self, number: i32) -> ExitStatus {
        self.process.signal_number(number, None);
        self.process.end().await
    }

    /// Kills it without goodbye.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Returns everything it has logged.
    pub fn output(&self) -> String {
        self.process.output()
    }
}

/// Returns the path of the `steading-inspector` binary, built from this very source.
pub fn program() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| built("steading-inspector"))
}
