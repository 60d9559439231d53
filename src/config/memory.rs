//! One budget for what the process keeps in memory: the stores' caches, RocksDB, and the queues of Kafka's clients.
//!
//! The limit is `memory.max.bytes`, else three quarters of the container's. Where the parts are more than that together,
//! each gives of what it has above its least. What a store in memory holds is the user's own and not part of it.

use super::Config;
use crate::error::{Error, Kind, Result};
use std::path::{Path, PathBuf};

const MB: usize = 1 << 20;
/// What the process has whatever it is told to keep, as measured (BENCHMARKS.md): code, threads, HTTP, what the allocator
/// cannot give back, uncommitted rows while a commit copies them.
const PROCESS_BYTES: usize = 64 * MB;
/// What each stream thread has besides its queues, as measured: its stack, those of its clients, batches on their way.
const THREAD_BYTES: usize = 20 * MB;
/// No limit that a kernel really means is larger.
const NO_LIMIT: usize = 1 << 50;

/// A part of the budget: what it has, what it needs at least, and how often. A queue of librdkafka's counts keys and values;
/// its records are a quarter more.
struct Part<'a> {
    bytes: &'a mut usize,
    least: usize,
    quarters: usize,
}

impl Part<'_> {
    fn cost(&self, bytes: usize) -> usize {
        bytes / 4 * self.quarters
    }
}

impl Config {
    /// The memory that the process may use; `None`: nobody says.
    pub fn memory_limit(&self) -> Option<usize> {
        self.memory_max_bytes.or_else(|| container_limit().map(|limit| limit / 4 * 3))
    }

    /// The settings with parts of memory that are within the limit together.
    ///
    /// # Errors
    /// [`Kind::Config`]: `memory.max.bytes` is less than the least that so many threads need.
    pub fn within_memory(mut self) -> Result<Self> {
        let Some(limit) = self.memory_limit() else { return Ok(self) };
        let fixed = PROCESS_BYTES + self.num_stream_threads.max(1) * THREAD_BYTES;
        let mut parts = self.parts();
        // A part that was made small on purpose needs no more than that.
        parts.iter_mut().for_each(|part| part.least = part.least.min(*part.bytes));
        let least: usize = parts.iter().map(|part| part.cost(part.least)).sum();
        let wanted: usize = parts.iter().map(|part| part.cost(*part.bytes)).sum();
        if fixed + wanted <= limit {
            return Ok(self);
        }
        let spare = limit.saturating_sub(fixed + least);
        for part in &mut parts {
            let above = (*part.bytes - part.least) as u128;
            *part.bytes = part.least + (above * spare as u128 / (wanted - least).max(1) as u128) as usize;
        }
        if fixed + least > limit {
            let (needed, limit) = ((fixed + least).div_ceil(MB), limit / MB);
            if self.memory_max_bytes.is_some() {
                let what = format!("is {limit} MB, but {} threads need at least {needed} MB", self.num_stream_threads);
                return Err(Error::new(Kind::Config, what)
                    .key("streams.memory.max.bytes")
                    .hint("raise it, or lower streams.num.stream.threads"));
            }
            tracing::warn!("the container's limit leaves {limit} MB, and at least {needed} MB are needed");
        }
        tracing::info!(
            "memory is limited to {} MB: caches {} MB, RocksDB {} MB, client queues {} MB for each of {} threads",
            limit / MB,
            self.cache_max_bytes / MB,
            (self.block_cache_bytes + self.write_buffer_bytes) / MB,
            (self.consumer_queue_bytes + self.fetch_max_bytes + self.producer_queue_bytes) / MB,
            self.num_stream_threads
        );
        Ok(self)
    }

    /// Gives the stores' caches what the other parts leave of `limit`, where that is more than they have.
    pub(super) fn grow_caches(&mut self, limit: usize) {
        let fixed = PROCESS_BYTES + self.num_stream_threads.max(1) * THREAD_BYTES;
        let parts: usize = self.parts().iter().map(|part| part.cost(*part.bytes)).sum();
        self.cache_max_bytes += limit.saturating_sub(fixed + parts);
    }

