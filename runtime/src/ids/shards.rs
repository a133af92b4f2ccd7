//! Shards, how many there are, and the hash that spreads keys over them (ADR-0001).

use std::fmt;
use std::hash::Hasher;

use fnv::FnvHasher;

/// How many shards a cluster has: a power of two from 1 to 65 536, fixed when it is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardCount(u32);

impl ShardCount {
    /// The count of a cluster that asks for no other.
    pub const DEFAULT: Self = Self(8192);

    const MAX: u32 = 65_536;

    /// Targets are stored in at most this many blocks, so that one transaction can write them all.
    const BLOCKS_MAX: u32 = 64;

    /// Checks and takes a count.
    ///
    /// # Errors
    ///
    /// [`InvalidShardCount`] unless it is a power of two from 1 to 65 536.
    pub const fn new(count: u32) -> Result<Self, InvalidShardCount> {
        if count.is_power_of_two() && count <= Self::MAX {
            Ok(Self(count))
        } else {
            Err(InvalidShardCount(count))
        }
    }

    /// Takes a count that no cluster can have, `1 << bits`: to measure what is pure beyond that.
    ///
    /// # Panics
    ///
    /// If `bits` is 32 or more.
    #[doc(hidden)]
    pub const fn beyond_max(bits: u32) -> Self {
        assert!(bits < u32::BITS, "a shard has a number of 32 bits");
        Self(1 << bits)
    }

    /// Returns the number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Returns the number of target blocks: 64, or one a shard in a cluster of fewer shards.
    pub const fn blocks(self) -> u32 {
        if self.0 < Self::BLOCKS_MAX {
            self.0
        } else {
            Self::BLOCKS_MAX
        }
    }

    /// Returns the number of shards in each block: 128 in a cluster of 8192.
    pub const fn block_len(self) -> u32 {
        self.0 / self.blocks()
    }

    /// Returns every shard, in order.
    pub fn shards(self) -> impl DoubleEndedIterator<Item = ShardId> + ExactSizeIterator + Clone {
        (0..self.0).map(ShardId)
    }
}

impl Default for ShardCount {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for ShardCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A number that cannot be a cluster's shard count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} cannot be a shard count: use a power of two from 1 to 65536")]
pub struct InvalidShardCount(u32);

/// One of a cluster's shards; always below the cluster's shard count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(u32);

impl ShardId {
    /// Checks and takes a number.
    ///
    /// # Errors
    ///
    /// [`ShardOutOfRange`] if the cluster has no such shard.
    pub const fn new(number: u32, count: ShardCount) -> Result<Self, ShardOutOfRange> {
        if number < count.0 {
            Ok(Self(number))
        } else {
            Err(ShardOutOfRange { number, count })
        }
    }

    /// Takes a number that the caller has proven to be below the cluster's shard count.
    pub(super) const fn unchecked(number: u32) -> Self {
        Self(number)
    }

    /// Returns the number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Returns the number as an index into a table of all shards.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Returns the shard of the objects with this placement key.
    ///
    /// FNV-1a 64 of the parts' bytes, one after the other, then `finalise`, then modulo the
    /// count. Part of the storage format: any change moves every object (ADR-0001).
    pub(crate) fn of_key(parts: &[&str], count: ShardCount) -> Self {
        // The count is a power of two, so its low bits are the remainder, without a division.
        let number = hash_of(parts) & u64::from(count.0 - 1);
        Self(u32::try_from(number).expect("a remainder is below the count"))
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A shard number that the cluster does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no shard {number}: the cluster has {count} (0 to {})", count.0 - 1)]
pub struct ShardOutOfRange {
    number: u32,
    count: ShardCount,
}

/// Returns the hash of a text in parts: FNV-1a 64, then [`finalise`].
pub(super) fn hash_of(parts: &[&str]) -> u64 {
    let mut hasher = FnvHasher::default();
    for part in parts {
        hasher.write(part.as_bytes());
    }
    finalise(hasher.finish())
}

/// Spreads every bit of a hash over all the others.
///
/// Raw FNV-1a modulo a power of two leaves half of the shards empty for IDs that repeat a part,
/// such as `room-7-7`. The steps are those of `MurmurHash3`'s `fmix64` (Austin Appleby).
const fn finalise(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ObjectKey, Place};

    /// Golden vectors: these numbers are part of the storage format (ADR-0001).
    #[test]
    fn the_hash_never_changes() {
        assert_eq!(FnvHasher::default().finish(), 0xcbf2_9ce4_8422_2325);
        assert_eq!(finalise(1), 0xb456_bcfc_34c2_cb2c);
        for (key, shard) in [
            ("Counter/c1", 6084),
            ("Counter/c2", 6106),
            ("Account/ä/ö", 1680),
            ("Word/the", 5479),
        ] {
            let key: ObjectKey = key.parse().expect("a good key");
            let place = key.place(&ShardCount::DEFAULT.into());
            assert_eq!(place, Ok(Place::Shard(ShardId(shard))), "{key}");
        }
    }

    #[test]
    fn repeated_parts_still_fill_every_shard_evenly() {
        let mut counts = vec![0_u32; 64];
        let count = ShardCount::new(64).expect("a power of two");
        for i in 0..64_000 {
            counts[ShardId::of_key(&[&format!("room-{i}-{i}")], count).index()] += 1;
        }
        assert!(
            counts.iter().all(|&n| (850..1150).contains(&n)),
            "{counts:?}"
        );
    }
}
