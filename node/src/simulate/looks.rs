//! What an ID looks like: rules of thumb about one text at a time.

/// Words that say how something stands, which changes.
const STATUS: [&str; 26] = [
    "active",
    "inactive",
    "enabled",
    "disabled",
    "pending",
    "open",
    "opened",
    "closed",
    "done",
    "new",
    "draft",
    "approved",
    "rejected",
    "failed",
    "success",
    "running",
    "stopped",
    "paid",
    "unpaid",
    "shipped",
    "cancelled",
    "canceled",
    "deleted",
    "archived",
    "true",
    "false",
];

/// Words that stand where something is missing.
const NOTHING: [&str; 9] = [
    "null",
    "nil",
    "none",
    "undefined",
    "nan",
    "unknown",
    "empty",
    "missing",
    "anonymous",
];

/// Whole IDs that say no more than that.
const NOTHING_ALONE: [&str; 6] = ["-", "--", "?", "0", "_", "n/a"];

/// Seconds since 1970 from 2001 to 2038.
const UNIX_SECONDS: std::ops::RangeInclusive<u64> = 1_000_000_000..=2_147_483_647;

/// Returns the words of an ID: what stands between signs.
fn words(id: &str) -> impl Iterator<Item = &str> {
    let words = id.split(|c: char| !c.is_alphanumeric());
    words.filter(|word| !word.is_empty())
}

fn has_word(id: &str, list: &[&str]) -> bool {
    words(id).any(|word| list.iter().any(|one| word.eq_ignore_ascii_case(one)))
}

/// Whether a word of it says how something stands.
pub(super) fn is_status(id: &str) -> bool {
    has_word(id, &STATUS)
}

/// Whether it stands for something that is missing.
pub(super) fn is_nothing(id: &str) -> bool {
    id.trim().is_empty() || NOTHING_ALONE.contains(&id) || has_word(id, &NOTHING)
}

/// Whether it has a date or a time: `2026-11-26`, `20261126`, seconds or milliseconds since 1970.
pub(super) fn has_time(id: &str) -> bool {
    let words: Vec<&str> = words(id).collect();
    let is_written_out = words.windows(2).any(|pair| {
        let is_year = pair[0].len() == 4 && in_range(pair[0], 1990..=2100);
        // `2026-11-26T10:00` has the day and the hour in one word.
        let month = pair[1].get(..2).filter(|_| pair[1].len() == 2);
        is_year && month.is_some_and(|month| in_range(month, 1..=12))
    });
    is_written_out || words.iter().any(|word| is_moment(word))
}

fn is_moment(word: &str) -> bool {
    let is_day = |word: &str| {
        in_range(&word[..4], 1990..=2100)
            && in_range(&word[4..6], 1..=12)
            && in_range(&word[6..8], 1..=31)
    };
    if !word.bytes().all(|byte| byte.is_ascii_digit()) {
        return word
            .split_once(['T', 't'])
            .is_some_and(|(day, _)| is_digits(day, 8) && is_day(day));
    }
    match word.len() {
        8 | 14 => is_day(word),
        10 => in_range(word, UNIX_SECONDS),
        13 => in_range(&word[..10], UNIX_SECONDS),
        _ => false,
    }
}

fn is_digits(word: &str, len: usize) -> bool {
    word.len() == len && word.bytes().all(|byte| byte.is_ascii_digit())
}

fn in_range(word: &str, range: std::ops::RangeInclusive<u64>) -> bool {
    word.parse().is_ok_and(|number| range.contains(&number))
}

/// Whether it is something that its owner may change: an address of mail, or of a machine.
pub(super) fn is_mutable(id: &str) -> bool {
    let is_mail = id
        .split_once('@')
        .is_some_and(|(name, host)| !name.is_empty() && host.contains('.') && !host.contains(' '));
    is_mail || id.parse::<std::net::IpAddr>().is_ok()
}

/// Splits off the number at its end.
pub(super) fn number_at_end(id: &str) -> Option<(&str, u64)> {
    let digits = id.bytes().rev().take_while(u8::is_ascii_digit).count();
    let (text, number) = id.split_at_checked(id.len() - digits)?;
    Some((text, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(looks: fn(&str) -> bool, so: &[&str], not: &[&str]) {
        for id in so {
            assert!(looks(id), "{id}");
        }
        for id in not {
            assert!(!looks(id), "{id}");
        }
    }

    #[test]
    fn s0_37_status_words_are_found_between_signs() {
        check(
            is_status,
            &["order:Pending", "active", "7/done"],
            &["opener-1", "u-7", "renewal"],
        );
    }

    #[test]
    fn s0_37_what_stands_for_nothing_is_found() {
        check(
            is_nothing,
            &["null", "user-undefined", " ", "0", "n/a"],
            &["u0", "nilsson", "10"],
        );
    }

    #[test]
    fn s0_37_dates_and_times_are_found() {
        check(
            has_time,
            &[
                "2026-11-26",
                "log/2026/11",
                "20261126",
                "20261126T101500",
                "job-1764150000",
                "1764150000123",
                "2026-11-26T10:00",
            ],
            &[
                "12345678",
                "u-2026",
                "99999999",
                "2026-13-01",
                "12026-11",
                "4711-12",
                "ünï-20ä61126",
            ],
        );
    }

    #[test]
    fn s0_37_addresses_are_found() {
        check(
            is_mutable,
            &["ann@example.org", "10.0.0.7", "::1"],
            &["@ann", "a@b", "1.2.3"],
        );
    }

    #[test]
    fn numbers_at_the_end_are_split_off() {
        assert_eq!(number_at_end("user-17"), Some(("user-", 17)));
        assert_eq!(number_at_end("é"), None);
        assert_eq!(number_at_end("7"), Some(("", 7)));
        assert_eq!(number_at_end("x99999999999999999999999"), None);
    }
}
