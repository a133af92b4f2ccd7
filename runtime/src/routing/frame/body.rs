//! The bodies of frames, as they go over the wire.
//!
//! What is not always there has a default and is left out, so that versions which do not know it
//! skip it, and read frames without it.

use serde::{Deserialize, Serialize, Serializer};

use crate::ids::{Incarnation, NodeId, Token};
use crate::placement::Owner;
use crate::routing::news::Ownership;

#[derive(Serialize, Deserialize)]
pub(super) struct CallBody<'a> {
    #[serde(rename = "i")]
    pub(super) id: u64,
    #[serde(rename = "t")]
    pub(super) object_type: &'a str,
    #[serde(rename = "o")]
    pub(super) object_id: &'a str,
    #[serde(rename = "m")]
    pub(super) method: &'a str,
    #[serde(rename = "a", serialize_with = "as_bytes")]
    pub(super) args: &'a [u8],
    #[serde(rename = "f")]
    pub(super) format: u8,
    /// Milliseconds that the caller still waits.
    #[serde(rename = "d")]
    pub(super) deadline_ms: u64,
    #[serde(rename = "r")]
    pub(super) known: u64,
    /// Types and IDs of the objects that wait for this call, outermost first.
    #[serde(rename = "p", default, skip_serializing_if = "Vec::is_empty")]
    pub(super) path: Vec<(&'a str, &'a str)>,
    #[serde(borrow, rename = "n", default, skip_serializing_if = "Option::is_none")]
    pub(super) claim: Option<OwnershipBody<'a>>,
    #[serde(rename = "w", default, skip_serializing_if = "is_false")]
    pub(super) forwarded: bool,
    /// W3C `traceparent` of a call that is sampled …
    #[serde(borrow, rename = "x", default, skip_serializing_if = "Option::is_none")]
    pub(super) trace: Option<&'a str>,
    /// … and its `tracestate`, unless that is empty.
    #[serde(borrow, rename = "y", default, skip_serializing_if = "Option::is_none")]
    pub(super) trace_state: Option<&'a str>,
}

/// Who owns the shard of the call in question.
#[derive(Serialize, Deserialize)]
pub(super) struct OwnershipBody<'a> {
    #[serde(rename = "c")]
    pub(super) shard: u32,
    #[serde(rename = "n")]
    pub(super) node: &'a str,
    #[serde(rename = "l")]
    pub(super) incarnation: u64,
    #[serde(rename = "k")]
    pub(super) token: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ReplyBody<'a> {
    #[serde(rename = "i")]
    pub(super) id: u64,
    #[serde(rename = "v", serialize_with = "as_bytes")]
    pub(super) value: &'a [u8],
}

#[derive(Serialize, Deserialize)]
pub(super) struct FailedBody<'a> {
    #[serde(rename = "i")]
    pub(super) id: u64,
    #[serde(rename = "c")]
    pub(super) code: &'a str,
    #[serde(rename = "e")]
    pub(super) detail: &'a str,
}

/// `Moved` is a `NotOwner` that names the owner, so that a node which does not know it still knows
/// that the call did not run.
#[derive(Serialize, Deserialize)]
pub(super) struct NotOwnerBody<'a> {
    #[serde(rename = "i")]
    pub(super) id: u64,
    #[serde(rename = "r")]
    pub(super) revision: u64,
    #[serde(borrow, rename = "n", default, skip_serializing_if = "Option::is_none")]
    pub(super) claim: Option<OwnershipBody<'a>>,
}

impl<'a> From<&'a Ownership> for OwnershipBody<'a> {
    fn from(claim: &'a Ownership) -> Self {
        Self {
            shard: claim.shard,
            node: claim.owner.node.as_str(),
            incarnation: claim.owner.incarnation.get(),
            token: claim.token.get(),
        }
    }
}

impl OwnershipBody<'_> {
    /// A claim about a node that cannot exist is none.
    pub(super) fn read(&self) -> Option<Box<Ownership>> {
        let owner = Owner {
            node: NodeId::new(self.node).ok()?,
            incarnation: Incarnation::new(self.incarnation),
        };
        Some(Box::new(Ownership {
            shard: self.shard,
            owner,
            token: Token::from_raw(self.token),
        }))
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Without this, serde would write a sequence of numbers.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn as_bytes<S: Serializer>(bytes: &&[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}
