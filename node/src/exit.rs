//! What the process's exit code says, for scripts.

use std::process::ExitCode;

use steading_settings::RuntimeError;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It did what was asked.
    Done = 0,
    /// The cluster answered, and the answer is no.
    Refused = 1,
    /// A flag, argument or setting is wrong; nothing was tried.
    Usage = 2,
    /// The node that was asked cannot be reached.
    Unreachable = 3,
    /// A server could not start, or ended by an error of its own; an answer could not be written; or
    /// the system refused threads or open files.
    Failed = 4,
    /// The node ended because its store is not the one that it joined. Start it again: it joins what
    /// is there now.
    Replaced = 5,
}

/// Every code with its meaning, for the documentation.
pub(crate) const CODES: &[(u8, &str)] = &[
    (Exit::Done as u8, "done"),
    (
        Exit::Refused as u8,
        "the answer is no: a failed call, an unknown object type, a cluster that is not ready",
    ),
    (
        Exit::Usage as u8,
        "a wrong flag, argument, setting or variable; nothing was tried",
    ),
    (Exit::Unreachable as u8, "the asked node cannot be reached"),
    (
        Exit::Failed as u8,
        "a server could not start, or ended by an error of its own, or its storage failed for good; the answer could not be written; or the \
         system refused threads, or open files (at least 64: `ulimit -n`)",
    ),
    (
        Exit::Replaced as u8,
        "the node's etcd lost its data, was restored, or was replaced; start the node again",
    ),
];

impl From<&RuntimeError> for Exit {
    fn from(error: &RuntimeError) -> Self {
        match error {
            RuntimeError::Variable { .. } => Self::Usage,
            RuntimeError::OpenFiles { .. } | RuntimeError::System(_) => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
