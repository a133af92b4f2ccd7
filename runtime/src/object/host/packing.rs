//! The state of a shard's objects, made ready for another node and read from one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Host;
use crate::ids::ShardId;
use crate::object::common::millis;
use crate::object::directory::Stage;
use crate::object::timers;
use crate::object::travel::{Arriving, Dormant, Packed, Packing, Staging, StateError};
use crate::placement::Parcel;

impl Host {
    /// Packs the objects of a closed shard one after the other, to be sent to the node that will own
    /// it.
    pub fn pack(&self, shard: ShardId) -> Packing {
        let table = self.slots[shard.index()].table.read();
        if table.stage != Stage::Sealed {
            return Packing::new(Vec::new(), VecDeque::new());
        }
        let now = self.common.now();
        let dormant = table.dormant.iter().map(|(key, dormant)| {
            let written = self.types.get(key.object_type()).map_or_else(
                || Err("its type is not hosted here".to_owned()),
                |hosted| hosted.repack(dormant),
            );
            match written {
                Ok(state) => Ok(Packed {
                    key: key.clone(),
                    state,
                    idle: Duration::from_millis(now.saturating_sub(dormant.used)),
                    timers: timers::pack(dormant.timers.clone(), Instant::now()),
                }),
                Err(reason) => Err(StateError {
                    object: key.clone(),
                    reason,
                }),
            }
        });
        Packing::new(table.iter().cloned().collect(), dormant.collect())
    }

    /// Begins to take in a parcel of state for a shard that this node may come to own.
    pub fn arriving(self: &Arc<Self>, shard: ShardId, parcel: Parcel) -> Arriving {
        Arriving::new(self.clone(), shard, parcel)
    }

    pub(in crate::object) fn staging(&self) -> &Staging {
        &self.staging
    }

    /// Reads the state of an object that is to live here.
    pub(in crate::object) fn unpack(&self, packed: &Packed) -> Result<Dormant, StateError> {
        let object = &packed.key;
        let refuse = |reason: String| StateError {
            object: object.clone(),
            reason,
        };
        let hosted = self.types.get(object.object_type());
        let hosted = hosted.ok_or_else(|| refuse("its type is not hosted here".into()))?;
        let state = hosted.unpack(&packed.state).map_err(refuse)?;
        let idle = millis(packed.idle);
        let used = self.common.now().saturating_sub(idle);
        let readable = |method: &str, args: &[u8]| hosted.readable(method, args);
        let timers = timers::unpack(&packed.timers, Instant::now(), readable);
        let timers = timers.map_err(|error| refuse(format!("a timer of it: {error}")))?;
        Ok(Dormant {
            state,
            used,
            timers,
        })
    }
}
