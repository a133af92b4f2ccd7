//! The keys under the cluster's prefix that have no effect. Pure.

use std::collections::BTreeMap;

use crate::coordination::keys::BadEntry;

/// Most keys whose names are kept; of more, only their number is known until the next list.
const NAMES_MAX: usize = 1024;

/// Most keys that are logged one by one while the process runs.
pub(super) const LOGGED_MAX: u32 = 10;

/// Keys that were written by hand, by another program or by a newer version.
///
/// Remembers which they are, so that each is counted and logged once, however often it changes.
#[derive(Debug, Default)]
pub(super) struct Ignored {
    reasons: BTreeMap<String, String>,
    /// Keys beyond [`NAMES_MAX`].
    unnamed: usize,
    logged: u32,
}

/// What to log about a key that is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Log {
    /// The key and why.
    Key,
    /// That further keys are not logged.
    Last,
    Nothing,
}

/// A key that was not ignored before, or for another reason.
#[derive(Debug)]
pub(super) struct Newly {
    pub(super) log: Log,
}

impl Ignored {
    /// Forgets all but those of `listed`: a list shows every key that is there.
    pub(super) fn retain(&mut self, listed: &[BadEntry]) {
        self.unnamed = listed.len().saturating_sub(NAMES_MAX);
        let listed: std::collections::BTreeSet<&str> =
            listed.iter().map(|bad| bad.key.as_str()).collect();
        self.reasons.retain(|key, _| listed.contains(key.as_str()));
    }

    /// Notes that a key has no effect; `None`: that is known.
    pub(super) fn add(&mut self, bad: &BadEntry) -> Option<Newly> {
        let known = self.reasons.get(&bad.key);
        let is_full = known.is_none() && self.reasons.len() >= NAMES_MAX;
        // Of those beyond, `retain` knows the number: a watch may bring the same one again.
        if is_full || known == Some(&bad.reason) {
            return None;
        }
        self.reasons.insert(bad.key.clone(), bad.reason.clone());
        let log = match self.logged {
            logged if logged < LOGGED_MAX => Log::Key,
            LOGGED_MAX => Log::Last,
            _ => Log::Nothing,
        };
        self.logged = self.logged.saturating_add(1);
        Some(Newly { log })
    }

    /// Notes that a key was deleted, or has a value that counts.
    pub(super) fn remove(&mut self, key: &str) {
        self.reasons.remove(key);
    }

    /// Returns how many there are, as far as is known.
    pub(super) fn len(&self) -> usize {
        self.reasons.len() + self.unnamed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(key: &str, reason: &str) -> BadEntry {
        BadEntry {
            key: key.into(),
            reason: reason.into(),
        }
    }

    fn log(ignored: &mut Ignored, key: &str, reason: &str) -> Option<Log> {
        ignored.add(&bad(key, reason)).map(|newly| newly.log)
    }

    #[test]
    fn each_key_is_new_once() {
        let mut ignored = Ignored::default();
        assert_eq!(log(&mut ignored, "a", "x"), Some(Log::Key));
        assert_eq!(log(&mut ignored, "a", "x"), None);
        assert_eq!(log(&mut ignored, "a", "y"), Some(Log::Key), "another fault");
        ignored.remove("a");
        assert_eq!(ignored.len(), 0);
        assert_eq!(log(&mut ignored, "a", "y"), Some(Log::Key));
    }

    #[test]
    fn thousands_of_foreign_keys_are_not_logged() {
        let mut ignored = Ignored::default();
        let all: Vec<_> = (0..8268).map(|n| bad(&format!("{n}"), "x")).collect();
        ignored.retain(&all);
        let logs = all.iter().filter_map(|bad| ignored.add(bad));
        let logs: Vec<_> = logs.map(|newly| newly.log).collect();
        let logged = logs.iter().filter(|log| **log != Log::Nothing).count();
        assert_eq!(logged, LOGGED_MAX as usize + 1);
        assert_eq!(logs[LOGGED_MAX as usize], Log::Last);
        assert_eq!(ignored.len(), 8268);
        ignored.retain(&[]);
        assert_eq!(ignored.len(), 0);
    }
}
