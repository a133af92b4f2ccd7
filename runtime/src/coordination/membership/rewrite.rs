//! What the node key says of the node, within one life.

use tokio::time::sleep;
use tracing::debug;

use super::RETRY_PAUSE;
use super::life::{Life, Lost};
use crate::coordination::keys::{decode_node, encode_node};
use crate::coordination::store::{Compare, Op, StoreError, Txn};
use crate::ids::Revision;
use crate::placement::NodeState;

impl Life<'_> {
    /// Keeps what the node key says equal to what the node wants it to say.
    pub(super) async fn follow_wanted_state(&self) -> Lost {
        let mut wanted = self.shared.wanted.subscribe();
        let (mut revision, mut state) = self.written;
        loop {
            let want = *wanted.borrow_and_update();
            if state == want {
                wanted
                    .changed()
                    .await
                    .expect("this membership has the sender");
                continue;
            }
            match self.rewrite(revision, want).await {
                Ok(Some(written)) => (revision, state) = written,
                Ok(None) => return Lost::KeyGone,
                Err(error) => {
                    // Known or unknown, the next try sees what happened.
                    debug!(%error, "cannot rewrite the node key yet");
                    sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    /// Writes the node key anew if it was last written at `revision` in this life, and returns
    /// when it was last written and what it says now; `None`: it is no longer this life's.
    ///
    /// The guard on the mod revision keeps a late write of an earlier wish from winning.
    async fn rewrite(
        &self,
        revision: Revision,
        want: NodeState,
    ) -> Result<Option<(Revision, NodeState)>, StoreError> {
        let key = self.shared.node_key();
        let created = Revision::new(self.identity.incarnation.get());
        let record = self.shared.record(self.identity.lease, want);
        let txn = Txn {
            compares: vec![
                Compare::Created(key.clone(), created),
                Compare::Modified(key.clone(), revision),
            ],
            then: vec![Op::Put {
                key: key.clone(),
                value: encode_node(&record),
                lease: Some(self.identity.lease),
            }],
            otherwise: vec![Op::Get(key)],
        };
        let reply = self.shared.parts.store.commit(txn).await?;
        if reply.succeeded {
            return Ok(Some((reply.revision, want)));
        }
        let entry = reply.reads.into_iter().flatten().next();
        Ok(entry
            .filter(|entry| {
                entry.create_revision == created && entry.lease == Some(self.identity.lease)
            })
            .and_then(|entry| Some((entry.mod_revision, decode_node(&entry).ok()?.state))))
    }
}
