//! Everything that checks know: what nodes and the store told, at about one moment.

use std::time::Duration;

use steading::coordination::MemberHealth;
use steading::coordination::keys::BadEntry;

use super::samples::Window;
use crate::http::{Cluster, NodeInfo, PlanInfo, Ready, ShardExplanation};

/// What was gathered.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// The cluster as a node, or else the store, has it.
    pub(super) cluster: Option<Cluster>,
    /// Each node of the cluster, and each that was named.
    pub(super) nodes: Vec<NodeFacts>,
    /// The newest plans, newest first.
    pub(super) plans: Vec<PlanInfo>,
    /// Some of the shards that have no owner, with what comes next.
    pub(super) unowned: Vec<ShardExplanation>,
    /// The numbers of those in quarantine.
    pub(super) quarantined: Vec<u32>,
    /// The store, if it was to be examined.
    pub(super) store: Option<StoreFacts>,
    /// How long was measured.
    pub(super) measured: Duration,
    /// How long whoever stops nodes waits.
    pub(super) grace: Option<Duration>,
    /// The time, in seconds since 1970.
    pub(super) now: f64,
}

/// A node, and what it told.
#[derive(Clone, Debug)]
pub(super) struct NodeFacts {
    /// Its name; its address if that is all that is known.
    pub(super) name: String,
    /// Where it was asked.
    pub(super) address: String,
    /// As the cluster knows it; `None`: it does not.
    pub(super) info: Option<NodeInfo>,
    /// What it told, or why it did not, in words.
    pub(super) told: Result<Told, String>,
}

/// What a node told.
#[derive(Clone, Debug)]
pub(super) struct Told {
    /// Its readiness.
    pub(super) ready: Ready,
    /// Its metrics, twice.
    pub(super) metrics: Window,
    /// How far its clock is ahead of ours, in seconds; the answer's date has whole ones.
    pub(super) clock_ahead: Option<f64>,
}

/// What the store told.
#[derive(Clone, Debug)]
pub(super) struct StoreFacts {
    /// Each endpoint, and how it is or why it did not answer, in words.
    pub(super) members: Vec<(String, Result<MemberHealth, String>)>,
    /// The cluster as the store has it, or why it could not be read.
    pub(super) cluster: Result<Cluster, String>,
    /// Keys that have no effect or another one than they should, each with why.
    pub(super) irregular: Vec<BadEntry>,
}

impl Facts {
    /// Returns the nodes that answered, with what they told.
    pub(super) fn told(&self) -> impl Iterator<Item = (&NodeFacts, &Told)> {
        let nodes = self.nodes.iter();
        nodes.filter_map(|node| Some((node, node.told.as_ref().ok()?)))
    }

    /// Returns the metrics of the node that leads, if it answered.
    pub(super) fn leaders_metrics(&self) -> Option<&Window> {
        let leads = |told: &Told| told.metrics.after.sum("steading_leading", &[]) == Some(1.0);
        let mut told = self.told();
        let (_, told) = told.find(|(_, told)| leads(told))?;
        Some(&told.metrics)
    }

    /// Returns by how much a counter grew on all nodes that answered.
    pub(super) fn growth(&self, name: &str, labels: &[&str]) -> f64 {
        let growths = self.told();
        let growths = growths.filter_map(|(_, told)| told.metrics.growth(name, labels));
        // Not `sum`, which makes -0 of nothing.
        growths.fold(0.0, |all, growth| all + growth)
    }
}
