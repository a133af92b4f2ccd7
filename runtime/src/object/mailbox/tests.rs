//! Every short history of a mailbox.

use super::*;

/// Long enough for two turns, two who wait, a pause and an end.
const STEPS: usize = 7;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Call(usize, Access, Hold);

impl Job for Call {
    fn access(&self) -> Access {
        self.1
    }

    fn method(&self) -> &'static str {
        "test"
    }

    fn is_brief(&self) -> bool {
        false
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Call(Access, Hold),
    EndExclusive,
    EndShared,
    EndAsked,
    Panic,
    Pause,
    Resume,
    Expire,
    EndRetired,
    Seal,
}

const EVERY_STEP: [Step; 13] = [
    Step::Call(Access::Exclusive, Hold::Free),
    Step::Call(Access::Shared, Hold::Free),
    Step::Call(Access::Exclusive, Hold::Held),
    Step::Call(Access::Shared, Hold::Held),
    Step::EndExclusive,
    Step::EndShared,
    Step::EndAsked,
    Step::Panic,
    Step::Pause,
    Step::Resume,
    Step::Expire,
    Step::EndRetired,
    Step::Seal,
];

/// A mailbox, and what must be true of it.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Clone, Debug)]
struct World {
    mailbox: Mailbox<(), Call>,
    exclusive: bool,
    shared: usize,
    waiting: VecDeque<Call>,
    calls: usize,
    is_retiring: bool,
    is_ending: bool,
    is_lost: bool,
    is_paused: bool,
    is_over: bool,
}

#[test]
fn every_short_history_keeps_turns_apart_in_order_and_moving() {
    let mut mailbox = Mailbox::activating(VecDeque::new(), 0);
    assert!(matches!(mailbox.leave_alone(end(false), 0), Next::Rest));
    let world = World {
        mailbox,
        exclusive: false,
        shared: 0,
        waiting: VecDeque::new(),
        calls: 0,
        is_retiring: false,
        is_ending: false,
        is_lost: false,
        is_paused: false,
        is_over: false,
    };
    explore(&world, &mut Vec::new());
}

#[test]
fn a_turn_that_outlives_its_activation_gets_its_state_back_to_drop() {
    let mut mailbox = Mailbox::<(), Call>::activating(VecDeque::new(), 0);
    mailbox.leave_alone(end(false), 0);
    let begun = mailbox.enter(Access::Exclusive, "test", false, || Hold::Free);
    assert!(matches!(begun, Entry::Run(())));
    assert!(mailbox.finish().state.is_none(), "the turn has it");
    assert!(matches!(
        mailbox.leave_alone(end(false), 0),
        Next::Drop(Some(()))
    ));
    assert!(mailbox.finish().state.is_none(), "nothing is kept");
}

#[test]
fn who_comes_while_brief_turns_run_may_try_again_unless_they_rest() {
    let mut mailbox = Mailbox::<(), Call>::activating(VecDeque::new(), 0);
    mailbox.leave_alone(end(false), 0);
    let mut enter = |brief| mailbox.enter(Access::Exclusive, "test", brief, || Hold::Free);
    assert!(matches!(enter(true), Entry::Run(())));
    assert!(matches!(enter(false), Entry::Busy { brief: true }));
    mailbox.rest_a_while();
    let again = mailbox.enter(Access::Exclusive, "test", true, || Hold::Free);
    assert!(matches!(again, Entry::Busy { brief: false }));
}

fn explore(world: &World, history: &mut Vec<Step>) {
    world.check(history);
    if history.len() == STEPS || world.is_over {
        return;
    }
    for step in EVERY_STEP {
        let mut next = world.clone();
        if next.take(step) {
            history.push(step);
            explore(&next, history);
            history.pop();
        }
    }
}

fn end(deactivate: bool) -> End<()> {
    End {
        state: Some(()),
        deactivate,
    }
}

