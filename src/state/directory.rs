//! The state directory: one folder per application, locked by one process; one folder per task; the process's identity.

pub use super::task_directory::TaskDirectory;

use super::task_directory::Owned;
use crate::error::{Error, Kind, Result};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// `<state.dir>/<application.id>`, locked for this process as long as this value lives.
#[derive(Debug)]
pub struct StateDirectory {
    path: Option<PathBuf>,
    process_id: String,
    tasks: Owned,
    /// Holds the lock.
    _lock: Option<File>,
}

impl StateDirectory {
    /// Opens and locks the application's folder, and reads the process id kept in it, or makes one. A restart in the same
    /// folder is the same member of the group, which gives it its partitions back at once. Without stores on disk
    /// (`persistent` false) nothing is touched, and the id is a new one each time.
    ///
    /// # Errors
    /// [`Kind::State`]: locked by another process, not writable, not a folder.
    pub fn open(state_dir: &Path, application_id: &str, persistent: bool) -> Result<Self> {
        if !persistent {
            return Ok(Self { path: None, process_id: new_process_id()?, tasks: Owned::default(), _lock: None });
        }
        let path = state_dir.join(application_id);
        make(&path)?;
        let lock = lock(&path)?;
        let process_id = process_id(&path)?;
        Ok(Self { path: Some(path), process_id, tasks: Owned::default(), _lock: Some(lock) })
    }

    /// Removes the application's folder with everything in it.
    ///
    /// # Errors
    /// [`Kind::State`]: locked by a process that runs, or not removable.
    pub fn remove(state_dir: &Path, application_id: &str) -> Result {
        let path = state_dir.join(application_id);
        if !path.exists() {
            return Ok(());
        }
        let _lock = lock(&path)?;
        std::fs::remove_dir_all(&path).map_err(|e| failed(&path, "cannot be removed", e))
    }

    /// As [`open`](Self::open) without stores on disk, but with an identity that is kept where that can be done: a process
    /// that is restarted in place then has its partitions back at once. Where the folder cannot be used, or another process
    /// has it, the identity is a new one.
    ///
    /// # Errors
    /// [`Kind::Internal`]: the system has no random numbers.
    pub fn for_identity(state_dir: &Path, application_id: &str) -> Result<Self> {
        Self::open(state_dir, application_id, true).or_else(|error| {
            tracing::info!("the identity of this process is not kept: {error}");
            Self::open(state_dir, application_id, false)
        })
    }

    /// Whether a restart in the same folder has the same identity.
    pub fn keeps_identity(&self) -> bool {
        self.path.is_some()
    }

    /// The process's identity: kept across restarts in the same folder.
    pub fn process_id(&self) -> &str {
        &self.process_id
    }

    /// The folder of a task, made if need be, and owned until what is returned is dropped.
    ///
    /// # Errors
    /// [`Kind::Busy`] while another thread has it, [`Kind::State`] where it cannot be made.
    pub fn task_dir(&self, sub_topology: usize, partition: i32) -> Result<TaskDirectory> {
        let root = self.path.as_ref().ok_or_else(|| Error::new(Kind::Internal, "no state directory was opened"))?;
        self.tasks.take(root.join(format!("{sub_topology}_{partition}")))
    }

    /// Removes the folders of tasks that nobody has, and that have not changed for `delay`. Returns those.
    pub fn clean(&self, now_ms: i64, delay: Duration) -> Vec<PathBuf> {
        self.path.as_ref().map(|root| self.tasks.clean(root, now_ms, delay)).unwrap_or_default()
    }

    /// The folder of the global stores, made if it is not there.
    ///
    /// # Errors
    /// [`Kind::State`]: it cannot be made.
    pub fn global_dir(&self) -> Result<PathBuf> {
        let root = self.path.as_ref().ok_or_else(|| Error::new(Kind::Internal, "no state directory was opened"))?;
        let path = root.join("global");
        make(&path)?;
        Ok(path)
    }
}

pub(super) fn make(path: &Path) -> Result {
    let made = DirBuilder::new().recursive(true).mode(0o750).create(path);
    made.map_err(|e| failed(path, "cannot be made", e))
}

