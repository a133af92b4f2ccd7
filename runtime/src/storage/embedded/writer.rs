//! The thread that owns the file.

use std::path::Path;

use redb::{Durability, ReadableTable, Table, TableDefinition};
use tokio::sync::{mpsc, oneshot};

use super::OpenError;
use super::file::{File, unavailable};
use crate::ids::{ObjectKey, Token};
use crate::storage::{StorageError, Stored};

/// Type and ID.
pub(super) type Key = (&'static str, &'static str);

/// Opening, token, version and state.
///
/// A token counts only in the opening that stored it: the file belongs to one process at a time,
/// so no earlier owner is left who could write, and a store in memory, as in `steading dev`, gives
/// out low tokens again when its process starts again.
pub(super) type Row = (u64, u64, u64, Option<&'static [u8]>);

pub(super) const OBJECTS: TableDefinition<'_, Key, Row> = TableDefinition::new("objects");

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
    let mut file = match File::open(folder, file) {
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
        serve(&mut file, batch);
    }
}

/// Does all requests in one transaction, and answers only when that is committed.
fn serve(file: &mut File, batch: Vec<Request>) {
    let (replies, requests): (Vec<_>, Vec<_>) = batch
        .into_iter()
        .map(|request| (request.reply, (request.key, request.token, request.work)))
        .unzip();
    let answers = commit(file, requests).unwrap_or_else(|failure| {
        file.close(&failure);
        vec![Err(failure); replies.len()]
    });
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
    file: &mut File,
    requests: Vec<(ObjectKey, Token, Work)>,
) -> Result<Vec<Answer>, StorageError> {
    let (opening, remembers_enough) = (file.opening(), file.remembers_enough());
    let mut transaction = file.database()?.begin_write().map_err(unavailable)?;
    // Only saves need the disk. A raised token holds off earlier owners, and of those none can
    // outlive this process, which alone has the file.
    let saves = |(_, _, work): &(_, _, Work)| matches!(work, Work::Save { .. });
    let syncs = remembers_enough || requests.iter().any(saves);
    if !syncs {
        (transaction.set_durability(Durability::None)).map_err(unavailable)?;
    }
    let tokens: Vec<_> = requests
        .iter()
        .map(|(key, token, _)| (key.clone(), *token))
        .collect();
    let answers = {
        let mut objects = transaction.open_table(OBJECTS).map_err(unavailable)?;
        let apply = |(key, token, work)| apply(&mut objects, opening, &key, token, work);
        requests
            .into_iter()
            .map(apply)
            .collect::<Result<Vec<Answer>, _>>()
            .map_err(unavailable)?
    };
    transaction
        .commit()
        .map_err(|error| StorageError::Unknown(error.to_string()))?;
    if syncs {
        file.is_synced();
    } else {
        let taken = tokens.into_iter().zip(&answers);
        file.remember(taken.filter_map(|(raised, answer)| answer.is_ok().then_some(raised)));
    }
    Ok(answers)
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

#[cfg(test)]
mod tests {
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

    fn ask(file: &mut File, token: u64, work: Work) -> Answer {
        let (reply, mut answer) = oneshot::channel();
        let request = Request {
            key: ObjectKey::new("Counter", "c").unwrap(),
            token: Token::from_raw(token),
            work,
            reply,
        };
        serve(file, vec![request]);
        answer.try_recv().unwrap()
    }

    fn save(version: u64, state: &[u8]) -> Work {
        let state = Some(state.to_vec());
        Work::Save { version, state }
    }

    #[test]
    fn a_disk_that_was_full_is_used_again_and_no_earlier_owner_can_save() {
        let disk = Disk::default();
        let again = disk.clone();
        let open = move || Builder::new().create_with_backend(again.clone());
        let begun = File::begin(open().unwrap(), Box::new(open)).unwrap();
        let mut file = begun.unwrap();
        assert_eq!(ask(&mut file, 1, save(0, b"one")).unwrap().version, 1);
        // The next owner's token is not on the disk yet.
        assert_eq!(ask(&mut file, 2, Work::Load).unwrap().version, 1);

        disk.is_full.store(true, Ordering::Relaxed);
        assert!(ask(&mut file, 2, save(1, &vec![2; 1 << 20])).is_err());
        disk.is_full.store(false, Ordering::Relaxed);

        let fenced = ask(&mut file, 1, save(1, b"late"));
        assert!(
            matches!(fenced, Err(StorageError::Fenced { .. })),
            "{fenced:?}"
        );
        let found = ask(&mut file, 2, Work::Load).unwrap();
        assert_eq!((found.version, found.state), (1, Some(b"one".to_vec())));
        assert_eq!(ask(&mut file, 2, save(1, b"two")).unwrap().version, 2);
    }
}
