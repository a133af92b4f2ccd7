//! What a node is called.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

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
