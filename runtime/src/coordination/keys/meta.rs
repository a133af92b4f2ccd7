//! The form of the cluster's description.

use serde::{Deserialize, Serialize};

use super::{BadEntry, bad, decode, encode};
use crate::coordination::store::Entry;
use crate::ids::{Regions, ShardCount};
use crate::placement::ClusterMeta;

/// The format that this code reads and writes; a cluster of another is refused.
pub const FORMAT: u32 = 1;

/// The format of a cluster that has regions, which programs of format 1 alone would not see: they
/// would look for objects in other shards.
pub const FORMAT_WITH_REGIONS: u32 = 2;

/// The name of the hash that maps keys to shards; a cluster of another is refused.
pub const HASH: &str = "fnv1a64-fmix64";

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
