//! Limits of the connections that clients hold: how many, and for how long without a request.
//!
//! Every listener of a process has one [`Connections`]. [`Acceptor`] takes connections from the
//! system, `Slots` decides which of them may stay, [`Guarded`] is the stream that can be cut, and
//! [`TrackLayer`] reports when requests begin and end.
//!
//! Invariants:
//! - a connection with a complete request in progress is never cut by a limit;
//! - a new connection gets in while any connection is idle: the one that was idle longest is cut;
//! - connections of other nodes are counted apart and never cut for clients;
//! - a connection that sends no complete request is cut within [`Timeouts`].

mod accept;
mod accepting;
mod descriptors;
mod guarded;
mod slots;
mod state;
mod track;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

pub use accept::Acceptor;
pub use accepting::{ACCEPT_STALL, Accepting};
pub use descriptors::{connections_for, raise_descriptor_limit};
pub use guarded::Guarded;
pub use state::CutReason;
pub use track::{
    BodyError, BodyRule, InFlight, Received, ReceivedBody, Refused, Rules, SentBody, TrackLayer,
    Tracked,
};

use crate::telemetry::{ClosedLabels, ConnectionMetrics, ListenerLabels};
use slots::{Admission, SlotLimits, Slots};
use state::State;

/// The most connections of a listener unless a setting says otherwise, if the process may open
/// enough files. An idle one takes about 20 KiB, with TLS about 50 KiB.
pub const CONNECTIONS_MAX_DEFAULT: usize = 4096;

/// The fewest connections of a listener that a node can work with.
pub const CONNECTIONS_MIN: usize = 8;

/// One connection in this many is kept for other nodes and for probes.
const RESERVE_SHARE: usize = 8;

/// The most connections of other nodes, per listener.
const PEER_CONNECTIONS_MAX: usize = 1024;

/// How long a client may take to read some of a response during a stop.
const CLOSE_WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// The pause between two looks at the connections that are left during a stop.
const CLOSE_INTERVAL: Duration = Duration::from_millis(100);

/// How often connections are compared with their time limits, at most.
const ENFORCE_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// How long a connection may stay open without a complete request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the first byte of a request, or the opening of the connection, to the end of the
    /// headers. Default: 10 s.
    pub header: Duration,
    /// Without a request on a connection that had one. Default: 30 s.
    pub idle: Duration,
    /// From the headers of a request to the end of its body. Default: 20 s.
    pub body: Duration,
    /// Until the client takes some more of a response. Default: 30 s.
    pub write: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            body: Duration::from_secs(20),
            write: Duration::from_secs(30),
        }
    }
}

/// How many connections a listener keeps, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Connections of clients at one listener; an eighth of them is kept for other nodes and
    /// probes. Default: [`CONNECTIONS_MAX_DEFAULT`].
    pub connections_max: usize,
    /// Connections from one address, or one /64 network of IPv6. Default: half of
    /// `connections_max`.
    pub per_address_max: usize,
    /// Time limits.
    pub timeouts: Timeouts,
}

impl ConnectionLimits {
    /// Returns the default limits for listeners with this many connections each, at least
    /// [`CONNECTIONS_MIN`].
    pub fn new(connections_max: usize) -> Self {
        let connections_max = connections_max.max(CONNECTIONS_MIN);
        Self {
            connections_max,
            per_address_max: (connections_max / 2).max(CONNECTIONS_MIN),
            timeouts: Timeouts::default(),
        }
    }

    fn slots(self) -> SlotLimits {
        let reserve = (self.connections_max / RESERVE_SHARE).max(2);
        SlotLimits {
            normal: self.connections_max.saturating_sub(reserve).max(1),
            reserve,
            per_address: self.per_address_max.max(1),
            peers: (self.connections_max / 2).min(PEER_CONNECTIONS_MAX),
        }
    }
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self::new(CONNECTIONS_MAX_DEFAULT)
    }
}

/// The connections of one listener. A cheap handle.
#[derive(Clone)]
pub struct Connections {
    shared: Arc<Shared>,
}

struct Shared {
    listener: &'static str,
    timeouts: Timeouts,
    table: Mutex<Table>,
    open: TaskTracker,
    metrics: ConnectionMetrics,
    accepting: Accepting,
    /// Told when a connection is closed.
    freed: Notify,
    /// Cancelled once requests that are not complete are given up.
    closing: CancellationToken,
}

struct Table {
    slots: Slots,
    states: BTreeMap<u64, Arc<State>>,
}

impl Connections {
    /// Begins without any. `listener` is the name of the listener in metrics and logs.
    pub fn new(
        listener: &'static str,
        limits: ConnectionLimits,
        metrics: ConnectionMetrics,
        accepting: Accepting,
    ) -> Self {
        let open = TaskTracker::new();
        open.close(); // So that `wait` returns when none is left; tokens are given out all the same.
        metrics.begin_at_zero(listener);
        Self {
            shared: Arc::new(Shared {
                listener,
                timeouts: limits.timeouts,
                table: Mutex::new(Table {
                    slots: Slots::new(limits.slots()),
                    states: BTreeMap::new(),
                }),
                open,
                metrics,
                accepting,
                freed: Notify::new(),
                closing: CancellationToken::new(),
            }),
        }
    }

