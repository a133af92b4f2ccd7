//! The contract between `#[derive(Object)]`, `#[methods]` and the runtime.

use std::time::Duration;

use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Context, MethodEntry, ObjectRef};

/// A type of objects. Made by `#[derive(Object)]`.
pub trait Object: Sized + Send + Sync + 'static {
    /// The registered type name.
    const TYPE: &'static str;
    /// The typed handle: the methods of this type, to be called from anywhere.
    type Handle: From<ObjectRef<Self>>;
    /// Makes the state of an object that has none stored.
    fn create() -> Self;
    /// What the attributes say.
    fn settings() -> TypeSettings;
    /// How its state is stored; `None`: it is not.
    const STATE: Option<StateCodec<Self>>;
    /// How its state travels with its shard when that moves on purpose; `None`: it is transient,
    /// and begins anew, or from storage, at the new owner.
    const TRAVEL: Option<StateCodec<Self>> = None;
}

/// How the state of a type becomes bytes and comes back.
#[derive(Debug)]
pub struct StateCodec<T> {
    /// Writes the state.
    pub encode: fn(&T) -> Result<Vec<u8>, String>,
    /// Reads it back.
    pub decode: fn(&[u8]) -> Result<T, String>,
}

/// What `#[object(…)]` can set for a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeSettings {
    /// Deactivate after this long without a call. Default: 15 min.
    pub idle: Duration,
    /// Most calls waiting for one object. Default: 1024.
    pub mailbox_len_max: usize,
    /// Save at most this often instead of before each reply (`None`). Only with a state codec.
    pub save_every: Option<Duration>,
    /// Objects that are activated without a call.
    pub auto_start: AutoStart,
}

impl Default for TypeSettings {
    fn default() -> Self {
        Self {
            idle: Duration::from_mins(15),
            mailbox_len_max: 1024,
            save_every: None,
            auto_start: AutoStart::Never,
        }
    }
}

/// Objects that are activated without a call and kept so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoStart {
    /// None.
    #[default]
    Never,
    /// One for the cluster, with the ID `cluster`.
    PerCluster,
    /// One per shard, with the IDs `shard#N/auto`.
    PerShard,
    /// One per node, with the IDs `node#NODE/auto`.
    PerNode,
}

/// The methods of a type. Made by `#[methods]`.
pub trait Methods: Object {
    /// Every method.
    fn methods() -> Vec<MethodEntry<Self>>;
    /// Runs before the first turn; an error fails the activation.
    const ACTIVATE: Option<Hook<Self>> = None;
    /// Runs after the last turn of an orderly end.
    const DEACTIVATE: Option<Hook<Self>> = None;
}

/// A hook: the error is told in words.
pub type Hook<T> = for<'a> fn(&'a mut T, &'a Context) -> BoxFuture<'a, Result<(), String>>;

/// Whether a method runs alone or together with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `&mut self`: alone.
    Exclusive,
    /// `&self`: together with other shared ones.
    Shared,
}

/// One method, as the value that holds its arguments.
pub trait Method: Serialize + DeserializeOwned + Send + 'static {
    /// Whose method.
    type Object: Object;
    /// What it returns.
    type Reply: Serialize + DeserializeOwned + Send + 'static;
    /// Its name.
    const NAME: &'static str;
    /// The names of its arguments, in order.
    const ARGUMENTS: &'static [&'static str];
    /// Whether it takes a context. One that does not is spared what only a context needs.
    const TAKES_CONTEXT: bool;
    /// Whether it returns a `Result`, whose `Err` HTTP answers as a problem.
    const FALLIBLE: bool;
    /// How to run it.
    const BODY: Body<Self>;
}

/// How a method runs: with or without `await`, alone or together.
#[derive(Debug)]
pub enum Body<M: Method> {
    /// `&mut self` without `await`.
    Exclusive(fn(&mut M::Object, &Context, M) -> M::Reply),
    /// `&self` without `await`.
    Shared(fn(&M::Object, &Context, M) -> M::Reply),
    /// `&mut self` with `await`.
    ExclusiveAsync(for<'a> fn(&'a mut M::Object, &'a Context, M) -> BoxFuture<'a, M::Reply>),
    /// `&self` with `await`.
    SharedAsync(for<'a> fn(&'a M::Object, &'a Context, M) -> BoxFuture<'a, M::Reply>),
}

impl<M: Method> Body<M> {
    /// Whether its turns run alone or together.
    pub const fn access(&self) -> Access {
        match self {
            Self::Exclusive(_) | Self::ExclusiveAsync(_) => Access::Exclusive,
            Self::Shared(_) | Self::SharedAsync(_) => Access::Shared,
        }
    }

    /// Whether it runs without `await`.
    pub const fn is_plain(&self) -> bool {
        match self {
            Self::Exclusive(_) | Self::Shared(_) => true,
            Self::ExclusiveAsync(_) | Self::SharedAsync(_) => false,
        }
    }
}
