//! The values of settings that have a form of their own.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use steading::ids::{InvalidRegion, Region, ShardCount, canonical_number};
use steading::placement::Weight;
use steading_settings::Secret;
pub(super) use steading_settings::duration;

/// A free name of a node and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The name.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl FromStr for Label {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((name, value)) if !name.trim().is_empty() => Ok(Self {
                name: name.trim().to_owned(),
                value: value.trim().to_owned(),
            }),
            Some(_) | None => Err("it must be NAME=VALUE"),
        }
    }
}

/// Where objects' state is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorageChoice {
    /// In this process's memory; lost with it.
    Memory,
    /// In a folder of this process.
    Embedded(PathBuf),
    /// Something else; held back, since it may be a URL with a password in it.
    Other(Secret),
}

impl StorageChoice {
    /// Returns why this version cannot use it, without its text.
    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Self::Memory => Ok(()),
            Self::Embedded(path) if path.as_os_str().is_empty() => {
                Err("`embedded:` needs a path after it".into())
            }
            Self::Embedded(_) => Ok(()),
            Self::Other(secret) if secret.reveal().starts_with("postgres") => {
                Err("Postgres is not in this version; use `memory` or `embedded:PATH`".into())
            }
            Self::Other(_) => Err("it must be `memory` or `embedded:PATH`".into()),
        }
    }
}

impl From<String> for StorageChoice {
    fn from(text: String) -> Self {
        match text.strip_prefix("embedded:") {
            Some(path) => Self::Embedded(path.into()),
            None if text == "memory" => Self::Memory,
            None => Self::Other(text.into()),
        }
    }
}

/// When a node may end the lease of an earlier process with its ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Replace {
    /// If that ran on this machine and its lock file is free.
    Lock,
    /// Always: something else guarantees one process per ID.
    Always,
    /// Never: wait until the lease runs out.
    Never,
}

/// Reads the time to live of a lease: the store counts whole seconds, from 2 on.
pub(super) fn lease_ttl(text: &str) -> Result<Duration, String> {
    let ttl = duration(text)?;
    if (2..=60).contains(&ttl.as_secs()) && ttl.subsec_nanos() == 0 {
        Ok(ttl)
    } else {
        Err("it must be whole seconds from 2s to 60s".into())
    }
}

/// Reads the pause between probes: often enough to tell something, seldom enough to cost nothing.
pub(super) fn health_interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    let sensible = Duration::from_secs(1)..=Duration::from_mins(10);
    if sensible.contains(&interval) {
        Ok(interval)
    } else {
        Err("it must be from 1s to 10m".into())
    }
}

/// Reads a shard count.
pub(crate) fn shard_count(text: &str) -> Result<ShardCount, String> {
    let count: u32 = canonical_number(text).ok_or("it must be a number")?;
    ShardCount::new(count).map_err(|error| error.to_string())
}

/// Reads a region, of whatever shard count.
pub(crate) fn region(text: &str) -> Result<Region, String> {
    text.parse()
        .map_err(|error: InvalidRegion| error.to_string())
}

/// Reads a part of a whole, such as 0.05, as thousandths.
pub(super) fn part(text: &str) -> Result<u32, String> {
    let part: f64 = text.parse().map_err(|_| "it must be a number".to_owned())?;
    if !(0.0..=10.0).contains(&part) {
        return Err("it must be a part such as 0.05, from 0 to 10".into());
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be from 0 to 10 000"
    )]
    Ok((part * 1000.0).round() as u32)
}

/// Reads a node's weight.
pub(crate) fn weight(text: &str) -> Result<Weight, String> {
    let weight: f64 = text.parse().map_err(|_| "it must be a number".to_owned())?;
    if !(0.001..=1000.0).contains(&weight) {
        return Err("it must be from 0.001 to 1000; `steading gate` takes nothing".into());
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be from 1 to 1 000 000"
    )]
    Ok(Weight::from_thousandths((weight * 1000.0).round() as u32))
}
