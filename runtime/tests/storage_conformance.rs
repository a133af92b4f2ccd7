//! What every storage provider promises, checked on each of them.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;

use futures::future::join_all;
use steading::ids::{ObjectKey, Token};
use steading::storage::{EmbeddedStorage, OpenError, Storage, StorageError, Stored};

/// Runs each promise on every provider.
macro_rules! promises {
    ($($promise:ident)*) => {
        mod memory {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise(std::sync::Arc::new(steading::storage::MemoryStorage::new())).await;
            })*
        }

        mod embedded {
            $(#[tokio::test]
            async fn $promise() {
                let folder = tempfile::tempdir().expect("a folder");
                let storage = steading::storage::EmbeddedStorage::open(folder.path()).await;
                super::$promise(std::sync::Arc::new(storage.expect("a new storage"))).await;
            })*
        }
    };
}

promises! {
    what_was_never_saved_is_empty_at_version_0
    what_was_saved_is_loaded
    a_lower_token_is_refused_from_the_load_on
    a_save_from_another_version_is_refused
    a_refused_save_changes_nothing
    deleting_keeps_token_and_version
    o9_keys_do_not_touch_each_other
    of_saves_from_one_version_one_wins
    a_thousand_saves_at_once_are_all_kept
}

async fn what_was_never_saved_is_empty_at_version_0(storage: Arc<dyn Storage>) {
    assert_eq!(storage.load(&key("a"), token(1)).await, Ok(stored(0, None)));
}

async fn what_was_saved_is_loaded(storage: Arc<dyn Storage>) {
    let a = key("ä/ö \u{0} a");
    storage.load(&a, token(1)).await.expect("loaded");
    assert_eq!(
        storage.save(&a, token(1), 0, Some(b"one".to_vec())).await,
        Ok(1)
    );
    assert_eq!(storage.save(&a, token(1), 1, Some(vec![])).await, Ok(2));
    assert_eq!(storage.load(&a, token(1)).await, Ok(stored(2, Some(b""))));
    let large = vec![7; 1 << 20];
    assert_eq!(
        storage.save(&a, token(1), 2, Some(large.clone())).await,
        Ok(3)
    );
    assert_eq!(
        storage.load(&a, token(2)).await,
        Ok(stored(3, Some(&large)))
    );
}

async fn a_lower_token_is_refused_from_the_load_on(storage: Arc<dyn Storage>) {
    let a = key("a");
    storage.load(&a, token(5)).await.expect("loaded");
    storage
        .load(&a, token(7))
        .await
        .expect("loaded by a later owner");
    let fenced = StorageError::Fenced {
        held: token(5),
        stored: token(7),
    };
    assert_eq!(storage.load(&a, token(5)).await, Err(fenced.clone()));
    assert_eq!(
        storage.save(&a, token(5), 0, Some(vec![1])).await,
        Err(fenced)
    );
    assert_eq!(storage.save(&a, token(7), 0, Some(vec![2])).await, Ok(1));
}

async fn a_save_from_another_version_is_refused(storage: Arc<dyn Storage>) {
    let a = key("a");
    storage.load(&a, token(1)).await.expect("loaded");
    storage
        .save(&a, token(1), 0, Some(vec![1]))
        .await
        .expect("saved");
    for expected in [0, 2] {
        let conflict = StorageError::Conflict {
            expected,
            stored: 1,
        };
        assert_eq!(
            storage.save(&a, token(1), expected, None).await,
            Err(conflict)
        );
    }
}

async fn a_refused_save_changes_nothing(storage: Arc<dyn Storage>) {
    let a = key("a");
    storage.load(&a, token(3)).await.expect("loaded");
    storage
        .save(&a, token(3), 0, Some(vec![1]))
        .await
        .expect("saved");
    let lower = storage.save(&a, token(2), 1, None).await;
    let earlier = storage.save(&a, token(3), 0, None).await;
    assert!(lower.is_err() && earlier.is_err());
    assert_eq!(storage.load(&a, token(3)).await, Ok(stored(1, Some(&[1]))));
}

