//! Each signal and its effect.

use std::fmt::Write;
use std::ops::RangeInclusive;

use rustix::process::Signal;

/// Real-time signals that programs may use. The C library keeps 32 and 33 to itself.
const REAL_TIME: RangeInclusive<i32> = 34..=64;

/// What a program does when it receives a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Shuts down in order. A second signal of this kind forces the shutdown.
    ///
    /// Handled even if the process was started with the signal ignored, as shells start background
    /// jobs.
    StopOrForce,
    /// Shuts down in order. Repeats change nothing: terminals, shells and service managers send
    /// some of these signals twice, or right after SIGTERM.
    ///
    /// Left alone if the process was started with the signal ignored (`nohup`), or if the program
    /// handles it already (a profiler).
    Stop,
    /// Shuts down in order, unless the process has a file size limit. With a limit the kernel sends
    /// the signal for each write beyond it, and that write fails, as on a full disk.
    StopUnlessFileLimit,
    /// Does nothing.
    Ignore,
    /// Pauses or continues the process.
    Pause,
    /// Ends the process at once. Cannot be handled, or returning from a handler would repeat the
    /// fault.
    Die,
}

/// A signal, or a range of signals with the same effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The name with its prefix: `SIGTERM`.
    pub name: &'static str,
    /// The numbers on this architecture.
    pub numbers: RangeInclusive<i32>,
    /// What happens.
    pub effect: Effect,
}

const fn one(name: &'static str, signal: Signal, effect: Effect) -> Row {
    let number = signal.as_raw();
    Row {
        name,
        numbers: number..=number,
        effect,
    }
}

/// Every signal of Linux.
pub const SIGNALS: &[Row] = &[
    one("SIGTERM", Signal::TERM, Effect::StopOrForce),
    one("SIGINT", Signal::INT, Effect::StopOrForce),
    one("SIGQUIT", Signal::QUIT, Effect::StopOrForce),
    one("SIGHUP", Signal::HUP, Effect::Stop),
    one("SIGUSR1", Signal::USR1, Effect::Stop),
    one("SIGUSR2", Signal::USR2, Effect::Stop),
    one("SIGALRM", Signal::ALARM, Effect::Stop),
    one("SIGVTALRM", Signal::VTALARM, Effect::Stop),
    one("SIGPROF", Signal::PROF, Effect::Stop),
    one("SIGIO", Signal::IO, Effect::Stop),
    one("SIGPWR", Signal::POWER, Effect::Stop),
    one("SIGSTKFLT", Signal::STKFLT, Effect::Stop),
    one("SIGXCPU", Signal::XCPU, Effect::Stop),
    // `abort` of the C library ends the process even if its handler returns.
    one("SIGABRT", Signal::ABORT, Effect::Stop),
    Row {
        name: "SIGRTMIN to SIGRTMAX",
        numbers: REAL_TIME,
        effect: Effect::Stop,
    },
    one("SIGXFSZ", Signal::XFSZ, Effect::StopUnlessFileLimit),
    // Rust's runtime ignores it at start; writes fail with EPIPE instead.
    one("SIGPIPE", Signal::PIPE, Effect::Ignore),
    one("SIGCHLD", Signal::CHILD, Effect::Ignore),
    one("SIGURG", Signal::URG, Effect::Ignore),
    one("SIGWINCH", Signal::WINCH, Effect::Ignore),
    one("SIGSTOP", Signal::STOP, Effect::Pause),
    one("SIGTSTP", Signal::TSTP, Effect::Pause),
    one("SIGTTIN", Signal::TTIN, Effect::Pause),
    one("SIGTTOU", Signal::TTOU, Effect::Pause),
    one("SIGCONT", Signal::CONT, Effect::Pause),
    one("SIGKILL", Signal::KILL, Effect::Die),
    one("SIGSEGV", Signal::SEGV, Effect::Die),
    one("SIGBUS", Signal::BUS, Effect::Die),
    one("SIGILL", Signal::ILL, Effect::Die),
    one("SIGFPE", Signal::FPE, Effect::Die),
    one("SIGTRAP", Signal::TRAP, Effect::Die),
    one("SIGSYS", Signal::SYS, Effect::Die),
];

/// Returns the row of a signal; none for the numbers that the C library uses itself.
pub fn row(number: i32) -> Option<&'static Row> {
    SIGNALS.iter().find(|row| row.numbers.contains(&number))
}

/// Returns the table for the documentation: one line per effect.
pub fn table() -> String {
    let effects = [
        Effect::StopOrForce,
        Effect::Stop,
        Effect::StopUnlessFileLimit,
        Effect::Ignore,
        Effect::Pause,
        Effect::Die,
    ];
    let mut table = "| signal | effect |\n|---|---|\n".to_owned();
    for effect in effects {
        let rows = SIGNALS.iter().filter(|row| row.effect == effect);
        let names: Vec<String> = rows.map(|row| format!("`{}`", row.name)).collect();
        let meaning = effect.meaning();
        writeln!(table, "| {} | {meaning} |", names.join(", "))
            .expect("writing to a string succeeds");
    }
    table
}

impl Effect {
    const fn meaning(self) -> &'static str {
        match self {
            Self::StopOrForce => {
                "orderly shutdown: hand off shards with their state, leave, exit with code 0. A second one of these three \
                 forces the shutdown: shards are released without waiting for other nodes, and unsaved state is lost"
            }
            Self::Stop => {
                "orderly shutdown; repeats have no effect. Ignored if the process was started with the signal ignored \
                 (`nohup`); left to the program if it had a handler before `App::run`"
            }
            Self::StopUnlessFileLimit => {
                "orderly shutdown; without effect if the process has a file size limit (`ulimit -f`): then the write fails, \
                 as on a full disk"
            }
            Self::Ignore => "none",
            Self::Pause => {
                "the process pauses or continues; a node that paused longer than `lease_ttl` loses its shards"
            }
            Self::Die => {
                "the process ends at once, and updates in memory are lost. Other nodes take over after `lease_ttl`, with \
                 `--supervise` within a second"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_has_exactly_one_row() {
        for number in 1..=64 {
            let rows = SIGNALS.iter().filter(|row| row.numbers.contains(&number));
            let expected = usize::from(![32, 33].contains(&number));
            assert_eq!(rows.count(), expected, "signal {number}");
        }
    }
}
