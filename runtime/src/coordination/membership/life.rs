//! One life, from the moment the node key stands until it is lost.
//!
//! Four things go on side by side and none waits for another: keep-alives, the fence's deadline,
//! the view (does our key still stand there?), and what the node says of itself. The first to see
//! that the life is lost ends it.

use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::{Identity, MembershipState, Shared};
use crate::clock::Moment;
use crate::coordination::store::{KeepAlive, StoreError};
use crate::fence::FenceState;
use crate::ids::Revision;
use crate::placement::{NodeState, Owner};

/// A ping is sent this many times in a lease's time to live.
const PINGS_PER_TTL: u32 = 5;

/// After failures a ping may take this many times as long as the first one, at most: a store that
/// is slow for everybody must not be given up again and again just before it answers.
const PATIENCE_MAX: u32 = 3;

/// The pause after a second failure in a row, doubled by each further one; after the first there
/// is none.
const PING_PAUSE_MIN: Duration = Duration::from_millis(50);

/// What is added to the error of a keep-alive that is late on a stream whose first was in time.
const PROXY_HINT: &str =
    "; `etcd grpc-proxy`, which is not supported, does this: give the members' own addresses";

/// A life that has begun.
#[derive(Debug)]
pub(super) struct Life<'a> {
    pub(super) shared: &'a Shared,
    pub(super) identity: Identity,
    /// How long the grant of the lease allows to serve.
    pub(super) opened_until: Moment,
    /// When the node key was last written as far as we know, and the state that it says.
    pub(super) written: (Revision, NodeState),
}

/// Why a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// The store no longer knows the lease.
    LeaseGone,
    /// The node key is gone, or another's.
    KeyGone,
    /// The store is not the one that the node joined.
    StoreReplaced,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LeaseGone => "the lease ended",
            Self::KeyGone => "the node key was deleted or replaced",
            Self::StoreReplaced => "the store is not the one that the node joined",
        })
    }
}

impl Life<'_> {
    /// Serves until the life is lost.
    pub(super) async fn run(&self) -> Lost {
        tokio::select! {
            biased; // Bad news first.
            lost = self.follow_view() => lost,
            lost = self.keep_alive() => lost,
            lost = self.follow_wanted_state() => lost,
            never = self.follow_fence() => match never {},
        }
    }

    async fn keep_alive(&self) -> Lost {
        let clock = self.shared.parts.fence.clock();
        let mut stream = None;
        let (mut failures, mut is_proxied) = (0, false);
        loop {
            // Before a new stream is opened too: it may send a keep-alive of its own.
            let sent = clock.now();
            let pause = match self.ping(&mut stream, failures, &mut is_proxied).await {
                Ok(_) => {
                    failures = 0;
                    if let Err(lost) = self.acknowledged(sent).await {
                        return lost;
                    }
                    self.period().saturating_sub(clock.now().since(sent))
                }
                Err(StoreError::LeaseGone(_)) => return Lost::LeaseGone,
                Err(StoreError::Replaced(_)) => return Lost::StoreReplaced,
                Err(error) => {
                    // With the stream go its late replies, which answer older pings.
                    stream = None;
                    failures += 1;
                    self.note_failure(failures, &error);
                    self.pause_after(failures)
                }
            };
            sleep(pause).await;
        }
    }

    /// Sends one ping, over a new stream if there is none.
    async fn ping(
        &self,
        stream: &mut Option<Box<dyn KeepAlive>>,
        failures: u32,
        is_proxied: &mut bool,
    ) -> Result<Revision, StoreError> {
        let limit = self.period() * (1 + failures).min(PATIENCE_MAX);
        let is_new = stream.is_none();
        let ping = async {
            let open = if let Some(open) = stream {
                open
            } else {
                let store = &self.shared.parts.store;
                stream.insert(store.keep_alive(self.identity.lease).await?)
            };
            open.ping().await
        };
        let Ok(answered) = timeout(limit, ping).await else {
            // A new stream has had one keep-alive answered; etcd answers the next as fast. A proxy
            // answers with its own, which it sends thrice in a time to live.
            *is_proxied |= is_new && stream.is_some();
            let hint = if *is_proxied { PROXY_HINT } else { "" };
            let late = format!("no reply to a keep-alive within {limit:?}{hint}");
            return Err(StoreError::Unavailable(late));
        };
        answered
    }

    /// Takes in that a ping which was not sent before `sent` was answered.
    async fn acknowledged(&self, sent: Moment) -> Result<(), Lost> {
        let (parts, fence) = (&self.shared.parts, &self.shared.parts.fence);
        let round_trip = fence.clock().now().since(sent);
        let serving = parts.settings.serving_time();
        let metrics = &parts.metrics.membership;
        metrics.keep_alive_seconds.observe(round_trip.as_secs_f64());
        metrics
            .fence_margin_seconds
            .set(fence.margin().as_secs_f64());
        metrics.fence_seconds.set(serving.as_secs_f64());
        fence.extend_to(sent.plus(serving));
        match fence.state() {
            FenceState::Open => {
                self.shared.clear_trouble();
                Ok(())
            }
            FenceState::Suspended => self.resume().await,
            FenceState::Closed => Ok(()), // The node is leaving.
        }
    }

    /// Publishes the suspension when the deadline passes. The fence itself needs no such help.
    async fn follow_fence(&self) -> Infallible {
        let fence = &self.shared.parts.fence;
        let mut states = fence.subscribe();
        loop {
            fence.lapse();
            let state = *states.borrow_and_update();
            match state {
                FenceState::Open => {
                    tokio::select! {
                        () = sleep(fence.margin()) => {}
                        changed = states.changed() => changed.expect("the fence has the sender"),
                    }
                }
                FenceState::Suspended => {
                    warn!(identity = ?self.identity, "suspended: no keep-alive was answered in time");
                    self.shared.parts.metrics.membership.suspensions.inc();
                    self.shared
                        .publish(MembershipState::Suspended(self.identity.clone()));
                    states.changed().await.expect("the fence has the sender");
                }
                FenceState::Closed => std::future::pending().await,
            }
        }
    }

    /// Returns when the view shows that our key is gone: others act on that already.
    async fn follow_view(&self) -> Lost {
        let own = Owner {
            node: self.identity.node.clone(),
            incarnation: self.identity.incarnation,
        };
        let mut views = self.shared.parts.view.subscribe();
        loop {
            {
                let view = views.borrow_and_update();
                // An older view does not know this life yet.
                let knows = view.revision.get() >= own.incarnation.get();
                if knows && !view.is_live(&own) {
                    return Lost::KeyGone;
                }
            }
            views.changed().await.expect("this membership has the view");
        }
    }

    /// The time between two pings.
    pub(super) fn period(&self) -> Duration {
        self.shared.parts.settings.lease_ttl / PINGS_PER_TTL
    }

    fn pause_after(&self, failures: u32) -> Duration {
        match failures {
            0 | 1 => Duration::ZERO,
            more => (PING_PAUSE_MIN * 2u32.saturating_pow((more - 2).min(16))).min(self.period()),
        }
    }

    fn note_failure(&self, failures: u32, error: &StoreError) {
        if failures == 1 {
            debug!(%error, "a keep-alive failed; trying another stream");
        } else {
            warn!(%error, failures, "keep-alives fail");
        }
        self.shared
            .set_trouble(format!("keep-alives fail: {error}"));
    }
}