async fn deleting_keeps_token_and_version(storage: Arc<dyn Storage>) {
    let a = key("a");
    storage.load(&a, token(3)).await.expect("loaded");
    storage
        .save(&a, token(3), 0, Some(vec![1]))
        .await
        .expect("saved");
    assert_eq!(storage.save(&a, token(3), 1, None).await, Ok(2));
    assert!(storage.load(&a, token(2)).await.is_err());
    assert_eq!(storage.load(&a, token(3)).await, Ok(stored(2, None)));
    assert_eq!(storage.save(&a, token(3), 2, None).await, Ok(3), "again");
}

async fn o9_keys_do_not_touch_each_other(storage: Arc<dyn Storage>) {
    let (a, b) = (key("a"), ObjectKey::new("Other", "a").expect("valid"));
    storage.load(&a, token(9)).await.expect("loaded");
    storage
        .save(&a, token(9), 0, Some(vec![1]))
        .await
        .expect("saved");
    assert_eq!(storage.load(&b, token(1)).await, Ok(stored(0, None)));
    storage.save(&b, token(1), 0, None).await.expect("deleted");
    assert_eq!(storage.load(&a, token(9)).await, Ok(stored(1, Some(&[1]))));
}

async fn of_saves_from_one_version_one_wins(storage: Arc<dyn Storage>) {
    let a = key("a");
    storage.load(&a, token(1)).await.expect("loaded");
    let saves = (0..50).map(|i| storage.save(&a, token(1), 0, Some(vec![i])));
    let won = join_all(saves)
        .await
        .iter()
        .filter(|result| result.is_ok())
        .count();
    assert_eq!(won, 1);
    assert_eq!(storage.load(&a, token(1)).await.expect("loaded").version, 1);
}

async fn a_thousand_saves_at_once_are_all_kept(storage: Arc<dyn Storage>) {
    let keys: Vec<_> = (0..1000).map(|i| key(&i.to_string())).collect();
    join_all(keys.iter().map(|key| storage.load(key, token(1)))).await;
    let state = |key: &ObjectKey| Some(key.id().as_bytes().to_vec());
    let saves = keys
        .iter()
        .map(|key| storage.save(key, token(1), 0, state(key)));
    assert!(join_all(saves).await.iter().all(|saved| *saved == Ok(1)));
    for key in &keys {
        let found = storage.load(key, token(1)).await.expect("loaded");
        assert_eq!((found.version, found.state), (1, state(key)));
    }
}

#[tokio::test]
async fn o13_a_reopened_storage_holds_what_was_acknowledged() {
    let folder = tempfile::tempdir().expect("a folder");
    let storage = EmbeddedStorage::open(folder.path()).await.expect("new");
    storage.load(&key("a"), token(4)).await.expect("loaded");
    storage
        .save(&key("a"), token(4), 0, Some(vec![1]))
        .await
        .expect("saved");
    drop(storage);
    let storage = EmbeddedStorage::open(folder.path())
        .await
        .expect("closed before");
    assert_eq!(
        storage.load(&key("a"), token(4)).await,
        Ok(stored(1, Some(&[1])))
    );
}

/// A store in memory begins with low tokens again when its process does.
#[tokio::test]
async fn tokens_start_over_when_the_storage_is_reopened() {
    let folder = tempfile::tempdir().expect("a folder");
    let a = key("a");
    let storage = EmbeddedStorage::open(folder.path()).await.expect("new");
    storage.load(&a, token(900)).await.expect("loaded");
    storage
        .save(&a, token(900), 0, Some(vec![1]))
        .await
        .expect("saved");
    drop(storage);
    let storage = EmbeddedStorage::open(folder.path())
        .await
        .expect("closed before");
    assert_eq!(storage.load(&a, token(2)).await, Ok(stored(1, Some(&[1]))));
    assert!(
        storage.load(&a, token(1)).await.is_err(),
        "within one opening they fence"
    );
    assert_eq!(storage.save(&a, token(2), 1, None).await, Ok(2));
}

