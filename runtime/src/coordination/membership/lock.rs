//! The proof that a predecessor on the same host is gone.
//!
//! A node locks a file that is named after its cluster and its node ID, for as long as its process
//! lives; the kernel releases it however the process ends. The node key names the very file, by
//! boot ID, device and inode. Who holds the lock of the file that a predecessor named has proof
//! that the predecessor's process is gone: it held this lock, and does no more. Containers on one
//! machine share the boot ID but not the device, so their locks prove nothing to each other.
//!
//! The file is never deleted: a successor would lock another inode, and have no proof.

use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use crate::ids::NodeId;

/// The random name that Linux gives to each boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Returns the folder for lock files that every process of this user on this machine agrees on.
pub fn default_lock_dir() -> PathBuf {
    let user = rustix::process::getuid().as_raw();
    PathBuf::from(format!("/tmp/steading-{user}"))
}

/// A locked file; dropping it releases the lock.
#[derive(Debug)]
pub(super) struct LockFile {
    proof: String,
    _locked: File,
}

impl LockFile {
    /// Locks the file of this node in `dir`, which is made if it is missing. `None`: another
    /// process holds it.
    ///
    /// # Errors
    ///
    /// The file cannot be made or locked, or the machine has no boot ID.
    pub(super) fn take(dir: &Path, cluster_id: &str, node: &NodeId) -> io::Result<Option<Self>> {
        let safe = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if !cluster_id.chars().all(safe) {
            return Err(io::Error::other(
                "the cluster's ID cannot be part of a file name",
            ));
        }
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(dir.join(format!("{cluster_id}-{node}.lock")))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let boot_id = std::fs::read_to_string(BOOT_ID)?;
        let (boot_id, inode) = (boot_id.trim(), file.metadata()?);
        Ok(Some(Self {
            proof: format!("{boot_id}/{}:{}", inode.dev(), inode.ino()),
            _locked: file,
        }))
    }

    /// Returns what the node key says of this lock.
    pub(super) fn proof(&self) -> &str {
        &self.proof
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(dir: &Path, cluster: &str, node: &str) -> Option<LockFile> {
        let node = NodeId::new(node).expect("a good name");
        LockFile::take(dir, cluster, &node).expect("a lock file can be made")
    }

    #[test]
    fn only_one_process_at_a_time_holds_the_lock_of_a_node() {
        let dir = tempfile::tempdir().expect("a folder");
        let dir = dir.path().join("made/when/missing");
        let first = take(&dir, "c", "n").expect("free");
        assert!(take(&dir, "c", "n").is_none(), "held");
        assert!(take(&dir, "c", "m").is_some(), "another node");
        assert!(take(&dir, "d", "n").is_some(), "another cluster");
        let proof = first.proof().to_owned();
        drop(first);
        let next = take(&dir, "c", "n").expect("free again");
        assert_eq!(next.proof(), proof, "the same file on the same host");
    }

    #[test]
    fn another_file_is_no_proof() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = take(one.path(), "c", "n").expect("free");
        let other = take(two.path(), "c", "n").expect("free");
        assert_ne!(first.proof(), other.proof());
    }

    #[test]
    fn a_cluster_id_cannot_leave_the_folder() {
        let dir = tempfile::tempdir().expect("a folder");
        let node = NodeId::new("n").expect("a good name");
        assert!(LockFile::take(dir.path(), "../c", &node).is_err());
    }
}
