//! What an object is called, and where objects of that name live.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::{
    InvalidNodeId, Layout, NodeId, ShardCount, ShardId, ShardOutOfRange, canonical_number,
};

/// The longest object ID, in bytes of UTF-8.
pub const OBJECT_ID_LEN_MAX: usize = 1024;

/// The longest name of an object type, in bytes of UTF-8.
const OBJECT_TYPE_LEN_MAX: usize = 256;

/// An object's identity in the whole cluster: its registered type name and its ID.
///
/// Written `Type/id`. The ID is any UTF-8 text of 1 to 1024 bytes, slashes included; the type
/// name has 1 to 256 bytes and no slash. Cheap to clone.
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
        let len = object_type.len();
        if !(1..=OBJECT_TYPE_LEN_MAX).contains(&len) || object_type.contains('/') {
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
        Some((number, name)) if !name.is_empty() => {
            canonical_number(number).ok_or(InvalidObjectKey::ShardBound)?
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
    /// The type name is empty, too long, or has a slash.
    #[error(
        "`{0}` cannot be the name of an object type: use 1 to {OBJECT_TYPE_LEN_MAX} bytes without a slash"
    )]
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
        assert!(refused("shard#05/x").contains("shard#NUMBER/NAME"));
        assert!(refused("shard#8192/y").contains("there is no shard 8192"));
        assert!(refused("node#").contains("node#NODE/NAME"));
        assert!(refused("node#/x").contains("cannot name a node"));
        assert!(refused("").contains("must not be empty"));
        assert!(refused(&"x".repeat(1025)).contains("1025 bytes"));
        assert!(ObjectKey::new("T".repeat(256), "x").is_ok());
        assert!(ObjectKey::new("T".repeat(257), "x").is_err());
    }
}
