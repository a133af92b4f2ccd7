//! Every key of the store and the form of its value: the only place that knows either.
//!
//! Values are small JSON objects, so that `etcdctl get --prefix /steading/` is a debugging tool.
//! Unknown fields are ignored, so that a newer node can add some during a rolling update.

mod plans;
mod targets;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::store::{Entry, Event};
use crate::ids::{
    Incarnation, LeaseId, NodeId, PlanId, Regions, Revision, ShardCount, ShardId, Term,
};
use crate::placement::{
    ClusterMeta, Leader, News, NodeRecord, NodeState, Orders, Owner, OwnerRecord, Parcel, Target,
    Weight,
};

pub use plans::{decode_plan, encode_plan};
pub use targets::{decode_targets, encode_targets};

/// The format that this code reads and writes; a cluster of another is refused.
pub const FORMAT: u32 = 1;

/// The format of a cluster that has regions, which programs of format 1 alone would not see: they
/// would look for objects in other shards.
pub const FORMAT_WITH_REGIONS: u32 = 2;

/// The name of the hash that maps keys to shards; a cluster of another is refused.
pub const HASH: &str = "fnv1a64-fmix64";

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
    Plan,
    Orders,
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

    /// The prefix of all owner keys.
    pub fn owners(&self) -> String {
        format!("{}owner/", self.prefix)
    }

    /// What operators ordered.
    pub fn orders(&self) -> String {
        format!("{}orders", self.prefix)
    }

    /// A plan; later ones sort later.
    pub fn plan(&self, id: PlanId) -> String {
        format!("{}plans/{:020}", self.prefix, id.get())
    }

    /// Returns the ID of the plan that a key holds, if it holds one.
    pub fn plan_id(&self, key: &str) -> Option<PlanId> {
        let id = key.strip_prefix(&self.plans())?.parse().ok()?;
        Some(PlanId::new(id))
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
                    Kind::Target(block) => {
                        let targets = vec![Target::default(); count.block_len() as usize];
                        Some(News::Targets { block, targets })
                    }
                    Kind::Meta | Kind::Plan => None,
                })
            }
        }
    }

    fn news_of_put(&self, entry: &Entry, count: ShardCount) -> Result<Option<News>, BadEntry> {
        Ok(Some(match self.kind(&entry.key, count)? {
            Kind::Plan => return Ok(None),
            Kind::Meta => News::Meta(decode_meta(entry)?),
            Kind::Leader => News::Leader(Some(decode_leader(entry)?)),
            Kind::Node(node) => News::Node(node, Some(decode_node(entry)?)),
            Kind::Target(block) => News::Targets {
                block,
                targets: decode_targets(entry, count)?,
            },
            Kind::Owner(shard) => News::Owner(shard, decode_owner(entry)?),
            Kind::Orders => News::Orders(decode_orders(entry)?),
        }))
    }

    fn kind(&self, key: &str, count: ShardCount) -> Result<Kind, BadEntry> {
        let bad = |reason: &str| BadEntry {
            key: key.into(),
            reason: reason.into(),
        };
        let path = key
            .strip_prefix(&self.prefix)
            .ok_or_else(|| bad("another prefix"))?;
        match path.split_once('/') {
            None if path == "leader" => Ok(Kind::Leader),
            None if path == "orders" => Ok(Kind::Orders),
            Some(("meta", "cluster")) => Ok(Kind::Meta),
            Some(("nodes", node)) => NodeId::new(node)
                .map(Kind::Node)
                .map_err(|error| bad(&error.to_string())),
            Some(("target", block)) => match block.parse() {
                Ok(block) if block < count.blocks() => Ok(Kind::Target(block)),
                Ok(_) | Err(_) => Err(bad("there is no such block")),
            },
            Some(("owner", shard)) => {
                let number = shard.parse().map_err(|_| bad("not a shard's number"))?;
                ShardId::new(number, count)
                    .map(Kind::Owner)
                    .map_err(|e| bad(&e.to_string()))
            }
            Some(("plans", _)) => Ok(Kind::Plan),
            Some(_) | None => Err(bad("not a key of this format")),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct MetaValue {
    format: u32,
    cluster_id: String,
    shard_count: u32,
    hash: String,
    layout_generation: u32,
    restore_generation: u16,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    regions: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct LeaderValue {
    node: String,
}

#[derive(Serialize, Deserialize)]
struct NodeValue {
    grpc: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    http: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
    weight: f64,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    version: String,
    #[serde(default)]
    object_types: Vec<String>,
    state: StateValue,
    lease: i64,
    boot_id: String,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StateValue {
    Joining,
    Active,
    Draining,
}

#[derive(Serialize, Deserialize)]
struct OwnerValue {
    node: String,
    incarnation: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parcel: Option<ParcelValue>,
}

#[derive(Serialize, Deserialize)]
struct ParcelValue {
    revision: u64,
    attempt: u64,
}

#[derive(Serialize, Deserialize)]
struct OrdersValue {
    #[serde(default)]
    cordoned: Vec<String>,
    #[serde(default)]
    paused: bool,
}

/// Writes the cluster's description.
pub fn encode_meta(meta: &ClusterMeta) -> Vec<u8> {
    encode(&MetaValue {
        format: if meta.regions.is_empty() {
            FORMAT
        } else {
            FORMAT_WITH_REGIONS
        },
        cluster_id: meta.cluster_id.clone(),
        shard_count: meta.shard_count.get(),
        hash: HASH.into(),
        layout_generation: 1,
        restore_generation: meta.restore_generation,
        regions: meta.regions.iter().map(ToString::to_string).collect(),
    })
}

/// Reads the cluster's description.
///
/// # Errors
///
/// [`BadEntry`] also if the cluster has another format or hash than this code.
pub fn decode_meta(entry: &Entry) -> Result<ClusterMeta, BadEntry> {
    let value: MetaValue = decode(entry)?;
    if ![FORMAT, FORMAT_WITH_REGIONS].contains(&value.format) {
        let reason = format!(
            "the cluster has format {}, this program {FORMAT} or {FORMAT_WITH_REGIONS}",
            value.format
        );
        return Err(bad(entry, &reason));
    }
    if value.hash != HASH {
        let reason = format!(
            "the cluster hashes with {}, this program with {HASH}",
            value.hash
        );
        return Err(bad(entry, &reason));
    }
    let shard_count =
        ShardCount::new(value.shard_count).map_err(|error| bad(entry, &error.to_string()))?;
    let regions = value.regions.iter().map(|region| region.parse());
    let regions = regions
        .collect::<Result<_, _>>()
        .and_then(|regions| Regions::new(regions, shard_count))
        .map_err(|error| bad(entry, &error.to_string()))?;
    Ok(ClusterMeta {
        cluster_id: value.cluster_id,
        shard_count,
        restore_generation: value.restore_generation,
        regions,
    })
}

/// Writes a leader's name.
pub fn encode_leader(node: &NodeId) -> Vec<u8> {
    encode(&LeaderValue {
        node: node.to_string(),
    })
}

/// Reads the leader; its term is when the key was created.
///
/// # Errors
///
/// [`BadEntry`] if the value cannot be read.
pub fn decode_leader(entry: &Entry) -> Result<Leader, BadEntry> {
    let value: LeaderValue = decode(entry)?;
    let term = Term::new(entry.create_revision.get());
    Ok(Leader {
        node: node_id(entry, &value.node)?,
        term,
    })
}

/// Writes a node's registration; its incarnation is not part of the value.
pub fn encode_node(node: &NodeRecord) -> Vec<u8> {
    encode(&NodeValue {
        grpc: node.grpc.clone(),
        http: node.http.clone(),
        zone: node.zone.clone(),
        weight: f64::from(node.weight.thousandths()) / 1000.0,
        labels: node.labels.clone(),
        version: node.version.clone(),
        object_types: node.object_types.clone(),
        state: match node.state {
            NodeState::Joining => StateValue::Joining,
            NodeState::Active => StateValue::Active,
            NodeState::Draining => StateValue::Draining,
        },
        lease: node.lease.get(),
        boot_id: node.boot_id.clone(),
    })
}

/// Reads a node's registration; its incarnation is when the key was created.
///
/// # Errors
///
/// [`BadEntry`] if the value cannot be read.
pub fn decode_node(entry: &Entry) -> Result<NodeRecord, BadEntry> {
    let value: NodeValue = decode(entry)?;
    let thousandths = (value.weight * 1000.0).round();
    if !(0.0..=f64::from(Weight::MAX.thousandths())).contains(&thousandths) {
        return Err(bad(entry, "the weight is out of range"));
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be between zero and a million"
    )]
    let weight = Weight::from_thousandths(thousandths as u32);
    Ok(NodeRecord {
        incarnation: Incarnation::new(entry.create_revision.get()),
        lease: LeaseId::new(value.lease),
        grpc: value.grpc,
        http: value.http,
        zone: value.zone,
        weight,
        labels: value.labels,
        version: value.version,
        object_types: value.object_types,
        state: match value.state {
            StateValue::Joining => NodeState::Joining,
            StateValue::Active => NodeState::Active,
            StateValue::Draining => NodeState::Draining,
        },
        boot_id: value.boot_id,
    })
}

/// Writes what operators ordered.
pub fn encode_orders(orders: &Orders) -> Vec<u8> {
    encode(&OrdersValue {
        cordoned: orders.cordoned.iter().map(ToString::to_string).collect(),
        paused: orders.paused,
    })
}

/// Reads what operators ordered.
///
/// # Errors
///
/// [`BadEntry`] if the value cannot be read.
pub fn decode_orders(entry: &Entry) -> Result<Orders, BadEntry> {
    let value: OrdersValue = decode(entry)?;
    let cordoned = value.cordoned.iter().map(|node| node_id(entry, node));
    Ok(Orders {
        cordoned: cordoned.collect::<Result<_, _>>()?,
        paused: value.paused,
    })
}

/// Writes a shard's owner, and the name of the state that was sent ahead to it, if any was.
pub fn encode_owner(owner: &Owner, parcel: Option<Parcel>) -> Vec<u8> {
    encode(&OwnerValue {
        node: owner.node.to_string(),
        incarnation: owner.incarnation.get(),
        parcel: parcel.map(|parcel| ParcelValue {
            revision: parcel.revision.get(),
            attempt: parcel.attempt,
        }),
    })
}

/// Reads a shard's owner as of the key's mod revision.
///
/// # Errors
///
/// [`BadEntry`] if the value cannot be read.
pub fn decode_owner(entry: &Entry) -> Result<OwnerRecord, BadEntry> {
    let value: OwnerValue = decode(entry)?;
    let node = node_id(entry, &value.node)?;
    let owner = Owner {
        node,
        incarnation: Incarnation::new(value.incarnation),
    };
    Ok(OwnerRecord {
        revision: entry.mod_revision,
        owner: Some(owner),
        parcel: value.parcel.map(|parcel| Parcel {
            revision: Revision::new(parcel.revision),
            attempt: parcel.attempt,
        }),
    })
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

/// Returns the revision that a key must have to be absent.
pub const ABSENT: Revision = Revision::new(0);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::Cause;
    use crate::placement::planner::Reason;

    fn entry(key: String, value: Vec<u8>) -> Entry {
        let (create_revision, mod_revision) = (Revision::new(7), Revision::new(9));
        Entry {
            key,
            value,
            create_revision,
            mod_revision,
        }
    }

    fn node(name: &str) -> NodeId {
        NodeId::new(name).expect("a good name")
    }

    #[test]
    fn p16_every_value_survives_the_round_trip() {
        let (keys, count) = (Keys::new("/t"), ShardCount::new(4).expect("a power of two"));
        let record = NodeRecord {
            incarnation: Incarnation::new(7),
            lease: LeaseId::new(-5),
            grpc: "127.0.0.1:1".into(),
            http: None,
            zone: Some("z".into()),
            weight: Weight::from_thousandths(1500),
            labels: BTreeMap::from([("a".into(), "b".into())]),
            version: "0.1.0".into(),
            object_types: vec!["Counter".into()],
            state: NodeState::Draining,
            boot_id: "b".into(),
        };
        let owner = Owner {
            node: node("n"),
            incarnation: Incarnation::new(3),
        };
        let parcel = Parcel {
            revision: Revision::new(8),
            attempt: 2,
        };
        let orders = Orders {
            cordoned: [node("n")].into(),
            paused: true,
        };
        let targets = vec![Target {
            node: Some(node("n")),
            pinned: true,
            quarantined: false,
            cause: Some(Cause {
                plan: PlanId::new(5),
                reason: Reason::Join,
                at: Duration::from_millis(1_000_001),
            }),
        }];
        let shard = ShardId::new(3, count).expect("in range");
        let written = [
            (keys.node(&node("n")), encode_node(&record)),
            (keys.leader(), encode_leader(&node("n"))),
            (keys.owner(shard), encode_owner(&owner, Some(parcel))),
            (keys.orders(), encode_orders(&orders)),
            (keys.target(2), encode_targets(&targets)),
        ];
        let read = written.map(|(key, value)| {
            keys.news(&Event::Put(entry(key, value)), count)
                .expect("readable")
                .expect("news")
        });
        let owner = OwnerRecord {
            revision: Revision::new(9),
            owner: Some(owner),
            parcel: Some(parcel),
        };
        assert_eq!(
            read,
            [
                News::Node(node("n"), Some(record)),
                News::Leader(Some(Leader {
                    node: node("n"),
                    term: Term::new(7)
                })),
                News::Owner(shard, owner),
                News::Orders(orders),
                News::Targets { block: 2, targets },
            ]
        );
    }

    #[test]
    fn p16_unknown_fields_are_ignored() {
        let value = br#"{"node":"n","incarnation":3,"mood":"good"}"#.to_vec();
        assert!(decode_owner(&entry("k".into(), value)).is_ok());
    }

    #[test]
    fn another_format_or_hash_is_refused_in_words() {
        let meta = |format: u32, hash: &str| {
            let value = format!(
                r#"{{"format":{format},"cluster_id":"c","shard_count":4,"hash":"{hash}",
                "layout_generation":1,"restore_generation":0}}"#
            );
            decode_meta(&entry("k".into(), value.into_bytes()))
        };
        assert!(meta(FORMAT, HASH).is_ok());
        assert!(
            meta(3, HASH)
                .expect_err("format")
                .to_string()
                .contains("has format 3")
        );
        assert!(
            meta(FORMAT, "crc")
                .expect_err("hash")
                .to_string()
                .contains("hashes with crc")
        );
    }

    #[test]
    fn regions_are_part_of_the_description_and_of_its_format() {
        let count = ShardCount::new(64).expect("a power of two");
        let region = "type:Invoice=0-7".parse().expect("a region");
        let meta = ClusterMeta {
            cluster_id: "c".into(),
            shard_count: count,
            restore_generation: 0,
            regions: Regions::new(vec![region], count).expect("it fits"),
        };
        let written = encode_meta(&meta);
        let text = String::from_utf8(written.clone()).expect("JSON");
        assert!(text.contains(r#""format":2"#), "{text}");
        assert_eq!(decode_meta(&entry("k".into(), written)), Ok(meta));
    }

    #[test]
    fn garbage_is_refused_and_named() {
        let (keys, count) = (
            Keys::new("/t/"),
            ShardCount::new(4).expect("a power of two"),
        );
        for key in [
            "/t/owner/9",
            "/t/owner/x",
            "/t/nodes/ä",
            "/t/target/4",
            "/t/nonsense",
        ] {
            let event = Event::Delete {
                key: key.into(),
                revision: Revision::new(1),
            };
            assert_eq!(keys.news(&event, count).expect_err(key).key, key);
        }
        let event = Event::Put(entry(keys.leader(), b"[]".to_vec()));
        assert!(keys.news(&event, count).is_err());
    }
}
