//! A search engine inside this process: tantivy, one folder with one folder per index. Needs no server.
//!
//! One process at a time may write to an index. A write is acknowledged when it is on disk; the writes that come while the
//! disk is busy go together (`writer.rs`).

mod documents;
mod index;
mod searching;
mod writer;

use self::index::Index;
use super::{Answer, Found, Hits, IndexSchema, Operation, Outcome, Search, SearchEngine, SearchError, check_name};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tantivy::TantivyError;
use tantivy::directory::error::LockError;

/// A search engine inside this process, with its indexes in a folder.
///
/// ```no_run
/// use watersmeet::search::EmbeddedEngine;
/// let engine = EmbeddedEngine::open("search-indexes")?;
/// # Ok::<(), watersmeet::search::SearchError>(())
/// ```
pub struct EmbeddedEngine {
    folder: PathBuf,
    open: Mutex<Open>,
}

/// What is known of the folder.
#[derive(Default)]
struct Open {
    indexes: BTreeMap<String, Arc<Index>>,
    aliases: BTreeMap<String, String>,
}

impl EmbeddedEngine {
    /// Opens the folder, or makes it.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, SearchError> {
        let folder = folder.into();
        std::fs::create_dir_all(&folder).map_err(|e| unusable(&folder, e))?;
        let aliases = match std::fs::read(folder.join("aliases.json")) {
            Ok(text) => serde_json::from_slice(&text).map_err(|e| unusable(&folder.join("aliases.json"), e))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(unusable(&folder.join("aliases.json"), error)),
        };
        Ok(Self { folder, open: Mutex::new(Open { indexes: BTreeMap::new(), aliases }) })
    }

    /// The index of that name, or the one that the alias stands for.
    fn index(&self, name: &str) -> Result<Arc<Index>, SearchError> {
        check_name(name)?;
        let mut open = self.lock();
        let name = open.aliases.get(name).cloned().unwrap_or_else(|| name.to_string());
        if let Some(index) = open.indexes.get(&name) {
            return Ok(index.clone());
        }
        let index = Arc::new(Index::open(&self.folder, &name)?);
        open.indexes.insert(name, index.clone());
        Ok(index)
    }

    /// What is guarded is complete after each change, so a panic elsewhere leaves nothing half done.
    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a file so that it is there as a whole or not at all.
fn write_file(path: &Path, content: &[u8]) -> Result<(), SearchError> {
    let write = || {
        let new = path.with_extension("new");
        std::fs::write(&new, content)?;
        std::fs::File::open(&new)?.sync_all()?;
        std::fs::rename(&new, path)
    };
    write().map_err(|e| unusable(path, e))
}

fn unusable(path: &Path, error: impl std::fmt::Display) -> SearchError {
    SearchError::Refused(format!("{} cannot be used: {error}", path.display()))
}

/// What tantivy says. A full disk, which may have room again, is told in many ways: what is not known to stay is worth another
/// attempt.
fn failed(error: TantivyError) -> SearchError {
    match error {
        TantivyError::LockFailure(LockError::LockBusy, _) => {
            SearchError::Refused("another process has the index open for writing".into())
        }
        TantivyError::DataCorruption(_)
        | TantivyError::DeserializeError(_)
        | TantivyError::FieldNotFound(_)
        | TantivyError::IncompatibleIndex(_)
        | TantivyError::InvalidArgument(_)
        | TantivyError::SchemaError(_) => SearchError::Refused(error.to_string()),
        TantivyError::IoError(error) => SearchError::unavailable(error),
        other => SearchError::unavailable(other),
    }
}

/// Work that reads from disk, off the runtime's threads.
fn on_disk<'a, T: Send + 'static>(work: impl FnOnce() -> Result<T, SearchError> + Send + 'static) -> Answer<'a, T> {
    Box::pin(async {
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|e| Err(SearchError::Refused(format!("the search broke off: {e}"))))
    })
}

impl SearchEngine for EmbeddedEngine {
    fn bulk<'a>(&'a self, index: &'a str, operations: &'a [Operation]) -> Answer<'a, Vec<Outcome>> {
        Box::pin(async move { self.index(index)?.write(operations.to_vec()).await })
    }

    fn search<'a>(&'a self, index: &'a str, search: &'a Search) -> Answer<'a, Hits> {
        let (index, search) = (self.index(index), search.clone());
        on_disk(move || {
            search.check()?;
            index?.search(&search)
        })
    }

    fn document<'a>(&'a self, index: &'a str, id: &'a str) -> Answer<'a, Option<Found>> {
        let (index, id) = (self.index(index), id.to_string());
        on_disk(move || index?.document(&id))
    }

    fn create_index<'a>(&'a self, index: &'a str, schema: &'a IndexSchema) -> Answer<'a, bool> {
        Box::pin(async move {
            check_name(index)?;
            let mut open = self.lock();
            if open.aliases.contains_key(index) || Index::exists(&self.folder, index) {
                return Ok(false);
            }
            let made = Index::create(&self.folder, index, schema)?;
            open.indexes.insert(index.to_string(), Arc::new(made));
            Ok(true)
        })
    }

    fn delete_index<'a>(&'a self, index: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            check_name(index)?;
            let mut open = self.lock();
            let aliased = open.aliases.iter().find(|(_, of)| *of == index);
            if let Some((alias, _)) = aliased {
                return Err(SearchError::Refused(format!("{alias} stands for the index {index}")));
            }
            open.indexes.remove(index);
            Index::remove(&self.folder, index)
        })
    }

    fn alias<'a>(&'a self, alias: &'a str) -> Answer<'a, Option<String>> {
        Box::pin(async move { Ok(self.lock().aliases.get(alias).cloned()) })
    }

    fn point_alias<'a>(&'a self, alias: &'a str, index: &'a str) -> Answer<'a, Option<String>> {
        Box::pin(async move {
            check_name(alias)?;
            let mut open = self.lock();
            if Index::exists(&self.folder, alias) {
                return Err(SearchError::Refused(format!("there is an index {alias}: it cannot be an alias too")));
            }
            if !Index::exists(&self.folder, index) {
                return Err(SearchError::NoIndex(index.to_string()));
            }
            let mut aliases = open.aliases.clone();
            let before = aliases.insert(alias.to_string(), index.to_string());
            let text = serde_json::to_vec_pretty(&aliases).map_err(|e| SearchError::Refused(e.to_string()))?;
            write_file(&self.folder.join("aliases.json"), &text)?;
            open.aliases = aliases;
            Ok(before)
        })
    }

    fn refresh<'a>(&'a self, index: &'a str) -> Answer<'a, ()> {
        // Searches see what has been acknowledged.
        Box::pin(async move { self.index(index).map(|_| ()) })
    }
}

#[cfg(test)]
mod tests;
