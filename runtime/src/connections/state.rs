//! What one connection is doing, and since when.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::time::Duration;

use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Timeouts;

/// How the first bytes of HTTP/2 begin.
const PREFACE_START: &[u8; 3] = b"PRI";

/// The length of its preface and of the first frame's header.
const PREFACE_LEN: u64 = 24 + 9;

/// Why the server closed a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutReason {
    /// A new connection needed its place.
    Evicted,
    /// The headers of a request took too long.
    HeaderTimeout,
    /// There was no request for too long.
    IdleTimeout,
    /// The body of a request took too long.
    BodyTimeout,
    /// The client did not read the response.
    WriteTimeout,
    /// The server stops, and there was no complete request.
    Stopping,
}

impl CutReason {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::Evicted,
        Self::HeaderTimeout,
        Self::IdleTimeout,
        Self::BodyTimeout,
        Self::WriteTimeout,
        Self::Stopping,
    ];

    /// Returns its name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Evicted => "evicted",
            Self::HeaderTimeout => "header_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::WriteTimeout => "write_timeout",
            Self::Stopping => "stopping",
        }
    }
}

/// The state of one connection.
#[derive(Debug)]
pub(super) struct State {
    phase: Mutex<Phase>,
    reserve: bool,
    peer: AtomicBool,
    is_cut: AtomicBool,
    /// The task that drives the connection.
    waker: AtomicWaker,
}

#[derive(Debug)]
struct Phase {
    /// Requests whose headers came and whose response is not done.
    requests: u32,
    /// Those of them whose body came too.
    complete: u32,
    /// Since when there is no request.
    since: Instant,
    had_request: bool,
    /// When the first byte of the next request came.
    partial: Option<Instant>,
    protocol: Protocol,
    bytes_read: u64,
    /// Since when the client takes nothing of what is written.
    blocked: Option<Instant>,
    cut: Option<CutReason>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Unknown,
    Http1,
    Http2,
}

impl State {
    pub(super) fn new(reserve: bool, now: Instant) -> Self {
        Self {
            phase: Mutex::new(Phase {
                requests: 0,
                complete: 0,
                since: now,
                had_request: false,
                partial: None,
                protocol: Protocol::Unknown,
                bytes_read: 0,
                blocked: None,
                cut: None,
            }),
            reserve,
            peer: AtomicBool::new(false),
            is_cut: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        }
    }

    pub(super) fn is_reserve(&self) -> bool {
        self.reserve && !self.is_peer()
    }

    pub(super) fn is_peer(&self) -> bool {
        self.peer.load(Ordering::Relaxed)
    }

    pub(super) fn make_peer(&self) {
        self.peer.store(true, Ordering::Relaxed);
    }

    pub(super) fn begin(&self) {
        let mut phase = self.phase.lock();
        phase.requests += 1;
        phase.had_request = true;
        phase.partial = None;
    }

    /// Returns whether this is the only complete request.
    pub(super) fn complete(&self) -> bool {
        let mut phase = self.phase.lock();
        phase.complete += 1;
        phase.complete == 1
    }

    /// Returns whether no complete request is left.
    pub(super) fn end(&self, was_complete: bool, now: Instant) -> bool {
        let mut phase = self.phase.lock();
        phase.requests -= 1;
        phase.complete -= u32::from(was_complete);
        if phase.requests == 0 {
            phase.since = now;
        }
        phase.complete == 0
    }

    /// Ends the connection at its next read or write; returns whether this was the first reason.
    pub(super) fn cut(&self, reason: CutReason) -> bool {
        let mut phase = self.phase.lock();
        let first = phase.cut.is_none();
        phase.cut.get_or_insert(reason);
        drop(phase);
        self.is_cut.store(true, Ordering::Release);
        self.waker.wake();
        first
    }

    pub(super) fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Acquire)
    }

    /// Has the task woken when the connection is cut.
    pub(super) fn wake(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Takes note of bytes that came.
    pub(super) fn read(&self, bytes: &[u8]) {
        if self.is_peer() {
            return;
        }
        let mut phase = self.phase.lock();
        phase.bytes_read += bytes.len() as u64;
        if phase.protocol == Protocol::Unknown {
            phase.protocol = if bytes.starts_with(PREFACE_START) {
                Protocol::Http2
            } else {
                Protocol::Http1
            };
        }
        if phase.requests == 0 {
            phase.partial.get_or_insert_with(Instant::now);
        }
    }

    /// Takes note of whether the client takes what is written.
    pub(super) fn wrote(&self, blocked: bool) {
        let mut phase = self.phase.lock();
        if blocked {
            phase.blocked.get_or_insert_with(Instant::now);
        } else {
            phase.blocked = None;
        }
    }

    /// Returns which time limit has passed, if any.
    pub(super) fn overdue(&self, timeouts: &Timeouts, now: Instant) -> Option<CutReason> {
        self.phase.lock().overdue(timeouts, self.is_peer(), now)
    }

    /// Returns the reason to cut the connection in a stop, unless it has something to do.
    pub(super) fn closable(&self, write: Duration, now: Instant) -> Option<CutReason> {
        let phase = self.phase.lock();
        let blocked = phase.blocked.is_some_and(|since| now - since >= write);
        (phase.complete == 0 || blocked).then_some(CutReason::Stopping)
    }
}

