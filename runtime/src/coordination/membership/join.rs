//! How a life begins.

use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};

use super::life::Life;
use super::lock::LockFile;
use super::{Identity, JoinError, NodePort, Shared, next, pauses};
use crate::clock::Moment;
use crate::coordination::keys::{ABSENT, decode_node, encode_node};
use crate::coordination::store::{Compare, Entry, Op, Txn};
use crate::ids::{Incarnation, LeaseId, Revision};
use crate::placement::{NodeRecord, NodeState};

/// The pause between two tries of the same registration.
const REGISTER_PAUSE: Duration = Duration::from_millis(50);

/// How one try to begin a life ended.
enum Attempt<'a> {
    Joined(Life<'a>),
    /// The key is there and names another lease.
    Taken(Entry),
}

/// A lease that was granted for a life, and how long after the grant the node may serve.
struct Granted {
    lease: LeaseId,
    serve_until: Moment,
}

impl Shared {
    /// Begins a life. Returns only then, or if trying again will not help; while the store is
    /// away it tries again, and says so.
    pub(super) async fn join(
        &self,
        node: &dyn NodePort,
        first: bool,
    ) -> Result<Life<'_>, JoinError> {
        let mut pauses = pauses();
        loop {
            self.take_lock();
            let error = match self.attempt(node, first).await {
                Ok(Some(life)) => return Ok(life),
                Ok(None) => continue,
                Err(error) => error,
            };
            if !error.is_transient() {
                return Err(error);
            }
            let pause = next(&mut pauses);
            warn!(%error, ?pause, "cannot join yet, will try again");
            self.set_trouble(format!("cannot join yet: {error}"));
            sleep(pause).await;
        }
    }

    /// Tries once; `None`: a predecessor was in the way, and is gone now.
    async fn attempt(
        &self,
        node: &dyn NodePort,
        first: bool,
    ) -> Result<Option<Life<'_>>, JoinError> {
        let granted = self.grant().await?;
        let taken = match self.register(&granted).await {
            Ok(Attempt::Joined(life)) => return Ok(Some(life)),
            taken_or_error => taken_or_error,
        };
        // No life hangs on this lease. A late put under it fails, or goes with it.
        self.revoke_own().await;
        match taken? {
            Attempt::Joined(life) => return Ok(Some(life)),
            Attempt::Taken(entry) if self.parts.keys.is_unheld(&entry) => {
                self.clear_unheld(&entry).await?;
            }
            Attempt::Taken(entry) => self.outlive(&decode_node(&entry)?, node, first).await?,
        }
        Ok(None)
    }

    async fn grant(&self) -> Result<Granted, JoinError> {
        let settings = &self.parts.settings;
        let sent = self.parts.fence.clock().now();
        let lease = self.parts.store.grant(settings.lease_ttl).await?;
        self.lease.lock().replace(lease);
        Ok(Granted {
            lease,
            serve_until: sent.plus(settings.serving_time()),
        })
    }

    /// Puts the node key unless there is one, until an answer tells whose key it is.
    async fn register(&self, granted: &Granted) -> Result<Attempt<'_>, JoinError> {
        let state = *self.wanted.borrow();
        let record = self.record(granted.lease, state);
        let key = self.node_key();
        let put = Op::Put {
            key: key.clone(),
            value: encode_node(&record),
            lease: Some(granted.lease),
        };
        let txn = Txn {
            compares: vec![Compare::Created(key.clone(), ABSENT)],
            then: vec![put],
            otherwise: vec![Op::Get(key)],
        };
        let life = |created: Revision, modified: Revision, record: &NodeRecord| Life {
            shared: self,
            identity: Identity {
                node: self.parts.registration.node.clone(),
                incarnation: Incarnation::new(created.get()),
                lease: granted.lease,
            },
            opened_until: granted.serve_until,
            written: (modified, record.state),
        };
        loop {
            let reply = match self.parts.store.commit(txn.clone()).await {
                Ok(reply) => reply,
                // Whether or not it happened, the same transaction again will tell.
                Err(error) if error.is_transient() && self.in_time(granted) => {
                    self.set_trouble(format!("cannot register yet: {error}"));
                    sleep(REGISTER_PAUSE).await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if reply.succeeded {
                return Ok(Attempt::Joined(life(
                    reply.revision,
                    reply.revision,
                    &record,
                )));
            }
            let entry = reply.reads.into_iter().flatten().next();
            let entry = entry.expect("the key is there, or the compare had held");
            return Ok(match decode_node(&entry) {
                // An earlier try arrived: a lease belongs to one life.
                Ok(record) if entry.lease == Some(granted.lease) => {
                    Attempt::Joined(life(entry.create_revision, entry.mod_revision, &record))
                }
                Ok(_) | Err(_) => Attempt::Taken(entry),
            });
        }
    }

    fn in_time(&self, granted: &Granted) -> bool {
        self.parts.fence.clock().now() < granted.serve_until
    }

    /// What the node's key says under `lease`.
    pub(super) fn record(&self, lease: LeaseId, state: NodeState) -> NodeRecord {
        let lock = self.lock.lock();
        let proof = lock.as_ref().map_or("", |lock| lock.proof());
        let lease = (lease, self.parts.settings.lease_ttl);
        self.parts.registration.record(lease, state, proof)
    }

    /// Takes the lock file if it is wanted, free, and not held yet. Without it the node lives as
    /// well, but a successor on this host will have no proof of its end.
    pub(super) fn take_lock(&self) {
        let mut lock = self.lock.lock();
        let (None, Some(dir)) = (&*lock, &self.parts.settings.lock_dir) else {
            return;
        };
        let meta = &self.parts.view.current().meta;
        match LockFile::take(dir, &meta.cluster_id, &self.parts.registration.node) {
            Ok(taken) => *lock = taken,
            Err(error) => info!(%error, dir = %dir.display(), "cannot take the lock file"),
        }
    }
}
