//! Both engines behind the trait, asked the same.

use std::future::Future;
use watersmeet::search::{
    EmbeddedEngine, IndexSchema, OpenSearch, Operation, Outcome, Search, SearchEngine, SearchError, Sort,
};

pub fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn put(id: &str, version: i64, document: &str) -> Operation {
    Operation { id: id.into(), version, document: Some(document.as_bytes().to_vec()) }
}

fn delete(id: &str, version: i64) -> Operation {
    Operation { id: id.into(), version, document: None }
}

async fn ids(engine: &dyn SearchEngine, index: &str, search: Search) -> Vec<String> {
    let hits = engine.search(index, &search).await.unwrap();
    assert!(hits.total >= hits.hits.len() as u64);
    hits.hits.into_iter().map(|hit| hit.id).collect()
}

pub async fn all_that_is_promised(engine: &dyn SearchEngine) {
    let schema = IndexSchema::default().text("name").text("director").number("popularity").date("created_at");
    assert!(engine.create_index("films-1", &schema).await.unwrap());
    assert!(!engine.create_index("films-1", &schema).await.unwrap());
    assert_eq!(engine.alias("films").await.unwrap(), None);
    assert_eq!(engine.point_alias("films", "films-1").await.unwrap(), None);

    // Versions, in one request and across requests, through the alias.
    let write = async |operations: &[Operation]| engine.bulk("films", operations).await.unwrap();
    let first_document = "{\n\"name\":\"Star Wars\",\"popularity\":900,\"director\":\"George Lucas\",\"x\":1,\"created_at\":\"1977-05-25\"}";
    let first = [
        put("a", 10, first_document),
        put("b/ü?", 11, r#"{"name":"The Star","popularity":12.5,"created_at":1000}"#),
        put("c", 12, r#"{"name":"Wars of the Roses","x":"not a number"}"#),
        put("a", 9, r#"{"name":"older"}"#),
    ];
    assert_eq!(write(&first).await, [Outcome::Written, Outcome::Written, Outcome::Written, Outcome::Stale]);
    // Of one version the last: the same record again, or a further document of it.
    let again = put("a", 10, &first_document.replace("1977-05-25", "1977-05-26"));
    assert_eq!(write(&[put("a", 10, r#"{"name":"once more"}"#), again]).await, [Outcome::Written, Outcome::Written]);
    let found = engine.document("films", "a").await.unwrap().unwrap();
    assert_eq!((found.version, found.document.contains("1977-05-26")), (10, true));
    assert_eq!(write(&[delete("d", 5), put("d", 4, r#"{"name":"late"}"#)]).await, [Outcome::Written, Outcome::Stale]);
    assert_eq!(write(&[delete("d", 5)]).await, [Outcome::Written]);
    assert_eq!(
        write(&[put("d", 6, r#"{"name":"again"}"#), delete("d", 7)]).await,
        [Outcome::Written, Outcome::Written]
    );
    assert_eq!(write(&[put("d", 6, r#"{"name":"late"}"#)]).await, [Outcome::Stale]);

    // What does not fit is refused alone.
    let outcomes = write(&[put("x", 1, r#"{"popularity":"many"}"#), put("e", 1, r#"{"name":"Else"}"#)]).await;
    assert!(
        matches!(&outcomes[..], [Outcome::Refused(why), Outcome::Written] if why.contains("popularity")),
        "{outcomes:?}"
    );
    write(&[delete("e", 2)]).await;

    // Documents by their ids, at once.
    let found = engine.document("films", "b/ü?").await.unwrap().unwrap();
    assert_eq!((found.version, found.document.contains("The Star")), (11, true));
    assert_eq!(engine.document("films", "d").await.unwrap(), None);

    // Searches.
    engine.refresh("films").await.unwrap();
    let all = |sort| Search::new("").sort(sort);
    assert_eq!(ids(engine, "films", Search::new("star WA")).await, ["a"]);
    assert_eq!(ids(engine, "films", Search::new("wars star").in_fields(["name"])).await, ["a"]);
    assert_eq!(ids(engine, "films", Search::new("lucas star! -")).await, ["a"]);
    assert_eq!(ids(engine, "films", Search::new("lucas").in_fields(["name"])).await, [""; 0]);
    assert_eq!(ids(engine, "films", Search::new("900")).await, [""; 0]);
    assert_eq!(ids(engine, "films", Search::new("nothing of it")).await, [""; 0]);
    assert_eq!(ids(engine, "films", Search::new("?!")).await, [""; 0]);
    assert_eq!(ids(engine, "films", all(Sort::Largest("popularity".into()))).await, ["a", "b/ü?", "c"]);
    assert_eq!(ids(engine, "films", all(Sort::Smallest("popularity".into()))).await, ["b/ü?", "a", "c"]);
    assert_eq!(ids(engine, "films", all(Sort::Largest("created_at".into())).page(1, 1)).await, ["b/ü?"]);
    assert_eq!(engine.search("films", &Search::new("").page(0, 0)).await.unwrap().total, 3);
    let too_far = engine.search("films", &Search::new("").page(9_999, 2)).await;
    assert!(matches!(too_far, Err(SearchError::Refused(_))));

    // A new index takes the old one's place.
    engine.create_index("films-2", &schema).await.unwrap();
    engine.bulk("films-2", &[put("new", 1, r#"{"name":"New"}"#)]).await.unwrap();
    assert_eq!(engine.point_alias("films", "films-2").await.unwrap().as_deref(), Some("films-1"));
    assert_eq!(engine.alias("films").await.unwrap().as_deref(), Some("films-2"));
    engine.refresh("films").await.unwrap();
    assert_eq!(ids(engine, "films", Search::new("")).await, ["new"]);
    engine.delete_index("films-1").await.unwrap();
    engine.delete_index("films-1").await.unwrap();
    assert!(matches!(engine.search("films-1", &Search::new("")).await, Err(SearchError::NoIndex(_))));
    assert!(matches!(engine.bulk("Not/A/Name", &[]).await, Err(SearchError::Refused(_))));
    // Nothing is made without a schema.
    let nowhere = engine.bulk("nowhere", &[put("a", 1, r#"{"name":"x"}"#)]).await;
    assert!(matches!(nowhere, Err(SearchError::NoIndex(_))), "{nowhere:?}");
    assert!(matches!(engine.search("nowhere", &Search::new("")).await, Err(SearchError::NoIndex(_))));
}

#[test]
fn the_embedded_engine_keeps_its_promises() {
    let folder = tempfile::tempdir().unwrap();
    run(all_that_is_promised(&EmbeddedEngine::open(folder.path()).unwrap()));
}

/// Another than the tests bring, such as Elasticsearch: `WATERSMEET_SEARCH_ENGINE=http://127.0.0.1:9200`.
#[test]
fn a_server_that_is_given_keeps_its_promises() {
    let Ok(url) = std::env::var("WATERSMEET_SEARCH_ENGINE") else { return };
    let engine = OpenSearch::new(&url).unwrap();
    run(async {
        engine.delete_index("films-1").await.unwrap();
        engine.delete_index("films-2").await.unwrap();
        all_that_is_promised(&engine).await;
    });
}

#[test]
fn a_server_that_is_not_there_is_worth_another_attempt() {
    // A port that nobody listens on, since its listener has gone.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let engine = OpenSearch::new(&format!("http://{address}")).unwrap();
    let error = run(engine.alias("films")).unwrap_err();
    assert!(error.is_retriable(), "{error}");
    assert!(error.to_string().to_lowercase().contains("refused"), "{error}");
}
