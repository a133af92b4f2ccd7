//! The form of a shard's owner.

use serde::{Deserialize, Serialize};

use super::{BadEntry, bad, decode, encode, node_id};
use crate::coordination::store::Entry;
use crate::ids::{Incarnation, Revision, ShardId};
use crate::placement::{News, Owner, OwnerRecord, Parcel};

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
    /// 32 hexadecimal digits; absent for an empty parcel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attempt: Option<String>,
}

/// Writes a shard's owner, and the name of the state that was sent ahead to it, if any was.
pub fn encode_owner(owner: &Owner, parcel: Option<Parcel>) -> Vec<u8> {
    encode(&OwnerValue {
        node: owner.node.to_string(),
        incarnation: owner.incarnation.get(),
        parcel: parcel.map(|parcel| ParcelValue {
            revision: parcel.revision.get(),
            attempt: (!parcel.is_empty()).then(|| format!("{:032x}", parcel.attempt)),
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
    let parcel = value.parcel.map(|parcel| read_parcel(entry, &parcel));
    Ok(OwnerRecord {
        revision: entry.mod_revision,
        owner: Some(owner),
        parcel: parcel.transpose()?,
    })
}

fn read_parcel(entry: &Entry, value: &ParcelValue) -> Result<Parcel, BadEntry> {
    let attempt = value.attempt.as_ref().map(|hex| {
        let read = u128::from_str_radix(hex, 16);
        read.map_err(|_| bad(entry, "the attempt of its parcel is no hexadecimal number"))
    });
    Ok(Parcel {
        revision: Revision::new(value.revision),
        attempt: attempt.transpose()?.unwrap_or_default(),
    })
}

/// Returns what a read of a shard's owner key at `revision` tells, if that is news to who has `known`.
///
/// # Errors
///
/// [`BadEntry`] if the value cannot be read.
pub fn owner_news(
    shard: ShardId,
    read: Option<&Entry>,
    revision: Revision,
    known: &OwnerRecord,
) -> Result<Option<News>, BadEntry> {
    let record = match read {
        Some(entry) => decode_owner(entry)?,
        // That the shard still has no owner is no news, though it is later.
        None if known.owner.is_none() => return Ok(None),
        None => OwnerRecord {
            revision,
            owner: None,
            parcel: None,
        },
    };
    Ok((record.revision > known.revision).then_some(News::Owner(shard, record)))
}
