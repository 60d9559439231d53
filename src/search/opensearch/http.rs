//! HTTP as far as a search engine needs it: one server, JSON both ways, connections that stay open, time limits.

use super::super::SearchError;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_tls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use native_tls::{Certificate, TlsConnector};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinHandle;
use tokio::time::error::Elapsed;

/// How long a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// How long a request may take.
const REQUEST_MAX: Duration = Duration::from_secs(30);
/// How many bytes an answer may have.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A client of one server.
pub(super) struct Http {
    client: Client<Tls, Full<Bytes>>,
    /// Scheme, host and port, and the path in front of all others, without the last slash.
    base: String,
    authorization: Option<HeaderValue>,
}

/// An answer, whatever its status.
pub(super) struct Response {
    pub(super) status: StatusCode,
    /// How long the server asked to wait.
    pub(super) after: Option<Duration>,
    pub(super) body: Bytes,
}

impl Http {
    pub(super) fn new(url: &str) -> Result<Self, SearchError> {
        let uri: Uri = url.parse().map_err(|e| SearchError::Refused(format!("{url:?} is no URL: {e}")))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return Err(SearchError::Refused(format!("{url:?} is no URL such as http://127.0.0.1:9200")));
        }
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            // Not repeated here: it has a password.
            let what = "the URL has a user in it: name user and password beside it, so that no log shows them";
            return Err(SearchError::Refused(what.into()));
        }
        let client = client(&[])?;
        Ok(Self { client, base: url.trim_end_matches('/').to_string(), authorization: None })
    }

    /// Trusts these authorities besides those of the system.
    pub(super) fn trust(&mut self, pem: &[u8]) -> Result<(), SearchError> {
        let refused = |why: String| SearchError::Refused(format!("these are no certificates as PEM: {why}"));
        let certificates = Certificate::stack_from_pem(pem).map_err(|e| refused(e.to_string()))?;
        if certificates.is_empty() {
            return Err(refused("there is none".into()));
        }
        self.client = client(&certificates)?;
        Ok(())
    }

    pub(super) fn authorize(&mut self, value: &str) -> Result<(), SearchError> {
        let mut value = HeaderValue::from_str(value)
            .map_err(|_| SearchError::Refused("the authorization has characters that no header takes".into()))?;
        value.set_sensitive(true);
        self.authorization = Some(value);
        Ok(())
    }

    /// Makes a request. An error means that there was no answer.
    pub(super) async fn request(
        &self,
        method: Method,
        path: &str,
        content_type: &'static str,
        body: Vec<u8>,
    ) -> Result<Response, SearchError> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, content_type);
        }
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let request =
            request.body(Full::from(body)).map_err(|e| SearchError::Refused(format!("{path:?} is no path: {e}")))?;
        let exchange = tokio::time::timeout(REQUEST_MAX, exchange(self.client.clone(), request));
        let mut running = Running(runtime()?.spawn(exchange));
        match (&mut running.0).await {
            Ok(Ok(response)) => response,
            Ok(Err(_)) => Err(SearchError::unavailable(format!("no answer within {} s", REQUEST_MAX.as_secs()))),
            Err(broken) => Err(SearchError::unavailable(broken)),
        }
    }
}

type Tls = HttpsConnector<HttpConnector>;

fn client(trusted: &[Certificate]) -> Result<Client<Tls, Full<Bytes>>, SearchError> {
    let mut tcp = HttpConnector::new();
    tcp.set_connect_timeout(Some(CONNECT_MAX));
    tcp.set_nodelay(true);
    tcp.enforce_http(false);
    let mut tls = TlsConnector::builder();
    for certificate in trusted {
        tls.add_root_certificate(certificate.clone());
    }
    let tls = tls.build().map_err(|e| SearchError::Refused(format!("TLS cannot be used: {e}")))?;
    let mut client = Client::builder(TokioExecutor::new());
    client.pool_timer(TokioTimer::new()).pool_idle_timeout(Duration::from_secs(20));
    Ok(client.build(HttpsConnector::from((tcp, tls.into()))))
}

async fn exchange(client: Client<Tls, Full<Bytes>>, request: Request<Full<Bytes>>) -> Result<Response, SearchError> {
    let response = client.request(request).await.map_err(|e| SearchError::unavailable(causes(&e)))?;
    let status = response.status();
    let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|e| SearchError::unavailable(format!("its answer broke off: {e}")))?.to_bytes();
    Ok(Response { status, after: seconds.map(Duration::from_secs), body })
}

/// A request under way; who no longer waits for it cancels it.
struct Running(JoinHandle<Result<Result<Response, SearchError>, Elapsed>>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Where all requests run: on one thread of this process. A connection stays open for others, and so belongs to nobody whose
/// runtime may stand still.
fn runtime() -> Result<&'static Handle, SearchError> {
    static RUNTIME: Mutex<Option<&'static Handle>> = Mutex::new(None);
    let mut runtime = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = *runtime {
        return Ok(handle);
    }
    let new = Builder::new_current_thread().enable_all().build().map_err(SearchError::unavailable)?;
    let handle: &'static Handle = Box::leak(Box::new(new.handle().clone()));
    let run = move || new.block_on(std::future::pending::<()>());
    std::thread::Builder::new().name("search".into()).spawn(run).map_err(SearchError::unavailable)?;
    Ok(runtime.insert(handle))
}

/// An error with all that caused it: the outermost alone says only "client error".
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
