//! The thread that owns the file.

use std::fmt;
use std::fs;
use std::path::Path;

use redb::{Database, DatabaseError, Durability, ReadableTable, Table, TableDefinition};
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use super::OpenError;
use crate::ids::{ObjectKey, Token};
use crate::storage::{StorageError, Stored};

/// Type and ID.
type Key = (&'static str, &'static str);

/// Opening, token, version and state.
///
/// A token counts only in the opening that stored it: the file belongs to one process at a time,
/// so no earlier owner is left who could write, and a store in memory, as in `steading dev`, gives
/// out low tokens again when its process starts again.
type Row = (u64, u64, u64, Option<&'static [u8]>);

const OBJECTS: TableDefinition<'_, Key, Row> = TableDefinition::new("objects");

/// What the file says of itself.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const FORMAT_KEY: &str = "format";
const FORMAT: u64 = 1;
const OPENINGS_KEY: &str = "openings";

/// Requests of one transaction. Bounds its size, and what one failure can answer as unknown.
const BATCH_LEN_MAX: usize = 1024;

pub(super) struct Request {
    pub(super) key: ObjectKey,
    pub(super) token: Token,
    pub(super) work: Work,
    pub(super) reply: oneshot::Sender<Answer>,
}

pub(super) enum Work {
    Load,
    Save {
        version: u64,
        state: Option<Vec<u8>>,
    },
}

/// What the key holds now; after a save only its version counts.
pub(super) type Answer = Result<Stored, StorageError>;

/// Opens the file, says how that went, and serves requests until nobody can send any more.
pub(super) fn run(
    folder: &Path,
    file: &Path,
    mut queue: mpsc::Receiver<Request>,
    opened: oneshot::Sender<Result<(), OpenError>>,
) {
    let file = match open(folder, file) {
        Ok(file) => file,
        Err(error) => {
            let _ = opened.send(Err(error)); // Nobody waits any more: nothing to tell.
            return;
        }
    };
    if opened.send(Ok(())).is_err() {
        return;
    }
    while let Some(first) = queue.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH_LEN_MAX
            && let Ok(next) = queue.try_recv()
        {
            batch.push(next);
        }
        serve(&file, batch);
    }
}

/// The file, while this process has it.
struct File {
    database: Database,
    /// How often it was opened, this time included.
    opening: u64,
}

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "whatever else redb finds wrong is damage to us"
)]
fn open(folder: &Path, file: &Path) -> Result<File, OpenError> {
    let io = |error| OpenError::Io(folder.to_owned(), error);
    let corrupt = |reason: String| OpenError::Corrupt {
        folder: folder.to_owned(),
        reason,
    };
    fs::create_dir_all(folder).map_err(io)?;
    let database = Database::create(file).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse(folder.to_owned()),
        DatabaseError::Storage(redb::StorageError::Io(error))
            if error.kind() != std::io::ErrorKind::InvalidData =>
        {
            io(error)
        }
        damaged => corrupt(damaged.to_string()),
    })?;
    match begin(&database).map_err(|error| corrupt(error.to_string()))? {
        (FORMAT, opening) => Ok(File { database, opening }),
        (found, _) => Err(OpenError::Format {
            folder: folder.to_owned(),
            found,
            known: FORMAT,
        }),
    }
}

/// Returns the file's format and how often it was opened, and counts this opening if the format
/// is ours. A new file becomes one of ours.
fn begin(database: &Database) -> Result<(u64, u64), redb::Error> {
    let transaction = database.begin_write()?;
    let (format, opening) = {
        let mut meta = transaction.open_table(META)?;
        let format = (meta.get(FORMAT_KEY)?).map_or(FORMAT, |found| found.value());
        let opening = (meta.get(OPENINGS_KEY)?).map_or(0, |found| found.value()) + 1;
        if format == FORMAT {
            meta.insert(FORMAT_KEY, FORMAT)?;
            meta.insert(OPENINGS_KEY, opening)?;
            transaction.open_table(OBJECTS)?;
        }
        (format, opening)
    };
    if format == FORMAT {
        transaction.commit()?;
    }
    Ok((format, opening))
}

