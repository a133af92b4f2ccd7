//! The nodes of a cluster that need not exist: described in words, or as a running one shows them.

use std::collections::BTreeMap;
use std::str::FromStr;

use steading::ids::{Incarnation, NodeId};
use steading::placement::planner::CAPACITY_LABEL;
use steading::placement::{NodeRecord, Weight};

use crate::settings::weight;

/// Most nodes of a simulated cluster.
pub(crate) const NODES_MAX: u16 = 1000;

/// One node as a person describes it: `NAME[,zone=Z][,weight=W][,capacity=SHARDS]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeSpec {
    pub(crate) node: NodeId,
    pub(crate) zone: Option<String>,
    pub(crate) weight: Weight,
    /// Most shards that it takes.
    pub(crate) capacity: Option<u32>,
}

impl NodeSpec {
    /// Describes a node of weight 1 without a zone.
    pub(crate) fn plain(node: NodeId) -> Self {
        Self {
            node,
            zone: None,
            weight: Weight::ONE,
            capacity: None,
        }
    }

    /// Returns the node as the planner sees it.
    pub(crate) fn record(&self) -> NodeRecord {
        let capacity = self.capacity.map(|shards| shards.to_string());
        let labels = capacity.map(|capacity| (CAPACITY_LABEL.to_owned(), capacity));
        NodeRecord {
            zone: self.zone.clone(),
            weight: self.weight,
            labels: labels.into_iter().collect(),
            ..NodeRecord::of(Incarnation::new(1))
        }
    }
}

impl FromStr for NodeSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split(',');
        let name = parts.next().unwrap_or_default();
        let node = NodeId::new(name).map_err(|error| error.to_string())?;
        let mut spec = Self::plain(node);
        for part in parts {
            match part.split_once('=') {
                Some(("zone", zone)) if !zone.is_empty() => spec.zone = Some(zone.into()),
                Some(("weight", text)) => spec.weight = weight(text)?,
                Some(("capacity", text)) => {
                    let shards = text.parse();
                    let why = |_| format!("`{text}` is no number of shards");
                    spec.capacity = Some(shards.map_err(why)?);
                }
                Some(_) | None => {
                    return Err(format!(
                        "`{part}` is none of zone=NAME, weight=NUMBER and capacity=SHARDS"
                    ));
                }
            }
        }
        Ok(spec)
    }
}

/// Describes so many nodes that are alike, dealt out over the zones in turn.
pub(crate) fn alike(count: u16, zones: &[String], capacity: Option<u32>) -> Vec<NodeSpec> {
    let spec = |number: u16| {
        let node = NodeId::new(&format!("node-{number}")).expect("a good name");
        let zone = zones.get(usize::from(number) % zones.len().max(1)).cloned();
        NodeSpec {
            zone,
            capacity,
            ..NodeSpec::plain(node)
        }
    };
    (0..count).map(spec).collect()
}

/// Returns the nodes by name; an error names one that is there twice.
pub(crate) fn records(specs: &[NodeSpec]) -> Result<BTreeMap<NodeId, NodeRecord>, NodeId> {
    let mut nodes = BTreeMap::new();
    for spec in specs {
        if nodes.insert(spec.node.clone(), spec.record()).is_some() {
            return Err(spec.node.clone());
        }
    }
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_described_by_its_name_and_what_differs() {
        let spec: NodeSpec = "a,weight=2,zone=east,capacity=100".parse().expect("good");
        assert_eq!(spec.zone.as_deref(), Some("east"));
        assert_eq!(spec.weight.thousandths(), 2000);
        assert_eq!(spec.record().labels[CAPACITY_LABEL], "100");
        for text in ["", "a,b", "a,weight=0", "a,capacity=x", "a,zone=", "-a"] {
            assert!(text.parse::<NodeSpec>().is_err(), "{text}");
        }
    }

    #[test]
    fn nodes_are_dealt_out_over_zones_and_none_comes_twice() {
        let specs = alike(5, &["x".into(), "y".into()], None);
        let zones: Vec<_> = specs.iter().filter_map(|s| s.zone.as_deref()).collect();
        assert_eq!(zones, ["x", "y", "x", "y", "x"]);
        assert_eq!(records(&specs).expect("five names").len(), 5);
        let twice = [specs[0].clone(), specs[0].clone()];
        assert_eq!(records(&twice), Err(specs[0].node.clone()));
    }
}
