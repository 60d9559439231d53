//! What goes where: the file pipeline.toml.

use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use watersmeet::error::Kind;
use watersmeet::prelude::*;
use watersmeet::search::{EmbeddedEngine, IndexSchema, OpenSearch, SearchEngine, SearchError};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    #[serde(default)]
    engine: Engine,
    pub films: Option<Films>,
    #[serde(rename = "index")]
    pub indexes: Vec<Index>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Engine {
    url: Option<String>,
    user: Option<String>,
    password: Option<String>,
    authorization: Option<String>,
    certificate_authority: Option<PathBuf>,
    folder: Option<PathBuf>,
}

/// The topics of the join.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Films {
    pub catalog: String,
    pub ratings: String,
    pub merged: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    pub name: String,
    pub topic: String,
    /// The first of them is what documents are called by.
    pub text: Vec<String>,
    pub latest: String,
    pub popularity: String,
}

impl Index {
    pub fn schema(&self) -> IndexSchema {
        let schema = IndexSchema::default().date(&self.latest).number(&self.popularity);
        self.text.iter().fold(schema, IndexSchema::text)
    }
}

impl Pipeline {
    /// The one in `SEARCH_PIPELINE`, else the one beside this file.
    pub fn load() -> Result<Self> {
        let text = match std::env::var_os("SEARCH_PIPELINE") {
            None => include_str!("pipeline.toml").to_owned(),
            Some(file) => std::fs::read_to_string(&file)
                .map_err(|e| Error::new(Kind::Config, format!("cannot read {}: {e}", file.display())))?,
        };
        let mut pipeline: Self =
            toml::from_str(&text).map_err(|e| Error::new(Kind::Config, format!("the pipeline's file: {e}")))?;
        let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        pipeline.engine.url = set("SEARCH_ENGINE_URL").or(pipeline.engine.url);
        pipeline.engine.password = set("SEARCH_ENGINE_PASSWORD").or(pipeline.engine.password);
        let names: BTreeSet<&str> = pipeline.indexes.iter().map(|index| index.name.as_str()).collect();
        if names.len() < pipeline.indexes.len() || pipeline.indexes.iter().any(|index| index.text.is_empty()) {
            let what = "the pipeline's file: each index has a name of its own and a text field at least";
            return Err(Error::new(Kind::Config, what));
        }
        Ok(pipeline)
    }

    /// The engine; its own folder is `fresh`, where that is given.
    pub fn engine(&self, fresh: Option<PathBuf>) -> Result<Arc<dyn SearchEngine>> {
        let made = match (&self.engine.url, fresh.as_ref().or(self.engine.folder.as_ref())) {
            (Some(url), _) => self.server(url).map(|engine| Arc::new(engine) as _),
            (None, Some(folder)) => EmbeddedEngine::open(folder).map(|engine| Arc::new(engine) as _),
            (None, None) => {
                let what = "beside a real Kafka the engine needs a place: set engine.url or engine.folder in the pipeline's file";
                return Err(Error::new(Kind::Config, what));
            }
        };
        made.map_err(SearchError::into_error)
    }

    fn server(&self, url: &str) -> Result<OpenSearch, SearchError> {
        let mut engine = OpenSearch::new(url)?;
        if let Some(file) = &self.engine.certificate_authority {
            let cannot = |e| SearchError::Refused(format!("cannot read {}: {e}", file.display()));
            engine = engine.certificate_authority(&std::fs::read(file).map_err(cannot)?)?;
        }
        if let Some(user) = &self.engine.user {
            engine = engine.user(user, self.engine.password.as_deref().unwrap_or_default())?;
        }
        match &self.engine.authorization {
            Some(authorization) => engine.authorization(authorization),
            None => Ok(engine),
        }
    }

    pub fn index(&self, name: &str) -> Option<&Index> {
        self.indexes.iter().find(|index| index.name == name)
    }

    /// All topics that it reads and writes.
    pub fn topics(&self) -> Vec<&String> {
        let films = self.films.iter().flat_map(|films| [&films.catalog, &films.ratings, &films.merged]);
        let topics: BTreeSet<&String> = films.chain(self.indexes.iter().map(|index| &index.topic)).collect();
        topics.into_iter().collect()
    }
}
