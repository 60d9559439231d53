//! A bulk until it is done: what the engine cannot take now is tried again, what is too large is divided, what it will
//! never take is handed back.

use super::{Operation, Outcome, SearchEngine, SearchError};
pub use crate::backoff::Backoff;
use std::collections::HashMap;

/// What became of the operations of one bulk.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// How many are in the index now that were not before.
    pub written: u64,
    /// How many the engine had newer.
    pub stale: u64,
    /// How many requests had to be made again.
    pub retries: u64,
    /// Those that the engine will never take, by their number, with its reason.
    pub refused: Vec<(usize, String)>,
}

/// A part of a bulk: operations that go in one request, and their places in the whole.
#[derive(Default)]
struct Part {
    operations: Vec<Operation>,
    places: Vec<usize>,
}

impl Part {
    /// Cuts it in two; returns the second half.
    fn split(&mut self) -> Self {
        let half = self.places.len() / 2;
        Self { operations: self.operations.split_off(half), places: self.places.split_off(half) }
    }
}

/// Writes all of the operations, however long it takes: returns when the engine has acknowledged or refused each. `tell` gets
/// each reason for another attempt.
///
/// # Errors
/// Those of the engine that another attempt does not change.
pub async fn write_all(
    engine: &dyn SearchEngine,
    index: &str,
    operations: Vec<Operation>,
    backoff: Backoff,
    tell: &(dyn Fn(&str) + Send + Sync),
) -> Result<Written, SearchError> {
    let mut done = Written::default();
    let places = (0..operations.len()).collect();
    // The last is next.
    let mut parts = vec![Part { operations, places }];
    let mut repetition = 0;
    while let Some(mut part) = parts.pop() {
        if part.places.is_empty() {
            continue;
        }
        let (why, after) = match engine.bulk(index, &part.operations).await {
            Ok(outcomes) => match sort_out(&mut done, &mut part, outcomes) {
                Some(why) => (why, None),
                None => {
                    repetition = 0;
                    continue;
                }
            },
            Err(SearchError::Unavailable { what, after }) => (what, after),
            Err(SearchError::TooMuch(why)) if part.places.len() == 1 => {
                done.refused.push((part.places[0], why));
                continue;
            }
            Err(SearchError::TooMuch(_)) => {
                let second = part.split();
                parts.extend([second, part]);
                continue;
            }
            Err(error) => return Err(error),
        };
        done.retries += 1;
        tell(&why);
        parts.push(part);
        tokio::time::sleep(backoff.before(repetition).max(after.unwrap_or_default())).await;
        repetition += 1;
    }
    done.refused.sort_unstable();
    Ok(done)
}

/// Counts the outcomes, and leaves in `part` what has to be written again; returns why, where anything has.
fn sort_out(done: &mut Written, part: &mut Part, outcomes: Vec<Outcome>) -> Option<String> {
    let (mut left, mut reason) = (Part::default(), None);
    let written = std::mem::take(part);
    // One that comes again after a later one of its id would take that one's place, where their versions are equal.
    let mut superseded = vec![false; outcomes.len()];
    if outcomes.iter().any(|outcome| matches!(outcome, Outcome::Busy(_))) {
        let mut later = HashMap::new();
        for (i, operation) in written.operations.iter().enumerate().rev() {
            match &outcomes[i] {
                Outcome::Written => drop(later.entry(&operation.id).or_insert(operation.version)),
                Outcome::Busy(_) => superseded[i] = later.get(&operation.id).is_some_and(|v| *v >= operation.version),
                _ => {}
            }
        }
    }
    let all = written.operations.into_iter().zip(written.places).zip(outcomes).zip(superseded);
    for (((operation, place), outcome), superseded) in all {
        match outcome {
            Outcome::Busy(_) if superseded => done.stale += 1,
            Outcome::Written => done.written += 1,
            Outcome::Stale => done.stale += 1,
            Outcome::Refused(why) => done.refused.push((place, why)),
            Outcome::Busy(why) => {
                left.operations.push(operation);
                left.places.push(place);
                reason.get_or_insert(why);
            }
        }
    }
    *part = left;
    reason
}

#[cfg(test)]
mod tests {
    use super::super::{Answer, Found, Hits, IndexSchema, Search};
    use super::*;
    use std::sync::Mutex;
    use std::time::Duration;

