//! What the process did with each signal before this program changed anything.

/// Sets of signals, as bit masks: bit `n - 1` is signal `n`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dispositions {
    ignored: u64,
    caught: u64,
}

impl Dispositions {
    /// Reads those of this process. Without `/proc` every signal counts as unhandled.
    pub(crate) fn of_this_process() -> Self {
        let status = std::fs::read_to_string("/proc/self/status");
        Self::parse(&status.unwrap_or_default())
    }

    fn parse(status: &str) -> Self {
        let mask = |name| {
            let mut values = status.lines().filter_map(|line| line.strip_prefix(name));
            let value = values.next().map_or("", str::trim);
            u64::from_str_radix(value, 16).unwrap_or(0)
        };
        Self {
            ignored: mask("SigIgn:"),
            caught: mask("SigCgt:"),
        }
    }

    /// Whether the signal still had its default action.
    pub(crate) fn is_default(self, number: i32) -> bool {
        let bit = u32::try_from(number - 1).expect("signals count from 1");
        let mask = 1_u64.checked_shl(bit).unwrap_or(0);
        (self.ignored | self.caught) & mask == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_masks_of_the_kernel() {
        let status =
            "Name:\tx\nSigBlk:\tffff\nSigIgn:\t0000000000001001\nSigCgt:\t8000000000000400\n";
        let found = Dispositions::parse(status);
        let special: Vec<_> = (1..=64).filter(|n| !found.is_default(*n)).collect();
        assert_eq!(special, [1, 11, 13, 64]);
    }

    #[test]
    fn without_masks_every_signal_is_default() {
        assert!((1..=64).all(|n| Dispositions::parse("").is_default(n)));
    }
}
