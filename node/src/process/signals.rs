//! Ends a process in order on a signal, at once on a second one. HTTP clients are let go before the node leaves.

use futures::future::{join_all, select_all};
use steading::{Node, StartError};
use steading_signals::{Effect, Sender, Shutdown, Step};
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::ProcessError;
use super::door::Door;
use crate::exit::Exit;
use crate::supervise::FromSupervisor;

/// The signals to this process, from the moment this exists.
#[derive(Debug)]
pub(crate) struct Signals {
    system: steading_signals::Signals,
    /// `None` if nobody supervises this process.
    supervisor: Option<mpsc::Receiver<FromSupervisor>>,
    shutdown: Shutdown,
}

impl Signals {
    /// Begins to listen.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            system: steading_signals::Signals::listen()?,
            supervisor: None,
            shutdown: Shutdown::default(),
        })
    }

    /// Heeds the supervisor of this process too.
    pub(crate) fn follow(&mut self, supervisor: mpsc::Receiver<FromSupervisor>) {
        self.supervisor = Some(supervisor);
    }

    /// Waits for a signal that changes anything, and returns what it asks for, with its name.
    /// Cancel safe.
    async fn next(&mut self) -> (Step, &'static str) {
        loop {
            let (sender, effect, name) = self.any().await;
            match self.shutdown.receive(sender, effect) {
                Step::Nothing => info!(signal = name, "already stopping"),
                step @ (Step::Stop | Step::Force) => return (step, name),
            }
        }
    }

    async fn any(&mut self) -> (Sender, Effect, &'static str) {
        let Self {
            system, supervisor, ..
        } = self;
        let passed_on = async {
            match supervisor {
                Some(supervisor) => supervisor.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            received = system.next() => (Sender::System, received.effect, received.name),
            Some(passed_on) = passed_on => match passed_on {
                FromSupervisor::Signal(received) => {
                    (Sender::Supervisor, received.effect, received.name)
                }
                FromSupervisor::Gone => (Sender::Supervisor, Effect::Stop, "supervisor gone"),
            },
        }
    }

    /// Waits for a signal, then stops the nodes in good order: 0. A second signal makes them give
    /// up waiting for others to take their shards over. A node that an operator has had drained is
    /// stopped alone, and the process ends with the last one. The door is closed before the last node leaves.
    ///
    /// # Errors
    ///
    /// [`ProcessError`] if a node cannot join its cluster, or ends by itself, or what `failing`
    /// returns if that ends first. The nodes have left then.
    pub(crate) async fn or_end_of(
        &mut self,
        nodes: &[Node],
        door: &Door,
        failing: impl Future<Output = ProcessError>,
    ) -> Result<Exit, ProcessError> {
        let mut nodes = nodes.to_vec();
        tokio::pin!(failing);
        let name = loop {
            tokio::select! {
                (_, name) = self.next() => break name,
                drained = first_drained(&nodes) => {
                    info!(node = %nodes[drained].id(), "was drained, and leaves");
                    let leaving = [nodes.swap_remove(drained)];
                    if nodes.is_empty() {
                        door.begin_to_close();
                        self.wait_or_force(&leaving, leaving[0].stop_after(door.close())).await;
                        return Ok(Exit::Done);
                    }
                    leaving[0].stop().await;
                }
                failed = async {
                    tokio::select! {
                        failed = first_failure(&nodes) => failed,
                        failed = &mut failing => failed,
                    }
                } => {
                    error!(%failed, "stops: hands its shards over, then leaves");
                    self.shutdown.began();
                    let stopped = join_all(nodes.iter().map(Node::stop));
                    self.wait_or_force(&nodes, stopped).await;
                    return Err(failed);
                }
            }
        };
        info!(signal = name, "stops: hands its shards over, then leaves");
        door.begin_to_close();
        let stopped = join_all(nodes.iter().map(|node| node.stop_after(door.close())));
        self.wait_or_force(&nodes, stopped).await;
        Ok(Exit::Done)
    }

    /// Waits until the nodes have stopped; a further signal may force that.
    async fn wait_or_force<T>(&mut self, nodes: &[Node], stopped: impl Future<Output = T>) {
        tokio::pin!(stopped);
        let name = loop {
            tokio::select! {
                biased; // Nothing is left to force once they have stopped.
                _ = &mut stopped => return,
                (step, name) = self.next() => match step {
                    Step::Force => break name,
                    Step::Stop | Step::Nothing => {}
                },
            }
        };
        warn!(signal = name, "forced shutdown: hands no more shards over");
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
                    // A node that fails later says so too.
                    match node.joined().await {
                        Ok(()) => ProcessError::Died,
                        Err(error) => failure(error),
                    }
                }
                Err(error) => failure(error),
            }
        })
    });
    select_all(lives).await.0
}

fn failure(error: StartError) -> ProcessError {
    match error.evidence() {
        Some(evidence) => ProcessError::Replaced(evidence.clone()),
        None => ProcessError::Start(error),
    }
}
