//! Draining by an operator's command: the node serves on while its shards are taken over, and only
//! then leaves. Until it leaves, the command can be taken back.

use tokio::time::{Instant, timeout_at};

use super::leave::can_take_over;
use super::{Node, Stopping};
use crate::coordination::commands::{Done, Refusal, RefusalCode};
use crate::ids::NodeId;
use crate::placement::{ClusterView, NodeState};

impl Node {
    /// Lets the node hand its shards over while it serves. Whoever runs the node stops it once
    /// [`Node::drained`] returns. Returns at once.
    ///
    /// # Errors
    ///
    /// [`Refusal`] if the node has not joined, or no other node could take its shards.
    pub(super) fn drain(&self) -> Result<Done, Refusal> {
        let text = format!("{} hands its shards over, then leaves", self.id());
        if *self.shared.stopping.borrow() != Stopping::No || self.shared.draining.borrow().is_some()
        {
            return Ok(Done::already(text));
        }
        let Some(taking) = self.shared.taking.get() else {
            return Err(Refusal::new(
                RefusalCode::NoLeader,
                "the node has not joined",
            ));
        };
        if !self.shared.gate && !somebody_takes(&self.view(), self.id()) {
            let detail = format!("no other node takes shards, so {} cannot drain", self.id());
            return Err(Refusal::new(RefusalCode::NotATaker, detail));
        }
        taking.membership.set_state(NodeState::Draining);
        self.shared.draining.send_replace(Some(Instant::now()));
        Ok(Done {
            text,
            changed: true,
            plan: None,
        })
    }

    /// Takes [`Node::drain`] back.
    ///
    /// # Errors
    ///
    /// [`Refusal`] if the node leaves already.
    pub(super) fn undrain(&self) -> Result<Done, Refusal> {
        let text = format!("{} takes shards", self.id());
        if *self.shared.stopping.borrow() != Stopping::No {
            let detail = format!("{} is leaving", self.id());
            return Err(Refusal::new(RefusalCode::Leaving, detail));
        }
        let began = *self.shared.draining.borrow();
        let (Some(_), Some(taking)) = (began, self.shared.taking.get()) else {
            return Ok(Done::already(text));
        };
        taking.membership.set_state(NodeState::Active);
        self.shared.draining.send_replace(None);
        Ok(Done {
            text,
            changed: true,
            plan: None,
        })
    }

    /// Waits until an operator has had the node drained: it is then to be stopped. That is so once
    /// it owns no shard any more, or the drain timeout has passed.
    ///
    /// Cancel safety: only waits; dropping the future changes nothing.
    pub async fn drained(&self) {
        let mut draining = self.shared.draining.subscribe();
        loop {
            // The sender lives as long as `self`.
            let began = draining.wait_for(Option::is_some).await;
            let began = began.ok().and_then(|began| *began);
            let (Some(began), Some(taking)) = (began, self.shared.taking.get()) else {
                return;
            };
            let mut progress = taking.reconciler.progress();
            let emptied = async {
                let _ = progress.wait_for(|now| now.owned == 0).await;
            };
            tokio::select! {
                _ = draining.wait_for(Option::is_none) => {} // Taken back.
                _ = timeout_at(began + self.shared.drain_timeout, emptied) => return,
            }
        }
    }
}

/// Whether another node takes shards as things stand: one that is cordoned does not, though it may
/// be let do so before a node that leaves by itself has waited in vain.
fn somebody_takes(view: &ClusterView, leaving: &NodeId) -> bool {
    let mut others = can_take_over(view, leaving);
    others.any(|node| !view.orders.cordoned.contains(node))
}
