//! Ending HTTP servers without losing a request.
//!
//! A connection that is kept alive may be closed by the server in the very moment in which the client sends a request: the
//! client cannot know whether that was read, and fails. So clients are told beforehand, by `Connection: close` in whatever
//! they are answered, and connections are closed only once there was time to tell.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, Version, header};
use axum::middleware::Next;
use axum::response::Response;
use futures::future::join_all;
use parking_lot::Mutex;
use steading::connections::Connections;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

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
    /// Those of each server.
    connections: Arc<Mutex<Vec<Connections>>>,
}

impl Door {
    /// Begins open, with nobody inside.
    pub(crate) fn new() -> Self {
        Self {
            closing: Arc::default(),
            closed: CancellationToken::new(),
            connections: Arc::default(),
        }
    }

    /// Begins to tell clients that their connection ends with its next answer. All are still let in.
    pub(crate) fn begin_to_close(&self) {
        self.closing.get_or_init(Instant::now);
    }

    /// Takes no more connections once the clients had time to hear of it, and waits until all are closed. Those
    /// without a complete request are cut: a client that sends half of one cannot hold up the stop. That may take as
    /// long as a request, so callers need a limit.
    pub(crate) async fn close(&self) {
        let began = *self.closing.get_or_init(Instant::now);
        let connections = self.connections.lock().clone();
        let gone = join_all(connections.iter().map(Connections::closed));
        // An error means that a connection is idle or sends half a request: it is cut below.
        let _ = timeout_at(began + TELLING, gone).await;
        self.closed.cancel();
        join_all(connections.iter().map(Connections::close)).await;
    }

    /// Waits until nobody is let in any more.
    pub(crate) fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        self.closed.clone().cancelled_owned()
    }

    /// Closes the connections of a server with the others.
    pub(crate) fn add(&self, connections: Connections) {
        self.connections.lock().push(connections);
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

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use steading::connections::{Accepting, ConnectionLimits, Slot};
    use steading::telemetry::Metrics;

    use super::*;

    /// Returns a door with one open connection.
    fn door_with_a_connection() -> (Door, Slot) {
        let (limits, metrics) = (
            ConnectionLimits::default(),
            Metrics::new().connections.clone(),
        );
        let connections = Connections::new("http", limits, metrics, Accepting::default());
        let slot = connections.admit(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let door = Door::new();
        door.add(connections);
        (door, slot.expect("there is room"))
    }

    #[tokio::test(start_paused = true)]
    async fn clients_have_time_to_hear_and_who_asks_has_time_for_the_answer() {
        let (door, slot) = door_with_a_connection();
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
        drop(slot);
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
        let (door, _slot) = door_with_a_connection();
        door.begin_to_close();
        tokio::time::advance(TELLING).await;
        let since = Instant::now();
        tokio::select! {
            () = door.close() => unreachable!("the guest stays"),
            () = door.closed() => assert!(since.elapsed() < TELLING / 2),
        }
    }
}