impl Phase {
    fn overdue(&self, timeouts: &Timeouts, peer: bool, now: Instant) -> Option<CutReason> {
        let passed =
            |since: Instant, limit: Duration| now.saturating_duration_since(since) >= limit;
        if self.cut.is_some() {
            return None;
        }
        if self
            .blocked
            .is_some_and(|since| passed(since, timeouts.write))
        {
            return Some(CutReason::WriteTimeout);
        }
        // A request's body has a limit of its own, and a node keeps its connections.
        if peer || self.requests > 0 {
            return None;
        }
        let established = self.protocol == Protocol::Http2 && self.bytes_read >= PREFACE_LEN;
        if !established {
            let began = if self.had_request {
                self.partial
            } else {
                Some(self.since)
            };
            if began.is_some_and(|since| passed(since, timeouts.header)) {
                return Some(CutReason::HeaderTimeout);
            }
        }
        passed(self.since, timeouts.idle).then_some(CutReason::IdleTimeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUTS: Timeouts = Timeouts {
        header: Duration::from_secs(2),
        idle: Duration::from_secs(5),
        body: Duration::from_secs(3),
        write: Duration::from_secs(4),
    };

    /// Reads what happens to a connection, one letter a step: `.` a second passes, `h` bytes of
    /// HTTP/1 come, `p` the start of HTTP/2's preface, `2` all of it, `b` a request begins, `c` it is
    /// complete, `e` it ends, `w` a write blocks, `r` the client reads, `n` it is a node's.
    async fn after(steps: &str) -> Option<CutReason> {
        let state = State::new(false, Instant::now());
        let mut complete = false;
        for step in steps.chars() {
            match step {
                '.' => tokio::time::advance(Duration::from_secs(1)).await,
                'h' => state.read(b"GET"),
                'p' => state.read(b"PRI"),
                '2' => state.read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"),
                'b' => state.begin(),
                'c' => {
                    complete = true;
                    state.complete();
                }
                'e' => {
                    state.end(std::mem::take(&mut complete), Instant::now());
                }
                'w' => state.wrote(true),
                'r' => state.wrote(false),
                'n' => state.make_peer(),
                other => panic!("no step: {other}"),
            }
        }
        state.overdue(&TIMEOUTS, Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn each_time_limit_has_its_cases() {
        use CutReason::{HeaderTimeout, IdleTimeout, WriteTimeout};
        for (steps, expected) in [
            (".", None),
            ("..", Some(HeaderTimeout)),
            (".h.", Some(HeaderTimeout)),
            ("p..", Some(HeaderTimeout)),
            ("2..", None),
            ("2.....", Some(IdleTimeout)),
            ("hbc......", None),
            ("hbce....", None),
            ("hbce.....", Some(IdleTimeout)),
            ("hbce.h.", None),
            ("hbce.h..", Some(HeaderTimeout)),
            ("hbce.hbc...", None),
            ("hb......", None),
            ("hbcw...", None),
            ("hbcw....", Some(WriteTimeout)),
            ("hbcw...r..", None),
            ("2bn......e......", None),
        ] {
            assert_eq!(after(steps).await, expected, "{steps}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_spares_only_complete_requests() {
        let limit = Duration::from_secs(1);
        let state = State::new(false, Instant::now());
        assert!(state.closable(limit, Instant::now()).is_some());
        state.begin();
        assert!(state.closable(limit, Instant::now()).is_some());
        state.complete();
        assert_eq!(state.closable(limit, Instant::now()), None);
        state.wrote(true);
        tokio::time::advance(limit).await;
        assert!(state.closable(limit, Instant::now()).is_some());
    }

    #[tokio::test]
    async fn the_first_reason_to_cut_counts() {
        let state = State::new(false, Instant::now());
        assert!(state.cut(CutReason::Evicted));
        assert!(!state.cut(CutReason::Stopping));
        assert!(state.is_cut());
    }
}
