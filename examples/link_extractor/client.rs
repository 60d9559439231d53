//! The slow service, as its client sees it. Any HTTP client will do: take the one that you know.

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::RETRY_AFTER;
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use watersmeet::prelude::CallError;

/// What the service has found in a text.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Found {
    pub links: Vec<Link>,
    /// How long the service took.
    pub ms: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Link {
    pub url: String,
    pub host: String,
}

#[derive(Clone)]
pub struct LinkService {
    http: Client<HttpConnector, Full<Bytes>>,
    address: String,
}

impl LinkService {
    /// The one at `address` (`host:port`).
    pub fn new(address: String) -> Self {
        Self { http: Client::builder(TokioExecutor::new()).build_http(), address }
    }

    pub async fn extract(&self, text: &str) -> Result<Found, CallError> {
        let request = Request::post(format!("http://{}/extract", self.address)).body(Full::from(text.to_owned()));
        let answer = self.http.request(request.map_err(CallError::permanent)?).await?;
        let (status, retry_after) = (answer.status(), answer.headers().get(RETRY_AFTER));
        let seconds = retry_after.and_then(|seconds| seconds.to_str().ok()?.parse().ok());
        let body = answer.into_body().collect().await?.to_bytes();
        let what = || format!("the service answers {status}: {}", body.trim_ascii().escape_ascii());
        match (status, seconds) {
            (StatusCode::OK, _) => Ok(serde_json::from_slice(&body).map_err(CallError::permanent)?),
            // The service has had enough, or is being restarted.
            _ if status != StatusCode::TOO_MANY_REQUESTS && !status.is_server_error() => {
                Err(CallError::permanent(what()))
            }
            (_, Some(seconds)) => Err(CallError::after(Duration::from_secs(seconds), what())),
            (_, None) => Err(CallError::passing(what())),
        }
    }
}
