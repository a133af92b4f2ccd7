//! Ending HTTP servers without losing a request.
//!
//! A connection that is kept alive may be closed by the server in the very moment in which the client sends a request: the
//! client cannot know whether that was read, and fails. So clients are told beforehand, by `Connection: close` in whatever
//! they are answered, and connections are closed only once there was time to tell.

use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Version, header};
use axum::middleware::Next;
use axum::response::Response;
use axum::serve::{IncomingStream, Listener};
use steading_http::Client;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::http::Guest;

/// How long clients are told before connections are closed on which nothing is asked: who asks at least this often
/// loses nothing, however a stop goes.
const TELLING: Duration = Duration::from_secs(1);

/// Where HTTP clients come in, over all servers of a process. A cheap handle.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    /// Since when clients are told that they are to connect anew.
    closing: Arc<OnceLock<Instant>>,
    /// Cancelled once nobody is let in any more.
    closed: CancellationToken,
    connections: TaskTracker,
}

impl Door {
    /// Begins open, with nobody inside.
    pub(crate) fn new() -> Self {
        let connections = TaskTracker::new();
        // It tells when none is left; tokens are given out all the same.
        connections.close();
        Self {
            closing: Arc::default(),
            closed: CancellationToken::new(),
            connections,
        }
    }

    /// Begins to tell clients that their connection ends with its next answer. All are still let in.
    pub(crate) fn begin_to_close(&self) {
        self.closing.get_or_init(Instant::now);
    }

    /// Lets nobody in any more, once those inside have had time to hear of it, and waits until all have their answer
    /// and are gone. That may take as long as a request, so whoever waits needs a limit.
    pub(crate) async fn close(&self) {
        let began = *self.closing.get_or_init(Instant::now);
        // An error means that somebody has nothing to ask: nothing is lost by closing then.
        let _ = timeout_at(began + TELLING, self.connections.wait()).await;
        self.closed.cancel();
        self.connections.wait().await;
    }

    /// Waits until nobody is let in any more.
    pub(crate) fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        self.closed.clone().cancelled_owned()
    }

    /// Counts the connections of a listener.
    pub(crate) fn count<L: Listener>(&self, listener: L) -> Counted<L> {
        Counted {
            listener,
            connections: self.connections.clone(),
        }
    }
}

/// Answers, and says that the connection ends if it is to. HTTP/2 has a way of its own to say so.
pub(crate) async fn say_if_closing(
    State(door): State<Door>,
    request: Request,
    next: Next,
) -> Response {
    let version = request.version();
    let mut response = next.run(request).await;
    if door.closing.get().is_some() && version <= Version::HTTP_11 {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

/// A listener whose connections are counted as long as they are open.
#[derive(Debug)]
pub(crate) struct Counted<L> {
    listener: L,
    connections: TaskTracker,
}

/// Where a connection comes from, and its part in the count.
#[derive(Debug)]
pub(crate) struct Arrived<A> {
    address: A,
    open: TaskTrackerToken,
}

/// What an address tells beside itself.
pub(crate) trait Origin: Debug {
    /// Whether whoever came from there has shown a certificate of the cluster.
    fn certified(&self) -> bool;
}

impl Origin for SocketAddr {
    fn certified(&self) -> bool {
        false
    }
}

impl Origin for Client {
    fn certified(&self) -> bool {
        self.certified
    }
}

impl<L: Listener> Listener for Counted<L> {
    type Io = L::Io;
    type Addr = Arrived<L::Addr>;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (io, address) = self.listener.accept().await;
        let open = self.connections.token();
        (io, Arrived { address, open })
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        let address = self.listener.local_addr()?;
        let open = self.connections.token();
        Ok(Arrived { address, open })
    }
}

impl<L> Connected<IncomingStream<'_, Counted<L>>> for Guest
where
    L: Listener,
    L::Addr: Origin,
{
    fn connect_info(stream: IncomingStream<'_, Counted<L>>) -> Self {
        let arrived = stream.remote_addr();
        Self::new(arrived.address.certified(), arrived.open.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn clients_have_time_to_hear_and_who_asks_has_time_for_the_answer() {
        let door = Door::new();
        let guest = door.connections.token();
        let closed = door.closed();
        let closing = door.close();
        tokio::pin!(closed, closing);
        let (told, since) = (Duration::from_millis(999), Instant::now());
        assert!(timeout_at(since + told, &mut closing).await.is_err());
        assert!(
            timeout_at(since + told, &mut closed).await.is_err(),
            "it is open"
        );
        assert!(
            timeout_at(since + TELLING * 60, &mut closing)
                .await
                .is_err()
        );
        closed.await;
        drop(guest);
        closing.await;
    }

    #[tokio::test(start_paused = true)]
    async fn where_nobody_is_nobody_is_waited_for() {
        let (door, since) = (Door::new(), Instant::now());
        door.close().await;
        door.closed().await;
        assert_eq!(since.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_to_hear_begins_with_the_telling() {
        let door = Door::new();
        let _guest = door.connections.token();
        door.begin_to_close();
        tokio::time::advance(TELLING).await;
        let since = Instant::now();
        tokio::select! {
            () = door.close() => unreachable!("the guest stays"),
            () = door.closed() => assert!(since.elapsed() < TELLING / 2),
        }
    }
}
