//! What storage is told of an activation's state, and when.
//!
//! Nothing is saved by a node that is fenced, nor by an activation that was discarded: both are asked
//! right before each save.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use tracing::warn;

use super::{Activation, State};
use crate::error::CallError;
use crate::object::Object;
use crate::object::turn::{fenced, panic_text};
use crate::storage::StorageError;

/// Why a state was not saved.
#[derive(Debug, thiserror::Error)]
pub(in crate::object) enum SaveError {
    #[error("the node is fenced")]
    Fenced,
    #[error("cannot write the state: {0}")]
    Encode(String),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl<T: Object> Activation<T> {
    /// Makes the effects of an exclusive turn last, as the type's settings say.
    pub(in crate::object) async fn commit(
        self: &Arc<Self>,
        held: &mut State<T>,
    ) -> Result<(), CallError> {
        if T::STATE.is_none() {
            return Ok(());
        }
        if self.hosted.settings.save_every.is_none() {
            return self
                .save(held)
                .await
                .map_err(|error| self.not_stored(error));
        }
        let held = Arc::get_mut(held).expect("an exclusive turn has the only reference");
        let saved = held
            .saved
            .as_mut()
            .expect("a stored type knows its version");
        if !std::mem::replace(&mut saved.dirty, true) {
            self.hosted.note_dirty(self);
        }
        Ok(())
    }

    /// Saves the state if it differs from what storage has.
    pub(in crate::object) async fn save(&self, held: &mut State<T>) -> Result<(), SaveError> {
        let Some(codec) = T::STATE else {
            return Ok(());
        };
        let held = Arc::get_mut(held).expect("an exclusive turn has the only reference");
        let saved = held
            .saved
            .as_mut()
            .expect("a stored type knows its version");
        let bytes = (codec.encode)(&held.state).map_err(SaveError::Encode)?;
        if saved.bytes.as_ref() != Some(&bytes) {
            if !self.may_take_effect() {
                return Err(SaveError::Fenced);
            }
            saved.version = self.put(saved.version, Some(bytes.clone())).await?;
            saved.bytes = Some(bytes);
        }
        saved.dirty = false;
        Ok(())
    }

    /// Deletes the stored state.
    pub(in crate::object) async fn unsave(&self, held: &mut State<T>) -> Result<(), SaveError> {
        let held = Arc::get_mut(held).expect("an exclusive turn has the only reference");
        let Some(saved) = held.saved.as_mut() else {
            return Ok(());
        };
        if !self.may_take_effect() {
            return Err(SaveError::Fenced);
        }
        if saved.bytes.is_some() {
            saved.version = self.put(saved.version, None).await?;
            saved.bytes = None;
        }
        Ok(())
    }

    pub(super) async fn put(
        &self,
        version: u64,
        state: Option<Vec<u8>>,
    ) -> Result<u64, StorageError> {
        let storage = &self.hosted.common.storage;
        storage.save(&self.key, self.token, version, state).await
    }

    /// Deletes the stored state of an object that had no activation: this one is not activated.
    pub(in crate::object) async fn delete_cold(self: &Arc<Self>) -> Result<(), CallError> {
        drop(self.slot.take_dormant(&self.key));
        let deleted = AssertUnwindSafe(async {
            if T::STATE.is_none() {
                return Ok(());
            }
            let storage = &self.hosted.common.storage;
            let stored = storage.load(&self.key, self.token).await?;
            if stored.state.is_some() {
                if !self.may_take_effect() {
                    return Err(SaveError::Fenced);
                }
                self.put(stored.version, None).await?;
            }
            Ok(())
        });
        let deleted = deleted.catch_unwind().await;
        self.over(None);
        match deleted {
            Ok(deleted) => deleted.map_err(|error| self.not_stored(error)),
            Err(panic) => Err(CallError::NotStored(panic_text(&*panic))),
        }
    }

    pub(in crate::object) fn not_stored(&self, error: SaveError) -> CallError {
        match error {
            SaveError::Fenced => fenced(self, "save"),
            error @ (SaveError::Encode(_) | SaveError::Storage(_)) => {
                warn!(object = %self.key, %error, "cannot save");
                CallError::NotStored(format!("{}: {error}", self.key))
            }
        }
    }

    /// Has the next save at an interval try again.
    pub(in crate::object) fn note_unsaved(self: &Arc<Self>, held: &mut State<T>) {
        if let Some(saved) = Arc::get_mut(held).and_then(|held| held.saved.as_mut()) {
            saved.dirty = true;
            self.hosted.note_dirty(self);
        }
    }
}
