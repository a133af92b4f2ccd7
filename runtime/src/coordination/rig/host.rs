//! A host that only keeps watch: over what is opened twice, and over what is lost.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::coordination::reconciler::{Closing, SendError, Sent, ShardHost};
use crate::ids::{Incarnation, NodeId, ObjectKey, ShardId, Token};
use crate::placement::{Owner, Parcel};

/// What the hosts of a test have in common: where each shard is open, and the states that travel.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    open: BTreeMap<ShardId, NodeId>,
    /// The present life of each process.
    pub(super) lives: BTreeMap<NodeId, Incarnation>,
    /// What each host was sent and did not take in yet.
    staged: BTreeMap<(NodeId, ShardId), (Parcel, u64)>,
    taken: BTreeSet<(ShardId, Parcel)>,
    /// The calls that each shard has answered, which its state counts.
    answered: BTreeMap<ShardId, u64>,
    /// The states that objects saved at their end.
    saved: BTreeMap<ShardId, u64>,
    /// Shards whose state a crash or a lost lease may have taken along.
    endangered: BTreeSet<ShardId>,
}

/// A host with one object a shard, which counts its calls. Panics if a shard is opened while
/// another node has it open, if a parcel is taken in twice or is not there, and if the state of an
/// object is lost without a crash.
pub(crate) struct FakeHost {
    id: NodeId,
    hosts: Arc<Mutex<Hosts>>,
    state: Mutex<HostState>,
    pub(crate) changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct HostState {
    open: BTreeMap<ShardId, Token>,
    /// The states of the objects, also of closed shards.
    objects: BTreeMap<ShardId, u64>,
    /// Shards whose turns do not end.
    stuck: BTreeSet<ShardId>,
    slow: Duration,
    slow_sending: Duration,
    slow_ending: Duration,
    send_errors: VecDeque<SendError>,
    most_closed: usize,
    closed: BTreeSet<ShardId>,
    history: Vec<String>,
}

impl FakeHost {
    pub(super) fn new(id: NodeId, hosts: Arc<Mutex<Hosts>>) -> Self {
        Self {
            id,
            hosts,
            state: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }

    pub(crate) fn open_shards(&self) -> BTreeSet<u32> {
        self.state
            .lock()
            .open
            .keys()
            .map(|shard| shard.get())
            .collect()
    }

    pub(crate) fn token(&self, shard: ShardId) -> Option<Token> {
        self.state.lock().open.get(&shard).copied()
    }

    /// Returns what happened, as `open 3`, `close 3`, `closed 3`, `overdue 3`, `send 3 to b`,
    /// `unsent 3`, `end 3`, `let go 3`, `discard 3`.
    pub(crate) fn history(&self) -> Vec<String> {
        self.state.lock().history.clone()
    }

    /// Returns the most shards that were closed here at the same time.
    pub(crate) fn most_closed(&self) -> usize {
        self.state.lock().most_closed
    }

    pub(crate) fn closings_take(&self, slow: Duration) {
        self.state.lock().slow = slow;
    }

    pub(crate) fn sendings_take(&self, slow: Duration) {
        self.state.lock().slow_sending = slow;
    }

    pub(crate) fn endings_take(&self, slow: Duration) {
        self.state.lock().slow_ending = slow;
    }

    /// Lets the next sending fail, after those which are to fail already.
    pub(crate) fn fail_sending(&self, error: SendError) {
        self.state.lock().send_errors.push_back(error);
    }

    pub(crate) fn stick(&self, shard: ShardId, stuck: bool) {
        let mut state = self.state.lock();
        if stuck {
            state.stuck.insert(shard);
        } else {
            state.stuck.remove(&shard);
        }
    }

    /// Calls the object of a shard, if that is open here.
    pub(crate) fn call(&self, shard: ShardId) {
        let (mut hosts, mut state) = (self.hosts.lock(), self.state.lock());
        if !state.open.contains_key(&shard) {
            return;
        }
        let counted = state.objects.entry(shard).or_default();
        *counted += 1;
        hosts.answered.insert(shard, *counted);
        hosts.endangered.remove(&shard);
    }

    /// Calls the object of every open shard once.
    pub(crate) fn call_all(&self) {
        let open: Vec<ShardId> = self.state.lock().open.keys().copied().collect();
        for shard in open {
            self.call(shard);
        }
    }

    /// Lets the state of a shard be lost without a panic.
    pub(crate) fn endanger(&self, shard: ShardId) {
        self.hosts.lock().endangered.insert(shard);
    }

    /// Returns how many calls the object of a shard has counted, wherever it counted them.
    pub(crate) fn counted(&self, shard: ShardId) -> Option<u64> {
        self.state.lock().objects.get(&shard).copied()
    }

    /// Forgets everything, as the end of the process does.
    pub(super) fn crash(&self) {
        let (mut hosts, mut state) = (self.hosts.lock(), self.state.lock());
        hosts.lives.remove(&self.id);
        hosts.open.retain(|_, node| *node != self.id);
        let staged = hosts.staged.keys().filter(|(node, _)| *node == self.id);
        let staged: Vec<ShardId> = staged.map(|(_, shard)| *shard).collect();
        hosts.endangered.extend(staged);
        hosts.endangered.extend(state.objects.keys());
        hosts.staged.retain(|(node, _), _| *node != self.id);
        state.open.clear();
        state.objects.clear();
        state.closed.clear();
        drop((hosts, state));
        self.note(String::new());
    }

    fn shut(&self, shard: ShardId) {
        let (mut hosts, mut state) = (self.hosts.lock(), self.state.lock());
        if state.open.remove(&shard).is_some() {
            hosts.open.remove(&shard);
        }
    }

    /// Returns the state that a shard begins with which has no objects here.
    fn take_in(&self, hosts: &mut Hosts, shard: ShardId, parcel: Option<Parcel>) -> Option<u64> {
        let staged = hosts.staged.remove(&(self.id.clone(), shard));
        let Some(parcel) = parcel else {
            return hosts.saved.get(&shard).copied();
        };
        assert!(
            hosts.taken.insert((shard, parcel)),
            "{parcel:?} of {shard} is taken in twice"
        );
        let found = staged.filter(|(name, _)| *name == parcel);
        assert!(
            found.is_some() || hosts.endangered.contains(&shard),
            "{} never got {parcel:?} of {shard}, but {staged:?}",
            self.id
        );
        found.map(|(_, counted)| counted)
    }

    fn note(&self, what: String) {
        let mut state = self.state.lock();
        state.history.push(what);
        state.most_closed = state.most_closed.max(state.closed.len());
        drop(state);
        self.changes.send_modify(|changes| *changes += 1);
    }
}

#[async_trait]
impl ShardHost for FakeHost {
    fn open(&self, shard: ShardId, token: Token, parcel: Option<Parcel>) {
        let (mut hosts, mut state) = (self.hosts.lock(), self.state.lock());
        let other = hosts.open.insert(shard, self.id.clone());
        assert!(
            other.as_ref().is_none_or(|other| *other == self.id),
            "shard {shard} is open at {other:?} and opens at {}",
            self.id
        );
        let kept = state.objects.get(&shard).copied();
        let counted = kept.or_else(|| self.take_in(&mut hosts, shard, parcel));
        let answered = hosts.answered.get(&shard).copied();
        assert!(
            counted == answered || hosts.endangered.contains(&shard),
            "{shard} has answered {answered:?} calls and its state at {} counts {counted:?}",
            self.id
        );
        if let Some(counted) = counted {
            state.objects.insert(shard, counted);
        }
        state.open.insert(shard, token);
        state.closed.remove(&shard);
        drop((hosts, state));
        self.note(format!("open {shard}"));
    }

