//! Ending: a signal drains, a second one hurries. HTTP clients are let go before the node leaves.

use futures::future::{join_all, select_all};
use steading::Node;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use super::ProcessError;
use super::door::Door;
use crate::exit::Exit;

/// SIGTERM and SIGINT, from the moment this exists.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Begins to listen.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Waits for a signal, then stops the nodes in good order: 0. A second signal makes them give
    /// up waiting for others to take their shards over. A node that an operator has had drained is
    /// stopped alone, and the process ends with the last one. The door is closed before the last node leaves.
    ///
    /// # Errors
    ///
    /// [`ProcessError`] if a node cannot join its cluster, or ends by itself.
    pub(crate) async fn or_end_of(
        &mut self,
        nodes: &[Node],
        door: &Door,
    ) -> Result<Exit, ProcessError> {
        let mut nodes = nodes.to_vec();
        let name = loop {
            tokio::select! {
                name = self.next() => break name,
                drained = first_drained(&nodes) => {
                    info!(node = %nodes[drained].id(), "was drained, and leaves");
                    let leaving = nodes.swap_remove(drained);
                    if nodes.is_empty() {
                        door.begin_to_close();
                        leaving.stop_after(door.close()).await;
                        return Ok(Exit::Done);
                    }
                    leaving.stop().await;
                }
                failed = first_failure(&nodes) => {
                    let stopped = join_all(nodes.iter().map(Node::stop));
                    self.wait_or_hurry(&nodes, stopped).await;
                    return Err(failed);
                }
            }
        };
        info!(signal = name, "stops: hands its shards over, then leaves");
        door.begin_to_close();
        let stopped = join_all(nodes.iter().map(|node| node.stop_after(door.close())));
        self.wait_or_hurry(&nodes, stopped).await;
        Ok(Exit::Done)
    }

    /// Waits until the nodes have stopped; the next signal makes them hurry.
    async fn wait_or_hurry(&mut self, nodes: &[Node], stopped: impl Future<Output = Vec<()>>) {
        tokio::pin!(stopped);
        tokio::select! {
            _ = &mut stopped => return,
            name = self.next() => warn!(signal = name, "hurries: hands no more shards over"),
        }
        nodes.iter().for_each(Node::hurry);
        stopped.await;
    }
}

/// Waits until an operator has had a node drained, and returns which.
async fn first_drained(nodes: &[Node]) -> usize {
    let drained = nodes.iter().map(|node| Box::pin(node.drained()));
    select_all(drained).await.1
}

/// Waits until a node cannot join, or ends by itself.
async fn first_failure(nodes: &[Node]) -> ProcessError {
    let lives = nodes.iter().map(|node| {
        Box::pin(async {
            match node.joined().await {
                Ok(()) => {
                    node.stopped().await;
                    ProcessError::Died
                }
                Err(error) => ProcessError::Start(error),
            }
        })
    });
    select_all(lives).await.0
}
