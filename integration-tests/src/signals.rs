//! Signals whose effect has happened when the call returns.
//!
//! `kill(2)` returns when a signal is queued. A stopped process may still run for a moment, on each
//! of its threads, so a test that goes on at once sees a request succeed that it expects to fail.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use crate::until;

/// Stops every thread of a process, and returns once all have stopped.
///
/// # Panics
///
/// If the process has ended, or does not stop.
pub async fn freeze(process: Pid) {
    signal(process, Signal::STOP);
    until(&format!("process {process} has stopped"), async || {
        let states = thread_states(process);
        if !states.is_empty() && states.iter().all(|state| *state == 'T') {
            Ok(())
        } else {
            Err(format!("thread states {states:?}"))
        }
    })
    .await;
}

/// The same for a process that may have ended, or ends meanwhile.
///
/// # Panics
///
/// If the process runs on.
pub async fn freeze_unless_ended(process: Pid) {
    // An error means that it has ended.
    let _ = kill_process(process, Signal::STOP);
    until(&format!("process {process} has stopped"), async || {
        let states = thread_states(process);
        let rests = |state: &char| matches!(state, 'T' | 'Z' | 'X');
        if states.iter().all(rests) {
            Ok(())
        } else {
            Err(format!("thread states {states:?}"))
        }
    })
    .await;
}

/// Continues a stopped process, and returns once none of its threads is stopped.
///
/// # Panics
///
/// If the process has ended, or stays stopped.
pub async fn thaw(process: Pid) {
    signal(process, Signal::CONT);
    until(&format!("process {process} runs again"), async || {
        let states = thread_states(process);
        if !states.is_empty() && !states.contains(&'T') {
            Ok(())
        } else {
            Err(format!("thread states {states:?}"))
        }
    })
    .await;
}

/// Kills a process that need not be a child of this one, and returns once it has ended: it is gone,
/// or a zombie that its parent has yet to reap.
///
/// # Panics
///
/// If the process has ended before, or does not end.
pub async fn kill(process: Pid) {
    signal(process, Signal::KILL);
    has_ended(process).await;
}

/// Waits until a process that need not be a child of this one has ended.
///
/// # Panics
///
/// If it does not end.
pub async fn has_ended(process: Pid) {
    until(&format!("process {process} has ended"), async || {
        let states = thread_states(process);
        if states.iter().all(|state| matches!(state, 'Z' | 'X')) {
            Ok(())
        } else {
            Err(format!("thread states {states:?}"))
        }
    })
    .await;
}

fn signal(process: Pid, signal: Signal) {
    kill_process(process, signal).unwrap_or_else(|error| panic!("process {process}: {error}"));
}

/// Returns the state letter of each thread, as `proc(5)` lists them. Empty: the process is gone.
fn thread_states(process: Pid) -> Vec<char> {
    let threads = fs::read_dir(format!("/proc/{process}/task"));
    let stats = threads
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|thread| {
            // A thread may end while it is looked at.
            fs::read_to_string(thread.path().join("stat")).ok()
        });
    stats.filter_map(|stat| state_in(&stat)).collect()
}

/// Reads the state from a line of `/proc/PID/stat`. The program's name before it may hold anything.
fn state_in(stat: &str) -> Option<char> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.trim_start().chars().next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Process;

    #[test]
    fn a_program_name_hides_no_state() {
        assert_eq!(state_in("12 (a) T (b)) S 1 12"), Some('S'));
        assert_eq!(state_in("12 (cat) T 1 12"), Some('T'));
        assert_eq!(state_in("no process"), None);
    }

    #[tokio::test]
    async fn a_signal_has_taken_effect_on_return() {
        // Threads that never rest: the state is seen to change only if it is waited for.
        let busy = "import threading\nfor _ in range(4):\n threading.Thread(target=lambda: [0 for _ in iter(int, 1)]).start()";
        let process = Process::start("busy", "python3", ["-c", busy]);
        until("all its threads run", async || {
            match thread_states(process.pid()).len() {
                5.. => Ok(()),
                count => Err(format!("{count} threads")),
            }
        })
        .await;
        for _ in 0..20 {
            freeze(process.pid()).await;
            assert!(
                thread_states(process.pid())
                    .iter()
                    .all(|state| *state == 'T')
            );
            thaw(process.pid()).await;
            assert!(!thread_states(process.pid()).contains(&'T'));
        }
        kill(process.pid()).await;
        assert!(process.ended().is_some());
    }
}
