//! The file: opened once, and again after its disk failed.
//!
//! After an error of the disk, as when it is full, redb wants the file closed and opened again. What
//! must hold then:
//! - it is the same opening: tokens stored before count on, since their owners live in this process;
//! - so do tokens that were raised by loads alone, which did not wait for the disk and may be gone
//!   from the file. They are remembered until the next save has brought them there.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use redb::{Database, DatabaseError, ReadableDatabase, TableDefinition};
use tokio::time::Instant;
use tracing::{error, info};

use super::OpenError;
use super::place::{Identity, make_file, make_folder, warn_if_open};
use super::rows::{self, OBJECTS, VERSIONS, panic_text};
use crate::ids::{ObjectKey, Token};
use crate::storage::StorageError;

/// What the file says of itself.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const FORMAT_KEY: &str = "format";
const FORMAT: u64 = 2;
const OPENINGS_KEY: &str = "openings";

/// Most tokens that are remembered: beyond that, loads wait for the disk too.
const RAISED_MAX: usize = 1 << 16;

/// How long requests are refused after the file could not be opened again.
const REOPEN_PAUSE: Duration = Duration::from_millis(500);

/// Why requests cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The disk failed. The file may be opened again.
    Disk(StorageError),
    /// Something of what was to be written is damaged; nothing was written. The file is as before.
    Damaged(String),
    /// The file cannot be used any more.
    Lost(StorageError),
}

impl Failure {
    /// Sorts what redb says: damage, or a failure of the disk before anything happened.
    pub(super) fn of(error: impl Into<redb::Error>) -> Self {
        let error: redb::Error = error.into();
        if let redb::Error::Corrupted(why) = error {
            return Self::Damaged(why);
        }
        Self::Disk(StorageError::Unavailable(error.to_string()))
    }
}

/// How the file is opened again.
type Reopen = Box<dyn Fn() -> Result<(Database, Option<Identity>), Failure>>;