    async fn close(&self, shard: ShardId, limit: Duration) -> Closing {
        self.note(format!("close {shard}"));
        let token = self.token(shard);
        let slow = self.state.lock().slow;
        tokio::time::sleep(slow.min(limit)).await;
        if self.state.lock().stuck.contains(&shard) {
            tokio::time::sleep(limit.saturating_sub(slow)).await;
            self.note(format!("overdue {shard}"));
            let object = ObjectKey::new("Sleeper", "s").expect("a good key");
            return Closing::Overdue(vec![(object, "sleep".into())]);
        }
        if token.is_some() && self.token(shard) == token {
            self.shut(shard);
            self.state.lock().closed.insert(shard);
            self.note(format!("closed {shard}"));
        }
        Closing::Closed
    }

    async fn send_ahead(
        &self,
        shard: ShardId,
        to: &Owner,
        parcel: Parcel,
        limit: Duration,
    ) -> Result<Sent, SendError> {
        self.note(format!("send {shard} to {}", to.node));
        let slow = self.state.lock().slow_sending;
        if tokio::time::timeout(limit, tokio::time::sleep(slow))
            .await
            .is_err()
        {
            return Err(SendError::Late);
        }
        let (mut hosts, mut state) = (self.hosts.lock(), self.state.lock());
        if let Some(error) = state.send_errors.pop_front() {
            state.history.push(format!("unsent {shard}"));
            return Err(error);
        }
        if hosts.lives.get(&to.node) != Some(&to.incarnation) {
            state.history.push(format!("unsent {shard}"));
            return Err(SendError::Unreachable(to.node.clone(), "gone".into()));
        }
        let Some(counted) = state.objects.get(&shard) else {
            return Ok(Sent::Nothing);
        };
        let place = (to.node.clone(), shard);
        hosts.staged.insert(place, (parcel, *counted));
        Ok(Sent::Staged)
    }

    async fn end(&self, shard: ShardId, _: Duration) {
        let slow = self.state.lock().slow_ending;
        tokio::time::sleep(slow).await; // Also beyond the limit, as a bad host may.
        let (mut hosts, mut state) = (self.hosts.lock(), self.state.lock());
        if let Some(counted) = state.objects.remove(&shard) {
            hosts.saved.insert(shard, counted);
        }
        drop((hosts, state));
        self.note(format!("end {shard}"));
    }

    fn let_go(&self, shard: ShardId) {
        let mut state = self.state.lock();
        state.objects.remove(&shard);
        state.closed.remove(&shard);
        drop(state);
        self.note(format!("let go {shard}"));
    }

    fn discard(&self, shard: ShardId) {
        self.shut(shard);
        let (mut hosts, mut state) = (self.hosts.lock(), self.state.lock());
        state.closed.remove(&shard);
        if state.objects.remove(&shard).is_some() {
            hosts.endangered.insert(shard);
        }
        drop((hosts, state));
        self.note(format!("discard {shard}"));
    }
}

impl fmt::Debug for FakeHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeHost")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
