//! Calls as bytes: how arguments and replies are written.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::{CallPath, Method};
use crate::error::CallError;
use crate::ids::ObjectKey;
use crate::telemetry::Trace;

/// The largest arguments and replies of a node that sets no other limit, in bytes: 4 MiB.
pub const PAYLOAD_LEN_MAX: usize = 4 << 20;

/// The greatest limit that can be set for arguments and replies, in bytes.
pub const PAYLOAD_LEN_LIMIT: usize = 64 << 20;

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
    /// The span that it is part of, if it is sampled.
    pub trace: Trace,
}

/// The method that every object has: ends the activation after its turn. No arguments.
pub const DEACTIVATE: &str = "$deactivate";

/// The method that every object has: deletes the stored state and ends the activation. No arguments.
pub const DELETE: &str = "$delete";

/// Reads a method's arguments; the error tells what is wrong with them.
pub(super) fn decode_args<M: Method>(format: Format, args: &[u8]) -> Result<M, String> {
    match format {
        Format::MessagePack => rmp_serde::from_slice(args).map_err(|error| error.to_string()),
        Format::Json => decode_json::<M>(args),
    }
}

fn decode_json<M: Method>(args: &[u8]) -> Result<M, String> {
    let given = match args.trim_ascii() {
        [] => Value::Null,
        json => serde_json::from_slice(json).map_err(|error| format!("no JSON: {error}"))?,
    };
    let named = name_arguments(given, M::ARGUMENTS)?;
    if M::ARGUMENTS.is_empty() {
        // A method without arguments may be a unit struct, which JSON writes as null.
        let empty = serde_json::from_value(Value::Object(named));
        return empty
            .or_else(|_| serde_json::from_value(Value::Null))
            .map_err(|error| error.to_string());
    }
    serde_json::from_value(Value::Object(named)).map_err(|error| {
        error
            .to_string()
            .replace("missing field", "missing argument")
    })
}

/// Returns the arguments by name, whether they came so or in order.
fn name_arguments(
    given: Value,
    names: &'static [&'static str],
) -> Result<Map<String, Value>, String> {
    match given {
        Value::Null => Ok(Map::new()),
        Value::Object(named) => match named.keys().find(|name| !names.contains(&name.as_str())) {
            Some(unknown) => Err(format!("unknown argument `{unknown}`: {}", takes(names))),
            None => Ok(named),
        },
        Value::Array(values) if values.len() > names.len() => {
            Err(format!("{} given: {}", values.len(), takes(names)))
        }
        Value::Array(values) => {
            let names = names.iter().map(ToString::to_string);
            Ok(names.zip(values).collect())
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            Err("a JSON object of named arguments or an array of positional ones is wanted".into())
        }
    }
}

fn takes(names: &[&str]) -> String {
    match names {
        [] => "it takes none".to_owned(),
        names => format!("it takes `{}`", names.join("`, `")),
    }
}

/// Writes a reply.
pub(super) fn encode_reply<R: Serialize>(
    format: Format,
    reply: &R,
    key: &ObjectKey,
    len_max: usize,
) -> Result<Bytes, CallError> {
    let written = match format {
        Format::MessagePack => rmp_serde::to_vec_named(reply).map_err(|error| error.to_string()),
        Format::Json => serde_json::to_vec(reply).map_err(|error| error.to_string()),
    };
    match written {
        Ok(bytes) if bytes.len() > len_max => Err(CallError::ReplyTooLarge(format!(
            "{} bytes from {key}; at most {len_max} are allowed",
            bytes.len()
        ))),
        Ok(bytes) => Ok(bytes.into()),
        Err(why) => Err(CallError::BadReply(why)),
    }
}

/// Refuses arguments beyond the payload limit.
pub(super) fn check_args(args: &[u8], len_max: usize) -> Result<(), CallError> {
    match args.len() {
        len if len > len_max => Err(CallError::TooLarge(format!(
            "{len} bytes; at most {len_max} are allowed"
        ))),
        _ => Ok(()),
    }
}
