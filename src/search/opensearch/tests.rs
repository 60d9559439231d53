//! What is sent and what is read, without a server; `tests/search` has one.

use super::*;
use hyper::body::Bytes;

fn operation(id: &str, version: i64, document: Option<&str>) -> Operation {
    Operation { id: id.into(), version, document: document.map(|d| d.as_bytes().to_vec()) }
}

fn answered(status: u16, body: &str) -> Result<Response, SearchError> {
    let status = StatusCode::from_u16(status).unwrap();
    succeeded(Response { status, after: None, body: Bytes::copy_from_slice(body.as_bytes()) })
}

#[test]
fn a_bulk_has_a_line_for_each_write_and_one_for_each_document() {
    let body = bulk::body(&[operation("a\"b", 7, Some("{\n \"x\": 1}")), operation("c", 8, None)]);
    let lines = "{\"index\":{\"_id\":\"a\\\"b\",\"version\":7,\"version_type\":\"external_gte\"}}\n{  \"x\": 1}\n\
                 {\"delete\":{\"_id\":\"c\",\"version\":8,\"version_type\":\"external_gte\"}}\n";
    assert_eq!(String::from_utf8(body).unwrap(), lines);
}

#[test]
fn each_item_has_its_outcome() {
    let item = |status: u16, kind: &str| {
        format!(r#"{{"index":{{"status":{status},"error":{{"type":"{kind}","reason":"r"}}}}}}"#)
    };
    let answer = format!(
        r#"{{"errors":true,"items":[{{"index":{{"status":201}}}},{{"delete":{{"status":404}}}},{},{},{},{}]}}"#,
        item(409, "version_conflict_engine_exception"),
        item(429, "rejected_execution_exception"),
        item(403, "cluster_block_exception"),
        item(400, "mapper_parsing_exception"),
    );
    let outcomes = bulk::outcomes(answer.as_bytes(), 6).unwrap();
    let refused = Outcome::Refused("400 mapper_parsing_exception: r".into());
    assert_eq!(outcomes[..3], [Outcome::Written, Outcome::Written, Outcome::Stale]);
    assert!(matches!(&outcomes[3..5], [Outcome::Busy(_), Outcome::Busy(_)]));
    assert_eq!(outcomes[5], refused);
    let missing = format!(r#"{{"errors":true,"items":[{}]}}"#, item(404, "index_not_found_exception"));
    assert!(matches!(bulk::outcomes(missing.as_bytes(), 1), Err(SearchError::NoIndex(_))));
}

#[test]
fn an_answer_that_is_not_complete_is_asked_for_again() {
    assert!(bulk::outcomes(b"<html>bad gateway</html>", 1).unwrap_err().is_retriable());
    assert!(bulk::outcomes(br#"{"errors":false,"items":[]}"#, 1).unwrap_err().is_retriable());
}

#[test]
fn the_status_says_whether_another_attempt_helps() {
    assert!(answered(200, "{}").is_ok());
    for status in [429, 500, 502, 503, 504] {
        assert!(answered(status, "busy").is_err_and(|e| e.is_retriable()), "{status}");
    }
    assert!(matches!(answered(413, ""), Err(SearchError::TooMuch(_))));
    assert!(matches!(answered(401, "no"), Err(SearchError::Refused(_))));
    let missing = r#"{"error":{"type":"index_not_found_exception","reason":"no such index [x]"},"status":404}"#;
    assert!(matches!(answered(404, missing), Err(SearchError::NoIndex(_))));
}

#[test]
fn ids_go_into_paths() {
    assert_eq!(in_path("a b/ü"), "a%20b%2F%C3%BC");
}
