//! The names of things: nodes, shards, objects, and the revisions that fence them.
//!
//! Everything else imports this module; it imports nothing of ours.

mod layout;

use std::fmt;
use std::hash::Hasher;
use std::str::FromStr;
use std::sync::Arc;

use fnv::FnvHasher;

pub use layout::{InvalidRegion, Layout, REGION_NAME_LEN_MAX, REGIONS_MAX, Region, Regions};

/// The longest object ID, in bytes of UTF-8.
pub const OBJECT_ID_LEN_MAX: usize = 1024;

/// The longest node ID, in bytes.
pub const NODE_ID_LEN_MAX: usize = 128;

/// The stable name of a node, such as the StatefulSet ordinal `counter-0`.
///
/// 1 to 128 letters, digits, `-`, `_` and `.`, beginning with a letter or digit. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// Checks and takes a name.
    ///
    /// # Errors
    ///
    /// [`InvalidNodeId`] if the name has another form than described on the type.
    pub fn new(name: &str) -> Result<Self, InvalidNodeId> {
        let first_ok = name
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric());
        let all_ok = name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if first_ok && all_ok && name.len() <= NODE_ID_LEN_MAX {
            Ok(Self(name.into()))
        } else {
            Err(InvalidNodeId(name.chars().take(NODE_ID_LEN_MAX).collect()))
        }
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeId {
    type Err = InvalidNodeId;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::new(name)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that cannot name a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` cannot name a node: use 1 to 128 letters, digits, `-`, `_` or `.`, a letter or digit first"
)]
pub struct InvalidNodeId(String);

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// Wraps the raw number.
            pub const fn new(raw: u64) -> Self {
                Self(raw)
            }

            /// Returns the raw number.
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A revision of the store: every committed transaction has a greater one than all before it.
    /// Zero is before the first.
    Revision
}

number! {
    /// One life of a node: the revision at which its node key was created.
    Incarnation
}

number! {
    /// One reign of a leader: the revision at which its leader key was created.
    Term
}

number! {
    /// One plan: the revision of the view that it was made of. Later plans have greater ones.
    PlanId
}

/// A lease of the store; its keys vanish with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(i64);

impl LeaseId {
    /// Wraps the store's number.
    pub const fn new(raw: i64) -> Self {
        Self(raw)
    }

    /// Returns the store's number.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// The fencing token of one ownership of a shard; a later owner has a greater one.
///
/// The low 48 bits are the mod revision of the owner key, the high 16 the cluster's restore
/// generation, which an operator raises after restoring the store from a snapshot: revisions
/// then start over, and tokens must not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(u64);

impl Token {
    const REVISION_BITS: u32 = 48;

    /// Returns the token of an owner key written at `revision` in a restore `generation`.
    ///
    /// # Panics
    ///
    /// If the revision needs more than 48 bits: 89 years at 100 000 transactions a second.
    pub fn of(generation: u16, revision: Revision) -> Self {
        assert!(
            revision.0 >> Self::REVISION_BITS == 0,
            "revisions must fit into 48 bits"
        );
        Self(u64::from(generation) << Self::REVISION_BITS | revision.0)
    }

    /// Wraps a token that came over the wire or from storage.
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// Returns the number that storage compares.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the restore generation it is of.
    pub const fn generation(self) -> u16 {
        (self.0 >> Self::REVISION_BITS) as u16
    }

    /// Returns the mod revision of the owner key that it stands for.
    pub const fn revision(self) -> Revision {
        Revision(self.0 & ((1 << Self::REVISION_BITS) - 1))
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

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

    /// Takes a number that another node of the same cluster sent, unchecked: use it only to
    /// show it or to compare it.
    pub(crate) const fn from_wire(number: u32) -> Self {
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

/// Returns the hash of a text in parts: FNV-1a 64, then [`finalise`].
fn hash_of(parts: &[&str]) -> u64 {
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

/// A shard number that the cluster does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no shard {number}: the cluster has {count} (0 to {})", count.0 - 1)]
pub struct ShardOutOfRange {
    number: u32,
    count: ShardCount,
}

/// An object's identity in the whole cluster: its registered type name and its ID.
///
/// Written `Type/id`. The ID is any UTF-8 text of 1 to 1024 bytes, slashes included; the type
/// name has no slash. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    object_type: Arc<str>,
    id: Arc<str>,
}

impl ObjectKey {
    /// Checks and takes a type name and an ID.
    ///
    /// # Errors
    ///
    /// [`InvalidObjectKey`] if either has another form than described on the type.
    pub fn new(
        object_type: impl Into<Arc<str>>,
        id: impl Into<Arc<str>>,
    ) -> Result<Self, InvalidObjectKey> {
        let (object_type, id) = (object_type.into(), id.into());
        if object_type.is_empty() || object_type.contains('/') {
            return Err(InvalidObjectKey::TypeName(
                object_type.chars().take(64).collect(),
            ));
        }
        match id.len() {
            0 => Err(InvalidObjectKey::EmptyId),
            1..=OBJECT_ID_LEN_MAX => Ok(Self { object_type, id }),
            len => Err(InvalidObjectKey::LongId { len }),
        }
    }

    /// Returns the registered type name.
    pub fn object_type(&self) -> &str {
        &self.object_type
    }

    /// Returns the identity within the type.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the same key with another copy of its type name, which many keys can share.
    pub(crate) fn with_type_name(&self, object_type: &Arc<str>) -> Self {
        debug_assert_eq!(self.object_type, *object_type);
        Self {
            object_type: object_type.clone(),
            id: self.id.clone(),
        }
    }

    /// Returns where objects of this key live.
    ///
    /// `shard#5/x` names shard 5 and `node#n1/x` node `n1`. Otherwise the shard follows from the
    /// placement key: what stands inside the first `{…}` of the ID if that is not empty, else
    /// `Type/id`. So `cart{u7}` and `profile{u7}` of any type live together. A region of the layout
    /// keeps some shards for some keys.
    ///
    /// # Errors
    ///
    /// [`InvalidObjectKey`] if the ID names a shard or a node that cannot exist.
    pub fn place(&self, layout: &Layout) -> Result<Place, InvalidObjectKey> {
        if let Some(rest) = self.id.strip_prefix("shard#") {
            return bound_shard(rest, layout.count()).map(Place::Shard);
        }
        if let Some(rest) = self.id.strip_prefix("node#") {
            return bound_node(rest).map(Place::Node);
        }
        Ok(Place::Shard(match braced(&self.id) {
            Some(placement_key) => layout.shard_of(&self.object_type, &[placement_key]),
            None => layout.shard_of(&self.object_type, &[&self.object_type, "/", &self.id]),
        }))
    }
}

