//! A table with an entry for each shard whose copies share what they have in common.

use std::sync::Arc;

use crate::ids::{ShardCount, ShardId};

/// One `T` for each shard of a cluster.
///
/// The entries stand in as many blocks as the cluster has target blocks. A copy costs one
/// pointer a block; a change copies the one block it touches, if that is shared.
///
/// No shard and no block is out of bounds: one that the cluster does not have reads as the entry
/// that the table was filled with, and writing to it does nothing. So no number from the store or
/// from another node can end the process here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardTable<T> {
    count: ShardCount,
    blocks: Vec<Arc<[T]>>,
    /// What a shard that the cluster does not have reads as.
    filler: T,
}

impl<T: Clone + PartialEq> ShardTable<T> {
    /// Makes a table in which every shard has the same entry.
    pub fn filled(count: ShardCount, entry: T) -> Self {
        let block: Arc<[T]> = vec![entry.clone(); count.block_len() as usize].into();
        Self {
            count,
            blocks: vec![block; count.blocks() as usize],
            filler: entry,
        }
    }

    /// Returns how many shards there are.
    pub fn count(&self) -> ShardCount {
        self.count
    }

    /// Returns a shard's entry.
    pub fn get(&self, shard: ShardId) -> &T {
        let (block, offset) = self.position(shard);
        let block = self.blocks.get(block);
        block
            .and_then(|block| block.get(offset))
            .unwrap_or(&self.filler)
    }

    /// Replaces a shard's entry.
    pub fn set(&mut self, shard: ShardId, entry: T) {
        let (block, offset) = self.position(shard);
        if let Some(block) = self.blocks.get_mut(block)
            && let Some(old) = Arc::make_mut(block).get_mut(offset)
        {
            *old = entry;
        }
    }

    /// Returns every shard with its entry, in order of the shards.
    pub fn iter(&self) -> impl Iterator<Item = (ShardId, &T)> {
        self.count
            .shards()
            .zip(self.blocks.iter().flat_map(|block| block.iter()))
    }

    /// Returns the entries of one block, in order of its shards; none if there is no such block.
    pub fn block(&self, block: u32) -> &[T] {
        self.blocks.get(block as usize).map_or(&[], |block| block)
    }

    /// Returns the block that holds a shard's entry.
    pub fn block_of(&self, shard: ShardId) -> u32 {
        shard.get() / self.count.block_len()
    }

    /// Returns the shards of a block, in order.
    pub fn shards_of_block(&self, block: u32) -> impl Iterator<Item = ShardId> + use<T> {
        let len = self.count.block_len() as usize;
        self.count.shards().skip(block as usize * len).take(len)
    }

    /// Returns the shards whose entries differ from those of `earlier`, a table of the same
    /// cluster. Blocks that both share cost one comparison of pointers.
    pub fn changed_since<'a>(&'a self, earlier: &'a Self) -> impl Iterator<Item = ShardId> + 'a {
        let pairs = (0..).zip(self.blocks.iter().zip(&earlier.blocks));
        pairs
            .filter(|(_, (now, then))| !Arc::ptr_eq(now, then))
            .flat_map(move |(block, (now, then))| {
                let entries = self.shards_of_block(block).zip(now.iter().zip(then.iter()));
                entries
                    .filter(|(_, (now, then))| now != then)
                    .map(|(shard, _)| shard)
            })
    }

    fn position(&self, shard: ShardId) -> (usize, usize) {
        let len = self.count.block_len() as usize;
        (shard.index() / len, shard.index() % len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_share_all_blocks_but_the_changed_one() {
        let count = ShardCount::new(256).expect("a power of two");
        let before = ShardTable::filled(count, 'a');
        let mut after = before.clone();
        let shard = ShardId::new(77, count).expect("in range");
        after.set(shard, 'b');
        let shared = before
            .blocks
            .iter()
            .zip(&after.blocks)
            .filter(|(a, b)| Arc::ptr_eq(a, b));
        assert_eq!(shared.count(), 63);
        assert_eq!((before.get(shard), after.get(shard)), (&'a', &'b'));
        assert_eq!(after.changed_since(&before).collect::<Vec<_>>(), [shard]);
        assert_eq!(after.block_of(shard), 19);
    }

    #[test]
    fn shards_of_a_larger_cluster_are_ignored() {
        let (small, large) = (ShardCount::new(4), ShardCount::new(64));
        let (small, large) = (small.expect("valid"), large.expect("valid"));
        let mut table = ShardTable::filled(small, 'a');
        for shard in large.shards().skip(4) {
            table.set(shard, 'b');
            assert_eq!(table.get(shard), &'a');
        }
        assert_eq!(table, ShardTable::filled(small, 'a'));
        assert!(table.block(4).is_empty() && table.shards_of_block(4).next().is_none());
    }

    #[test]
    fn small_clusters_have_one_block_a_shard() {
        let count = ShardCount::new(4).expect("a power of two");
        let table = ShardTable::filled(count, 0);
        assert_eq!(table.iter().count(), 4);
        assert_eq!(table.block(3), [0]);
    }
}
