//! The messages of a gRPC stream, as their bytes come by: each is in the memory budget before it is
//! buffered, and until its handler is done with it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::{Sleep, sleep};

use super::BodyError;
use crate::memory_budget::{BytesFor, MemoryBudget, Reservation};

/// How long a message waits for room in the budget. Nothing more is read of its stream meanwhile.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Before each message: one byte that says whether it is compressed, four of its length.
const PREFIX_LEN: usize = 5;

/// The largest message that any stream takes. A larger one is not waited for: its decoder refuses it.
const MESSAGE_LEN_MAX: usize = 128 << 20;

/// The reservations of messages that were passed on, in their order. The service takes one with each
/// message, and drops it when it is done.
#[derive(Clone, Debug, Default)]
pub struct Received(Arc<Mutex<VecDeque<Reservation>>>);

impl Received {
    /// Takes the reservation of the next message.
    pub fn take(&self) -> Option<Reservation> {
        self.0.lock().pop_front()
    }
}

/// Finds the messages in a stream of bytes.
#[derive(Debug, Default)]
struct Lengths {
    prefix: [u8; PREFIX_LEN],
    /// How many bytes of the prefix have come.
    filled: usize,
    /// How many bytes of the message are still to come.
    left: usize,
}

impl Lengths {
    /// Returns the lengths of the messages that begin in these bytes.
    fn of(&mut self, mut bytes: &[u8], found: &mut VecDeque<usize>) {
        while !bytes.is_empty() {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = &bytes[skipped..];
            let missing = (PREFIX_LEN - self.filled).min(bytes.len());
            if self.left > 0 || missing == 0 {
                continue;
            }
            self.prefix[self.filled..self.filled + missing].copy_from_slice(&bytes[..missing]);
            self.filled += missing;
            bytes = &bytes[missing..];
            if self.filled == PREFIX_LEN {
                let [_, a, b, c, d] = self.prefix;
                self.left = u32::from_be_bytes([a, b, c, d]) as usize;
                self.filled = 0;
                found.push_back(self.left);
            }
        }
    }
}

/// The messages of one stream.
pub(super) struct Messages {
    budget: MemoryBudget,
    kind: BytesFor,
    lengths: Lengths,
    /// Messages that begin in `held` and are not reserved yet.
    waiting: VecDeque<usize>,
    held: Option<Bytes>,
    overdue: Option<Pin<Box<Sleep>>>,
    received: Received,
}

impl Messages {
    pub(super) fn new(budget: &MemoryBudget, kind: BytesFor) -> Self {
        Self {
            budget: budget.clone(),
            kind,
            lengths: Lengths::default(),
            waiting: VecDeque::new(),
            held: None,
            overdue: None,
            received: Received::default(),
        }
    }

    pub(super) fn received(&self) -> &Received {
        &self.received
    }

    /// Whether bytes wait for room.
    pub(super) fn holds(&self) -> bool {
        self.held.is_some()
    }

    /// Takes bytes that came; those before must have been released.
    pub(super) fn put(&mut self, bytes: Bytes) {
        self.lengths.of(&bytes, &mut self.waiting);
        self.held = Some(bytes);
    }

    /// Releases the bytes once every message that begins in them is reserved; `None` if there are
    /// none. Fails after [`WAIT_MAX`].
    pub(super) fn poll_held(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        if self.held.is_none() {
            return Poll::Ready(None);
        }
        while let Some(&len) = self.waiting.front() {
            let wanted = if len > MESSAGE_LEN_MAX { 0 } else { len };
            match self.budget.poll_reserve(self.kind, wanted, cx) {
                Poll::Ready(reserved) => {
                    self.received.0.lock().push_back(reserved);
                    self.waiting.pop_front();
                }
                Poll::Pending => {
                    let overdue = self
                        .overdue
                        .get_or_insert_with(|| Box::pin(sleep(WAIT_MAX)));
                    ready!(overdue.as_mut().poll(cx));
                    self.held = None;
                    let error = self.budget.exceeded(self.kind, wanted);
                    return Poll::Ready(Some(Err(BodyError::Overloaded(error))));
                }
            }
        }
        self.overdue = None;
        Poll::Ready(self.held.take().map(Ok))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(len: u32) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend(len.to_be_bytes());
        bytes.resize(PREFIX_LEN + len as usize, 7);
        bytes
    }

    #[test]
    fn lengths_are_found_however_bytes_are_cut() {
        let lengths = [0, 1, 4, 5, 6, 300, 0, 2];
        let bytes: Vec<u8> = lengths.iter().flat_map(|len| message(*len)).collect();
        for size in 1..=bytes.len() {
            let (mut parser, mut found) = (Lengths::default(), VecDeque::new());
            for part in bytes.chunks(size) {
                parser.of(part, &mut found);
            }
            assert_eq!(found, lengths.map(|len| len as usize), "parts of {size}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_waits_for_room_and_then_fails() {
        let budget = MemoryBudget::new(100);
        let mut messages = Messages::new(&budget, BytesFor::Batch);
        let other = budget.reserve(BytesFor::Batch, 60).unwrap();
        let begins = |messages: &mut Messages| messages.put(message(50)[..6].to_vec().into());
        begins(&mut messages);
        let polled = std::future::poll_fn(|cx| Poll::Ready(messages.poll_held(cx))).await;
        assert!(polled.is_pending());
        drop(other);
        let released = std::future::poll_fn(|cx| messages.poll_held(cx)).await;
        assert_eq!(released.unwrap().unwrap().len(), 6);
        assert_eq!(budget.used(), 50);
        let reserved = messages.received().take().unwrap();
        assert_eq!(reserved.bytes(), 50);
        let _other = budget.reserve(BytesFor::Batch, 50).unwrap();
        messages.put(vec![7; 49].into());
        let rest = std::future::poll_fn(|cx| messages.poll_held(cx)).await;
        assert_eq!(rest.unwrap().unwrap().len(), 49);
        begins(&mut messages);
        let failed = std::future::poll_fn(|cx| messages.poll_held(cx)).await;
        assert!(matches!(failed, Some(Err(BodyError::Overloaded(_)))));
    }
}
