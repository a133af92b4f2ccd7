//! The baseline of local calls: a task with a channel, and a channel for each answer.

use steading::Tasks;
use tokio::sync::{mpsc, oneshot};

/// As many calls may wait as for one of our objects.
const QUEUE_LEN: usize = 1024;

/// A call to a [`Mailbox`].
struct Message {
    n: i64,
    reply: oneshot::Sender<i64>,
}

/// A counter behind a channel. Cheap to clone; its task ends with the last clone.
#[derive(Clone)]
pub(super) struct Mailbox(mpsc::Sender<Message>);

impl Mailbox {
    pub(super) fn start(tasks: &Tasks) -> Self {
        let (sender, mut messages) = mpsc::channel::<Message>(QUEUE_LEN);
        tasks.spawn_work(async move {
            let mut total = 0_i64;
            while let Some(message) = messages.recv().await {
                total = total.wrapping_add(message.n);
                // A caller who went away does not want it.
                let _ = message.reply.send(total);
            }
        });
        Self(sender)
    }

    pub(super) async fn add(&self, n: i64) -> i64 {
        let (reply, answer) = oneshot::channel();
        let sent = self.0.send(Message { n, reply }).await;
        assert!(sent.is_ok(), "the task lives as long as a clone");
        answer.await.expect("the task answers every message")
    }
}
