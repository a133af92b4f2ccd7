//! The processes of a measurement: etcd, nodes, and parts of our own. None outlives its owner.

use std::net::TcpListener;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{ChildStdout, Command};
use tokio::time::timeout;

/// How long a process may take to say that it is there. Far above the expected.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a process may take to end once it was told to. Far above the drain timeout.
const END_TIMEOUT: Duration = Duration::from_mins(1);

/// A process that is killed when this is dropped.
#[derive(Debug)]
pub(super) struct Child {
    process: tokio::process::Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Child {
    /// Starts a part of a measurement from this very program.
    pub(super) fn part(arguments: &[&str]) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find the own program")?;
        Self::start(
            Command::new(program)
                .arg("--json")
                .arg("bench-part")
                .args(arguments),
        )
    }

    fn start(command: &mut Command) -> anyhow::Result<Self> {
        // Settings of the caller's are not the measurement's.
        let variables = std::env::vars_os().map(|(name, _)| name);
        for name in variables.filter(|name| name.to_string_lossy().starts_with("STEADING_")) {
            command.env_remove(name);
        }
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| {
                format!("cannot start {}", command.as_std().get_program().display())
            })?;
        let stdout = process.stdout.take().expect("it is piped");
        Ok(Self {
            process,
            lines: BufReader::new(stdout).lines(),
        })
    }

    /// Waits for the next line of its output.
    pub(super) async fn next_line(&mut self) -> anyhow::Result<String> {
        let line = timeout(START_TIMEOUT, self.lines.next_line()).await;
        line.context("a part of the measurement says nothing")??
            .context("a part of the measurement ended early")
    }

    /// Kills it and waits until it is gone.
    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        Ok(self.process.kill().await?)
    }

    /// Tells it to end, waits until it is gone, and returns how it ended.
    pub(super) async fn terminate(&mut self) -> anyhow::Result<ExitStatus> {
        kill_process(self.pid()?, Signal::TERM)?;
        let ended = timeout(END_TIMEOUT, self.process.wait()).await;
        Ok(ended.context("a process does not end")??)
    }

    /// Kills the process that this one supervises, and waits for nothing.
    pub(super) fn kill_supervised(&self) -> anyhow::Result<()> {
        let pid = self.pid()?.as_raw_nonzero();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.context("the system does not tell of children")?;
        let child = children.split_whitespace().next();
        let child = child.and_then(|child| Pid::from_raw(child.parse().ok()?));
        Ok(kill_process(
            child.context("it supervises nothing")?,
            Signal::KILL,
        )?)
    }

    fn pid(&self) -> anyhow::Result<Pid> {
        let pid = self.process.id().and_then(|id| i32::try_from(id).ok());
        pid.and_then(Pid::from_raw).context("it has ended already")
    }
}

/// An etcd of the measurement's own.
#[derive(Debug)]
pub(super) struct Etcd {
    endpoint: String,
    _process: tokio::process::Child,
    _data: TempDir,
}

impl Etcd {
    /// Starts it and waits until it answers.
    pub(super) async fn start(program: &Path) -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        let (endpoint, peer) = (free_address()?, free_address()?);
        let process = Command::new(program)
            .arg("--data-dir")
            .arg(data.path())
            .args([
                "--listen-client-urls",
                &endpoint,
                "--advertise-client-urls",
                &endpoint,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args([
                "--initial-cluster",
                &format!("default={peer}"),
                "--log-level",
                "error",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {} (--etcd-program)", program.display()))?;
        let health = format!("{endpoint}/health");
        let answers = async {
            while reqwest::get(&health).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(START_TIMEOUT, answers)
            .await
            .context("etcd does not answer")?;
        Ok(Self {
            endpoint,
            _process: process,
            _data: data,
        })
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

fn free_address() -> anyhow::Result<String> {
    // etcd takes no port 0: another process could take this one first, but hardly will.
    let listener = TcpListener::bind("127.0.0.1:0")?;
    Ok(format!("http://{}", listener.local_addr()?))
}

/// A node in a process of its own.
#[derive(Debug)]
pub(super) struct NodeProcess {
    child: Child,
    http: String,
}

impl NodeProcess {
    /// Starts a node of the cluster under `prefix`; it need not have joined when this returns.
    pub(super) async fn start(etcd: &Etcd, prefix: &str, id: &str) -> anyhow::Result<Self> {
        Self::start_with(etcd, prefix, id, &[]).await
    }

    /// The same with further arguments.
    pub(super) async fn start_with(
        etcd: &Etcd,
        prefix: &str,
        id: &str,
        more: &[&str],
    ) -> anyhow::Result<Self> {
        let etcd = format!("--etcd={}", etcd.endpoint());
        let (prefix, id) = (format!("--prefix={prefix}"), format!("--node-id={id}"));
        let arguments = [
            "node",
            &etcd,
            &prefix,
            &id,
            "--grpc-listen=127.0.0.1:0",
            "--http-listen=127.0.0.1:0",
            "--replace=always",
        ];
        let mut child = Child::part(&[&arguments, more].concat())?;
        let line: serde_json::Value = serde_json::from_str(&child.next_line().await?)?;
        let Some(http) = line["http"].as_str() else {
            bail!("a node says where it listens, not {line}");
        };
        let http = format!("http://{http}");
        Ok(Self { child, http })
    }

    /// Waits until it takes traffic.
    pub(super) async fn ready(&self) -> anyhow::Result<()> {
        let client = reqwest::Client::new();
        let url = format!("{}/ready", self.http);
        let ready = async {
            loop {
                let answer = client.get(&url).send().await;
                if answer.is_ok_and(|answer| answer.status().is_success()) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(START_TIMEOUT, ready)
            .await
            .context("a node does not get ready")
    }

    /// Kills it without a goodbye.
    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().await
    }
    /// Has it drain and leave, waits until it is gone, and returns how it ended.
    pub(super) async fn terminate(&mut self) -> anyhow::Result<ExitStatus> {
        self.child.terminate().await
    }

    /// Kills the node, but not the process that supervises it.
    pub(super) fn kill_supervised(&self) -> anyhow::Result<()> {
        self.child.kill_supervised()
    }
}
