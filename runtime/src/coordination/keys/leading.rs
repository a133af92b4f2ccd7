//! The forms of who leads, and of what operators ordered.

use serde::{Deserialize, Serialize};

use super::{BadEntry, decode, encode, node_id};
use crate::coordination::store::Entry;
use crate::ids::{NodeId, Term};
use crate::placement::{Leader, Orders};

#[derive(Serialize, Deserialize)]
struct LeaderValue {
    node: String,
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

#[derive(Serialize, Deserialize)]
struct OrdersValue {
    #[serde(default)]
    cordoned: Vec<String>,
    #[serde(default)]
    paused: bool,
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
