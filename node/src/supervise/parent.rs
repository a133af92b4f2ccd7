//! The side of the supervising process.

use std::os::fd::OwnedFd;
use std::os::unix::net;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use rustix::process::Pid;
use steading::coordination::store::{Store, StoreError};
use steading::coordination::{EtcdSettings, EtcdStore};
use steading::ids::LeaseId;
use steading_signals::{Received, Signals};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::reaper::{End, Followed, Reaper};
use super::words::Words;
use super::{CHILD_VARIABLE, SIGNAL};
use crate::exit::Exit;
use crate::process::ProcessError;
use crate::settings::{Role, Settings};

/// How long ending the lease may take, retries included; then it runs out by itself.
const REVOKE_LIMIT: Duration = Duration::from_secs(5);

/// What a shell adds to the number of the signal that ended a process.
const SIGNALLED: i32 = 128;

/// Runs this program again as a child, and returns what its exit code is to be.
///
/// Everything that can fail is done before the child runs. From then on there is one way out, past
/// the end of its lease.
///
/// # Errors
///
/// [`ProcessError`] if the settings are bad or the child cannot be started.
pub(crate) async fn run(settings: &Settings, role: Role) -> Result<ExitCode, ProcessError> {
    settings.check(role)?;
    let _log = settings.logs.start().map_err(ProcessError::Log)?;
    let etcd = settings.store.etcd_settings()?;
    let mut signals = Signals::listen().map_err(ProcessError::Signals)?;
    let reaper = Reaper::new().map_err(ProcessError::Signals)?;
    let (child, socket) = start().map_err(ProcessError::Supervise)?;

    let (from_child, to_child) = socket.into_split();
    let (mut words, mut etcd) = (Words::new(from_child), Etcd::new(etcd));
    let mut followed = reaper.follow(Pid::from_child(&child));
    let end = watch(
        &mut followed,
        &mut words,
        &to_child,
        &mut signals,
        &mut etcd,
    )
    .await;
    if let Some(lease) = words.last().await {
        warn!(?end, %lease, "the node's process ended without leaving: ending its lease");
        etcd.revoke(lease).await;
    } else {
        info!(?end, "the node's process ended");
    }
    Ok(exit_code(end))
}

fn start() -> std::io::Result<(Child, UnixStream)> {
    let (ours, theirs) = net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let ours = UnixStream::from_std(ours)?;
    let child = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(CHILD_VARIABLE, "1")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()?;
    Ok((child, ours))
}

/// Passes signals on, and listens to the child, until it ends.
async fn watch(
    child: &mut Followed,
    words: &mut Words,
    to_child: &OwnedWriteHalf,
    signals: &mut Signals,
    etcd: &mut Etcd,
) -> End {
    // Connected ahead of time, so that the end of a lease waits for nothing but its own answer; and
    // next to everything else, for an etcd that does not answer must not keep signals waiting.
    let mut connecting = None;
    loop {
        tokio::select! {
            biased;
            end = child.end() => return end,
            has_lease = words.next() => {
                if has_lease && etcd.store.is_none() && connecting.is_none() {
                    connecting = Some(Box::pin(connect(etcd.settings.clone())));
                }
            }
            connected = async { connecting.as_mut().expect("it was looked at").await },
                if connecting.is_some() =>
            {
                (etcd.store, connecting) = (connected, None);
            }
            signal = signals.next() => pass_on(to_child, signal),
        }
    }
}

/// Tells the child of a signal, without waiting: a child that reads nothing has been told enough.
fn pass_on(to_child: &OwnedWriteHalf, signal: Received) {
    let line = format!("{SIGNAL}{}\n", signal.number);
    if let Err(error) = to_child.try_write(line.as_bytes()) {
        warn!(signal = signal.name, %error, "cannot pass the signal on");
    }
}

/// Where the child's lease is, connected ahead of time if that went well.
struct Etcd {
    settings: EtcdSettings,
    store: Option<EtcdStore>,
}

impl Etcd {
    fn new(settings: EtcdSettings) -> Self {
        Self {
            settings,
            store: None,
        }
    }

    /// Ends a lease. What fails is logged: the lease runs out by itself then.
    async fn revoke(&mut self, lease: LeaseId) {
        let settings = &self.settings;
        // The old connection, its token or its certificate may be the reason of a failure, so each
        // further try connects anew.
        let mut store = self.store.take();
        let revoke = || {
            let store = store.take();
            async move {
                match store {
                    Some(store) => store.revoke(lease).await,
                    None => {
                        EtcdStore::connect(settings.clone())
                            .await?
                            .revoke(lease)
                            .await
                    }
                }
            }
        };
        let retries = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(10))
            .with_max_delay(Duration::from_secs(1))
            .without_max_times();
        let is_there = |error: &StoreError| !matches!(error, StoreError::LeaseGone(_));
        let revoked = revoke.retry(retries).when(is_there).notify(|error, pause| {
            warn!(%lease, %error, ?pause, "cannot end the lease, retrying");
        });
        match timeout(REVOKE_LIMIT, revoked).await {
            Ok(Ok(())) => info!(%lease, "ended the lease"),
            Ok(Err(error)) => info!(%lease, %error, "the lease was over already"),
            Err(_) => error!(%lease, "cannot end the lease in time: it will run out"),
        }
    }
}

async fn connect(settings: EtcdSettings) -> Option<EtcdStore> {
    let store = EtcdStore::connect(settings).await;
    store
        .inspect_err(|error| warn!(%error, "cannot reach etcd yet"))
        .ok()
}

/// Returns this process's exit code: the child's, or what a shell makes of a signal.
fn exit_code(end: End) -> ExitCode {
    let code = match end {
        End::Exited(code) => u8::try_from(code).ok(),
        End::Killed(signal) => u8::try_from(SIGNALLED + signal).ok(),
        // Not 0: nothing says that it ended well.
        End::Unknown => None,
    };
    code.map_or(Exit::Failed.into(), ExitCode::from)
}