    fn parts(&mut self) -> Vec<Part<'_>> {
        let threads = self.num_stream_threads.max(1);
        vec![
            Part { bytes: &mut self.cache_max_bytes, least: 4 * MB, quarters: 4 },
            Part { bytes: &mut self.block_cache_bytes, least: MB, quarters: 4 },
            Part { bytes: &mut self.write_buffer_bytes, least: 2 * MB, quarters: 4 },
            // One consumer reads the inputs, another one the changelogs.
            Part { bytes: &mut self.consumer_queue_bytes, least: MB, quarters: 10 * threads },
            Part { bytes: &mut self.fetch_max_bytes, least: MB, quarters: 10 * threads },
            Part { bytes: &mut self.producer_queue_bytes, least: 2 * MB, quarters: 5 * threads },
        ]
    }
}

/// The memory limit of the container that the process runs in, in bytes; `None`: there is none, or no container.
pub fn container_limit() -> Option<usize> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    limit_of(&groups, Path::new("/sys/fs/cgroup"))
}

/// The smallest limit of the process's groups and of those above them; `groups` as `/proc/self/cgroup` has them.
fn limit_of(groups: &str, root: &Path) -> Option<usize> {
    let limits = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, group) = (fields.next()?, fields.next()?);
        let (root, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|c| c == "memory") => (root.join("memory"), "memory.limit_in_bytes"),
            _ => return None,
        };
        smallest(&root, group.trim_start_matches('/'), file)
    });
    limits.min()
}

/// From `group` up to `root`. Inside a container the group's path may be that of the host: then only the root is there.
fn smallest(root: &Path, group: &str, file: &str) -> Option<usize> {
    let mut group = PathBuf::from(group);
    let mut limit = None;
    loop {
        let text = std::fs::read_to_string(root.join(&group).join(file)).unwrap_or_default();
        let here = text.trim().parse::<usize>().ok().filter(|bytes| *bytes < NO_LIMIT);
        limit = [limit, here].into_iter().flatten().min();
        if !group.pop() {
            return limit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(config: &mut Config) -> usize {
        let fixed = PROCESS_BYTES + config.num_stream_threads * THREAD_BYTES;
        fixed + config.parts().iter().map(|part| part.cost(*part.bytes)).sum::<usize>()
    }

    #[test]
    fn parts_shrink_to_the_limit_and_grow_only_on_demand() {
        for threads in [1, 2, 8] {
            let config = Config { num_stream_threads: threads, ..Config::new("a") };
            let mut roomy = config.clone();
            (roomy.memory_max_bytes, roomy.cache_max_bytes) = (Some(4096 * MB), 64 * MB);
            assert_eq!(roomy.within_memory().expect("fits").cache_max_bytes, 64 * MB);
            let limit = (90 + 40 * threads) * MB;
            let mut tight = Config { memory_max_bytes: Some(limit), ..config.clone() }.within_memory().expect("fits");
            let total = total(&mut tight);
            assert!(total <= limit && total + MB > limit, "{total} of {limit}");
            assert!(tight.cache_max_bytes >= 4 * MB && tight.producer_queue_bytes >= 2 * MB);
            let too_small = Config { memory_max_bytes: Some(80 * MB), ..config }.within_memory();
            let error = too_small.expect_err("too small").to_string();
            assert!(error.contains("streams.memory.max.bytes: is 80 MB"), "{error}");
        }
    }

    #[test]
    fn caches_take_what_is_left() {
        let mut config = Config::new("a");
        config.grow_caches(1024 * MB);
        assert!(total(&mut config).abs_diff(1024 * MB) < 16);
        let before = config.cache_max_bytes;
        config.grow_caches(100 * MB);
        assert_eq!(config.cache_max_bytes, before);
    }

    #[test]
    fn the_smallest_limit_above_the_process_counts() {
        let root = tempfile::tempdir().expect("a folder");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, text).expect("written");
        };
        let of = |groups: &str| limit_of(groups, root.path());
        assert_eq!(of("0::/\n"), None);
        write("memory.max", "max\n");
        assert_eq!(of("0::/\n"), None);
        write("pod/memory.max", "300000000\n");
        write("pod/one/memory.max", "max\n");
        assert_eq!(of("0::/pod/one\n"), Some(300_000_000));
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(of("4:memory:/docker/abc\n3:cpu:/\n"), None);
        write("memory/memory.limit_in_bytes", "200000000\n");
        assert_eq!(of("4:cpu,memory:/docker/abc\n0::/\n"), Some(200_000_000), "the group's path is the host's");
    }
}
