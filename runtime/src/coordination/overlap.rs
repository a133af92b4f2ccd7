//! Finds other clusters whose keys would lie among those of this one, or the other way round.
//!
//! Each node reads every key under its prefix. With a cluster at `/a/` and one at `/a/b/`, those of
//! the second would be unreadable keys to the first; and with `/a/nodes/` they could even be taken for
//! its own.

use super::keys::Keys;
use super::store::{Store, StoreError};

/// What every cluster's description is called, below its prefix.
const DESCRIPTION: &str = "meta/cluster";

/// Returns the prefix of another cluster that lies above or below the one of `keys`, if there is
/// one. Lists every key under the prefix, and reads one key for each slash in it.
///
/// # Errors
///
/// [`StoreError`] if the store does not answer.
pub(super) async fn other_cluster(
    store: &dyn Store,
    keys: &Keys,
) -> Result<Option<String>, StoreError> {
    for above in above(keys.prefix()) {
        let description = format!("{above}{DESCRIPTION}");
        let listing = store.list(&description).await?;
        if listing.entries.iter().any(|entry| entry.key == description) {
            return Ok(Some(above.to_owned()));
        }
    }
    let listing = store.list(keys.prefix()).await?;
    let mut names = listing.entries.iter().map(|entry| entry.key.as_str());
    Ok(names
        .find_map(|key| below(keys.prefix(), key))
        .map(str::to_owned))
}

/// Returns every prefix that this one lies under: `/`, `/a/` for `/a/b/`.
fn above(prefix: &str) -> impl Iterator<Item = &str> {
    let slashes = prefix.match_indices('/').map(|(at, _)| at + 1);
    slashes
        .filter(|end| *end < prefix.len())
        .filter_map(|end| prefix.get(..end))
}

/// Returns the prefix of the cluster that this key describes, if that lies under `prefix`.
fn below<'k>(prefix: &str, key: &'k str) -> Option<&'k str> {
    let other = key.strip_suffix(DESCRIPTION)?;
    (other.ends_with('/') && other.len() > prefix.len() && other.starts_with(prefix))
        .then_some(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_above_are_every_folder_on_the_way() {
        let all = |prefix| above(prefix).collect::<Vec<_>>();
        assert_eq!(all("/"), [""; 0]);
        assert_eq!(all("/a/"), ["/"]);
        assert_eq!(all("/a/b/c/"), ["/", "/a/", "/a/b/"]);
        assert_eq!(all("a/b/"), ["a/"]);
    }

    #[test]
    fn only_descriptions_of_other_clusters_count() {
        let of = |key| below("/a/", key);
        assert_eq!(of("/a/b/meta/cluster"), Some("/a/b/"));
        assert_eq!(of("/a/nodes/meta/cluster"), Some("/a/nodes/"));
        assert_eq!(of("/a/meta/cluster"), None, "our own");
        assert_eq!(of("/a/bmeta/cluster"), None);
        assert_eq!(of("/a/b/meta/clusters"), None);
    }
}
