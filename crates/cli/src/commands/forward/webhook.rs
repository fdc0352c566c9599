//! The webhook: one POST at a time, as often as it takes.

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
    signature::{self, Secret},
};
use crate::error::CliError;

/// How long a connection may take to come up.
const CONNECTING: Duration = Duration::from_secs(10);
/// How much of an answer is read, so that the connection can be used again: what it says does not matter.
const LONGEST_ANSWER: usize = 64 << 10;

/// Where events go.
pub struct Webhook {
    client: Client,
    url: Url,
    secret: Option<Secret>,
}

/// One event, or a word of the gateway, on its way.
pub struct Post<'a> {
    /// Whose.
    pub channel: &'a Channel,
    /// The event's id; `None`: it is live, or no event.
    pub id: Option<EventId>,
    /// The kind of the gateway's word, where it is one.
    pub control: Option<&'static str>,
    /// What is posted, byte for byte.
    pub body: Bytes,
}

/// How a delivery ended.
#[derive(PartialEq, Eq, Debug)]
pub enum Outcome {
    /// 2xx.
    Accepted,
    /// It would be refused as often as it is sent.
    Refused(String),
    /// The process is to end, and it is not accepted yet.
    Interrupted,
}

/// How an attempt ended that did not settle it.
struct Failed {
    why: String,
    asked: Option<Duration>,
}

impl Webhook {
    /// A webhook at this address.
    ///
    /// # Errors
    /// [`CliError`] when the address is none, or the secret cannot be read.
    pub fn new(to: &str, secret: Option<&Path>, timeout: Duration) -> Result<Self, CliError> {
        let url = Url::parse(to).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let Some(url) = url else {
            return Err(CliError::Usage("--to is of the form https://host[:port][/path]".to_owned()));
        };
        if timeout.is_zero() {
            return Err(CliError::Usage("--timeout is longer than nothing".to_owned()));
        }
        let secret = secret.map(Secret::read).transpose()?;
        let client = Client::builder()
            // A redirected POST becomes a GET that says nothing.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("crewcast/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECTING)
            .timeout(timeout)
            .build()
            .map_err(|_| CliError::Failed("TLS could not be set up".to_owned()))?;
        Ok(Self { client, url, secret })
    }

    /// Posts until it is accepted or refused for good. An attempt that has begun is finished even when `going` is cancelled.
    pub async fn deliver(&self, post: &Post<'_>, going: &CancellationToken) -> Outcome {
        let mut backoff = Backoff::default();
        while !going.is_cancelled() {
            let failed = match self.attempt(post).await {
                Ok(outcome) => return outcome,
                Err(failed) => failed,
            };
            let pause = backoff.pause(failed.asked);
            let host = self.url.host_str().unwrap_or_default();
            eprintln!("-- {}: {host} {}; again in {:.1} s", post.channel, failed.why, pause.as_secs_f64());
            going.run_until_cancelled(sleep(pause)).await;
        }
        Outcome::Interrupted
    }

    async fn attempt(&self, post: &Post<'_>) -> Result<Outcome, Failed> {
        let response = self.request(post).send().await.map_err(no_answer)?;
        let status = response.status();
        let asked = retry::asked(response.headers(), SystemTime::now());
        drain(response).await;
        match retry::verdict(status) {
            Verdict::Accepted => Ok(Outcome::Accepted),
            Verdict::Refused => Ok(Outcome::Refused(format!("HTTP {}", status.as_u16()))),
            Verdict::Again => Err(Failed { why: format!("answers HTTP {}", status.as_u16()), asked }),
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

/// Reads what is left of an answer. The status has settled it, so that failing is no matter.
async fn drain(mut response: Response) {
    let mut read = 0;
    while let Ok(Some(chunk)) = response.chunk().await {
        read += chunk.len();
        if read > LONGEST_ANSWER {
            return;
        }
    }
}

/// Not the error itself: it would print the URL, which may hold a secret.
fn no_answer(error: reqwest::Error) -> Failed {
    let what = if error.is_timeout() {
        "does not answer in time"
    } else if error.is_connect() {
        "cannot be reached"
    } else {
        "broke off"
    };
    Failed { why: what.to_owned(), asked: None }
}