fn bound_shard(rest: &str, count: ShardCount) -> Result<ShardId, InvalidObjectKey> {
    let number = match rest.split_once('/') {
        Some((number, name)) if !name.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => {
            number.parse().map_err(|_| InvalidObjectKey::ShardBound)?
        }
        Some(_) | None => return Err(InvalidObjectKey::ShardBound),
    };
    Ok(ShardId::new(number, count)?)
}

fn bound_node(rest: &str) -> Result<NodeId, InvalidObjectKey> {
    match rest.split_once('/') {
        Some((node, name)) if !name.is_empty() => Ok(NodeId::new(node)?),
        Some(_) | None => Err(InvalidObjectKey::NodeBound),
    }
}

fn braced(id: &str) -> Option<&str> {
    let (_, rest) = id.split_once('{')?;
    let (inside, _) = rest.split_once('}')?;
    (!inside.is_empty()).then_some(inside)
}

impl FromStr for ObjectKey {
    type Err = InvalidObjectKey;

    /// Reads `Type/id`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (object_type, id) = text.split_once('/').ok_or(InvalidObjectKey::EmptyId)?;
        Self::new(object_type, id)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.object_type, self.id)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Where an object lives, as its key alone tells.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// With a shard, wherever the shard is.
    Shard(ShardId),
    /// On this node for ever; it is never moved.
    Node(NodeId),
}

