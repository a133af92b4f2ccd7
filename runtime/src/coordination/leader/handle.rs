//! How others ask the leader of their process.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::insight::Insight;
use crate::coordination::commands::{Command, Done, Refusal, RefusalCode};
use crate::ids::{NodeId, ShardId};

/// Most commands and questions that wait for the leader's next look.
const ASKED_MAX: usize = 64;

/// Asks the leader's task of this process, be it leading or not. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LeaderHandle(mpsc::Sender<Asked>);

/// What was asked, and where the answer goes.
#[derive(Debug)]
pub(super) enum Asked {
    Command(Ask),
    Question(Question),
}

/// A command that waits to be carried out.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) command: Command,
    /// The node that the operator asked.
    pub(super) via: NodeId,
    /// Nobody waits for the answer any more after this.
    pub(super) until: Instant,
    pub(super) answer: oneshot::Sender<Result<Done, Refusal>>,
}

/// A question for what only the leader knows.
#[derive(Debug)]
pub(super) struct Question {
    /// About this shard, if one is meant.
    pub(super) shard: Option<ShardId>,
    pub(super) answer: oneshot::Sender<Result<Insight, Refusal>>,
}

impl LeaderHandle {
    pub(super) fn new() -> (Self, mpsc::Receiver<Asked>) {
        let (sender, receiver) = mpsc::channel(ASKED_MAX);
        (Self(sender), receiver)
    }

    /// Has a command carried out that an operator gave to the node `via`, within `limit`.
    ///
    /// # Errors
    ///
    /// [`Refusal`]. After [`RefusalCode::NoAnswer`] the command may have been carried out, or may
    /// yet be; so too if the future is dropped. Every command can be given again.
    pub async fn order(
        &self,
        command: Command,
        via: NodeId,
        limit: Duration,
    ) -> Result<Done, Refusal> {
        let until = Instant::now() + limit;
        let (answer, answered) = oneshot::channel();
        let ask = Ask {
            command,
            via,
            until,
            answer,
        };
        self.ask(Asked::Command(ask))?;
        match timeout_at(until, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(no_answer()),
        }
    }

    /// Asks what the leader knows beside what everybody can see: about a shard, or about the
    /// cluster only.
    ///
    /// # Errors
    ///
    /// [`Refusal`] if this node does not lead, or does not answer within `limit`.
    pub async fn insight(
        &self,
        shard: Option<ShardId>,
        limit: Duration,
    ) -> Result<Insight, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.ask(Asked::Question(Question { shard, answer }))?;
        match tokio::time::timeout(limit, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(no_answer()),
        }
    }

    fn ask(&self, asked: Asked) -> Result<(), Refusal> {
        self.0.try_send(asked).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                Refusal::new(RefusalCode::Busy, "too many commands wait")
            }
            // It has resigned for good: the node is leaving.
            mpsc::error::TrySendError::Closed(_) => Refusal::not_leader(None),
        })
    }
}

fn no_answer() -> Refusal {
    Refusal::new(RefusalCode::NoAnswer, "the leader does not answer")
}
