//! What users implement, and what runs it: activations, mailboxes, turns and timers.
//!
//! Knows the ids, the fence and `placement`'s values; never the store nor the network. Calls
//! that this process cannot serve go out through [`RemoteCalls`], which `routing` implements.

mod activation;
mod arrivals;
mod busiest;
mod chore;
mod closing;
mod common;
mod context;
mod directory;
mod encoding;
mod envelope;
mod handle;
mod host;
mod hosted;
mod load;
mod mailbox;
mod meter;
mod method;
mod path;
mod registry;
mod sweeper;
mod timers;
mod travel;
mod turn;
mod used;
mod watching;

pub use busiest::TimedTurns;
pub use context::Context;
pub use encoding::{DEACTIVATE, DELETE, EncodedCall, Format, PAYLOAD_LEN_LIMIT, PAYLOAD_LEN_MAX};
pub use handle::{CALL_TIMEOUT_DEFAULT, Caller, ObjectRef, RemoteCalls};
pub use host::{Closing, Dispatch, Host, HostSettings, ObjectInfo, ObjectOrder, ObjectQuery};
pub use load::{HostLoad, ShardLoad};
pub use meter::MethodTimes;
pub use method::{
    Access, AutoStart, Body, Hook, Method, Methods, Object, StateCodec, TypeSettings,
};
pub use path::{CALL_PATH_LEN_MAX, CallPath, PathTooLong};
pub use registry::{MethodEntry, MethodFacts, Registry};
pub(crate) use timers::TICK_OUTCOMES;
pub use timers::{
    PackedTimer, TIMER_ARGS_LEN_MAX, TIMER_NAME_LEN_MAX, TIMER_PERIOD_MIN, TIMER_WAIT_MAX,
    TIMERS_PER_OBJECT_MAX, Timer, TimerError, TimerInfo,
};
pub(crate) use travel::micros;
pub use travel::{
    Arriving, Packed, Packing, ParcelSum, STAGED_BYTES_MAX, STAGED_FOR_MAX, STAGED_OBJECT_BYTES,
    STATE_BYTES_MAX, StageError, StateError, Summing,
};
pub use used::TURNS_COUNTED;
