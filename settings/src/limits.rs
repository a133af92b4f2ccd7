//! How many connections the listeners of a process keep, and for how long without a request.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use steading::connections::{
    CONNECTIONS_MAX_DEFAULT, CONNECTIONS_MIN, ConnectionLimits, Timeouts, connections_for,
    raise_descriptor_limit,
};
use steading::memory_budget::{MEMORY_BUDGET_MIN, MemoryBudget, default_memory_budget};
use tracing::warn;

use crate::SettingsError;
use crate::values::duration;

/// The longest time limit of a connection.
const TIMEOUT_MAX: Duration = Duration::from_hours(1);

/// The settings of connections; they hold for each listener of the process.
#[derive(Args, Clone, Debug)]
pub struct LimitSettings {
    /// Connections of clients per listener, at least 8; those of other nodes are counted apart. Beyond it, the
    /// connection that was idle longest is closed. [default: 4096, or less if the process may open few files]
    #[arg(long, env = "STEADING_CONNECTIONS_MAX", value_name = "COUNT")]
    pub connections_max: Option<usize>,

    /// Connections per listener from one address, or from one /64 network of IPv6. [default: half of
    /// `connections_max`]
    #[arg(
        long,
        env = "STEADING_CONNECTIONS_PER_ADDRESS_MAX",
        value_name = "COUNT"
    )]
    pub connections_per_address_max: Option<usize>,

    /// Time limit for the headers of a request, from its first byte or the opening of the connection.
    #[arg(
        long,
        env = "STEADING_HEADER_TIMEOUT",
        value_name = "DURATION",
        default_value = "10s",
        value_parser = duration
    )]
    pub header_timeout: Duration,

    /// How long an HTTP connection is kept without a request, and a gRPC connection ten times as long. A load
    /// balancer that keeps connections longer than this loses requests: set this to more than its own limit.
    #[arg(
        long,
        env = "STEADING_IDLE_TIMEOUT",
        value_name = "DURATION",
        default_value = "30s",
        value_parser = duration
    )]
    pub idle_timeout: Duration,

    /// Time limit for the body of a request, from the end of its headers.
    #[arg(
        long,
        env = "STEADING_BODY_TIMEOUT",
        value_name = "DURATION",
        default_value = "20s",
        value_parser = duration
    )]
    pub body_timeout: Duration,

    /// How long a client may read nothing of a response before its connection is closed.
    #[arg(
        long,
        env = "STEADING_WRITE_TIMEOUT",
        value_name = "DURATION",
        default_value = "30s",
        value_parser = duration
    )]
    pub write_timeout: Duration,

    /// Bytes of requests, batches of calls, state on its way and waiting replies that may be in flight in the
    /// process, at least 64MiB, such as `512MiB`. Beyond it requests are `overloaded`. [default: a quarter of the
    /// memory limit of the control group or of the machine, at most 512MiB]
    #[arg(long, env = "STEADING_MEMORY_BUDGET", value_name = "BYTES", value_parser = bytes)]
    pub memory_budget: Option<usize>,
}

/// Reads a number of bytes, such as `512MiB`.
fn bytes(text: &str) -> Result<usize, String> {
    const UNITS: [(&str, usize); 4] = [
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("", 1),
    ];
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = UNITS
        .iter()
        .find(|(unit, _)| *unit == &text[digits.len()..]);
    let number = digits.trim().parse::<usize>().ok();
    let bytes = number
        .zip(unit)
        .and_then(|(number, (_, unit))| number.checked_mul(*unit));
    bytes.ok_or_else(|| format!("`{text}` is not a number of bytes such as 512MiB"))
}

