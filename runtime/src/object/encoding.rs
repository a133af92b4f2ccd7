//! Calls as bytes: how arguments and replies are written.

use std::borrow::Cow;

use bytes::Bytes;
use tokio::time::Instant;

use super::CallPath;
use crate::ids::ObjectKey;

/// The largest arguments and replies of a node that sets no other limit, in bytes: 4 MiB.
pub const PAYLOAD_LEN_MAX: usize = 4 << 20;

/// How arguments and replies are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `MessagePack` with named fields.
    MessagePack,
    /// JSON, as HTTP brings it.
    Json,
}

/// A call whose arguments are bytes.
#[derive(Clone, Debug)]
pub struct EncodedCall {
    /// Which object.
    pub key: ObjectKey,
    /// Which method: of the type, or [`DEACTIVATE`] or [`DELETE`].
    pub method: Cow<'static, str>,
    /// Its arguments.
    pub args: Bytes,
    /// How they, and the reply, are written.
    pub format: Format,
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// Who waits for it.
    pub path: CallPath,
}

/// The method that every object has: ends the activation after its turn. No arguments.
pub const DEACTIVATE: &str = "$deactivate";

/// The method that every object has: deletes the stored state and ends the activation. No arguments.
pub const DELETE: &str = "$delete";
