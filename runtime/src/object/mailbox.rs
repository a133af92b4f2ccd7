//! Who may have a turn: one alone or several together, in the order in which they came.
//!
//! Pure: takes no lock and runs nothing; `activation` keeps it under one and does what it says.
//!
//! What holds between any two calls:
//! - an exclusive turn runs with no other: it has taken the state out;
//! - nobody overtakes: whoever comes while somebody waits, waits behind;
//! - unless the object is paused or ending, somebody who waits does so for a running turn;
//! - while it is paused only calls of turns that hold the shard have theirs: the shard closes, and
//!   those turns could not end if their own calls waited for that.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use tokio_util::sync::CancellationToken;

use super::Access;
use super::used::Used;

/// Something that waits for its turn.
pub(super) trait Job {
    /// Whether its turn must be alone.
    fn access(&self) -> Access;
    /// The method, for reports.
    fn method(&self) -> &'static str;
    /// Whether its turn ends without waiting for anything.
    fn is_brief(&self) -> bool;
}

/// Whether a call belongs to a turn of the same shard, which is held open until that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// It does.
    Held,
    /// It does not.
    Free,
}

/// Whether turns may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// They may.
    Open,
    /// The shard is being closed: only those of calls that belong to its running turns.
    Paused,
    /// The shard is being closed, and no turn of it runs any more.
    Sealed,
    /// The activation is over; the object may have another one.
    Gone,
}

/// How an activation ends once no turn runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Not at all.
    None,
    /// With its hook and a last save.
    Orderly,
    /// Its memory cannot be trusted: nothing of it is kept.
    Discarded,
}

/// What a turn leaves behind.
#[derive(Debug)]
pub(super) struct End<S> {
    /// The state; `None` if it cannot be trusted any more.
    pub(super) state: Option<S>,
    /// Whether the activation is to end in order.
    pub(super) deactivate: bool,
}

impl<S> End<S> {
    /// Drops the state, as a shared turn must before it leaves.
    pub(super) fn drop_state(self) -> Ending {
        match (self.state, self.deactivate) {
            (None, _) => Ending::Discarded,
            (Some(_), true) => Ending::Orderly,
            (Some(_), false) => Ending::None,
        }
    }
}

/// The answer to a call that wants its turn now.
#[derive(Debug)]
pub(super) enum Entry<S> {
    /// The turn has begun; [`Mailbox::leave`] ends it.
    Run(S),
    /// Others have theirs. `brief`: only for a moment each, so that trying again may be quicker.
    Busy { brief: bool },
    /// None can start.
    Shut(Gate),
}

/// What must be done next.
#[derive(Debug)]
pub(super) enum Next<S, J> {
    /// Nothing, or it is another's to do.
    Rest,
    /// Run this exclusive turn and leave.
    Exclusive(J, S),
    /// Begin this shared turn and settle again.
    Shared(J, S),
    /// End in order: no turn runs nor starts.
    Retire(S),
    /// End without a trace, and begin anew if calls wait.
    Replace,
    /// Tell whoever closes the shard that no turn runs.
    Quiet,
    /// Drop this: the activation is over, and handles may keep what is left of it.
    Drop(Option<S>),
}

impl<S, J: Job> Next<S, J> {
    /// Whether it is a turn that ends without waiting for anything.
    pub(super) fn is_brief_turn(&self) -> bool {
        match self {
            Self::Exclusive(job, _) | Self::Shared(job, _) => job.is_brief(),
            Self::Rest | Self::Retire(_) | Self::Replace | Self::Quiet | Self::Drop(_) => false,
        }
    }
}

/// What is left of a mailbox at its end.
#[derive(Debug)]
pub(super) struct Remains<S, J> {
    pub(super) state: Option<S>,
    pub(super) queue: VecDeque<J>,
    pub(super) cancellation: Option<CancellationToken>,
}

/// Who has a turn, and who waits for one. What no turn touches comes last.
#[cfg_attr(test, derive(Clone))]
#[derive(Debug)]
#[repr(C)]
pub(super) struct Mailbox<S, J> {
    readers: u32,
    gate: Gate,
    ending: Ending,
    /// An exclusive turn runs, or somebody works through the queue, or the object is activated.
    alone: bool,
    brief: bool,
    state: Option<S>,
    /// Made by the first that must wait, and freed with the last.
    #[allow(
        clippy::box_collection,
        reason = "it is almost always absent: 8 bytes, not 32"
    )]
    queue: Option<Box<VecDeque<J>>>,
    used: Used,
    running: &'static str,
    cancellation: Option<CancellationToken>,
}

