//! What asking the nodes about themselves brought, and the status of each that follows from it.

use std::collections::BTreeMap;

use steading::ids::NodeId;
use steading::node::{Contact, NodeHealth, NodeReport, NodeStatus, QueryError};
use steading::placement::{ClusterView, NodeRecord};
use steading_http::{AtRisk, Facts};
use tokio::time::Instant;

/// What nodes answered, and what is known of those that did not.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    /// What the registered incarnations reported that answered.
    pub(crate) reports: BTreeMap<NodeId, NodeReport>,
    /// How nodes answer the asked node's probes.
    healths: BTreeMap<NodeId, NodeHealth>,
    contacts: BTreeMap<NodeId, Contact>,
    /// Whether the asked node's view follows the store.
    is_followed: bool,
    now: Instant,
}

impl Heard {
    /// Knows nothing of any node: nobody was asked.
    pub(crate) fn nothing(now: Instant) -> Self {
        Self {
            reports: BTreeMap::new(),
            healths: BTreeMap::new(),
            contacts: BTreeMap::new(),
            is_followed: true,
            now,
        }
    }

    /// Joins the answers to a question that was asked at `asked` with what probes found before.
    /// An answer of another process at a node's address is no answer of the node.
    pub(crate) fn of(
        view: &ClusterView,
        answers: BTreeMap<NodeId, Result<NodeReport, QueryError>>,
        healths: BTreeMap<NodeId, NodeHealth>,
        is_followed: bool,
        (asked, now): (Instant, Instant),
    ) -> Self {
        let mut heard = Self {
            healths,
            is_followed,
            ..Self::nothing(now)
        };
        for (node, answer) in answers {
            let health = heard.healths.get(&node);
            let mut contact = health.map_or_else(Contact::default, |health| health.contact);
            let registered = view.nodes.get(&node).map(|record| record.incarnation);
            contact.ask(asked);
            match answer {
                Ok(report) if registered.is_some() && report.incarnation == registered => {
                    contact.answer(now, report.fence_left);
                    heard.reports.insert(node.clone(), report);
                }
                Ok(_) | Err(_) => contact.fail(now),
            }
            heard.contacts.insert(node, contact);
        }
        heard
    }

    /// Returns the status of a registered node.
    pub(crate) fn status(&self, node: &NodeId, record: &NodeRecord) -> NodeStatus {
        let contact = self.contacts.get(node).copied().unwrap_or_default();
        NodeStatus::of(record.state, &contact, self.now)
    }

    /// Returns how a node answers the asked node's probes, and whether it answered now.
    pub(crate) fn health(&self, node: &NodeId) -> Option<(&NodeHealth, bool)> {
        let answers = self.reports.contains_key(node);
        Some((self.healths.get(node)?, answers))
    }

    /// Returns what a node puts at risk that owns so many shards, if it does.
    pub(crate) fn at_risk(
        &self,
        node: &NodeId,
        record: &NodeRecord,
        shards: usize,
    ) -> Option<AtRisk> {
        let contact = self.contacts.get(node).copied().unwrap_or_default();
        let report = self.reports.get(node).map(|report| report.objects);
        let seen = self.healths.get(node);
        AtRisk::of(&Facts {
            status: self.status(node, record),
            shards,
            objects_last_seen: report.or_else(|| seen.and_then(|seen| seen.objects_last_seen)),
            unanswered: contact.unanswered_for(self.now),
            lease_ttl: record.lease_ttl,
            is_followed: self.is_followed,
        })
    }
}
