//! A gateway's answers, and whether a request is worth a retry.

use std::time::Duration;

use crewcast_events::EventId;
use crewcast_store::AppendError;
use reqwest::{Response, StatusCode, header::RETRY_AFTER};

/// Longest answer that is read. 128 ids take less than 6 KB.
const MAX_ANSWER: usize = 64 * 1024;
/// Longest `Retry-After` that is honoured, so that a mistaken one does not stop a producer.
const MAX_PAUSE: Duration = Duration::from_secs(60);

pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// The pause that the gateway asks for.
    pub(super) retry_after: Option<Duration>,
    body: Vec<u8>,
}

#[derive(serde::Deserialize)]
struct Ids {
    ids: Vec<Option<EventId>>,
}

/// A problem document (RFC 9457).
#[derive(serde::Deserialize)]
struct Problem {
    detail: String,
}

pub(super) async fn read(mut response: Response) -> Result<Answer, AppendError> {
    let status = response.status();
    let asks = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let retry_after = seconds.filter(|_| asks).map(|seconds| Duration::from_secs(seconds).min(MAX_PAUSE));
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(no_answer)? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(not_understood());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, retry_after, body })
}

impl Answer {
    /// The body of a success; otherwise the error, which says whether a retry may help.
    pub(super) fn accepted(&self) -> Result<&[u8], AppendError> {
        let status = self.status;
        if status.is_success() {
            return Ok(&self.body);
        }
        let detail = serde_json::from_slice::<Problem>(&self.body).map(|problem| problem.detail).unwrap_or_default();
        let why = format!("the gateway answers {} {detail}", status.as_u16()).trim_end().to_owned();
        let passes = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        Err(if status.is_client_error() && !passes { AppendError::Refused(why) } else { AppendError::Unavailable(why) })
    }

    pub(super) fn ids(&self) -> Result<Vec<Option<EventId>>, AppendError> {
        let Ids { ids } = serde_json::from_slice(self.accepted()?).map_err(|_| not_understood())?;
        Ok(ids)
    }
}

/// The request may have succeeded although its answer is not understood: worth a retry.
pub(super) fn not_understood() -> AppendError {
    AppendError::Unavailable("the gateway's answer is not understood".to_owned())
}

pub(super) fn no_answer(error: reqwest::Error) -> AppendError {
    let what = if error.is_timeout() {
        "did not answer in time"
    } else if error.is_connect() {
        "cannot be reached"
    } else {
        "broke off"
    };
    AppendError::Unavailable(format!("the gateway {what}"))
}