impl LimitSettings {
    /// Checks that the limits can be used.
    ///
    /// # Errors
    ///
    /// [`SettingsError`], which names the setting.
    pub fn check(&self) -> Result<(), SettingsError> {
        let refused = |setting, why| Err(SettingsError::Refused { setting, why });
        if self
            .connections_max
            .is_some_and(|max| max < CONNECTIONS_MIN)
        {
            return refused(
                "connections_max",
                format!("it is less than {CONNECTIONS_MIN}"),
            );
        }
        if self.connections_per_address_max == Some(0) {
            return refused("connections_per_address_max", "it is 0".into());
        }
        if self
            .memory_budget
            .is_some_and(|bytes| bytes < MEMORY_BUDGET_MIN)
        {
            let why = format!("it is less than {} MiB", MEMORY_BUDGET_MIN >> 20);
            return refused("memory_budget", why);
        }
        for (setting, timeout) in [
            ("header_timeout", self.header_timeout),
            ("idle_timeout", self.idle_timeout),
            ("body_timeout", self.body_timeout),
            ("write_timeout", self.write_timeout),
        ] {
            if timeout.is_zero() || timeout > TIMEOUT_MAX {
                let max = humantime::format_duration(TIMEOUT_MAX);
                return refused(setting, format!("it must be more than 0 and at most {max}"));
            }
        }
        Ok(())
    }

    /// Returns the bytes that may be in flight in this process.
    pub fn budget(&self) -> MemoryBudget {
        let default = || default_memory_budget(Path::new("/"));
        MemoryBudget::new(self.memory_budget.unwrap_or_else(default))
    }

    /// Returns the limits of each of `listeners` in a process that may open `descriptors` files.
    pub fn of(&self, descriptors: u64, listeners: usize) -> ConnectionLimits {
        let fitting = connections_for(descriptors, listeners);
        let wanted = self.connections_max.unwrap_or(CONNECTIONS_MAX_DEFAULT);
        if self.connections_max.is_some() && wanted > fitting && fitting < CONNECTIONS_MAX_DEFAULT {
            warn!(
                connections_max = wanted,
                descriptors, "more connections than the process may open files: raise `ulimit -n`"
            );
        }
        let max = self.connections_max.unwrap_or(fitting);
        let defaults = ConnectionLimits::new(max);
        ConnectionLimits {
            per_address_max: self
                .connections_per_address_max
                .unwrap_or(defaults.per_address_max),
            timeouts: Timeouts {
                header: self.header_timeout,
                idle: self.idle_timeout,
                body: self.body_timeout,
                write: self.write_timeout,
            },
            ..defaults
        }
    }
}

/// Raises the number of files that the process may open as far as the system lets it, and returns
/// it. Logs a refusal, and returns what is left then.
pub fn raise_descriptors() -> u64 {
    /// What nearly every system gives a process.
    const DESCRIPTORS_ASSUMED: u64 = 1024;
    raise_descriptor_limit().unwrap_or_else(|error| {
        warn!(%error, "cannot raise the limit of open files");
        DESCRIPTORS_ASSUMED
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        limits: LimitSettings,
    }

    fn parsed(arguments: &[&str]) -> LimitSettings {
        let arguments = ["test"].iter().chain(arguments);
        Program::try_parse_from(arguments).unwrap().limits
    }

    #[test]
    fn defaults_are_those_of_the_library() {
        let limits = parsed(&[]).of(1 << 20, 2);
        assert_eq!(limits, ConnectionLimits::default());
    }

    #[test]
    fn few_descriptors_mean_few_connections() {
        assert_eq!(parsed(&[]).of(64, 2).connections_max, 16);
        let set = parsed(&["--connections-max=100", "--connections-per-address-max=7"]);
        let limits = set.of(64, 2);
        assert_eq!((limits.connections_max, limits.per_address_max), (100, 7));
    }

    #[test]
    fn budgets_are_read_with_binary_units() {
        assert_eq!(bytes("64MiB"), Ok(64 << 20));
        assert_eq!(bytes("1 GiB"), Ok(1 << 30));
        assert_eq!(bytes("12345"), Ok(12345));
        for bad in ["", "MiB", "64MB", "-1KiB", "99999999999GiB", "1.5GiB"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn useless_limits_are_refused_by_name() {
        for (argument, setting) in [
            ("--connections-max=7", "connections_max"),
            (
                "--connections-per-address-max=0",
                "connections_per_address_max",
            ),
            ("--idle-timeout=0s", "idle_timeout"),
            ("--body-timeout=2h", "body_timeout"),
            ("--memory-budget=31MiB", "memory_budget"),
        ] {
            let error = parsed(&[argument]).check().unwrap_err().to_string();
            assert!(error.contains(setting), "{error}");
        }
    }
}
