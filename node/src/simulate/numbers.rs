//! Numbers for people: what they are rounded to, and how sizes are written.

/// Numbers that people write for bytes.
const UNITS: [(&str, u64); 7] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

/// Takes a count as a number to calculate with.
#[allow(
    clippy::cast_precision_loss,
    reason = "told to people, who need no 53 bits"
)]
pub(crate) fn as_f64(count: u64) -> f64 {
    count as f64
}

/// Returns the nearest whole number; zero for what is below.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what is out of range goes to its end"
)]
pub(crate) fn rounded(number: f64) -> u64 {
    number.round() as u64
}

/// Keeps so many digits after the point that the same input prints the same everywhere.
pub(super) fn short(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

/// Reads a number of bytes, such as `512`, `4KiB` or `1.5GB`.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let unit = UNITS.iter().find(|(unit, _)| text.ends_with(unit));
    let (number, factor) = match unit {
        Some((unit, factor)) => (text.trim_end_matches(unit).trim_end(), *factor),
        None => (text, 1),
    };
    let number: f64 = number.parse().unwrap_or(f64::NAN);
    let bytes = number * as_f64(factor);
    if (0.0..=as_f64(1 << 50)).contains(&bytes) {
        Ok(rounded(bytes))
    } else {
        Err("it must be a number of bytes such as 512, 4KiB or 1.5GiB".into())
    }
}

/// Writes a number of bytes.
pub(crate) fn written_bytes(bytes: u64) -> String {
    let units = UNITS[..4].iter().rev();
    let unit = units.copied().find(|(_, size)| bytes >= *size);
    match unit {
        Some((unit, size)) => format!("{:.1} {unit}", as_f64(bytes) / as_f64(size)),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_with_their_unit_and_written_back() {
        assert_eq!(bytes("512"), Ok(512));
        assert_eq!(bytes("1.5 GiB"), Ok(3 << 29));
        assert_eq!(bytes("2kB"), Ok(2000));
        for text in ["", "-1", "many", "1XB", "NaN", "inf", "KiB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
        assert_eq!(written_bytes(3 << 29), "1.5 GiB");
        assert_eq!(written_bytes(300), "300 B");
    }
}
