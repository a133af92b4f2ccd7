//! Every key of the store and the form of its value: the only place that knows either.
//!
//! Values are small JSON objects, so that `etcdctl get --prefix /steading/` is a debugging tool.
//! Unknown fields are ignored, so that a newer node can add some during a rolling update.

mod activity;
mod leading;
mod meta;
mod nodes;
mod owners;
mod plans;
mod targets;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::store::{Entry, Event, Listing};
use crate::ids::{Incarnation, NodeId, PlanId, Revision, ShardCount, ShardId};
use crate::placement::{News, Orders, OwnerRecord, Target};

pub use self::activity::{decode_activity, encode_activity};
pub use self::leading::{decode_leader, decode_orders, encode_leader, encode_orders};
pub use self::meta::{FORMAT, FORMAT_WITH_REGIONS, HASH, decode_meta, encode_meta};
pub use self::nodes::{InvalidRegistration, check_node, decode_node, encode_node};
pub use self::owners::{decode_owner, encode_owner, owner_news};
pub use self::plans::{decode_plan, encode_plan};
pub use self::targets::{decode_targets, encode_targets};

/// Returns the revision that a key must have to be absent.
pub const ABSENT: Revision = Revision::new(0);

/// Names the keys of one cluster, all under its prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    prefix: String,
}

/// What a key of the cluster is about.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Meta,
    Leader,
    Node(NodeId),
    Target(u32),
    Owner(ShardId),
    Plan(PlanId),
    Orders,
    Activity(Incarnation),
}

