//! The webhook: one POST at a time, repeated until it is accepted.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use crewcast_events::{Channel, EventId, timestamp};
use reqwest::{Client, RequestBuilder, Response, Url, header::CONTENT_TYPE};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    retry::{self, Backoff, Verdict},
    signature::{self, SigningSecret},
};
use crate::error::CliError;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of a response body is read, in bytes. Reading it to the end lets the connection be reused.
const MAX_RESPONSE: usize = 64 << 10;

/// The target of forwarded events.
pub(super) struct Webhook {
    client: Client,
    url: Url,
    secret: Option<SigningSecret>,
}

/// One event or control message to post.
pub(super) struct Post<'a> {
    /// The channel.
    pub channel: &'a Channel,
    /// The event's id; `None` for live events and control messages.
    pub id: Option<EventId>,
    /// The type of a control message.
    pub control: Option<&'static str>,
    /// The body, byte for byte.
    pub body: Bytes,
}

/// How a delivery ended.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum PostOutcome {
    /// The webhook has answered 2xx.
    Accepted,
    /// The webhook refuses the event permanently, with this status.
    Refused(String),
    /// The process has to end before the event is accepted.
    Interrupted,
}

/// A failed attempt that must be repeated.
struct FailedAttempt {
    why: String,
    retry_after: Option<Duration>,
}

impl Webhook {
    /// Creates a webhook with this address.
    ///
    /// # Errors
    /// [`CliError`] when the address or the timeout is invalid, or the secret cannot be read.
    pub(super) fn new(to: &str, secret: Option<&Path>, timeout: Duration) -> Result<Self, CliError> {
        let url = Url::parse(to).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let Some(url) = url else {
            return Err(CliError::Usage("--to must have the form https://host[:port][/path]".to_owned()));
        };
        if timeout.is_zero() {
            return Err(CliError::Usage("--timeout must be longer than 0".to_owned()));
        }
        let secret = secret.map(SigningSecret::read).transpose()?;
        let client = Client::builder()
            // A redirected POST could become a GET without the event.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("crewcast/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(timeout)
            .build()
            .map_err(|_| CliError::Failed("TLS could not be set up".to_owned()))?;
        Ok(Self { client, url, secret })
    }

    /// Posts until the webhook accepts the event or refuses it permanently.
    ///
    /// When `shutdown` is cancelled, the current attempt is still finished.
    pub(super) async fn deliver(&self, post: &Post<'_>, shutdown: &CancellationToken) -> PostOutcome {
        let mut backoff = Backoff::default();
        while !shutdown.is_cancelled() {
            let failed = match self.attempt(post).await {
                Ok(outcome) => return outcome,
                Err(failed) => failed,
            };
            let delay = backoff.delay(failed.retry_after);
            let host = self.url.host_str().unwrap_or_default();
            eprintln!("-- {}: {host} {}; trying again in {:.1} s", post.channel, failed.why, delay.as_secs_f64());
            shutdown.run_until_cancelled(sleep(delay)).await;
        }
        PostOutcome::Interrupted
    }

    async fn attempt(&self, post: &Post<'_>) -> Result<PostOutcome, FailedAttempt> {
        let response = self.request(post).send().await.map_err(no_answer)?;
        let status = response.status();
        let retry_after = retry::retry_after(response.headers(), SystemTime::now());
        drain(response).await;
        match retry::verdict(status) {
            Verdict::Accepted => Ok(PostOutcome::Accepted),
            Verdict::Refused => Ok(PostOutcome::Refused(format!("HTTP {}", status.as_u16()))),
            Verdict::Retry => Err(FailedAttempt { why: format!("answers HTTP {}", status.as_u16()), retry_after }),
        }
    }

    fn request(&self, post: &Post<'_>) -> RequestBuilder {
        let mut request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("x-stream-id", post.channel.id())
            .header("x-crewcast-channel", post.channel.as_str());
        if let Some(id) = post.id {
            request = request.header("x-crewcast-event-id", id.to_string());
        }
        if let Some(kind) = post.control {
            request = request.header("x-crewcast-control", kind);
        }
        let now = timestamp::unix_now();
        if let Some(signature) = self.secret.as_ref().and_then(|secret| secret.sign(now, &post.body)) {
            request = request.header(signature::HEADER, signature);
        }
        request.body(post.body.clone())
    }
}

/// Reads the rest of a response. Errors do not matter: the status has decided the outcome.
async fn drain(mut response: Response) {
    let mut read = 0;
    while let Ok(Some(chunk)) = response.chunk().await {
        read += chunk.len();
        if read > MAX_RESPONSE {
            return;
        }
    }
}

/// Describes an error without the URL, which may contain a secret.
fn no_answer(error: reqwest::Error) -> FailedAttempt {
    let what = if error.is_timeout() {
        "does not answer in time"
    } else if error.is_connect() {
        "cannot be reached"
    } else {
        "broke off the connection"
    };
    FailedAttempt { why: what.to_owned(), retry_after: None }
}
