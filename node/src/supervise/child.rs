//! The side of the supervised process.

use std::convert::Infallible;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::net;

use steading::ids::LeaseId;
use steading::{Node, Tasks};
use steading_signals::Received;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tracing::warn;

use super::{CHILD_VARIABLE, LEFT, SIGNAL};

/// Signals that wait until the process heeds them; more are dropped, since no more than two count.
const SIGNALS_MAX: usize = 16;

/// What the supervising process says.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FromSupervisor {
    /// It received a signal.
    Signal(Received),
    /// It has ended.
    Gone,
}

/// The socket to the parent.
#[derive(Debug)]
pub(crate) struct Tether(UnixStream);

impl Tether {
    /// Takes the socket from the standard input, if this process has a parent that supervises it.
    /// Afterwards the standard input is empty, so that processes started here do not hold the
    /// socket open or read from it.
    ///
    /// # Errors
    ///
    /// The standard input is not a socket.
    pub(crate) fn of_this_process() -> std::io::Result<Option<Self>> {
        if std::env::var_os(CHILD_VARIABLE).is_none() {
            return Ok(None);
        }
        let socket = net::UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
        socket.local_addr()?; // Fails for everything but a socket.
        socket.set_nonblocking(true)?;
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        Ok(Some(Self(UnixStream::from_std(socket)?)))
    }

    /// Tells the parent the lease of each life of `node`, and returns what the parent says. Both
    /// end with the tasks.
    pub(crate) fn hold(self, node: &Node, tasks: &Tasks) -> mpsc::Receiver<FromSupervisor> {
        let (from_parent, to_parent) = self.0.into_split();
        let node = node.clone();
        let (said, heard) = mpsc::channel(SIGNALS_MAX);
        tasks.spawn("tether", |shutdown| async move {
            let talking = async {
                tokio::join!(tell(&node, to_parent), listen(from_parent, said));
            };
            tokio::select! {
                biased; // That the node has left is told before the end.
                () = talking => shutdown.cancelled().await,
                () = shutdown.cancelled() => {}
            }
            Ok::<_, Infallible>(())
        });
        heard
    }
}

/// Tells each lease, and at last that the node has left.
async fn tell(node: &Node, mut to_parent: OwnedWriteHalf) {
    let mut leases = node.leases();
    let mut told: Option<LeaseId> = None;
    loop {
        let lease = *leases.borrow_and_update();
        if lease != told {
            told = lease;
            let word = lease.map_or_else(|| LEFT.to_owned(), |lease| lease.get().to_string());
            if to_parent
                .write_all(format!("{word}\n").as_bytes())
                .await
                .is_err()
            {
                return; // The parent is gone; the other half notices.
            }
        }
        if leases.changed().await.is_err() {
            return;
        }
    }
}

/// Passes on what the parent says, at last that it is gone.
async fn listen(from_parent: OwnedReadHalf, said: mpsc::Sender<FromSupervisor>) {
    let mut lines = BufReader::new(from_parent).lines();
    // Whatever ends the reading is the parent's end.
    while let Ok(Some(line)) = lines.next_line().await {
        let number = line.strip_prefix(SIGNAL).and_then(|n| n.parse().ok());
        let Some(received) = number.and_then(Received::of) else {
            warn!(%line, "the supervising process said what this version does not know");
            continue;
        };
        // A full queue holds more signals than count.
        let _ = said.try_send(FromSupervisor::Signal(received));
    }
    warn!("the supervising process is gone: draining");
    // An error means that nobody listens any more: the process ends already.
    let _ = said.send(FromSupervisor::Gone).await;
}
