//! Takes connections from the system.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::Stream;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use super::{Connections, CutReason, Slot};
use crate::telemetry::ListenerLabels;

/// The first pause after the system gave no connection; doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// The longest pause until the system is asked again.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How many connections may be cut and not closed yet before the next is accepted.
const CLOSING_MAX: usize = 8;

/// How long those are waited for.
const CLOSING_WAIT_MAX: Duration = Duration::from_millis(250);

/// Takes connections from one listening socket, within the limits of its [`Connections`].
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    connections: Connections,
}

impl Acceptor {
    /// Begins with a socket that listens.
    pub fn new(listener: TcpListener, connections: Connections) -> Self {
        Self {
            listener,
            connections,
        }
    }

    /// Waits for the next connection that is admitted; those that are not are closed at once.
    ///
    /// Errors of the system never end it: without file descriptors it closes an idle connection
    /// and tries again, less and less often. Cancel safe: no connection is lost.
    pub async fn accept(&mut self) -> (TcpStream, SocketAddr, Slot) {
        let shared = self.connections.shared.clone();
        let mut pause = PAUSE_MIN;
        loop {
            self.connections.cut_are_closed().await;
            let (stream, address) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => {
                    let now = Instant::now();
                    shared.accepting.failed(shared.listener, &error, now);
                    let labels = ListenerLabels {
                        listener: shared.listener,
                    };
                    shared.metrics.accept_errors.get_or_create(&labels).inc();
                    self.connections.evict_one();
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                    continue;
                }
            };
            pause = PAUSE_MIN;
            shared.accepting.succeeded(shared.listener, Instant::now());
            let Some(slot) = self.connections.admit(address.ip()) else {
                debug!(%address, listener = shared.listener, "refused a connection: too many");
                continue;
            };
            // A response is never held back for the acknowledgement of the last one.
            if stream.set_nodelay(true).is_ok() {
                return (stream, address, slot);
            }
        }
    }

    /// Returns the connections as a stream without end.
    pub fn into_stream(self) -> impl Stream<Item = (TcpStream, SocketAddr, Slot)> + Send {
        futures::stream::unfold(self, |mut acceptor| async {
            Some((acceptor.accept().await, acceptor))
        })
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        let shared = &self.connections.shared;
        shared.accepting.forget(shared.listener);
    }
}

impl Connections {
    /// Waits until most connections that were cut are closed: until then they have descriptors.
    async fn cut_are_closed(&self) {
        let waiting = async {
            loop {
                let freed = self.shared.freed.notified();
                if self.closing() < CLOSING_MAX {
                    return;
                }
                freed.await;
            }
        };
        // An error means that requests on them take their time to end.
        let _ = timeout(CLOSING_WAIT_MAX, waiting).await;
    }

    /// Returns how many connections were cut and are not closed yet.
    fn closing(&self) -> usize {
        let table = self.shared.table.lock();
        table.states.len() - table.slots.len()
    }

    /// Cuts the connection that was idle longest, if one is.
    fn evict_one(&self) {
        let mut table = self.shared.table.lock();
        let victim = table.slots.evict_oldest();
        let state = victim.and_then(|victim| table.states.get(&victim).cloned());
        drop(table);
        if let Some(state) = state {
            self.shared.cut(&state, CutReason::Evicted);
        }
    }
}

/// Whether the error is of a connection that ended before it was accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}