impl<S: Clone, J: Job> Mailbox<S, J> {
    /// Begins with an object that is being activated, and the calls that wait for it.
    pub(super) fn activating(queue: VecDeque<J>, now: u64) -> Self {
        Self {
            state: None,
            queue: (!queue.is_empty()).then(|| Box::new(queue)),
            cancellation: None,
            running: "activate",
            used: Used::activating(now),
            readers: 0,
            gate: Gate::Open,
            ending: Ending::None,
            alone: true,
            brief: false,
        }
    }

    /// Begins a turn if it need not wait. `hold` is asked only if the object is paused.
    pub(super) fn enter(
        &mut self,
        access: Access,
        method: &'static str,
        brief: bool,
        hold: impl FnOnce() -> Hold,
    ) -> Entry<S> {
        let ends = match self.gate {
            Gate::Open => self.ending != Ending::None,
            // Its end waits for that of the closing.
            Gate::Paused if self.ending != Ending::Discarded && hold() == Hold::Held => false,
            Gate::Paused | Gate::Sealed | Gate::Gone => return Entry::Shut(self.gate),
        };
        if self.alone || self.queue.is_some() || ends {
            return Entry::Busy { brief: self.brief };
        }
        let state = match access {
            Access::Exclusive if self.readers > 0 => return Entry::Busy { brief: self.brief },
            Access::Exclusive => {
                self.alone = true;
                self.state.take()
            }
            Access::Shared => {
                self.readers += 1;
                self.state.clone()
            }
        };
        self.running = method;
        self.brief = brief;
        Entry::Run(state.expect("an object at rest has its state"))
    }

    /// Lets a call wait, or returns it if `len_max` do already.
    pub(super) fn push(&mut self, job: J, len_max: usize) -> Result<(), J> {
        let queue = self.queue.get_or_insert_default();
        if queue.len() >= len_max {
            return Err(job);
        }
        queue.push_back(job);
        Ok(())
    }

    /// Ends an exclusive turn.
    pub(super) fn leave_alone(&mut self, end: End<S>, now: u64) -> Next<S, J> {
        if self.gate == Gate::Gone {
            self.alone = false;
            return Next::Drop(end.state);
        }
        self.used = self.used.and_again(now);
        self.note(if end.state.is_none() {
            Ending::Discarded
        } else if end.deactivate {
            Ending::Orderly
        } else {
            Ending::None
        });
        self.state = end.state;
        self.settle()
    }

    /// Lets those who come for a while wait rather than try again: whoever works through the queue
    /// stops for that long.
    pub(super) fn rest_a_while(&mut self) {
        self.brief = false;
    }

    /// Ends a shared turn, whose state has been dropped.
    pub(super) fn leave_shared(&mut self, ending: Ending, now: u64) -> Next<S, J> {
        self.used = self.used.and_again(now);
        self.note(ending);
        self.readers -= 1;
        if self.alone {
            return Next::Rest; // Whoever works through the queue settles next.
        }
        self.settle()
    }

    /// Ends a shared turn of the one who works through the queue, who then goes on.
    pub(super) fn leave_shared_and_go_on(&mut self, ending: Ending, now: u64) -> Next<S, J> {
        self.used = self.used.and_again(now);
        self.note(ending);
        self.readers -= 1;
        self.settle()
    }

    fn note(&mut self, ending: Ending) {
        match (self.ending, ending) {
            (_, Ending::None) | (Ending::Discarded, Ending::Orderly | Ending::Discarded) => {}
            (Ending::None | Ending::Orderly, Ending::Orderly | Ending::Discarded) => {
                self.ending = ending;
            }
        }
    }

    /// Decides what comes next. Only for whoever was alone, or left last.
    pub(super) fn settle(&mut self) -> Next<S, J> {
        self.alone = false;
        let waits = self.queue.is_some();
        match (self.gate, self.ending) {
            (Gate::Open, Ending::None) => self.next_job(),
            // Calls of running turns come before the object's end.
            (Gate::Paused, Ending::None | Ending::Orderly) if waits => self.next_job(),
            (..) if self.readers > 0 => Next::Rest, // The last of them settles.
            (Gate::Open, Ending::Orderly) => Next::Retire(self.retire()),
            (Gate::Open, Ending::Discarded) => self.replace(),
            (Gate::Paused, Ending::Discarded) if waits => self.replace(),
            (Gate::Paused | Gate::Sealed | Gate::Gone, _) => Next::Quiet,
        }
    }

    fn replace(&mut self) -> Next<S, J> {
        self.alone = true;
        Next::Replace
    }

