//! Starts the tokio runtime of a program.
//!
//! tokio and the standard library panic on a bad variable, and when the system refuses threads or
//! descriptors. Programs start here instead, so that each of these is an error with an exit code.

use std::any::Any;
use std::ffi::OsStr;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

use rustix::process::{Resource, getrlimit};
use steading::connections::raise_descriptor_limit;
use tokio::runtime::{Builder, Runtime};

/// The lowest limit of open files (`ulimit -n`) with which a program starts. The runtime, the log
/// and the listeners of a node take 13; the rest is for etcd, peers and clients.
pub const OPEN_FILES_MIN: u64 = 64;

/// tokio's variable for the number of threads that run tasks. Default: one per core.
const WORKER_THREADS: &str = "TOKIO_WORKER_THREADS";

/// What [`WORKER_THREADS`] may be.
const WORKER_THREADS_RANGE: RangeInclusive<usize> = 1..=1024;

/// The standard library's variable for the stack size of new threads, in bytes. Default: 2 MiB.
const STACK_SIZE: &str = "RUST_MIN_STACK";

/// What [`STACK_SIZE`] may be: threads overflow a smaller stack.
const STACK_SIZE_RANGE: RangeInclusive<usize> = 1 << 20..=1 << 30;

/// The error returned when the runtime cannot start.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// A variable has a bad value.
    #[error("the variable `{name}` is not a whole number from {} to {}", range.start(), range.end())]
    Variable {
        /// Its name.
        name: &'static str,
        /// The values that it may have.
        range: RangeInclusive<usize>,
    },
    /// The limit of open files is too low.
    #[error(
        "only {limit} files can be open at once, and at least {OPEN_FILES_MIN} are needed: raise the limit with `ulimit -n`"
    )]
    OpenFiles {
        /// The limit.
        limit: u64,
    },
    /// The system refused threads or descriptors.
    #[error("cannot start the runtime: {0}")]
    System(String),
}

/// Starts a multi-threaded runtime with all of tokio's drivers.
///
/// Call it while the process has no other thread: a panic hook is in place for a moment.
///
/// # Errors
///
/// [`RuntimeError`]; nothing was started.
pub fn start_runtime() -> Result<Runtime, RuntimeError> {
    let number = |name, range| number(name, std::env::var_os(name).as_deref(), range);
    number(STACK_SIZE, STACK_SIZE_RANGE)?;
    let threads = number(WORKER_THREADS, WORKER_THREADS_RANGE)?;
    // The soft limit is often far below what the system allows. A refusal leaves it, and the check decides.
    let _ = raise_descriptor_limit();
    check_open_files(getrlimit(Resource::Nofile).current)?;
    let one_per_core = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let mut builder = Builder::new_multi_thread();
    // Always set: tokio reads the variable itself otherwise, and panics if it is bad.
    builder
        .enable_all()
        .worker_threads(threads.unwrap_or_else(one_per_core));
    without_panic(|| builder.build())
}

/// Reads a variable that is a whole number in a range; `None` if it is not set.
fn number(
    name: &'static str,
    value: Option<&OsStr>,
    range: RangeInclusive<usize>,
) -> Result<Option<usize>, RuntimeError> {
    let Some(value) = value else {
        return Ok(None);
    };
    let number = value.to_str().and_then(|text| text.parse().ok());
    match number.filter(|number| range.contains(number)) {
        Some(number) => Ok(Some(number)),
        None => Err(RuntimeError::Variable { name, range }),
    }
}

/// Checks the limit of open files; `None` means unlimited.
fn check_open_files(limit: Option<u64>) -> Result<(), RuntimeError> {
    match limit {
        Some(limit) if limit < OPEN_FILES_MIN => Err(RuntimeError::OpenFiles { limit }),
        Some(_) | None => Ok(()),
    }
}

/// Runs a step of the start, and returns a panic in it as an error instead of printing it.
fn without_panic<T>(step: impl FnOnce() -> std::io::Result<T>) -> Result<T, RuntimeError> {
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let result = catch_unwind(AssertUnwindSafe(step));
    set_hook(hook);
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(RuntimeError::System(error.to_string())),
        Err(panic) => {
            let text = panic_text(&*panic).unwrap_or_default();
            Err(RuntimeError::System(text.to_owned()))
        }
    }
}

/// Returns the message of a panic, if it has one.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> Option<&str> {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[track_caller]
    fn check(value: &[u8], expected: Option<usize>) {
        let read = number("X", Some(OsStr::from_bytes(value)), 1..=8);
        assert_eq!(read.ok().flatten(), expected);
    }

    #[test]
    fn variables_are_numbers_in_a_range() {
        check(b"1", Some(1));
        check(b"8", Some(8));
        for bad in [&b""[..], b"0", b"9", b"-1", b"abc", b"1.5", b" 1", b"\xff"] {
            check(bad, None);
        }
        check(b"99999999999999999999999", None);
        assert_eq!(number("X", None, 1..=8), Ok(None));
    }

    #[test]
    fn few_open_files_are_an_error() {
        let few = Err(RuntimeError::OpenFiles { limit: 63 });
        assert_eq!(check_open_files(Some(63)), few);
        assert_eq!(check_open_files(Some(64)), Ok(()));
        assert_eq!(check_open_files(None), Ok(()));
    }

    #[test]
    fn panics_of_the_start_become_errors() {
        let panicked = without_panic::<()>(|| panic!("no {}", "threads"));
        assert_eq!(panicked, Err(RuntimeError::System("no threads".into())));
        let failed = without_panic::<()>(|| Err(std::io::ErrorKind::OutOfMemory.into()));
        assert_eq!(failed, Err(RuntimeError::System("out of memory".into())));
    }
}
