//! Watches shards whose last owner crashed, so that a further crash can be traced to one of them.
//!
//! New work of a watched shard (loading and activating an object, and the first turn of each of its
//! methods) runs in a *window*: it begins once the node's activity note in the store names the
//! shard, and the note names it until the work has ended. `coordination::activity` writes the note;
//! this decides what it says. Everything else runs as always: a shard that is not watched pays one
//! relaxed load per turn.
//!
//! Bounds: a note names at most [`RUNNING_MAX`] shards; further windows wait. Of prime suspects it
//! names one at a time, unless that one takes longer than [`PRIME_WINDOW_MAX`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::ids::ShardId;

/// Most shards with an open window at the same time.
const RUNNING_MAX: usize = 512;

/// How long one prime suspect keeps the others waiting. Its turn may wait for a turn of another.
const PRIME_WINDOW_MAX: Duration = Duration::from_millis(500);

/// How closely a shard is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Watch {
    /// Its last owner crashed.
    TakenOver,
    /// It is on record for a crash, and may be cleared.
    Suspect,
    /// One more crash quarantines it: its windows exclude those of other prime suspects.
    Prime,
}

/// The windows of one process.
#[derive(Debug, Default)]
pub struct Probation {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    open: BTreeMap<ShardId, Open>,
    /// What the note in the store is known to name.
    written: BTreeSet<ShardId>,
    /// What a write under way makes the note name.
    writing: Option<BTreeSet<ShardId>>,
    waiting: VecDeque<Waiting>,
    suspects: BTreeMap<ShardId, Watched>,
}

/// A suspect.
#[derive(Debug)]
struct Watched {
    limit: Duration,
    /// When it had its first window.
    first: Option<Instant>,
}

#[derive(Debug)]
struct Open {
    windows: usize,
    is_prime: bool,
    since: Instant,
}

#[derive(Debug)]
struct Waiting {
    shard: ShardId,
    is_prime: bool,
    admitted: oneshot::Sender<Window>,
}

/// What the note should say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The shards with an open window.
    pub running: BTreeSet<ShardId>,
    /// The suspects that were watched for long enough.
    pub survived: BTreeSet<ShardId>,
}

/// New work of a watched shard that may run. It ends when this is dropped.
pub struct Window {
    probation: Arc<Probation>,
    shard: ShardId,
}

impl Probation {
    /// Notes that a suspect is here; it survives once it was watched for `limit`, counted from its
    /// first window.
    pub fn begin(&self, shard: ShardId, watch: Watch, limit: Duration) {
        match watch {
            Watch::TakenOver => {}
            Watch::Suspect | Watch::Prime => {
                let watched = Watched { limit, first: None };
                self.state.lock().suspects.insert(shard, watched);
            }
        }
    }

