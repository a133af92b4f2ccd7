//! The form of an activity note.

use serde::{Deserialize, Serialize};

use super::{BadEntry, bad, decode, encode, node_id};
use crate::coordination::store::Entry;
use crate::ids::{ShardCount, ShardId};
use crate::placement::ActivityNote;

#[derive(Serialize, Deserialize)]
struct ActivityValue {
    node: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    running: Vec<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    survived: Vec<u32>,
}

/// Writes an activity note; the incarnation that it is of is part of the key.
pub fn encode_activity(note: &ActivityNote) -> Vec<u8> {
    encode(&ActivityValue {
        node: note.node.to_string(),
        running: note.running.iter().map(|shard| shard.get()).collect(),
        survived: note.survived.iter().map(|shard| shard.get()).collect(),
    })
}

/// Reads an activity note.
///
/// # Errors
///
/// [`BadEntry`] if the value cannot be read, or names a shard that does not exist.
pub fn decode_activity(entry: &Entry, count: ShardCount) -> Result<ActivityNote, BadEntry> {
    let value: ActivityValue = decode(entry)?;
    let shard =
        |number: &u32| ShardId::new(*number, count).map_err(|error| bad(entry, &error.to_string()));
    Ok(ActivityNote {
        node: node_id(entry, &value.node)?,
        running: value.running.iter().map(shard).collect::<Result<_, _>>()?,
        survived: value.survived.iter().map(shard).collect::<Result<_, _>>()?,
    })
}