/// A key or value in the store that is none of ours, or of a format that we do not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot read `{key}` in the store: {reason}")]
pub struct BadEntry {
    /// The full key.
    pub key: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Keys {
    /// Takes the prefix of a cluster; a missing slash at its end is added.
    pub fn new(prefix: &str) -> Self {
        Self {
            prefix: format!("{}/", prefix.trim_end_matches('/')),
        }
    }

    /// Returns the prefix of every key of the cluster.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The cluster's description.
    pub fn meta(&self) -> String {
        format!("{}meta/cluster", self.prefix)
    }

    /// Who leads.
    pub fn leader(&self) -> String {
        format!("{}leader", self.prefix)
    }

    /// A node's registration.
    pub fn node(&self, node: &NodeId) -> String {
        format!("{}nodes/{node}", self.prefix)
    }

    /// A block of targets.
    pub fn target(&self, block: u32) -> String {
        format!("{}target/{block:02}", self.prefix)
    }

    /// A shard's owner.
    pub fn owner(&self, shard: ShardId) -> String {
        format!("{}owner/{:05}", self.prefix, shard.get())
    }

    /// The prefix of all registrations.
    pub fn nodes(&self) -> String {
        format!("{}nodes/", self.prefix)
    }

    /// The prefix of all owner keys.
    pub fn owners(&self) -> String {
        format!("{}owner/", self.prefix)
    }

    /// What an incarnation did with watched shards.
    pub fn activity(&self, incarnation: Incarnation) -> String {
        format!("{}activity/{:020}", self.prefix, incarnation.get())
    }

    /// What operators ordered.
    pub fn orders(&self) -> String {
        format!("{}orders", self.prefix)
    }

    /// A plan; later ones sort later.
    pub fn plan(&self, id: PlanId) -> String {
        format!("{}plans/{:020}", self.prefix, id.get())
    }

    /// Returns the ID of the plan that a key holds, if it is the canonical key of one.
    pub fn plan_id(&self, key: &str) -> Option<PlanId> {
        let id = PlanId::new(key.strip_prefix(&self.plans())?.parse().ok()?);
        (self.plan(id) == key).then_some(id)
    }

    /// The prefix of all plans.
    pub fn plans(&self) -> String {
        format!("{}plans/", self.prefix)
    }

    /// Reads what an event of the store tells about the cluster; `None`: nothing that a view
    /// holds.
    ///
    /// # Errors
    ///
    /// [`BadEntry`] if the key or value cannot be read.
    pub fn news(&self, event: &Event, count: ShardCount) -> Result<Option<News>, BadEntry> {
        match event {
            Event::Put(entry) => self.news_of_put(entry, count),
            Event::Delete { key, revision } => {
                let kind = self.kind(key, count)?;
                Ok(match kind {
                    Kind::Leader => Some(News::Leader(None)),
                    Kind::Node(node) => Some(News::Node(node, None)),
                    Kind::Owner(shard) => Some(News::Owner(
                        shard,
                        OwnerRecord {
                            revision: *revision,
                            owner: None,
                            parcel: None,
                        },
                    )),
                    Kind::Orders => Some(News::Orders(Orders::default())),
                    Kind::Activity(incarnation) => Some(News::Activity(incarnation, None)),
                    Kind::Target(block) => {
                        let targets = vec![Target::default(); count.block_len() as usize];
                        Some(News::Targets { block, targets })
                    }
                    Kind::Meta | Kind::Plan(_) => None,
                })
            }
        }
    }

    fn news_of_put(&self, entry: &Entry, count: ShardCount) -> Result<Option<News>, BadEntry> {
        Ok(Some(match self.kind(&entry.key, count)? {
            Kind::Plan(_) => return Ok(None),
            Kind::Meta => {
                decode_meta(entry)?;
                return Ok(None);
            }
            Kind::Leader => News::Leader(Some(decode_leader(entry)?)),
            // Not a registration: no lease would ever take it along.
            Kind::Node(node) if unheld(entry).is_some() => News::Node(node, None),
            Kind::Node(node) => News::Node(node, Some(decode_node(entry)?)),
            Kind::Target(block) => News::Targets {
                block,
                targets: decode_targets(entry, count)?,
            },
            Kind::Owner(shard) => News::Owner(shard, decode_owner(entry)?),
            Kind::Orders => News::Orders(decode_orders(entry)?),
            Kind::Activity(incarnation) => {
                News::Activity(incarnation, Some(decode_activity(entry, count)?))
            }
        }))
    }

    /// Returns why an entry has no effect or another one than it should, if so: it cannot be read,
    /// it is not in canonical form, or the lease that should take it along does not.
    pub fn irregularity(&self, entry: &Entry, count: ShardCount) -> Option<BadEntry> {
        if let Err(bad) = self.news_of_put(entry, count) {
            return Some(bad);
        }
        if entry.key == self.leader() && entry.lease.is_none() {
            return Some(bad(entry, "it hangs on no lease"));
        }
        let reason = unheld(entry).filter(|_| self.names_node(&entry.key));
        reason.map(|reason| bad(entry, reason))
    }

    /// Returns every irregularity of a list of the whole cluster, in order of the keys; and its leader
    /// key, if that names no registered node.
    pub fn irregularities(&self, listing: &Listing, count: ShardCount) -> Vec<BadEntry> {
        let registered = |name: &NodeId| {
            let key = self.node(name);
            let mut entries = listing.entries.iter();
            entries.any(|entry| entry.key == key && unheld(entry).is_none())
        };
        let entries = listing.entries.iter();
        let found = entries.filter_map(|entry| {
            let irregular = self.irregularity(entry, count);
            let leader = || {
                let leader = decode_leader(entry).ok()?;
                (entry.key == self.leader() && !registered(&leader.node))
                    .then(|| bad(entry, "it names no registered node"))
            };
            irregular.or_else(leader)
        });
        found.collect()
    }

    /// Whether this is a node's key that does not hang on the lease which the node names.
    pub fn is_unheld(&self, entry: &Entry) -> bool {
        self.names_node(&entry.key) && unheld(entry).is_some()
    }

    fn names_node(&self, key: &str) -> bool {
        let name = key.strip_prefix(&self.nodes());
        name.is_some_and(|name| NodeId::new(name).is_ok())
    }

    /// Returns what a key is about. Only the form in which this code writes a key counts: with
    /// two names for one thing, the deletion of one would look like the deletion of the other.
    fn kind(&self, key: &str, count: ShardCount) -> Result<Kind, BadEntry> {
        let bad = |reason: &str| BadEntry {
            key: key.into(),
            reason: reason.into(),
        };
        let kind = self.lenient_kind(key, count).map_err(|why| bad(&why))?;
        let canonical = self.key_of(&kind);
        if canonical == key {
            Ok(kind)
        } else {
            Err(bad(&format!("not in canonical form: `{canonical}`")))
        }
    }

    /// Returns what a key could be about, in whatever form its number is written.
    fn lenient_kind(&self, key: &str, count: ShardCount) -> Result<Kind, String> {
        let path = key
            .strip_prefix(&self.prefix)
            .ok_or("it has another prefix")?;
        match path.split_once('/') {
            None if path == "leader" => Ok(Kind::Leader),
            None if path == "orders" => Ok(Kind::Orders),
            Some(("meta", "cluster")) => Ok(Kind::Meta),
            Some(("nodes", node)) => NodeId::new(node)
                .map(Kind::Node)
                .map_err(|error| error.to_string()),
            Some(("target", block)) => match block.parse() {
                Ok(block) if block < count.blocks() => Ok(Kind::Target(block)),
                Ok(_) | Err(_) => Err("there is no such block".into()),
            },
            Some(("owner", shard)) => {
                let number = shard.parse().map_err(|_| "not a shard's number")?;
                let shard = ShardId::new(number, count).map_err(|error| error.to_string())?;
                Ok(Kind::Owner(shard))
            }
            Some(("plans", plan)) => {
                let number = plan.parse().map_err(|_| "not a plan's number")?;
                Ok(Kind::Plan(PlanId::new(number)))
            }
            Some(("activity", incarnation)) => {
                let number = incarnation.parse();
                let number = number.map_err(|_| "not an incarnation's number")?;
                Ok(Kind::Activity(Incarnation::new(number)))
            }
            Some(_) | None => Err("not a key of this format".into()),
        }
    }

    fn key_of(&self, kind: &Kind) -> String {
        match kind {
            Kind::Meta => self.meta(),
            Kind::Leader => self.leader(),
            Kind::Node(node) => self.node(node),
            Kind::Target(block) => self.target(*block),
            Kind::Owner(shard) => self.owner(*shard),
            Kind::Plan(plan) => self.plan(*plan),
            Kind::Orders => self.orders(),
            Kind::Activity(incarnation) => self.activity(*incarnation),
        }
    }
}

/// Returns why a node key is no registration: nodes write theirs under the lease that they name.
fn unheld(entry: &Entry) -> Option<&'static str> {
    match (decode_node(entry), entry.lease) {
        (_, None) => Some("it hangs on no lease"),
        (Ok(record), Some(lease)) if record.lease != lease => {
            Some("it hangs on another lease than it names")
        }
        (Ok(_) | Err(_), Some(_)) => None,
    }
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain values always serialize")
}

fn decode<'a, T: Deserialize<'a>>(entry: &'a Entry) -> Result<T, BadEntry> {
    serde_json::from_slice(&entry.value).map_err(|error| bad(entry, &error.to_string()))
}

/// Returns whole milliseconds since the epoch; zero for a moment before it.
fn unix_ms(at: SystemTime) -> u64 {
    let since_epoch = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

/// Returns the moment that [`unix_ms`] was made of.
fn moment(unix_ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(unix_ms)
}

fn node_id(entry: &Entry, name: &str) -> Result<NodeId, BadEntry> {
    NodeId::new(name).map_err(|error| bad(entry, &error.to_string()))
}

fn bad(entry: &Entry, reason: &str) -> BadEntry {
    BadEntry {
        key: entry.key.clone(),
        reason: reason.into(),
    }
}
