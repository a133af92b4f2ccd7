//! What happened since the Inspector began to look: who owned what, and what became of nodes.
//!
//! Bounded: the oldest makes room. Going back in time means undoing changes from the newest on, so
//! nothing else is kept.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::Serialize;
use steading::ids::NodeId;
use steading::placement::{ClusterView, NodeState, Orders};
use utoipa::ToSchema;

use crate::rows::{Row, changed, state_name};

/// How many changes of owners are kept.
const MOVES_KEPT: usize = 131_072;

/// How many events are kept.
const EVENTS_KEPT: usize = 2_000;

/// A shard got another owner, or lost it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct OwnerChange {
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// Which shard.
    pub shard: u32,
    /// Who owned it before.
    #[schema(value_type = Option<String>)]
    pub from: Option<Arc<str>>,
    /// Who owns it since.
    #[schema(value_type = Option<String>)]
    pub to: Option<Arc<str>>,
    /// The plan that set its target, if one did.
    pub plan: Option<u64>,
    /// Why.
    pub reason: Option<&'static str>,
}

/// Something that happened to the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Event {
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// `node`, `leader`, `order` or `action`.
    pub kind: &'static str,
    /// Whether it is bad news.
    pub bad: bool,
    /// What happened, in words.
    pub text: String,
    /// The node it is about, if it is about one.
    pub node: Option<String>,
}

/// What happened, oldest first.
#[derive(Debug)]
pub(crate) struct History {
    since: u64,
    room: usize,
    moves: VecDeque<OwnerChange>,
    events: VecDeque<Event>,
    names: Vec<Arc<str>>,
}

impl History {
    /// Begins at a moment, in milliseconds since 1970.
    pub(crate) fn new(since: u64) -> Self {
        Self::with_room(since, MOVES_KEPT)
    }

    fn with_room(since: u64, room: usize) -> Self {
        Self {
            since,
            room,
            moves: VecDeque::new(),
            events: VecDeque::new(),
            names: Vec::new(),
        }
    }

    /// From when on everything is known.
    pub(crate) fn since(&self) -> u64 {
        self.since
    }

    /// Takes in how a view became another, and returns the events that this is. What a first view
    /// shows began before anybody looked.
    pub(crate) fn follow(
        &mut self,
        before: &ClusterView,
        now: &ClusterView,
        at: u64,
    ) -> Vec<Event> {
        if before.nodes.is_empty() && before.revision.get() == 0 {
            return Vec::new();
        }
        for change in changed(before, now) {
            let from = Row::of(before, change.shard).owner;
            if from == change.row.owner {
                continue;
            }
            let cause = now.targets.get(change.shard).cause;
            let step = OwnerChange {
                at,
                shard: change.shard.get(),
                from: from.map(|node| self.name(node)),
                to: change.row.owner.map(|node| self.name(node)),
                plan: cause.map(|cause| cause.plan.get()),
                reason: cause.map(|cause| cause.reason.as_str()),
            };
            if self.moves.len() == self.room {
                self.since = self
                    .moves
                    .pop_front()
                    .map_or(self.since, |oldest| oldest.at);
            }
            self.moves.push_back(step);
        }
        let events = events(before, now, at);
        events.iter().cloned().for_each(|event| self.note(event));
        events
    }

    /// Takes in an event.
    pub(crate) fn note(&mut self, event: Event) {
        if self.events.len() == EVENTS_KEPT {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// Returns the changes of owners after a moment, oldest first.
    pub(crate) fn moves_since(&self, at: u64) -> Vec<OwnerChange> {
        let from = self.moves.partition_point(|step| step.at <= at);
        self.moves.range(from..).cloned().collect()
    }

    /// Returns the changes of one shard's owner, newest first.
    pub(crate) fn of_shard(&self, shard: u32) -> Vec<OwnerChange> {
        let steps = self.moves.iter().rev();
        steps.filter(|step| step.shard == shard).cloned().collect()
    }

    /// Returns the events, newest first.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.iter().rev().cloned().collect()
    }

    fn name(&mut self, node: &NodeId) -> Arc<str> {
        if let Some(known) = self.names.iter().find(|name| ***name == *node.as_str()) {
            return known.clone();
        }
        let name: Arc<str> = node.as_str().into();
        self.names.push(name.clone());
        name
    }
}

/// Returns what is worth telling of how a view became another.
fn events(before: &ClusterView, now: &ClusterView, at: u64) -> Vec<Event> {
    let mut news = News {
        at,
        events: Vec::new(),
    };
    news.of_nodes_there(before, now);
    news.of_nodes_gone(before, now);
    news.of_the_leader(before, now);
    news.of_orders(&before.orders, &now.orders);
    news.events
}

/// The events of one moment.
struct News {
    at: u64,
    events: Vec<Event>,
}

impl News {
    fn say(&mut self, kind: &'static str, bad: bool, node: Option<&NodeId>, text: String) {
        self.events.push(Event {
            at: self.at,
            kind,
            bad,
            text,
            node: node.map(ToString::to_string),
        });
    }

    fn of_nodes_there(&mut self, before: &ClusterView, now: &ClusterView) {
        for (node, record) in &now.nodes {
            let state = state_name(record.state);
            let (bad, text) = match before.nodes.get(node) {
                None => (false, format!("{node} joined ({state})")),
                Some(was) if was.incarnation != record.incarnation => {
                    (true, format!("{node} began a new life"))
                }
                Some(was) if was.state != record.state => (false, format!("{node} is {state}")),
                Some(_) => continue,
            };
            self.say("node", bad, Some(node), text);
        }
    }

    fn of_nodes_gone(&mut self, before: &ClusterView, now: &ClusterView) {
        for (node, was) in &before.nodes {
            if now.nodes.contains_key(node) {
                continue;
            }
            let drained = was.state == NodeState::Draining;
            let text = if drained {
                format!("{node} left")
            } else {
                format!("{node} is gone: its lease ended")
            };
            self.say("node", !drained, Some(node), text);
        }
    }

    fn of_the_leader(&mut self, before: &ClusterView, now: &ClusterView) {
        match (&before.leader, &now.leader) {
            (was, Some(leader)) if was.as_ref() != Some(leader) => {
                let text = format!("{} leads (term {})", leader.node, leader.term);
                self.say("leader", false, Some(&leader.node), text);
            }
            (Some(was), None) => {
                let text = format!("nobody leads: {} gave the lead up", was.node);
                self.say("leader", true, Some(&was.node), text);
            }
            (None, None) | (_, Some(_)) => {}
        }
    }

    fn of_orders(&mut self, was: &Orders, is: &Orders) {
        if was.paused != is.paused {
            let text = if is.paused {
                "balancing is paused"
            } else {
                "balancing goes on"
            };
            self.say("order", false, None, text.into());
        }
        for node in is.cordoned.difference(&was.cordoned) {
            let text = format!("{node} is cordoned: it gets nothing more");
            self.say("order", false, Some(node), text);
        }
        for node in was.cordoned.difference(&is.cordoned) {
            let text = format!("{node} gets shards again");
            self.say("order", false, Some(node), text);
        }
    }
}

#[cfg(test)]
mod tests;
