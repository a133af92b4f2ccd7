//! What a node may do now, by its membership and its fence.

use std::sync::Arc;

use tokio::sync::watch;

use super::membership::{Identity, MembershipState};
use crate::fence::Fence;

/// Tells a node's leader and reconciler in which life they are, and whether they may write.
#[derive(Clone, Debug)]
pub struct Rights {
    membership: watch::Receiver<MembershipState>,
    fence: Arc<Fence>,
}

impl Rights {
    /// Joins what membership says with what the fence says.
    pub fn new(membership: watch::Receiver<MembershipState>, fence: Arc<Fence>) -> Self {
        Self { membership, fence }
    }

    /// Returns the present life, be it suspended.
    pub fn life(&self) -> Option<Identity> {
        match &*self.membership.borrow() {
            MembershipState::Active(identity) | MembershipState::Suspended(identity) => {
                Some(identity.clone())
            }
            MembershipState::Joining | MembershipState::Lost | MembershipState::Stopped => None,
        }
    }

    /// Returns the present life if it may claim, release and plan at this moment.
    pub fn to_write(&self) -> Option<Identity> {
        let active = self.membership.borrow().active().cloned();
        active.filter(|_| self.fence.is_open())
    }

    /// Waits until membership says something new; for ever once it is gone, as nothing changes
    /// any more then. Cancel safe.
    pub async fn changed(&mut self) {
        if self.membership.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
