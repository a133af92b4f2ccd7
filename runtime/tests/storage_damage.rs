//! Damaged, replaced and missing files of the embedded storage.
//!
//! Each object answers what was acknowledged, or an error that says so: never another value.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use steading::ids::{ObjectKey, Token};
use steading::storage::{EmbeddedStorage, OpenError, Storage, StorageError, Stored};
use tempfile::TempDir;
use tokio::time::timeout;

/// Objects in a file, and how often each was saved.
const OBJECTS: u64 = 60;
const SAVES: u64 = 4;

/// Damaged copies of a file for each kind of damage.
const COPIES: u64 = 120;

/// Far above what any of this takes: expiry means that something hangs.
const LIMIT: Duration = Duration::from_secs(30);

/// A sequence of numbers that looks random and is the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).expect("below a usize")
    }
}

fn key(n: u64) -> ObjectKey {
    ObjectKey::new("Counter", format!("object-{n}").as_str()).expect("a good key")
}

/// Some states span several pages.
fn state(n: u64, version: u64) -> Vec<u8> {
    let len = if n.is_multiple_of(16) { 6000 } else { 24 };
    let mut state = format!("{n}:{version}:").into_bytes();
    state.resize(len, b'.');
    state
}

fn token() -> Token {
    Token::from_raw(1)
}

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("objects.redb")
}

async fn open(folder: &TempDir) -> EmbeddedStorage {
    let opened = EmbeddedStorage::open(folder.path()).await;
    opened.expect("a good storage")
}

/// Fills a storage, and returns it open with what its file holds: the copy of a killed process.
async fn filled(folder: &TempDir) -> (EmbeddedStorage, Vec<u8>) {
    let storage = open(folder).await;
    for version in 0..SAVES {
        for n in 0..OBJECTS {
            let (key, state) = (key(n), state(n, version + 1));
            if version == 0 {
                storage.load(&key, token()).await.expect("loaded");
            }
            let saved = storage.save(&key, token(), version, Some(state)).await;
            saved.expect("saved");
        }
    }
    let killed = fs::read(file(folder)).expect("it is there");
    (storage, killed)
}

/// Opens a damaged copy, and checks each answer. Returns how many objects were refused.
async fn check(content: &[u8], what: &str) -> u64 {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(file(&folder), content).expect("written");
    let storage = match EmbeddedStorage::open(folder.path()).await {
        Ok(storage) => storage,
        Err(OpenError::Corrupt { .. } | OpenError::Format { .. } | OpenError::Io(..)) => {
            return OBJECTS;
        }
        Err(error) => panic!("{what}: {error}"),
    };
    let mut refused = 0;
    for n in 0..OBJECTS {
        match storage.load(&key(n), token()).await {
            Ok(Stored {
                version,
                state: found,
            }) => {
                assert_eq!(version, SAVES, "{what}: object {n} has an old version");
                let right = found == Some(state(n, version));
                assert!(right, "{what}: object {n} answers another value: {found:?}");
            }
            Err(error) => {
                assert!(
                    !matches!(error, StorageError::Fenced { .. }),
                    "{what}: {error}"
                );
                refused += 1;
                continue;
            }
        }
        // Damage of a page that this one shares with others must not spread.
        if n % 8 == 1 {
            let next = Some(state(n, SAVES + 1));
            match storage.save(&key(n), token(), SAVES, next.clone()).await {
                Ok(version) => {
                    let found = storage.load(&key(n), token()).await;
                    let saved = Stored {
                        version,
                        state: next,
                    };
                    assert!(
                        found.as_ref().is_err() || found == Ok(saved),
                        "{what}: {found:?}"
                    );
                }
                Err(_) => refused += 1,
            }
        }
    }
    refused
}

async fn check_copies(original: &[u8], name: &str) {
    let mut refused = 0;
    for seed in 1..=COPIES {
        let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut content = original.to_vec();
        let flips = 1 + numbers.below(4);
        for _ in 0..flips {
            let place = numbers.below(content.len());
            content[place] ^= 1 << numbers.below(8);
        }
        let what = format!("{name}, seed {seed}, {flips} flipped bits");
        refused += timeout(LIMIT, check(&content, &what))
            .await
            .unwrap_or_else(|_| panic!("{what}: it hangs"));

        let mut content = original.to_vec();
        let page = numbers.below(content.len() / 4096) * 4096;
        content[page..page + 4096].fill(0);
        let what = format!("{name}, seed {seed}, zeroes at {page}");
        refused += timeout(LIMIT, check(&content, &what))
            .await
            .unwrap_or_else(|_| panic!("{what}: it hangs"));
    }
    assert!(refused > 0, "{name}: nothing was damaged");
}

#[tokio::test]
async fn damaged_files_never_answer_another_value() {
    let folder = tempfile::tempdir().expect("a folder");
    let (storage, killed) = filled(&folder).await;
    drop(storage);
    let closed = fs::read(file(&folder)).expect("it is there");
    assert_eq!(check(&killed, "not damaged").await, 0);
    assert_eq!(check(&closed, "not damaged").await, 0);
    check_copies(&closed, "closed").await;
    check_copies(&killed, "killed").await;
}

