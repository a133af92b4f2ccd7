//! What a turn knows of its call. (Skeleton.)

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Object;
use crate::ids::{ObjectKey, Token};

/// What a turn knows of its call and can do besides changing its object.
#[derive(Debug)]
pub struct Context {}

impl Context {
    /// Returns the object's own key.
    pub fn key(&self) -> &ObjectKey {
        unimplemented!("skeleton")
    }

    /// Returns the object's own ID.
    pub fn id(&self) -> &str {
        self.key().id()
    }

    /// Returns the fencing token of the ownership under which this turn runs.
    pub fn token(&self) -> Token {
        unimplemented!("skeleton")
    }

    /// Returns when the caller stops waiting. The turn may run on, but nobody hears of it.
    pub fn deadline(&self) -> Instant {
        unimplemented!("skeleton")
    }

    /// Returns a handle to another object. Its calls carry this call's path, so that a cycle is
    /// seen, and end no later than this call's deadline.
    pub fn object<T: Object>(&self, _id: impl Into<String>) -> T::Handle {
        unimplemented!("skeleton")
    }

    /// Ends the activation after this turn. The next call activates the object again.
    pub fn deactivate(&self) {
        unimplemented!("skeleton")
    }

    /// Returns a token that is cancelled when the activation ends, however that happens: for
    /// background work that an object starts.
    pub fn cancellation(&self) -> CancellationToken {
        unimplemented!("skeleton")
    }
}
