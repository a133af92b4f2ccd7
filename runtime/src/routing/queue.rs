//! The calls of one connection: those that wait to be sent, and those that wait for an answer.
//!
//! No I/O. What must hold: a call whose frame was handed to the network is never said to be
//! unsent, and a frame whose call was given up before that never leaves.

use std::task::Waker;

use bytes::Bytes;
use slab::Slab;
use tokio::time::Instant;

use super::frame::{self, Answer, OutboundCall};

/// The most frames that wait to be sent on one connection.
pub(super) const OUTGOING_FRAMES_MAX: usize = 16_384;

/// The most bytes that wait to be sent on one connection, but for the last frame.
pub(super) const OUTGOING_BYTES_MAX: usize = 8 << 20;

/// Capacity kept between batches; more is given back.
pub(super) const SPARE_BYTES_MAX: usize = 256 << 10;

/// How a call on a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The other node answered.
    Answered(Answer),
    /// It was surely not sent, and never will be.
    Unsent(Unsent),
    /// The deadline passed after it was sent.
    Expired,
    /// The connection broke, for this reason, after it was sent.
    Lost(String),
}

/// Why a call was not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unsent {
    /// The queue is full, or was until the deadline.
    Full,
    /// There is no connection, for this reason; trying before this moment is of no use.
    Down(String, Instant),
    /// The deadline passed while it waited to be sent.
    Expired,
    /// The node is not in the view any more.
    Gone,
}

/// Names a call on its connection for as long as that lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CallId {
    slot: usize,
    number: u64,
}

impl CallId {
    /// The form on the wire: the slot, and enough of the number to know late answers.
    fn wire(self) -> u64 {
        (self.number << 32) | (self.slot as u64 & u64::from(u32::MAX))
    }
}

/// The calls of one connection.
#[derive(Debug, Default)]
pub(super) struct Queue {
    outgoing: Vec<u8>,
    outgoing_frames: usize,
    calls: Slab<Call>,
    next_number: u64,
    /// Calls with a smaller number were handed to the network.
    sent_below: u64,
    next_deadline: Option<Instant>,
}

#[derive(Debug)]
struct Call {
    number: u64,
    /// Where its frame begins, while it is not sent.
    start: usize,
    deadline: Instant,
    state: State,
}

#[derive(Debug)]
enum State {
    Waiting(Option<Waker>),
    Settled(Fate),
}

impl Queue {
    /// Whether one more call may be added.
    pub(super) fn has_room(&self) -> bool {
        self.outgoing_frames < OUTGOING_FRAMES_MAX && self.outgoing.len() < OUTGOING_BYTES_MAX
    }

    /// Adds a call, and tells whether its deadline is the earliest of all.
    pub(super) fn put(&mut self, outbound: &OutboundCall<'_>, now: Instant) -> (CallId, bool) {
        let deadline = outbound.call.deadline;
        let number = self.next_number;
        self.next_number += 1;
        let slot = self.calls.insert(Call {
            number,
            start: self.outgoing.len(),
            deadline,
            state: State::Waiting(None),
        });
        let id = CallId { slot, number };
        frame::put_call(&mut self.outgoing, id.wire(), outbound, now);
        self.outgoing_frames += 1;
        let earliest = self.next_deadline.is_none_or(|next| deadline < next);
        if earliest {
            self.next_deadline = Some(deadline);
        }
        (id, earliest)
    }

    /// Returns how many calls were added so far.
    pub(super) fn added(&self) -> u64 {
        self.next_number
    }

    /// Whether nothing waits to be sent.
    pub(super) fn is_flushed(&self) -> bool {
        self.outgoing.is_empty()
    }

    /// Whether no call is here.
    pub(super) fn is_idle(&self) -> bool {
        self.calls.is_empty()
    }

    /// Takes everything that waits to be sent: from now on it counts as sent.
    pub(super) fn take_batch(&mut self) -> Bytes {
        let capacity = self.outgoing.len().min(SPARE_BYTES_MAX);
        let batch = std::mem::replace(&mut self.outgoing, Vec::with_capacity(capacity));
        self.outgoing_frames = 0;
        self.sent_below = self.next_number;
        batch.into()
    }

    /// Takes how a call ended; until then, `waker` will be woken when it does.
    pub(super) fn poll(&mut self, id: CallId, waker: &Waker) -> Option<Fate> {
        let call = self
            .get(id)
            .expect("a call is here until its fate is taken");
        match &mut call.state {
            State::Waiting(Some(old)) => old.clone_from(waker),
            State::Waiting(none) => *none = Some(waker.clone()),
            State::Settled(_) => match self.calls.remove(id.slot).state {
                State::Settled(fate) => return Some(fate),
                State::Waiting(_) => unreachable!("it was settled just now"),
            },
        }
        None
    }

