//! The form of a node's registration.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{BadEntry, bad, decode, encode};
use crate::coordination::store::Entry;
use crate::ids::{Incarnation, LeaseId};
use crate::placement::{NodeRecord, NodeState, Weight};

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
    #[serde(default)]
    lease_ttl_ms: u64,
    boot_id: String,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StateValue {
    Joining,
    Active,
    Draining,
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
        lease_ttl_ms: u64::try_from(node.lease_ttl.as_millis()).unwrap_or(u64::MAX),
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
        lease_ttl: Duration::from_millis(value.lease_ttl_ms),
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
