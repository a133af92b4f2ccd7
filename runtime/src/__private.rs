//! What the macros' output names. No promise is made about anything here.

use std::fmt::Display;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

pub use futures::future::BoxFuture;
pub use serde;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::object::StateCodec;

/// What can be an argument or a reply.
///
/// The impl for no type at all makes the compiler name the whole type in its one message, instead
/// of each part and each of serde's traits in a message of its own. For the same reason these are
/// methods, not supertraits.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument or a reply",
    label = "cannot travel between nodes",
    note = "arguments and replies are serialized: write `#[derive(Serialize, Deserialize)]` on the types they are made of, and let them own their data"
)]
pub trait Payload: Sized {
    /// Serializes it.
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;
    /// Deserializes it.
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

impl<T: Serialize + DeserializeOwned> Payload for T {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize(serializer)
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize(deserializer)
    }
}

impl<T> Payload for T
where
    NoType<T>: Never,
{
    fn write<S: Serializer>(&self, _serializer: S) -> Result<S::Ok, S::Error> {
        unreachable!("implemented for no type")
    }

    fn read<'de, D: Deserializer<'de>>(_deserializer: D) -> Result<Self, D::Error> {
        unreachable!("implemented for no type")
    }
}

/// Implements nothing.
#[derive(Debug)]
pub struct NoType<T>(std::marker::PhantomData<T>);

/// Implemented by nothing.
pub trait Never {}

/// The type of the `ARGUMENT`-th argument of the `METHOD`-th method of a block.
pub trait Argument<const METHOD: usize, const ARGUMENT: usize> {
    /// The type.
    type Type: Payload;
}

/// A payload, as it is serialized: like the payload itself.
#[derive(Debug)]
pub struct Wire<T>(pub T);

impl<T: Payload> Serialize for Wire<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.write(serializer)
    }
}

impl<'de, T: Payload> Deserialize<'de> for Wire<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::read(deserializer).map(Self)
    }
}

/// State that `#[object(storage)]` can keep. See [`Payload`] for the shape of its impls.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has `#[object(storage)]`, so its state must be serializable",
    label = "cannot be stored",
    note = "write `#[derive(Serialize, Deserialize)]` on the struct and on what it is made of"
)]
pub trait StoredState: Sized {
    /// How it is stored.
    const CODEC: StateCodec<Self>;
}

impl<T: Serialize + DeserializeOwned> StoredState for T {
    const CODEC: StateCodec<Self> = StateCodec {
        encode: |state| rmp_serde::to_vec_named(state).map_err(|error| error.to_string()),
        decode: |bytes| rmp_serde::from_slice(bytes).map_err(|error| error.to_string()),
    };
}

impl<T> StoredState for T
where
    NoType<T>: Never,
{
    const CODEC: StateCodec<Self> = unreachable!();
}

/// Returns the codec of `#[object(storage)]`: `MessagePack` with named fields.
pub const fn messagepack<T: StoredState>() -> StateCodec<T> {
    T::CODEC
}

/// Finds out whether a type's state can travel: [`Probe::TRAVEL`] is its own if the type is
/// serializable, and that of [`StaysBehind`] if not. Own constants go before those of traits.
#[derive(Debug)]
pub struct Probe<T>(std::marker::PhantomData<T>);

impl<T: Serialize + DeserializeOwned> Probe<T> {
    /// How the state travels.
    pub const TRAVEL: Option<StateCodec<T>> = Some(<T as StoredState>::CODEC);
}

/// What every type can do.
pub trait StaysBehind<T> {
    /// The state does not travel.
    const TRAVEL: Option<StateCodec<T>> = None;
}

impl<T> StaysBehind<T> for Probe<T> {}

/// Tells what a hook's error says.
pub fn in_words<E: Display>(error: E) -> String {
    error.to_string()
}

/// Returns what a future without `await` gives.
///
/// # Panics
///
/// If it waits, which the macro has ruled out.
pub fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("a body without `await` does not wait"),
    }
}
