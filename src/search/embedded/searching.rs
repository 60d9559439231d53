//! Searches in one index: the same words find the same documents as in OpenSearch (`multi_match`, `bool_prefix`, `and`).

use super::documents::user_field;
use super::failed;
use super::index::Index;
use crate::search::{Hit, Hits, Search, SearchError, Sort};
use serde_json::value::RawValue;
use tantivy::collector::{Count, TopDocs};
use tantivy::query::{AllQuery, BooleanQuery, EmptyQuery, FuzzyTermQuery, Occur, Query, TermQuery};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{DocAddress, Order, Term};

impl Index {
    pub(super) fn search(&self, search: &Search) -> Result<Hits, SearchError> {
        let live = Term::from_field_u64(self.fields.live, 1);
        let live: Box<dyn Query> = Box::new(TermQuery::new(live, IndexRecordOption::Basic));
        let live: Box<dyn Query> = Box::new(tantivy::query::BoostQuery::new(live, 0.0));
        let query = BooleanQuery::new(vec![(Occur::Must, live), (Occur::Must, self.query(search)?)]);
        let searcher = self.searcher();
        let total = searcher.search(&query, &Count).map_err(failed)? as u64;
        if search.size == 0 {
            return Ok(Hits { total, hits: Vec::new() });
        }
        let page = TopDocs::with_limit(search.size).and_offset(search.start);
        let found: Vec<(Option<f32>, DocAddress)> = match &search.sort {
            Sort::Relevance => {
                let found = searcher.search(&query, &page.order_by_score()).map_err(failed)?;
                found.into_iter().map(|(score, at)| (Some(score), at)).collect()
            }
            Sort::Largest(field) | Sort::Smallest(field) => {
                if !self.schema.numbers.contains(field) && !self.schema.dates.contains(field) {
                    return Err(SearchError::Refused(format!("the index has no field {field:?} to sort by")));
                }
                let order = if matches!(search.sort, Sort::Largest(_)) { Order::Desc } else { Order::Asc };
                let page = page.order_by_fast_field::<f64>(user_field(field), order);
                searcher.search(&query, &page).map_err(failed)?.into_iter().map(|(_, at)| (None, at)).collect()
            }
        };
        let hit = |(score, at)| {
            let (id, document) = self.source(&searcher, at)?;
            let document = RawValue::from_string(document).map_err(|e| SearchError::Refused(e.to_string()))?;
            Ok(Hit { id, score, document })
        };
        Ok(Hits { total, hits: found.into_iter().map(hit).collect::<Result<_, _>>()? })
    }

    /// Documents that have each word in one of the fields, the last word also as the beginning of one.
    fn query(&self, search: &Search) -> Result<Box<dyn Query>, SearchError> {
        let words = search.query.trim();
        if words.is_empty() {
            return Ok(Box::new(AllQuery));
        }
        let mut fields = Vec::new();
        for name in &search.fields {
            let known = self.fields.text.iter().find(|(known, _)| known == name);
            let missing = || SearchError::Refused(format!("the index has no text field {name:?}"));
            fields.push(known.ok_or_else(missing)?.1);
        }
        if fields.is_empty() {
            fields = self.fields.text.iter().map(|(_, field)| *field).collect();
        }
        let Some(first) = fields.first() else { return Ok(Box::new(EmptyQuery)) };
        let mut words_found = Vec::new();
        let mut analyzer = self.index.tokenizer_for_field(*first).map_err(failed)?;
        analyzer.token_stream(words).process(&mut |token| words_found.push(token.text.clone()));
        let Some((last, others)) = words_found.split_last() else { return Ok(Box::new(EmptyQuery)) };
        let mut all: Vec<(Occur, Box<dyn Query>)> =
            others.iter().map(|word| (Occur::Must, word_in(&fields, word, false))).collect();
        all.push((Occur::Must, word_in(&fields, last, true)));
        Ok(Box::new(BooleanQuery::new(all)))
    }
}

fn word_in(fields: &[Field], word: &str, begins: bool) -> Box<dyn Query> {
    let mut any: Vec<(Occur, Box<dyn Query>)> = Vec::new();
    for field in fields {
        let term = Term::from_field_text(*field, word);
        if begins {
            any.push((Occur::Should, Box::new(FuzzyTermQuery::new_prefix(term.clone(), 0, true))));
        }
        any.push((Occur::Should, Box::new(TermQuery::new(term, IndexRecordOption::WithFreqs))));
    }
    Box::new(BooleanQuery::new(any))
}