    /// Takes three operations at a time; answers as it is told, then "written".
    #[derive(Default)]
    struct Script {
        answers: Mutex<Vec<Result<Vec<Outcome>, SearchError>>>,
        seen: Mutex<Vec<Vec<String>>>,
    }

    impl SearchEngine for Script {
        fn bulk<'a>(&'a self, _: &'a str, operations: &'a [Operation]) -> Answer<'a, Vec<Outcome>> {
            self.seen.lock().unwrap().push(operations.iter().map(|o| o.id.clone()).collect());
            let told = self.answers.lock().unwrap().pop();
            let answer = if operations.len() > 3 || operations.iter().any(|o| o.id == "huge") {
                Err(SearchError::TooMuch("413".into()))
            } else {
                told.unwrap_or_else(|| Ok(vec![Outcome::Written; operations.len()]))
            };
            Box::pin(async { answer })
        }
        fn search<'a>(&'a self, _: &'a str, _: &'a Search) -> Answer<'a, Hits> {
            Box::pin(async { Ok(Hits::default()) })
        }
        fn document<'a>(&'a self, _: &'a str, _: &'a str) -> Answer<'a, Option<Found>> {
            Box::pin(async { Ok(None) })
        }
        fn create_index<'a>(&'a self, _: &'a str, _: &'a IndexSchema) -> Answer<'a, bool> {
            Box::pin(async { Ok(true) })
        }
        fn delete_index<'a>(&'a self, _: &'a str) -> Answer<'a, ()> {
            Box::pin(async { Ok(()) })
        }
        fn alias<'a>(&'a self, _: &'a str) -> Answer<'a, Option<String>> {
            Box::pin(async { Ok(None) })
        }
        fn point_alias<'a>(&'a self, _: &'a str, _: &'a str) -> Answer<'a, Option<String>> {
            Box::pin(async { Ok(None) })
        }
        fn refresh<'a>(&'a self, _: &'a str) -> Answer<'a, ()> {
            Box::pin(async { Ok(()) })
        }
    }

    fn write(script: &Script, ids: &[&str]) -> Result<Written, SearchError> {
        let operation = |id: &&str| Operation { id: id.to_string(), version: 1, document: None };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let backoff = Backoff { first: Duration::from_millis(1), max: Duration::from_millis(2), ..Backoff::default() };
        runtime.block_on(write_all(script, "i", ids.iter().map(operation).collect(), backoff, &|_| {}))
    }

    #[test]
    fn what_is_too_large_is_divided_and_one_that_is_too_large_alone_is_refused() {
        let script = Script::default();
        let done = write(&script, &["a", "b", "huge", "c", "d", "e"]).unwrap();
        assert_eq!((done.written, done.refused), (5, vec![(2, "413".to_string())]));
        let sizes: Vec<usize> = script.seen.lock().unwrap().iter().map(Vec::len).collect();
        assert_eq!(sizes, [6, 3, 1, 2, 1, 1, 3]);
    }

    #[test]
    fn only_what_was_not_taken_is_written_again() {
        let busy = || Outcome::Busy("429".into());
        let script = Script::default();
        script.answers.lock().unwrap().extend([
            Ok(vec![Outcome::Stale, busy()]),
            Err(SearchError::unavailable("connection reset")),
            Ok(vec![busy(), Outcome::Refused("no date".into()), busy()]),
        ]);
        let done = write(&script, &["a", "b", "c"]).unwrap();
        assert_eq!(done, Written { written: 1, stale: 1, retries: 3, refused: vec![(1, "no date".into())] });
        assert_eq!(*script.seen.lock().unwrap(), [vec!["a", "b", "c"], vec!["a", "c"], vec!["a", "c"], vec!["c"]]);
    }

    #[test]
    fn what_was_not_taken_does_not_come_again_after_a_later_write_of_its_id() {
        let busy = || Outcome::Busy("429".into());
        let script = Script::default();
        script.answers.lock().unwrap().push(Ok(vec![busy(), busy(), Outcome::Written]));
        let done = write(&script, &["a", "b", "a"]).unwrap();
        assert_eq!((done.written, done.stale), (2, 1));
        assert_eq!(*script.seen.lock().unwrap(), [vec!["a", "b", "a"], vec!["b"]]);
    }

    #[test]
    fn what_no_attempt_changes_is_an_error() {
        let script = Script::default();
        script.answers.lock().unwrap().push(Err(SearchError::NoIndex("i".into())));
        assert!(matches!(write(&script, &["a"]), Err(SearchError::NoIndex(_))));
    }
}
