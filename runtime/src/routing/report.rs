//! What a node tells others about itself.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::ids::{Incarnation, NodeId, ShardId};
use crate::object::ShardLoad;
use crate::placement::{Arrival, ReachStates};

/// What a node hosts and how busy it is, by its own count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeReport {
    /// Which node.
    pub node: NodeId,
    /// Which life of it; `None` while it has none.
    pub incarnation: Option<Incarnation>,
    /// Its live objects.
    pub objects: u64,
    /// Its live objects by shard, shards without any left out. Node-bound objects are in none.
    pub by_shard: BTreeMap<ShardId, u64>,
    /// How busy it was in its last window of load.
    pub load: NodeLoad,
    /// What its shards cost in that window, those at rest left out.
    pub shards: BTreeMap<ShardId, ShardLoad>,
    /// What came with shards that it opened in the last minute.
    pub arrivals: BTreeMap<ShardId, Arrival>,
    /// How many calls it has sent to each other node since it began to know that life of it.
    pub sent: BTreeMap<NodeId, u64>,
    /// The time left until its fence, unless a keep-alive is answered before; zero: it serves
    /// nothing now. None: it does not tell.
    pub fence_left: Option<Duration>,
}

/// How busy a node was in a window of load.
///
/// CPU and memory are those of the process, whatever else runs in it; so nodes that share a
/// process tell the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeLoad {
    /// Counts the windows of this process. Zero: none has ended yet, and all the rest is zero.
    pub number: u64,
    /// How long the window was.
    pub window: Duration,
    /// How long ago it ended.
    pub age: Duration,
    /// The CPU time that the process took in it.
    pub cpu: Duration,
    /// How many CPUs the process may use.
    pub cpus: u32,
    /// Bytes of memory that the process occupied at its end.
    pub memory_bytes: u64,
    /// How many it may occupy: of its control group or of the machine. Zero: not known.
    pub memory_max_bytes: u64,
    /// Turns that ended.
    pub turns: u64,
    /// Calls that found their object busy, or not yet activated, and had to wait for their turn.
    pub waits: u64,
    /// Calls that found the mailbox of their object full.
    pub refusals: u64,
}

/// What a node says of itself when it is probed: little enough to be asked for each second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Vitals {
    /// Its incarnation; `None` while it has none.
    pub incarnation: Option<Incarnation>,
    /// The time left until its fence, unless a keep-alive is acknowledged before; zero: it is
    /// fenced. None: it does not say.
    pub fence_left: Option<Duration>,
    /// Its live objects.
    pub objects: u64,
    /// CPUs that its shards kept busy in its last window of load; `None` before the first has
    /// ended.
    pub shards_cpus: Option<f64>,
}

impl NodeLoad {
    /// Returns how much of all its CPUs the process used, in thousandths.
    pub fn cpu_permille(&self) -> u64 {
        let all = self.window.as_nanos() * u128::from(self.cpus);
        let used = (self.cpu.as_nanos() * 1000).checked_div(all);
        u64::try_from(used.unwrap_or_default()).unwrap_or(u64::MAX)
    }

    /// Returns how many of its turns had to wait for others, in thousandths.
    pub fn waits_permille(&self) -> u64 {
        let waits = self.waits.saturating_mul(1000);
        waits.checked_div(self.turns).unwrap_or_default()
    }
}

/// Who can tell about this node; implemented where its parts meet.
pub trait Reports: fmt::Debug + Send + Sync + 'static {
    /// Tells how things are now; `None`: the node is gone.
    fn report(&self) -> Option<NodeReport>;

    /// Says how the node is now, at little cost; `None`: the node is gone.
    fn vitals(&self) -> Option<Vitals>;

    /// Returns how this node reaches the others; empty if it is not up.
    fn reach(&self) -> ReachStates;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s2_23_a_nodes_cpu_counts_all_cpus() {
        let load = NodeLoad {
            window: Duration::from_secs(10),
            cpu: Duration::from_secs(5),
            cpus: 2,
            turns: 200,
            waits: 30,
            ..NodeLoad::default()
        };
        assert_eq!((load.cpu_permille(), load.waits_permille()), (250, 150));
    }

    #[test]
    fn s1_48_a_node_without_a_window_reports_no_load() {
        let load = NodeLoad::default();
        assert_eq!((load.cpu_permille(), load.waits_permille()), (0, 0));
    }
}
