//! State in one file on this machine, for a single process.
//!
//! A thread of its own reads and writes the file, so that no fsync ever blocks the executor. It
//! merges the requests that wait into one transaction (group commit): many objects share the cost
//! of one fsync, and nothing is delayed to fill a transaction.

mod file;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use super::{Storage, StorageError, Stored};
use crate::ids::{ObjectKey, Token};
use writer::{Answer, Request, Work};

/// The file within the folder.
const FILE_NAME: &str = "objects.redb";

/// Requests that wait for the writer thread; more wait with their callers.
const QUEUE_LEN_MAX: usize = 4096;

/// Keeps state in a folder of this machine, durably: a save that was acknowledged survives a crash
/// of the process and of the machine.
///
/// The folder belongs to one process at a time. All nodes of a process may share it. Tokens count
/// from one opening to the next, since every earlier owner ended with its process.
pub struct EmbeddedStorage {
    folder: PathBuf,
    /// `None` only while it is dropped.
    requests: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
}

/// Why a folder cannot be used as storage.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it open, or this one has already.
    #[error("the storage in {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The file is damaged, or is no storage at all. Restore it from a backup, or move it away.
    #[error("the storage in {} is damaged: {reason}", folder.display())]
    Corrupt {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with the file.
        reason: String,
    },
    /// A later version of Steading wrote it.
    #[error("the storage in {} has format {found}; this version reads format {known}", folder.display())]
    Format {
        /// The folder.
        folder: PathBuf,
        /// The file's format.
        found: u64,
        /// The one that this version knows.
        known: u64,
    },
    /// The folder or file cannot be made, read or written.
    #[error("cannot open the storage in {}", .0.display())]
    Io(PathBuf, #[source] std::io::Error),
}

impl EmbeddedStorage {
    /// Opens the storage in a folder; makes both if they are missing.
    ///
    /// After a crash this first repairs the file, which may take seconds if it is large. Dropping
    /// the future does not stop that; the file is closed after it.
    ///
    /// # Errors
    ///
    /// [`OpenError`]. The file is left as it is.
    pub async fn open(folder: impl AsRef<Path>) -> Result<Self, OpenError> {
        let folder = folder.as_ref().to_owned();
        let (requests, queue) = mpsc::channel(QUEUE_LEN_MAX);
        let (opened, result) = oneshot::channel();
        let (for_writer, file) = (folder.clone(), folder.join(FILE_NAME));
        let writer = std::thread::Builder::new()
            .name("steading-storage".into())
            .spawn(move || writer::run(&for_writer, &file, queue, opened))
            .map_err(|error| OpenError::Io(folder.clone(), error))?;
        match result.await {
            Ok(Ok(())) => Ok(Self {
                folder,
                requests: Some(requests),
                writer: Some(writer),
            }),
            Ok(Err(error)) => Err(error),
            // The thread panicked, so the file holds what its reader takes for impossible.
            Err(_) => Err(OpenError::Corrupt {
                folder,
                reason: "it contradicts itself".into(),
            }),
        }
    }

    async fn ask(&self, key: &ObjectKey, token: Token, work: Work) -> Answer {
        let stopped = || StorageError::Unavailable("the storage thread has ended".into());
        let (reply, answer) = oneshot::channel();
        let request = Request {
            key: key.clone(),
            token,
            work,
            reply,
        };
        let requests = self.requests.as_ref().ok_or_else(stopped)?;
        requests.send(request).await.map_err(|_| stopped())?;
        answer.await.unwrap_or_else(|_| {
            Err(StorageError::Unknown(
                "the storage thread ended before it answered".into(),
            ))
        })
    }
}

#[async_trait]
impl Storage for EmbeddedStorage {
    async fn load(&self, key: &ObjectKey, token: Token) -> Result<Stored, StorageError> {
        self.ask(key, token, Work::Load).await
    }

    async fn save(
        &self,
        key: &ObjectKey,
        token: Token,
        version: u64,
        state: Option<Vec<u8>>,
    ) -> Result<u64, StorageError> {
        let stored = self.ask(key, token, Work::Save { version, state }).await?;
        Ok(stored.version)
    }
}

impl Drop for EmbeddedStorage {
    /// Waits until what was asked before is done, some milliseconds, and closes the file: whoever
    /// opens it next must not find it in use.
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(writer) = self.writer.take() {
            let _ = writer.join(); // A panic was answered as `Unknown` already.
        }
    }
}

impl fmt::Debug for EmbeddedStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedStorage")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}
