//! Waits for the child, and for orphans that the system left to this process.
//!
//! Only this module waits for processes here, and it takes each exit status for the process that
//! it belongs to. With two waiters, one can take the status that the other needs: an orphan that
//! exits together with the child would leave "no child processes" in its place.

use std::io;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, wait};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};
use tracing::debug;

/// How often the child is looked for if the kernel announces nothing: SIGCHLD was blocked when this
/// process started.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Processes that are reaped at a time; more wait for the next look. Bounds how long a stream of
/// exits can keep everything else waiting.
const REAPED_MAX: usize = 1024;

/// How the child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By itself, with this exit code.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// It is gone, and the system does not say how it ended.
    Unknown,
}

/// What one look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// A process has ended.
    Ended(Pid, End),
    /// All children run.
    NoneEnded,
    /// There are no children at all.
    NoChildren,
}

/// Hears of processes that have ended. Made before the child is started, so that no SIGCHLD is
/// missed and none is left ignored, which would discard the exit status.
#[derive(Debug)]
pub(super) struct Reaper {
    exits: Signal,
}

impl Reaper {
    /// Begins to listen for SIGCHLD.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub(super) fn new() -> io::Result<Self> {
        let exits = signal(SignalKind::child())?;
        Ok(Self { exits })
    }

    /// Follows this child, and reaps orphans meanwhile.
    pub(super) fn follow(self, child: Pid) -> Followed {
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Followed {
            child,
            exits: self.exits,
            looks,
        }
    }
}

/// The child, until it has ended.
#[derive(Debug)]
pub(super) struct Followed {
    child: Pid,
    exits: Signal,
    looks: tokio::time::Interval,
}

impl Followed {
    /// Waits for the child's end. Cancel safe: an end is never lost, since nothing is awaited
    /// between taking an exit status and returning it.
    pub(super) async fn end(&mut self) -> End {
        loop {
            if let Some(end) = reap(self.child, look) {
                return end;
            }
            tokio::select! {
                _ = self.exits.recv() => {}
                _ = self.looks.tick() => {}
            }
        }
    }
}

/// Looks for ended processes, and returns how the child ended if it has.
fn reap(child: Pid, mut look: impl FnMut() -> Result<Look, Errno>) -> Option<End> {
    for _ in 0..REAPED_MAX {
        match look() {
            Ok(Look::Ended(pid, end)) if pid == child => return Some(end),
            Ok(Look::Ended(pid, end)) => debug!(pid = pid.as_raw_pid(), ?end, "reaped an orphan"),
            Ok(Look::NoneEnded) => return None,
            Ok(Look::NoChildren) => return Some(End::Unknown),
            Err(Errno::INTR) => {}
            // No other error is documented. The next look tells more.
            Err(error) => {
                debug!(%error, "cannot look for ended processes");
                return None;
            }
        }
    }
    None
}

fn look() -> Result<Look, Errno> {
    match wait(WaitOptions::NOHANG) {
        Ok(None) => Ok(Look::NoneEnded),
        Err(Errno::CHILD) => Ok(Look::NoChildren),
        Err(error) => Err(error),
        Ok(Some((pid, status))) => {
            let exited = status.exit_status().map(End::Exited);
            let killed = || status.terminating_signal().map(End::Killed);
            Ok(Look::Ended(
                pid,
                exited.or_else(killed).unwrap_or(End::Unknown),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHILD: i32 = 7;

    #[allow(clippy::unnecessary_wraps, reason = "one of the results of a look")]
    fn ended(pid: i32, end: End) -> Result<Look, Errno> {
        Ok(Look::Ended(Pid::from_raw(pid).expect("positive"), end))
    }

    /// Returns what comes of these looks, and how many of them were not needed.
    fn reaped(looks: &[Result<Look, Errno>]) -> (Option<End>, usize) {
        let mut looks = looks.iter();
        let child = Pid::from_raw(CHILD).expect("positive");
        let end = reap(child, || *looks.next().expect("it stops in time"));
        (end, looks.count())
    }

    #[test]
    fn an_orphan_never_hides_the_childs_status() {
        let killed = End::Killed(9);
        let (orphan, child) = (ended(8, End::Exited(3)), ended(CHILD, killed));
        for looks in [&[orphan, child][..], &[child], &[orphan, orphan, child]] {
            assert_eq!(reaped(looks), (Some(killed), 0), "{looks:?}");
        }
        assert_eq!(reaped(&[orphan, Ok(Look::NoneEnded)]), (None, 0));
    }

    #[test]
    fn no_children_left_means_the_child_ended() {
        assert_eq!(reaped(&[Ok(Look::NoChildren)]), (Some(End::Unknown), 0));
        let orphan = ended(8, End::Killed(9));
        let looks = [orphan, Ok(Look::NoChildren)];
        assert_eq!(reaped(&looks), (Some(End::Unknown), 0));
    }

    #[test]
    fn errors_are_not_taken_for_an_end() {
        let child = ended(CHILD, End::Exited(0));
        let interrupted = [Err(Errno::INTR), child];
        assert_eq!(reaped(&interrupted), (Some(End::Exited(0)), 0));
        assert_eq!(reaped(&[Err(Errno::INVAL), child]), (None, 1));
    }

    #[test]
    fn a_stream_of_orphans_is_bounded() {
        let orphans = vec![ended(8, End::Exited(0)); REAPED_MAX + 1];
        assert_eq!(reaped(&orphans), (None, 1));
    }
}
