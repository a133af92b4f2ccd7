//! The form of a shard's owner.

use serde::{Deserialize, Serialize};

use super::{BadEntry, decode, encode, node_id};
use crate::coordination::store::Entry;
use crate::ids::{Incarnation, Revision};
use crate::placement::{Owner, OwnerRecord, Parcel};

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
