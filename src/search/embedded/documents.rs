//! What is stored of a document: id, version, text, and the fields to search in and sort by. A delete leaves id, version and
//! time, so that a late write of an older version finds them.

use super::failed;
use crate::search::{IndexSchema, SearchError, values};
use serde_json::{Map, Value};
use tantivy::schema::{FAST, Field, INDEXED, IndexRecordOption, STORED, STRING, Schema, TEXT, Value as _};
use tantivy::{DocAddress, DocSet, Searcher, TERMINATED, TantivyDocument, Term};

#[derive(Clone)]
pub(super) struct Fields {
    pub(super) id: Field,
    /// 1 where the document is there; a delete has none.
    pub(super) live: Field,
    /// When it was deleted, in milliseconds.
    pub(super) deleted_ms: Field,
    version: Field,
    source: Field,
    /// The user's, with their names in the document.
    pub(super) text: Vec<(String, Field)>,
    numbers: Vec<(String, Field)>,
    dates: Vec<(String, Field)>,
}

/// The name of a user's field: never one of ours.
pub(super) fn user_field(name: &str) -> String {
    format!("doc.{name}")
}

impl Fields {
    /// The fields of an index, as tantivy wants to have them.
    pub(super) fn new(schema: &IndexSchema) -> Result<(Self, Schema), SearchError> {
        let mut builder = Schema::builder();
        let mut names: Vec<&String> = schema.text.iter().chain(&schema.numbers).chain(&schema.dates).collect();
        names.sort();
        if let Some(twice) = names.windows(2).find(|two| two[0] == two[1]) {
            return Err(SearchError::Refused(format!("the field {:?} is there twice", twice[0])));
        }
        let fields = Self {
            id: builder.add_text_field("id", STRING | STORED),
            live: builder.add_u64_field("live", INDEXED),
            deleted_ms: builder.add_i64_field("deleted_ms", INDEXED | FAST),
            version: builder.add_i64_field("version", FAST),
            source: builder.add_text_field("source", STORED),
            text: schema.text.iter().map(|n| (n.clone(), builder.add_text_field(&user_field(n), TEXT))).collect(),
            numbers: schema.numbers.iter().map(|n| (n.clone(), builder.add_f64_field(&user_field(n), FAST))).collect(),
            dates: schema.dates.iter().map(|n| (n.clone(), builder.add_f64_field(&user_field(n), FAST))).collect(),
        };
        Ok((fields, builder.build()))
    }

    pub(super) fn id_term(&self, id: &str) -> Term {
        Term::from_field_text(self.id, id)
    }

    /// What is stored for a document; an error says what is wrong with it.
    pub(super) fn document(&self, id: &str, version: i64, text: &[u8]) -> Result<TantivyDocument, String> {
        let object: Map<String, Value> = serde_json::from_slice(text).map_err(|e| format!("is no JSON object: {e}"))?;
        let text = std::str::from_utf8(text).map_err(|e| format!("is not UTF-8 text: {e}"))?;
        let mut document = TantivyDocument::default();
        document.add_text(self.id, id);
        document.add_i64(self.version, version);
        document.add_u64(self.live, 1);
        document.add_text(self.source, text);
        for (name, field) in &self.text {
            values::each(object.get(name), &mut |value| {
                let text = values::text(value).ok_or_else(|| format!("its field {name:?} is no text"))?;
                document.add_text(*field, text);
                Ok(())
            })?;
        }
        let mut add = |fields: &[(String, Field)], what: &str, read: fn(&Value) -> Option<f64>| {
            fields.iter().try_for_each(|(name, field)| {
                values::each(object.get(name), &mut |value| {
                    let number = read(value).ok_or_else(|| format!("its field {name:?} is no {what}: {value}"))?;
                    document.add_f64(*field, number);
                    Ok(())
                })
            })
        };
        add(&self.numbers, "number", values::number)?;
        add(&self.dates, "date", values::date)?;
        Ok(document)
    }

    /// What is stored for a delete.
    pub(super) fn deleted(&self, id: &str, version: i64, now_ms: i64) -> TantivyDocument {
        let mut document = TantivyDocument::default();
        document.add_text(self.id, id);
        document.add_i64(self.version, version);
        document.add_i64(self.deleted_ms, now_ms);
        document
    }

    /// The version that is stored of `id`, also that of a delete, and where.
    pub(super) fn version(&self, searcher: &Searcher, id: &str) -> tantivy::Result<Option<(i64, DocAddress)>> {
        let term = self.id_term(id);
        for (segment, reader) in searcher.segment_readers().iter().enumerate() {
            let postings = reader.inverted_index(self.id)?.read_postings(&term, IndexRecordOption::Basic)?;
            let Some(mut postings) = postings else { continue };
            while postings.doc() != TERMINATED {
                let doc = postings.doc();
                if !reader.is_deleted(doc) {
                    let version = reader.fast_fields().i64("version")?.first(doc).unwrap_or(-1);
                    return Ok(Some((version, DocAddress::new(segment as u32, doc))));
                }
                postings.advance();
            }
        }
        Ok(None)
    }

    /// Id and JSON text of what is stored there; a delete has no text.
    pub(super) fn source(&self, searcher: &Searcher, at: DocAddress) -> Result<(String, Option<String>), SearchError> {
        let document: TantivyDocument = searcher.doc(at).map_err(failed)?;
        let text = |field| document.get_first(field).and_then(|value| value.as_str().map(str::to_owned));
        Ok((text(self.id).unwrap_or_default(), text(self.source)))
    }
}