impl World {
    /// Takes a step, or returns that it is not possible now.
    fn take(&mut self, step: Step) -> bool {
        let next = match step {
            Step::Call(access, hold) => return self.call(access, hold),
            Step::EndExclusive | Step::EndAsked if self.exclusive => {
                self.exclusive = false;
                self.is_ending |= step == Step::EndAsked;
                self.mailbox.leave_alone(end(step == Step::EndAsked), 0)
            }
            Step::EndShared | Step::EndAsked if self.shared > 0 => {
                self.shared -= 1;
                self.is_ending |= step == Step::EndAsked;
                let ending = end(step == Step::EndAsked).drop_state();
                self.mailbox.leave_shared(ending, 0)
            }
            Step::Panic if self.exclusive => {
                self.exclusive = false;
                self.is_lost = true;
                let lost = End {
                    state: None,
                    deactivate: false,
                };
                self.mailbox.leave_alone(lost, 0)
            }
            Step::Panic if self.shared > 0 => {
                self.shared -= 1;
                self.is_lost = true;
                self.mailbox.leave_shared(Ending::Discarded, 0)
            }
            Step::Pause if !self.is_paused => {
                self.is_paused = true;
                let waiting = std::mem::take(&mut self.waiting).into_iter();
                let (stay, go): (VecDeque<_>, _) = waiting.partition(|call| call.2 == Hold::Held);
                self.waiting = stay;
                assert_eq!(self.mailbox.pause(|call| call.2), go);
                return true;
            }
            Step::Resume if self.is_paused => {
                self.is_paused = false;
                self.mailbox.resume()
            }
            Step::Expire => match self.mailbox.retire_if_idle(0) {
                Some(()) => Next::Retire(()),
                None => return false,
            },
            Step::EndRetired if self.is_retiring => {
                let remains = self.mailbox.finish();
                assert_eq!(
                    remains.queue, self.waiting,
                    "they go to the next activation"
                );
                self.is_over = true;
                return true;
            }
            Step::Seal if self.is_paused => {
                let quiet = !self.exclusive && self.shared == 0 && !self.is_retiring;
                assert_eq!(self.mailbox.seal(), quiet);
                self.is_over = quiet; // Nothing begins any more.
                return quiet;
            }
            Step::EndExclusive | Step::EndShared | Step::EndAsked | Step::Panic => {
                return false;
            }
            Step::Pause | Step::Resume | Step::EndRetired | Step::Seal => return false,
        };
        self.follow(next);
        true
    }

    fn call(&mut self, access: Access, hold: Hold) -> bool {
        let call = Call(self.calls, access, hold);
        self.calls += 1;
        match self.mailbox.enter(access, "test", false, || hold) {
            Entry::Run(()) => {
                assert!(self.waiting.is_empty(), "nobody is overtaken");
                self.began(call);
            }
            Entry::Shut(_) => {
                assert!(self.is_paused && (hold == Hold::Free || self.is_lost));
            }
            Entry::Busy { .. } => {
                self.waiting.push_back(call);
                self.mailbox.push(call, 8).expect("there is room");
            }
        }
        true
    }

    fn began(&mut self, call: Call) {
        assert!(!self.is_lost && !self.is_retiring);
        assert!(!self.is_ending || self.is_paused);
        assert!(!self.is_paused || call.2 == Hold::Held);
        match call.1 {
            Access::Exclusive => self.exclusive = true,
            Access::Shared => self.shared += 1,
        }
    }

    #[allow(clippy::needless_pass_by_value, reason = "it is done with then")]
    fn follow(&mut self, next: Next<(), Call>) {
        match next {
            Next::Rest => {}
            Next::Quiet => assert!(self.is_paused),
            Next::Drop(_) => panic!("nothing comes after the end"),
            Next::Exclusive(call, ()) => {
                assert_eq!(self.waiting.pop_front(), Some(call));
                self.began(call);
            }
            Next::Shared(call, ()) => {
                assert_eq!(self.waiting.pop_front(), Some(call));
                self.began(call);
                let next = self.mailbox.settle();
                self.follow(next);
            }
            Next::Retire(()) => {
                assert!(!self.exclusive && self.shared == 0);
                self.is_retiring = true;
            }
            Next::Replace => {
                assert!(!self.exclusive && self.shared == 0 && self.is_lost);
                assert_eq!(self.mailbox.finish().queue, self.waiting);
                self.is_over = true;
            }
        }
    }

    fn check(&self, history: &[Step]) {
        assert!(!(self.exclusive && self.shared > 0), "{history:?}");
        let runs = self.exclusive || self.shared > 0 || self.is_retiring;
        let stuck = !self.waiting.is_empty() && !runs && !self.is_over;
        assert!(!stuck, "somebody waits for nothing: {history:?}");
        assert_eq!(self.mailbox.is_quiet(), !runs || self.is_over);
        assert_eq!(self.mailbox.queue.is_some(), self.mailbox.waiting() > 0);
    }
}