/// Flips every bit of what can be found of one object in the file.
#[tokio::test]
async fn damage_is_an_error_of_its_object_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(filled(&folder).await);
    let mut content = fs::read(file(&folder)).expect("it is there");
    let damaged = state(7, SAVES);
    let places: Vec<_> = (0..content.len() - damaged.len())
        .filter(|at| content[*at..].starts_with(&damaged))
        .collect();
    assert!(!places.is_empty(), "the state is stored as it is");
    for at in places {
        content[at] ^= 1;
    }
    fs::write(file(&folder), content).expect("written");
    let storage = open(&folder).await;
    let error = storage.load(&key(7), token()).await.expect_err("damaged");
    assert!(matches!(error, StorageError::Damaged(_)), "{error}");
    assert!(
        error.to_string().contains("Counter/object-7"),
        "it names the object: {error}"
    );
    let error = storage.save(&key(7), token(), SAVES, None).await;
    assert!(matches!(error, Err(StorageError::Damaged(_))), "{error:?}");
    for n in (0..OBJECTS).filter(|n| *n != 7) {
        let found = storage.load(&key(n), token()).await.expect("not damaged");
        assert_eq!(found.state, Some(state(n, SAVES)));
    }
    assert_eq!(storage.trouble(), None, "the others are served");
}

#[tokio::test]
async fn empty_and_foreign_files_are_refused_unchanged() {
    let other = tempfile::tempdir().expect("a folder");
    let foreign = other.path().join("foreign");
    drop(redb::Database::create(&foreign).expect("a database of something else"));
    let foreign = fs::read(&foreign).expect("it is there");
    for content in [Vec::new(), vec![0; 4096], b"text".to_vec(), foreign] {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(file(&folder), &content).expect("written");
        let error = EmbeddedStorage::open(folder.path()).await;
        let error = error.expect_err("no storage");
        assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
        let left = fs::read(file(&folder)).expect("it is there");
        assert!(left == content, "it was changed: {error}");
    }
}

#[tokio::test]
async fn only_the_owner_may_read_what_is_made() {
    let parent = tempfile::tempdir().expect("a folder");
    let folder = parent.path().join("a/b");
    drop(EmbeddedStorage::open(&folder).await.expect("new"));
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&folder.join("objects.redb")), 0o600);
    let names: Vec<_> = fs::read_dir(&folder).expect("a folder").collect();
    assert_eq!(names.len(), 1, "nothing else is left: {names:?}");
}

/// Takes a file away from a running storage.
type TakeAway<'a> = &'a dyn Fn(&Path);

/// What happens to a file, and whether the storage may say that it was saved all the same.
#[tokio::test]
async fn a_file_that_is_taken_away_ends_the_storage() {
    let delete = |path: &Path| fs::remove_file(path).expect("it is there");
    let replace = |path: &Path| {
        let content = fs::read(path).expect("it is there");
        fs::write(path.with_extension("new"), content).expect("written");
        fs::rename(path.with_extension("new"), path).expect("renamed");
    };
    let truncate = |path: &Path| {
        let file = fs::OpenOptions::new().write(true).open(path);
        file.and_then(|file| file.set_len(0)).expect("truncated");
    };
    let ways: [(&str, TakeAway<'_>); 3] = [
        ("deleted", &delete),
        ("replaced", &replace),
        ("truncated", &truncate),
    ];
    for (name, take_away) in ways {
        for asked in [true, false] {
            let folder = tempfile::tempdir().expect("a folder");
            let storage = open(&folder).await;
            storage.load(&key(1), token()).await.expect("loaded");
            take_away(&file(&folder));
            if asked {
                let saved = storage.save(&key(1), token(), 0, Some(vec![1])).await;
                saved.expect_err("it would be lost");
            }
            // An idle storage notices too.
            let why = timeout(LIMIT, storage.failed()).await.expect("it ends");
            assert!(why.contains(name), "{why}");
            assert!(storage.trouble().expect("it has ended").contains(name));
            let loaded = storage.load(&key(1), token()).await;
            assert!(
                matches!(loaded, Err(StorageError::Unavailable(_))),
                "{loaded:?}"
            );
        }
    }
}

#[tokio::test]
async fn lost_tables_are_not_begun_anew() {
    for name in ["objects", "versions", "meta"] {
        let folder = tempfile::tempdir().expect("a folder");
        drop(filled(&folder).await);
        let database = redb::Database::open(file(&folder)).expect("closed");
        let change = database.begin_write().expect("begun");
        // By its handle's name alone: types do not matter for a deletion.
        match name {
            "meta" => {
                let table = redb::TableDefinition::<&str, u64>::new(name);
                assert!(change.delete_table(table).expect("deleted"));
            }
            "versions" => {
                let table = redb::TableDefinition::<(&str, &str), (u64, u32)>::new(name);
                assert!(change.delete_table(table).expect("deleted"));
            }
            _ => {
                type Row = (u64, u64, u64, Option<&'static [u8]>, u32);
                let table = redb::TableDefinition::<(&str, &str), Row>::new(name);
                assert!(change.delete_table(table).expect("deleted"));
            }
        }
        change.commit().expect("committed");
        drop(database);
        let error = EmbeddedStorage::open(folder.path()).await;
        let error = error.expect_err("a table is missing");
        assert!(
            matches!(error, OpenError::Corrupt { .. }),
            "{name}: {error}"
        );
    }
}
