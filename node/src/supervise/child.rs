//! The side of the supervised process.

use std::convert::Infallible;
use std::os::fd::AsFd;
use std::os::unix::net;

use rustix::process::{Signal, getpid, kill_process};
use steading::ids::LeaseId;
use steading::{Node, Tasks};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tracing::warn;

use super::{CHILD_VARIABLE, LEFT};

/// The socket to the parent.
#[derive(Debug)]
pub(crate) struct Tether(UnixStream);

impl Tether {
    /// Returns the socket, if this process has a parent that supervises it.
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
        Ok(Some(Self(UnixStream::from_std(socket)?)))
    }

    /// Tells the parent the lease of each life of `node`, and drains this process if the parent
    /// dies. Both end with the tasks.
    pub(crate) fn hold(self, node: &Node, tasks: &Tasks) {
        let (from_parent, to_parent) = self.0.into_split();
        let node = node.clone();
        tasks.spawn("tether", |shutdown| async move {
            let telling = tell(&node, to_parent);
            tokio::select! {
                biased; // That the node has left is told before the end.
                () = telling => shutdown.cancelled().await,
                () = shutdown.cancelled() => {}
                () = parents_end(from_parent) => shutdown.cancelled().await,
            }
            Ok::<_, Infallible>(())
        });
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

/// Waits for the parent's end, and then asks this process to drain.
async fn parents_end(mut from_parent: OwnedReadHalf) {
    let mut nothing = [0];
    // It never says anything: whatever ends the read is the end.
    let _ = from_parent.read(&mut nothing).await;
    warn!("the supervising process is gone: draining");
    if let Err(error) = kill_process(getpid(), Signal::TERM) {
        warn!(%error, "cannot ask this process to drain");
    }
}
