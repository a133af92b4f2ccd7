//! What users implement, and what runs it: activations, mailboxes and turns.
//!
//! Knows the ids, the fence and `placement`'s values; never the store nor the network. Calls
//! that this process cannot serve go out through [`RemoteCalls`], which `routing` implements.

mod handle;
mod host;
mod method;

pub use handle::{Caller, ObjectRef, RemoteCalls};
pub use host::{Closing, Dispatch, Host, HostSettings, ObjectInfo, ObjectQuery};
pub use method::{
    Access, Body, CallPath, Context, EncodedCall, Format, Hook, Method, MethodEntry, Methods,
    Object, Registry, StateCodec, TypeSettings,
};
