//! Where heavy methods run aside: several calls at once, but those to one object in their order.

use std::hash::Hasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fnv::FnvHasher;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::frame::InboundCall;
use super::running::{Begun, Running};
use crate::object::EncodedCall;

/// How many heavy turns of one connection can run at once.
const LANES: usize = 8;

/// The lanes of one connection.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: [Lane; LANES],
}

#[derive(Debug, Default)]
struct Lane {
    /// Calls that did not begin yet.
    waiting: Arc<AtomicUsize>,
    /// Bounded by the calls that a connection may have running.
    calls: Option<mpsc::UnboundedSender<(u64, InboundCall)>>,
}

impl Lanes {
    /// Whether a call must run aside: its method is heavy, or calls that came before it to the
    /// same object may wait there.
    pub(super) fn must_take(&self, call: &EncodedCall, running: &Running) -> bool {
        let waits = |lane: &Lane| lane.waiting.load(Ordering::Acquire) > 0;
        (self.lanes.iter().any(waits) && waits(&self.lanes[lane_of(call)]))
            || running.inner.heavy.is_heavy(call)
    }

    /// Lets a call run after those that its lane has already.
    pub(super) fn put(&mut self, id: u64, call: InboundCall, running: &Arc<Running>) {
        let lane = &mut self.lanes[lane_of(&call.call)];
        running.count();
        lane.waiting.fetch_add(1, Ordering::AcqRel);
        let calls = lane.calls.get_or_insert_with(|| {
            let (sender, receiver) = mpsc::unbounded_channel();
            let (running, waiting) = (running.clone(), lane.waiting.clone());
            let tasks = running.inner.settings.tasks.clone();
            tasks.spawn_work(run(receiver, running, waiting));
            sender
        });
        // The lane's task ends only after its sender.
        let _ = calls.send((id, call));
    }
}

fn lane_of(call: &EncodedCall) -> usize {
    let mut hasher = FnvHasher::default();
    hasher.write(call.key.id().as_bytes());
    usize::try_from(hasher.finish() >> 32).expect("32 bits fit") % LANES
}

/// Runs the calls of one lane until the connection ends and all have begun.
async fn run(
    mut calls: mpsc::UnboundedReceiver<(u64, InboundCall)>,
    running: Arc<Running>,
    waiting: Arc<AtomicUsize>,
) {
    while let Some((id, call)) = calls.recv().await {
        let heavy = &running.inner.heavy;
        let name = super::heavy::name(&call.call);
        let measure = heavy.begin(&call.call, Instant::now());
        let begun = running.begin(call);
        heavy.end(measure, Instant::now(), || name);
        waiting.fetch_sub(1, Ordering::AcqRel);
        match begun {
            Begun::Ended(answer) => running.answer(id, &answer).await,
            Begun::Waits(serving) => running.go_on(id, serving),
        }
        tokio::task::yield_now().await;
    }
}
