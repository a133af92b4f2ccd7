//! The thread that owns the file.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use redb::{Database, Durability, ReadableDatabase};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::{error, info};

use super::file::{Failure, File};
use super::rows::{self, Damage, Found, OBJECTS, VERSIONS, panic_text};
use super::{Health, OpenError};
use crate::ids::{ObjectKey, Token};
use crate::storage::{StorageError, Stored};

/// Requests of one transaction. Bounds its size, and what one failure can answer as unknown.
const BATCH_LEN_MAX: usize = 1024;

/// How long a failure of the disk is reported after it was seen last. What fails now and then, as a
/// disk does that is nearly full, must not look well in between.
const TROUBLE_SHOWN: Duration = Duration::from_secs(5);

/// Damaged objects that are reported one by one; later ones only to their callers.
const REPORTED_MAX: usize = 1024;

/// What the thread is asked.
pub(super) enum Job {
    Request(Request),
    /// Look whether the file is still there, and open it again if it failed.
    Look,
}

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

/// Opens the file, says how that went, and serves requests until nobody can send any more, or the
/// file is lost. However it ends but in order, `health` says so.
pub(super) fn run(
    folder: &Path,
    path: &Path,
    mut queue: mpsc::Receiver<Job>,
    opened: oneshot::Sender<Result<(), OpenError>>,
    health: &watch::Sender<Health>,
) {
    let file = match File::open(folder, path) {
        Ok(file) => file,
        Err(error) => {
            let _ = opened.send(Err(error)); // Nobody waits any more: nothing to tell.
            return;
        }
    };
    if opened.send(Ok(())).is_err() {
        return;
    }
    let serving = AssertUnwindSafe(|| Writer::new(file, health).serve(&mut queue));
    let end = catch_unwind(serving).unwrap_or_else(|panic| Err(panic_text(panic.as_ref())));
    drop(queue); // Whoever hears of the failure finds nothing that still takes requests.
    if let Err(why) = end {
        error!(path = %path.display(), %why, "the storage has failed for good");
        health.send_replace(Health::Failed(why));
    }
}

struct Writer<'a> {
    file: File,
    health: &'a watch::Sender<Health>,
    /// When the disk failed last, while that is reported.
    failed_at: Option<Instant>,
    /// Damaged objects that the log has named.
    reported: BTreeSet<ObjectKey>,
}

impl<'a> Writer<'a> {
    fn new(file: File, health: &'a watch::Sender<Health>) -> Self {
        Self {
            file,
            health,
            failed_at: None,
            reported: BTreeSet::new(),
        }
    }

    /// Serves until the queue is closed.
    ///
    /// # Errors
    ///
    /// Why the file is lost.
    fn serve(mut self, queue: &mut mpsc::Receiver<Job>) -> Result<(), String> {
        while let Some(first) = queue.blocking_recv() {
            let mut batch = Vec::new();
            let mut next = Some(first);
            while let Some(job) = next {
                match job {
                    Job::Request(request) => batch.push(request),
                    Job::Look => self.look()?,
                }
                let room = batch.len() < BATCH_LEN_MAX;
                next = room.then(|| queue.try_recv().ok()).flatten();
            }
            if !batch.is_empty() {
                self.answer(batch)?;
            }
        }
        Ok(())
    }

    /// Looks after the file while nobody asks anything.
    fn look(&mut self) -> Result<(), String> {
        match self.file.database().map(drop) {
            Ok(()) => self.settle(),
            Err(Failure::Lost(error)) => return Err(reason(error)),
            Err(Failure::Disk(error)) => self.disk_failed(&error),
            Err(Failure::Damaged(why)) => self.disk_failed(&StorageError::Unavailable(why)),
        }
        Ok(())
    }

    /// Takes the report of a failure back once none was seen for a while.
    fn settle(&mut self) {
        if self
            .failed_at
            .is_some_and(|at| at.elapsed() >= TROUBLE_SHOWN)
            && self.file.is_open()
        {
            self.failed_at = None;
            info!("the storage works again");
            self.health.send_replace(Health::Works);
        }
    }

    fn disk_failed(&mut self, error: &StorageError) {
        self.file.close(error);
        self.failed_at = Some(Instant::now());
        self.health.send_replace(Health::Fails(error.to_string()));
    }

    /// Does all requests in one transaction, and answers only when that is committed.
    ///
    /// # Errors
    ///
    /// Why the file is lost. All requests were answered all the same.
    fn answer(&mut self, batch: Vec<Request>) -> Result<(), String> {
        match commit(&mut self.file, &batch) {
            Ok(answers) => {
                for (request, answer) in batch.into_iter().zip(answers) {
                    self.reply(request, answer.map_err(Refusal::into_error));
                }
            }
            Err(Failure::Disk(error)) => {
                self.disk_failed(&error);
                for request in batch {
                    self.reply(request, Err(error.clone()));
                }
            }
            // Which of them is damaged shows if each is done alone.
            Err(Failure::Damaged(_)) if batch.len() > 1 => {
                for request in batch {
                    self.answer(vec![request])?;
                }
            }
            Err(Failure::Damaged(why)) => {
                for request in batch {
                    let damaged = damaged(&request.key, &Damage::Unreadable(why.clone()));
                    self.reply(request, Err(damaged));
                }
            }
            Err(Failure::Lost(error)) => {
                for request in batch {
                    self.reply(request, Err(error.clone()));
                }
                return Err(reason(error));
            }
        }
        Ok(())
    }

