//! One object in the file, and how damage to it is found.
//!
//! redb checks its own checksums only when it repairs a file, not when it reads. So a damaged page
//! can make it panic, return other bytes, another object's row, an old row, or none. Therefore:
//! - each row has a checksum over its key and everything else in it;
//! - a second table repeats the version of each row, on other pages. A row that is missing or old
//!   while its version is there, or the other way round, is damaged.
//!
//! Damage in one place is always found. Damage to both tables at once could go unnoticed only if
//! it agreed with itself.

use std::panic::{AssertUnwindSafe, catch_unwind};

use redb::{ReadableTable, StorageError, Table, TableDefinition};

use crate::ids::{ObjectKey, Token};

/// Type and ID.
pub(super) type Key = (&'static str, &'static str);

/// Opening, token, version, state, and the checksum of it all with the key.
///
/// A token counts only in the opening that stored it: the file belongs to one process at a time,
/// so no earlier owner is left who could write, and a store in memory, as in `steading dev`, gives
/// out low tokens again when its process starts again.
pub(super) type Row = (u64, u64, u64, Option<&'static [u8]>, u32);

/// Version, and its checksum with the key.
pub(super) type VersionRow = (u64, u32);

pub(super) const OBJECTS: TableDefinition<'_, Key, Row> = TableDefinition::new("objects");
pub(super) const VERSIONS: TableDefinition<'_, Key, VersionRow> = TableDefinition::new("versions");

/// What the file holds under a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The greatest token of this opening.
    pub(super) token: Token,
    pub(super) version: u64,
    pub(super) state: Option<Vec<u8>>,
}

/// Why a row cannot be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Damage {
    #[error("its checksum is wrong")]
    Checksum,
    #[error("its row is missing")]
    RowMissing,
    #[error("its version is missing")]
    VersionMissing,
    #[error("its row has version {row}, but {last} was stored last")]
    Stale { row: u64, last: u64 },
    #[error("its page cannot be read: {0}")]
    Unreadable(String),
}

/// Reads what is stored under a key; nothing is an object at version 0 without a token.
///
/// # Errors
///
/// The outer one is the disk's, the inner one is damage to this key alone.
pub(super) fn read(
    objects: &impl ReadableTable<Key, Row>,
    versions: &impl ReadableTable<Key, VersionRow>,
    opening: u64,
    key: &ObjectKey,
) -> Result<Result<Found, Damage>, StorageError> {
    // Nothing is written here, so nothing can be left half done by a panic.
    let reading = AssertUnwindSafe(|| read_unguarded(objects, versions, opening, key));
    match catch_unwind(reading) {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(StorageError::Corrupted(why))) => Ok(Err(Damage::Unreadable(why))),
        Ok(Err(error)) => Err(error),
        Err(panic) => Ok(Err(Damage::Unreadable(panic_text(panic.as_ref())))),
    }
}

fn read_unguarded(
    objects: &impl ReadableTable<Key, Row>,
    versions: &impl ReadableTable<Key, VersionRow>,
    opening: u64,
    key: &ObjectKey,
) -> Result<Result<Found, Damage>, StorageError> {
    let row = (key.object_type(), key.id());
    let last = match versions.get(row)? {
        None => None,
        Some(found) => {
            let (version, checksum) = found.value();
            if checksum != version_checksum(key, version) {
                return Ok(Err(Damage::Checksum));
            }
            Some(version)
        }
    };
    let Some(found) = objects.get(row)? else {
        return Ok(match last {
            None => Ok(Found::default()),
            Some(_) => Err(Damage::RowMissing),
        });
    };
    let (stored_in, token, version, state, checksum) = found.value();
    if checksum != row_checksum(key, stored_in, token, version, state) {
        return Ok(Err(Damage::Checksum));
    }
    Ok(match last {
        None => Err(Damage::VersionMissing),
        Some(last) if last != version => Err(Damage::Stale { row: version, last }),
        Some(_) => Ok(Found {
            // The holder of another opening's token is gone.
            token: if stored_in == opening {
                Token::from_raw(token)
            } else {
                Token::default()
            },
            version,
            state: state.map(<[u8]>::to_vec),
        }),
    })
}

/// Stores what is to be under a key.
pub(super) fn write(
    objects: &mut Table<'_, Key, Row>,
    versions: &mut Table<'_, Key, VersionRow>,
    opening: u64,
    key: &ObjectKey,
    value: &Found,
) -> Result<(), StorageError> {
    let row = (key.object_type(), key.id());
    let (token, version, state) = (value.token.get(), value.version, value.state.as_deref());
    let checksum = row_checksum(key, opening, token, version, state);
    objects.insert(row, (opening, token, version, state, checksum))?;
    versions.insert(row, (version, version_checksum(key, version)))?;
    Ok(())
}

/// CRC-32: finds every change of up to 32 neighbouring bits, and of others all but one in 4 billion.
fn row_checksum(
    key: &ObjectKey,
    opening: u64,
    token: u64,
    version: u64,
    state: Option<&[u8]>,
) -> u32 {
    let mut hasher = key_hasher(key);
    for number in [opening, token, version] {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(&[u8::from(state.is_some())]);
    hasher.update(state.unwrap_or_default());
    hasher.finalize()
}

fn version_checksum(key: &ObjectKey, version: u64) -> u32 {
    let mut hasher = key_hasher(key);
    hasher.update(&version.to_le_bytes());
    hasher.finalize()
}

/// Begins with the key. Its parts cannot run into each other: each comes after its length.
fn key_hasher(key: &ObjectKey) -> crc32fast::Hasher {
    let mut hasher = crc32fast::Hasher::new();
    for part in [key.object_type(), key.id()] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher
}

/// Returns what a panic said.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "it contradicts itself".into())
}
