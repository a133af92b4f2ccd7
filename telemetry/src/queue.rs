//! A queue of limited length that nobody ever waits for, and what makes batches of it.

use std::sync::Arc;

use steading::telemetry::{ExportLabels, ExportMetrics};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::settings::Batching;

/// What items of one kind come to.
#[derive(Clone, Debug)]
pub(crate) struct Counts {
    pub(crate) signal: &'static str,
    pub(crate) metrics: ExportMetrics,
}

impl Counts {
    pub(crate) fn sent(&self, items: usize) {
        self.count("sent", items);
    }

    pub(crate) fn failed(&self, items: usize) {
        self.count("failed", items);
    }

    fn dropped(&self) {
        self.count("dropped", 1);
    }

    fn count(&self, outcome: &'static str, items: usize) {
        let signal = self.signal;
        let items = items as u64;
        self.metrics
            .items
            .get_or_create(&ExportLabels { signal, outcome })
            .inc_by(items);
    }
}

/// The end of a queue that items are put into.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    items: mpsc::Sender<T>,
    counts: Arc<Counts>,
}

impl<T> Queue<T> {
    /// Makes an empty one, and the end that items are taken from.
    pub(crate) fn new(batching: Batching, counts: Counts) -> (Self, mpsc::Receiver<T>) {
        let (items, taken) = mpsc::channel(batching.queue_len_max);
        let counts = Arc::new(counts);
        (Self { items, counts }, taken)
    }

    /// Adds an item, or drops and counts it if there is no room or nobody takes any more.
    pub(crate) fn put(&self, item: T) {
        if self.items.try_send(item).is_err() {
            self.counts.dropped();
        }
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self {
            items: self.items.clone(),
            counts: self.counts.clone(),
        }
    }
}

/// Sends what comes in batches, one after the other, until `shutdown`; then what is left. A batch
/// leaves when it is full, or a delay after its first item came.
pub(crate) async fn send_batches<T>(
    mut items: mpsc::Receiver<T>,
    batching: Batching,
    mut send: impl AsyncFnMut(Vec<T>),
    shutdown: CancellationToken,
) {
    let len_max = batching.batch_len_max;
    while !shutdown.is_cancelled() {
        let mut batch = Vec::new();
        let first = shutdown.run_until_cancelled(items.recv_many(&mut batch, len_max));
        if first.await == Some(0) {
            return; // Nobody can put anything any more.
        }
        let until = Instant::now() + batching.delay;
        while batch.len() < len_max && !batch.is_empty() {
            let room = len_max - batch.len();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                came = items.recv_many(&mut batch, room) => if came == 0 { break },
                () = sleep_until(until) => break,
            }
        }
        if !batch.is_empty() {
            send(batch).await;
        }
    }
    items.close();
    loop {
        let mut batch = Vec::new();
        if items.recv_many(&mut batch, len_max).await == 0 {
            return;
        }
        send(batch).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn counts() -> Counts {
        Counts {
            signal: "traces",
            metrics: ExportMetrics::default(),
        }
    }

    fn batching(queue_len_max: usize, batch_len_max: usize) -> Batching {
        Batching {
            queue_len_max,
            batch_len_max,
            delay: Duration::from_secs(5),
        }
    }

    #[tokio::test]
    async fn what_finds_no_room_is_dropped_and_counted() {
        let counts = counts();
        let (queue, items) = Queue::new(batching(2, 2), counts.clone());
        (0..5).for_each(|item| queue.put(item));
        assert_eq!(counts.metrics.count("traces", "dropped"), 3);
        drop(items);
        queue.put(5);
        assert_eq!(counts.metrics.count("traces", "dropped"), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn batches_are_full_or_late_and_the_rest_leaves_at_the_end() {
        let batching = batching(100, 3);
        let (queue, items) = Queue::new(batching, counts());
        let shutdown = CancellationToken::new();
        (0..4).for_each(|item| queue.put(item));
        let (sent, mut batches) = mpsc::unbounded_channel();
        let began = Instant::now();
        let send = async |batch| drop(sent.send((batch, began.elapsed().as_secs())));
        let sending = send_batches(items, batching, send, shutdown.clone());
        let using = async {
            assert_eq!(batches.recv().await, Some((vec![0, 1, 2], 0)));
            assert_eq!(batches.recv().await, Some((vec![3], 5)));
            (4..12).for_each(|item| queue.put(item));
            shutdown.cancel();
            let mut rest = Vec::new();
            while rest.len() < 8 {
                rest.extend(batches.recv().await.expect("more comes").0);
            }
            assert_eq!(rest, (4..12).collect::<Vec<_>>());
        };
        tokio::join!(sending, using);
    }
}
