//! Which objects live here, for people who look.

use std::collections::BinaryHeap;
use std::time::Duration;

use super::Host;
use crate::ids::{ObjectKey, ShardId};
use crate::object::busiest::TimedTurns;

/// In which order objects are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ObjectOrder {
    /// By type and ID.
    #[default]
    Key,
    /// Those with most turns lately first, and no others: some hundred of a host, as seen by the
    /// turns that were timed.
    Busiest,
}

/// Which objects to list.
#[derive(Clone, Debug, Default)]
pub struct ObjectQuery {
    /// Only of this type.
    pub object_type: Option<String>,
    /// Only of this shard.
    pub shard: Option<ShardId>,
    /// At most this many. Default: 0, so none.
    pub limit: usize,
    /// Only after this one, in order of type and ID.
    pub after: Option<ObjectKey>,
    /// Only with an ID that begins with this.
    pub prefix: Option<String>,
    /// In which order.
    pub order: ObjectOrder,
}

/// A live object.
#[derive(Clone, Debug)]
pub struct ObjectInfo {
    /// Its key.
    pub key: ObjectKey,
    /// Its shard, unless it is bound to its node.
    pub shard: Option<ShardId>,
    /// Calls waiting for their turn.
    pub waiting: usize,
    /// Time since its last turn ended; zero while one runs.
    pub idle: Duration,
    /// The method whose turn began last; empty: none has.
    pub method: String,
    /// Bytes of its state as it was last saved or loaded; zero for state that is never written.
    pub state_bytes: u64,
    /// Turns that have ended since it was activated, modulo
    /// [`TURNS_COUNTED`](crate::object::TURNS_COUNTED).
    pub turns: u32,
    /// What was seen of its turns that were timed; none if that was none, or is forgotten.
    pub timed: Option<TimedTurns>,
}

impl Host {
    /// Lists live objects.
    ///
    /// In order of type and ID it looks at every object of the shards in question, about 0.1 s for a
    /// million, but keeps only the listed ones. Shards are read one after the other, so the list is no
    /// snapshot.
    pub fn objects(&self, query: &ObjectQuery) -> Vec<ObjectInfo> {
        match query.order {
            ObjectOrder::Key => self.objects_by_key(query),
            ObjectOrder::Busiest => self.busiest(query),
        }
    }

    fn objects_by_key(&self, query: &ObjectQuery) -> Vec<ObjectInfo> {
        let now = self.common.now();
        let mut first: BinaryHeap<Listed> = BinaryHeap::new();
        let slots = match query.shard {
            Some(shard) => self.slots.get(shard.index()).into_iter().collect(),
            None => self.all_slots().collect::<Vec<_>>(),
        };
        for slot in slots {
            for object in slot.table.read().iter() {
                let fits = first.len() < query.limit
                    || first.peek().is_some_and(|last| object.key() < &last.0.key);
                if fits && query.limit > 0 && is_wanted(query, object.key()) {
                    first.push(Listed(object.info(now)));
                    if first.len() > query.limit {
                        first.pop();
                    }
                }
            }
        }
        let listed = first.into_sorted_vec();
        listed.into_iter().map(|Listed(info)| info).collect()
    }
}

/// Whether a query asks for an object, as far as its key tells.
pub(in crate::object) fn is_wanted(query: &ObjectQuery, key: &ObjectKey) -> bool {
    let type_fits = query
        .object_type
        .as_ref()
        .is_none_or(|name| name == key.object_type());
    let prefix_fits = query
        .prefix
        .as_ref()
        .is_none_or(|prefix| key.id().starts_with(prefix));
    type_fits && prefix_fits && query.after.as_ref().is_none_or(|after| key > after)
}

/// An object in order of its key.
struct Listed(ObjectInfo);

impl Ord for Listed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.key.cmp(&other.0.key)
    }
}

impl PartialOrd for Listed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Listed {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for Listed {}
