//! What all answers have in common.

use warp::http::{Response, StatusCode};

pub(super) const JSON: &str = "application/json";

pub(super) fn line(body: &impl serde::Serialize) -> String {
    let mut line = serde_json::to_string(body).expect("the answers have only string keys");
    line.push('\n');
    line
}

/// Whatever is told here is true only now, so nobody may keep it.
pub(super) fn reply(code: StatusCode, content_type: &'static str, body: String) -> Response<String> {
    Response::builder()
        .status(code)
        .header("content-type", content_type)
        .header("cache-control", "no-store")
        .header("x-content-type-options", "nosniff")
        .body(body)
        .expect("the headers are valid constants")
}