    fn reply(&mut self, request: Request, answer: Answer) {
        if let Err(error @ StorageError::Damaged(_)) = &answer
            && self.reported.len() < REPORTED_MAX
            && self.reported.insert(request.key.clone())
        {
            error!(object = %request.key, %error, "a stored object is damaged");
        }
        let _ = request.reply.send(answer); // The caller may be gone.
    }
}

/// Why one request of a batch was refused.
enum Refusal {
    Refused(StorageError),
    Damaged(ObjectKey, Damage),
}

impl Refusal {
    fn into_error(self) -> StorageError {
        match self {
            Self::Refused(error) => error,
            Self::Damaged(key, damage) => damaged(&key, &damage),
        }
    }
}

/// Returns what an error says without what its kind adds.
fn reason(error: StorageError) -> String {
    match error {
        StorageError::Unavailable(why) | StorageError::Unknown(why) => why,
        error @ (StorageError::Fenced { .. }
        | StorageError::Conflict { .. }
        | StorageError::Damaged(_)) => error.to_string(),
    }
}

fn damaged(key: &ObjectKey, damage: &Damage) -> StorageError {
    StorageError::Damaged(format!("{key}: {damage}"))
}

type Rows<'a> = BTreeMap<&'a ObjectKey, Result<Found, Damage>>;

/// Returns each request's answer once the transaction with all their effects is on disk.
fn commit(file: &mut File, requests: &[Request]) -> Result<Vec<Result<Stored, Refusal>>, Failure> {
    let (opening, remembers_enough) = (file.opening(), file.remembers_enough());
    let database = file.database()?;
    let mut rows = read_all(database, opening, requests)?;
    let mut changed = BTreeSet::new();
    let answers = requests
        .iter()
        .map(|request| {
            let row = rows.get_mut(&request.key).expect("each was read");
            match row {
                Err(damage) => Err(Refusal::Damaged(request.key.clone(), damage.clone())),
                Ok(row) => {
                    let before = (row.token, row.version);
                    let answer = apply(row, request.token, &request.work);
                    if (row.token, row.version) != before {
                        changed.insert(&request.key);
                    }
                    answer.map_err(Refusal::Refused)
                }
            }
        })
        .collect();
    if changed.is_empty() {
        return Ok(answers);
    }
    // Only saves need the disk. A raised token holds off earlier owners, and of those none can
    // outlive this process, which alone has the file.
    let saves = |request: &Request| matches!(request.work, Work::Save { .. });
    let syncs = remembers_enough || requests.iter().any(saves);
    write_all(database, opening, &rows, &changed, syncs)?;
    if syncs {
        file.is_synced();
    } else {
        let raised = changed.into_iter().filter_map(|key| match &rows[key] {
            Ok(row) => Some((key.clone(), row.token)),
            Err(_) => None,
        });
        let raised: Vec<_> = raised.collect();
        file.remember(raised);
    }
    file.written()?;
    Ok(answers)
}

/// Reads what every request is about. A panic here is damage to what leads to the rows, and so to
/// all of them; damage to a single row is a value.
fn read_all<'a>(
    database: &Database,
    opening: u64,
    requests: &'a [Request],
) -> Result<Rows<'a>, Failure> {
    let reading = AssertUnwindSafe(|| {
        let transaction = database.begin_read().map_err(Failure::of)?;
        let objects = transaction.open_table(OBJECTS).map_err(Failure::of)?;
        let versions = transaction.open_table(VERSIONS).map_err(Failure::of)?;
        let mut rows = BTreeMap::new();
        for Request { key, .. } in requests {
            if !rows.contains_key(key) {
                let found = rows::read(&objects, &versions, opening, key);
                rows.insert(key, found.map_err(Failure::of)?);
            }
        }
        Ok(rows)
    });
    let lost = |why: String| Failure::Lost(StorageError::Unavailable(why));
    match catch_unwind(reading) {
        Ok(Err(Failure::Damaged(why))) => Err(lost(why)),
        Ok(done) => done,
        Err(panic) => Err(lost(panic_text(panic.as_ref()))),
    }
}

