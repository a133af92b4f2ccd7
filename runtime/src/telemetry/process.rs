//! What the process takes of its machine.

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rustix::time::{ClockId, clock_gettime};

use super::hosts::write;

/// Where the kernel tells the memory of a process.
const STATUS: &str = "/proc/self/status";

/// Where the limit of a control group is, in a container.
const MEMORY_MAX: &str = "/sys/fs/cgroup/memory.max";

/// Returns the CPU time that all threads of this process took so far.
pub(crate) fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(now.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanos)
}

/// Returns how many CPUs this process may use, at least one.
pub(crate) fn cpus() -> u32 {
    let cpus = std::thread::available_parallelism();
    cpus.map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX))
}

/// Returns how many bytes of memory this process occupies; zero if the kernel does not tell.
pub(crate) fn memory_bytes() -> u64 {
    let status = std::fs::read_to_string(STATUS).unwrap_or_default();
    resident(&status).unwrap_or_default()
}

/// Returns how many bytes this process may occupy: what its control group or else the machine has.
pub(crate) fn memory_max_bytes() -> u64 {
    let system = rustix::system::sysinfo();
    let machine = (system.totalram as u64).saturating_mul(u64::from(system.mem_unit));
    let group = std::fs::read_to_string(MEMORY_MAX).ok();
    let group = group.and_then(|text| text.trim().parse().ok()); // Without a limit it says `max`.
    group.map_or(machine, |group: u64| group.min(machine))
}

fn resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Returns when this was first asked, since 1970, and the same as long as the process lives. The
/// first metrics that are made ask, so it is about when the process started.
pub(super) fn started_at() -> Duration {
    static AT: OnceLock<Duration> = OnceLock::new();
    *AT.get_or_init(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.unwrap_or_default()
    })
}

/// Reads the above when metrics are asked for.
pub(super) struct ProcessCollector;

impl fmt::Debug for ProcessCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProcessCollector")
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        write(
            &mut encoder,
            "process_cpu_seconds",
            "CPU time of the process",
            &ConstCounter::new(cpu().as_secs_f64()),
        )?;
        write(
            &mut encoder,
            "process_start_time_seconds",
            "When the process started, since 1970",
            &ConstGauge::new(started_at().as_secs_f64()),
        )?;
        write(
            &mut encoder,
            "process_resident_memory_bytes",
            "Memory that the process occupies",
            &ConstGauge::new(memory_bytes()),
        )?;
        write(
            &mut encoder,
            "process_memory_max_bytes",
            "Memory that the process may occupy",
            &ConstGauge::new(memory_max_bytes()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s2_23_cpu_and_memory_of_this_process_are_known() {
        assert!(cpu() > Duration::ZERO && cpus() >= 1);
        let occupied = memory_bytes();
        assert!(occupied > 1 << 20, "{occupied}");
        assert!(memory_max_bytes() > occupied);
    }

    #[test]
    fn an_unreadable_status_tells_nothing() {
        assert_eq!(resident("VmRSS:\t  12 kB\n"), Some(12 * 1024));
        assert_eq!(resident("Name: x\nVmRSS: many\n"), None);
    }
}