/// The file, while this process has it.
pub(super) struct File {
    /// `None` after it failed.
    database: Option<Database>,
    /// `None` if it is no file of a file system.
    identity: Option<Identity>,
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
    pub(super) fn open(folder: &Path, path: &Path) -> Result<Self, OpenError> {
        let io = |error| OpenError::Io(folder.to_owned(), error);
        make_folder(folder).map_err(io)?;
        // A file that holds nothing was not made here: state may have been lost, and to begin anew
        // would hide that. So only an absent one is made.
        if fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            make_file(path, |file| {
                let database = Database::builder().create_file(file);
                initialise(&database.map_err(io::Error::other)?).map_err(io::Error::other)
            })
            .map_err(io)?;
        }
        warn_if_open(path).map_err(io)?;
        guarded(|| check_untouched(path)).map_err(|error| error.about(folder))?;
        let opened = guarded(|| open_file(path));
        let (database, identity) = opened.map_err(|error| error.about(folder))?;
        let reopened = path.to_owned();
        let first = identity.clone();
        let reopen = Box::new(move || {
            // Only what was there: another file holds other objects.
            if let Some(why) = first.lost() {
                return Err(Failure::Lost(StorageError::Unavailable(why)));
            }
            let (database, identity) = guarded(|| open_file(&reopened))?;
            Ok((database, Some(identity)))
        });
        let begun = guarded(|| Self::begin(database, Some(identity), reopen));
        begun.map_err(|error| error.about(folder))
    }

    /// Counts this opening, if the format is ours.
    pub(super) fn begin(
        database: Database,
        identity: Option<Identity>,
        reopen: Reopen,
    ) -> Result<Self, Unopened> {
        let opening = count_opening(&database)?;
        let mut file = Self {
            database: Some(database),
            identity,
            reopen,
            reopen_at: None,
            opening,
            raised: BTreeMap::new(),
        };
        file.note_len();
        Ok(file)
    }

    /// Returns the number of this opening.
    pub(super) fn opening(&self) -> u64 {
        self.opening
    }

    /// Whether it is open; else it failed, and is not opened again yet.
    pub(super) fn is_open(&self) -> bool {
        self.database.is_some()
    }

    /// Returns the database, opened again if it failed before.
    pub(super) fn database(&mut self) -> Result<&Database, Failure> {
        self.check()?;
        if self.database.is_none() {
            let now = Instant::now();
            if self.reopen_at.is_some_and(|at| now < at) {
                let why = "the file failed, and is opened again soon";
                return Err(Failure::Disk(StorageError::Unavailable(why.into())));
            }
            self.reopen_at = Some(now + REOPEN_PAUSE);
            let (database, identity) = (self.reopen)()?;
            self.raise_again(&database).map_err(Failure::of)?;
            self.raised.clear();
            info!("opened the storage file again");
            (self.database, self.identity) = (Some(database), identity);
            self.note_len();
        }
        Ok(self.database.as_ref().expect("it was opened"))
    }

    /// Checks that the file is still the one that was opened.
    pub(super) fn check(&self) -> Result<(), Failure> {
        match self.identity.as_ref().and_then(Identity::lost) {
            None => Ok(()),
            Some(why) => Err(Failure::Lost(StorageError::Unavailable(why))),
        }
    }

    /// Checks the same after a write, which nothing must rely on if it went into another file.
    pub(super) fn written(&mut self) -> Result<(), Failure> {
        match self.identity.as_ref().and_then(Identity::moved) {
            None => {
                self.note_len();
                Ok(())
            }
            Some(why) => Err(Failure::Lost(StorageError::Unknown(why))),
        }
    }

    /// Only this thread makes the file longer or shorter.
    fn note_len(&mut self) {
        if let Some(identity) = &mut self.identity {
            identity.note_len();
        }
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
        if let Some(database) = self.database.take() {
            error!(%failure, "the storage file failed; opening it again");
            // What it still wants to write may fail as well; it is repaired when it is opened.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(database)));
        }
    }

    /// Stores the remembered tokens where the file has lost them.
    fn raise_again(&self, database: &Database) -> Result<(), redb::Error> {
        let mut transaction = database.begin_write()?;
        transaction.set_two_phase_commit(true);
        {
            let mut objects = transaction.open_table(OBJECTS)?;
            let mut versions = transaction.open_table(VERSIONS)?;
            for (key, token) in &self.raised {
                // A damaged row is never given out, so it needs no token.
                if let Ok(mut found) = rows::read(&objects, &versions, self.opening, key)?
                    && found.token < *token
                {
                    found.token = *token;
                    rows::write(&mut objects, &mut versions, self.opening, key, &found)?;
                }
            }
        }
        Ok(transaction.commit()?)
    }
}

/// Why a file cannot be opened.
#[derive(Debug)]
pub(super) enum Unopened {
    InUse,
    Corrupt(String),
    Format(u64),
    Io(io::Error),
}

impl Unopened {
    fn about(self, folder: &Path) -> OpenError {
        let folder = folder.to_owned();
        match self {
            Self::InUse => OpenError::InUse(folder),
            Self::Corrupt(reason) => OpenError::Corrupt { folder, reason },
            Self::Format(found) => OpenError::Format {
                folder,
                found,
                known: FORMAT,
            },
            Self::Io(error) => OpenError::Io(folder, error),
        }
    }
}

impl From<DatabaseError> for Unopened {
    fn from(error: DatabaseError) -> Self {
        if matches!(error, DatabaseError::DatabaseAlreadyOpen) {
            return Self::InUse;
        }
        redb::Error::from(error).into()
    }
}

impl From<redb::Error> for Unopened {
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "whatever else redb finds wrong is damage to us"
    )]
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) if error.kind() != io::ErrorKind::InvalidData => Self::Io(error),
            damaged => Self::Corrupt(damaged.to_string()),
        }
    }
}

