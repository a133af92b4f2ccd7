//! What the store's history tells about owners: never two at a time.

use std::collections::BTreeMap;

use crate::coordination::keys::Keys;
use crate::coordination::store::Event;
use crate::ids::{Incarnation, NodeId, Revision, ShardCount, ShardId};
use crate::placement::{News, Owner, OwnerRecord};

/// Follows every change of node and owner keys and remembers each owner that took a shard from a
/// live one which did not hand it over.
#[derive(Clone, Debug)]
pub struct OwnerHistory {
    keys: Keys,
    count: ShardCount,
    lives: BTreeMap<NodeId, Incarnation>,
    owners: BTreeMap<ShardId, (Revision, Owner)>,
    changes: u64,
    violations: Vec<TwoOwners>,
}

/// A shard that was taken from an owner that was still registered and did not hand it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TwoOwners {
    /// Which shard.
    pub shard: ShardId,
    /// When.
    pub revision: Revision,
    /// Who had it.
    pub from: Owner,
    /// Who took it.
    pub to: Owner,
}

impl OwnerHistory {
    /// Begins before the cluster's first revision.
    pub fn new(keys: Keys, count: ShardCount) -> Self {
        Self {
            keys,
            count,
            lives: BTreeMap::new(),
            owners: BTreeMap::new(),
            changes: 0,
            violations: Vec::new(),
        }
    }

    /// Takes in the next event of the store. Keys of no interest are passed over.
    pub fn record(&mut self, event: &Event) {
        match self.keys.news(event, self.count) {
            Ok(Some(News::Node(node, Some(record)))) => {
                self.lives.insert(node, record.incarnation);
            }
            Ok(Some(News::Node(node, None))) => {
                self.lives.remove(&node);
            }
            Ok(Some(News::Owner(shard, record))) => {
                self.changes += 1;
                self.change(shard, record);
            }
            Ok(
                Some(News::Leader(_) | News::Targets { .. } | News::Orders(_) | News::Activity(..))
                | None,
            )
            | Err(_) => {}
        }
    }

    /// Returns how often any shard's owner key changed.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Returns every time that a shard was taken from a live owner which did not hand it over.
    pub fn violations(&self) -> &[TwoOwners] {
        &self.violations
    }

    fn change(&mut self, shard: ShardId, record: OwnerRecord) {
        let OwnerRecord {
            revision,
            owner,
            parcel,
        } = record;
        let Some(to) = owner else {
            self.owners.remove(&shard);
            return;
        };
        let Some((had_since, from)) = self.owners.insert(shard, (revision, to.clone())) else {
            return;
        };
        // Only the owner itself names its own revision.
        let handed_over = parcel.is_some_and(|parcel| parcel.revision == had_since);
        let was_alive = self.lives.get(&from.node) == Some(&from.incarnation);
        if from != to && was_alive && !handed_over {
            self.violations.push(TwoOwners {
                shard,
                revision,
                from,
                to,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordination::keys;
    use crate::coordination::store::Entry;
    use crate::ids::LeaseId;
    use crate::placement::Parcel;

    fn put(key: String, value: Vec<u8>, revision: u64) -> Event {
        let revision = Revision::new(revision);
        Event::Put(Entry {
            key,
            value,
            create_revision: revision,
            mod_revision: revision,
            lease: Some(LeaseId::new(1)),
        })
    }

    fn owner(node: &str, incarnation: u64) -> Owner {
        let node = NodeId::new(node).expect("a good name");
        Owner {
            node,
            incarnation: Incarnation::new(incarnation),
        }
    }

    #[test]
    fn taking_a_shard_from_a_live_owner_is_noticed_unless_that_hands_it_over() {
        let (names, count) = (
            Keys::new("/t/"),
            ShardCount::new(4).expect("a power of two"),
        );
        let shard = ShardId::new(1, count).expect("in range");
        let node =
            br#"{"grpc":"a","weight":1,"version":"0","state":"active","lease":1,"boot_id":""}"#;
        let key = names.node(&owner("a", 1).node);
        let mut history = OwnerHistory::new(names.clone(), count);
        history.record(&put(key.clone(), node.to_vec(), 1));
        history.record(&put(
            names.owner(shard),
            keys::encode_owner(&owner("a", 1), None),
            2,
        ));
        let (mut dead, mut handed_over) = (history.clone(), history.clone());
        history.record(&put(
            names.owner(shard),
            keys::encode_owner(&owner("b", 1), None),
            3,
        ));
        assert_eq!(history.violations().len(), 1);

        let parcel = Parcel::empty(Revision::new(2));
        let value = keys::encode_owner(&owner("b", 1), Some(parcel));
        handed_over.record(&put(names.owner(shard), value, 3));
        assert_eq!(handed_over.violations(), []);

        dead.record(&Event::Delete {
            key,
            revision: Revision::new(3),
        });
        dead.record(&put(
            names.owner(shard),
            keys::encode_owner(&owner("b", 1), None),
            4,
        ));
        assert_eq!((dead.violations().len(), dead.changes()), (0, 2));
    }
}