/// A type name and ID that cannot name an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidObjectKey {
    /// The type name is empty or has a slash.
    #[error("`{0}` cannot be the name of an object type: it must not be empty nor have a slash")]
    TypeName(String),
    /// The ID is empty.
    #[error("an object's ID must not be empty")]
    EmptyId,
    /// The ID is longer than 1024 bytes.
    #[error("an object's ID has {len} bytes; at most {OBJECT_ID_LEN_MAX} are allowed")]
    LongId {
        /// Its length in bytes.
        len: usize,
    },
    /// The ID begins with `shard#` but does not go on with a number, a slash and a name.
    #[error("a shard-bound ID is written `shard#NUMBER/NAME`")]
    ShardBound,
    /// The ID begins with `node#` but does not go on with a node, a slash and a name.
    #[error("a node-bound ID is written `node#NODE/NAME`")]
    NodeBound,
    /// The ID names a shard that the cluster does not have.
    #[error(transparent)]
    Shard(#[from] ShardOutOfRange),
    /// The ID names a node that cannot exist.
    #[error(transparent)]
    Node(#[from] InvalidNodeId),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(key: &str) -> Result<Place, InvalidObjectKey> {
        key.parse::<ObjectKey>()?.place(&ShardCount::DEFAULT.into())
    }

    fn shard(key: &str) -> u32 {
        match place(key).expect("a good key") {
            Place::Shard(shard) => shard.get(),
            Place::Node(node) => panic!("{key} is bound to {node}"),
        }
    }

    /// Golden vectors: these numbers are part of the storage format (ADR-0001).
    #[test]
    fn the_hash_never_changes() {
        assert_eq!(fnv::FnvHasher::default().finish(), 0xcbf2_9ce4_8422_2325);
        assert_eq!(finalise(1), 0xb456_bcfc_34c2_cb2c);
        let shards = ["Counter/c1", "Counter/c2", "Account/ä/ö", "Word/the"].map(shard);
        assert_eq!(shards, [6084, 6106, 1680, 5479]);
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

    #[test]
    fn braces_bring_objects_of_any_type_together() {
        assert_eq!(shard("Cart/cart{u7}"), shard("Profile/profile{u7}"));
        assert_ne!(
            shard("Cart/cart{}"),
            shard("Profile/cart{}"),
            "an empty part does not count"
        );
    }

    #[test]
    fn p19_bound_ids_name_their_shard_or_node() {
        assert_eq!(shard("Counter/shard#5/x"), 5);
        assert_eq!(
            place("Counter/node#n-1/x"),
            Ok(Place::Node("n-1".parse().expect("valid")))
        );
    }

    #[test]
    fn p19_bad_ids_are_refused_in_words() {
        let refused = |id: &str| place(&format!("Counter/{id}")).expect_err(id).to_string();
        assert!(refused("shard#").contains("shard#NUMBER/NAME"));
        assert!(refused("shard#x/y").contains("shard#NUMBER/NAME"));
        assert!(refused("shard#5").contains("shard#NUMBER/NAME"));
        assert!(refused("shard#8192/y").contains("there is no shard 8192"));
        assert!(refused("node#").contains("node#NODE/NAME"));
        assert!(refused("node#/x").contains("cannot name a node"));
        assert!(refused("").contains("must not be empty"));
        assert!(refused(&"x".repeat(1025)).contains("1025 bytes"));
    }

    #[test]
    fn a_restored_store_gives_greater_tokens() {
        let before = Token::of(0, Revision::new(1 << 40));
        assert!(Token::of(1, Revision::new(1)) > before);
    }
}
