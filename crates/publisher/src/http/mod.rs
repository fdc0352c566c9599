//! The transport through a gateway, for producers that cannot reach Redis.

mod answer;
mod request;

use std::time::Duration;

use bytes::Bytes;
use crewcast_events::{Channel, EventId};
use crewcast_store::{Append, AppendError, Ownership, OwnershipMode, OwnershipOutcome, Transport};
use parking_lot::Mutex;
use reqwest::{
    Client, StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use tokio::time::Instant;

use crate::builder::ConnectError;

/// Time limit for a new connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit for a whole request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Publishes and registers through `POST /api/v1/publish` and `POST /api/v1/directory`.
pub struct HttpTransport {
    client: Client,
    publish: Url,
    directory: Url,
    with_leases: bool,
    /// No request before this moment: the gateway asked for the pause (`Retry-After`).
    not_before: Mutex<Option<Instant>>,
}

impl HttpTransport {
    /// A transport to the gateway at `url` (its root, `http://` or `https://`), with a bearer token.
    ///
    /// # Errors
    /// [`ConnectError`] when the URL or the token is invalid, or TLS could not be set up.
    pub fn new(url: &str, token: &str) -> Result<Self, ConnectError> {
        let bad_url = ConnectError::Http("a gateway's URL is of the form https://host[:port][/path]");
        let Ok(root) = Url::parse(&format!("{}/", url.trim_end_matches('/'))) else { return Err(bad_url) };
        if !matches!(root.scheme(), "http" | "https") || !root.username().is_empty() || root.query().is_some() {
            return Err(bad_url);
        }
        let (Ok(publish), Ok(directory)) = (root.join("api/v1/publish"), root.join("api/v1/directory")) else {
            return Err(bad_url);
        };
        let mut bearer = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| ConnectError::Http("the token has characters that no header may have"))?;
        bearer.set_sensitive(true);
        // TLS needs one provider for the process. An error means that one is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .default_headers(HeaderMap::from_iter([(AUTHORIZATION, bearer)]))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .build()
            .map_err(|_| ConnectError::Http("TLS could not be set up"))?;
        Ok(Self { client, publish, directory, with_leases: false, not_before: Mutex::default() })
    }

    /// Sends the entries' leases, too. A publisher renews leases in the background, which HTTP cannot: its leases are
    /// left out. A caller that renews them with events sets this.
    #[must_use]
    pub fn with_leases(mut self) -> Self {
        self.with_leases = true;
        self
    }

    async fn post(&self, url: &Url, kind: &'static str, body: Vec<u8>) -> Result<answer::Answer, AppendError> {
        let not_before = *self.not_before.lock();
        if let Some(at) = not_before {
            tokio::time::sleep_until(at).await;
        }
        let request = self.client.post(url.clone()).header(CONTENT_TYPE, kind).body(body);
        let response = request.send().await.map_err(answer::no_answer)?;
        let answer = answer::read(response).await?;
        if let Some(pause) = answer.retry_after {
            *self.not_before.lock() = Some(Instant::now() + pause);
        }
        Ok(answer)
    }

    async fn publish(&self, request: request::Request) -> Result<Vec<Option<EventId>>, AppendError> {
        let answer = self.post(&self.publish, request.content_type, request.body).await?;
        let ids = answer.ids()?;
        if ids.len() != request.lines {
            return Err(answer::not_understood());
        }
        Ok(ids)
    }
}

#[async_trait::async_trait]
impl Transport for HttpTransport {
    async fn append(&self, append: &Append) -> Result<Vec<Option<EventId>>, AppendError> {
        let mut ids = Vec::with_capacity(append.entries.len());
        for request in request::of_append(append, self.with_leases)? {
            ids.extend(self.publish(request).await?);
        }
        Ok(ids)
    }

    async fn publish_live(&self, channel: &Channel, message: Bytes) -> Result<(), AppendError> {
        self.publish(request::live(channel, &message)?).await.map(drop)
    }

    async fn register(&self, ownership: &Ownership, mode: OwnershipMode) -> Result<OwnershipOutcome, AppendError> {
        if mode != OwnershipMode::Keep {
            return Err(AppendError::Refused("over HTTP an id is only registered, not moved or removed".to_owned()));
        }
        let body = serde_json::to_vec(ownership).map_err(|error| AppendError::Refused(error.to_string()))?;
        let answer = self.post(&self.directory, request::JSON, body).await?;
        if answer.status == StatusCode::CONFLICT {
            return Ok(OwnershipOutcome::OwnedBy("another org".to_owned()));
        }
        answer.accepted().map(|_| OwnershipOutcome::Done)
    }
}
