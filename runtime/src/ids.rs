//! The names of things: nodes, shards, objects, and the revisions that fence them.
//!
//! Everything else imports this module; it imports nothing of ours.

mod keys;
mod layout;
mod nodes;
mod numbers;
mod shards;

pub use self::keys::{InvalidObjectKey, OBJECT_ID_LEN_MAX, ObjectKey, Place};
pub use self::layout::{InvalidRegion, Layout, REGION_NAME_LEN_MAX, REGIONS_MAX, Region, Regions};
pub use self::nodes::{InvalidNodeId, NODE_ID_LEN_MAX, NodeId};
pub use self::numbers::{Incarnation, LeaseId, PlanId, Revision, Term, Token, canonical_number};
pub use self::shards::{InvalidShardCount, ShardCount, ShardId, ShardOutOfRange};
