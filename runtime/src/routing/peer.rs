//! Another node, as far as calls to it go: two connections.

use std::hash::Hasher;
use std::sync::Arc;

use fnv::FnvHasher;

use super::connection::{Connection, Way};
use super::ending::Ending;
use super::frame::OutboundCall;
use super::parking::Baton;
use super::queue::Fate;
use crate::ids::{NodeId, Place};
use crate::placement::{ClusterView, Owner};

/// Connections to each peer: with one, encoding on its two ends limits what a pair of nodes can
/// exchange.
const CONNECTIONS: usize = 2;

/// One life of another node.
#[derive(Debug)]
pub(super) struct Peer {
    life: Owner,
    connections: [Arc<Connection>; CONNECTIONS],
}

impl Peer {
    /// Makes a peer that is dialled when there is a call for it.
    pub(super) fn new(way: &Way) -> Arc<Self> {
        let connections = std::array::from_fn(|_| Connection::new(way.clone()));
        Arc::new(Self {
            life: Owner {
                node: way.greeting.to.clone(),
                incarnation: way.greeting.incarnation,
            },
            connections,
        })
    }

    /// Returns the node's name.
    pub(super) fn node(&self) -> &NodeId {
        &self.life.node
    }

    /// Sends a call to an object at `place`; see [`Connection::call`]. Calls to one object share
    /// a connection, and so arrive in the order in which they were sent.
    pub(super) async fn call(
        &self,
        place: &Place,
        outbound: &OutboundCall<'_>,
        baton: &mut Option<Baton>,
    ) -> Fate {
        let index = match place {
            Place::Shard(shard) => shard.index(),
            Place::Node(_) => {
                let mut hasher = FnvHasher::default();
                hasher.write(outbound.call.key.id().as_bytes());
                usize::try_from(hasher.finish() >> 32).expect("32 bits fit")
            }
        };
        let connection = &self.connections[index % CONNECTIONS];
        connection.call(outbound, baton).await
    }

    /// Returns how many calls were given to its connections so far.
    pub(super) fn sent(&self) -> u64 {
        self.connections.iter().map(|to| to.sent()).sum()
    }

    /// Returns how many of its connections are open.
    pub(super) fn open(&self) -> usize {
        let connections = self.connections.iter();
        connections
            .filter(|connection| connection.is_open())
            .count()
    }

    /// Ends its connections: this life of the node is over, as of this view.
    pub(super) fn close(&self, view: &ClusterView) {
        let ending = Ending::of(&self.life, view);
        self.connections
            .iter()
            .for_each(|connection| connection.close(ending));
    }
}