    /// Returns some for tests that are not about limits.
    #[cfg(any(test, feature = "testing"))]
    pub fn for_tests() -> Self {
        let metrics = crate::telemetry::Metrics::new().connections.clone();
        Self::new(
            "grpc",
            ConnectionLimits::default(),
            metrics,
            Accepting::default(),
        )
    }

    /// Decides whether a connection from `address` may stay, and cuts an idle one for it if the
    /// listener or the address has no room. `None`: it must be closed.
    pub fn admit(&self, address: IpAddr) -> Option<Slot> {
        let mut table = self.shared.table.lock();
        let (id, reserve, evicted) = match table.slots.admit(address) {
            Admission::Admitted {
                id,
                reserve,
                evicted,
            } => (id, reserve, evicted),
            Admission::Refused(reason) => {
                drop(table);
                self.shared.count_closed(reason.as_str());
                return None;
            }
        };
        for victim in evicted {
            if let Some(state) = table.states.get(&victim) {
                self.shared.cut(state, CutReason::Evicted);
            }
        }
        let state = Arc::new(State::new(reserve, Instant::now()));
        table.states.insert(id, state.clone());
        drop(table);
        self.shared.gauge().inc();
        Some(Slot(Arc::new(Held {
            id,
            state,
            shared: self.shared.clone(),
            _open: self.shared.open.token(),
        })))
    }

    /// Cuts connections that pass their time limits, until `shutdown`.
    ///
    /// # Errors
    ///
    /// None.
    pub async fn enforce(self, shutdown: CancellationToken) -> Result<(), Infallible> {
        let Timeouts {
            header,
            idle,
            body,
            write,
        } = self.shared.timeouts;
        let shortest = header.min(idle).min(body).min(write);
        let pause = (shortest / 4).clamp(Duration::from_millis(10), ENFORCE_INTERVAL_MAX);
        let mut tick = interval(pause);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(tick.tick()).await.is_some() {
            let timeouts = self.shared.timeouts;
            self.cut_where(|state, now| state.overdue(&timeouts, now));
        }
        Ok(())
    }

    /// Cuts connections without a complete request, now and as others lose theirs, and waits until
    /// all are closed. That may take as long as a request, so callers need a limit.
    pub async fn close(&self) {
        self.shared.closing.cancel();
        loop {
            self.cut_where(|state, now| state.closable(CLOSE_WRITE_TIMEOUT, now));
            if timeout(CLOSE_INTERVAL, self.shared.open.wait())
                .await
                .is_ok()
            {
                return;
            }
        }
    }

    /// Waits until no connection is open.
    pub async fn closed(&self) {
        self.shared.open.wait().await;
    }

    /// Returns how many connections are open.
    pub fn open(&self) -> usize {
        self.shared.open.len()
    }

    fn cut_where(&self, reason: impl Fn(&State, Instant) -> Option<CutReason>) {
        let now = Instant::now();
        let table = self.shared.table.lock();
        for state in table.states.values() {
            if let Some(reason) = reason(state, now) {
                self.shared.cut(state, reason);
            }
        }
    }
}

impl Shared {
    fn cut(&self, state: &State, reason: CutReason) {
        if state.cut(reason) {
            self.count_closed(reason.as_str());
        }
    }

    fn count_closed(&self, reason: &'static str) {
        let labels = ClosedLabels {
            listener: self.listener,
            reason,
        };
        self.metrics.closed.get_or_create(&labels).inc();
    }

    fn gauge(&self) -> impl std::ops::Deref<Target = prometheus_client::metrics::gauge::Gauge> {
        let labels = ListenerLabels {
            listener: self.listener,
        };
        self.metrics.open.get_or_create(&labels)
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections")
            .field("listener", &self.shared.listener)
            .field("open", &self.shared.open.len())
            .finish_non_exhaustive()
    }
}

/// The place of one connection. It counts as open while any clone lives: the stream has one, and
/// each of its requests.
#[derive(Clone)]
pub struct Slot(Arc<Held>);

struct Held {
    id: u64,
    state: Arc<State>,
    shared: Arc<Shared>,
    _open: TaskTrackerToken,
}

impl Slot {
    /// Counts the connection as another node's from now on: it is no client's, and not cut for
    /// clients. Does nothing if the listener has too many of those, or it is one already.
    pub fn make_peer(&self) {
        if !self.0.state.is_peer() && self.0.shared.table.lock().slots.make_peer(self.0.id) {
            self.0.state.make_peer();
        }
    }

    /// Whether the connection was admitted for peers and probes only: all others are in use.
    pub fn is_reserve(&self) -> bool {
        self.0.state.is_reserve()
    }

    fn begin(&self) {
        self.0.state.begin();
    }

    /// The body of a request is complete: the connection has something to do.
    fn complete(&self) {
        if self.0.state.complete() {
            self.0.shared.table.lock().slots.busy(self.0.id);
        }
    }

    fn end(&self, was_complete: bool) {
        if self.0.state.end(was_complete, Instant::now()) {
            self.0.shared.table.lock().slots.idle(self.0.id);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut table = self.shared.table.lock();
        table.slots.remove(self.id);
        table.states.remove(&self.id);
        drop(table);
        self.shared.freed.notify_one();
        self.shared.gauge().dec();
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Slot").field(&self.0.id).finish()
    }
}
