//! One index: its folder, its fields, its reader, and the thread that writes.

use super::documents::Fields;
use super::writer::{self, Job};
use super::{failed, unusable, write_file};
use crate::search::{Found, IndexSchema, Operation, Outcome, SearchError};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, PoisonError};
use tantivy::{DocAddress, IndexReader, ReloadPolicy, Searcher};

pub(super) struct Index {
    name: String,
    pub(super) schema: IndexSchema,
    pub(super) fields: Fields,
    pub(super) index: tantivy::Index,
    reader: IndexReader,
    /// Where the writer takes its work from; it is started with the first write.
    writer: Mutex<Option<Sender<Job>>>,
}

impl Index {
    fn schema_file(folder: &Path, name: &str) -> PathBuf {
        folder.join(format!("{name}.index.json"))
    }

    pub(super) fn exists(folder: &Path, name: &str) -> bool {
        Self::schema_file(folder, name).exists()
    }

    pub(super) fn create(folder: &Path, name: &str, schema: &IndexSchema) -> Result<Self, SearchError> {
        let (fields, for_tantivy) = Fields::new(schema)?;
        let path = folder.join(name);
        // What is left of an index whose making was broken off.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).map_err(|e| unusable(&path, e))?;
        let index = tantivy::Index::create_in_dir(&path, for_tantivy).map_err(failed)?;
        // Last: an index is there when its schema is.
        let text = serde_json::to_vec_pretty(schema).map_err(|e| SearchError::Refused(e.to_string()))?;
        write_file(&Self::schema_file(folder, name), &text)?;
        Self::with(name, schema.clone(), fields, index)
    }

    pub(super) fn open(folder: &Path, name: &str) -> Result<Self, SearchError> {
        let file = Self::schema_file(folder, name);
        let text = match std::fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(SearchError::NoIndex(name.to_string()));
            }
            Err(error) => return Err(unusable(&file, error)),
        };
        let schema: IndexSchema = serde_json::from_slice(&text).map_err(|e| unusable(&file, e))?;
        let (fields, _) = Fields::new(&schema)?;
        let index = tantivy::Index::open_in_dir(folder.join(name)).map_err(failed)?;
        Self::with(name, schema, fields, index)
    }

    fn with(name: &str, schema: IndexSchema, fields: Fields, index: tantivy::Index) -> Result<Self, SearchError> {
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into().map_err(failed)?;
        Ok(Self { name: name.to_string(), schema, fields, index, reader, writer: Mutex::default() })
    }

    pub(super) fn remove(folder: &Path, name: &str) -> Result<(), SearchError> {
        let gone = |result: std::io::Result<()>, path: &Path| match result {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(unusable(path, error)),
            _ => Ok(()),
        };
        let (file, path) = (Self::schema_file(folder, name), folder.join(name));
        gone(std::fs::remove_file(&file), &file)?;
        gone(std::fs::remove_dir_all(&path), &path)
    }

    /// Gives the operations to the writer, and waits until they are on disk.
    pub(super) async fn write(&self, operations: Vec<Operation>) -> Result<Vec<Outcome>, SearchError> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        self.writer()?.send(Job { operations, answer }).map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }

    fn writer(&self) -> Result<Sender<Job>, SearchError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(jobs) = &*writer {
            return Ok(jobs.clone());
        }
        let (jobs, work) = mpsc::channel();
        writer::start(&self.name, &self.index, self.fields.clone(), self.reader.clone(), work)?;
        Ok(writer.insert(jobs).clone())
    }

    pub(super) fn searcher(&self) -> Searcher {
        self.reader.searcher()
    }

    pub(super) fn document(&self, id: &str) -> Result<Option<Found>, SearchError> {
        let searcher = self.searcher();
        let Some((version, at)) = self.fields.version(&searcher, id).map_err(failed)? else { return Ok(None) };
        let document = self.fields.source(&searcher, at)?.1;
        Ok(document.map(|document| Found { version, document }))
    }

    /// Id and JSON text of a document.
    pub(super) fn source(&self, searcher: &Searcher, at: DocAddress) -> Result<(String, String), SearchError> {
        let (id, document) = self.fields.source(searcher, at)?;
        Ok((id, document.unwrap_or_default()))
    }
}

fn ended() -> SearchError {
    SearchError::unavailable("the index has been closed")
}