    fn next_job(&mut self) -> Next<S, J> {
        let front = self.queue.as_ref().and_then(|queue| queue.front());
        let Some(access) = front.map(Job::access) else {
            self.queue = None;
            return Next::Rest;
        };
        if access == Access::Exclusive && self.readers > 0 {
            return Next::Rest;
        }
        let queue = self.queue.as_mut().expect("it has a front");
        let job = queue.pop_front().expect("it has a front");
        if queue.is_empty() {
            self.queue = None;
        }
        self.alone = true;
        self.brief = job.is_brief();
        self.running = job.method();
        match access {
            Access::Exclusive => {
                let state = self.state.take();
                Next::Exclusive(job, state.expect("an object at rest has its state"))
            }
            Access::Shared => {
                self.readers += 1;
                let state = self.state.clone();
                Next::Shared(job, state.expect("no exclusive turn runs"))
            }
        }
    }

    /// Begins an orderly end if the object is at rest and was last used before `used_before`.
    pub(super) fn retire_if_idle(&mut self, used_before: u64) -> Option<S> {
        let at_rest = self.is_quiet() && self.gate == Gate::Open && self.queue.is_none();
        (at_rest && self.ending == Ending::None && self.used.at() <= used_before)
            .then(|| self.retire())
    }

    fn retire(&mut self) -> S {
        self.alone = true;
        self.ending = Ending::Orderly;
        self.brief = false;
        self.running = "deactivate";
        self.state.take().expect("an object at rest has its state")
    }

    /// Lets no more turns start, but for calls that belong to running ones, and returns the calls
    /// that waited and do not.
    pub(super) fn pause(&mut self, hold: impl Fn(&J) -> Hold) -> VecDeque<J> {
        if self.gate == Gate::Open {
            self.gate = Gate::Paused;
        }
        let queue = self.queue.take().map(|queue| *queue).unwrap_or_default();
        let (stay, go): (VecDeque<_>, _) =
            queue.into_iter().partition(|job| hold(job) == Hold::Held);
        self.queue = (!stay.is_empty()).then(|| Box::new(stay));
        go
    }

    /// Lets no turn start at all, if the object is paused and none runs; returns whether that is so.
    pub(super) fn seal(&mut self) -> bool {
        let quiet = self.is_quiet() && self.queue.is_none();
        if quiet && self.gate == Gate::Paused {
            self.gate = Gate::Sealed;
        }
        quiet
    }

    /// Takes back what [`Mailbox::seal`] did.
    pub(super) fn unseal(&mut self) {
        if self.gate == Gate::Sealed {
            self.gate = Gate::Paused;
        }
    }

    /// Lets turns start again after a pause.
    pub(super) fn resume(&mut self) -> Next<S, J> {
        if self.gate != Gate::Paused {
            return Next::Rest;
        }
        self.gate = Gate::Open;
        if self.alone || self.readers > 0 {
            Next::Rest
        } else {
            self.settle()
        }
    }

    /// Takes the state of a paused and quiet object for its orderly end; `None` if there is none
    /// that can be trusted.
    pub(super) fn take_last(&mut self) -> Option<S> {
        let trusted = self.is_quiet() && self.ending != Ending::Discarded;
        trusted.then(|| self.state.take()).flatten()
    }

    /// Gives back what [`Mailbox::take_last`] took: the object does not end after all. Returns it if
    /// the mailbox has ended meanwhile.
    pub(super) fn put_back(&mut self, state: S) -> Option<S> {
        if self.gate == Gate::Gone {
            return Some(state);
        }
        self.state = Some(state);
        None
    }

    /// Ends the mailbox: no turn ever starts again.
    pub(super) fn finish(&mut self) -> Remains<S, J> {
        self.gate = Gate::Gone;
        Remains {
            state: self.state.take(),
            queue: self.queue.take().map(|queue| *queue).unwrap_or_default(),
            cancellation: self.cancellation.take(),
        }
    }

    /// Whether no turn ever starts again.
    pub(super) fn is_over(&self) -> bool {
        self.gate == Gate::Gone
    }

    /// Whether no turn runs, or the activation is over and its turns count no more.
    pub(super) fn is_quiet(&self) -> bool {
        self.gate == Gate::Gone || (!self.alone && self.readers == 0)
    }

    /// The state, unless an exclusive turn has it.
    pub(super) fn state(&self) -> Option<&S> {
        self.state.as_ref()
    }

    /// The method whose turn began last.
    pub(super) fn running(&self) -> &'static str {
        self.running
    }

    pub(super) fn waiting(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.len())
    }

    pub(super) fn used(&self) -> Used {
        self.used
    }

    /// A token that is cancelled at the end; cancelled already after it.
    pub(super) fn cancellation(&mut self) -> CancellationToken {
        if self.gate == Gate::Gone {
            let over = CancellationToken::new();
            over.cancel();
            return over;
        }
        self.cancellation.get_or_insert_default().clone()
    }
}
