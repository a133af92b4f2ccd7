//! The objects whose turns wait for a call, so that a call which waits for itself is seen.

use std::fmt;
use std::sync::Arc;

use crate::ids::ObjectKey;

/// The most objects that may wait for one call, each for the next.
pub const CALL_PATH_LEN_MAX: usize = 64;

/// The objects whose turns wait for a call, outermost first. Cheap to clone.
#[derive(Clone, Default)]
pub struct CallPath(Option<Arc<Link>>);

struct Link {
    key: ObjectKey,
    outer: CallPath,
    len: usize,
}

impl CallPath {
    /// The path of a call that no turn waits for.
    pub const EMPTY: Self = Self(None);

    /// Reads a path that came from another node, outermost first.
    ///
    /// # Errors
    ///
    /// [`PathTooLong`] if there are more than [`CALL_PATH_LEN_MAX`] keys.
    pub fn from_keys(keys: impl IntoIterator<Item = ObjectKey>) -> Result<Self, PathTooLong> {
        keys.into_iter()
            .try_fold(Self::EMPTY, |path, key| path.then(key))
    }

    /// Returns this path with one more object inside.
    ///
    /// # Errors
    ///
    /// [`PathTooLong`] if it has [`CALL_PATH_LEN_MAX`] keys already.
    pub fn then(&self, key: ObjectKey) -> Result<Self, PathTooLong> {
        let len = self.len() + 1;
        if len > CALL_PATH_LEN_MAX {
            return Err(PathTooLong);
        }
        Ok(Self(Some(Arc::new(Link {
            key,
            outer: self.clone(),
            len,
        }))))
    }

    /// Returns the number of objects.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |link| link.len)
    }

    /// Whether no turn waits for the call.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the objects, outermost first: what goes over the wire.
    pub fn keys(&self) -> Vec<&ObjectKey> {
        let mut keys: Vec<_> = self.innermost_first().collect();
        keys.reverse();
        keys
    }

    /// Whether the object waits for this call.
    pub fn contains(&self, key: &ObjectKey) -> bool {
        self.innermost_first().any(|waiting| waiting == key)
    }

    /// Whether one of the objects fulfils this.
    pub(super) fn any(&self, holds: impl FnMut(&ObjectKey) -> bool) -> bool {
        self.innermost_first().any(holds)
    }

    fn innermost_first(&self) -> impl Iterator<Item = &ObjectKey> {
        std::iter::successors(self.0.as_deref(), |link| link.outer.0.as_deref())
            .map(|link| &link.key)
    }
}

impl fmt::Display for CallPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, key) in self.keys().into_iter().enumerate() {
            let arrow = if i == 0 { "" } else { " -> " };
            write!(f, "{arrow}{key}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for CallPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys()).finish()
    }
}

/// More objects wait for each other than [`CALL_PATH_LEN_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {CALL_PATH_LEN_MAX} objects wait for one call")]
pub struct PathTooLong;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: usize) -> ObjectKey {
        ObjectKey::new("Counter", id.to_string()).expect("a good key")
    }

    #[test]
    fn a_path_comes_back_from_its_keys() {
        let path = CallPath::from_keys((0..3).map(key)).expect("short");
        assert_eq!(path.to_string(), "Counter/0 -> Counter/1 -> Counter/2");
        let again = CallPath::from_keys(path.keys().into_iter().cloned()).expect("short");
        assert_eq!(again.to_string(), path.to_string());
        assert!(path.contains(&key(0)) && path.contains(&key(2)) && !path.contains(&key(3)));
    }

    #[test]
    fn a_path_has_a_greatest_length() {
        assert!(CallPath::from_keys((0..CALL_PATH_LEN_MAX).map(key)).is_ok());
        assert_eq!(
            CallPath::from_keys((0..=CALL_PATH_LEN_MAX).map(key)).map(|_| ()),
            Err(PathTooLong)
        );
    }
}
