//! Where the file is: made whole or not at all, and noticed when it is taken away.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use tracing::warn;

/// Of a folder that is made here: only its owner may enter.
const FOLDER_MODE: u32 = 0o700;

/// Of a file that is made here: only its owner may read and write it.
const FILE_MODE: u32 = 0o600;

/// What others than the owner may do, in a mode.
const OTHERS: u32 = 0o077;

/// The file that was opened, apart from what is at its path now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    path: PathBuf,
    device: u64,
    inode: u64,
    /// How long it was when it was written last.
    len: u64,
}

impl Identity {
    /// Returns that of an open file.
    pub(super) fn of(path: &Path, file: &File) -> io::Result<Self> {
        let found = file.metadata()?;
        Ok(Self {
            path: path.to_owned(),
            device: found.dev(),
            inode: found.ino(),
            len: found.len(),
        })
    }

    /// Notes how long the file is, after whatever may change that.
    pub(super) fn note_len(&mut self) {
        if let Ok(found) = fs::metadata(&self.path) {
            self.len = found.len();
        }
    }

    /// Returns what became of the file if its path does not lead to it any more, or a part of it is
    /// gone. Writes to such a file succeed, and are lost with the process.
    pub(super) fn lost(&self) -> Option<String> {
        self.moved().or_else(|| {
            let found = fs::metadata(&self.path).ok()?;
            let shorter = found.len() < self.len;
            shorter.then(|| format!("{} was truncated while in use", self.path.display()))
        })
    }

    /// Returns what became of the file if its path does not lead to it any more.
    ///
    /// A path that cannot be looked at is no proof: that is for the next write to tell.
    pub(super) fn moved(&self) -> Option<String> {
        match fs::metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) == (self.device, self.inode) => None,
            Ok(_) => Some(format!("{} was replaced while in use", self.path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Some(format!("{} was deleted while in use", self.path.display()))
            }
            Err(_) => None,
        }
    }
}

/// Makes the folder unless it is there. One that is open to other users is used all the same, with
/// a warning: volumes often come with the mode of their group.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(FOLDER_MODE)
        .create(folder)?;
    warn_if_open(folder)
}

/// Warns if other users can read this.
pub(super) fn warn_if_open(path: &Path) -> io::Result<()> {
    let mode = fs::metadata(path)?.mode() & 0o777;
    if mode & OTHERS != 0 {
        let mode = format!("{mode:03o}");
        warn!(path = %path.display(), %mode, "other users may be able to read the stored state: remove their permissions");
    }
    Ok(())
}

/// Makes the file by `fill`, unless it is there. A crash meanwhile leaves no file of this name, and
/// of two processes only one makes it.
pub(super) fn make_file<E: From<io::Error>>(
    path: &Path,
    fill: impl FnOnce(File) -> Result<(), E>,
) -> Result<(), E> {
    let new = new_name(path);
    let made = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(FILE_MODE)
        .open(&new)?;
    let result = fill(made.try_clone()?).and_then(|()| {
        made.sync_all()?;
        publish(&new, path)?;
        Ok(sync_folder(path)?)
    });
    // Gone already if all went well.
    let _ = fs::remove_file(&new);
    result
}

/// Each process has a name of its own.
fn new_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    name.into()
}

/// Gives the file its name, unless another process was faster.
fn publish(new: &Path, path: &Path) -> io::Result<()> {
    match renameat_with(CWD, new, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        // The file system does not know that flag. A hard link replaces nothing either.
        Err(Errno::INVAL | Errno::NOSYS) => match fs::hard_link(new, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            Ok(()) | Err(_) => Ok(()),
        },
        Err(error) => Err(error.into()),
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
