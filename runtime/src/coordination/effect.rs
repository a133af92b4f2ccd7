//! What the lack of an answer means.

use super::store::StoreError;

/// Whether a request changes something if it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    None,
    Possible,
}

impl Effect {
    /// Returns the error of a request that may have arrived and was not answered.
    pub(super) fn unanswered(self, detail: impl Into<String>) -> StoreError {
        match self {
            Self::None => StoreError::Unavailable(detail.into()),
            Self::Possible => StoreError::Unknown(detail.into()),
        }
    }
}
