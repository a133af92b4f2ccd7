//! A caller of one object that calls again as soon as it is answered: whoever could not be served
//! for a while sees it as a pause between two answers.
//!
//! The pause is at least as long as the shard was without service, for no answer comes out of that
//! time. It is longer by what the call itself takes, so it is told beside pauses without a move.

use std::time::Duration;

use steading::ids::ShardId;
use steading::object::Object;
use steading::{CallError, Node, Tasks};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::samples::Counter;

/// One call of the probe, in the order in which it made them.
#[derive(Clone, Debug)]
struct Call {
    began: Instant,
    ended: Instant,
    error: Option<CallError>,
}

/// What a probe saw.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// The longest time from one good answer to the next.
    pub(super) pause: Duration,
    /// The longest time that a call took.
    pub(super) longest: Duration,
    /// The time that half of the calls took at most.
    pub(super) median: Duration,
    pub(super) failed: u64,
    pub(super) first_error: Option<CallError>,
}

/// An object that is called without a pause.
pub(super) struct Probe {
    counter: <Counter as Object>::Handle,
    tasks: Tasks,
}

impl Probe {
    /// Makes a probe of a shard; it is answered once when this returns.
    pub(super) async fn new(gate: &Node, shard: ShardId) -> Result<Self, CallError> {
        let counter = gate.object::<Counter>(format!("shard#{shard}/steading-bench-probe"));
        counter.add(0).await?;
        let tasks = Tasks::new();
        Ok(Self { counter, tasks })
    }

    /// Calls while `work` is done: from an answer before it to an answer after it.
    pub(super) async fn during<T>(&self, work: impl Future<Output = T>) -> (Seen, T) {
        let enough = CancellationToken::new();
        let (counter, stop) = (self.counter.clone(), enough.clone());
        let (answered, mut first) = tokio::sync::oneshot::channel();
        let calling = self.tasks.spawn_work(async move {
            let mut calls = vec![call(&counter).await];
            let _ = answered.send(()); // Whoever waits for it is there until the end.
            while !stop.is_cancelled() {
                calls.push(call(&counter).await);
            }
            calls.push(call(&counter).await);
            calls
        });
        let _ = (&mut first).await; // If the caller panicked, that shows below.
        let done = work.await;
        enough.cancel();
        let calls = calling.await.expect("the probe does not panic");
        (Seen::of(&calls), done)
    }

    /// Deletes the object.
    pub(super) async fn end(self) -> Result<(), CallError> {
        self.counter.delete().await
    }
}

async fn call(counter: &<Counter as Object>::Handle) -> Call {
    let began = Instant::now();
    let error = counter.add(1).await.err();
    Call {
        began,
        ended: Instant::now(),
        error,
    }
}

impl Seen {
    fn of(calls: &[Call]) -> Self {
        let mut took: Vec<_> = calls.iter().map(|call| call.ended - call.began).collect();
        took.sort_unstable();
        let good: Vec<_> = calls.iter().filter(|call| call.error.is_none()).collect();
        let pauses = good.windows(2).map(|pair| pair[1].ended - pair[0].ended);
        let failed = calls.len() - good.len();
        Self {
            pause: pauses.max().unwrap_or_default(),
            longest: took.last().copied().unwrap_or_default(),
            median: took.get(took.len() / 2).copied().unwrap_or_default(),
            failed: failed as u64,
            first_error: calls.iter().find_map(|call| call.error.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls that end so many milliseconds after the first began, each begun when the one before
    /// ended; a failed one is marked.
    fn seen(ends: &[(u64, bool)]) -> Seen {
        let start = Instant::now();
        let mut began = start;
        let calls = ends.iter().map(|(end, is_good)| {
            let ended = start + Duration::from_millis(*end);
            let error = (!is_good).then_some(CallError::Deadline("late".into()));
            let call = Call {
                began,
                ended,
                error,
            };
            began = ended;
            call
        });
        Seen::of(&calls.collect::<Vec<_>>())
    }

    #[test]
    fn the_pause_is_the_longest_time_between_two_answers() {
        let seen = seen(&[(1, true), (2, true), (9, true), (10, true), (11, true)]);
        assert_eq!(seen.pause, Duration::from_millis(7));
        assert_eq!(seen.longest, Duration::from_millis(7));
        assert_eq!(seen.median, Duration::from_millis(1));
        assert_eq!(seen.failed, 0);
    }

    #[test]
    fn an_error_is_no_answer_and_does_not_shorten_the_pause() {
        let seen = seen(&[(1, true), (4, false), (9, true)]);
        assert_eq!(seen.pause, Duration::from_millis(8));
        assert_eq!((seen.failed, seen.longest), (1, Duration::from_millis(5)));
    }
}