    /// Forgets a shard that is not here any more.
    pub fn end(&self, shard: ShardId) {
        let mut state = self.state.lock();
        if state.suspects.remove(&shard).is_some() {
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Refuses all windows that wait: the incarnation that would write the note has expired. Those
    /// that are open end by themselves.
    pub fn expire(&self) {
        let mut state = self.state.lock();
        let waiting = std::mem::take(&mut state.waiting);
        state.suspects.clear();
        state.written.clear();
        state.writing = None;
        drop(state);
        drop(waiting);
    }

    /// Waits until the note names the shard; `None`: it never will.
    ///
    /// Cancel safe.
    pub async fn enter(self: Arc<Self>, shard: ShardId, watch: Watch) -> Option<Window> {
        let admitted = {
            let mut state = self.state.lock();
            if let Some(watched) = state.suspects.get_mut(&shard) {
                watched.first.get_or_insert_with(Instant::now);
            }
            let is_prime = watch == Watch::Prime;
            if state.is_named(shard) && state.may_open(shard, is_prime, Instant::now()) {
                state.open(shard, is_prime);
                return Some(self.window(shard));
            }
            let (admitted, waits) = oneshot::channel();
            state.waiting.push_back(Waiting {
                shard,
                is_prime,
                admitted,
            });
            waits
        };
        self.changed.notify_one();
        admitted.await.ok()
    }

    fn window(self: &Arc<Self>, shard: ShardId) -> Window {
        Window {
            probation: self.clone(),
            shard,
        }
    }

    /// Waits until what the note should say may have changed. Cancel safe.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Returns what the note should say now, letting waiting windows in as far as they may be.
    pub fn wanted(&self) -> Wanted {
        let now = Instant::now();
        let mut state = self.state.lock();
        state
            .waiting
            .retain(|waiting| !waiting.admitted.is_closed());
        let mut running: BTreeSet<ShardId> = state.open.keys().copied().collect();
        let mut has_prime = state.has_prime(now);
        for waiting in &state.waiting {
            let is_new = !running.contains(&waiting.shard);
            let waits = is_new && (running.len() >= RUNNING_MAX || waiting.is_prime && has_prime);
            if !waits {
                running.insert(waiting.shard);
                has_prime |= waiting.is_prime;
            }
        }
        let suspects = state.suspects.iter();
        let survived = suspects.filter_map(|(shard, watched)| {
            let survives = watched.survives_at()?;
            (survives <= now).then_some(*shard)
        });
        Wanted {
            survived: survived.collect(),
            running,
        }
    }

    /// Returns when what the note should say changes by itself.
    pub fn next_at(&self) -> Option<Instant> {
        let now = Instant::now();
        let state = self.state.lock();
        let survives = state.suspects.values().filter_map(Watched::survives_at);
        let has_waiting_prime = state.waiting.iter().any(|waiting| waiting.is_prime);
        let primes = state.open.values().filter(|open| open.is_prime);
        let overdue = primes.map(|open| open.since + PRIME_WINDOW_MAX);
        let overdue = overdue.filter(|_| has_waiting_prime);
        survives.chain(overdue).filter(|at| *at > now).min()
    }

    /// Notes that the note is about to be written with these shards.
    pub fn writing(&self, running: &BTreeSet<ShardId>) {
        self.state.lock().writing = Some(running.clone());
    }

    /// Notes that a write came to nothing, or that its outcome is unknown.
    pub fn not_written(&self) {
        let mut state = self.state.lock();
        if let Some(writing) = state.writing.take() {
            // Either may be in the store; only what both name surely is.
            state.written.retain(|shard| writing.contains(shard));
        }
    }

    /// Notes that the note names these shards, and opens the windows that waited for it.
    pub fn written(self: &Arc<Self>, running: BTreeSet<ShardId>) {
        let mut state = self.state.lock();
        state.writing = None;
        state.written = running;
        let mut admitted = Vec::new();
        for waiting in std::mem::take(&mut state.waiting) {
            let named = state.written.contains(&waiting.shard);
            if named && state.may_open(waiting.shard, waiting.is_prime, Instant::now()) {
                state.open(waiting.shard, waiting.is_prime);
                admitted.push((self.window(waiting.shard), waiting.admitted));
            } else {
                state.waiting.push_back(waiting);
            }
        }
        drop(state);
        for (window, waiting) in admitted {
            drop(waiting.send(window)); // One that waits no more gives its window back.
        }
    }
}

impl Watched {
    fn survives_at(&self) -> Option<Instant> {
        self.first.map(|first| first + self.limit)
    }
}

impl State {
    /// Whether the note surely names a shard now, and goes on doing so.
    fn is_named(&self, shard: ShardId) -> bool {
        let stays = self
            .writing
            .as_ref()
            .is_none_or(|writing| writing.contains(&shard));
        self.written.contains(&shard) && stays
    }

    fn may_open(&self, shard: ShardId, is_prime: bool, now: Instant) -> bool {
        self.open.contains_key(&shard) || !is_prime || !self.has_prime(now)
    }

    /// Whether a prime suspect has an open window that excludes others.
    fn has_prime(&self, now: Instant) -> bool {
        let mut primes = self.open.values().filter(|open| open.is_prime);
        primes.any(|open| now < open.since + PRIME_WINDOW_MAX)
    }

    fn open(&mut self, shard: ShardId, is_prime: bool) {
        let open = self.open.entry(shard).or_insert_with(|| Open {
            windows: 0,
            is_prime,
            since: Instant::now(),
        });
        open.windows += 1;
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let mut state = self.probation.state.lock();
        let Some(open) = state.open.get_mut(&self.shard) else {
            return;
        };
        open.windows -= 1;
        if open.windows == 0 {
            state.open.remove(&self.shard);
            drop(state);
            self.probation.changed.notify_one();
        }
    }
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Window").field(&self.shard).finish()
    }
}

#[cfg(test)]
mod tests;
