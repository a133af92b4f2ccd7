//! Trouble that a test scripts for one client of the memory store.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::REQUEST_TIMEOUT;
use crate::coordination::effect::Effect;
use crate::coordination::store::StoreError;

/// The trouble of one client. Clones are the same script.
#[derive(Clone, Debug)]
pub struct Faults {
    script: watch::Sender<Script>,
}

/// How a client is cut off from the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Every request fails at once as [`StoreError::Unavailable`], as when the connection is
    /// refused; watches and keep-alives end.
    Refused,
    /// Nothing arrives and nothing is answered. Requests fail after two seconds, those that might
    /// have changed something as [`StoreError::Unknown`]; so do watches and keep-alives.
    Silent,
}

/// What goes wrong with one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitFault {
    /// It fails as [`StoreError::Unavailable`] and is never applied.
    Fail,
    /// It is applied, and fails as [`StoreError::Unknown`].
    LoseReply,
    /// It is applied, and answered, after this time.
    Delay(Duration),
    /// It fails at once as [`StoreError::Unknown`], and is applied after this time.
    ApplyLater(Duration),
}

#[derive(Debug, Default)]
struct Script {
    cut: Option<Cut>,
    keep_alives_stalled: bool,
    watches_broken: u64,
    commits: u64,
    commit_faults: BTreeMap<u64, CommitFault>,
}

impl Faults {
    pub(super) fn new() -> Self {
        Self {
            script: watch::Sender::new(Script::default()),
        }
    }

    /// Cuts the client off, or with `None` connects it again.
    pub fn cut(&self, cut: Option<Cut>) {
        self.script.send_modify(|script| script.cut = cut);
    }

    /// Lets the `nth` commit from now on go wrong; 1 is the next one.
    pub fn on_commit(&self, nth: u64, fault: CommitFault) {
        self.script.send_modify(|script| {
            script.commit_faults.insert(script.commits + nth, fault);
        });
    }

    /// Ends every open watch as [`StoreError::Unavailable`]. New ones can be opened.
    pub fn break_watches(&self) {
        self.script.send_modify(|script| script.watches_broken += 1);
    }

    /// From now on keep-alives neither arrive nor are answered, or do so again.
    pub fn stall_keep_alives(&self, stalled: bool) {
        self.script
            .send_modify(|script| script.keep_alives_stalled = stalled);
    }

    /// Waits as a request on its way to the store does; an error if it never arrives.
    pub(super) async fn arrive(&self, effect: Effect) -> Result<(), StoreError> {
        let cut = self.script.borrow().cut;
        match cut {
            None => Ok(()),
            Some(Cut::Refused) => Err(refused()),
            Some(Cut::Silent) => {
                sleep(REQUEST_TIMEOUT).await;
                Err(unanswered(effect))
            }
        }
    }

    /// Waits as a keep-alive on its way does, which may be stalled for a while.
    pub(super) async fn arrive_keep_alive(&self) -> Result<(), StoreError> {
        self.arrive(Effect::None).await?;
        let mut script = self.script.subscribe();
        let flowing = script.wait_for(|script| !script.keep_alives_stalled);
        match timeout(REQUEST_TIMEOUT, flowing).await {
            Ok(_) => Ok(()),
            Err(_) => Err(unanswered(Effect::None)),
        }
    }

    /// Counts a commit and returns what is to go wrong with it.
    pub(super) fn next_commit(&self) -> Option<CommitFault> {
        let mut fault = None;
        self.script.send_modify(|script| {
            script.commits += 1;
            fault = script.commit_faults.remove(&script.commits);
        });
        fault
    }

    /// Ends once a watch opened now must end, with the reason.
    pub(super) fn watch_end(&self) -> impl Future<Output = StoreError> + Send + 'static {
        let mut script = self.script.subscribe();
        let broken = script.borrow().watches_broken;
        async move {
            let end = script
                .wait_for(|script| script.cut.is_some() || script.watches_broken != broken)
                .await
                .map(|script| script.cut);
            match end {
                Ok(Some(Cut::Silent)) => {
                    sleep(REQUEST_TIMEOUT).await;
                    unanswered(Effect::None)
                }
                Ok(Some(Cut::Refused) | None) | Err(_) => refused(),
            }
        }
    }

    /// Whether nothing comes through to this client's watches.
    pub(super) fn is_cut(&self) -> bool {
        self.script.borrow().cut.is_some()
    }
}

pub(super) fn refused() -> StoreError {
    StoreError::Unavailable("cut off from the memory store".into())
}

pub(super) fn unanswered(effect: Effect) -> StoreError {
    effect.unanswered("no answer from the memory store")
}
