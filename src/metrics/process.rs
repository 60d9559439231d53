//! The process's own figures, under the names that every Prometheus client library uses. Linux only: they come from /proc.

use super::snapshot::Families;
use prometheus::proto::MetricFamily;

/// Memory, CPU time and open files; without those that the system does not tell.
pub(super) fn families() -> Vec<MetricFamily> {
    let out = Families::new();
    if let Some(stat) = std::fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(Stat::parse) {
        let page_bytes = system_value(libc::_SC_PAGESIZE);
        let ticks_per_s = system_value(libc::_SC_CLK_TCK);
        let rss = stat.resident_pages as f64 * page_bytes;
        out.one("process_resident_memory_bytes", "Memory in RAM.", rss);
        out.counter("process_cpu_seconds_total", "CPU time used.", stat.cpu_ticks as f64 / ticks_per_s);
        out.one("process_threads", "Threads of the process.", stat.threads as f64);
    }
    if let Ok(fds) = std::fs::read_dir("/proc/self/fd") {
        out.one("process_open_fds", "Open file descriptors.", fds.count() as f64);
    }
    out.gather()
}

fn system_value(name: libc::c_int) -> f64 {
    // SAFETY: sysconf only reads a constant of the system.
    unsafe { libc::sysconf(name) as f64 }
}

#[derive(Debug, PartialEq)]
struct Stat {
    cpu_ticks: u64,
    threads: u64,
    resident_pages: u64,
}

impl Stat {
    /// The line of `/proc/<pid>/stat`; fields are counted behind the command's name, which may hold anything.
    fn parse(line: &str) -> Option<Self> {
        let (_, fields) = line.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let field = |n: usize| fields.get(n - 3)?.parse::<u64>().ok();
        Some(Self { cpu_ticks: field(14)? + field(15)?, threads: field(20)?, resident_pages: field(24)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_a_name_with_spaces_and_brackets() {
        let line = "7 (a (b) c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 5 0 1000 8192000 321 184 0";
        assert_eq!(Stat::parse(line), Some(Stat { cpu_ticks: 300, threads: 5, resident_pages: 321 }));
        assert_eq!(Stat::parse("nonsense"), None);
    }
}