    /// The caller went away. The call is not sent, if it was not yet.
    pub(super) fn give_up(&mut self, id: CallId) {
        if let Some(call) = self.get(id) {
            let waiting = matches!(call.state, State::Waiting(_));
            let call = self.calls.remove(id.slot);
            if waiting && call.number >= self.sent_below {
                frame::make_void(&mut self.outgoing, call.start);
            }
        }
    }

    /// Takes in an answer and returns whom to wake. Answers that nobody waits for, because they
    /// came late or twice, are ignored.
    pub(super) fn answer(&mut self, wire_id: u64, answer: Answer) -> Option<Waker> {
        let slot = usize::try_from(wire_id & u64::from(u32::MAX)).ok()?;
        let call = self.calls.get_mut(slot)?;
        let sent = call.number < self.sent_below;
        if !sent
            || (CallId {
                slot,
                number: call.number,
            })
            .wire()
                != wire_id
        {
            return None;
        }
        call.settle(Fate::Answered(answer))
    }

    /// The earliest deadline, or an earlier moment.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.next_deadline
    }

    /// Ends the calls whose deadline passed and returns whom to wake.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Waker> {
        let (sent_below, outgoing) = (self.sent_below, &mut self.outgoing);
        let mut wakers = Vec::new();
        let mut next: Option<Instant> = None;
        for (_, call) in &mut self.calls {
            if matches!(call.state, State::Settled(_)) {
                continue;
            }
            if call.deadline > now {
                next = Some(next.map_or(call.deadline, |next| next.min(call.deadline)));
                continue;
            }
            let sent = call.number < sent_below;
            if !sent {
                frame::make_void(outgoing, call.start);
            }
            let fate = if sent {
                Fate::Expired
            } else {
                Fate::Unsent(Unsent::Expired)
            };
            wakers.extend(call.settle(fate));
        }
        self.next_deadline = next;
        wakers
    }

    /// Nothing more is sent: ends the calls that were not, and returns whom to wake, in the order
    /// in which the calls came, which they keep when they are tried again.
    pub(super) fn fail_unsent(&mut self, unsent: &Unsent) -> Vec<Waker> {
        let sent_below = self.sent_below;
        let calls = self.calls.iter_mut().map(|(_, call)| call);
        let mut waiting: Vec<_> = calls.filter(|call| call.number >= sent_below).collect();
        waiting.sort_unstable_by_key(|call| call.number);
        let wakers = waiting
            .into_iter()
            .filter_map(|call| call.settle(Fate::Unsent(unsent.clone())));
        let wakers = wakers.collect();
        self.outgoing.clear();
        self.outgoing_frames = 0;
        self.sent_below = self.next_number;
        wakers
    }

    /// The connection is no more: ends every call, and returns whom to wake.
    pub(super) fn fail_all(&mut self, lost: &str, unsent: &Unsent) -> Vec<Waker> {
        let mut wakers = self.fail_unsent(unsent);
        let calls = self.calls.iter_mut();
        wakers.extend(calls.filter_map(|(_, call)| call.settle(Fate::Lost(lost.to_owned()))));
        self.next_deadline = None;
        wakers
    }

    fn get(&mut self, id: CallId) -> Option<&mut Call> {
        self.calls
            .get_mut(id.slot)
            .filter(|call| call.number == id.number)
    }
}