/// Does all requests in one transaction, and answers only when that is committed.
fn serve(file: &File, batch: Vec<Request>) {
    let (replies, requests): (Vec<_>, Vec<_>) = batch
        .into_iter()
        .map(|request| (request.reply, (request.key, request.token, request.work)))
        .unzip();
    let answers = match commit(file, requests) {
        Ok(answers) => answers,
        Err(failure) => {
            error!(%failure, "cannot write the storage file");
            vec![Err(failure); replies.len()]
        }
    };
    for (reply, answer) in replies.into_iter().zip(answers) {
        let _ = reply.send(answer); // The caller may be gone.
    }
}

/// Returns each request's answer once the transaction with all their effects is on disk.
///
/// # Errors
///
/// `Unavailable` if nothing happened, `Unknown` if the commit itself failed.
fn commit(
    file: &File,
    requests: Vec<(ObjectKey, Token, Work)>,
) -> Result<Vec<Answer>, StorageError> {
    let mut transaction = file.database.begin_write().map_err(unavailable)?;
    // Only saves need the disk. A raised token holds off earlier owners, and of those none can
    // outlive this process, which alone has the file.
    let saves = |(_, _, work): &(_, _, Work)| matches!(work, Work::Save { .. });
    if !requests.iter().any(saves) {
        (transaction.set_durability(Durability::None)).map_err(unavailable)?;
    }
    let answers = {
        let mut objects = transaction.open_table(OBJECTS).map_err(unavailable)?;
        let apply = |(key, token, work)| apply(&mut objects, file.opening, &key, token, work);
        requests
            .into_iter()
            .map(apply)
            .collect::<Result<Vec<_>, _>>()
            .map_err(unavailable)?
    };
    transaction
        .commit()
        .map_err(|error| StorageError::Unknown(error.to_string()))?;
    Ok(answers)
}

fn unavailable(error: impl fmt::Display) -> StorageError {
    StorageError::Unavailable(error.to_string())
}

/// Does one request; the outer error is the file's, the inner one a refusal.
fn apply(
    objects: &mut Table<'_, Key, Row>,
    opening: u64,
    key: &ObjectKey,
    token: Token,
    work: Work,
) -> Result<Answer, redb::StorageError> {
    let row = (key.object_type(), key.id());
    let (stored_token, stored) = match objects.get(row)? {
        None => (
            Token::default(),
            Stored {
                version: 0,
                state: None,
            },
        ),
        Some(found) => {
            let (stored_in, stored_token, version, state) = found.value();
            let state = match work {
                Work::Load => state.map(<[u8]>::to_vec),
                Work::Save { .. } => None, // It is replaced unread.
            };
            let stored_token = if stored_in == opening {
                Token::from_raw(stored_token)
            } else {
                Token::default() // Its holder is gone.
            };
            (stored_token, Stored { version, state })
        }
    };
    if token < stored_token {
        return Ok(Err(StorageError::Fenced {
            held: token,
            stored: stored_token,
        }));
    }
    match work {
        Work::Load => {
            if token > stored_token {
                objects.insert(
                    row,
                    (
                        opening,
                        token.get(),
                        stored.version,
                        stored.state.as_deref(),
                    ),
                )?;
            }
            Ok(Ok(stored))
        }
        Work::Save { version, .. } if version != stored.version => {
            Ok(Err(StorageError::Conflict {
                expected: version,
                stored: stored.version,
            }))
        }
        Work::Save { version, state } => {
            objects.insert(row, (opening, token.get(), version + 1, state.as_deref()))?;
            Ok(Ok(Stored {
                version: version + 1,
                state: None,
            }))
        }
    }
}
