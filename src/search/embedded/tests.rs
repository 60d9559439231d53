use super::*;
use crate::search::Sort;
use std::future::Future;

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

fn put(id: &str, version: i64, document: &str) -> Operation {
    Operation { id: id.into(), version, document: Some(document.as_bytes().to_vec()) }
}

fn delete(id: &str, version: i64) -> Operation {
    Operation { id: id.into(), version, document: None }
}

fn films() -> IndexSchema {
    IndexSchema::default().text("title").number("votes").date("released")
}

fn engine(folder: &tempfile::TempDir) -> EmbeddedEngine {
    let engine = EmbeddedEngine::open(folder.path()).unwrap();
    run(engine.create_index("films", &films())).unwrap();
    engine
}

fn ids(engine: &EmbeddedEngine, search: &Search) -> Vec<String> {
    run(engine.search("films", search)).unwrap().hits.into_iter().map(|hit| hit.id).collect()
}

#[test]
fn the_largest_version_stays_in_whichever_order_they_come() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(&folder);
    let write = |operations: &[Operation]| run(engine.bulk("films", operations)).unwrap();
    assert_eq!(
        write(&[put("a", 5, r#"{"title":"five"}"#), put("a", 4, r#"{"title":"four"}"#)]),
        [Outcome::Written, Outcome::Stale]
    );
    assert_eq!(write(&[put("a", 5, r#"{"title":"five again"}"#)]), [Outcome::Written]);
    let found = run(engine.document("films", "a")).unwrap().unwrap();
    assert_eq!((found.version, found.document.as_str()), (5, r#"{"title":"five again"}"#));
    assert_eq!(write(&[delete("a", 7), put("a", 6, "{}")]), [Outcome::Written, Outcome::Stale]);
    assert_eq!(write(&[put("a", 6, "{}"), delete("never-there", 1)]), [Outcome::Stale, Outcome::Written]);
    assert_eq!(run(engine.document("films", "a")).unwrap(), None);
    assert_eq!(run(engine.search("films", &Search::new(""))).unwrap().total, 0);
    assert_eq!(write(&[put("a", 8, r#"{"title":"eight"}"#)]), [Outcome::Written]);
    assert_eq!(ids(&engine, &Search::new("eight")), ["a"]);
}

#[test]
fn words_are_found_and_sorted() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(&folder);
    let documents = [
        put("1", 1, r#"{"title":"Star Wars","votes":900,"released":"1977-05-25"}"#),
        put("2", 1, r#"{"title":"The Star","votes":"12.5","released":1000}"#),
        put("3", 1, r#"{"title":"Wars of the Roses","votes":null}"#),
    ];
    run(engine.bulk("films", &documents)).unwrap();
    assert_eq!(ids(&engine, &Search::new("STAR wa")), ["1"]);
    assert_eq!(ids(&engine, &Search::new("wars star")), ["1"]);
    assert_eq!(ids(&engine, &Search::new("!?")), [""; 0]);
    let all = |sort| ids(&engine, &Search::new("").sort(sort));
    assert_eq!(all(Sort::Largest("votes".into())), ["1", "2", "3"]);
    assert_eq!(all(Sort::Smallest("votes".into()))[..2], ["2", "1"]);
    assert_eq!(all(Sort::Largest("released".into())), ["1", "2", "3"]);
    let page = Search::new("").sort(Sort::Largest("votes".into())).page(1, 1);
    assert_eq!(ids(&engine, &page), ["2"]);
    let unknown = run(engine.search("films", &Search::new("").sort(Sort::Largest("x".into()))));
    assert!(matches!(unknown, Err(SearchError::Refused(_))));
}

#[test]
fn documents_that_do_not_fit_are_refused_alone() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(&folder);
    let documents = [put("1", 1, "[1]"), put("2", 1, r#"{"votes":"many"}"#), put("3", 1, r#"{"votes":3}"#)];
    let outcomes = run(engine.bulk("films", &documents)).unwrap();
    assert!(matches!(&outcomes[..2], [Outcome::Refused(_), Outcome::Refused(why)] if why.contains("votes")));
    assert_eq!(outcomes[2], Outcome::Written);
}

#[test]
fn what_is_acknowledged_is_there_when_the_folder_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    {
        let engine = engine(&folder);
        run(engine.bulk("films", &[put("a", 1, r#"{"title":"x"}"#)])).unwrap();
        run(engine.create_index("films-2", &films())).unwrap();
        assert_eq!(run(engine.point_alias("all", "films")).unwrap(), None);
        assert_eq!(run(engine.point_alias("all", "films-2")).unwrap().as_deref(), Some("films"));
        assert!(matches!(run(engine.point_alias("films", "films-2")), Err(SearchError::Refused(_))));
        run(engine.bulk("all", &[put("b", 1, r#"{"title":"y"}"#)])).unwrap();
    }
    let engine = EmbeddedEngine::open(folder.path()).unwrap();
    assert_eq!(run(engine.alias("all")).unwrap().as_deref(), Some("films-2"));
    assert_eq!(run(engine.search("all", &Search::new("y"))).unwrap().total, 1);
    assert_eq!(ids(&engine, &Search::new("x")), ["a"]);
    assert!(matches!(run(engine.delete_index("films-2")), Err(SearchError::Refused(_))));
    run(engine.delete_index("films")).unwrap();
    assert!(matches!(run(engine.search("films", &Search::new(""))), Err(SearchError::NoIndex(_))));
}

/// As with a full disk: whatever goes wrong, the next attempt after that is over succeeds.
#[test]
fn writing_goes_on_when_the_disk_can_be_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(&folder);
    let write = |id: &str| run(engine.bulk("films", &[put(id, 1, r#"{"title":"x"}"#)]));
    assert_eq!(write("a").unwrap(), [Outcome::Written]);
    let (index, away) = (folder.path().join("films"), folder.path().join("away"));
    std::fs::rename(&index, &away).unwrap();
    for attempt in 1..=3 {
        let error = write("b").unwrap_err();
        assert!(error.is_retriable(), "{attempt}: {error}");
    }
    std::fs::rename(&away, &index).unwrap();
    assert_eq!(write("b").unwrap(), [Outcome::Written]);
    assert_eq!(run(engine.search("films", &Search::new("x"))).unwrap().total, 2);
}
