//! The file: opened once, and again after it failed.
//!
//! After an error of the disk, as when it is full, redb wants the file closed and opened again. What
//! must hold then:
//! - it is the same opening: tokens stored before count on, since their owners live in this process;
//! - so do tokens that were raised by loads alone, which did not wait for the disk and may be gone
//!   from the file. They are remembered until the next save has brought them there.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use redb::{Database, DatabaseError, ReadableTable, TableDefinition};
use tokio::time::Instant;
use tracing::{error, info};

use super::OpenError;
use super::writer::OBJECTS;
use crate::ids::{ObjectKey, Token};
use crate::storage::StorageError;

/// What the file says of itself.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const FORMAT_KEY: &str = "format";
const FORMAT: u64 = 1;
const OPENINGS_KEY: &str = "openings";

/// Most tokens that are remembered: beyond that, loads wait for the disk too.
const RAISED_MAX: usize = 1 << 16;

/// How long requests are refused after the file could not be opened again.
const REOPEN_PAUSE: Duration = Duration::from_millis(500);

/// How the file is opened again.
type Reopen = Box<dyn Fn() -> Result<Database, DatabaseError>>;

/// The file, while this process has it.
pub(super) struct File {
    /// `None` after it failed.
    database: Option<Database>,
    reopen: Reopen,
    /// Not before this moment.
    reopen_at: Option<Instant>,
    /// How often it was opened by a process, this one included.
    opening: u64,
    /// Tokens that are not on the disk yet.
    raised: BTreeMap<ObjectKey, Token>,
}

impl File {
    /// Opens the file in a folder; both are made if they are not there.
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "whatever else redb finds wrong is damage to us"
    )]
    pub(super) fn open(folder: &Path, file: &Path) -> Result<Self, OpenError> {
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
        let file = file.to_owned();
        // Only what is there: a file that somebody took away must not be replaced by an empty one.
        let reopen = Box::new(move || Database::open(&file));
        match Self::begin(database, reopen).map_err(|error| corrupt(error.to_string()))? {
            Ok(file) => Ok(file),
            Err(found) => Err(OpenError::Format {
                folder: folder.to_owned(),
                found,
                known: FORMAT,
            }),
        }
    }

    /// Counts this opening, if the format is ours, and else returns what it is. A new file becomes
    /// one of ours.
    pub(super) fn begin(
        database: Database,
        reopen: Reopen,
    ) -> Result<Result<Self, u64>, redb::Error> {
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
        if format != FORMAT {
            return Ok(Err(format));
        }
        transaction.commit()?;
        Ok(Ok(Self {
            database: Some(database),
            reopen,
            reopen_at: None,
            opening,
            raised: BTreeMap::new(),
        }))
    }

    /// Returns the number of this opening.
    pub(super) fn opening(&self) -> u64 {
        self.opening
    }

    /// Returns the database, opened again if it failed before.
    ///
    /// # Errors
    ///
    /// `Unavailable`, in words, while it cannot be opened.
    pub(super) fn database(&mut self) -> Result<&Database, StorageError> {
        if self.database.is_none() {
            let now = Instant::now();
            if self.reopen_at.is_some_and(|at| now < at) {
                return Err(unavailable("the file failed, and is opened again soon"));
            }
            self.reopen_at = Some(now + REOPEN_PAUSE);
            let database = (self.reopen)().map_err(unavailable)?;
            self.raise_again(&database).map_err(unavailable)?;
            self.raised.clear();
            info!("opened the storage file again");
            self.database = Some(database);
        }
        Ok(self.database.as_ref().expect("it was opened"))
    }

    /// Whether the tokens of further loads must wait for the disk.
    pub(super) fn remembers_enough(&self) -> bool {
        self.raised.len() >= RAISED_MAX
    }

    /// Notes tokens that loads have raised without waiting for the disk.
    pub(super) fn remember(&mut self, raised: impl IntoIterator<Item = (ObjectKey, Token)>) {
        self.raised.extend(raised);
    }

    /// Notes that everything before this moment is on the disk.
    pub(super) fn is_synced(&mut self) {
        self.raised.clear();
    }

    /// Closes the file after a failure: it is opened again for the next request.
    pub(super) fn close(&mut self, failure: &StorageError) {
        if self.database.take().is_some() {
            error!(%failure, "the storage file failed; opening it again");
        }
    }

    /// Stores the remembered tokens where the file has lost them.
    fn raise_again(&self, database: &Database) -> Result<(), redb::Error> {
        let transaction = database.begin_write()?;
        {
            let mut objects = transaction.open_table(OBJECTS)?;
            for (key, token) in &self.raised {
                let row = (key.object_type(), key.id());
                let (version, state) = match objects.get(row)? {
                    None => (0, None),
                    Some(found) => {
                        let (stored_in, stored, version, state) = found.value();
                        if stored_in == self.opening && Token::from_raw(stored) >= *token {
                            continue;
                        }
                        (version, state.map(<[u8]>::to_vec))
                    }
                };
                objects.insert(row, (self.opening, token.get(), version, state.as_deref()))?;
            }
        }
        Ok(transaction.commit()?)
    }
}

pub(super) fn unavailable(error: impl fmt::Display) -> StorageError {
    StorageError::Unavailable(error.to_string())
}