impl From<Unopened> for Failure {
    fn from(error: Unopened) -> Self {
        let unavailable = |why: String| StorageError::Unavailable(why);
        match error {
            Unopened::InUse => Self::Disk(unavailable("another process has the file".into())),
            Unopened::Io(error) => Self::Disk(unavailable(error.to_string())),
            Unopened::Corrupt(why) => {
                Self::Lost(unavailable(format!("the file is damaged: {why}")))
            }
            Unopened::Format(found) => {
                Self::Lost(unavailable(format!("the file has format {found} now")))
            }
        }
    }
}

/// Takes a panic for damage: redb panics where a page contradicts itself.
fn guarded<T>(open: impl FnOnce() -> Result<T, Unopened>) -> Result<T, Unopened> {
    catch_unwind(AssertUnwindSafe(open))
        .unwrap_or_else(|panic| Err(Unopened::Corrupt(panic_text(panic.as_ref()))))
}

/// Opens a file that must be there and hold something.
fn open_file(path: &Path) -> Result<(Database, Identity), Unopened> {
    let opened = fs::OpenOptions::new().read(true).write(true).open(path);
    let file = opened.map_err(Unopened::Io)?;
    let found = file.metadata().map_err(Unopened::Io)?;
    if !found.is_file() {
        return Err(Unopened::Corrupt("it is not a regular file".into()));
    }
    if found.len() == 0 {
        return Err(Unopened::Corrupt("the file is empty (0 bytes)".into()));
    }
    let identity = Identity::of(path, &file).map_err(Unopened::Io)?;
    Ok((Database::builder().create_file(file)?, identity))
}

/// Makes an empty database one of ours.
pub(super) fn initialise(database: &Database) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert(FORMAT_KEY, FORMAT)?;
        meta.insert(OPENINGS_KEY, 0)?;
        transaction.open_table(OBJECTS)?;
        transaction.open_table(VERSIONS)?;
    }
    Ok(transaction.commit()?)
}

/// Checks what a file that was closed in order says of itself, without changing it: opening a
/// database of something else to write would. One that was not is checked once it is repaired.
fn check_untouched(path: &Path) -> Result<(), Unopened> {
    // It also refuses what is empty, no database, or must be repaired.
    match Database::builder().open_read_only(path) {
        Ok(database) => read_meta(&database).map(drop),
        Err(DatabaseError::DatabaseAlreadyOpen) => Err(Unopened::InUse),
        Err(_) => Ok(()),
    }
}

/// Counts an opening of a file of ours and returns its number.
fn count_opening(database: &Database) -> Result<u64, Unopened> {
    let opening = read_meta(database)?.checked_add(1);
    let opening =
        opening.ok_or_else(|| Unopened::Corrupt("its openings cannot be counted".into()))?;
    let mut transaction = database.begin_write().map_err(redb::Error::from)?;
    transaction.set_two_phase_commit(true);
    {
        let meta = transaction.open_table(META).map_err(redb::Error::from);
        let counted = meta?.insert(OPENINGS_KEY, opening).map(drop);
        counted.map_err(redb::Error::from)?;
    }
    transaction.commit().map_err(redb::Error::from)?;
    Ok(opening)
}

/// Returns how often a whole file of ours was opened.
fn read_meta(database: &impl ReadableDatabase) -> Result<u64, Unopened> {
    let foreign = || Unopened::Corrupt("it is not a Steading storage".into());
    // Opening a table to write would make a missing one anew, and hide the loss.
    let reading = database.begin_read().map_err(redb::Error::from)?;
    let meta = reading.open_table(META).map_err(|_| foreign())?;
    let get = |key| meta.get(key).map_err(redb::Error::from);
    let format = get(FORMAT_KEY)?.ok_or_else(foreign)?.value();
    if format != FORMAT {
        return Err(Unopened::Format(format));
    }
    let opening = get(OPENINGS_KEY)?.ok_or_else(foreign)?.value();
    let complete = reading.open_table(OBJECTS).is_ok() && reading.open_table(VERSIONS).is_ok();
    if !complete {
        return Err(Unopened::Corrupt("its tables are missing".into()));
    }
    Ok(opening)
}