fn failed(path: &Path, what: &str, error: std::io::Error) -> Error {
    let hint = match error.kind() {
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            "make it writable for this user, or set another one"
        }
        std::io::ErrorKind::StorageFull => "free space on that disk, or set another one",
        _ => "check the path, or set another one",
    };
    Error::new(Kind::State, format!("{} {what}", path.display())).key("state.dir").source(error).hint(hint)
}

/// How long the lock of a process that may be on its way out is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(2);

const STOP_OTHER: &str = "stop that process, or give this instance a state.dir of its own";

fn try_lock(file: &File) -> bool {
    // SAFETY: the descriptor is open as long as `file` lives; flock touches nothing else.
    unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) == 0 }
}

fn lock(path: &Path) -> Result<File> {
    let path = path.join(".lock");
    let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
    let mut file = file.map_err(|e| failed(&path, "cannot be opened", e))?;
    // A process that was just killed holds its lock until the system has taken its memory apart; whoever restarts it in
    // place is quicker than that.
    let deadline = Instant::now() + LOCK_WAIT;
    let mut locked = try_lock(&file);
    while !locked && Instant::now() < deadline {
        std::thread::park_timeout(Duration::from_millis(20));
        locked = try_lock(&file);
    }
    if !locked {
        let mut holder = String::new();
        let (holder, hint) = match file.read_to_string(&mut holder).map(|_| holder.trim()) {
            Ok(id) if id == std::process::id().to_string() => (
                "this process itself".into(),
                "drop the client that was closed before another is started, or give each a state.dir of its own",
            ),
            Ok(id) if !id.is_empty() => (format!("the process {id}"), STOP_OTHER),
            _ => ("another process".into(), STOP_OTHER),
        };
        let what = format!("{} is in use by {holder}", path.display());
        return Err(Error::new(Kind::State, what).key("state.dir").hint(hint));
    }
    // Who holds the lock is a help for people; the lock itself does not depend on it.
    let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
    Ok(file)
}

/// The process id in Kafka Streams' own file: `{"processId":"<uuid>"}`.
fn process_id(path: &Path) -> Result<String> {
    let path = path.join("kafka-streams-process-metadata");
    if let Ok(text) = std::fs::read_to_string(&path)
        && let Ok(json) = serde_json::from_str::<serde_json::Value>(&text)
        && let Some(id) = json["processId"].as_str()
    {
        return Ok(id.to_owned());
    }
    let id = new_process_id()?;
    let json = serde_json::json!({ "processId": id }).to_string();
    std::fs::write(&path, json).map_err(|e| failed(&path, "cannot be written", e))?;
    Ok(id)
}

/// A random UUID, version 4.
fn new_process_id() -> Result<String> {
    let mut bytes = [0u8; 16];
    let read = File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut bytes));
    read.map_err(|e| Error::new(Kind::Internal, "the system has no random numbers").source(e))?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    Ok([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_is_kept_and_the_folder_locked() {
        let dir = tempfile::tempdir().expect("a folder");
        let first = StateDirectory::open(dir.path(), "app", true).expect("opens");
        let id = first.process_id().to_owned();
        let error = StateDirectory::open(dir.path(), "app", true).expect_err("locked").to_string();
        assert!(error.contains("in use by this process itself") && error.contains("drop the client"), "{error}");
        drop(first);
        assert_eq!(StateDirectory::open(dir.path(), "app", true).expect("opens").process_id(), id);
    }

    #[test]
    fn without_stores_on_disk_nothing_is_touched() {
        let dir = tempfile::tempdir().expect("a folder");
        StateDirectory::open(dir.path(), "app", false).expect("opens");
        assert_eq!(std::fs::read_dir(dir.path()).expect("reads").count(), 0);
    }

    #[test]
    fn a_file_in_the_way_is_told() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("file");
        std::fs::write(&file, "").expect("writes");
        let error = StateDirectory::open(&file, "app", true).expect_err("not a folder").to_string();
        assert!(error.contains("state.dir") && error.contains("cannot be made"), "{error}");
    }
}