impl Call {
    /// Sets the fate, unless there is one already.
    fn settle(&mut self, fate: Fate) -> Option<Waker> {
        match &mut self.state {
            State::Settled(_) => None,
            State::Waiting(waker) => {
                let waker = waker.take();
                self.state = State::Settled(fate);
                waker
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{Frame, frames};
    use super::*;
    use crate::ids::{ObjectKey, Revision};
    use crate::object::{CallPath, EncodedCall, Format};
    use parking_lot::Mutex;
    use std::sync::Arc;
    use std::time::Duration;

    fn call(deadline: Instant) -> EncodedCall {
        EncodedCall {
            key: ObjectKey::new("Counter", "c").unwrap(),
            method: "add".into(),
            args: Bytes::new(),
            format: Format::MessagePack,
            deadline,
            path: CallPath::default(),
            trace: crate::telemetry::Trace::NONE,
        }
    }

    fn outbound(call: &EncodedCall) -> OutboundCall<'_> {
        OutboundCall {
            call,
            known: Revision::default(),
            claim: None,
            forwarded: false,
        }
    }

    /// A queue with as many calls; call `i` has a deadline after `i + 1` seconds.
    fn queue(calls: u64) -> (Queue, Vec<CallId>, Instant) {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let deadlines = (1..=calls).map(|i| now + Duration::from_secs(i));
        let ids = deadlines
            .map(|d| queue.put(&outbound(&call(d)), now).0)
            .collect();
        (queue, ids, now)
    }

    fn wire_ids(batch: &Bytes) -> Vec<u64> {
        let calls = frames(batch, Instant::now()).filter_map(|frame| match frame.unwrap() {
            Frame::Call(id, _) => Some(id),
            Frame::Answer(..) | Frame::Closing | Frame::Void | Frame::Unknown => None,
        });
        calls.collect()
    }

    fn fate(queue: &mut Queue, id: CallId) -> Option<Fate> {
        queue.poll(id, Waker::noop())
    }

    fn reply() -> Answer {
        Answer::Reply(Bytes::new())
    }

    #[test]
    fn a_break_tells_sent_calls_from_unsent_ones() {
        let (mut queue, ids, now) = queue(1);
        queue.take_batch();
        let (unsent, _) = queue.put(&outbound(&call(now)), now);
        queue.fail_all("why", &Unsent::Gone);
        assert_eq!(fate(&mut queue, ids[0]), Some(Fate::Lost("why".into())));
        assert_eq!(fate(&mut queue, unsent), Some(Fate::Unsent(Unsent::Gone)));
        assert!(queue.is_flushed(), "it must not be sent later");
    }

    #[test]
    fn calls_that_were_not_sent_are_woken_in_the_order_in_which_they_came() {
        let (mut queue, ids, now) = queue(3);
        queue.give_up(ids[0]);
        queue.give_up(ids[1]);
        let later = [now; 2].map(|at| queue.put(&outbound(&call(at)), at).0);
        assert!(
            later[0].slot > later[1].slot,
            "slots are reused from the top"
        );
        let woken = Arc::new(Mutex::new(Vec::new()));
        for (n, id) in (0..).zip([ids[2], later[0], later[1]]) {
            let waker = Waker::from(Arc::new(Noted(n, woken.clone())));
            assert_eq!(queue.poll(id, &waker), None);
        }
        queue
            .fail_unsent(&Unsent::Gone)
            .into_iter()
            .for_each(Waker::wake);
        assert_eq!(*woken.lock(), [0, 1, 2]);
    }

    /// A waker that notes its number.
    struct Noted(u32, Arc<Mutex<Vec<u32>>>);

    impl std::task::Wake for Noted {
        fn wake(self: Arc<Self>) {
            self.1.lock().push(self.0);
        }
    }

    #[test]
    fn what_is_given_up_or_expires_unsent_never_leaves() {
        let (mut queue, ids, now) = queue(3);
        queue.give_up(ids[1]);
        queue.expire(now + Duration::from_secs(1));
        assert_eq!(
            fate(&mut queue, ids[0]),
            Some(Fate::Unsent(Unsent::Expired))
        );
        assert_eq!(wire_ids(&queue.take_batch()), [ids[2].wire()]);
    }

    #[test]
    fn a_deadline_after_sending_ends_only_that_call() {
        let (mut queue, ids, now) = queue(2);
        queue.take_batch();
        assert_eq!(queue.next_deadline(), Some(now + Duration::from_secs(1)));
        queue.expire(now + Duration::from_secs(1));
        assert_eq!(fate(&mut queue, ids[0]), Some(Fate::Expired));
        assert_eq!(fate(&mut queue, ids[1]), None);
        assert_eq!(queue.next_deadline(), Some(now + Duration::from_secs(2)));
    }

    #[test]
    fn late_twofold_and_invented_answers_are_ignored() {
        let (mut queue, ids, now) = queue(2);
        let early = queue.answer(ids[0].wire(), reply());
        assert!(
            early.is_none() && fate(&mut queue, ids[0]).is_none(),
            "it was not sent"
        );
        queue.take_batch();
        fate(&mut queue, ids[0]);
        assert!(queue.answer(ids[0].wire(), reply()).is_some());
        assert!(queue.answer(ids[0].wire(), reply()).is_none(), "twice");
        assert_eq!(fate(&mut queue, ids[0]), Some(Fate::Answered(reply())));
        let (reused, _) = queue.put(&outbound(&call(now)), now);
        queue.take_batch();
        assert_eq!(reused.slot, ids[0].slot);
        queue.answer(ids[0].wire(), reply());
        assert_eq!(fate(&mut queue, reused), None, "late");
        for invented in [u64::MAX, 1 << 40, 77] {
            assert!(queue.answer(invented, reply()).is_none());
        }
    }

    #[test]
    fn the_queue_is_bounded_in_frames_and_in_bytes() {
        let (mut queue, _, now) = queue(OUTGOING_FRAMES_MAX as u64);
        assert!(!queue.has_room());
        queue.take_batch();
        assert!(queue.has_room());
        let mut big = call(now);
        big.args = vec![0; OUTGOING_BYTES_MAX].into();
        queue.put(&outbound(&big), now);
        assert!(!queue.has_room());
    }
}
