//! One function from request to answer; the server around it only carries bytes.

use super::reply::{JSON, line, reply};
use super::{View, probes, stores};
use crate::metrics;
use serde_json::json;
use warp::http::{Method, Response, StatusCode};

/// The page for people: everything in one document, which works without a network.
const PAGE: &str = concat!(
    include_str!("page/head.html"),
    "<style>\n",
    include_str!("page/style.css"),
    "</style>\n",
    include_str!("page/body.html"),
    "<script>\n",
    include_str!("page/topology.js"),
    include_str!("page/live.js"),
    "</script>\n</body>\n</html>\n",
);
const PATHS: [&str; 8] = ["/", "/health", "/livez", "/readyz", "/startupz", "/metrics", "/topology", "/stores"];
const FORMATS: [&str; 4] = ["text", "mermaid", "dot", "json"];

const TEXT: &str = "text/plain; charset=utf-8";
/// The page carries its own script and styles, and talks to nobody but this server.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; \
                           img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'";

/// The answer to a request.
pub(super) fn answer(view: &dyn View, method: &Method, path: &str, query: &str) -> Response<String> {
    if method != Method::GET && method != Method::HEAD {
        let body = json!({ "error": "this server only answers GET and HEAD", "paths": PATHS });
        let mut response = reply(StatusCode::METHOD_NOT_ALLOWED, JSON, line(&body));
        response.headers_mut().insert("allow", warp::http::HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/" => page(),
        "/health" => {
            let status = view.status();
            reply(code(status.is_live()), JSON, probes::health(&status))
        }
        "/livez" => probe(&probes::live(&view.status())),
        "/readyz" => probe(&probes::ready(&view.status())),
        "/startupz" => probe(&probes::started(&view.status())),
        "/metrics" => reply(StatusCode::OK, metrics::CONTENT_TYPE, view.metrics_text()),
        "/topology" => topology(view, query),
        path if path == "/stores" || path.starts_with("/stores/") => {
            view.stores().map_or_else(|| nothing_at(path), |stores| stores::answer(&stores, path, query))
        }
        _ => nothing_at(path),
    }
}

fn nothing_at(path: &str) -> Response<String> {
    let body = json!({ "error": format!("there is nothing at {path}"), "paths": PATHS });
    reply(StatusCode::NOT_FOUND, JSON, line(&body))
}

/// Where making the answer panicked; the panic hook has said more.
pub(super) fn panicked() -> Response<String> {
    let body = json!({ "error": "this is a defect of watersmeet: please report it with the log" });
    reply(StatusCode::INTERNAL_SERVER_ERROR, JSON, line(&body))
}

fn page() -> Response<String> {
    let mut response = reply(StatusCode::OK, "text/html; charset=utf-8", PAGE.to_owned());
    let policy = warp::http::HeaderValue::from_static(PAGE_POLICY);
    response.headers_mut().insert("content-security-policy", policy);
    response
}

fn probe(verdict: &probes::Verdict) -> Response<String> {
    reply(code(verdict.ok), JSON, line(verdict))
}

fn topology(view: &dyn View, query: &str) -> Response<String> {
    let format = query.split('&').find_map(|pair| pair.strip_prefix("format=")).unwrap_or("text");
    let views = view.topology();
    match format {
        "text" => reply(StatusCode::OK, TEXT, views.text),
        "mermaid" => reply(StatusCode::OK, TEXT, views.mermaid),
        "dot" => reply(StatusCode::OK, "text/vnd.graphviz; charset=utf-8", views.dot),
        "json" => reply(StatusCode::OK, JSON, views.json),
        _ => {
            let body = json!({ "error": format!("there is no format {format}"), "formats": FORMATS });
            reply(StatusCode::BAD_REQUEST, JSON, line(&body))
        }
    }
}

fn code(ok: bool) -> StatusCode {
    if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
