//! State in one file on this machine, for a single process.
//!
//! A thread of its own reads and writes the file, so that no fsync ever blocks the executor. It
//! merges the requests that wait into one transaction (group commit): many objects share the cost
//! of one fsync, and nothing is delayed to fill a transaction.
//!
//! What is damaged is never answered with another value: a damaged object is an error of its own,
//! and a file that is lost ends the thread, which [`Storage::failed`] reports (ADR-0035).

mod file;
mod place;
mod rows;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep;

use super::{Storage, StorageError, Stored};
use crate::ids::{ObjectKey, Token};
use writer::{Answer, Job, Request, Work};

/// The file within the folder.
const FILE_NAME: &str = "objects.redb";

/// Requests that wait for the writer thread; more wait with their callers.
const QUEUE_LEN_MAX: usize = 4096;

/// How often an idle file is looked at: whether it is still there, and whether it works again.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How the file is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Health {
    Works,
    /// Its disk fails; it is tried again.
    Fails(String),
    /// The thread has ended: nothing is answered any more.
    Failed(String),
}

/// Keeps state in a folder of this machine, durably: a save that was acknowledged survives a crash
/// of the process and of the machine.
///
/// The folder belongs to one process at a time. All nodes of a process may share it. Tokens count
/// from one opening to the next, since every earlier owner ended with its process.
pub struct EmbeddedStorage {
    folder: PathBuf,
    /// `None` only while it is dropped.
    jobs: Option<mpsc::Sender<Job>>,
    writer: Option<JoinHandle<()>>,
    health: watch::Receiver<Health>,
}

/// Why a folder cannot be used as storage.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it open, or this one has already.
    #[error("the storage in {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The file is damaged, empty, or is no storage at all. Restore it from a backup, or move it away.
    #[error("the storage in {} is damaged: {reason}; restore {FILE_NAME} from a backup, or move it away to begin without state", folder.display())]
    Corrupt {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with the file.
        reason: String,
    },
    /// Another version of Steading wrote it.
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
    /// Opens the storage in a folder; makes both if they are missing, for their owner only. A file
    /// that is there must be a whole storage: an empty one is refused.
    ///
    /// After a crash this first repairs the file, which may take seconds if it is large. Dropping
    /// the future does not stop that; the file is closed after it.
    ///
    /// # Errors
    ///
    /// [`OpenError`]. The file is left as it is.
    pub async fn open(folder: impl AsRef<Path>) -> Result<Self, OpenError> {
        let folder = folder.as_ref().to_owned();
        let (jobs, queue) = mpsc::channel(QUEUE_LEN_MAX);
        let (opened, result) = oneshot::channel();
        let (told, health) = watch::channel(Health::Works);
        let (for_writer, file) = (folder.clone(), folder.join(FILE_NAME));
        let writer = std::thread::Builder::new()
            .name("steading-storage".into())
            .spawn(move || writer::run(&for_writer, &file, queue, opened, &told))
            .map_err(|error| OpenError::Io(folder.clone(), error))?;
        match result.await {
            Ok(Ok(())) => Ok(Self {
                folder,
                jobs: Some(jobs),
                writer: Some(writer),
                health,
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
        let stopped = || StorageError::Unavailable(self.end());
        let (reply, answer) = oneshot::channel();
        let request = Request {
            key: key.clone(),
            token,
            work,
            reply,
        };
        let jobs = self.jobs.as_ref().ok_or_else(stopped)?;
        let sent = jobs.send(Job::Request(request)).await;
        sent.map_err(|_| stopped())?;
        answer
            .await
            .unwrap_or_else(|_| Err(StorageError::Unknown(self.end())))
    }

    /// Returns why the thread has ended.
    fn end(&self) -> String {
        let why = self.trouble();
        why.unwrap_or_else(|| "the storage thread has ended".into())
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

    fn trouble(&self) -> Option<String> {
        match &*self.health.borrow() {
            Health::Works => None,
            Health::Fails(why) | Health::Failed(why) => Some(why.clone()),
        }
    }

    async fn failed(&self) -> String {
        let mut health = self.health.clone();
        loop {
            let ended = health.wait_for(|now| matches!(now, Health::Failed(_)));
            tokio::select! {
                ended = ended => {
                    return match ended.as_deref() {
                        Ok(Health::Failed(why)) => why.clone(),
                        Ok(Health::Works | Health::Fails(_)) | Err(_) => {
                            "the storage thread has ended".into()
                        }
                    };
                }
                () = sleep(LOOK_INTERVAL) => {
                    if let Some(jobs) = &self.jobs {
                        // If the queue is full, the file is looked at all the time.
                        let _ = jobs.try_send(Job::Look);
                    }
                }
            }
        }
    }
}

impl Drop for EmbeddedStorage {
    /// Waits until what was asked before is done, some milliseconds, and closes the file: whoever
    /// opens it next must not find it in use.
    fn drop(&mut self) {
        drop(self.jobs.take());
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