/// Writes what has changed, in one transaction. A panic leaves the file as it was: redb drops the
/// transaction.
fn write_all(
    database: &Database,
    opening: u64,
    rows: &Rows<'_>,
    changed: &BTreeSet<&ObjectKey>,
    syncs: bool,
) -> Result<(), Failure> {
    let writing = AssertUnwindSafe(|| {
        let mut transaction = database.begin_write().map_err(Failure::of)?;
        if syncs {
            // With a single phase, a damaged page after a crash looks like an unfinished commit, and
            // redb would go back to the one before, which was acknowledged.
            transaction.set_two_phase_commit(true);
        } else {
            let set = transaction.set_durability(Durability::None);
            set.map_err(Failure::of)?;
        }
        {
            let mut objects = transaction.open_table(OBJECTS).map_err(Failure::of)?;
            let mut versions = transaction.open_table(VERSIONS).map_err(Failure::of)?;
            for key in changed {
                if let Ok(row) = &rows[key] {
                    rows::write(&mut objects, &mut versions, opening, key, row)
                        .map_err(Failure::of)?;
                }
            }
        }
        let committed = transaction.commit();
        committed.map_err(|error| Failure::Disk(StorageError::Unknown(error.to_string())))
    });
    catch_unwind(writing).unwrap_or_else(|panic| Err(Failure::Damaged(panic_text(panic.as_ref()))))
}

/// Does one request to a row in memory.
fn apply(row: &mut Found, token: Token, work: &Work) -> Answer {
    if token < row.token {
        return Err(StorageError::Fenced {
            held: token,
            stored: row.token,
        });
    }
    match work {
        Work::Load => {
            row.token = token;
            Ok(Stored {
                version: row.version,
                state: row.state.clone(),
            })
        }
        Work::Save { version, .. } if *version != row.version => Err(StorageError::Conflict {
            expected: *version,
            stored: row.version,
        }),
        Work::Save { version, state } => {
            *row = Found {
                token,
                version: version + 1,
                state: state.clone(),
            };
            Ok(Stored {
                version: row.version,
                state: None,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::file::initialise;
    use super::*;
    use redb::{Builder, StorageBackend};
    use std::io;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex};

    /// A disk that can be full.
    #[derive(Clone, Debug, Default)]
    struct Disk {
        bytes: Arc<Mutex<Vec<u8>>>,
        is_full: Arc<AtomicBool>,
    }

    impl Disk {
        fn check(&self) -> io::Result<()> {
            if self.is_full.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            Ok(())
        }
    }

    impl StorageBackend for Disk {
        fn len(&self) -> io::Result<u64> {
            Ok(self.bytes.lock().unwrap().len() as u64)
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            let start = usize::try_from(offset).unwrap();
            out.copy_from_slice(&self.bytes.lock().unwrap()[start..start + out.len()]);
            Ok(())
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.check()?;
            let len = usize::try_from(len).unwrap();
            self.bytes.lock().unwrap().resize(len, 0);
            Ok(())
        }

        fn sync_data(&self) -> io::Result<()> {
            self.check()
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.check()?;
            let start = usize::try_from(offset).unwrap();
            self.bytes.lock().unwrap()[start..start + data.len()].copy_from_slice(data);
            Ok(())
        }
    }

    fn writer(disk: &Disk, health: &'static watch::Sender<Health>) -> Writer<'static> {
        let disk = disk.clone();
        let open = move || Builder::new().create_with_backend(disk.clone());
        let database = open().unwrap();
        initialise(&database).unwrap();
        let reopen = move || Ok((open().map_err(Failure::of)?, None));
        let file = File::begin(database, None, Box::new(reopen)).unwrap();
        Writer::new(file, health)
    }

    fn ask(writer: &mut Writer<'_>, token: u64, work: Work) -> Answer {
        let (reply, mut answer) = oneshot::channel();
        let request = Request {
            key: ObjectKey::new("Counter", "c").unwrap(),
            token: Token::from_raw(token),
            work,
            reply,
        };
        writer.answer(vec![request]).unwrap();
        answer.try_recv().unwrap()
    }

    fn save(version: u64, state: &[u8]) -> Work {
        let state = Some(state.to_vec());
        Work::Save { version, state }
    }

    #[test]
    fn a_disk_that_was_full_is_used_again_and_no_earlier_owner_can_save() {
        let disk = Disk::default();
        let health = Box::leak(Box::new(watch::Sender::new(Health::Works)));
        let mut writer = writer(&disk, health);
        assert_eq!(ask(&mut writer, 1, save(0, b"one")).unwrap().version, 1);
        // The next owner's token is not on the disk yet.
        assert_eq!(ask(&mut writer, 2, Work::Load).unwrap().version, 1);

        disk.is_full.store(true, Ordering::Relaxed);
        assert!(ask(&mut writer, 2, save(1, &vec![2; 1 << 20])).is_err());
        assert!(matches!(&*health.borrow(), Health::Fails(_)));
        disk.is_full.store(false, Ordering::Relaxed);

        let fenced = ask(&mut writer, 1, save(1, b"late"));
        assert!(
            matches!(fenced, Err(StorageError::Fenced { .. })),
            "{fenced:?}"
        );
        let found = ask(&mut writer, 2, Work::Load).unwrap();
        assert_eq!((found.version, found.state), (1, Some(b"one".to_vec())));
        assert_eq!(ask(&mut writer, 2, save(1, b"two")).unwrap().version, 2);
    }
}
