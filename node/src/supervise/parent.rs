//! The side of the supervising process.

use std::os::fd::OwnedFd;
use std::os::unix::net;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions};
use steading::coordination::store::{Store, StoreError};
use steading::coordination::{EtcdSettings, EtcdStore};
use steading::ids::LeaseId;
use steading_signals::{Received, Signals};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::Command;
use tokio::signal::unix::{self, SignalKind};
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::{CHILD_VARIABLE, LEFT, SIGNAL};
use crate::process::ProcessError;
use crate::settings::{Role, Settings};

/// How long ending the lease may take; then it runs out by itself.
const REVOKE_LIMIT: Duration = Duration::from_secs(5);

/// How long what the child said last is waited for: a descendant of it may hold the socket open.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// What a shell adds to the number of the signal that ended a process.
const SIGNALLED: i32 = 128;

/// Runs this program again as a child, and returns what its exit code is to be.
///
/// # Errors
///
/// [`ProcessError`] if the settings are bad or the child cannot be started.
pub(crate) async fn run(settings: &Settings, role: Role) -> Result<ExitCode, ProcessError> {
    settings.check(role)?;
    let _log = settings.logs.start().map_err(ProcessError::Log)?;
    let etcd = settings.store.etcd_settings()?;
    let mut signals = Signals::listen().map_err(ProcessError::Signals)?;
    let (child, socket) = start().map_err(ProcessError::Supervise)?;
    let status = watch(child, socket, &mut signals, etcd).await;
    let status = status.map_err(ProcessError::Supervise)?;
    Ok(exit_code(status))
}

fn start() -> std::io::Result<(tokio::process::Child, UnixStream)> {
    let (ours, theirs) = net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let child = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(CHILD_VARIABLE, "1")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()?;
    Ok((child, UnixStream::from_std(ours)?))
}

/// Passes signals on until the child ends; then ends its lease, if it has not done so itself.
async fn watch(
    mut child: tokio::process::Child,
    socket: UnixStream,
    signals: &mut Signals,
    etcd: EtcdSettings,
) -> std::io::Result<ExitStatus> {
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    let id = id.and_then(Pid::from_raw).expect("it was started just now");
    let (from_child, to_child) = socket.into_split();
    let mut words = Words::new(from_child);
    // Connected ahead of time, so that the end of a lease waits for nothing but its own answer; and
    // beside everything else, for an etcd that does not answer must not keep signals waiting.
    let (mut store, mut connecting) = (None, None);
    let mut orphans = unix::signal(SignalKind::child())?;
    let status = loop {
        tokio::select! {
            biased;
            status = child.wait() => break status?,
            lease = words.next(), if !words.are_over => {
                if lease && store.is_none() && connecting.is_none() {
                    connecting = Some(Box::pin(connect(&etcd)));
                }
            }
            connected = async { connecting.as_mut().expect("it was looked at").await },
                if connecting.is_some() =>
            {
                (store, connecting) = (connected, None);
            }
            signal = signals.next() => pass_on(&to_child, signal),
            _ = orphans.recv() => reap_others(id),
        }
    };
    // What it said just before its end may not be read yet.
    let _ = timeout(LAST_WORDS, async {
        while !words.are_over {
            words.next().await;
        }
    })
    .await;
    if let Some(lease) = words.lease {
        warn!(%status, %lease, "the node's process has ended: ending its lease");
        revoke(store, &etcd, lease).await;
    } else {
        info!(%status, "the node's process has ended");
    }
    Ok(status)
}

async fn connect(etcd: &EtcdSettings) -> Option<EtcdStore> {
    let store = EtcdStore::connect(etcd.clone()).await;
    store
        .inspect_err(|error| warn!(%error, "cannot reach etcd yet"))
        .ok()
}

async fn revoke(store: Option<EtcdStore>, etcd: &EtcdSettings, lease: LeaseId) {
    let revoke = || async {
        match &store {
            Some(store) => store.revoke(lease).await,
            None => EtcdStore::connect(etcd.clone()).await?.revoke(lease).await,
        }
    };
    let retries = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(10))
        .with_max_delay(Duration::from_secs(1))
        .without_max_times();
    let revoked = revoke.retry(retries).when(StoreError::is_transient);
    match timeout(REVOKE_LIMIT, revoked).await {
        Ok(Ok(())) => info!(%lease, "ended the lease"),
        Ok(Err(StoreError::LeaseGone(_))) => info!(%lease, "the lease was over already"),
        Ok(Err(error)) => error!(%lease, %error, "cannot end the lease: it will run out"),
        Err(_) => error!(%lease, "cannot end the lease in time: it will run out"),
    }
}

/// Tells the child of a signal, without waiting: a child that reads nothing has been told enough.
fn pass_on(to_child: &OwnedWriteHalf, signal: Received) {
    let line = format!("{SIGNAL}{}\n", signal.number);
    if let Err(error) = to_child.try_write(line.as_bytes()) {
        warn!(signal = signal.name, %error, "cannot pass the signal on");
    }
}

/// Reaps processes that were left to this one, as the first process of a container must.
fn reap_others(child: Pid) {
    // A look first: the child's own status is for whoever waits for it.
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    while let Ok(Some(_)) = rustix::process::waitid(WaitId::All, look) {
        let others = rustix::process::wait(WaitOptions::NOHANG);
        match others {
            Ok(Some((reaped, _))) if reaped != child => {}
            Ok(Some(_) | None) | Err(_) => return,
        }
    }
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| SIGNALLED + signal));
    let code = code.and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

/// What the child says.
struct Words {
    lines: Lines<BufReader<OwnedReadHalf>>,
    /// The lease of its present life; none before the first and after it has left.
    lease: Option<LeaseId>,
    are_over: bool,
}

impl Words {
    fn new(from_child: OwnedReadHalf) -> Self {
        Self {
            lines: BufReader::new(from_child).lines(),
            lease: None,
            are_over: false,
        }
    }

    /// Takes in the next line, and returns whether there is a lease now. Cancel safe.
    async fn next(&mut self) -> bool {
        match self.lines.next_line().await {
            Ok(Some(line)) if line == LEFT => self.lease = None,
            Ok(Some(line)) => self.lease = line.parse().ok().map(LeaseId::new),
            Ok(None) | Err(_) => self.are_over = true,
        }
        self.lease.is_some()
    }
}
