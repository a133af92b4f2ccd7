//! Reads durations such as `15m` or `1h30m`.

use std::time::Duration;

const UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// Reads one or more whole numbers, each with its unit, and adds them up.
///
/// # Errors
///
/// What to write instead, in words. Zero is no duration.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let millis = sum(text).ok_or_else(|| {
        format!("`{text}` is no duration: write a number with its unit (ms, s, m, h or d), such as \"300ms\", \"15m\" or \"1h30m\"")
    })?;
    match millis {
        0 => Err("a duration of zero has no meaning here: write at least \"1ms\"".into()),
        millis => Ok(Duration::from_millis(millis)),
    }
}

/// Returns the sum in milliseconds, or `None` if the text has another form or the sum overflows.
fn sum(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let mut millis = 0_u64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let after = after.trim_start();
        let end = after.find(|c: char| !c.is_ascii_alphabetic());
        let (unit, after) = after.split_at(end.unwrap_or(after.len()));
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        millis = millis.checked_add(number.parse::<u64>().ok()?.checked_mul(*factor)?)?;
        rest = after.trim_start();
    }
    Some(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_add_up() {
        for (text, millis) in [
            ("300ms", 300),
            ("15m", 900_000),
            ("1h30m", 5_400_000),
            (" 1 d 2 s ", 86_402_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_an_example() {
        for text in [
            "",
            "15",
            "m",
            "15 minutes",
            "-1s",
            "1.5s",
            "99999999999999999999d",
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains("\"15m\""), "{text}: {error}");
        }
        assert!(parse("0s").expect_err("zero").contains("at least"));
    }
}