#[tokio::test]
async fn a_storage_in_use_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let _first = EmbeddedStorage::open(folder.path()).await.expect("new");
    let second = EmbeddedStorage::open(folder.path())
        .await
        .expect_err("in use");
    assert!(matches!(second, OpenError::InUse(_)), "{second}");
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("objects.redb");
    for content in [b"not a database".to_vec(), vec![0xa5; 100_000]] {
        std::fs::write(&file, &content).expect("written");
        let error = EmbeddedStorage::open(folder.path())
            .await
            .expect_err("damaged");
        assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
        assert_eq!(std::fs::read(&file).expect("there"), content);
    }
}

#[tokio::test]
async fn a_file_of_a_later_format_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(EmbeddedStorage::open(folder.path()).await.expect("new"));
    let file = redb::Database::open(folder.path().join("objects.redb")).expect("closed");
    let change = file.begin_write().expect("begun");
    let meta = redb::TableDefinition::<&str, u64>::new("meta");
    let mut table = change.open_table(meta).expect("there");
    table.insert("format", 3).expect("set");
    drop(table);
    change.commit().expect("committed");
    drop(file);
    let error = EmbeddedStorage::open(folder.path())
        .await
        .expect_err("too new");
    assert!(
        matches!(error, OpenError::Format { found: 3, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_an_io_error() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let error = EmbeddedStorage::open(file.path().join("x"))
        .await
        .expect_err("a file");
    assert!(matches!(error, OpenError::Io(..)), "{error}");
}

/// Set for the process that is to be killed: the folder it writes to.
const CRASH_FOLDER: &str = "STEADING_TEST_CRASH_FOLDER";

/// How often the process must have acknowledged saves of each key when it is killed.
const CRASH_ROUNDS: u64 = 20;

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let folder = tempfile::tempdir().expect("a folder");
    let test = [
        "--exact",
        "saves_until_it_is_killed",
        "--nocapture",
        "--ignored",
    ];
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(test)
        .env(CRASH_FOLDER, folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process");
    let mut acknowledged = std::collections::BTreeMap::new();
    for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
        let line = line.expect("text");
        let Some((id, version)) = line.strip_prefix("saved ").and_then(|l| l.split_once(' '))
        else {
            continue;
        };
        let version: u64 = version.parse().expect("a version");
        acknowledged.insert(id.to_owned(), version);
        if version == CRASH_ROUNDS {
            child.kill().expect("running"); // SIGKILL; goes on to read what is in the pipe.
        }
    }
    child.wait().expect("ended");

    let storage = EmbeddedStorage::open(folder.path())
        .await
        .expect("repaired");
    assert_eq!(acknowledged.len(), 8);
    for (id, version) in acknowledged {
        let found = storage.load(&key(&id), token(2)).await.expect("loaded");
        assert!(
            found.version >= version,
            "{id}: {version} was acknowledged, {found:?}"
        );
        assert_eq!(found.state, Some(found.version.to_be_bytes().to_vec()));
    }
}

/// The process that is killed: not a test by itself.
#[tokio::test]
#[ignore = "run by `what_was_acknowledged_survives_a_kill`"]
async fn saves_until_it_is_killed() {
    let Ok(folder) = std::env::var(CRASH_FOLDER) else {
        return;
    };
    let storage = EmbeddedStorage::open(folder).await.expect("new");
    let storage = &storage;
    let writers = (0..8).map(|i| async move {
        let key = key(&i.to_string());
        let mut version = storage.load(&key, token(1)).await.expect("loaded").version;
        loop {
            let state = (version + 1).to_be_bytes().to_vec();
            version = storage
                .save(&key, token(1), version, Some(state))
                .await
                .expect("saved");
            println!("saved {i} {version}");
        }
    });
    join_all(writers).await;
}

fn key(id: &str) -> ObjectKey {
    ObjectKey::new("Counter", id).expect("a valid key")
}

fn token(raw: u64) -> Token {
    Token::from_raw(raw)
}

fn stored(version: u64, state: Option<&[u8]>) -> Stored {
    Stored {
        version,
        state: state.map(<[u8]>::to_vec),
    }
}
