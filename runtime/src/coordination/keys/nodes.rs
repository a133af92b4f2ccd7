//! The form of a node's registration.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{BadEntry, bad, decode, encode};
use crate::coordination::store::Entry;
use crate::ids::{Incarnation, LeaseId};
use crate::placement::{NodeRecord, NodeState, Weight};
use crate::text::is_visible_text;

/// The longest name in a registration, in bytes: a zone, a label's name or value, a version.
const NAME_LEN_MAX: usize = 256;

/// The longest address, in bytes: a DNS name has at most 253, a port 5.
const ADDRESS_LEN_MAX: usize = 260;

/// Most labels of a node.
const LABELS_MAX: usize = 64;

/// Most object types of a node.
const OBJECT_TYPES_MAX: usize = 4096;

/// A registration that no other node would accept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}`: {why}")]
pub struct InvalidRegistration {
    /// The setting or field.
    pub field: &'static str,
    /// What is wrong with it.
    pub why: String,
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
    let record = NodeRecord {
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
    };
    check_node(&record).map_err(|error| bad(entry, &error.to_string()))?;
    Ok(record)
}

/// Checks the texts of a registration: their length, and that each is plainly visible, since
/// operators read them on a terminal.
///
/// # Errors
///
/// [`InvalidRegistration`] names the first field that cannot be used.
pub fn check_node(node: &NodeRecord) -> Result<(), InvalidRegistration> {
    let invalid = |field, why| Err(InvalidRegistration { field, why });
    if node.labels.len() > LABELS_MAX {
        return invalid("labels", format!("more than {LABELS_MAX}"));
    }
    if node.object_types.len() > OBJECT_TYPES_MAX {
        return invalid("object_types", format!("more than {OBJECT_TYPES_MAX}"));
    }
    let labels = node.labels.iter().flat_map(|(name, value)| [name, value]);
    let labels = labels.map(|text| ("labels", text, NAME_LEN_MAX));
    let types = node.object_types.iter();
    let types = types.map(|text| ("object_types", text, NAME_LEN_MAX));
    let zone = node.zone.iter().map(|text| ("zone", text, NAME_LEN_MAX));
    let http = node.http.iter();
    let http = http.map(|text| ("http_listen", text, ADDRESS_LEN_MAX));
    let others = [
        ("grpc_advertise", &node.grpc, ADDRESS_LEN_MAX),
        ("version", &node.version, NAME_LEN_MAX),
        ("boot_id", &node.boot_id, NAME_LEN_MAX),
    ];
    for (field, text, len_max) in labels.chain(types).chain(zone).chain(http).chain(others) {
        if text.len() > len_max {
            let len = text.len();
            return invalid(
                field,
                format!("{len} bytes long; at most {len_max} are allowed"),
            );
        }
        if !is_visible_text(text) {
            let why = format!(
                "`{}` has a character that is not plainly visible",
                text.escape_debug()
            );
            return invalid(field, why);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> NodeRecord {
        NodeRecord {
            grpc: "n0:7400".into(),
            http: Some("n0:7480".into()),
            zone: Some("größe".into()),
            labels: [("rack".to_owned(), "a 1".to_owned())].into(),
            object_types: vec!["Counter".into()],
            ..NodeRecord::of(Incarnation::new(1))
        }
    }

    #[track_caller]
    fn rejected(field: &str, change: impl FnOnce(&mut NodeRecord)) {
        let mut node = record();
        change(&mut node);
        let error = check_node(&node).expect_err(field);
        assert_eq!(error.field, field, "{error}");
        assert!(is_visible_text(&error.to_string()), "{error}");
        let entry = Entry {
            key: "/s/nodes/n0".into(),
            value: encode_node(&node),
            create_revision: crate::ids::Revision::new(1),
            mod_revision: crate::ids::Revision::new(1),
            lease: None,
        };
        assert!(decode_node(&entry).is_err(), "{field}");
    }

    #[test]
    fn registrations_hold_short_visible_texts() {
        assert_eq!(check_node(&record()), Ok(()));
        rejected("zone", |node| node.zone = Some("a\u{1b}[2J".into()));
        rejected("zone", |node| node.zone = Some("x".repeat(257)));
        rejected("grpc_advertise", |node| node.grpc = "a\nb:1".into());
        rejected("http_listen", |node| node.http = Some("x".repeat(261)));
        rejected("version", |node| node.version = "1\u{202e}".into());
        rejected("object_types", |node| {
            node.object_types = vec!["A\u{200b}".into()];
        });
        rejected("object_types", |node| {
            node.object_types = vec!["A".into(); 4097];
        });
        rejected("labels", |node| {
            node.labels = [("a\r".into(), String::new())].into();
        });
        rejected("labels", |node| {
            node.labels = [("a".into(), "x".repeat(257))].into();
        });
        rejected("labels", |node| {
            node.labels = (0..65).map(|n| (n.to_string(), String::new())).collect();
        });
    }
}
