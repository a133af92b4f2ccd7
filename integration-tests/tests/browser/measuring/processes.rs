//! Processes as the kernel sees them: on which core they run, whether they do, and what they spent.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use steading_integration_tests::signals;

/// Lets a process, and all it has started, run on one core alone.
pub(super) fn pin_to(core: &str, process: Pid) {
    for pid in tree(process) {
        let mut taskset = Command::new("taskset");
        let pinned = taskset.args(["-a", "-c", "-p", core, &pid.to_string()]);
        // Whoever ended meanwhile needs no core.
        drop(pinned.output().expect("taskset is there"));
    }
}

/// Stops a process and all its descendants, and returns once they have stopped.
pub(super) async fn freeze(process: Pid) {
    for pid in tree(process).into_iter().filter_map(Pid::from_raw) {
        signals::freeze_unless_ended(pid).await;
    }
}

/// Continues a process and all its descendants.
pub(super) fn thaw(process: Pid) {
    for pid in tree(process).into_iter().filter_map(Pid::from_raw) {
        // An error means that it has ended.
        let _ = kill_process(pid, Signal::CONT);
    }
}

/// Returns a process and all below it.
fn tree(root: Pid) -> Vec<i32> {
    let processes = fs::read_dir("/proc").expect("it is mounted").flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let parents: Vec<(i32, i32)> = numbers
        .filter_map(|pid| Some((pid, stat(pid)?[1].parse().ok()?)))
        .collect();
    let mut found = vec![root.as_raw_nonzero().get()];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        let children = parents.iter().filter(|(_, of)| *of == parent);
        found.extend(children.map(|(pid, _)| *pid));
        next += 1;
    }
    found
}

/// Returns what the kernel tells of a process after its name; none if it has ended.
fn stat(pid: i32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

/// Returns the CPU seconds of the browser's processes by their kind.
pub(super) fn cpu_times(browser: Pid) -> BTreeMap<String, f64> {
    /// The unit of the kernel's figures, on every Linux.
    const TICKS_PER_SECOND: f64 = 100.0;
    let mut times = BTreeMap::new();
    for pid in tree(browser) {
        let (Some(stat), Ok(command)) = (stat(pid), fs::read(format!("/proc/{pid}/cmdline")))
        else {
            continue;
        };
        let command = String::from_utf8_lossy(&command);
        let kind = command
            .split(['\0', ' '])
            .find_map(|part| part.strip_prefix("--type="));
        let ticks: f64 = [11, 12]
            .iter()
            .filter_map(|place| stat.get(*place)?.parse::<f64>().ok())
            .sum();
        *times
            .entry(kind.unwrap_or("browser").to_owned())
            .or_default() += ticks / TICKS_PER_SECOND;
    }
    times
}

/// Returns the CPU time of the threads of a process so far, to the nanosecond.
pub(super) fn cpu_of(process: Pid) -> Duration {
    let threads = fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
    // One that has ended takes its time along; those that work do not end.
    let times = threads.flatten().filter_map(|thread| spent(&thread.path()));
    times.sum()
}

/// Returns the CPU time of a thread of this process so far.
pub(super) fn cpu_of_thread(thread: Pid) -> Duration {
    let path = format!("/proc/self/task/{thread}");
    spent(Path::new(&path)).expect("it runs")
}

fn spent(task: &Path) -> Option<Duration> {
    let text = fs::read_to_string(task.join("schedstat")).ok()?;
    Some(Duration::from_nanos(text.split(' ').next()?.parse().ok()?))
}
