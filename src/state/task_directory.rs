//! The folders of tasks: each has one owner at a time, and one that nobody has had for long is removed.

use crate::error::{Error, Kind, Result};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

/// The folders that tasks of this process have open.
#[derive(Debug, Clone, Default)]
pub(super) struct Owned(Arc<Mutex<BTreeSet<PathBuf>>>);

/// The folder of a task, owned as long as this value lives.
#[derive(Debug)]
pub struct TaskDirectory {
    path: PathBuf,
    owned: Owned,
}

impl TaskDirectory {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TaskDirectory {
    fn drop(&mut self) {
        touch(&self.path);
        self.owned.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.path);
    }
}

impl Owned {
    /// Makes the folder if need be, and takes it.
    ///
    /// # Errors
    /// [`Kind::Busy`] while another thread has it, [`Kind::State`] where it cannot be made.
    pub(super) fn take(&self, path: PathBuf) -> Result<TaskDirectory> {
        let mut owned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if owned.contains(&path) {
            let what = format!("another thread still has the state in {} open", path.display());
            return Err(Error::new(Kind::Busy, what).hint("nothing to do, it is waited for"));
        }
        super::directory::make(&path)?;
        owned.insert(path.clone());
        Ok(TaskDirectory { path, owned: self.clone() })
    }

    /// Removes the folders of tasks under `root` that nobody has, and that have not changed for `delay`. Returns those.
    pub(super) fn clean(&self, root: &Path, now_ms: i64, delay: Duration) -> Vec<PathBuf> {
        let mut removed = Vec::new();
        for path in std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path()) {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if is_task(name.trim_end_matches(REMOVED)) && name.ends_with(REMOVED) {
                remove(&path);
                continue;
            }
            let owned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let due = |changed_ms| now_ms - changed_ms > delay.as_millis() as i64;
            if !is_task(&name) || owned.contains(&path) || !changed_ms(&path).is_some_and(due) {
                continue;
            }
            // Out of the way first, so that whoever opens the task meanwhile begins with a new folder.
            let aside = root.join(format!("{name}{REMOVED}"));
            if std::fs::rename(&path, &aside).is_ok() {
                drop(owned);
                remove(&aside);
                removed.push(path);
            }
        }
        removed
    }
}

/// What is being removed has this behind its name.
const REMOVED: &str = ".removed";

/// `<sub-topology>_<partition>`.
fn is_task(name: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    name.split_once('_').is_some_and(|(sub_topology, partition)| number(sub_topology) && number(partition))
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_dir_all(path) {
        tracing::warn!("{} cannot be removed: {error}", path.display());
    }
}

/// When the folder, or one in it, was last changed.
fn changed_ms(path: &Path) -> Option<i64> {
    let modified_ms = |path: &Path| {
        let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()?;
        Some(modified.duration_since(UNIX_EPOCH).map_or(0, |age| age.as_millis() as i64))
    };
    let inner = std::fs::read_dir(path).ok()?.flatten().filter_map(|entry| modified_ms(&entry.path()));
    inner.chain(modified_ms(path)).max()
}

/// Marks the folder as changed now: the delay counts from here.
fn touch(path: &Path) {
    if let Ok(path) = CString::new(path.as_os_str().as_bytes()) {
        // SAFETY: the path is a string that ends with a zero byte; null stands for the present time.
        unsafe { libc::utimes(path.as_ptr(), std::ptr::null()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_folder_has_one_owner_at_a_time() {
        let (dir, owned) = (tempfile::tempdir().expect("a folder"), Owned::default());
        let path = dir.path().join("0_1");
        let first = owned.take(path.clone()).expect("is free");
        assert_eq!(owned.take(path.clone()).expect_err("is taken").kind(), Kind::Busy);
        assert!(owned.take(dir.path().join("0_2")).is_ok());
        drop(first);
        assert!(owned.take(path).is_ok());
    }

    #[test]
    fn what_nobody_has_had_for_long_is_removed_and_nothing_else() {
        let (dir, owned) = (tempfile::tempdir().expect("a folder"), Owned::default());
        for name in ["0_1/rocksdb", "0_2", "global", "0_x", "3_4.removed/rest"] {
            std::fs::create_dir_all(dir.path().join(name)).expect("makes");
        }
        let _open = owned.take(dir.path().join("0_2")).expect("is free");
        let now_ms = changed_ms(dir.path()).expect("is there");
        assert!(owned.clean(dir.path(), now_ms, HOUR).is_empty());
        assert!(!dir.path().join("3_4.removed").exists(), "what a crash left in the middle goes at once");
        let later_ms = now_ms + 2 * HOUR.as_millis() as i64;
        assert_eq!(owned.clean(dir.path(), later_ms, HOUR), [dir.path().join("0_1")]);
        let left: BTreeSet<_> =
            std::fs::read_dir(dir.path()).expect("reads").flatten().map(|e| e.file_name()).collect();
        assert_eq!(left, ["0_2", "0_x", "global"].map(Into::into).into());
    }
}
