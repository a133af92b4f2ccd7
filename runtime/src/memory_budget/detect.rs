//! How much memory a process may use: the limit of its control group, or what the machine has.

use std::fs;
use std::path::{Path, PathBuf};

/// The least budget that a node can work with: a batch of another node fits into the quarter that
/// clients do not get.
pub const MEMORY_BUDGET_MIN: usize = 64 << 20;

/// The most that is taken unless a setting says otherwise.
pub const MEMORY_BUDGET_MAX_DEFAULT: usize = 512 << 20;

/// One byte in this many of what the process may use.
const SHARE: u64 = 4;

/// Returns the default of the memory budget: a quarter of [`memory_limit`], from
/// [`MEMORY_BUDGET_MIN`] to [`MEMORY_BUDGET_MAX_DEFAULT`].
pub fn default_memory_budget(root: &Path) -> usize {
    let limit = memory_limit(root).unwrap_or(u64::MAX);
    let share = usize::try_from(limit / SHARE).unwrap_or(usize::MAX);
    share.clamp(MEMORY_BUDGET_MIN, MEMORY_BUDGET_MAX_DEFAULT)
}

/// Returns how many bytes the process may use: the least limit of its control group and of those
/// around it (version 1 or 2), or of the machine. `root` is the root of the file system, `/`; `None`
/// if nothing there says.
pub fn memory_limit(root: &Path) -> Option<u64> {
    let machine = machine_memory(root);
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let of_groups = groups.lines().filter_map(|line| group_limit(root, line));
    of_groups.chain(machine).min()
}

/// Returns the limit of one line of `/proc/self/cgroup`: `ID:CONTROLLERS:PATH`.
fn group_limit(root: &Path, line: &str) -> Option<u64> {
    let mut parts = line.splitn(3, ':');
    let (id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let (mount, file) = if id == "0" && controllers.is_empty() {
        ("sys/fs/cgroup", "memory.max")
    } else if controllers.split(',').any(|name| name == "memory") {
        ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
    } else {
        return None;
    };
    let path = PathBuf::from(path.trim_start_matches('/'));
    // In a container its own group is the root of what is mounted, whatever the path says.
    let around = path.ancestors();
    let limits = around.filter_map(|group| {
        let text = fs::read_to_string(root.join(mount).join(group).join(file)).ok()?;
        text.trim().parse().ok() // `max` is none.
    });
    limits.min()
}

fn machine_memory(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let total = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a root with these files.
    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    /// Files below the root: path and content.
    type Files<'a> = &'a [(&'a str, &'a str)];

    #[test]
    fn the_least_limit_around_the_process_counts() {
        const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:  4194304 kB\nMemFree: 1 kB\n");
        let v2 = ("proc/self/cgroup", "0::/pod/app\n");
        let v1 = (
            "proc/self/cgroup",
            "4:cpu,memory:/docker/x\n2:pids:/y\n0::/\n",
        );
        let cases: [(Files<'_>, Option<u64>); 7] = [
            (&[], None),
            (&[MEMINFO], Some(4 << 30)),
            (
                &[MEMINFO, v2, ("sys/fs/cgroup/pod/app/memory.max", "max\n")],
                Some(4 << 30),
            ),
            (
                &[
                    MEMINFO,
                    v2,
                    ("sys/fs/cgroup/pod/app/memory.max", "2097152\n"),
                    ("sys/fs/cgroup/pod/memory.max", "1048576\n"),
                ],
                Some(1 << 20),
            ),
            (
                &[MEMINFO, v2, ("sys/fs/cgroup/memory.max", "4096\n")],
                Some(4096),
            ),
            (
                &[
                    v1,
                    (
                        "sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes",
                        "8192\n",
                    ),
                ],
                Some(8192),
            ),
            (
                &[
                    MEMINFO,
                    v1,
                    (
                        "sys/fs/cgroup/memory/memory.limit_in_bytes",
                        "9223372036854771712\n",
                    ),
                ],
                Some(4 << 30),
            ),
        ];
        for (files, expected) in cases {
            let root = root(files);
            assert_eq!(memory_limit(root.path()), expected, "{files:?}");
        }
    }

    #[test]
    fn the_default_is_a_quarter_within_bounds() {
        let of = |kibibytes: u64| {
            let text = format!("MemTotal: {kibibytes} kB\n");
            default_memory_budget(root(&[("proc/meminfo", &text)]).path())
        };
        assert_eq!(of(64 << 10), MEMORY_BUDGET_MIN);
        assert_eq!(of(512 << 10), 128 << 20);
        assert_eq!(of(64 << 20), MEMORY_BUDGET_MAX_DEFAULT);
    }
}
